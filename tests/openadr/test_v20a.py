"""The 2.0a VEN: one service, SIMPLE alone, and no less robust than its sibling."""

import asyncio
import logging
import ssl
from collections import deque
from dataclasses import replace
from datetime import timedelta

import pytest

from agent.config import parse
from agent.core.event import Ending, Opt, OptDecision, SignalKind
from agent.core.intake import Verdict
from agent.core.lifecycle import opted_out
from agent.core.link import Departure
from agent.demo.site import SPEC, configuration
from agent.errors import WireError
from agent.inspection import inspect
from agent.openadr.v20.messages import Code, EventAnswer, OadrResponse, Response
from agent.openadr.v20a import writer
from agent.openadr.v20a.reader import read
from agent.openadr.v20a.settings import Ven20aSettings
from drivers.sim.site import SimSite
from tests.clock import NOON
from tests.openadr import wire, wire20a
from tests.openadr.rig import Rig20a, until
from tests.openadr.test_polling import HOSTILE, fail
from tests.openadr.vtn import running
from tests.openadr.vtn20a import ScriptedVtn20a, check

pytestmark = pytest.mark.openadr2

HOUR = timedelta(hours=1)


@pytest.fixture
async def vtn():
    async with running(ScriptedVtn20a()) as scripted:
        yield scripted


@pytest.fixture
async def rig(vtn, tmp_path):
    async with Rig20a(tmp_path, vtn.url) as rig:
        await rig.rested()
        yield rig


async def listed(vtn, rig, *events: str, **message):
    """Let the next poll bring this list, and those after it the same; how each was answered."""
    answered = vtn.count("oadrCreatedEvent")
    vtn.events = events
    vtn.reply("oadrRequestEvent", wire20a.distribute_event(*events, **message))
    await rig.turn()
    if vtn.count("oadrCreatedEvent") == answered:
        return {}
    return vtn.of("oadrCreatedEvent")[answered].event_answers


async def test_it_asks_the_one_service_for_all_events_and_nothing_else(vtn, rig):
    await rig.turn()
    assert {(m.service, m.kind) for m in vtn.received} == {("EiEvent", "oadrRequestEvent")}
    first, second = (m.text("eiRequestEvent", "requestID") for m in vtn.received)
    assert first != second
    assert vtn.received[0].text("eiRequestEvent", "venID") == "ven-1"
    assert vtn.received[0].text("eiRequestEvent", "replyLimit") is None  # a limited list is no list


async def test_the_poll_period_is_ours_and_a_minute_by_default(vtn, rig):
    assert rig.delay_s == pytest.approx(60)
    polls = vtn.count("oadrRequestEvent")
    rig.clock.leap(59.9)
    await asyncio.sleep(0.02)
    assert vtn.count("oadrRequestEvent") == polls
    await rig.turn(0.2)
    assert vtn.count("oadrRequestEvent") == polls + 1


async def test_an_event_is_stored_announced_and_answered(vtn, rig):
    answers = await listed(vtn, rig, wire20a.event("00123", 2, start=NOON + HOUR))
    assert answers == {"00123": (200, "optIn", "dist-1")}
    whole = vtn.of("oadrCreatedEvent")[-1]
    assert whole.text("eiCreatedEvent", "eiResponse", "responseCode") == "200"
    assert whole.text("eiCreatedEvent", "eiResponse", "requestID") == ""  # rule 42
    assert whole.text("eiCreatedEvent", "venID") == "ven-1"
    assert [i.verdict for i in rig.intakes] == [Verdict.NEW]
    (signal,) = rig.record("00123").event.signals
    assert (signal.kind, [i.value for i in signal.intervals]) == (SignalKind.LEVEL, [2])


async def test_the_link_tells_the_profile_and_the_ids_that_were_agreed_on(vtn, rig):
    link = rig.ven.link()
    assert (link.profile, link.ven_id, link.registered) == ("OpenADR 2.0a", "ven-1", True)
    assert (link.poll_s, link.url, link.reports_waiting) == (60, vtn.url, 0)
    assert link.last_contact == rig.clock.now()


async def test_several_intervals_and_startafter_are_understood(vtn, rig):
    pieces = [wire.interval(level, "PT20M") for level in (1, 2, 0)]
    event = wire20a.event(
        start=NOON + HOUR, signals=[wire20a.signal(intervals=pieces)], start_after="PT10M"
    )
    await listed(vtn, rig, event)
    record = rig.record()
    assert [i.value for i in record.event.signals[0].intervals] == [1, 2, 0]
    assert timedelta(0) < record.start_shift < timedelta(minutes=10)
    shift = record.start_shift
    await listed(vtn, rig, event.replace("modificationNumber>0", "modificationNumber>1"))
    assert (rig.record().event.revision, rig.record().start_shift) == (1, shift)  # rule 30


async def test_mixed_events_are_answered_one_by_one(vtn, rig):
    answers = await listed(
        vtn,
        rig,
        wire20a.event("good"),
        wire20a.event("level 4", 4),
        wire20a.event("alien", target="<ei:venID>somebody-else</ei:venID>"),
        wire20a.event("price", signals=[wire20a.signal(5, "ELECTRICITY_PRICE", "price")]),
        wire20a.event(
            "both", signals=[wire20a.signal(0.1, "price", "price"), wire20a.signal(2, "SIMPLE")]
        ),
        wire20a.event("quiet", response="never"),
    )
    assert {key: answer[:2] for key, answer in answers.items()} == {
        "good": (200, "optIn"),
        "level 4": (454, "optOut"),
        "alien": (462, "optOut"),
        "price": (460, "optOut"),  # rule 48
        "both": (200, "optIn"),
    }
    assert {key[1] for key in rig.book.records} == {"good", "both", "quiet"}
    assert [s.name for s in rig.record("both").event.signals] == ["SIMPLE level"]


@pytest.mark.parametrize(
    ("target", "resource", "code"),
    [
        ("", "site-7", 200),
        ("<ei:venID>ven-1</ei:venID>", "site-7", 200),
        (
            "<ei:resourceID>site-6</ei:resourceID><ei:resourceID>site-7</ei:resourceID>",
            "site-7",
            200,
        ),
        ("<ei:resourceID>site-6</ei:resourceID>", "site-7", 462),
        ("<ei:resourceID>site-6</ei:resourceID><ei:venID>ven-1</ei:venID>", "site-7", 462),
        ("<ei:groupID>east</ei:groupID><ei:resourceID>site-6</ei:resourceID>", "site-7", 462),
        ("<ei:resourceID>site-6</ei:resourceID><ei:venID>ven-1</ei:venID>", None, 200),
        ("<ei:resourceID>site-6</ei:resourceID>", None, 462),
    ],
)
async def test_the_resource_picks_the_site_where_one_ven_stands_for_many(
    vtn, tmp_path, target, resource, code
):
    async with Rig20a(tmp_path, vtn.url, resource=resource) as rig:
        await rig.rested()
        assert (await listed(vtn, rig, wire20a.event(target=target)))["ev-1"][0] == code


async def test_a_list_from_another_vtn_is_refused_whole_where_ours_is_known(vtn, tmp_path):
    async with Rig20a(tmp_path, vtn.url, vtn_id="vtn") as rig:
        await rig.rested()
        await listed(vtn, rig, wire20a.event("ours"))
        answers = await listed(vtn, rig, wire20a.event("alien"), vtn_id="evil")
        assert answers == {"alien": (452, "optOut", "dist-1")}
        assert set(rig.book.records) == {("ven", "ours")}
        assert rig.record("ours").ended_by is None


async def test_a_cancellation_is_confirmed_and_a_lower_modification_refused(vtn, rig):
    await listed(vtn, rig, wire20a.event(revision=5))
    assert (await listed(vtn, rig, wire20a.event(revision=3)))["ev-1"][:2] == (450, "optIn")
    cancelled = wire20a.event(revision=6, status="cancelled")
    assert (await listed(vtn, rig, cancelled))["ev-1"][:2] == (200, "optIn")
    assert rig.record().ended_by is Ending.CANCELLED


async def test_an_event_that_is_not_listed_any_more_is_cancelled(vtn, rig):
    await listed(vtn, rig, wire20a.event("stays"), wire20a.event("goes"))
    await listed(vtn, rig, wire20a.event("stays"))
    assert rig.record("goes").ended_by is Ending.CANCELLED
    assert rig.record("stays").ended_by is None


@pytest.mark.parametrize(
    "no_list",
    [
        wire20a.oadr_response(),
        wire20a.distribute_event(response=wire.ei_response(454, "database down")),
        wire20a.distribute_event()[:-40],
        wire20a.distribute_event(wire20a.event("")),
        wire20a.oadr_response(463, "who are you"),
        wire.distribute_event(),  # another profile's
    ],
)
async def test_what_is_no_whole_list_implies_nothing(vtn, rig, no_list):
    await listed(vtn, rig, wire20a.event("a"))
    vtn.reply("oadrRequestEvent", no_list)
    await rig.turn()
    assert rig.record("a").ended_by is None


WORSE = {
    **{what: HOSTILE[what] for what in HOSTILE if what not in ("no content", "no code", "refusal")},
    "truncated": wire20a.distribute_event(wire20a.event())[:-50],
    "another profile's": wire.oadr_response(),
    "no code": wire20a.oadr_response().replace(b"<ei:responseCode>200</ei:responseCode>", b""),
    "refusal": wire20a.oadr_response(469, "database down"),
    "our own request": wire20a.message("oadrRequestEvent", ""),
}


@pytest.mark.parametrize("what", WORSE)
async def test_hostile_answers_are_survived_and_named(vtn, tmp_path, what, caplog):
    caplog.set_level(logging.INFO)
    async with Rig20a(tmp_path, vtn.url, timeout_s=0.3, max_bytes=100_000) as rig:
        await rig.rested()
        await listed(vtn, rig, wire20a.event())
        vtn.reply("oadrRequestEvent", WORSE[what], WORSE[what])
        for _ in range(2):
            await rig.turn()
            link = rig.ven.link()
            assert link.lost_since is not None
            assert link.trouble
            assert "\n" not in link.trouble
        await rig.turn(60)
        link = rig.ven.link()
        assert (link.lost_since, link.trouble) == (None, "")
        assert rig.record().ended_by is None
        said = [r.levelname for r in caplog.records if "lost its VTN" in r.message]
        assert said == ["WARNING"]
        assert [r.levelname for r in caplog.records if "is back" in r.message] == ["INFO"]


async def test_a_vtn_that_is_down_is_asked_again_soon_and_then_ever_less_often(vtn, rig):
    await vtn.stop()
    waits = []
    for _ in range(9):
        await rig.turn()
        waits.append(rig.delay_s)
    for wait, base in zip(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60], strict=True):
        assert base / 2 <= wait <= base
    await vtn.start()
    await rig.turn()
    assert rig.delay_s == pytest.approx(60)


async def test_whoever_answers_uselessly_is_not_polled_more_often(vtn, rig):
    vtn.reply("oadrRequestEvent", b"nonsense")
    await rig.turn()
    assert rig.delay_s == 60


async def test_a_vtn_that_does_not_know_us_is_asked_on_at_the_usual_pace(vtn, rig):
    vtn.reply("oadrRequestEvent", *[wire20a.oadr_response(463, "who are you")] * 2)
    for _ in range(2):
        await rig.turn()
        link = rig.ven.link()
        assert (link.registered, rig.delay_s) == (False, 60)
        assert "463 ('who are you')" in link.trouble
    await rig.turn()
    link = rig.ven.link()
    assert (link.registered, link.trouble) == (True, "")


async def test_a_vtn_that_does_not_know_us_by_our_answers_alone_is_named_once(vtn, rig, caplog):
    vtn.events = (wire20a.event(),)
    vtn.reply("oadrCreatedEvent", *[wire20a.oadr_response(463, "who are you")] * 100)
    for _ in range(5):
        await rig.turn(60)
    link = rig.ven.link()
    assert (link.registered, link.lost_since) == (True, None)
    assert "not everything reaches the VTN" in link.trouble
    assert len([r for r in caplog.records if "463" in r.message]) == 1


async def test_what_an_operator_gave_as_a_reason_is_not_told(vtn, rig):
    await listed(vtn, rig, wire20a.event(market="http://other.example"))
    decision = OptDecision(Opt.OUT, "operator ada", rig.clock.now(), "fire in hall 2 \x07")
    rig.book.put(opted_out(replace(rig.record(), opt=decision), rig.clock.now()))
    answers = await listed(vtn, rig, wire20a.event(market="http://other.example"))
    assert answers["ev-1"][:2] == (453, "optOut")


async def test_an_opt_that_the_site_changes_is_told_at_once(vtn, rig):
    await listed(vtn, rig, wire20a.event())
    record = rig.record()
    decision = OptDecision(Opt.OUT, "operator ada", rig.clock.now(), "busy")
    changed = opted_out(replace(record, opt=decision), rig.clock.now())
    rig.book.put(changed)
    polls = vtn.count("oadrRequestEvent")
    rig.ven.tell(changed)
    message = await vtn.seen("oadrCreatedEvent", 2)
    assert message.event_answers["ev-1"][:2] == (200, "optOut")
    assert message.event_answers["ev-1"][2] != ""
    assert vtn.count("oadrRequestEvent") == polls


async def test_an_answer_that_does_not_arrive_is_given_again(vtn, rig):
    vtn.reply("oadrCreatedEvent", fail, fail)
    await listed(vtn, rig, wire20a.event())
    link = rig.ven.link()
    assert link.lost_since is None  # polling works
    assert "not everything reaches the VTN" in link.trouble
    await rig.pass_time(2)
    assert vtn.count("oadrCreatedEvent") == 3
    assert vtn.of("oadrCreatedEvent")[-1].event_answers["ev-1"][:2] == (200, "optIn")
    assert rig.ven.link().trouble == ""


async def test_after_a_restart_what_was_not_told_is_told_and_nothing_else(vtn, rig):
    await listed(vtn, rig, wire20a.event("told"))
    vtn.reply("oadrCreatedEvent", *[fail] * 50)
    await listed(vtn, rig, wire20a.event("told"), wire20a.event("untold"))
    vtn.script = {"oadrRequestEvent": deque([wire20a.oadr_response()])}
    answered = vtn.count("oadrCreatedEvent")
    await rig.restart()
    message = await vtn.seen("oadrCreatedEvent", answered + 1)
    assert set(message.event_answers) == {"untold"}


async def test_ids_of_another_venid_are_not_taken_for_ours(vtn, rig):
    await listed(vtn, rig, wire20a.event())
    assert [a.event_id for a in rig.registration.answers] == ["ev-1"]
    await rig.restart(ven_id="ven-2")
    message = await vtn.seen("oadrCreatedEvent", 2)
    assert message.text("eiCreatedEvent", "venID") == "ven-2"
    assert rig.ven.link().ven_id == "ven-2"


async def test_out_of_its_program_it_asks_for_nothing_and_back_in_it_polls_on(vtn, rig):
    rig.departure = Departure(rig.clock.now(), "kim", "moving out")
    rig.ven.wake()
    await rig.rested(rig.rounds + 1)
    polls = vtn.count("oadrRequestEvent")
    await rig.turn()
    assert vtn.count("oadrRequestEvent") == polls
    assert not rig.ven.link().registered
    rig.departure = None
    rig.ven.wake()
    await vtn.seen("oadrRequestEvent", polls + 1)
    await until(lambda: rig.ven.link().registered)


async def test_leaving_opts_out_of_what_the_vtn_believes_we_take_part_in(vtn, rig):
    """There is no registration to cancel: unanswered, the utility would count on us to the events' end."""
    assert await listed(vtn, rig, wire20a.event("ev-1"), wire20a.event("over", start=NOON - HOUR))
    at = rig.clock.now()
    rig.book.put(
        replace(rig.record("ev-1"), ended_at=at, ended_by=Ending.OPTED_OUT),
        replace(rig.record("over"), ended_at=at - HOUR, ended_by=Ending.OPTED_OUT),
    )
    answered = vtn.count("oadrCreatedEvent")
    rig.departure = Departure(at, "kim", "moving out")
    rig.ven.wake()
    message = await vtn.seen("oadrCreatedEvent", answered + 1)
    assert message.event_answers == {"ev-1": (200, "optOut", "dist-1")}
    await until(lambda: rig.registration.answers == ())


@pytest.mark.parametrize("shown", [True, False])
async def test_a_vtn_that_asks_for_our_certificate_gets_it(tmp_path, authority, shown):
    server, ven = authority.issue("localhost"), authority.issue("ven")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.ca)
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_cert_chain(server.cert, server.key)
    files = ven.files if shown else {}
    async with (
        running(ScriptedVtn20a(tls=tls, events=(wire20a.event(),))) as vtn,
        Rig20a(tmp_path, vtn.url, ca=authority.ca, **files) as rig,
    ):
        await rig.rested()
        assert vtn.count("oadrCreatedEvent") == shown
        link = rig.ven.link()
        assert (link.lost_since is None) is shown
        assert (link.certificate_expires is not None) is shown


@pytest.mark.parametrize(
    "url",
    ["https://x.example/OpenADR2/Simple", "https://x.example/OpenADR2/Simple/EiEvent/"],
)
def test_the_address_of_the_service_itself_will_do_too(url):
    settings = Ven20aSettings(kind="openadr-2.0a", name="a", vtn_url=url, ven_id="v")
    assert settings.vtn_url == "https://x.example/OpenADR2/Simple"


def test_everything_written_is_escaped_and_in_the_profiles_order():
    from lxml import etree

    answers = [EventAnswer("<&>", 3, Opt.IN), EventAnswer("b", 0, Opt.OUT, Code.OTHER, "a < b")]
    for body in (
        writer.request_event("<ven>"),
        writer.created_event("<ven>", "r&d", answers),
        writer.created_event("v", "r", [], Response(Code.INVALID_ID, "who", "r")),
    ):
        check(etree.fromstring(body))
    assert b"schemaLocation" not in writer.request_event("v")  # rule 45


@pytest.mark.parametrize("order", ["missing", "swapped", "strange"])
def test_the_test_vtn_notices_what_is_not_as_it_should_be(order):
    from lxml import etree

    root = etree.fromstring(writer.created_event("v", "r", [EventAnswer("e", 0, Opt.IN)]))
    created = root[0]
    if order == "missing":
        created.remove(created[-1])
    elif order == "swapped":
        created.append(created[0])
    else:
        created[-1].tag = "venID"
    with pytest.raises(WireError):
        check(root)


def test_an_answer_of_the_vtns_is_read():
    assert read(wire20a.oadr_response(200, "fine"), 10_000) == OadrResponse(Response(200, "fine"))


async def test_the_connection_can_be_tried_without_answering_anything(vtn, tmp_path):
    ven = {"kind": "openadr-2.0a", "name": "a", "vtn_url": vtn.url, "ven_id": "ven-1"}
    config = parse({**configuration(tmp_path, vtn.url, "127.0.0.1:0"), "ven": [ven]})
    SimSite.create(tmp_path / "site.json", SPEC)

    async def tried() -> list[str]:
        return [str(f) for f in await inspect(config) if "VTN" in f.text]

    vtn.events = (wire20a.event(),)
    assert await tried() == [f"ok    VTN of a answers on {vtn.url}"]
    vtn.reply("oadrRequestEvent", wire20a.oadr_response(463, "who are you"), b"<html/>", b"")
    assert "answered a poll with 463 ('who are you')" in (await tried())[0]
    assert (await tried())[0].startswith("FAIL  VTN of a: OpenADR: the answer is a web page")
    assert (await tried())[0].startswith("FAIL  VTN of a: OpenADR: the answer is of no use: ")
    assert vtn.count("oadrCreatedEvent") == 0
