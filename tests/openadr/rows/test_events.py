"""V10 to V19 and V29: what becomes of the events of openleadr's own server, good and bad."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from agent.core.event import Ending, Opt
from agent.core.intake import Verdict
from tests.openadr import wire
from tests.openadr.rig import Rig
from tests.openadr.rules.asked import limits_w
from tests.openadr.vtn import OpenLeadrVtn, running

pytestmark = pytest.mark.openadr2

HOUR, M = timedelta(hours=1), timedelta(minutes=1)


class EditedVtn(OpenLeadrVtn):
    """openleadr's server, with its events in the test's hands and its words edited on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.edits: dict[str, str] = {}
        """By what the server says: what is heard instead."""

    @web.middleware
    async def _record(self, request, handler):
        response = await super()._record(request, handler)
        for said, heard in self.edits.items():
            response.text = response.text.replace(said, heard)
        return response

    def event(self, event_id: str) -> Any:
        events = self.server.events["ven-1"]
        return next(e for e in events if e.event_descriptor.event_id == event_id)

    def send(self, *events: Any) -> None:
        """Deliver the list at the next poll, with these instead of the server's own if there are any."""
        if events:
            self.server.events["ven-1"][:] = events
        self.server.events_updated["ven-1"] = True

    def answers(self) -> dict[str, tuple[int, str]]:
        """By event: the code and opt of the VEN's last oadrCreatedEvent."""
        last = self.of("oadrCreatedEvent")[-1].event_answers
        return {event_id: answer[:2] for event_id, answer in last.items()}


@pytest.fixture
def now() -> datetime:
    """openleadr's server reads the real clock."""
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
async def vtn():
    async with running(EditedVtn()) as server:
        yield server


@pytest.fixture
async def rig(vtn, tmp_path, now):
    async with Rig(tmp_path, vtn.url, at=now, market_contexts=(wire.MARKET,)) as rig:
        await rig.rested()
        yield rig


def power_w(rig: Rig, event_id: str) -> float:
    return rig.record(event_id).event.signals[0].intervals[0].value


async def test_v10_a_bad_event_does_not_cost_its_neighbour(vtn, rig, now):
    """openleadr's client opts out of every event of a message in which one fails."""
    vtn.add_event("good", now + HOUR, 3600.0, 1000.0)
    vtn.add_event("bad", now + HOUR, 3600.0, float("nan"))
    for _ in range(2):
        vtn.send()
        await rig.turn()
        assert vtn.answers() == {"good": (200, "optIn"), "bad": (454, "optOut")}
    assert set(rig.book.records) == {("ven", "good")}
    assert set(vtn.opts) == {("good", "optIn"), ("bad", "optOut")}


async def test_v11_a_cancellation_that_is_sent_again_is_confirmed_again(vtn, rig, now):
    """openleadr's client then opts out of all events of the message, the good ones too."""
    vtn.add_event("gone", now, 3600.0, 1000.0)
    vtn.add_event("good", now, 3600.0, 1000.0)
    await rig.turn()
    gone, good = vtn.event("gone"), vtn.event("good")
    vtn.server.cancel_event("ven-1", "gone")
    for _ in range(3):
        vtn.send(gone, good)
        await rig.turn()
        assert vtn.answers() == {"gone": (200, "optIn"), "good": (200, "optIn")}
    assert rig.record("gone").ended_by is Ending.CANCELLED
    assert (rig.record("good").ended_by, rig.record("good").opt.opt) == (None, Opt.IN)


async def test_v12_a_lower_modification_number_is_refused(vtn, rig, now):
    """openleadr's client takes it for an update, and holds the older content from then on."""
    vtn.add_event("ev-1", now + HOUR, 3600.0, 1000.0)
    await rig.turn()
    event = vtn.event("ev-1")
    for number, value in ((5, 2000.0), (3, 3000.0)):
        event.event_descriptor.modification_number = number
        event.event_signals[0].intervals[0]["signal_payload"] = value
        vtn.send()
        await rig.turn()
    assert vtn.answers() == {"ev-1": (450, "optIn")}
    assert (rig.record().event.revision, power_w(rig, "ev-1")) == (5, 2000.0)


async def test_v13_an_unknown_event_that_is_cancelled_already_is_confirmed_and_not_taken(
    vtn, rig, now
):
    """openleadr's client hands it to the application as a new event."""
    vtn.add_event("never seen", now, 3600.0, 1000.0)
    vtn.server.cancel_event("ven-1", "never seen")
    await rig.turn()
    assert vtn.answers() == {"never seen": (200, "optIn")}
    assert not rig.book.records
    assert not rig.intakes


async def test_v14_events_for_others_and_of_other_markets_are_refused(vtn, rig, now):
    """openleadr's client takes and opts into both."""
    vtn.add_event("theirs", now, 3600.0, 1000.0, target={"ven_id": "ven-2"})
    vtn.add_event("other market", now, 3600.0, 1000.0, market_context="http://other.example")
    vtn.add_event("ours", now, 3600.0, 1000.0)
    await rig.turn()
    assert vtn.answers() == {
        "theirs": (462, "optOut"),
        "other market": (453, "optOut"),
        "ours": (200, "optIn"),
    }
    assert set(rig.book.records) == {("ven", "ours")}


async def test_v15_an_event_that_the_list_no_longer_has_is_cancelled(vtn, rig, now):
    """openleadr's client goes on with it to its end."""
    vtn.add_event("goes", now, 3600.0, 1000.0)
    vtn.add_event("stays", now, 3600.0, 1000.0)
    await rig.turn()
    vtn.send(vtn.event("stays"))
    await rig.turn()
    assert rig.record("goes").ended_by is Ending.CANCELLED
    assert rig.record("stays").ended_by is None
    assert rig.intakes[-1].verdict is Verdict.CANCELLED


async def test_v16_startafter_ramps_and_notification_are_acted_on(vtn, rig, now):
    """openleadr's client hands them on, and leaves the application to do something about them."""
    start = now + HOUR
    vtn.add_event("ev-1", start, 3600.0, 1, signal_name="SIMPLE", signal_type="level")
    period = vtn.event("ev-1").active_period
    period["tolerance"] = {"startafter": 5 * M}
    period["ramp_up_period"] = 2 * M
    period["recovery_period"] = 4 * M
    period["notification_period"] = 10 * M
    await rig.turn()
    event, drawn = rig.record().event, rig.record().start_shift
    assert (event.start_window, event.notification) == (5 * M, 10 * M)
    assert timedelta(0) < drawn < 5 * M
    begins, ends = start + drawn, start + drawn + HOUR
    times = (begins - 3 * M, begins - M, begins, ends - M, ends + 2 * M, ends + 4 * M)
    assert limits_w(rig, *times) == [None, 76_000, 72_000, 72_000, 76_000, None]


async def test_v17_a_vtn_id_in_lower_case_is_as_good_as_any(vtn, rig, now):
    """openleadr's client calls it an invalid ID, though its own documentation has one."""
    vtn.add_event("ev-1", now, 3600.0, 1000.0)
    await rig.turn()
    assert rig.registration.vtn_id == "myvtn"
    created = vtn.of("oadrCreatedEvent")[-1]
    assert created.text("eiCreatedEvent", "eiResponse", "responseCode") == "200"
    assert vtn.answers() == {"ev-1": (200, "optIn")}


@pytest.mark.parametrize("event_id", ["00123", "1.5", "true", "1.2.3", "1e3", " "])
async def test_v18_an_event_id_is_a_string_whatever_it_looks_like(vtn, rig, now, event_id):
    """openleadr's client answers under 123, 1.5 and True, and loses the whole message over 1.2.3.

    So does its server, where it reads our answer: what we say is judged by what was sent.
    """
    vtn.add_event("good", now, 3600.0, 1000.0)
    vtn.add_event("odd", now, 3600.0, 1000.0)
    vtn.edits = {"<ei:eventID>odd<": f"<ei:eventID>{event_id}<"}
    await rig.turn()
    first = vtn.of("oadrCreatedEvent")[0].event_answers
    if event_id.strip():
        assert set(first) == {"good", event_id}
        assert set(rig.book.records) == {("ven", "good"), ("ven", event_id)}
    else:
        assert set(first) == {"good"}


@pytest.mark.parametrize(
    ("suffix", "offset"), [("Z", 0), ("+01:00", 1), ("-09:30", -9.5), ("", 0), (".500Z", 0)]
)
async def test_v19_a_start_with_any_offset_or_none_is_an_instant(vtn, rig, now, suffix, offset):
    """openleadr's client hands on a string with an offset, and one without a zone as it is."""
    start = (now + timedelta(days=1)).replace(tzinfo=None)
    vtn.add_event("ev-1", start.replace(tzinfo=UTC), 3600.0, 1000.0)
    vtn.edits = {f">{start:%Y-%m-%dT%H:%M:%S}.000000Z<": f">{start:%Y-%m-%dT%H:%M:%S}{suffix}<"}
    await rig.turn()
    assert vtn.answers() == {"ev-1": (200, "optIn")}
    fraction = timedelta(seconds=0.5 if suffix.startswith(".") else 0)
    meant = start.replace(tzinfo=UTC) - timedelta(hours=offset) + fraction
    assert rig.record().event.starts_at == meant


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("P1W", timedelta(weeks=1)),
        ("PT1.5S", timedelta(seconds=1.5)),
        ("P1DT12H", timedelta(hours=36)),
        ("P", None),
        ("PT0S", None),
    ],
)
async def test_v19_a_duration_is_read_whole(vtn, rig, now, said, meant):
    """openleadr's client takes a week and a fraction of a second for no time at all."""
    vtn.add_event("ev-1", now + HOUR, 3600.0, 1000.0)
    vtn.edits = {">PT1H<": f">{said}<"}
    await rig.turn()
    assert vtn.answers() == {"ev-1": (200, "optIn")}
    assert rig.record().event.duration == meant


async def test_v29_a_signal_that_is_not_known_is_answered_so_and_shown(vtn, rig, now):
    """openleadr's client hands it to the application, and tells the VTN that it is not supported."""
    vtn.add_event("ev-1", now, 3600.0, 7.0, signal_name="x-coffee", signal_type="level")
    for _ in range(2):
        vtn.send()
        await rig.turn()
        assert vtn.answers() == {"ev-1": (460, "optOut")}
    (signal,) = rig.record().event.signals
    assert (signal.name, [i.value for i in signal.intervals]) == ("x-coffee level", [7.0])
    assert "none of its signals is known here" in rig.record().opt.why
    assert limits_w(rig, now + M) == [None]
    assert rig.ven.link().rejected == 0
