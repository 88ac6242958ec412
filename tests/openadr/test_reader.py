"""From bytes to values: every fault stays with the event it is in."""

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.core.event import Event
from agent.errors import WireError
from agent.openadr.v20.messages import (
    CanceledOpt,
    CanceledPartyRegistration,
    CancelPartyRegistration,
    CancelReport,
    Code,
    CreatedOpt,
    CreatedPartyRegistration,
    CreateReport,
    DistributeEvent,
    RegisteredReport,
    RejectedEvent,
    RejectedRequest,
    RequestReregistration,
    Unexpected,
    UpdatedReport,
    WireEvent,
)
from agent.openadr.v20.translate import translate
from agent.openadr.v20b.reader import read
from tests.clock import NOON
from tests.openadr import wire

pytestmark = pytest.mark.openadr2

LIMIT = 2_000_000


def events_of(*events: str):
    message = read(wire.distribute_event(*events), LIMIT)
    assert isinstance(message, DistributeEvent)
    return message.events


@pytest.mark.parametrize(
    "event_id", ["00123", "1.5", "1.2.3", "true", " spaced ", "ünï", "a&amp;b"]
)
def test_ids_are_strings_exactly_as_sent(event_id):
    """V18: ids that look like numbers."""
    (event,) = events_of(wire.event(event_id))
    assert isinstance(event, WireEvent)
    assert event.event_id == event_id.replace("&amp;", "&")


@pytest.mark.parametrize(("said", "taken"), [("4294967295", True), ("4294967296", False)])
def test_a_modification_number_that_no_answer_could_repeat_is_refused(said, taken):
    """The schema has unsignedInt: one larger number would make the answers on all events invalid."""
    (event,) = events_of(wire.event(revision=said))
    assert isinstance(event, WireEvent) is taken
    if isinstance(event, RejectedEvent):
        assert (event.code, event.revision) == (Code.INVALID_DATA, None)


def test_an_event_is_read_with_everything_it_says():
    """V16: startafter, notification, ramp and recovery."""
    (event,) = events_of(
        wire.event(
            revision=3,
            priority=2,
            comment="hot day",
            start_after="PT5M",
            notification="PT1H",
            ramp_up="PT2M",
            recovery="-PT3M",
            target="<ei:groupID>g</ei:groupID><ei:resourceID>site</ei:resourceID><ei:venID>v</ei:venID>",
            response="never",
            signals=[wire.signal(item=wire.power_real("k"))],
        )
    )
    assert isinstance(event, WireEvent)
    assert (event.revision, event.priority, event.comment) == (3, 2, "hot day")
    assert event.start_after == timedelta(minutes=5)
    assert event.notification == timedelta(hours=1)
    assert (event.ramp_up, event.recovery) == (timedelta(minutes=2), -timedelta(minutes=3))
    assert event.targets.ven_ids == ("v",)
    assert event.targets.resource_ids == ("site",)
    assert event.targets.group_ids == ("g",)
    assert not event.targets.others
    assert not event.response_required
    assert (event.signals[0].item, event.signals[0].unit, event.signals[0].scale) == (
        "powerReal",
        "W",
        "k",
    )


@pytest.mark.parametrize(
    ("faulty", "why"),
    [
        (wire.event("bad", revision="-1"), "modificationNumber is '-1'"),
        (wire.event("bad", revision="1e3"), "modificationNumber is '1e3'"),
        (wire.event("bad", priority="high"), "priority is 'high'"),
        (wire.event("bad", status="maybe"), "eventStatus is 'maybe'"),
        (wire.event("bad", start="tomorrow"), "dtstart 'tomorrow' is not"),
        (wire.event("bad", start="2026-02-30T00:00:00Z"), "calendar"),
        (wire.event("bad", duration="1 hour"), "duration '1 hour' is not"),
        (wire.event("bad", duration=None), "no duration"),
        (wire.event("bad", start_after="soon"), "'soon' is not"),
        (wire.event("bad", created="then"), "createdDateTime 'then'"),
        (wire.event("bad", signals=[wire.signal(intervals=[wire.interval("NaN")])]), "'NaN'"),
        (wire.event("bad", signals=[wire.signal(intervals=[wire.interval("INF")])]), "'INF'"),
        (wire.event("bad", signals=[wire.signal(intervals=[wire.interval("1e999")])]), "'1e999'"),
        (wire.event("bad", signals=[wire.signal(intervals=[wire.interval("1_0")])]), "'1_0'"),
        (wire.event("bad", signals=[wire.signal(intervals=[wire.interval("")])]), "no value"),
        (
            wire.event("bad", signals=[wire.signal(intervals=[wire.interval(payload_xml="")])]),
            "interval 1 of signal 'LOAD_DISPATCH' 'setpoint': it has no value",
        ),
        (wire.event("bad", signals=[wire.simple(1)] * 1501), "more than 1500 intervals"),
        (wire.event("bad").replace("eiActivePeriod", "eiPassivePeriod"), "no duration"),
    ],
)
def test_a_faulty_event_is_refused_alone_with_what_and_where(faulty, why):
    before, bad, after = events_of(wire.event("ev-1"), faulty, wire.event("ev-2"))
    assert isinstance(before, WireEvent)
    assert isinstance(after, WireEvent)
    assert isinstance(bad, RejectedEvent)
    assert (bad.event_id, bad.code) == ("bad", Code.INVALID_DATA)
    assert bad.why.startswith("event 'bad': ")
    assert why in bad.why
    assert bad.response_required


@pytest.mark.parametrize(
    "nameless",
    [
        wire.event(""),
        wire.event("  "),
        wire.event().replace("eventID", "id"),
        "<oadr:oadrEvent/>",
        "<oadr:oadrEvent><ei:eiEvent><ei:eventDescriptor/></ei:eiEvent></oadr:oadrEvent>",
    ],
)
def test_an_event_without_an_id_is_refused_without_one(nameless):
    bad, good = events_of(nameless, wire.event("ev-2"))
    assert isinstance(bad, RejectedEvent)
    assert bad.event_id == ""
    assert isinstance(good, WireEvent)


def test_a_faulty_cancellation_is_still_known_for_one():
    (bad,) = events_of(wire.event("ev-1", 7, status="cancelled", duration="?"))
    assert isinstance(bad, RejectedEvent)
    assert bad.cancelled
    assert bad.revision == 7


@pytest.mark.parametrize("sloppy", ["xcal:", "strm:", "emix:", "scale:"])
def test_elements_in_the_wrong_namespace_are_found(sloppy):
    body = wire.distribute_event(wire.event(signals=[wire.signal(item=wire.power_real())]))
    for bracket in (b"<", b"</"):
        body = body.replace(bracket + sloppy.encode(), bracket + b"ei:")
    message = read(body, LIMIT)
    assert isinstance(message, DistributeEvent)
    assert isinstance(message.events[0], WireEvent)


def test_the_other_messages_are_read():
    created = read(wire.created_party_registration(poll="PT0.5S"), LIMIT)
    assert isinstance(created, CreatedPartyRegistration)
    assert (created.ven_id, created.registration_id, created.vtn_id) == ("ven-1", "reg-1", "vtn")
    assert created.poll == timedelta(seconds=0.5)
    unclear = read(wire.created_party_registration(poll="often"), LIMIT)
    assert isinstance(unclear, CreatedPartyRegistration)
    assert unclear.poll is None
    assert read(wire.request_reregistration(), LIMIT) == RequestReregistration("ven-1")
    assert read(wire.cancel_party_registration(), LIMIT) == CancelPartyRegistration(
        "cancel-1", "reg-1", "ven-1"
    )
    assert read(wire.cancel_report("a", "b", follow=True), LIMIT) == CancelReport(
        "cancel-2", ("a", "b"), to_follow=True
    )
    updated = read(wire.updated_report(cancel=["a"]), LIMIT)
    assert isinstance(updated, UpdatedReport)
    assert updated.cancel == CancelReport("cancel-2", ("a",), to_follow=False)
    assert read(wire.payload("<oadr:oadrBrewCoffee/>"), LIMIT) == Unexpected("oadrBrewCoffee")


def test_a_faulty_report_request_is_refused_alone():
    message = read(
        wire.create_report(
            wire.report_request("ok"),
            wire.report_request("bad", granularity="often"),
            wire.report_request("worse", back="-PT1S"),
            wire.report_request("", specifier="usage"),
        ),
        LIMIT,
    )
    assert isinstance(message, CreateReport)
    first, *rest = message.requests
    assert not isinstance(first, RejectedRequest)
    assert first.r_ids == ("site-power", "site-energy")
    assert [r.why for r in rest if isinstance(r, RejectedRequest)] == [
        "its granularity 'often' is not an ISO 8601 duration",
        "its reportBackDuration is negative",
        "it has no reportRequestID",
    ]


@pytest.mark.parametrize(
    "body",
    [
        wire.payload(""),
        wire.payload("<oadr:oadrResponse/>"),
        wire.payload(
            f"<oadr:oadrRegisteredReport>{wire.report_request()}</oadr:oadrRegisteredReport>"
        ),
        wire.oadr_response().replace(b">200<", b">twohundred<"),
        wire.oadr_response().replace(b"oadrSignedObject", b"oadrUnsignedObject"),
    ],
)
def test_a_message_without_its_essentials_is_refused_whole(body):
    with pytest.raises(WireError):
        read(body, LIMIT)


SEEDS = (
    wire.distribute_event(
        wire.event("ev-1", start_after="PT5M", ramp_up="PT1M", comment="x"),
        wire.event("ev-2", signals=[wire.signal(item=wire.power_real("k")), wire.simple()]),
    ),
    wire.created_party_registration(),
    wire.create_report(wire.report_request(start="2026-07-01T12:00:00Z")),
    wire.registered_report(wire.report_request()),
    wire.updated_report(cancel=["a"]),
    wire.oadr_response(),
)
PIECES = (
    b"<", b">", b"&", b"]]>", b"<![CDATA[", b"<!--", b"<?x", b"<!DOCTYPE a [", b"&#0;", b"&#xD800;",
    b"NaN", b"-", b"1e400", b"P", b"PT", b"9" * 40, b"0001-01-01T00:00:00Z", b"9999-12-31T23:59:59Z",
    b"cancelled", b"\x00", b"\xff", "\u202e".encode(), b"</ei:eiEvent>", b"<ei:eiEvent>", b"",
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A sound message with pieces cut out, doubled, and pieces of other things put in."""
    body = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(1, 6))):
        at, to = sorted((draw(st.integers(0, len(body))), draw(st.integers(0, len(body)))))
        to = min(to, at + draw(st.integers(0, 60)))
        put = draw(st.sampled_from(PIECES) | st.binary(max_size=8) | st.just(body[at:to] * 2))
        body = body[:at] + put + body[to:]
    return body


@settings(max_examples=600, deadline=2000, suppress_health_check=[HealthCheck.too_slow])
@given(mutated())
def test_no_mutation_raises_anything_but_a_wire_error(body):
    try:
        message = read(body, LIMIT)
    except WireError:
        return
    for event in message.events if isinstance(message, DistributeEvent) else ():
        if isinstance(event, WireEvent):
            result = translate(event, "ven", NOON)
            assert isinstance(result, Event | RejectedEvent)


@settings(max_examples=200, deadline=2000)
@given(st.binary(max_size=2000))
def test_no_bytes_raise_anything_but_a_wire_error(body):
    with pytest.raises(WireError):
        read(body, LIMIT)


def test_a_registered_report_brings_requests():
    message = read(
        wire.registered_report(wire.report_request("a"), wire.report_request("b")), LIMIT
    )
    assert isinstance(message, RegisteredReport)
    assert [r.request_id for r in message.requests] == ["a", "b"]


def test_what_a_vtn_speaks_is_read_whole():
    said = wire.created_party_registration().replace(
        b"<oadr:oadrProfiles>",
        b"<oadr:oadrProfiles><oadr:oadrProfile><oadr:oadrProfileName>2.0a</oadr:oadrProfileName>"
        b"</oadr:oadrProfile>",
    )
    message = read(said, LIMIT)
    assert isinstance(message, CreatedPartyRegistration)
    assert message.profiles == (("2.0a", ()), ("2.0b", ("simpleHttp",)))


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (wire.created_opt("opt-1", 452), CreatedOpt),
        (wire.canceled_opt("opt-1", 452), CanceledOpt),
        (wire.canceled_party_registration(452), CanceledPartyRegistration),
    ],
)
def test_how_a_vtn_took_opts_and_our_leaving_is_read(answer, kind):
    message = read(answer, LIMIT)
    assert isinstance(message, kind)
    assert message.response.code == 452
