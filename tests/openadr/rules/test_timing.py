"""Rules on when an event acts: times, drawn starts, ramps, open ends, overlaps and its end."""

from datetime import UTC, datetime, timedelta

import pytest

from agent.core.lifecycle import Phase
from agent.core.program import DropByShare, Program
from tests.clock import NOON
from tests.openadr import wire
from tests.openadr.rig import PROGRAM, Rig, delivered
from tests.openadr.rules.asked import agenda, begin, ceiling, limits_w

pytestmark = pytest.mark.openadr2

M, HOUR = timedelta(minutes=1), timedelta(hours=1)
EMERGENCY = "http://utility.example/emergency"
PROGRAMS = (
    PROGRAM,
    Program("emergency", EMERGENCY, levels={1: DropByShare(0.1), 2: DropByShare(0.4)}),
)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("2026-07-01T13:00:00Z", NOON + HOUR),
        ("2026-07-01T13:00:00.000Z", NOON + HOUR),
        ("2026-07-01T15:00:00+02:00", NOON + HOUR),
        ("2026-07-01T05:30:00-07:30", NOON + HOUR),
        ("2026-07-01T13:00:00", NOON + HOUR),
    ],
)
async def test_rule_001_times_are_utc(vtn, running_rig, said, meant):
    """Every time that we send is in UTC and says so. One that comes with an offset is the instant that
    it names, and one that comes without any is taken for UTC.
    """
    await delivered(vtn, running_rig, wire.event(start=said))
    assert running_rig.record().starts_at == meant
    stamps = [
        (element.text or "").strip()
        for message in vtn.received
        for element in message.tree.iter()
        if "date" in str(element.tag).rpartition("}")[2].lower()
    ]
    assert stamps
    for stamp in stamps:
        assert stamp.endswith("Z")
        assert datetime.fromisoformat(stamp).tzinfo == UTC


async def test_rule_018_overlapping_events_are_all_kept_to_and_the_more_urgent_is_named(
    vtn, tmp_path
):
    """Events of different market contexts may overlap, and the more urgent program comes first: 1 is
    the most urgent, 0 no priority at all, and of equals the one that began first.

    We keep to the lowest limit of all, so that no priority loosens what another program was promised;
    the priority decides who is named where two ask for the same. That a VEN may take part in several
    is said by the rule itself. It leaves overlaps within one context undefined: ours are kept alike.
    """
    async with Rig(tmp_path, vtn.url, programs=PROGRAMS) as rig:
        await delivered(
            vtn,
            rig,
            wire.event("market", priority=0, signals=[wire.simple(1)]),
            wire.event("same context", priority=4, start=NOON + 5 * M, signals=[wire.simple(1)]),
            wire.event(
                "urgent",
                priority=1,
                start=NOON + 10 * M,
                market=EMERGENCY,
                signals=[wire.simple(1)],
            ),
            wire.event(
                "strict",
                priority=9,
                start=NOON + 20 * M,
                market=EMERGENCY,
                signals=[wire.simple(2)],
            ),
        )
        named = [ceiling(rig, NOON + minutes * M) for minutes in (0, 5, 10, 20)]
        assert [c.source.name for c in named] == ["market", "same context", "urgent", "strict"]
        assert limits_w(rig, *(NOON + minutes * M for minutes in (0, 10, 20))) == [
            72_000,
            72_000,
            48_000,
        ]


async def test_rule_030_a_start_is_drawn_once_and_kept_over_modifications_and_restarts(
    vtn, running_rig
):
    """An event that may start late starts at a random time within startafter, and ends as much later.
    The draw stays as it is over modifications and our restarts, unless startafter itself changes.
    """
    start = NOON + HOUR
    await delivered(vtn, running_rig, wire.event(start=start, start_after="PT10M"))
    drawn = running_rig.record().start_shift
    assert timedelta(0) < drawn < 10 * M
    assert limits_w(running_rig, start + drawn - M / 60, start + drawn) == [None, 100]
    assert limits_w(running_rig, start + HOUR + drawn - M / 60)[0] is not None
    assert limits_w(running_rig, start + HOUR + drawn) == [None]
    await running_rig.restart()
    modified = wire.event(revision=1, start=start + HOUR, start_after="PT10M", duration="PT2H")
    await delivered(vtn, running_rig, modified)
    assert running_rig.record().start_shift == drawn
    assert running_rig.record().starts_at == start + HOUR + drawn
    await delivered(
        vtn, running_rig, wire.event(revision=2, start=start + HOUR, start_after="PT2M")
    )
    assert timedelta(0) <= running_rig.record().start_shift < 2 * M
    await delivered(vtn, running_rig, wire.event(revision=3, start=start + HOUR))
    assert running_rig.record().start_shift == timedelta(0)


@pytest.mark.parametrize(
    ("ramp_up", "recovery", "expected"),
    [
        (None, None, [None, None, 60_000, 60_000, 60_000, None, None]),
        ("PT10M", "PT10M", [None, 70_000, 60_000, 60_000, 60_000, 70_000, None]),
        ("-PT10M", "-PT10M", [None, None, 70_000, 60_000, 70_000, None, None]),
        ("PT0S", "PT0S", [None, None, 60_000, 60_000, 60_000, None, None]),
    ],
)
async def test_rule_031_start_duration_tolerance_ramp_and_recovery_are_acted_on(
    vtn, running_rig, ramp_up, recovery, expected
):
    """An event acts from dtstart, as late as its tolerance lets it, for its duration. A ramp-up lies
    before the start where it is positive and after it where it is negative; a recovery lies after
    the end where it is positive and before it where it is negative.
    """
    start = NOON + HOUR
    sent = wire.event(
        start=start,
        ramp_up=ramp_up,
        recovery=recovery,
        start_after="PT30M",
        signals=[wire.simple(2)],
    )
    await delivered(vtn, running_rig, sent)
    start = running_rig.record().starts_at
    assert NOON + HOUR < start < NOON + 1.5 * HOUR
    edges = (-11 * M, -5 * M, 5 * M, 30 * M, HOUR - 5 * M, HOUR + 5 * M, HOUR + 11 * M)
    assert limits_w(running_rig, *(start + edge for edge in edges)) == expected


@pytest.mark.parametrize("zero", ["PT0S", "P", "P0D"])
async def test_rule_047_a_duration_of_zero_lasts_until_it_is_cancelled(vtn, running_rig, zero):
    """An event of no duration has no end of its own: it acts on until it is cancelled."""
    sent = {"duration": zero, "signals": [wire.simple(2, zero)]}
    await delivered(vtn, running_rig, wire.event(**sent))
    assert running_rig.record().event.duration is None
    years = timedelta(days=3650)
    assert limits_w(running_rig, NOON, NOON + HOUR, NOON + years) == [60_000] * 3
    begin(running_rig)
    running_rig.clock.leap(86_400)
    await delivered(vtn, running_rig, wire.event(revision=1, status="cancelled", **sent))
    assert limits_w(running_rig, running_rig.clock.now() + M) == [None]


@pytest.mark.parametrize("status", ["none", "far", "near", "active", "completed"])
async def test_rule_066_completed_and_any_other_status_change_nothing_that_is_done(
    vtn, running_rig, status
):
    """With a start drawn late, an event runs on after its VTN thinks it complete. A status of completed,
    like any but cancelled, changes nothing: the clock says when an event is over.
    """
    await delivered(vtn, running_rig, wire.event(start_after="PT10M", signals=[wire.simple(2)]))
    before = running_rig.record()
    again = wire.event(status=status, start_after="PT10M", signals=[wire.simple(2)])
    assert (await delivered(vtn, running_rig, again))["ev-1"][:2] == (200, "optIn")
    assert running_rig.record() == before
    end = before.starts_at + HOUR
    assert limits_w(running_rig, before.starts_at, end - M, end) == [60_000, 60_000, None]
    assert agenda(running_rig, end + M).phases["ven", "ev-1"] is Phase.COMPLETED
