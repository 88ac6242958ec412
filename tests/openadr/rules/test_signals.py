"""Rules on what an event's signals say: numbering, values, tests and current values."""

from datetime import timedelta

import pytest

from agent.core.event import Interval
from tests.clock import NOON
from tests.openadr import wire
from tests.openadr.rig import delivered
from tests.openadr.rules.asked import limits_w

pytestmark = pytest.mark.openadr2

M = timedelta(minutes=1)


def pieces_of(record):
    (signal,) = record.event.signals
    return [((i.start - NOON) / M, i.value) for i in signal.intervals]


@pytest.mark.parametrize(
    ("uids", "values"),
    [
        ((0, 1, 2), [1, 2, 0]),
        ((2, 0, 1), [2, 0, 1]),
        ((1, 2, 3), [1, 2, 0]),
        ((3, 1, 2), [2, 0, 1]),
        ((0, 0, 0), [1, 2, 0]),
        (("a", 1, 0), [1, 2, 0]),
    ],
)
async def test_rule_002_intervals_follow_one_another_in_the_order_of_their_uids(
    vtn, running_rig, uids, values
):
    """A VTN numbers a signal's intervals 0, 1, 2 and so on. Ours are put in that order, also where
    the counting begins at one; where the numbers are none, or the same, they stay as they stand.
    """
    sent = [
        wire.interval(value, "PT20M", uid=uid) for uid, value in zip(uids, (1, 2, 0), strict=True)
    ]
    await delivered(vtn, running_rig, wire.event(signals=[wire.signal("SIMPLE", "level", sent)]))
    assert pieces_of(running_rig.record()) == [(0, values[0]), (20, values[1]), (40, values[2])]


@pytest.mark.parametrize(
    ("said", "test"),
    [
        (None, False),
        ("", False),
        ("false", False),
        (" False ", False),
        ("true", True),
        ("0", True),
        ("no", True),
    ],
)
async def test_rule_006_any_word_but_false_makes_a_test_event_which_sheds_nothing(
    vtn, running_rig, said, test
):
    """A testEvent of anything but "false" marks a rehearsal: it is taken and answered like any other
    event, and the site sheds for it only where its program says so. An empty element says nothing.
    """
    sent = wire.event(test=said, signals=[wire.simple(2)])
    assert (await delivered(vtn, running_rig, sent))["ev-1"][:2] == (200, "optIn")
    assert running_rig.record().event.test is test
    assert limits_w(running_rig, NOON + M) == [None if test else 60_000]


async def test_rule_007_of_two_simple_signals_the_stricter_counts(vtn, running_rig):
    """A VTN puts one SIMPLE signal into an event. Of more than one, none is dropped: what is held is
    the lowest limit that any of them asks for.
    """
    sent = wire.event(signals=[wire.simple(1), wire.simple(2)])
    assert (await delivered(vtn, running_rig, sent))["ev-1"][:2] == (200, "optIn")
    assert limits_w(running_rig, NOON + M) == [60_000]


@pytest.mark.parametrize(
    ("lengths", "ends_min"),
    [(("PT1H",), (60,)), (("PT10M",), (60,)), (("PT3H",), (60,)), (("PT50M", "PT50M"), (50, 60))],
)
async def test_rule_008_the_events_own_duration_wins_over_the_sum_of_its_intervals(
    vtn, running_rig, lengths, ends_min
):
    """A VTN's interval durations add up to the event's. Where they do not, the event is kept for as
    long as it says itself: later intervals are cut off, and the last one holds until the end.
    """
    sent = [wire.interval(1, length, uid=uid) for uid, length in enumerate(lengths)]
    answers = await delivered(
        vtn, running_rig, wire.event(signals=[wire.signal("SIMPLE", "level", sent)])
    )
    assert answers["ev-1"][:2] == (200, "optIn")
    (signal,) = running_rig.record().event.signals
    assert tuple((i.end - NOON) / M for i in signal.intervals) == ends_min


async def test_rule_009_simple_has_four_levels_and_no_others(vtn, running_rig):
    """SIMPLE says 0, 1, 2 or 3. Anything else is invalid data, and that event is refused alone."""
    levels = (0, 1, 2, 3, 4, -1, 1.5, 9)
    events = [wire.event(f"level {level}", signals=[wire.simple(level)]) for level in levels]
    answers = await delivered(vtn, running_rig, *events)
    codes = {level: answers[f"level {level}"][0] for level in levels}
    assert codes == {0: 200, 1: 200, 2: 200, 3: 200, 4: 454, -1: 454, 1.5: 454, 9: 454}
    assert len(running_rig.book.records) == 4


@pytest.mark.parametrize("status", ["far", "near", "active"])
async def test_rule_014_a_current_value_changes_nothing(vtn, running_rig, status):
    """A VTN says 0 as the current value of what is not active. We go by the intervals and the clock
    alone, so that a wrong or late current value neither begins nor ends anything.
    """
    current = "<ei:currentValue><ei:payloadFloat><ei:value>3</ei:value></ei:payloadFloat></ei:currentValue>"
    sent = wire.signal("SIMPLE", "level", [wire.interval(1)], current)
    start = NOON + 60 * M
    await delivered(vtn, running_rig, wire.event(status=status, start=start, signals=[sent]))
    assert limits_w(running_rig, NOON, start - M, start) == [None, None, 72_000]


async def test_rule_032_each_interval_is_acted_on_with_its_own_duration_and_value(vtn, running_rig):
    """What is asked follows the intervals: each value for its own time, then the next."""
    sent = [
        wire.interval(1, "PT10M"),
        wire.interval(2, "PT20M", uid=1),
        wire.interval(0, "PT30M", uid=2),
    ]
    await delivered(vtn, running_rig, wire.event(signals=[wire.signal("SIMPLE", "level", sent)]))
    (signal,) = running_rig.record().event.signals
    assert signal.intervals == (
        Interval(NOON, NOON + 10 * M, 1),
        Interval(NOON + 10 * M, NOON + 30 * M, 2),
        Interval(NOON + 30 * M, NOON + 60 * M, 0),
    )
    times = [NOON + minutes * M for minutes in (0, 9.9, 10, 29.9, 30, 59.9)]
    assert limits_w(running_rig, *times) == [72_000, 72_000, 60_000, 60_000, 80_000, 80_000]
