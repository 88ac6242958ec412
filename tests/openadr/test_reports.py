"""Telemetry: offered, requested, and each interval delivered once."""

import asyncio
import math
from datetime import timedelta

import pytest
from aiohttp import web

from agent.core.sample import Sample
from agent.core.site import MeterQuality
from agent.errors import StoreError, StoreFullError
from tests.clock import NOON
from tests.openadr import wire
from tests.openadr.rig import Rig, until
from tests.openadr.test_events import full_disk
from tests.openadr.vtn import ScriptedVtn

pytestmark = pytest.mark.openadr2

GOOD = "Quality Good - Non Specific"


def s(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def stamp(seconds: float) -> str:
    return wire.time(NOON + s(seconds))


def sent(vtn: ScriptedVtn, r_id: str = "site-power", request_id: str | None = None):
    """All data points that arrived: (start, value)."""
    return [
        (start, value)
        for message in vtn.of("oadrUpdateReport")
        if request_id in (None, message.text("oadrReport", "reportRequestID"))
        for name, start, value, _ in message.report_data
        if name == r_id
    ]


async def fail(request):
    return web.Response(status=500)


async def asked(vtn, rig, *requests: str) -> None:
    """Start the VEN and have the VTN ask for these reports with the offer."""
    vtn.report_requests = requests
    rig.start()
    await rig.rested()
    await vtn.seen("oadrCreatedReport")
    await rig.quiet()


async def test_v20_several_requests_are_taken_and_kept_apart(vtn, rig):
    """Two specifiers in one reply, each with its own rIDs."""
    await asked(
        vtn,
        rig,
        wire.report_request("u", "usage", ["site-power", "site-energy"], "PT1S", "PT5S"),
        wire.report_request("s", "status", ["site-status"], "PT5S", "PT5S"),
    )
    assert vtn.of("oadrCreatedReport")[0].pending == ["u", "s"]
    rig.samples(NOON, 60)
    await rig.pass_time(7)
    await vtn.seen("oadrUpdateReport", 2)
    power = [(stamp(n), str(1000 + n)) for n in range(5)]
    assert sent(vtn) == power
    assert [v for _, v in sent(vtn, "site-energy")] == [
        f"{(1000 + n) / 3600:.9g}" for n in range(5)
    ]
    assert sent(vtn, "site-status") == [(stamp(0), "true false")]
    specifiers = {m.text("oadrReport", "reportSpecifierID") for m in vtn.of("oadrUpdateReport")}
    assert specifiers == {"usage", "status"}


async def test_requests_are_also_taken_from_polls(vtn, rig):
    rig.start()
    await rig.rested()
    vtn.reply(
        "oadrPoll",
        wire.create_report(
            wire.report_request("good"),
            wire.report_request("bad", specifier="heat"),
            wire.report_request("faulty", granularity="often"),
        ),
    )
    await rig.turn()
    created = await vtn.seen("oadrCreatedReport")
    assert created.pending == ["good"]
    assert created.text("eiResponse", "responseCode") == "461"
    assert created.text("eiResponse", "requestID") == "create-1"
    assert [r.request_id for r in rig.registration.requests] == ["good"]
    assert rig.ven.link().rejected == 2


async def test_the_offer_is_repeated_when_the_vtn_asks_for_it(vtn, rig):
    rig.start()
    await rig.rested()
    await vtn.seen("oadrRegisterReport")
    metadata = wire.report_request("meta-1", "METADATA", ["METADATA"], "PT0S", "PT0S")
    vtn.reply("oadrPoll", wire.create_report(metadata))
    await rig.turn()
    offer = await vtn.seen("oadrRegisterReport", 2)
    assert offer.text("reportRequestID") == "meta-1"
    assert vtn.of("oadrCreatedReport")[0].text("eiResponse", "responseCode") == "200"
    await rig.turn()
    assert vtn.count("oadrRegisterReport") == 2


async def test_a_changed_offer_is_made_again_after_a_restart(vtn, rig):
    await asked(vtn, rig, wire.report_request("rr"))
    await rig.restart(report_min_s=5.0)
    await vtn.seen("oadrRegisterReport", 2)
    await rig.restart(resource="hall")
    await vtn.seen("oadrRegisterReport", 3)
    await until(lambda: rig.registration.requests == ())  # the points it named are gone


@pytest.mark.parametrize(
    ("granularity", "back", "count"),
    [("PT7S", "PT7S", 12), ("PT1M30S", "PT1M30S", 0), ("PT45S", "PT45S", 1), ("PT1S", "PT7S", 84)],
)
async def test_v21_v23_cadences_are_kept_without_overlap(vtn, rig, granularity, back, count):
    """7, 45 and 90 s have no cron line; windows do not overlap."""
    rig.clock.leap(7)  # not on any boundary
    await asked(vtn, rig, wire.report_request("rr", "usage", ["site-power"], granularity, back))
    rig.samples(NOON - s(200), 400)
    await rig.pass_time(90)
    await rig.clock.asleep(2)
    starts = [start for start, _ in sent(vtn)]
    assert len(starts) == len(set(starts))
    assert starts == sorted(starts)
    assert len(starts) >= count


async def test_sub_second_reports_are_sent_without_a_duration_the_schema_lacks(vtn, tmp_path):
    async with Rig(tmp_path, vtn.url, report_min_s=0.25) as rig:
        vtn.reply(
            "oadrPoll",
            wire.create_report(
                wire.report_request("rr", "usage", ["site-power"], "PT0.5S", "PT0.5S")
            ),
        )
        await rig.turn()
        await vtn.seen("oadrCreatedReport")
        rig.samples(NOON, 60)
        await rig.pass_time(5, 0.5)
        await until(lambda: len(sent(vtn)) >= 3)
        (start, value), *_ = sent(vtn)
        assert (start, value) == (stamp(0), "1000")
    message = vtn.of("oadrUpdateReport")[0]
    assert message.text("oadrReport", "intervals", "interval", "duration") is None


async def test_missing_samples_leave_usage_out_and_say_offline(vtn, rig):
    """V22: what one sensor lacks costs only its own intervals."""
    await asked(
        vtn,
        rig,
        wire.report_request("u", "usage", ["site-power"], "PT1S", "PT6S"),
        wire.report_request("s", "status", ["site-status"], "PT1S", "PT6S"),
    )
    rig.history.add(
        [
            Sample(NOON, 1000.0, MeterQuality.GOOD),
            Sample(NOON + s(1), None, MeterQuality.BAD),
            Sample(NOON + s(2), math.inf, MeterQuality.GOOD),
            # nothing at 3 s
            Sample(NOON + s(4), 900.0, MeterQuality.ESTIMATED, override=True),
            Sample(NOON + s(5), 800.0, MeterQuality.GOOD),
            Sample(NOON + s(6), 700.0, MeterQuality.GOOD),
        ]
    )
    await rig.pass_time(8)
    await vtn.seen("oadrUpdateReport", 2)
    data = [d for m in vtn.of("oadrUpdateReport") for d in m.report_data]
    assert [d[1:] for d in data if d[0] == "site-power"] == [
        (stamp(0), "1000", GOOD),
        (stamp(4), "900", "Quality Uncertain - Non Specific"),
        (stamp(5), "800", GOOD),
    ]
    assert [d[2] for d in data if d[0] == "site-status"] == [
        "true false",
        "false false",
        "false false",
        "false false",
        "true true",
        "true false",
    ]


async def test_samples_that_are_late_are_awaited(vtn, rig):
    """While the disk is full, samples are written later; they are not missing."""
    await asked(vtn, rig, wire.report_request("rr", "usage", ["site-power"], "PT1S", "PT5S"))
    await rig.pass_time(30)
    assert sent(vtn) == []
    assert rig.ven.link().reports_waiting == 25
    rig.samples(NOON, 32)
    await rig.pass_time(1)
    assert sent(vtn) == [(stamp(n), str(1000 + n)) for n in range(30)]


async def test_samples_that_never_come_are_not_awaited_for_ever(vtn, rig):
    await asked(vtn, rig, wire.report_request("s", "status", ["site-status"], "PT5M", "PT5M"))
    await rig.turn(0.1 + 300)
    assert vtn.count("oadrUpdateReport") == 0
    await rig.pass_time(920, 5)
    await until(lambda: sent(vtn, "site-status") == [(stamp(0), "false false")])


async def test_an_outage_of_hours_is_caught_up_in_order_each_interval_once(vtn, rig):
    """V2: telemetry of an outage is not lost; V3: nor sent twice."""
    await asked(
        vtn, rig, wire.report_request("rr", "usage", ["site-power", "site-energy"], "PT1S", "PT10S")
    )
    rig.samples(NOON, 8000)
    await rig.pass_time(12)
    await until(lambda: len(sent(vtn)) >= 10)
    await vtn.stop()
    for _ in range(3):
        rig.clock.leap(2400)
        await rig.clock.asleep(2)
    assert rig.ven.link().reports_waiting > 7000
    await vtn.start()
    await rig.pass_time(100)
    assert rig.ven.link().reports_waiting == 0
    assert sent(vtn)[:7310] == [(stamp(n), str(1000 + n)) for n in range(7310)]
    assert all(len(m.report_data) <= 600 for m in vtn.of("oadrUpdateReport"))


async def test_catching_up_begins_as_soon_as_polling_finds_the_vtn_again(vtn, rig):
    await asked(vtn, rig, wire.report_request("rr", "usage", ["site-power"], "PT1S", "PT10S"))
    rig.samples(NOON, 900)
    await vtn.stop()
    await rig.pass_time(200)
    await vtn.start()
    while rig.ven.link().lost_since is not None:
        await rig.pass_time(1)
    assert rig.ven.link().reports_waiting == 0


async def test_polls_go_on_during_the_catching_up(vtn, rig):
    """Poll is never delayed by report sending."""
    await asked(vtn, rig, wire.report_request("rr", "usage", ["site-power"], "PT1S", "PT10S"))
    rig.samples(NOON, 60)
    gate = asyncio.Event()

    async def slow(request):
        await gate.wait()
        return web.Response(body=wire.updated_report(), content_type="application/xml")

    vtn.reply("oadrUpdateReport", slow)
    await rig.clock.asleep(2)
    rig.clock.leap(12)
    await vtn.seen("oadrUpdateReport")
    polls = vtn.count("oadrPoll")
    for _ in range(3):
        rig.clock.leap(10)
        await vtn.seen("oadrPoll", polls + 1)
        polls += 1
        await rig.clock.asleep()
    gate.set()


async def test_our_restart_sends_what_was_not_acknowledged_and_nothing_twice(vtn, rig):
    await asked(vtn, rig, wire.report_request("rr", "usage", ["site-power"], "PT1S", "PT10S"))
    rig.samples(NOON, 200)
    await rig.pass_time(12)
    await until(lambda: len(sent(vtn)) == 10 or len(sent(vtn)) == 11)
    await until(lambda: rig.registration.requests[0].sent_through > NOON)
    vtn.reply("oadrUpdateReport", fail)
    before = vtn.count("oadrUpdateReport")
    rig.clock.leap(12)
    await vtn.seen("oadrUpdateReport", before + 1)
    lost = len(vtn.of("oadrUpdateReport")[-1].report_data)
    arrived = len(sent(vtn)) - lost
    await rig.restart()
    await vtn.seen("oadrUpdateReport", before + 2)
    assert sent(vtn)[:arrived] == [(stamp(n), str(1000 + n)) for n in range(arrived)]
    assert sent(vtn)[arrived + lost][0] == stamp(arrived)
    assert vtn.count("oadrCreatePartyRegistration") == 1
    assert vtn.count("oadrRegisterReport") == 1


async def test_v3_after_a_new_registration_the_new_request_goes_on_where_the_old_one_was(vtn, rig):
    """No duplicate report jobs, and no gap."""
    await asked(vtn, rig, wire.report_request("old", "usage", ["site-power"], "PT1S", "PT10S"))
    rig.samples(NOON, 400)
    await rig.pass_time(12)
    await until(lambda: len(sent(vtn)) >= 10)
    vtn.report_requests = (wire.report_request("new", "usage", ["site-power"], "PT1S", "PT10S"),)
    vtn.reply("oadrPoll", wire.request_reregistration())
    await rig.pass_time(60)
    await until(lambda: sent(vtn, request_id="new"))
    assert sent(vtn) == [(stamp(n), str(1000 + n)) for n in range(len(sent(vtn)))]
    assert [r.request_id for r in rig.registration.requests] == ["new"]
    old, new = sent(vtn, request_id="old"), sent(vtn, request_id="new")
    assert sent(vtn) == old + new


async def test_a_request_that_comes_later_by_poll_takes_over_too(vtn, rig):
    await asked(vtn, rig, wire.report_request("old", "usage", ["site-power"], "PT1S", "PT10S"))
    rig.samples(NOON, 400)
    await rig.pass_time(12)
    await until(lambda: len(sent(vtn)) >= 10)
    vtn.report_requests = ()
    vtn.reply("oadrPoll", wire.oadr_response(463))
    await rig.pass_time(30)
    assert sent(vtn, request_id="old") == sent(vtn)
    vtn.reply(
        "oadrPoll",
        wire.create_report(wire.report_request("new", "usage", ["site-power"], "PT1S", "PT10S")),
    )
    await rig.pass_time(30)
    await until(lambda: sent(vtn, request_id="new"))
    assert sent(vtn) == [(stamp(n), str(1000 + n)) for n in range(len(sent(vtn)))]


async def test_a_cancelled_report_stops(vtn, rig):
    await asked(
        vtn, rig, wire.report_request("a"), wire.report_request("b", "status", ["site-status"])
    )
    vtn.reply("oadrPoll", wire.cancel_report("a"), wire.cancel_report("a"))
    await rig.turn()
    first, second = vtn.of("oadrCanceledReport")
    assert first.pending == ["b"]
    assert first.text("eiResponse", "responseCode") == "200"
    assert second.text("eiResponse", "responseCode") == "452"  # not known any more
    assert [r.request_id for r in rig.registration.requests] == ["b"]


async def test_a_report_to_follow_a_cancellation_follows(vtn, rig):
    await asked(vtn, rig, wire.report_request("rr", "usage", ["site-power"], "PT4S", "PT1H"))
    rig.samples(NOON, 60)
    vtn.reply("oadrPoll", wire.cancel_report("rr", follow=True))
    await rig.turn()
    await vtn.seen("oadrCanceledReport")
    await rig.pass_time(2)
    last = await vtn.seen("oadrUpdateReport")
    # two whole intervals, and the rest up to the cancellation
    assert [start for _, start, _, _ in last.report_data] == [stamp(0), stamp(4), stamp(8)]
    await until(lambda: rig.registration.requests == ())


async def test_v26_a_cancellation_that_comes_with_an_acknowledgement_counts(vtn, rig):
    await asked(vtn, rig, wire.report_request("rr", "usage", ["site-power"], "PT1S", "PT5S"))
    rig.samples(NOON, 60)
    vtn.reply("oadrUpdateReport", wire.updated_report(cancel=["rr"]))
    await rig.pass_time(7)
    await vtn.seen("oadrUpdateReport")
    await until(lambda: rig.registration.requests == ())
    assert vtn.count("oadrCanceledReport") == 0


@pytest.mark.parametrize("samples", [0, 60])
async def test_a_one_shot_request_gets_one_report_whatever_there_is(vtn, rig, samples):
    rig.samples(NOON - s(59), samples)
    await asked(vtn, rig, wire.report_request("rr", "usage", ["site-power"], "PT0S", "PT0S"))
    if not samples:
        await rig.pass_time(920, 10)
    else:
        rig.samples(NOON + s(1), 5)
        await rig.pass_time(3)
    report = await vtn.seen("oadrUpdateReport")
    ((_, start, value, quality),) = report.report_data
    assert start == stamp(-10)
    expected = (str(1000 + (49 + 58) / 2), GOOD) if samples else ("0", "No Quality - No Value")
    assert (value, quality) == expected
    await until(lambda: rig.registration.requests == ())


async def test_a_request_for_the_past_is_served_from_the_history(vtn, rig):
    """2.0b rule 510: at least 100 stored data points."""
    rig.samples(NOON - s(600), 620)
    await asked(
        vtn,
        rig,
        wire.report_request(
            "rr", "usage", ["site-power"], "PT1S", "PT0S", stamp(-500).replace("Z", ""), "PT5M"
        ),
    )
    await rig.pass_time(3)
    await until(lambda: len(sent(vtn)) == 300)
    assert sent(vtn)[0] == (stamp(-500), "1100")
    assert sent(vtn)[-1] == (stamp(-201), "1399")


async def test_a_report_that_is_refused_does_not_hold_up_the_others(vtn, rig):
    await asked(
        vtn,
        rig,
        wire.report_request("poison", "usage", ["site-power"], "PT1S", "PT5S"),
        wire.report_request("sound", "status", ["site-status"], "PT1S", "PT5S"),
    )
    rig.samples(NOON, 900)

    async def judge(request):
        refused = b">poison<" in await request.read()
        body = wire.updated_report(454 if refused else 200)
        return web.Response(body=body, content_type="application/xml")

    vtn.reply("oadrUpdateReport", *[judge] * 200)
    await rig.pass_time(30)
    await until(lambda: len(sent(vtn, "site-status")) >= 10)
    assert "reports do not arrive: the VTN refused report 'poison'" in rig.ven.link().trouble
    starts = [start for start, _ in sent(vtn, "site-status")]
    assert starts == [stamp(n) for n in range(len(starts))]
    assert {start for start, _ in sent(vtn)} >= {stamp(0)}
    vtn.script.clear()
    await rig.pass_time(70)
    await until(lambda: rig.ven.link().trouble == "")


@pytest.mark.parametrize("code", [452, 461])
async def test_issue_186_a_vtn_that_lost_a_request_is_offered_our_reports_again(vtn, rig, code):
    await asked(vtn, rig, wire.report_request("old", "usage", ["site-power"], "PT1S", "PT5S"))
    rig.samples(NOON, 900)
    vtn.reply("oadrUpdateReport", wire.updated_report(code))
    vtn.report_requests = (wire.report_request("new", "usage", ["site-power"], "PT1S", "PT5S"),)
    await rig.pass_time(20)
    await vtn.seen("oadrRegisterReport", 2)
    await until(lambda: sent(vtn, request_id="new"))
    new = sent(vtn, request_id="new")
    assert new == [(stamp(n), str(1000 + n)) for n in range(len(new))]


async def test_an_empty_acknowledgement_is_none(vtn, rig):
    """V6, for reports: what was not acknowledged is sent again."""
    await asked(vtn, rig, wire.report_request("rr", "usage", ["site-power"], "PT1S", "PT5S"))
    rig.samples(NOON, 900)
    vtn.reply("oadrUpdateReport", b"")
    await rig.pass_time(15)
    await vtn.seen("oadrUpdateReport", 2)
    first, second, *_ = vtn.of("oadrUpdateReport")
    assert second.report_data[: len(first.report_data)] == first.report_data


async def test_reports_that_alone_fail_are_named(vtn, rig):
    await asked(vtn, rig, wire.report_request("rr", "usage", ["site-power"], "PT1S", "PT5S"))
    rig.samples(NOON, 900)
    vtn.reply("oadrUpdateReport", *[fail] * 20)
    await rig.pass_time(30)
    link = rig.ven.link()
    assert link.lost_since is None
    assert "reports do not arrive" in link.trouble
    assert "HTTP 500" in link.trouble


async def test_a_full_disk_stops_no_report(vtn, rig):
    await asked(vtn, rig, wire.report_request("rr", "usage", ["site-power"], "PT1S", "PT5S"))
    rig.samples(NOON, 900)
    with full_disk(rig):
        await rig.pass_time(20)
        await until(lambda: len(sent(vtn)) >= 15)
        assert "disk is full" in rig.ven.link().trouble
    await rig.pass_time(12)
    assert rig.ven.link().trouble == ""
    starts = [start for start, _ in sent(vtn)]
    assert starts == [stamp(n) for n in range(len(starts))]
    await until(lambda: rig.registration.requests[0].sent_through > NOON + s(20))


async def test_a_history_that_cannot_be_read_is_named_and_read_later(vtn, rig, monkeypatch):
    await asked(vtn, rig, wire.report_request("rr", "usage", ["site-power"], "PT1S", "PT5S"))
    rig.samples(NOON, 900)

    def broken(*_):
        raise StoreFullError("history.db cannot be read")

    with monkeypatch.context() as patch:
        patch.setattr(rig.history, "points", broken)
        await rig.pass_time(8)
        assert "history.db cannot be read" in rig.ven.link().trouble
    await rig.pass_time(8)
    await until(lambda: sent(vtn))
    assert sent(vtn)[0] == (stamp(0), "1000")
    assert rig.ven.link().trouble == ""


async def test_a_stretch_that_cannot_be_read_holds_up_no_other_report(vtn, rig, monkeypatch):
    points = rig.history.points

    def broken(start, end, grain):
        if grain == s(2):
            raise StoreError("history.db cannot be read")
        return points(start, end, grain)

    monkeypatch.setattr(rig.history, "points", broken)
    await asked(
        vtn,
        rig,
        wire.report_request("unreadable", "usage", ["site-power"], "PT2S", "PT10S"),
        wire.report_request("rr", "usage", ["site-power"], "PT1S", "PT10S"),
    )
    rig.samples(NOON, 900)
    await rig.pass_time(40)
    await until(lambda: len(sent(vtn)) >= 30)
    assert "history.db cannot be read" in rig.ven.link().trouble


async def test_what_may_have_arrived_is_repeated_as_it_was_also_under_a_new_registration(vtn, rig):
    """Under one eiReportID there is one report, or a VTN that knows the id drops what is new in it."""
    await asked(vtn, rig, wire.report_request("rr", "usage", ["site-power"], "PT1S", "PT10S"))
    rig.samples(NOON, 400)
    vtn.reply("oadrUpdateReport", *[fail] * 9)
    await rig.pass_time(12)
    await vtn.seen("oadrUpdateReport")
    vtn.reply("oadrPoll", wire.request_reregistration())
    rig.clock.leap(60)
    await rig.quiet()
    vtn.script.clear()
    await rig.pass_time(30)
    assert vtn.count("oadrCreatePartyRegistration") == 2
    reports = {}
    for report in vtn.of("oadrUpdateReport"):
        report_id = report.text("oadrReport", "eiReportID")
        assert reports.setdefault(report_id, report.report_data) == report.report_data
    starts = [start for data in reports.values() for _, start, _, _ in data]
    assert starts == [stamp(n) for n in range(len(starts))]
    assert len(starts) >= 60


async def test_no_vtn_can_ask_for_any_number_of_reports(vtn, rig):
    rig.start()
    await rig.rested()
    many = [wire.report_request(f"rr-{n}", "status", ["site-status"], "PT1H") for n in range(100)]
    vtn.reply("oadrPoll", wire.create_report(*many))
    await rig.turn()
    created = await vtn.seen("oadrCreatedReport")
    assert len(created.pending) == 64
    assert created.text("eiResponse", "responseCode") == "451"


async def test_the_same_report_asked_for_under_two_ids_comes_under_both(vtn, rig):
    await asked(
        vtn,
        rig,
        wire.report_request("a", "usage", ["site-power"], "PT1S", "PT5S"),
        wire.report_request("b", "usage", ["site-power"], "PT1S", "PT5S"),
    )
    assert vtn.of("oadrCreatedReport")[0].pending == ["a", "b"]
    rig.samples(NOON, 60)
    await rig.pass_time(12)
    power = [(stamp(n), str(1000 + n)) for n in range(10)]
    assert sent(vtn, request_id="a") == power
    assert sent(vtn, request_id="b") == power


async def test_gpus_are_a_resource_of_their_own(vtn, rig):
    """Its status is its own, too: offline where not every GPU could be read."""
    await asked(
        vtn,
        rig,
        wire.report_request("u", "usage", ["gpus-power", "gpus-energy"], "PT2S", "PT2S"),
        wire.report_request("s", "status", ["site-status", "gpus-status"], "PT2S", "PT2S"),
    )
    rig.samples(NOON, 2, gpus_w=720.0)
    rig.samples(NOON + s(2), 2)
    rig.samples(NOON + s(4), 2, gpus_w=720.0)
    await rig.pass_time(6)
    assert sent(vtn, "gpus-power") == [(stamp(0), "720")]
    assert sent(vtn, "gpus-energy") == [(stamp(0), "0.4")]
    assert sent(vtn, "gpus-status") == [(stamp(0), "true false"), (stamp(2), "false false")]
    assert sent(vtn, "site-status") == [(stamp(0), "true false"), (stamp(2), "true false")]


async def test_every_report_has_an_id_of_its_own_also_below_a_second(vtn, tmp_path):
    async with Rig(tmp_path, vtn.url, report_min_s=0.25) as rig:
        request = wire.report_request("rr", "usage", ["site-power"], "PT0.5S", "PT0.5S")
        vtn.reply("oadrPoll", wire.create_report(request))
        await rig.turn()
        await vtn.seen("oadrCreatedReport")
        rig.samples(NOON, 60)
        await rig.pass_time(5, 0.5)
        messages = vtn.of("oadrUpdateReport")
        ids = {m.text("oadrReport", "eiReportID") for m in messages}
        assert len(ids) == len(messages) > 2
        # Half of the intervals have no sample of their own.
        qualities = {q for m in messages for *_, q in m.report_data}
        assert qualities == {GOOD, "No New Value - Previous Value Used"}


async def test_a_vtn_hears_that_a_report_is_to_come_before_it_comes(vtn, rig):
    rig.samples(NOON - s(60), 90)
    rig.start()
    await rig.rested()
    now = wire.report_request("now", "usage", ["site-power"], "PT0S", "PT0S")
    vtn.reply("oadrPoll", wire.create_report(now))
    await rig.turn()
    await rig.pass_time(2)
    await vtn.seen("oadrUpdateReport")
    kinds = [message.kind for message in vtn.received]
    assert kinds.index("oadrCreatedReport") < kinds.index("oadrUpdateReport")


async def test_catching_up_is_paced_and_holds_up_no_fresh_report(vtn, rig):
    """One message of each request a second, however far behind one is."""
    past = wire.report_request(
        "past", "history", ["site-power-history"], "PT1S", "PT0S", stamp(-7200), "PT2H"
    )
    fresh = wire.report_request("fresh", "usage", ["site-power"], "PT2S", "PT2S")
    rig.samples(NOON - s(7200), 7250)
    await asked(vtn, rig, past, fresh)
    for second in range(1, 11):
        await rig.pass_time(1)
        ids = [m.text("oadrReport", "reportRequestID") for m in vtn.of("oadrUpdateReport")]
        assert ids.count("past") <= second + 1
        assert ids.count("fresh") == second // 2
        assert rig.ven.link().reports_waiting >= 7200 - 600 * ids.count("past")
    await rig.pass_time(6)
    starts = [start for start, _ in sent(vtn, "site-power-history")]
    assert starts == [stamp(n) for n in range(-7200, 0)]


async def test_a_report_that_is_refused_is_tried_ever_more_rarely_and_the_others_are_on_time(
    vtn, rig
):
    await asked(
        vtn,
        rig,
        wire.report_request("poison", "usage", ["site-power"], "PT1S", "PT5S"),
        wire.report_request("sound", "status", ["site-status"], "PT5S", "PT5S"),
    )
    rig.samples(NOON, 900)

    async def judge(request):
        if b">poison<" in await request.read():
            return web.Response(status=500)
        return web.Response(body=wire.updated_report(), content_type="application/xml")

    vtn.reply("oadrUpdateReport", *[judge] * 500)
    await rig.pass_time(302)
    of_poison = [m for m in vtn.of("oadrUpdateReport") if m.report_data[0][0] == "site-power"]
    assert len(sent(vtn, "site-status")) == 60
    assert 5 < len(of_poison) < 20
    assert len({m.text("oadrReport", "eiReportID") for m in of_poison}) == 1
    assert len({tuple(m.report_data) for m in of_poison}) == 1  # as it was, each time
    vtn.reply("oadrPoll", wire.cancel_report("poison"))
    await rig.pass_time(12)
    assert rig.ven.link().trouble == ""


async def test_what_a_poll_cancels_amid_a_round_is_not_sent_any_more(vtn, rig):
    await asked(
        vtn,
        rig,
        wire.report_request("a", "usage", ["site-power"], "PT1S", "PT20S"),
        wire.report_request("b", "status", ["site-status"], "PT1S", "PT20S"),
    )
    rig.samples(NOON, 60)
    gate = asyncio.Event()

    async def slow(request):
        await gate.wait()
        return web.Response(body=wire.updated_report(), content_type="application/xml")

    vtn.reply("oadrUpdateReport", slow)
    rig.clock.leap(22)
    await vtn.seen("oadrUpdateReport")
    vtn.reply("oadrPoll", wire.cancel_report("b"))
    rig.clock.leap(10)
    await vtn.seen("oadrCanceledReport")
    gate.set()
    await rig.pass_time(3)
    assert sent(vtn, "site-status") == []
    assert len(sent(vtn)) == 20
