"""Rules on new events and changed ones: modification numbers."""

from datetime import timedelta

import pytest

from agent.core.event import Opt
from agent.core.intake import Verdict
from tests.clock import NOON
from tests.openadr import wire
from tests.openadr.rig import delivered

pytestmark = pytest.mark.openadr2

HOUR = timedelta(hours=1)


def level_of(rig) -> float:
    return rig.record().event.signals[0].intervals[0].value


@pytest.mark.parametrize("number", [0, 1, 7, 4_294_967_295])
async def test_rule_004_an_event_may_come_with_any_modification_number_first(
    vtn, running_rig, number
):
    """A VTN counts a new event's modifications from 0. We may meet one later in its life, or lose our
    book: whatever the number, it is taken, and answered under that number.
    """
    await delivered(vtn, running_rig, wire.event(revision=number))
    assert running_rig.record().event.revision == number
    said = vtn.of("oadrCreatedEvent")[-1].text(
        "eiCreatedEvent",
        "eventResponses",
        "eventResponse",
        "qualifiedEventID",
        "modificationNumber",
    )
    assert said == str(number)


async def test_rule_005_the_same_number_with_another_content_is_refused(vtn, running_rig):
    """A VTN counts up with every change, but for the creation time, the status and the current value.
    One that changes what it asks under the number that we hold gets an error (450), and what we hold
    stays: nobody could tell which of two contents an answer to that number is about.
    """
    held = wire.event(revision=2, signals=[wire.simple(1)])
    await delivered(vtn, running_rig, held)
    for changed in (
        wire.event(revision=2, signals=[wire.simple(2)]),
        wire.event(revision=2, signals=[wire.simple(1)], start=NOON + HOUR),
        wire.event(revision=2, signals=[wire.simple(1)], duration="PT2H"),
    ):
        assert (await delivered(vtn, running_rig, changed))["ev-1"][:2] == (450, "optIn")
        assert level_of(running_rig) == 1
        assert running_rig.record().event.starts_at == NOON
    retold = wire.event(
        revision=2, signals=[wire.simple(1)], status="active", created="2026-07-01T11:59:00Z"
    )
    assert (await delivered(vtn, running_rig, retold))["ev-1"][:2] == (200, "optIn")
    assert len(running_rig.intakes) == 1
    assert "came with another content before" in "".join(
        text for text in running_rig.ven._link._said
    )


async def test_rule_056_an_unknown_event_is_taken_into_those_known(vtn, running_rig):
    """What we have not heard of is judged, kept durably and announced, whatever else is known."""
    await delivered(vtn, running_rig, wire.event("old"))
    answers = await delivered(vtn, running_rig, wire.event("old"), wire.event("00123"))
    assert answers["00123"] == (200, "optIn", "dist-1")
    assert [i.verdict for i in running_rig.intakes] == [Verdict.NEW] * 2
    await running_rig.restart()
    assert running_rig.record("00123").opt.opt is Opt.IN


@pytest.mark.parametrize("number", [1, 2, 9])
async def test_rule_057_a_higher_number_replaces_what_is_known(vtn, running_rig, number):
    """A modification takes the place of the event as it was, also when numbers were skipped."""
    await delivered(vtn, running_rig, wire.event(signals=[wire.simple(1)]))
    changed = wire.event(revision=number, start=NOON + HOUR, signals=[wire.simple(2)])
    assert (await delivered(vtn, running_rig, changed))["ev-1"][:2] == (200, "optIn")
    record = running_rig.record()
    assert (record.event.revision, record.starts_at, level_of(running_rig)) == (
        number,
        NOON + HOUR,
        2,
    )
    assert [i.verdict for i in running_rig.intakes] == [Verdict.NEW, Verdict.MODIFIED]


@pytest.mark.parametrize("status", ["far", "active", "cancelled"])
async def test_rule_058_a_lower_number_is_an_error_and_changes_nothing(vtn, running_rig, status):
    """A number below the one known is out of sequence (450), also on a cancellation, and also once
    the event is cancelled: what is known stays as it is.
    """
    await delivered(vtn, running_rig, wire.event(revision=5, signals=[wire.simple(2)]))
    old = wire.event(revision=3, status=status, signals=[wire.simple(0)])
    assert (await delivered(vtn, running_rig, old))["ev-1"][:2] == (450, "optIn")
    assert (running_rig.record().event.revision, level_of(running_rig)) == (5, 2)
    assert running_rig.record().ended_by is None
    assert len(running_rig.intakes) == 1
    await delivered(vtn, running_rig, wire.event(revision=6, status="cancelled"))
    cancelled = running_rig.record()
    assert (await delivered(vtn, running_rig, old))["ev-1"][0] == 450
    assert running_rig.record() == cancelled
