"""Polling through outages, queues and hostile answers."""

import asyncio
import logging
import time

import pytest
from aiohttp import web

from tests.clock import NOON
from tests.openadr import wire
from tests.openadr.rig import Rig, until
from tests.openadr.test_xml import LAUGHS, SEGFAULT

pytestmark = pytest.mark.openadr2


async def test_the_queue_is_drained_at_once(vtn, running_rig):
    """2.0b: poll until oadrResponse; openleadr 0.5.36 takes a poll period for each message."""
    polls = vtn.count("oadrPoll")
    vtn.reply(
        "oadrPoll",
        wire.distribute_event(wire.event("a")),
        wire.create_report(wire.report_request("rr-9")),
        wire.register_report(),
        wire.distribute_event(wire.event("a"), wire.event("b")),
        wire.cancel_report("rr-9"),
    )
    await running_rig.turn()
    assert vtn.count("oadrPoll") == polls + 6
    assert set(running_rig.book.records) == {("ven", "a"), ("ven", "b")}
    assert vtn.of("oadrCreatedReport")[-1].pending == ["rr-9"]
    assert vtn.of("oadrCanceledReport")[-1].pending == []
    assert vtn.of("oadrRegisteredReport")[-1].text("eiResponse", "requestID") == "offer-1"


async def test_a_vtn_that_repeats_its_list_for_ever_does_not_keep_us_polling(vtn, running_rig):
    polls = vtn.count("oadrPoll")
    vtn.reply("oadrPoll", *[wire.distribute_event(wire.event("a"))] * 40)
    await running_rig.turn()
    assert vtn.count("oadrPoll") == polls + 3
    await running_rig.turn()
    assert vtn.count("oadrPoll") == polls + 5


async def test_a_vtn_that_never_runs_out_is_left_after_a_while(vtn, running_rig):
    endless = (wire.create_report(wire.report_request(f"rr-{n}")) for n in range(200))
    vtn.reply("oadrPoll", *endless)
    polls = vtn.count("oadrPoll")
    await running_rig.turn()
    assert vtn.count("oadrPoll") == polls + 50


async def test_messages_that_are_none_for_a_ven_are_passed_over(vtn, running_rig):
    vtn.reply(
        "oadrPoll",
        wire.payload("<oadr:oadrBrewCoffee/>"),
        wire.distribute_event(wire.event("a")),
        wire.updated_report(),
    )
    await running_rig.turn()
    assert ("ven", "a") in running_rig.book.records
    assert running_rig.ven.link().rejected == 2


async def hang(request):
    await asyncio.sleep(30)


async def cut(request):
    request.transport.close()


async def trickle(request):
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(3000):
        await response.write(b" ")
        await asyncio.sleep(0.01)


async def fail(request):
    return web.Response(status=500, text="<html>Traceback")


HOSTILE = {
    "empty": b"",  # V6
    "blank": b" \n",
    "not XML": b"Service temporarily unavailable",
    "HTML": b"<html><body>Login</body></html>",
    "JSON": b"{}",
    "not UTF-8": b"<a>\xff\xfe</a>",
    "truncated": wire.distribute_event(wire.event())[:-50],
    "oversized": b"<a>" + b"x" * 3_000_000 + b"</a>",  # V8
    "entity": SEGFAULT,  # V9
    "laughs": LAUGHS,
    "no content": wire.payload(""),
    "no code": wire.oadr_response().replace(b"<ei:responseCode>200</ei:responseCode>", b""),
    "refusal": wire.oadr_response(469, "database down"),
    "hanging": hang,  # V7
    "trickling": trickle,  # V7
    "cut off": cut,
    "HTTP 500": fail,
}


@pytest.mark.parametrize("what", HOSTILE)
async def test_hostile_answers_are_survived_and_named(vtn, tmp_path, what, caplog):
    async with Rig(tmp_path, vtn.url, timeout_s=1.0) as rig:
        await rig.rested()
        vtn.events = (wire.event("ev-1"),)
        vtn.reply("oadrPoll", HOSTILE[what])
        before = time.monotonic()
        await rig.turn()
        assert time.monotonic() - before < 10
        link = rig.ven.link()
        assert link.lost_since == rig.clock.now()
        assert link.trouble
        assert "\n" not in link.trouble
        await rig.turn(10)
        link = rig.ven.link()
        assert (link.lost_since, link.trouble) == (None, "")
        assert rig.record().ended_by is None  # asked for after the outage, and found
        assert [r.levelname for r in caplog.records if "lost its VTN" in r.message] == ["WARNING"]


async def test_whoever_answers_uselessly_is_not_polled_more_often_than_asked_for(vtn, running_rig):
    vtn.reply("oadrPoll", b"nonsense")
    await running_rig.turn()
    assert running_rig.delay_s == 10


async def test_back_off_doubles_with_jitter_up_to_a_minute_and_starts_over(vtn, running_rig):
    await vtn.stop()
    waits = []
    for _ in range(12):
        await running_rig.turn()
        waits.append(running_rig.delay_s)
    for wait, base in zip(waits, [1, 2, 4, 8, 16, 32] + [60] * 6, strict=True):
        assert base / 2 <= wait <= base
    assert len(set(waits)) == len(waits)
    await vtn.start()
    await running_rig.turn()
    assert running_rig.delay_s == 10
    await vtn.stop()
    await running_rig.turn()
    assert running_rig.delay_s <= 1


async def test_back_off_goes_no_further_than_a_poll_period_that_is_longer(vtn, tmp_path):
    vtn.reply("oadrCreatePartyRegistration", wire.created_party_registration(poll="PT5M"))
    async with Rig(tmp_path, vtn.url) as rig:
        await rig.rested()
        await vtn.stop()
        for _ in range(12):
            await rig.turn()
        assert 150 <= rig.delay_s <= 300


async def test_v8_retry_after_is_honoured(vtn, running_rig):
    async def busy(request):
        return web.Response(status=503, headers={"Retry-After": "300"})

    vtn.reply("oadrPoll", busy)
    await running_rig.turn()
    assert running_rig.delay_s == 300


async def test_an_outage_is_one_line_when_it_begins_and_one_when_it_ends(vtn, running_rig, caplog):
    caplog.set_level(logging.INFO)
    vtn.report_requests = (wire.report_request(),)
    await vtn.stop()
    away_s = 0.0
    for _ in range(9):
        away_s += running_rig.delay_s if _ else 0
        await running_rig.turn()
    away_s += running_rig.delay_s
    assert running_rig.ven.link().lost_since is not None
    await vtn.start()
    await running_rig.turn()
    lines = [(r.levelname, r.message) for r in caplog.records if r.name.startswith("agent")]
    assert [level for level, _ in lines] == ["WARNING", "INFO"]
    assert "lost its VTN" in lines[0][1]
    assert f"is back after {away_s:.0f} s" in lines[1][1]


async def test_v2_events_of_an_outage_are_there_after_it(vtn, running_rig):
    await vtn.stop()
    for _ in range(3):
        await running_rig.turn()
    vtn.events = (wire.event("made meanwhile"),)
    await vtn.start()
    await running_rig.turn()
    await until(lambda: ("ven", "made meanwhile") in running_rig.book.records)


async def test_an_answer_that_does_not_arrive_is_given_again_before_the_next_poll(vtn, running_rig):
    vtn.reply("oadrPoll", wire.distribute_event(wire.event()))
    vtn.reply("oadrCreatedEvent", fail, fail)
    vtn.events = (wire.event(),)
    await running_rig.turn()
    assert running_rig.record().ended_by is None  # stored all the same
    link = running_rig.ven.link()
    assert link.lost_since is None  # polling works
    assert "not everything reaches the VTN" in link.trouble
    polls = vtn.count("oadrPoll")
    await running_rig.pass_time(2)
    assert vtn.count("oadrPoll") == polls
    assert vtn.of("oadrCreatedEvent")[-1].event_answers["ev-1"][:2] == (200, "optIn")
    assert running_rig.ven.link().trouble == ""
    answers = vtn.count("oadrCreatedEvent")
    await running_rig.turn()
    assert vtn.count("oadrCreatedEvent") == answers


async def test_polling_goes_on_though_another_service_fails(vtn, running_rig):
    vtn.reply("oadrRequestEvent", *[fail] * 50)
    vtn.reply("oadrCreatedReport", *[fail] * 50)
    vtn.reply("oadrPoll", fail)
    await running_rig.turn()
    vtn.reply(
        "oadrPoll",
        wire.create_report(wire.report_request()),
        wire.distribute_event(wire.event()),
    )
    await running_rig.turn()
    assert ("ven", "ev-1") in running_rig.book.records
    assert running_rig.ven.link().lost_since is None
    assert "HTTP 500" in running_rig.ven.link().trouble
    await running_rig.turn(10)
    assert running_rig.delay_s == 10
    vtn.script.clear()
    vtn.events = (wire.event(),)
    await running_rig.pass_time(61)
    assert running_rig.ven.link().trouble == ""


async def test_a_slow_site_does_not_delay_polls(vtn, tmp_path):
    """V10, issue #104: nothing in a poll waits for what an event sets off."""
    async with Rig(tmp_path, vtn.url) as rig:
        began = []
        rig.on_intake = lambda intakes: began.append(asyncio.create_task(asyncio.sleep(60)))
        vtn.events = (wire.event(),)
        await rig.rested()
        await rig.turn()
        assert began
        assert vtn.count("oadrPoll") >= 2
        for task in began:
            task.cancel()


async def test_a_fault_of_ours_is_logged_once_named_and_outlived(vtn, rig, caplog):
    def broken(intakes):
        raise RuntimeError("the cycle is not there")

    rig.on_intake = broken
    rig.start()
    await rig.rested()
    for number in range(3):
        vtn.events = (wire.event("a", number),)
        vtn.reply("oadrPoll", wire.distribute_event(*vtn.events))
        while not rig.ven.link().trouble:
            await rig.clock.asleep()
            rig.clock.leap(61)
            await until(lambda: rig.ven.link().trouble or rig.waits("polling"))
        assert "the cycle is not there" in rig.ven.link().trouble
        await rig.clock.asleep()
        rig.clock.leap(61)
        await until(lambda: rig.ven.link().trouble == "")
    faults = [r for r in caplog.records if r.exc_info]
    assert len(faults) == 1
    assert rig.record("a").event.revision == 2
    assert rig.record("a").ended_by is None


async def test_the_vtns_clock_is_witnessed(vtn, running_rig):
    vtn.headers["Date"] = "Wed, 01 Jul 2026 12:00:03 GMT"
    await running_rig.turn()
    assert (running_rig.clock.witnessed[-1] - NOON).total_seconds() == 3


async def test_stopping_leaves_no_task_and_no_connection(vtn, rig, recwarn):
    rig.start()
    await rig.rested()
    before = len(asyncio.all_tasks())
    await rig.stop()
    assert len(asyncio.all_tasks()) < before
    assert not recwarn.list
    rig._open()


async def test_v32_the_hosts_time_zone_is_nobodys_business(vtn, rig, monkeypatch):
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        rig.samples(NOON, 60)
        vtn.report_requests = (wire.report_request("rr", "usage", ["site-power"], "PT1S", "PT5S"),)
        rig.start()
        await rig.pass_time(7)
    finally:
        monkeypatch.undo()
        time.tzset()
    start, *_ = [start for _, start, _, _ in vtn.of("oadrUpdateReport")[0].report_data]
    assert start == "2026-07-01T12:00:00Z"
    assert (
        vtn.of("oadrUpdateReport")[0]
        .text("oadrReport", "createdDateTime")
        .startswith("2026-07-01T12:")
    )


@pytest.mark.parametrize(
    "message", [wire.register_report(), wire.create_report(wire.report_request())]
)
async def test_a_vtn_that_answers_every_poll_alike_is_not_polled_on_and_on(
    vtn, running_rig, message
):
    polls = vtn.count("oadrPoll")
    vtn.reply("oadrPoll", *[message] * 100)
    await running_rig.turn()
    assert vtn.count("oadrPoll") - polls == 3
    assert running_rig.delay_s == pytest.approx(10)
