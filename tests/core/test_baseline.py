"""The meter-before baseline."""

from dataclasses import replace

import pytest

from agent.core.baseline import highest_mean, meter_before
from agent.core.sample import Sample
from agent.core.site import MeterQuality
from tests.core.build import at, s


def samples(start, values, quality=MeterQuality.GOOD):
    return [Sample(at(start + i), value, quality) for i, value in enumerate(values)]


def test_it_is_the_mean_of_the_window_that_ends_where_the_event_begins():
    before = samples(-120, [50.0] * 60 + [40.0] * 60) + samples(0, [10.0] * 60)
    baseline = meter_before(before, at(0), s(60), 99.0, at(0))
    assert baseline is not None
    assert (baseline.power_w, baseline.estimated) == (40.0, False)
    assert baseline.method == "mean of the 60 s before"


def test_the_peak_is_the_highest_ten_second_mean():
    before = samples(-60, [40.0] * 30 + [50.0] * 10 + [40.0] * 20)
    baseline = meter_before(before, at(0), s(60), None, at(0))
    assert baseline is not None
    assert baseline.peak_w == pytest.approx(50.0)


@pytest.mark.parametrize("before", [[], samples(-3, [40.0] * 3)])
def test_with_too_little_history_the_expected_draw_stands_in_and_says_so(before):
    baseline = meter_before(before, at(0), s(60), 99.0, at(0))
    assert baseline is not None
    assert (baseline.power_w, baseline.estimated) == (99.0, True)
    assert meter_before(before, at(0), s(60), None, at(0)) is None


def test_bad_samples_do_not_count():
    before = samples(-60, [40.0] * 30) + samples(-30, [0.0] * 30, MeterQuality.BAD)
    baseline = meter_before(before, at(0), s(60), None, at(0))
    assert baseline is not None
    assert baseline.power_w == 40.0


def test_the_highest_mean_of_a_short_series_is_its_mean():
    assert highest_mean([(at(0), 10.0), (at(1), 20.0)], s(10)) == 15.0


def test_samples_taken_while_we_restrained_the_site_do_not_count():
    free = samples(-60, [50.0] * 30)
    held = [replace(sample, restrained=True) for sample in samples(-30, [40.0] * 30)]
    baseline = meter_before(free + held, at(0), s(60), None, at(0))
    assert baseline is not None
    assert baseline.power_w == 50.0
    assert meter_before(held, at(0), s(60), 55.0, at(0)).power_w == 55.0
