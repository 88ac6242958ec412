"""Being registered with a VTN: first, again, after restarts of either side."""

import asyncio
import itertools
from datetime import timedelta

import pytest
from aiohttp import web

from agent.core.event import Ending
from agent.core.lifecycle import cancelled
from agent.core.link import Departure
from agent.store.registrations import Registration, ReportRequest
from tests.clock import NOON
from tests.openadr import wire
from tests.openadr.rig import Rig, until
from tests.openadr.vtn import ScriptedVtn, running

pytestmark = pytest.mark.openadr2


def kinds(vtn) -> list[str]:
    return [message.kind for message in vtn.received]


async def test_a_first_start_registers_polls_offers_and_asks_for_events(vtn, rig):
    rig.start()
    await rig.rested()
    await vtn.seen("oadrRegisterReport")
    assert kinds(vtn)[:2] == ["oadrQueryRegistration", "oadrCreatePartyRegistration"]
    assert set(kinds(vtn)[2:]) == {"oadrPoll", "oadrRequestEvent", "oadrRegisterReport"}
    services = {message.kind: message.service for message in vtn.received}
    assert services == {
        "oadrQueryRegistration": "EiRegisterParty",
        "oadrCreatePartyRegistration": "EiRegisterParty",
        "oadrPoll": "OadrPoll",
        "oadrRequestEvent": "EiEvent",
        "oadrRegisterReport": "EiReport",
    }
    sent = vtn.of("oadrCreatePartyRegistration")[0]
    assert sent.text("oadrVenName") == "ven"
    assert sent.text("venID") is None
    assert rig.registration.registration_id == "reg-1"
    link = rig.ven.link()
    assert (link.registered, link.ven_id, link.poll_s) == (True, "ven-1", 10.0)
    assert link.last_contact == NOON
    assert link.trouble == ""


async def test_a_preset_ven_id_is_sent(vtn, tmp_path):
    async with Rig(tmp_path, vtn.url, ven_id="assigned", ven_name="GPU hall") as rig:
        await rig.rested()
    sent = vtn.of("oadrCreatePartyRegistration")[0]
    assert sent.text("venID") == "assigned"
    assert sent.text("oadrVenName") == "GPU hall"


async def test_v5_our_restart_needs_no_new_registration_and_asks_for_all_events(vtn, rig):
    rig.start()
    await rig.rested()
    await rig.quiet()
    vtn.received.clear()
    await rig.restart()
    assert rig.ven.link().registered
    await vtn.seen("oadrRequestEvent")
    await rig.turn()
    assert set(kinds(vtn)) == {"oadrPoll", "oadrRequestEvent"}
    assert vtn.of("oadrPoll")[0].text("venID") == "ven-1"


async def test_our_restart_in_an_event_keeps_it_and_takes_what_changed_meanwhile(vtn, rig):
    vtn.events = (wire.event("goes"), wire.event("stays"))
    rig.start()
    await rig.rested()
    assert len(rig.book.records) == 2
    await rig.stop()
    vtn.events = (wire.event("stays", 1, signals=[wire.simple(2)]), wire.event("comes"))
    rig._open()
    assert set(rig.book.records) == {("ven", "goes"), ("ven", "stays")}
    rig.start()
    await until(lambda: len(rig.book.records) == 3)
    await rig.turn()
    assert rig.record("goes").ended_by is Ending.CANCELLED
    assert rig.record("stays").event.revision == 1
    assert rig.record("comes").ended_by is None


async def test_v1_a_vtn_that_is_down_at_the_start_is_awaited(vtn, rig, caplog):
    caplog.set_level("INFO")
    await vtn.stop()
    rig.start()
    for _ in range(8):
        await rig.turn()
    link = rig.ven.link()
    assert not link.registered
    assert link.lost_since == NOON
    assert str(vtn.port) in link.trouble
    await vtn.start()
    await rig.turn()
    await vtn.seen("oadrPoll")
    assert rig.ven.link().registered
    assert rig.ven.link().trouble == ""
    lost = [r for r in caplog.records if "lost its VTN" in r.message]
    back = [r for r in caplog.records if "is back after" in r.message]
    assert (len(lost), len(back)) == (1, 1)


@pytest.mark.parametrize(
    "refusal",
    [
        wire.created_party_registration(code=451),
        wire.created_party_registration(ven_id="", registration_id=""),
        wire.oadr_response(463, "who?"),
    ],
)
async def test_a_vtn_that_refuses_us_is_asked_again_with_back_off(vtn, rig, refusal):
    vtn.reply("oadrCreatePartyRegistration", refusal, refusal, refusal)
    rig.start()
    await rig.rested()
    waits = [rig.delay_s]
    for _ in range(2):
        await rig.turn()
        waits.append(rig.delay_s)
    assert "refuses to register VEN ven" in rig.ven.link().trouble
    assert rig.ven.link().lost_since is None  # it does answer
    assert waits == sorted(waits)
    await rig.turn()
    assert rig.ven.link().registered
    assert rig.ven.link().trouble == ""


async def expect_reregistration(vtn, rig):
    """One new registration with the old ids, one new offer of reports, and all events asked for."""
    await rig.turn()
    again = await vtn.seen("oadrCreatePartyRegistration", 2)
    assert again.text("registrationID") == "reg-1"
    assert again.text("venID") == "ven-1"
    await vtn.seen("oadrRegisterReport", 2)
    await vtn.seen("oadrRequestEvent", 2)
    await rig.rested()
    assert rig.ven.link().registered
    await rig.turn()
    assert vtn.count("oadrCreatePartyRegistration") == 2
    assert vtn.count("oadrRegisterReport") == 2


async def test_v3_a_request_to_register_again_is_acknowledged_and_followed(vtn, rig):
    rig.start()
    await rig.rested()
    vtn.reply("oadrPoll", wire.request_reregistration())
    await rig.turn()
    await expect_reregistration(vtn, rig)
    acknowledged = vtn.of("oadrResponse")[0]
    assert acknowledged.service == "EiRegisterParty"
    assert acknowledged.text("eiResponse", "responseCode") == "200"


@pytest.mark.parametrize("code", [463, 452])
async def test_v4_not_registered_in_answer_to_a_poll_registers_again(vtn, rig, code):
    rig.start()
    await rig.rested()
    vtn.reply("oadrPoll", wire.oadr_response(code, "not registered"))
    await rig.turn()
    assert not rig.ven.link().registered
    await expect_reregistration(vtn, rig)


async def test_not_registered_in_answer_to_an_opt_registers_again(vtn, rig):
    vtn.events = (wire.event(),)
    vtn.reply("oadrRequestEvent", wire.oadr_response(463))
    rig.start()
    await rig.rested()
    assert not rig.ven.link().registered
    await rig.turn()
    assert rig.ven.link().registered
    assert vtn.count("oadrCreatePartyRegistration") == 2
    assert rig.record().ended_by is None


async def test_not_registered_in_answer_to_a_report_registers_again_at_once(vtn, rig):
    vtn.report_requests = (wire.report_request(),)
    rig.start()
    await rig.rested()
    await rig.quiet()
    rig.samples(NOON, 30)
    vtn.reply("oadrUpdateReport", wire.updated_report(463))
    vtn.reply("oadrRegisterReport", wire.registered_report())
    await rig.pass_time(13)
    assert vtn.count("oadrCreatePartyRegistration") == 2
    assert rig.ven.link().registered


async def test_an_event_service_that_alone_never_knows_us_costs_one_registration(vtn, rig):
    vtn.reply("oadrRequestEvent", *[wire.oadr_response(463)] * 1000)
    rig.start()
    for _ in range(20):
        await rig.turn(60)
    assert vtn.count("oadrCreatePartyRegistration") == 2
    link = rig.ven.link()
    assert (link.registered, link.lost_since) == (True, None)
    assert "not everything reaches the VTN: the VTN answered 463" in link.trouble


async def test_a_report_service_that_alone_never_knows_us_costs_one_registration(vtn, rig):
    """Some VTNs answer so where a VEN may not use a service: it is named, and polls tell of the rest."""
    vtn.reply("oadrRegisterReport", *[wire.registered_report(code=463)] * 100)
    rig.start()
    for _ in range(20):
        await rig.turn(60)
    assert vtn.count("oadrCreatePartyRegistration") == 2
    assert rig.ven.link().registered
    assert "reports do not arrive: the VTN answered 463" in rig.ven.link().trouble


async def test_a_late_answer_to_an_old_registration_does_not_end_the_new_one(vtn, rig):
    vtn.report_requests = (wire.report_request(),)
    rig.start()
    await rig.rested()
    await rig.quiet()
    rig.samples(NOON, 30)
    gate = asyncio.Event()

    async def late(request):
        await gate.wait()
        return web.Response(body=wire.updated_report(463), content_type="application/xml")

    vtn.reply("oadrUpdateReport", late)
    rig.clock.leap(11)
    await vtn.seen("oadrUpdateReport")
    vtn.reply("oadrPoll", wire.request_reregistration())
    await rig.turn()
    await rig.turn()
    await vtn.seen("oadrCreatePartyRegistration", 2)
    await rig.rested()
    gate.set()
    await rig.pass_time(5)
    assert vtn.count("oadrCreatePartyRegistration") == 2
    assert rig.ven.link().registered


async def test_a_vtn_that_forgot_us_gets_a_fresh_registration_after_the_old_ids(vtn, rig):
    rig.start()
    await rig.rested()
    vtn.reply("oadrPoll", wire.oadr_response(463))
    vtn.reply(
        "oadrCreatePartyRegistration",
        wire.created_party_registration(code=452, ven_id="", registration_id=""),
        wire.created_party_registration(ven_id="ven-2", registration_id="reg-2"),
    )
    await rig.turn()
    await rig.turn()
    sent = vtn.of("oadrCreatePartyRegistration")
    assert [m.text("registrationID") for m in sent] == [None, "reg-1", None]
    assert rig.registration.ven_id == "ven-2"
    assert rig.ven.link().ven_id == "ven-2"
    await rig.turn()
    assert vtn.of("oadrPoll")[-1].text("venID") == "ven-2"


async def test_a_new_registration_id_is_adopted(vtn, rig):
    rig.start()
    await rig.rested()
    vtn.reply("oadrPoll", wire.oadr_response(463))
    vtn.reply(
        "oadrCreatePartyRegistration", wire.created_party_registration(registration_id="reg-9")
    )
    await rig.turn()
    await rig.turn()
    assert rig.registration.registration_id == "reg-9"


async def test_a_request_for_another_ven_to_register_again_is_refused(vtn, rig):
    rig.start()
    await rig.rested()
    vtn.reply("oadrPoll", *[wire.request_reregistration("somebody-else")] * 10)
    await rig.turn()
    assert vtn.count("oadrPoll") == 3  # whoever goes on so is not polled on and on
    assert vtn.count("oadrCreatePartyRegistration") == 1
    assert vtn.of("oadrResponse")[0].text("eiResponse", "responseCode") == "452"
    assert rig.ven.link().registered


async def test_v28_a_cancelled_registration_is_confirmed_and_made_anew(vtn, rig):
    vtn.events = (wire.event(),)
    rig.start()
    await rig.rested()
    vtn.reply("oadrPoll", wire.cancel_party_registration())
    await rig.turn()
    confirmed = vtn.of("oadrCanceledPartyRegistration")[0]
    assert confirmed.text("eiResponse", "responseCode") == "200"
    assert confirmed.text("registrationID") == "reg-1"
    assert not rig.ven.link().registered
    assert rig.registration.registration_id == ""
    polls = vtn.count("oadrPoll")
    assert "`flexload register ven`" in rig.ven.link().trouble
    began = rig.clock.now()
    while vtn.count("oadrCreatePartyRegistration") < 2:
        await rig.turn()
    # It may have meant it, and then does not want to be asked at once.
    assert timedelta(minutes=2) < rig.clock.now() - began < timedelta(minutes=7)
    assert vtn.count("oadrPoll") == polls + 1
    assert vtn.of("oadrCreatePartyRegistration")[1].text("registrationID") is None
    await rig.rested()
    assert rig.ven.link().registered
    assert rig.ven.link().trouble == ""
    assert rig.record().ended_by is None


async def test_a_vtn_that_ends_every_registration_is_asked_ever_less_often(vtn, rig):
    rig.start()
    await rig.rested()
    waits = []
    for count in range(2, 6):
        vtn.reply("oadrPoll", wire.cancel_party_registration())
        await rig.turn()
        began = rig.clock.now()
        while vtn.count("oadrCreatePartyRegistration") < count:
            await rig.turn()
        waits.append((rig.clock.now() - began).total_seconds())
        await rig.rested()
    assert waits[-1] > 3 * waits[0]


async def test_the_operator_may_have_an_ended_registration_made_anew_at_once(vtn, rig):
    rig.start()
    await rig.rested()
    vtn.reply("oadrPoll", wire.cancel_party_registration())
    await rig.turn()
    rig.ven.wake()
    await vtn.seen("oadrCreatePartyRegistration", 2)
    await until(lambda: rig.ven.link().registered)


@pytest.mark.parametrize("ids", [("reg-9", "ven-1"), ("reg-1", "ven-9")])
async def test_a_cancellation_of_another_registration_is_refused(vtn, rig, ids):
    rig.start()
    await rig.rested()
    vtn.reply("oadrPoll", wire.cancel_party_registration(*ids))
    await rig.turn()
    refused = vtn.of("oadrCanceledPartyRegistration")[0]
    assert refused.text("eiResponse", "responseCode") == "452"
    assert rig.ven.link().registered
    assert rig.ven.link().rejected == 1


async def test_events_and_opts_survive_a_new_registration(vtn, rig):
    vtn.events = (wire.event(),)
    rig.start()
    await rig.rested()
    vtn.reply("oadrPoll", wire.oadr_response(463))
    vtn.reply("oadrCreatePartyRegistration", wire.created_party_registration("ven-2", "reg-2"))
    await rig.turn()
    await rig.turn()
    assert rig.record().ended_by is None
    assert len(rig.intakes) == 1
    assert vtn.of("oadrCreatedEvent")[-1].text("eiCreatedEvent", "venID") == "ven-2"


async def test_what_was_agreed_with_another_vtn_does_not_count(vtn, rig, tmp_path):
    rig.start()
    await rig.rested()
    await rig.stop()
    async with running(ScriptedVtn()) as other, Rig(tmp_path, other.url) as moved:
        await moved.rested()
        assert other.of("oadrCreatePartyRegistration")[0].text("registrationID") is None
    rig._open()


@pytest.mark.parametrize(
    ("asked", "ours_s", "period_s"),
    [
        ("PT10S", None, 10),
        ("PT0.5S", None, 0.5),
        ("PT30S", 5, 30),  # the VTN's is a minimum
        ("PT10S", 60, 60),
        (None, None, 10),
        (None, 3, 3),
        ("P", None, 10),  # openleadr's zero
        ("-PT5S", None, 10),
        ("PT0.001S", None, 0.1),
        ("P99Y", None, 86400),
    ],
)
async def test_the_poll_period_is_the_vtns(vtn, tmp_path, asked, ours_s, period_s):
    vtn.reply("oadrCreatePartyRegistration", wire.created_party_registration(poll=asked))
    async with Rig(tmp_path, vtn.url, poll_s=ours_s) as rig:
        await rig.rested()
        assert rig.delay_s == period_s
        assert rig.ven.link().poll_s == period_s


async def test_a_damaged_registration_is_made_anew(vtn, rig):
    rig.start()
    await rig.quiet()
    with rig.database.transaction() as connection:
        connection.execute("UPDATE registrations SET registration = '{'")
    await rig.restart()
    await vtn.seen("oadrCreatePartyRegistration", 2)
    assert vtn.of("oadrCreatePartyRegistration")[1].text("registrationID") is None


def test_a_registration_of_an_earlier_release_is_still_read(rig):
    old = (
        '{"ven":"ven","ven_id":"v","registration_id":"r","vtn_id":"t","poll_s":10.0,"requests":'
        '[{"request_id":"q","specifier_id":"usage","r_ids":["a"],"granularity":"PT1S",'
        '"back_duration":"PT10S","sent_through":"2026-07-01T12:00:00Z"}]}'
    )
    with rig.database.transaction() as connection:
        connection.execute("INSERT INTO registrations VALUES ('ven', ?)", (old,))
    request = ReportRequest("q", "usage", ("a",), timedelta(seconds=1), timedelta(seconds=10), NOON)
    assert rig.registration == Registration("ven", "v", "r", "t", 10.0, (request,))


def status(code: int, **headers: str):
    async def answer(request):
        return web.Response(status=code, headers=headers)

    return answer


@pytest.mark.parametrize(
    "answer",
    [
        wire.created_party_registration(ven_id="", registration_id="", code=469),
        wire.oadr_response(463, "who?"),
        wire.request_reregistration(""),
        b"<html>",
        b"",
        status(404),
        status(500),
    ],
)
async def test_a_vtn_that_does_not_say_what_it_speaks_is_registered_with_all_the_same(
    vtn, rig, answer
):
    vtn.reply("oadrQueryRegistration", answer)
    rig.start()
    await rig.rested()
    assert rig.ven.link().registered
    assert rig.ven.link().trouble == ""
    assert vtn.count("oadrCreatePartyRegistration") == 1


async def test_a_vtn_that_is_down_at_the_first_start_fills_no_log(vtn, rig, caplog):
    caplog.set_level("INFO")
    await vtn.stop()
    rig.start()
    for _ in range(20):
        await rig.turn()
    said = [record.message for record in caplog.records if record.name.startswith("agent")]
    assert len(said) == 2
    assert "does not say what it speaks" in said[0]
    assert "lost its VTN" in said[1]


async def test_a_vtn_that_does_not_speak_our_profile_is_named_and_tried_all_the_same(vtn, rig):
    other = wire.created_party_registration(ven_id="", registration_id="")
    other = other.replace(b"simpleHttp", b"xmpp")
    vtn.reply("oadrQueryRegistration", other, other)
    vtn.reply("oadrCreatePartyRegistration", status(500))
    rig.start()
    await rig.rested()
    assert "the VTN speaks '2.0b over xmpp', but we only 2.0b over simpleHttp" in (
        rig.ven.link().trouble
    )
    await rig.turn()
    assert rig.ven.link().registered
    assert rig.ven.link().trouble == ""  # it does, whatever it says


async def useless_polls(vtn, rig, answers) -> int:
    """How many polls were answered uselessly before the VEN registered again."""
    known, polls = vtn.count("oadrCreatePartyRegistration"), vtn.count("oadrPoll")
    while vtn.count("oadrCreatePartyRegistration") == known:
        vtn.reply("oadrPoll", next(answers))
        await rig.turn()
    return vtn.count("oadrPoll") - polls


@pytest.mark.parametrize(
    "answer",
    [
        status(404),
        status(502),
        b"<html>",
        b"",
        wire.oadr_response(469, "no idea"),
    ],
)
async def test_a_vtn_whose_answers_are_useless_is_registered_with_again(vtn, rig, answer):
    rig.start()
    await rig.rested()
    began = rig.clock.now()
    assert await useless_polls(vtn, rig, itertools.repeat(answer)) == 11  # and one after it
    assert rig.clock.now() - began > timedelta(minutes=2)
    again = vtn.of("oadrCreatePartyRegistration")[1]
    assert (again.text("venID"), again.text("registrationID")) == ("ven-1", "reg-1")
    # It does not help: twice as many are waited for.
    assert await useless_polls(vtn, rig, itertools.repeat(answer)) == 20
    vtn.script.clear()
    await rig.turn()
    assert rig.ven.link().lost_since is None
    assert rig.ven.link().registered


async def test_polls_go_on_though_registering_again_is_answered_uselessly_too(vtn, rig):
    rig.start()
    await rig.rested()
    vtn.reply("oadrCreatePartyRegistration", status(500), status(500))
    await useless_polls(vtn, rig, itertools.repeat(status(500)))
    assert rig.ven.link().registered
    vtn.script.clear()
    await rig.turn()
    assert rig.ven.link().lost_since is None
    assert vtn.count("oadrCreatePartyRegistration") == 2


async def test_a_vtn_out_of_reach_or_asking_for_patience_costs_no_registration(vtn, rig):
    rig.start()
    await rig.rested()
    vtn.reply("oadrPoll", *[status(503, **{"Retry-After": "20"})] * 30)
    for _ in range(30):
        await rig.turn()
    await vtn.stop()
    for _ in range(30):
        await rig.turn()
    await vtn.start()
    await rig.turn()
    assert rig.ven.link().lost_since is None
    assert vtn.count("oadrCreatePartyRegistration") == 1


async def test_v1_a_day_without_the_vtn_is_two_lines_in_the_log(vtn, rig, caplog):
    """24 h, a try a minute at most, in time that leaps."""
    caplog.set_level("INFO")
    rig.start()
    await rig.rested()
    await rig.quiet()
    caplog.clear()
    await vtn.stop()
    began, waits = rig.clock.now(), []
    while rig.clock.now() - began < timedelta(hours=24):
        await rig.turn()
        waits.append(rig.delay_s)
    assert len(caplog.records) == 1
    assert max(waits) <= 60
    assert min(waits[10:]) >= 30
    assert len({round(wait, 3) for wait in waits[10:]}) > 100  # jitter
    await vtn.start()
    await rig.turn()
    await rig.turn()
    said = [record.message for record in caplog.records if record.name.startswith("agent")]
    assert len(said) == 2
    assert "lost its VTN" in said[0]
    assert "is back after 86" in said[1]
    assert vtn.count("oadrCreatePartyRegistration") == 1


@pytest.fixture
async def member(vtn, rig):
    """A VEN in its program, with an event and a report under way."""
    vtn.events = (wire.event(),)
    vtn.report_requests = (wire.report_request(),)
    rig.samples(NOON, 4000)
    rig.start()
    await rig.rested()
    await rig.pass_time(12)
    await vtn.seen("oadrUpdateReport")
    return rig


def leave(rig: Rig) -> None:
    rig.departure = Departure(rig.clock.now(), "kim", "moving out")
    rig.ven.wake()


def come_back(rig: Rig) -> None:
    rig.departure = None
    rig.ven.wake()


def gated(gate: asyncio.Event, body: bytes):
    async def answer(request):
        await gate.wait()
        return web.Response(body=body, content_type="application/xml")

    return answer


async def test_leaving_ends_the_registration_and_everything_that_hangs_on_it(vtn, member):
    leave(member)
    told = await vtn.seen("oadrCancelPartyRegistration")
    assert told.service == "EiRegisterParty"
    assert (told.text("venID"), told.text("registrationID")) == ("ven-1", "reg-1")
    await until(lambda: member.registration.registration_id == "")
    await member.quiet()
    link = member.ven.link()
    assert not link.registered
    assert link.left == member.departure
    assert (link.trouble, link.lost_since, link.reports_waiting) == ("", None, 0)
    said = len(vtn.received)
    await member.pass_time(7200, 600)
    assert len(vtn.received) == said
    await member.restart()
    await member.pass_time(7200, 600)
    assert len(vtn.received) == said


async def test_a_ven_that_comes_back_registers_and_owes_nothing_for_its_time_away(vtn, member):
    leave(member)
    await until(lambda: member.registration.registration_id == "")
    await member.quiet()
    await member.pass_time(1800, 600)
    vtn.received.clear()
    come_back(member)
    await vtn.seen("oadrCreatePartyRegistration")
    await vtn.seen("oadrRequestEvent")
    await vtn.seen("oadrCreatedReport")
    await member.pass_time(12)
    await vtn.seen("oadrUpdateReport")
    assert member.ven.link().registered
    assert member.ven.link().left is None
    starts = [start for m in vtn.of("oadrUpdateReport") for _, start, _, _ in m.report_data]
    assert min(starts) >= "2026-07-01T12:30:00Z"
    assert {m.text("oadrReport", "reportRequestID") for m in vtn.of("oadrUpdateReport")} == {"rr-1"}
    assert vtn.count("oadrRegisterReport") == 1


async def test_a_vtn_that_is_down_is_told_later_that_we_left_also_after_our_restart(vtn, member):
    await vtn.stop()
    leave(member)
    await until(lambda: "does not know yet that we left" in member.ven.link().trouble)
    await member.turn()
    await member.restart()
    await member.turn()
    assert "does not know yet that we left" in member.ven.link().trouble
    assert member.ven.link().lost_since is None
    polls = vtn.count("oadrPoll")
    await vtn.start()
    await member.turn()
    await vtn.seen("oadrCancelPartyRegistration")
    await until(lambda: member.ven.link().trouble == "")
    await member.turn()
    assert vtn.count("oadrCancelPartyRegistration") == 1
    assert vtn.count("oadrPoll") == polls


@pytest.mark.parametrize(
    "answer",
    [
        wire.canceled_party_registration(452),
        wire.oadr_response(463),
        wire.oadr_response(),
        wire.request_reregistration(),
        b"",
        status(404),
    ],
)
async def test_a_vtn_that_has_no_registration_to_end_is_not_told_for_ever(vtn, member, answer):
    vtn.reply("oadrCancelPartyRegistration", answer)
    leave(member)
    await vtn.seen("oadrCancelPartyRegistration")
    await until(lambda: member.registration.registration_id == "")
    await member.turn()
    await member.turn()
    assert vtn.count("oadrCancelPartyRegistration") == 1
    assert vtn.count("oadrCreatePartyRegistration") == 1
    assert member.ven.link().trouble == ""


async def test_what_arrives_while_we_leave_is_not_taken_in(vtn, member):
    gate = asyncio.Event()
    vtn.reply("oadrPoll", gated(gate, wire.distribute_event(wire.event("late"))))
    polls = vtn.count("oadrPoll")
    member.clock.leap(member.delay_s)
    await vtn.seen("oadrPoll", polls + 1)
    leave(member)
    gate.set()
    await vtn.seen("oadrCancelPartyRegistration")
    await until(lambda: member.registration.registration_id == "")
    assert set(member.book.records) == {("ven", "ev-1")}
    assert member.ven.link().trouble == ""


async def test_coming_back_before_the_vtn_heard_that_we_left_registers_and_owes_nothing(
    vtn, member
):
    vtn.reply("oadrCancelPartyRegistration", *[status(500)] * 50)
    leave(member)
    await vtn.seen("oadrCancelPartyRegistration")
    await member.pass_time(1800, 600)
    vtn.received.clear()
    come_back(member)
    renewed = await vtn.seen("oadrCreatePartyRegistration")
    assert renewed.text("registrationID") == "reg-1"
    await vtn.seen("oadrCreatedReport")
    await member.pass_time(12)
    await vtn.seen("oadrUpdateReport")
    starts = [start for m in vtn.of("oadrUpdateReport") for _, start, _, _ in m.report_data]
    assert min(starts) >= "2026-07-01T12:30:00Z"
    assert member.ven.link().registered
    assert member.ven.link().trouble == ""


async def test_coming_back_while_the_vtn_is_being_told_that_we_left_registers_at_once(vtn, member):
    gate = asyncio.Event()
    vtn.reply("oadrCancelPartyRegistration", gated(gate, wire.canceled_party_registration()))
    leave(member)
    await vtn.seen("oadrCancelPartyRegistration")
    come_back(member)
    gate.set()
    await vtn.seen("oadrCreatePartyRegistration", 2)


async def test_leaving_and_coming_back_within_one_poll_asks_for_the_events_that_ended(vtn, member):
    gate = asyncio.Event()
    vtn.reply("oadrPoll", gated(gate, wire.oadr_response()))
    polls = vtn.count("oadrPoll")
    member.clock.leap(member.delay_s)
    await vtn.seen("oadrPoll", polls + 1)
    leave(member)
    member.book.put(cancelled(member.record(), member.clock.now()))  # as the console does
    come_back(member)
    gate.set()
    await member.turn()
    assert member.record().ended_by is None
    assert vtn.count("oadrCancelPartyRegistration") == 0


@pytest.mark.parametrize("name", ["ven_id", "registration_id", "vtn_id"])
async def test_a_registration_that_could_not_be_shown_is_none(vtn, rig, name, caplog):
    given = wire.created_party_registration(**{name: "x" * 100_000})
    vtn.reply("oadrCreatePartyRegistration", given)
    rig.start()
    await rig.rested()
    assert not rig.ven.link().registered
    assert max(len(record.getMessage()) for record in caplog.records) < 400
    await rig.turn()
    assert rig.ven.link().registered
