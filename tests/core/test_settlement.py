"""Delivered against committed."""

import pytest

from agent.core.sample import Sample
from agent.core.settlement import performance
from agent.core.site import MeterQuality
from agent.core.timeline import obligations_of
from tests.core.build import PROGRAM, at, event, record, s

RECORD = record(event((60, 2), ramp_down=s(20), ramp_up=s(20)), baseline_w=40_000.0)
OBLIGATION = obligations_of(RECORD, PROGRAM, 1e9, 0.0, 0.0)[0]


def measured(power_of):
    samples = [
        Sample(
            at(t), power_of(t), MeterQuality.GOOD if power_of(t) is not None else MeterQuality.BAD
        )
        for t in range(-30, 90)
    ]
    return performance(RECORD, PROGRAM, OBLIGATION, samples)


def test_only_the_holding_seconds_count():
    figures = measured(lambda t: 29_700.0 if 0 <= t < 60 else 40_000.0)
    assert figures is not None
    assert (figures.baseline_w, figures.committed_w, figures.delivered_w) == (
        40_000,
        10_000,
        10_300,
    )
    assert (figures.compliant_share, figures.worst_over_w) == (1.0, pytest.approx(-300.0))
    assert (figures.held, figures.samples) == (s(60), 60)
    assert figures.energy_shed_wh == pytest.approx(10_300 * 60 / 3600)


def test_seconds_above_the_limit_are_not_compliant():
    figures = measured(lambda t: 30_300.0 if 0 <= t < 6 else 29_700.0)
    assert figures is not None
    assert figures.compliant_share == pytest.approx(0.9)


def test_seconds_without_a_sample_are_not_compliant():
    figures = measured(lambda t: None if 10 <= t < 16 else 29_700.0)
    assert figures is not None
    assert figures.compliant_share == pytest.approx(0.9)


def test_nothing_is_said_before_it_holds_or_without_a_baseline():
    assert (
        performance(RECORD, PROGRAM, OBLIGATION, [Sample(at(-5), 1.0, MeterQuality.GOOD)]) is None
    )
    assert performance(record(baseline_w=None), PROGRAM, OBLIGATION, []) is None
