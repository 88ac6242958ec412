"""Being registered with a VTN: first, again, after restarts of either side."""

import asyncio
from datetime import timedelta

import pytest
from aiohttp import web

from agent.core.event import Ending
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
    assert kinds(vtn)[0] == "oadrCreatePartyRegistration"
    assert set(kinds(vtn)[1:]) == {"oadrPoll", "oadrRequestEvent", "oadrRegisterReport"}
    services = {message.kind: message.service for message in vtn.received}
    assert services == {
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
    vtn.reply("oadrPoll", wire.request_reregistration("somebody-else"))
    await rig.turn()
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
    await rig.turn()
    await vtn.seen("oadrCreatePartyRegistration", 2)
    assert vtn.of("oadrCreatePartyRegistration")[1].text("registrationID") is None
    await rig.rested()
    assert rig.ven.link().registered
    assert rig.record().ended_by is None


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
async def test_rule_55_the_poll_period_is_the_vtns(vtn, tmp_path, asked, ours_s, period_s):
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
