"""Delivered against committed."""

from bisect import bisect_left
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.sample import Sample
from agent.core.settlement import figures_of, fold, tally_of
from agent.core.site import MeterQuality
from agent.core.timeline import obligations_of, window_of
from tests.core.build import PROGRAM, at, event, record, s

RECORD = record(event((60, 2), ramp_down=s(20), ramp_up=s(20)), baseline_w=40_000.0)
OBLIGATION = obligations_of(RECORD, PROGRAM, 1e9, 0.0, 0.0)[0]


def settled(samples, of=RECORD):
    return figures_of(fold(tally_of(of, PROGRAM, OBLIGATION), samples))


def measured(power_of):
    samples = [
        Sample(
            at(t), power_of(t), MeterQuality.GOOD if power_of(t) is not None else MeterQuality.BAD
        )
        for t in range(-30, 90)
    ]
    return settled(samples)


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
    assert settled([Sample(at(-5), 1.0, MeterQuality.GOOD)]) is None
    assert settled([], record(baseline_w=None)) is None


SAMPLES = st.lists(
    st.tuples(
        st.sampled_from([0.5, *[1.0] * 9, 3.0, 9.5, 10.0]),
        st.sampled_from([None, *map(float, range(20_000, 45_000, 1_000))]),
        st.sampled_from([MeterQuality.BAD, MeterQuality.ESTIMATED, *[MeterQuality.GOOD] * 6]),
    ),
    min_size=20,
    max_size=120,
)
OPEN_ENDED = record(event((0, 2)), baseline_w=40_000.0)
STAIRS = record(event((20, 2), (15, 1), (25, 0), ramp_down=s(10)), baseline_w=40_000.0)


@given(
    st.sampled_from([RECORD, OPEN_ENDED, STAIRS]),
    SAMPLES,
    st.lists(st.integers(0, 15), min_size=1, max_size=4),
)
def test_folding_in_any_pieces_is_the_same_as_summing_everything(one, steps, lengths):
    samples, t = [], -5.0
    for step, power_w, quality in steps:
        t += step
        samples.append(Sample(at(t), power_w, quality))
    (obligation, *_) = obligations_of(one, PROGRAM, 1e9, 0.0, 0.0)
    tally = tally_of(one, PROGRAM, obligation)
    left, length = samples, cycle([*lengths, 1])
    while left:
        size = next(length)
        tally, left = fold(tally, left[:size]), left[size:]
    assert len(tally.over_w) <= 22, "what is carried on does not grow"
    figures, expected = figures_of(tally), summed(one, obligation, samples)
    if expected is None:
        assert figures is None
    else:
        assert figures is not None
        assert {name: getattr(figures, name) for name in expected} == pytest.approx(expected)


def summed(one, obligation, samples):
    """The figures as they are defined, from all samples at once."""
    window = window_of(one, PROGRAM)
    until = at(1e6) if window.hold_until is None else window.hold_until
    held = [
        (x, obligation.limit_at(x.at))
        for x in samples
        if window.hold_from <= x.at < until and obligation.limit_at(x.at) is not None
    ]
    used = [
        (x.at, x.power_w, limit_w)
        for x, limit_w in held
        if x.power_w is not None and x.quality is not MeterQuality.BAD
    ]
    if not used:
        return None
    seconds = max(len(held), round((held[-1][0].at - window.hold_from).total_seconds()))
    over_w = [power_w - limit_w for _, power_w, limit_w in used]
    times = [when for when, _, _ in used]
    peaks = []
    for last, when in enumerate(times):
        if when >= times[0] + s(10) or when == times[-1]:
            first = bisect_left(times, when - s(10))
            first += times[first] == when - s(10)
            peaks.append(sum(over_w[first : last + 1]) / (last + 1 - first))
    delivered_w = 40_000.0 - sum(power_w for _, power_w, _ in used) / len(used)
    return {
        "committed_w": 40_000.0 - sum(limit_w for _, _, limit_w in used) / len(used),
        "delivered_w": delivered_w,
        "compliant_share": sum(power_w <= limit_w for _, power_w, limit_w in used) / seconds,
        "worst_over_w": max(peaks),
        "energy_shed_wh": delivered_w * seconds / 3600,
        "samples": len(used),
    }
