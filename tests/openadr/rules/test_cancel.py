"""Rules on cancellations: said, implied, repeated, unknown, and randomised."""

from datetime import timedelta

import pytest

from agent.core.event import Ending
from agent.core.intake import Verdict
from tests.clock import NOON
from tests.openadr import wire
from tests.openadr.rig import delivered
from tests.openadr.rules.asked import begin, limits_w

pytestmark = pytest.mark.openadr2

M, HOUR = timedelta(minutes=1), timedelta(hours=1)


@pytest.mark.parametrize("market", [wire.MARKET, "http://other.example"])
async def test_rule_036_a_cancellation_is_confirmed_once_each_time_it_is_sent(
    vtn, running_rig, market
):
    """optIn confirms a cancellation and optOut would say that it cannot be: ours always can, also of an
    event that we had left. Once confirmed, the event is not spoken of again, unless it is sent again.
    """
    await delivered(vtn, running_rig, wire.event(market=market))
    cancelled = wire.event(revision=1, status="cancelled", market=market)
    for _ in range(2):
        answers = await delivered(vtn, running_rig, cancelled)
        assert answers["ev-1"][:2] == (200, "optIn")
        said = vtn.count("oadrCreatedEvent")
        await running_rig.turn()
        assert vtn.count("oadrCreatedEvent") == said
    quiet = wire.event(revision=1, status="cancelled", market=market, response="never")
    assert await delivered(vtn, running_rig, quiet) == {}


@pytest.mark.parametrize("status", ["far", "near", "active"])
async def test_rule_050_a_list_is_the_whole_of_what_is_on(vtn, running_rig, status):
    """Each list holds all events that are far, near or active, and cancelled ones when they become so.
    What it names stays as it is whatever its status; a cancelled one may stand in it or not.
    """
    await delivered(vtn, running_rig, wire.event("a"), wire.event("b", status="none"))
    await delivered(
        vtn, running_rig, wire.event("a", status=status), wire.event("b", 1, "cancelled")
    )
    assert running_rig.record("a").ended_by is None
    assert running_rig.record("b").ended_by is Ending.CANCELLED
    before = dict(running_rig.book.records)
    await delivered(vtn, running_rig, wire.event("a", status=status))
    assert dict(running_rig.book.records) == before


async def test_rule_052_a_cancellation_that_goes_on_being_sent_is_confirmed_and_revives_nothing(
    vtn, running_rig
):
    """A VTN sends a cancelled event until it has our confirmation. Each one is answered alike, what
    stands beside it is not touched, and when we ended stays when we ended.
    """
    await delivered(vtn, running_rig, wire.event(), wire.event("other"))
    begin(running_rig)
    running_rig.clock.leap(60)
    cancelled = wire.event(revision=1, status="cancelled")
    ended = set()
    for _ in range(3):
        answers = await delivered(vtn, running_rig, cancelled, wire.event("other"))
        assert {key: a[:2] for key, a in answers.items()} == {
            "ev-1": (200, "optIn"),
            "other": (200, "optIn"),
        }
        ended.add(running_rig.record().ended_at)
    assert len(ended) == 1
    assert running_rig.record("other").ended_by is None
    cancels = [i for i in running_rig.intakes if i.verdict is Verdict.CANCELLED]
    assert len(cancels) == 1


async def test_rule_059_a_cancellation_ends_the_event_that_is_known(vtn, running_rig):
    """A cancelled event asks for nothing more. It stays in the book for the way back up, and for the
    record; a later modification may call it anew.
    """
    await delivered(vtn, running_rig, wire.event(signals=[wire.simple(2)], recovery="PT10M"))
    begin(running_rig)
    running_rig.clock.leap(1200)
    now = running_rig.clock.now()
    assert limits_w(running_rig, now) == [60_000]
    await delivered(vtn, running_rig, wire.event(revision=1, status="cancelled"))
    assert running_rig.record().ended_by is Ending.CANCELLED
    now = running_rig.clock.now()
    assert limits_w(running_rig, now, now + 5 * M, now + 10 * M) == [60_000, 70_000, None]
    await delivered(vtn, running_rig, wire.event(revision=2, signals=[wire.simple(1)]))
    assert running_rig.record().ended_by is None


async def test_rule_060_a_cancellation_of_an_unknown_event_is_confirmed_and_forgotten(
    vtn, running_rig
):
    """What was over before we heard of it is answered where an answer is wanted, and not kept."""
    answers = await delivered(
        vtn,
        running_rig,
        wire.event("never seen", status="cancelled"),
        wire.event("quiet", status="cancelled", response="never"),
    )
    assert answers == {"never seen": (200, "optIn", "dist-1")}
    assert not running_rig.book.records
    assert not running_rig.intakes


async def test_rule_061_an_event_that_is_not_listed_any_more_is_cancelled(vtn, running_rig):
    """A list is the whole of what is on: an event that we know and that it does not name is cancelled
    by that. One that is named but cannot be used is named all the same.
    """
    await delivered(vtn, running_rig, wire.event("stays"), wire.event("goes"), wire.event("odd"))
    broken = wire.event("odd", 1, signals=[wire.signal(intervals=[wire.interval("NaN")])])
    answers = await delivered(vtn, running_rig, wire.event("stays"), broken)
    assert set(answers) == {"stays", "odd"}
    assert running_rig.record("goes").ended_by is Ending.CANCELLED
    assert running_rig.record("stays").ended_by is None
    assert running_rig.record("odd").ended_by is None
    assert running_rig.intakes[-1].verdict is Verdict.CANCELLED
    await delivered(vtn, running_rig)  # an empty list
    assert running_rig.record("stays").ended_by is Ending.CANCELLED


@pytest.mark.parametrize("implied", [False, True])
async def test_rule_065_the_end_of_a_cancelled_event_is_randomised_as_its_start_was(
    vtn, running_rig, implied
):
    """An event with a window for its start ends, once cancelled, said or implied, after a random time
    within that window, so that many sites do not come back at once. Before it has begun there is
    nothing to come back from: it ends at once.
    """
    sent = {"start_after": "PT10M", "signals": [wire.simple(2)]}
    later = wire.event("later", start=NOON + 5 * HOUR, start_after="PT10M")
    await delivered(vtn, running_rig, wire.event(**sent), later)
    running_rig.clock.leap(1800)
    begin(running_rig)
    if implied:
        await delivered(vtn, running_rig)
    else:
        await delivered(
            vtn,
            running_rig,
            wire.event(revision=1, status="cancelled", **sent),
            wire.event("later", 1, "cancelled", start=NOON + 5 * HOUR, start_after="PT10M"),
        )
    now, delay = running_rig.clock.now(), running_rig.record().end_shift
    assert timedelta(0) < delay < 10 * M
    assert limits_w(running_rig, now, now + delay - M / 60, now + delay) == [60_000, 60_000, None]
    assert running_rig.record("later").ended_at == now
