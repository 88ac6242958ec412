"""What the site is expected to draw, and what of it could be shed."""

from dataclasses import replace

import pytest

from agent.core.capacity import standing_obligations
from agent.core.event import SignalKind
from agent.core.outlook import Outlook, outlook_of
from agent.core.picture import Picture, Stop
from agent.core.site import MeterQuality
from agent.core.timeline import Timeline, standing_limit
from tests.core.build import (
    NOON,
    POLICY,
    PROGRAM,
    at,
    event,
    gpu,
    record,
    snapshot,
    workload,
)

DAY = 86_400.0


def picture(*records, **changes):
    """Four GPUs at 600 W, of which two may give, and 1 kW beside them."""
    seen = snapshot(
        [gpu(n) for n in range(4)],
        [workload("train", (0, 1), tier=3), workload("serve", (2, 3), tier=0)],
    )
    known = {one.key: one for one in records}
    timeline = Timeline(tuple(standing_obligations(records, (PROGRAM,), NOON)))
    return Picture(
        **{
            "at": NOON,
            "snapshot": seen,
            "programs": (PROGRAM,),
            "max_import_w": POLICY.max_import_w,
            "timeline": timeline,
            "expected_w": 3_400.0,
            "records": known,
            **changes,
        }
    )


def outlook(*records, until_s=3_600.0, **changes):
    return outlook_of(picture(*records, **changes), POLICY, at(until_s))


def test_what_could_be_shed_is_what_the_planner_gives_for_a_limit_of_nothing():
    found = outlook()
    assert found.expected_w == 3_400
    assert 2_200 < found.least_w < 3_000
    assert found.shed_w(at(0), at(60)) == found.expected_w - found.least_w


def test_a_site_that_is_not_metered_has_no_outlook():
    blind = picture()
    meter = replace(blind.snapshot.meter, power_w=None, quality=MeterQuality.BAD)
    unmetered = replace(blind, snapshot=replace(blind.snapshot, meter=meter))
    assert outlook_of(unmetered, POLICY, at(60)) is None
    assert outlook(expected_w=None) is None


def test_under_the_local_stop_nothing_is_there_to_be_shed():
    stopped = outlook(stop=Stop(NOON, "operator ann", "launch"))
    assert stopped.shed_w(at(0), at(60)) == 0
    assert stopped.mean_w(at(0), at(60)) == 3_400


@pytest.mark.parametrize(("limit_w", "expected_w"), [(9e9, 3_400), (2_900, 2_900), (0, 2_800)])
def test_a_limit_is_kept_as_far_as_there_is_to_shed(limit_w, expected_w):
    found = Outlook(NOON, 3_400.0, 2_800.0, Timeline((standing_limit("own", limit_w),)))
    assert found.mean_w(at(0), at(900)) == expected_w
    assert found.peak_w(at(0), at(900)) == expected_w


def test_a_standing_limit_of_the_day_after_tomorrow_counts():
    pieces = [(2 * DAY, 3_300.0), (DAY, 3_100.0)]
    limits = record(event(*pieces, kind=SignalKind.LIMIT), baseline_w=None)
    found = outlook(limits, until_s=3 * DAY)
    assert found.mean_w(at(2.5 * DAY), at(2.5 * DAY + 3_600)) < 3_200
    assert found.mean_w(at(0), at(3_600)) > 3_200


def test_no_more_is_left_with_all_shed_than_is_expected():
    found = outlook(expected_w=1_500.0)
    assert found.least_w == 1_500
    assert found.shed_w(at(0), at(60)) == 0
