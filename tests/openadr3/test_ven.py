"""The VEN against a scripted VTN of either version: enrolment, events, opts and reports."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta

import pytest
from aiohttp import web

from agent.core.event import BY_POLICY, Baseline, Ending, Opt, OptDecision
from agent.core.intake import Verdict
from agent.core.lifecycle import opted_in, opted_out
from agent.core.outlook import Outlook
from agent.core.timeline import Timeline
from agent.openadr.iso8601 import format_time
from tests.clock import NOON
from tests.openadr3.vtn import problem

pytestmark = pytest.mark.openadr3


def period(start_s=0, duration="PT1H", **more):
    return {"start": format_time(NOON + timedelta(seconds=start_s)), "duration": duration, **more}


def simple(vtn, *levels, event_id="ev-1", start_s=0, duration="PT1H", modified_s=0, **fields):
    """An event of hours with SIMPLE levels."""
    return vtn.event(
        event_id,
        intervalPeriod=period(start_s, duration),
        intervals=[
            {"id": n, "payloads": [{"type": "SIMPLE", "values": [level]}]}
            for n, level in enumerate(levels)
        ],
        modificationDateTime=format_time(NOON + timedelta(seconds=modified_s)),
        **fields,
    )


def levels(rig, event_id="ev-1"):
    [signal] = rig.record(event_id).event.signals
    return [interval.value for interval in signal.intervals]


def verdicts(rig):
    return [intake.verdict for intake in rig.intakes]


async def test_it_enrols_its_ven_and_resource_once(rig, vtn):
    async with rig:
        await rig.turn()
        link = rig.ven.link()
    await rig.restart()
    await rig.turn()
    [ven] = vtn.objects["vens"].values()
    [resource] = vtn.objects["resources"].values()
    assert (ven["venName"], resource["resourceName"]) == ("ven", "site")
    assert (link.registered, link.ven_id, link.profile) == (
        True,
        ven["id"],
        f"OpenADR {vtn.version}",
    )


async def test_a_vtn_that_wants_none_of_our_objects_is_polled_all_the_same(rig, vtn):
    async def refuse(request):
        return web.json_response(problem("ask by mail"), status=403)

    vtn.replies["vens*"] = refuse
    simple(vtn, 2)
    async with rig:
        await rig.turn()
        link = rig.ven.link()
        assert levels(rig) == [2]
        assert not link.registered
        assert "ask by mail" in link.trouble
        asked = vtn.paths().count("vens")
        await rig.turn()
        assert vtn.paths().count("vens") == asked
        del vtn.replies["vens*"]
        await rig.turn(300)
        assert rig.ven.link().registered


async def test_a_vtn_that_never_answers_about_our_objects_costs_no_event(rig, vtn):
    async def hang(request):
        await asyncio.sleep(5)

    vtn.replies["vens*"] = hang
    simple(vtn, 2)
    await rig.restart(timeout_s=0.2)
    await rig.rested()
    assert levels(rig) == [2]
    assert rig.ven.link().lost_since is None
    assert not rig.ven.link().registered
    del vtn.replies["vens*"]
    await rig.turn(60)
    assert rig.ven.link().registered


async def test_objects_that_the_vtn_lost_are_made_again(rig, vtn):
    async with rig:
        await rig.rested()
        vtn.objects["vens"].clear()
        vtn.objects["resources"].clear()
        await rig.turn(3600)
        [ven] = vtn.objects["vens"]
        assert len(vtn.objects["resources"]) == 1
        assert rig.ven.link().ven_id == rig.registration.ven_id == ven


async def test_an_event_is_taken_in_with_its_programs_name(rig, vtn):
    simple(vtn, 1, 2, priority=0, eventName="peak")
    async with rig:
        await rig.rested()
        record = rig.record()
        assert (record.event.program, record.event.priority, record.opt.opt) == (
            "fast-dr",
            0,
            Opt.IN,
        )
        assert record.event.starts_at == NOON
        assert levels(rig) == [1, 2]
        await rig.turn()
        assert verdicts(rig) == [Verdict.NEW], "listed again is no news"


async def test_a_change_is_told_by_what_it_comes_to(rig, vtn):
    simple(vtn, 2)
    async with rig:
        await rig.rested()
        simple(vtn, 3, modified_s=60)
        await rig.turn()
        assert levels(rig) == [3]
        simple(vtn, 3, modified_s=120)
        await rig.turn()
        simple(vtn, 1, modified_s=-3600)
        await rig.turn()
        assert levels(rig) == [1], "a VTN restored from a backup is still the VTN"
    assert verdicts(rig) == [Verdict.NEW, Verdict.MODIFIED, Verdict.MODIFIED]
    revisions = [intake.record.event.revision for intake in rig.intakes]
    assert revisions == sorted(set(revisions))


async def test_an_event_that_is_gone_is_cancelled_once_the_vtn_says_so(rig, vtn):
    simple(vtn, 2)
    async with rig:
        await rig.rested()
        vtn.gone("ev-1")
        await rig.turn()
        assert rig.record().ended_by is Ending.CANCELLED
        assert "events/ev-1" in vtn.paths()
        simple(vtn, 2)
        await rig.turn()
        assert rig.record().ended_by is None, "listed again, on again"


async def test_an_event_missing_from_a_list_by_mistake_stays(rig, vtn):
    simple(vtn, 2)
    async with rig:
        await rig.rested()

        async def forgetful(request):
            return web.json_response([]) if "skip" in request.query else None

        vtn.replies["events"] = forgetful
        await rig.turn()
        assert rig.record().ended_by is None
        assert len(rig.intakes) == 1


@pytest.mark.parametrize("status", [400, 500, 503])
async def test_an_event_of_which_the_vtn_cannot_say_whether_it_is_gone_stays(rig, vtn, status):
    simple(vtn, 2)
    async with rig:
        await rig.rested()
        vtn.gone("ev-1")

        async def unsure(request):
            return web.json_response(problem("who knows"), status=status)

        vtn.replies["events/*"] = unsure
        simple(vtn, 1, event_id="ev-2")
        await rig.turn()
        assert rig.record().ended_by is None
        assert levels(rig, "ev-2") == [1], "what is listed counts all the same"
        del vtn.replies["events/*"]
        await rig.turn()
        assert rig.record().ended_by is Ending.CANCELLED


async def test_a_vtn_that_never_says_whether_events_are_gone_is_asked_once_a_round(rig, vtn):
    for n in range(3):
        simple(vtn, 2, event_id=f"ev-{n}")
    await rig.restart(timeout_s=0.2)
    await rig.rested()

    async def hang(request):
        await asyncio.sleep(5)

    vtn.replies["events/*"] = hang
    vtn.objects["events"].clear()
    simple(vtn, 1, event_id="new")
    await rig.turn()
    assert sum(path.startswith("events/") for path in vtn.paths()) == 1
    assert rig.ven.link().lost_since is None, "it said all that it had"
    assert not any(record.ended_by for record in rig.book.records.values())


async def test_those_of_which_a_vtn_says_nothing_hold_up_no_others_for_good(rig, vtn, monkeypatch):
    monkeypatch.setattr("agent.openadr.v3.events.MOST_ASKED_FOR", 1)
    simple(vtn, 2, event_id="doubtful")
    simple(vtn, 2, event_id="gone")

    async def unsure(request):
        return web.json_response(problem("who knows"), status=500)

    async with rig:
        await rig.rested()
        vtn.replies["events/doubtful"] = unsure
        vtn.objects["events"].clear()
        for _ in range(20):
            await rig.turn()
        assert rig.record("gone").ended_by is Ending.CANCELLED
        assert rig.record("doubtful").ended_by is None


async def test_another_event_than_was_asked_for_says_nothing_of_either(rig, vtn, caplog):
    simple(vtn, 2)
    other = simple(vtn, 3, event_id="ev-2")
    vtn.gone("ev-2")
    async with rig:
        await rig.rested()
        vtn.gone("ev-1")

        async def mistaken(request):
            return web.json_response(other)

        vtn.replies["events/*"] = mistaken
        for _ in range(2):
            await rig.turn()
        assert rig.record().ended_by is None
        assert [record.event.event_id for record in rig.book.records.values()] == ["ev-1"]
    assert caplog.text.count("event 'ev-1': what the VTN answers") == 1


async def test_a_page_that_fails_cancels_nothing(rig, vtn):
    for n in range(60):
        simple(vtn, 1, event_id=f"ev-{n}")
    async with rig:
        await rig.rested()
        assert len(rig.book.records) == 60

        async def second_page_fails(request):
            if request.query["skip"] == "0":
                return None
            return web.json_response(problem("no"), status=500)

        vtn.replies["events"] = second_page_fails
        await rig.turn()
        assert rig.ven.link().lost_since is not None
        assert not any(record.ended_by for record in rig.book.records.values())


async def test_an_event_set_to_no_time_at_all_is_cancelled(rig, vtn):
    simple(vtn, 2)
    async with rig:
        await rig.rested()
        fields = {"intervals": [{"id": 0, "payloads": [{"type": "SIMPLE", "values": [2]}]}]}
        vtn.event(intervalPeriod={"start": "0001-01-01T00:00:00Z", "duration": "PT0S"}, **fields)
        await rig.turn()
        assert rig.record().ended_by is Ending.CANCELLED


async def test_what_was_over_before_we_heard_of_it_is_not_taken_in(rig, vtn):
    simple(vtn, 2, start_s=-7200)
    simple(vtn, 2, event_id="now", start_s=-1800)
    async with rig:
        await rig.rested()
        assert set(rig.book.records) == {("ven", "now")}


async def test_what_may_still_be_under_way_by_its_drawn_start_is_taken_in(rig, vtn):
    for event_id, window in (("late", "PT10M"), ("over", "PT1M")):
        lasts = period(-3900, randomizeStart=window)
        payloads = [{"type": "SIMPLE", "values": [2]}]
        vtn.event(event_id, intervalPeriod=lasts, intervals=[{"id": 0, "payloads": payloads}])
    async with rig:
        await rig.rested()
        assert set(rig.book.records) == {("ven", "late")}


async def test_nobody_is_asked_for_what_is_over(rig, vtn):
    simple(vtn, 2, duration="PT1M")
    async with rig:
        await rig.rested()
        vtn.gone("ev-1")
        await rig.turn(120)
        assert "events/ev-1" not in vtn.paths()
        assert rig.record().ended_by is None


async def test_a_slow_round_is_noted_for_the_rests_after_notifications(rig, vtn):
    async def slow(request):
        rig.clock.leap(3)

    vtn.replies["programs"] = slow
    async with rig:
        await rig.rested()
        assert rig.ven._notices.round_s >= 3


async def test_a_random_start_is_drawn_once_to_either_side_and_kept(rig, vtn):
    fields = {"intervals": [{"id": 0, "payloads": [{"type": "SIMPLE", "values": [2]}]}]}
    vtn.event(intervalPeriod=period(3600, randomizeStart="PT10M"), **fields)
    async with rig:
        await rig.rested()
        drawn = rig.record().start_shift
        assert timedelta(minutes=-10) <= drawn < timedelta(minutes=10)
        assert drawn
        vtn.event(intervalPeriod=period(3600, "PT2H", randomizeStart="PT10M"), **fields)
        await rig.turn()
        assert rig.record().start_shift == drawn
    await rig.restart()
    await rig.turn()
    assert rig.record().start_shift == drawn


async def test_now_stays_when_it_was_over_polls_and_restarts(rig, vtn):
    vtn.sloppy = True
    event = vtn.event(
        intervalPeriod={"start": "0001-01-01", "duration": "PT1H"},
        intervals=[{"id": 0, "payloads": [{"type": "SIMPLE", "values": [2]}]}],
    )
    event.update(modificationDateTime=None, createdDateTime="12:00:01")
    async with rig:
        await rig.rested()
        await rig.turn()
    rig.clock.leap(600)
    await rig.restart()
    await rig.turn()
    assert rig.record().event.starts_at == NOON
    assert verdicts(rig) == [Verdict.NEW]


async def test_one_bad_event_is_named_and_counted_once_and_costs_no_other(rig, vtn):
    vtn.sloppy = True
    simple(vtn, 2)
    simple(vtn, 9, event_id="bad")
    vtn.event("worse", intervals="all")
    async with rig:
        await rig.rested()
        await rig.turn()
        assert set(rig.book.records) == {("ven", "ev-1")}
        assert rig.ven.link().rejected == 2
        simple(vtn, 3, event_id="bad")
        await rig.turn()
        assert levels(rig, "bad") == [3]


async def test_an_event_that_becomes_unusable_stays_as_it_was(rig, vtn):
    simple(vtn, 2)
    async with rig:
        await rig.rested()
        simple(vtn, 9, modified_s=60)
        await rig.turn()
        assert levels(rig) == [2]
        assert rig.record().ended_by is None


@pytest.mark.parametrize("contexts", [(), ("fast-dr",)])
async def test_a_program_that_becomes_unusable_changes_none_of_its_events(rig, vtn, contexts):
    vtn.sloppy = True
    simple(vtn, 2)
    simple(vtn, 2, event_id="ends")
    await rig.restart(market_contexts=contexts)
    await rig.rested()
    before = rig.record()
    for lost in (lambda: vtn.program(programName=None), vtn.objects["programs"].clear):
        lost()
        simple(vtn, 3, modified_s=60)
        await rig.turn()
        assert rig.record() == before
    simple(vtn, event_id="ends", duration="PT0S", start_s=0)
    await rig.turn()
    assert rig.record("ends").ended_by is Ending.CANCELLED
    vtn.program()
    await rig.turn()
    assert levels(rig) == [3]


async def test_a_fault_of_ours_with_one_event_costs_no_other(rig, vtn, monkeypatch, caplog):
    from agent.openadr.v3.translate import Translator

    translate = Translator.translate

    def faulty(self, wire, *more):
        if wire.id == "bad":
            raise ZeroDivisionError
        return translate(self, wire, *more)

    monkeypatch.setattr(Translator, "translate", faulty)
    simple(vtn, 1, event_id="bad")
    simple(vtn, 2)
    async with rig:
        await rig.rested()
        await rig.turn()
        assert levels(rig) == [2]
        assert rig.ven.link().rejected == 1
        assert sum(record.exc_info is not None for record in caplog.records) == 1, "said once"


@pytest.mark.parametrize("depth", [700, 960])
@pytest.mark.parametrize("bad", ['{"id":"bad","x":%s}', '{"id":%s}', "%s"])
async def test_an_event_nested_however_deeply_has_the_next_list_taken(rig, vtn, depth, bad, caplog):
    vtn.sloppy = True
    good = json.dumps(simple(vtn, 2))
    listed = f"[{bad % ('[' * depth + ']' * depth)},{good}]"

    async def deep(request):
        text = listed if request.query["skip"] == "0" else "[]"
        return web.Response(text=text, content_type="application/json")

    vtn.replies["events"] = deep
    async with rig:
        await rig.rested()
        said = len(caplog.records)
        assert all(record.exc_info is None for record in caplog.records), "no fault of ours"
        if depth < 950:
            assert levels(rig) == [2]
        await rig.turn()
        assert len(caplog.records) == said, "named once"
        del vtn.replies["events"]
        await rig.turn()
        assert levels(rig) == [2]


async def test_halves_of_characters_are_neither_kept_nor_in_the_way(rig, vtn):
    vtn.sloppy = True
    simple(vtn, 2, eventName="half \ud800", programID="\udfff")
    simple(vtn, 1, event_id="whole", eventName="\U0001f50c")
    vtn.program("q", programName="\ud800")
    async with rig:
        await rig.rested()
        assert levels(rig, "whole") == [1]
        assert rig.record("whole").event.comment == "\U0001f50c"
        assert rig.record().event.comment == "half ?"
        assert rig.book.unsaved == 0


@pytest.mark.parametrize("field", ["id", "programID", "type"])
async def test_names_of_any_length_are_not_kept(rig, vtn, field, caplog):
    vtn.sloppy = True
    simple(vtn, 1)
    long = "x" * 100_000
    bad = simple(vtn, 1, event_id="bad")
    if field == "type":
        bad["intervals"][0]["payloads"][0]["type"] = long
    else:
        bad[field] = long
    async with rig:
        await rig.rested()
        assert set(rig.book.records) == {("ven", "ev-1")}
        assert rig.ven.link().rejected == 1
        assert max(len(record.getMessage()) for record in caplog.records) < 400


async def test_no_more_events_are_taken_than_a_site_can_think_of(rig, vtn, monkeypatch, caplog):
    monkeypatch.setattr("agent.openadr.events.MOST_AHEAD", 3)
    for n in range(5):
        simple(vtn, 1, event_id=f"ev-{n}")
    async with rig:
        await rig.rested()
        assert set(rig.book.records) == {("ven", f"ev-{n}") for n in range(3)}
        said = len(caplog.records)
        simple(vtn, 2, modified_s=60)
        vtn.gone("ev-0")
        await rig.turn()
        assert rig.record("ev-0").ended_by is Ending.CANCELLED
        assert levels(rig) == [2], "what is known changes all the same"
        await rig.turn()
        assert ("ven", "ev-3") in rig.book.records, "as soon as there is room"
        assert len([r for r in caplog.records[said:] if "no more events" in r.getMessage()]) == 0


async def test_a_thousand_events_a_third_of_them_malformed(rig, vtn):
    vtn.sloppy = True
    bad = [{"intervals": 3}, {"intervalPeriod": period(duration="soon")}, {"id": None}]
    for n in range(1000):
        simple(vtn, n % 4, event_id=f"ev-{n}", eventName=f"number {n}")
        if n % 10 < 3:
            vtn.objects["events"][f"ev-{n}"].update(bad[n % 10])
    async with rig:
        await rig.rested()
        assert len(rig.book.records) == 700
        assert rig.ven.link().rejected == 300


@pytest.mark.parametrize("vtn", ["3.1.0"], indirect=True)
async def test_a_loop_is_worked_out_again_before_it_runs_out(rig, vtn):
    simple(vtn, 1, 0, duration="PT12H")
    vtn.objects["events"]["ev-1"]["duration"] = "P9999Y"
    async with rig:
        await rig.rested()
        last = rig.record().event.signals[0].intervals[-1].end
        await rig.turn(3 * 86_400)
        assert rig.record().event.signals[0].intervals[-1].end > last
        assert rig.record().event.starts_at == NOON


async def test_only_the_programs_that_are_ours_are_taken_in(rig, vtn):
    vtn.program("q", programName="elsewhere")
    simple(vtn, 2)
    simple(vtn, 2, event_id="other", programID="q")
    rig.settings = rig.settings.model_copy(update={"market_contexts": ("fast-dr",)})
    await rig.stop()
    rig._open()
    async with rig:
        await rig.rested()
        assert set(rig.book.records) == {("ven", "ev-1")}


async def test_it_outlives_its_vtn_and_its_tokens(rig, vtn):
    simple(vtn, 2)
    async with rig:
        await rig.rested()

        async def down(request):
            return web.Response(status=502)

        vtn.replies["*"] = down
        await rig.turn()
        assert rig.ven.link().lost_since is not None
        del vtn.replies["*"]
        vtn.tokens.clear()
        simple(vtn, 3, modified_s=9)
        await rig.turn()
        assert rig.ven.link().lost_since is None
        assert levels(rig) == [3]


def operating_states(vtn):
    return [
        (body["eventID"], payload["values"][0])
        for body in vtn.bodies("reports")
        for resource in body["resources"]
        for interval in resource["intervals"]
        for payload in interval["payloads"]
        if payload["type"] == "OPERATING_STATE"
    ]


async def leave(rig, opt):
    record = rig.record()
    decision = OptDecision(opt, "operator ann", rig.clock.now(), "launch")
    decided = replace(record, opt=decision)
    changed = opted_out(decided, rig.clock.now()) if opt is Opt.OUT else opted_in(decided)
    rig.book.put(changed)
    rig.ven.tell(changed)
    await rig.quiet()


async def test_an_opt_out_is_told_as_an_operating_state_and_so_is_the_way_back(rig, vtn):
    simple(vtn, 2)
    async with rig:
        await rig.rested()
        assert operating_states(vtn) == [], "of taking part there is nothing to say"
        await leave(rig, Opt.OUT)
        assert operating_states(vtn) == [("ev-1", "RUNNING_OPTED_OUT")]
        await rig.turn()
        await leave(rig, Opt.IN)
    await rig.restart()
    await rig.turn()
    assert operating_states(vtn) == [("ev-1", "RUNNING_OPTED_OUT"), ("ev-1", "RUNNING_NORMAL")]


async def test_an_opt_out_that_did_not_arrive_is_told_again(rig, vtn):
    simple(vtn, 2)
    async with rig:
        await rig.rested()

        async def down(request):
            return web.Response(status=503)

        vtn.replies["reports"] = down
        await leave(rig, Opt.OUT)
        assert rig.ven.link().trouble
    sent = len(vtn.bodies("reports"))
    del vtn.replies["reports"]
    await rig.restart()
    await rig.turn()
    assert len(vtn.bodies("reports")) > sent
    [stored] = vtn.objects["reports"].values()
    assert stored["eventID"] == "ev-1"


async def test_an_event_nobody_here_understands_is_opted_out_of_in_so_many_words(rig, vtn):
    vtn.event(
        intervalPeriod=period(),
        intervals=[{"id": 0, "payloads": [{"type": "OURS", "values": ["x"]}]}],
    )
    async with rig:
        await rig.rested()
        assert (rig.record().opt.opt, rig.record().opt.by) == (Opt.OUT, BY_POLICY)
        assert operating_states(vtn) == [], "nothing was asked that could be counted on"


async def test_of_a_program_that_we_are_not_in_nothing_is_said(rig, vtn):
    vtn.program("q", programName="elsewhere")
    simple(vtn, 2, programID="q")
    async with rig:
        await rig.rested()
        assert rig.record().opt.opt is Opt.OUT
        assert operating_states(vtn) == []


async def test_a_policy_of_staying_out_is_told(rig, vtn):
    rig.policy = replace(rig.policy, min_notice_s=600.0)
    simple(vtn, 2)
    async with rig:
        await rig.rested()
    assert operating_states(vtn) == [("ev-1", "RUNNING_OPTED_OUT")]


def reported(vtn, kind="USAGE"):
    """(interval id, start, value or quality) of every report."""
    return [
        (interval["id"], interval["intervalPeriod"]["start"], payload["values"][0])
        for body in vtn.bodies("reports")
        for resource in body["resources"]
        for interval in resource["intervals"]
        for payload in interval["payloads"]
        if payload["type"] in (kind, "DATA_QUALITY")
    ]


WANTED = {"payloadType": "USAGE", "startInterval": 0, "numIntervals": 1, "repeat": -1}


async def test_usage_is_reported_interval_by_interval_as_they_end(rig, vtn):
    simple(vtn, 0, 0, duration="PT1M", reportDescriptors=[WANTED])
    rig.samples(NOON, 120, 6_000.0)
    async with rig:
        await rig.rested()
        await rig.pass_time(61, 1)
        assert reported(vtn) == []
        await rig.pass_time(2, 1)
        assert reported(vtn) == [(0, format_time(NOON), pytest.approx(0.100492, abs=1e-5))]
        await rig.pass_time(61, 1)
    assert [interval_id for interval_id, _, _ in reported(vtn)] == [0, 1]
    [first, _] = vtn.bodies("reports")
    assert first["payloadDescriptors"][0]["units"] == "KWH"
    assert first["resources"][0]["resourceName"] == "site"


@pytest.mark.parametrize(
    ("wanted", "value"),
    [
        ({"payloadType": "DEMAND"}, 6.0295),
        ({"payloadType": "DEMAND", "readingType": "PEAK"}, 6.059),
        ({"payloadType": "READING", "units": "KW"}, 6.059),
        ({"payloadType": "OPERATING_STATE"}, "RUNNING_NORMAL"),
        ({"payloadType": "DATA_QUALITY"}, "OK"),
        ({"payloadType": "BASELINE"}, 6.0295),
        ({"payloadType": "SIMPLE_LEVEL"}, 0),
        ({"payloadType": "SETPOINT"}, "MISSING"),
    ],
)
async def test_what_is_reported_besides(rig, vtn, wanted, value):
    simple(vtn, 0, duration="PT1M", reportDescriptors=[{**wanted, "aggregate": True}])
    rig.samples(NOON, 60, 6_000.0)
    async with rig:
        await rig.rested()
        await rig.pass_time(65, 5)
    assert [v for _, _, v in reported(vtn, wanted["payloadType"])] == [value]
    assert vtn.bodies("reports")[0]["resources"][0]["resourceName"] == "AGGREGATED_REPORT"


async def test_an_events_level_limit_and_baseline_are_reported_with_what_it_brought(rig, vtn):
    kinds = ("SIMPLE_LEVEL", "SETPOINT", "BASELINE", "DELTA_USAGE")
    simple(vtn, 2, duration="PT1M", reportDescriptors=[{"payloadType": kind} for kind in kinds])
    rig.samples(NOON, 60, 6_000.0, ceiling_w=6_750.0, restrained=True)
    async with rig:
        await rig.rested()
        frozen = Baseline(9_000.0, 9_100.0, "mean of the 15 min before", NOON)
        rig.book.put(replace(rig.record(), baseline=frozen))
        await rig.pass_time(65, 5)
    told = {kind: [value for _, _, value in reported(vtn, kind)] for kind in kinds}
    assert told == {
        "SIMPLE_LEVEL": [2],
        "SETPOINT": [6.75],
        "BASELINE": [9.0],
        "DELTA_USAGE": [pytest.approx(-0.049508, abs=1e-5)],
    }


AHEAD = {"startInterval": 0, "numIntervals": 2, "frequency": 1, "repeat": -1, "historical": False}


async def test_what_can_be_shed_and_is_expected_is_reported_ahead(rig, vtn):
    empty = {} if vtn.version == "3.1.0" else {"intervals": []}
    wanted = [
        {"payloadType": "LOAD_SHED_DELTA_AVAILABLE", **AHEAD},
        {**AHEAD, "payloadType": "USAGE_FORECAST", "historical": True},
        {"payloadType": "USAGE", **AHEAD},
        {"payloadType": "DEMAND", "readingType": "FORECAST", **AHEAD},
    ]
    vtn.event(intervalPeriod=period(duration="PT1H"), reportDescriptors=wanted, **empty)
    rig.outlook = Outlook(NOON, 20_000.0, 8_000.0, Timeline())
    async with rig:
        await rig.rested()
        await rig.pass_time(5, 1)
    told = {
        kind: [value for _, _, value in reported(vtn, kind)]
        for kind in ("LOAD_SHED_DELTA_AVAILABLE", "USAGE_FORECAST", "USAGE", "DEMAND")
    }
    assert told == {
        "LOAD_SHED_DELTA_AVAILABLE": [12.0, 12.0],
        "USAGE_FORECAST": [20.0, 20.0],
        "USAGE": [20.0, 20.0],
        "DEMAND": [20.0, 20.0],
    }
    readings = [body["payloadDescriptors"][0]["readingType"] for body in vtn.bodies("reports")]
    assert readings == ["FORECAST"] * 4


async def test_an_outlook_of_long_ago_is_none(rig, vtn):
    simple(vtn, 0, reportDescriptors=[{**AHEAD, "payloadType": "USAGE_FORECAST"}])
    rig.outlook = Outlook(NOON - timedelta(minutes=5), 20_000.0, 8_000.0, Timeline())
    async with rig:
        await rig.rested()
        await rig.pass_time(5, 1)
    assert [value for _, _, value in reported(vtn, "USAGE_FORECAST")] == ["MISSING"]


async def test_of_forecasts_held_up_by_an_outage_only_the_last_is_sent(rig, vtn):
    wanted = {**AHEAD, "payloadType": "USAGE_FORECAST"}
    simple(vtn, 0, 0, 0, 0, 0, duration="PT1M", reportDescriptors=[wanted])
    async with rig:
        await rig.rested()
        await rig.pass_time(5, 5)

        async def down(request):
            return web.Response(status=503)

        vtn.replies["*"] = down
        await rig.pass_time(190, 10)
        rig.outlook = Outlook(rig.clock.now(), 20_000.0, 8_000.0, Timeline())
        del vtn.replies["*"]
        await rig.turn(120)
        await rig.quiet()
    ids = [
        [interval["id"] for interval in report["resources"][0]["intervals"]]
        for report in vtn.objects["reports"].values()
    ]
    assert ids == [[0, 1], [4]]


async def test_reports_that_others_are_asked_for_are_left_to_them(rig, vtn, caplog):
    others = {
        "3.0.1": [{"type": "RESOURCE_NAME", "values": ["cooling"]}],
        "3.1.0": ["feeder-13"],
    }[vtn.version]
    ours = {
        "3.0.1": [{"type": "RESOURCE_NAME", "values": ["cooling", "site"]}],
        "3.1.0": ["feeder-13", "feeder-12"],
    }[vtn.version]
    await rig.restart(targets=("feeder-12",) if vtn.version == "3.1.0" else ())
    simple(
        vtn,
        0,
        duration="PT1M",
        reportDescriptors=[
            {**WANTED, "targets": others},
            {"payloadType": "DEMAND", "targets": ours},
        ],
    )
    rig.samples(NOON, 60, 6_000.0)
    await rig.rested()
    await rig.pass_time(65, 5)
    assert [body["payloadDescriptors"][0]["payloadType"] for body in vtn.bodies("reports")] == [
        "DEMAND"
    ]
    assert "not made here" not in caplog.text


async def test_what_was_not_measured_is_named_as_missing(rig, vtn):
    simple(vtn, 0, duration="PT1M", reportDescriptors=[WANTED])
    async with rig:
        await rig.rested()
        await rig.pass_time(65, 5)
    assert [value for _, _, value in reported(vtn)] == ["MISSING"]


async def test_reports_of_an_outage_are_sent_after_it_and_none_twice(rig, vtn):
    simple(vtn, 0, 0, 0, duration="PT1M", reportDescriptors=[WANTED])
    rig.samples(NOON, 180, 6_000.0)
    async with rig:
        await rig.rested()
        await rig.pass_time(65, 5)

        async def down(request):
            return web.Response(status=503)

        vtn.replies["*"] = down
        await rig.pass_time(130, 10)
    assert len(vtn.objects["reports"]) == 1
    del vtn.replies["*"]
    await rig.restart()
    await rig.turn()
    await rig.quiet()
    starts = [
        report["resources"][0]["intervals"][0]["id"] for report in vtn.objects["reports"].values()
    ]
    assert starts == [0, 1, 2]


async def test_of_what_was_due_before_our_samples_begin_nothing_is_reported(rig, vtn):
    simple(vtn, 0, start_s=-36 * 86_400, duration="PT1M", reportDescriptors=[WANTED])
    async with rig:
        await rig.rested()
        await rig.pass_time(5, 5)
    assert reported(vtn) == []


async def test_a_report_that_had_come_through_is_not_sent_for_good(rig, vtn, caplog):
    simple(vtn, 0, duration="PT1M", reportDescriptors=[WANTED])

    async def known(request):
        return web.json_response(problem("we have it"), status=409)

    vtn.replies["reports"] = known
    async with rig:
        await rig.rested()
        await rig.pass_time(75, 5)
        assert len(vtn.bodies("reports")) == 1
        assert "we have it" not in caplog.text


async def test_of_what_was_due_before_we_heard_only_the_last_is_reported(rig, vtn):
    simple(vtn, 0, 0, 0, 0, start_s=-180, duration="PT1M", reportDescriptors=[WANTED])
    async with rig:
        await rig.rested()
        await rig.pass_time(5, 5)
    assert [interval_id for interval_id, _, _ in reported(vtn)] == [2]


async def test_a_report_that_the_vtn_will_not_have_holds_up_no_other(rig, vtn):
    simple(vtn, 0, 0, duration="PT1M", reportDescriptors=[WANTED])
    refused = []

    async def refuse_first(request):
        if not refused:
            refused.append(request)
            return web.json_response(problem("not today"), status=400)
        return None

    vtn.replies["reports"] = refuse_first
    async with rig:
        await rig.rested()
        await rig.pass_time(125, 5)
    assert [r["resources"][0]["intervals"][0]["id"] for r in vtn.objects["reports"].values()] == [1]


async def test_a_report_that_the_vtn_fails_at_holds_up_no_other_and_is_tried_again(rig, vtn):
    for event_id in ("ev-1", "ev-2"):
        simple(vtn, 0, 0, event_id=event_id, duration="PT1M", reportDescriptors=[WANTED])

    async def fail_at_first(request):
        asked = await request.json()
        failed = asked["eventID"] == "ev-1"
        return web.json_response(problem("oh no"), status=500) if failed else None

    vtn.replies["reports"] = fail_at_first
    async with rig:
        await rig.rested()
        await rig.pass_time(30, 5)
        await leave(rig, Opt.OUT)
        assert operating_states(vtn)
        await rig.pass_time(105, 5)
        assert [r["eventID"] for r in vtn.objects["reports"].values()] == ["ev-2", "ev-2"]
        assert "oh no" in rig.ven.link().trouble
        assert rig.ven.link().reports_waiting == 2
        del vtn.replies["reports"]
        await rig.turn()
        assert [r["eventID"] for r in vtn.objects["reports"].values()][2:] == ["ev-1", "ev-1"]
        assert not rig.ven.link().trouble


async def test_a_vtn_that_fails_at_all_reports_is_not_asked_for_each(rig, vtn):
    for n in range(20):
        simple(vtn, 0, event_id=f"ev-{n}", duration="PT1M", reportDescriptors=[WANTED])

    async def fail(request):
        return web.json_response(problem("oh no"), status=500)

    vtn.replies["reports"] = fail
    async with rig:
        await rig.turn()
        await rig.turn(70)
        assert 1 <= len(vtn.bodies("reports")) <= 9


async def test_an_event_that_only_asks_for_reports_is_none_to_take_part_in(rig, vtn):
    wanted = {"payloadType": "DEMAND", "startInterval": 0, "numIntervals": 1, "repeat": -1}
    empty = {} if vtn.version == "3.1.0" else {"intervals": []}
    vtn.event(intervalPeriod=period(duration="PT1M"), reportDescriptors=[wanted], **empty)
    rig.samples(NOON, 120, 6_000.0)
    async with rig:
        await rig.rested()
        await rig.pass_time(125, 5)
        assert not rig.book.records
    assert [interval_id for interval_id, _, _ in reported(vtn, "DEMAND")] == [0, 1]


async def test_reports_that_are_not_made_here_are_said_so_once_and_cost_no_others(rig, vtn, caplog):
    wrong = [
        {"payloadType": "STORAGE_CHARGE_LEVEL"},
        {"payloadType": "SETPOINT", "historical": False},
        {"payloadType": "USAGE", "units": "THERMS"},
        {"payloadType": "DEMAND", "aggregate": "now and then"},
        {"readingType": "MEAN"},
        "USAGE",
    ]
    vtn.sloppy = True
    for event_id in ("ev-1", "ev-2"):
        simple(vtn, 2, event_id=event_id, duration="PT1M", reportDescriptors=[*wrong, WANTED])
    rig.samples(NOON, 60, 6_000.0)
    async with rig:
        await rig.rested()
        await rig.pass_time(65, 5)
        assert rig.ven.link().rejected == 0
    said = [r.getMessage() for r in caplog.records if "not made here" in r.getMessage()]
    assert [message.split("not made here: ")[1] for message in said] == [
        "report descriptor '#4': aggregate: Input should be a valid boolean, unable to interpret input",
        "report descriptor '#5': payloadType: Field required",
        "report descriptor '#6': Input should be a valid dictionary or instance of WireReportDescriptor",
        "'STORAGE_CHARGE_LEVEL'",
        "'SETPOINT' on what is to come",
        "'USAGE' in 'THERMS'",
    ]
    names = [body["reportName"] for body in vtn.bodies("reports")]
    assert len(names) == len(set(names)) == 2


async def test_two_requests_that_differ_only_in_their_reading_are_both_served(rig, vtn):
    peak = {"payloadType": "DEMAND", "readingType": "PEAK"}
    simple(vtn, 0, duration="PT1M", reportDescriptors=[{"payloadType": "DEMAND"}, peak])
    rig.samples(NOON, 60, 6_000.0)
    async with rig:
        await rig.rested()
        await rig.pass_time(65, 5)
    assert [value for _, _, value in reported(vtn, "DEMAND")] == [6.0295, 6.059]
    assert len({body["reportName"] for body in vtn.bodies("reports")}) == 2
