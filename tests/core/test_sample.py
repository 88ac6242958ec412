"""What samples come to over an interval."""

import pytest

from agent.core.sample import Part, Sums, point_of
from agent.core.site import MeterQuality
from tests.core.build import at, s


def test_power_is_the_mean_of_what_is_usable_and_energy_is_that_over_the_interval():
    point = point_of(Sums(usable=9, sum_w=9000.0, gpus_usable=10, gpus_sum_w=8000.0), at(0), s(10))
    assert (point.mean(Part.SITE).power_w, point.mean(Part.GPUS).power_w) == (1000.0, 800.0)
    assert point.energy_wh(Part.SITE) == 1000.0 * 10 / 3600
    assert point.mean(Part.SITE).quality is MeterQuality.GOOD


def test_an_interval_without_usable_samples_is_bad_and_has_no_value():
    point = point_of(Sums(gpus_usable=10, gpus_sum_w=10.0), at(0), s(10))
    assert (point.site.power_w, point.site.quality) == (None, MeterQuality.BAD)
    assert point.energy_wh(Part.SITE) is None
    assert point.gpus.quality is MeterQuality.GOOD


@pytest.mark.parametrize(
    ("usable", "estimated", "quality"),
    [
        (60, True, MeterQuality.ESTIMATED),
        (29, False, MeterQuality.ESTIMATED),  # most of it is missing
        (30, False, MeterQuality.GOOD),
    ],
)
def test_an_estimate_among_the_samples_or_too_few_of_them_make_the_point_one(
    usable, estimated, quality
):
    sums = Sums(usable=usable, sum_w=1.0, estimated=estimated, gpus_usable=usable)
    point = point_of(sums, at(0), s(60))
    assert point.site.quality is quality


def test_what_is_held_from_before_needs_no_samples_of_its_own():
    assert point_of(Sums(usable=1, sum_w=1.0), at(0), s(1.5), held=True).site.quality is (
        MeterQuality.GOOD
    )
