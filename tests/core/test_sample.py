"""Report intervals from samples."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from agent.core.sample import Sample, points
from agent.core.site import MeterQuality
from tests.core.build import at, s


def test_whole_intervals_are_averaged_and_an_incomplete_one_waits():
    samples = [Sample(at(t), 100.0 + t, MeterQuality.GOOD) for t in range(25)]
    first, second = points(samples, at(0), at(25), s(10))
    assert (first.start, first.power_w, first.samples) == (at(0), 104.5, 10)
    assert (second.start, second.power_w) == (at(10), 114.5)
    assert first.energy_wh == 104.5 * 10 / 3600


def test_an_interval_without_usable_samples_is_bad_and_has_no_value():
    bad = [Sample(at(t), None, MeterQuality.BAD) for t in range(10)]
    (point,) = points(bad, at(0), at(10), s(10))
    assert (point.power_w, point.quality) == (None, MeterQuality.BAD)


def test_the_worst_usable_quality_and_any_override_show():
    mixed = [
        Sample(at(0), 1.0, MeterQuality.GOOD),
        Sample(at(1), 1.0, MeterQuality.ESTIMATED, override=True),
    ]
    (point,) = points(mixed, at(0), at(2), s(2))
    assert (point.quality, point.override) == (MeterQuality.ESTIMATED, True)


@given(st.lists(st.integers(0, 600), unique=True), st.integers(1, 90), st.integers(0, 100))
def test_every_sample_within_the_whole_intervals_counts_exactly_once(seconds, length, start):
    samples = [Sample(at(t), 1.0, MeterQuality.GOOD) for t in sorted(seconds)]
    cut = list(points(samples, at(start), at(600), s(length)))
    end = start + len(cut) * length
    assert sum(p.samples for p in cut) == sum(start <= t < end for t in seconds)
    assert all(a.start + a.duration == b.start for a, b in pairwise(cut))
