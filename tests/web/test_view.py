"""The view and its sentence, on hand-made pictures: one for each thing that can be said."""

import json
from dataclasses import replace
from datetime import datetime

import pytest

from agent.core.event import Baseline, Opt, OptDecision, SignalKind
from agent.core.lifecycle import Phase, cancelled
from agent.core.picture import Stop, current_event
from agent.core.plan import Plan
from agent.core.problems import Problem, Raised, Severity
from agent.core.site import Health, WorkloadState
from agent.core.timeline import Timeline, standing_limit
from agent.telemetry.event_view import EventViews, events_of
from agent.telemetry.sentence import sentence_of
from tests.core.build import NOON, at, event, gpu, record, s, snapshot, workload
from tests.web import pictures
from tests.web.pictures import LINK, cap, picture, shown


def said(of, *links):
    return sentence_of(replace(of, links=links))


def test_normal_operation_says_so_with_the_power():
    assert said(pictures.normal()) == "Normal operation at 5.8 kW; no event is ahead."


def test_power_that_is_not_known_is_said_to_be_unknown():
    assert said(pictures.blind()) == "Normal operation at unknown power; no event is ahead."


def test_a_standing_limit_that_is_held_is_named():
    limit = Timeline((standing_limit("feeder", 5_000.0),))
    held = picture(0, timeline=limit, ledger=(cap(0),))
    assert said(held) == "Holding 5.8 kW of 5 kW: site limit feeder."


def test_an_event_to_come_says_when_and_what_it_asks():
    assert (
        said(pictures.pending()) == "Event ev-1 begins in 5 min: 25 % below baseline. 5.8 kW now."
    )


def test_an_event_that_asks_for_nothing_says_that():
    calm = record(event((600.0, 0.0), start=300.0))
    assert "it asks for nothing that sheds" in said(picture(0, calm))


def test_ramping_down_says_what_is_allowed_and_when_it_is_due_in_full():
    ramp = record(event(ramp_down=s(-60)))
    assert said(picture(30, ramp)) == (
        "Event ev-1: ramping down, 5.8 kW now, 35 kW allowed; full delivery in 30 s."
    )


def test_holding_says_how_much_of_how_much_and_how_long_still():
    assert said(pictures.holding()) == (
        "Event ev-1: holding 29.48 kW of 30 kW allowed, ends in 9 min."
    )


def test_an_event_without_an_end_is_held_until_it_is_called_off():
    open_ended = record(event((0.0, 2.0)))
    assert "until the grid calls it off" in said(picture(60, open_ended))


def test_another_source_that_binds_during_an_event_is_named():
    one = record()
    event_and_feeder = Timeline(
        (*picture(60, one).timeline.obligations, standing_limit("feeder", 5_000.0))
    )
    sentence = said(picture(60, one, timeline=event_and_feeder))
    assert sentence.endswith("of 5 kW allowed, ends in 9 min. Limited by site limit feeder.")


def test_an_event_of_the_same_id_but_another_ven_is_another_source():
    one = record()
    ours = picture(60, one).timeline.obligations
    theirs = [replace(o, source=replace(o.source, ven="aggregator")) for o in ours]
    both = Timeline((*theirs, *ours))
    assert "Limited by event ev-1 (" in said(picture(60, one, timeline=both))


def test_ramping_up_says_when_it_is_back_to_normal():
    slow = record(event(ramp_up=s(120)))
    assert said(picture(620, slow)) == (
        "Event ev-1: ended, returning to normal over the next 100 s; 5.8 kW now."
    )


def test_a_test_event_is_called_one():
    assert said(picture(0, record(event(test=True, start=300.0)))).startswith("Test event ev-1 ")


def test_a_local_stop_comes_before_everything_else():
    stop = Stop(NOON, "operator ann", "fire drill")
    stopped = replace(pictures.holding(), stop=stop)
    assert said(stopped) == (
        "Stopped by operator ann (fire drill): reporting, acting on nothing until "
        "`flexload resume`. 4 setpoints are still being undone."
    )
    assert said(replace(stopped, ledger=())).endswith("until `flexload resume`.")


def test_a_shortfall_is_said_with_what_stands_in_the_way():
    plan = Plan(shortfall_w=2_000.0, short_because=("protected: serve", "at their floor: train"))
    sentence = said(replace(pictures.holding(), plan=plan))
    assert sentence.endswith(" 2 kW short: protected: serve; at their floor: train.")
    assert said(replace(pictures.holding(), plan=Plan(shortfall_w=1.0))).endswith(
        " 1 W short: nothing left to give."
    )


def test_on_the_way_back_from_an_event_it_is_not_called_short_of_it():
    slow = record(event(ramp_up=s(120)))
    back = picture(620, slow)
    of_event = replace(back.plan, ceiling=back.timeline.ceiling_at(back.at), shortfall_w=2000.0)
    assert "short" not in said(replace(back, plan=of_event))
    feeder = standing_limit("feeder", 5_000.0)
    of_site = replace(of_event, ceiling=Timeline((feeder,)).ceiling_at(back.at))
    assert "2 kW short" in said(replace(back, plan=of_site))


def test_a_vtn_that_does_not_answer_is_said_with_how_long():
    lost = replace(LINK, lost_since=at(-300))
    assert said(pictures.normal(), lost).endswith(" VTN of utility has not answered for 5 min.")


def test_the_view_is_plain_json_in_every_state():
    for of in (
        pictures.normal(),
        pictures.pending(),
        pictures.holding(),
        pictures.completed(),
        pictures.blind(),
        pictures.paused(WorkloadState.PAUSED),
    ):
        assert json.loads(json.dumps(shown(of, LINK), allow_nan=False)) == shown(of, LINK)


def test_a_view_without_anything_known_holds_no_zeros():
    power = shown(pictures.blind())["power"]
    assert power["now_w"] is power["ceiling_w"] is power["expected_w"] is None
    assert power["quality"] == "bad"
    assert not power["binding"]


def test_a_capped_gpu_is_shown_with_what_it_was_before_and_why():
    view = shown(pictures.holding())
    capped, free = view["gpus"][0], view["gpus"][-1]
    assert (capped["cap_w"], capped["original_w"], capped["limit_w"]) == (400.0, 700.0, 400.0)
    assert capped["reason"].startswith("event ev-1")
    assert (capped["workload"], free["workload"]) == ("train", "serve")
    assert (free["cap_w"], free["reason"]) == (None, "")


def test_a_cap_counts_as_taken_once_it_was_read_back():
    """In the cycle that sets it, the GPU was seen before; later, what is seen counts."""
    moved = gpu(0, 600.0, limit_w=700.0)
    now = pictures.holding().at
    for entry, taken in (
        (replace(pictures.cap(0), written=replace(pictures.cap(0).written, at=now)), True),
        (pictures.cap(0), False),
        (replace(pictures.cap(0), confirmed_w=None), False),
    ):
        of = replace(pictures.holding(), snapshot=snapshot([moved]), ledger=(entry,))
        assert shown(of)["gpus"][0]["cap_taken"] is taken


def test_a_lost_gpu_is_shown_without_a_draw():
    lost = snapshot([gpu(0, None, health=Health.LOST, detail="fell off the bus")])
    (one,) = shown(picture(0, snapshot=lost))["gpus"]
    assert (one["health"], one["power_w"], one["detail"]) == ("lost", None, "fell off the bus")


@pytest.mark.parametrize("state", [WorkloadState.PAUSED, WorkloadState.RUNNING])
def test_what_we_told_a_job_and_what_it_does_are_kept_apart(state):
    (job,) = shown(pictures.paused(state))["workloads"]
    assert (job["paused_by_us"], job["state"]) == (True, state.value)
    assert "may be paused" in job["reason"]


def test_events_come_newest_first_with_their_figures():
    view = shown(pictures.completed())
    assert view["event"] is None
    assert [one["event_id"] for one in view["events"]] == ["ev-1", "ev-test", "ev-0"]
    assert view["events"][0]["performance"]["compliant_share"] == 0.9996
    left = view["events"][1]
    assert (left["phase"], left["opt_by"], left["opt_why"], left["test"]) == (
        Phase.OPTED_OUT.value,
        "operator ann",
        "maintenance",
        True,
    )


def test_all_signals_are_shown_though_only_some_shed():
    (one,) = events_of(pictures.holding())
    assert [signal["name"] for signal in one["signals"]] == ["level", "ELECTRICITY_PRICE price"]
    assert one["signals"][1]["unit"] == "EUR/MWh"


def test_a_view_carries_a_bounded_share_of_the_book_and_says_how_much_there_is():
    past = [record(event(event_id=f"old-{i}", start=-86_400.0 * (i + 1))) for i in range(30)]
    ahead = [record(event(event_id=f"new-{i}", start=3600.0 * (i + 1))) for i in range(30)]
    view = shown(picture(60, *past, *ahead))
    assert [e["event_id"] for e in view["events"]] == [f"new-{i}" for i in reversed(range(20))]
    assert (view["events_known"], view["events_live"]) == (60, 30)
    view = shown(picture(60, *past, *ahead[:3]))
    nearest = [f"new-{i}" for i in (2, 1, 0)] + [f"old-{i}" for i in range(17)]
    assert [e["event_id"] for e in view["events"]] == nearest, "to come, then the latest"
    assert len(events_of(picture(60, *past, *ahead))) == 60


def test_a_view_does_not_grow_with_the_events_intervals():
    def size(intervals):
        long = record(event(*[(60.0, 1.0 + i % 2) for i in range(intervals)]))
        return len(json.dumps(shown(picture(60, long))))

    assert size(10_000) < size(200) + 100


def test_the_current_event_is_shown_with_what_it_asks_from_now_on():
    stairs = record(event((60.0, 1.0), (60.0, 2.0), (60.0, 0.0), (60.0, 1.0)))
    view = shown(picture(90, stairs))
    assert [ask["text"] for ask in view["event"]["asks"]] == [
        "25 % below baseline",
        "normal",
        "10 % below baseline",
        "normal",
    ]
    assert view["event"]["ask"] == "10 % below baseline", "the first that it asked"
    (whole,) = events_of(picture(90, stairs))
    assert len(whole["asks"]) == 5


def test_what_is_shown_of_an_event_follows_its_record_and_its_phase():
    views = EventViews()

    def seen(seconds, one):
        shown_now = views.of(picture(seconds, one), one.key)
        (brief,) = shown_now["events"]
        return brief["revision"], brief["phase"], brief["hold_until"], brief["ask"]

    first = record(event((600.0, 2.0)))
    assert seen(60, first) == (0, "holding", "2026-07-01T12:10:00.000Z", "25 % below baseline")
    assert seen(700, first)[1] == "completed"
    changed = record(event((900.0, 1.0), revision=1))
    assert seen(700, changed) == (1, "holding", "2026-07-01T12:15:00.000Z", "10 % below baseline")
    assert views.of(picture(0), None)["events"] == []


def test_an_event_id_that_several_vens_know_is_marked():
    other = record(event(ven="other"))
    view = shown(picture(60, record(), other, record(event(event_id="ev-2"))))
    marks = {(e["ven"], e["event_id"]): e["ambiguous"] for e in view["events"]}
    assert marks == {("ven", "ev-1"): True, ("other", "ev-1"): True, ("ven", "ev-2"): False}


def price_and(*others, **changes):
    """A price of two days is in force, the same id as an event's of another VEN's."""
    price = event((172_800.0, 80.0), start=-3600.0, kind=SignalKind.OTHER, ven="market")
    return picture(60, record(price), *others, **changes)


def test_an_event_that_asks_something_is_spoken_of_before_a_price():
    holding = price_and(record())
    assert shown(holding)["event"]["ven"] == "ven"
    assert said(holding) == "Event ev-1: holding 5.8 kW of 30 kW allowed, ends in 9 min."
    to_come = price_and(record(event(start=360.0)))
    assert said(to_come) == "Event ev-1 begins in 5 min: 25 % below baseline. 5.8 kW now."


@pytest.mark.parametrize(
    "calm",
    [
        event((600.0, 80.0), kind=SignalKind.OTHER),
        event((600.0, 0.0)),
        event((600.0, 0.0), duration=None),
        event(test=True),
    ],
)
def test_an_event_that_sheds_nothing_is_not_said_to_hold_anything(calm):
    sentence = said(picture(60, record(calm)))
    name = "Test event" if calm.test else "Event"
    end = "until the grid calls it off" if calm.duration is None else "ends in 9 min"
    assert sentence == f"Normal operation at 5.8 kW. {name} ev-1 sheds nothing, {end}."


def test_the_first_of_several_workloads_on_a_gpu_is_shown_as_its_owner():
    jobs = [workload("one", [0, 1]), workload("two", [1, 2])]
    view = shown(picture(0, snapshot=snapshot([gpu(i) for i in range(4)], jobs)))
    assert [one["workload"] for one in view["gpus"]] == ["one", "one", "two", None]
    assert [job["power_w"] for job in view["workloads"]] == [1200.0, 1200.0]


def test_a_cancelled_event_is_shown_as_that():
    called_off = cancelled(record(event(start=300.0)), at(10))
    assert [one["phase"] for one in shown(picture(20, called_off))["events"]] == ["cancelled"]


def test_an_event_of_no_program_is_shown_and_sheds_nothing():
    why = OptDecision(Opt.OUT, "policy", NOON, "no program for market context 'x'")
    stray = record(event(program="x"), opt=why, baseline_w=None)
    (one,) = shown(picture(60, stray))["events"]
    assert (one["program"], one["opt"], one["phase"]) == ("none", "out", "opted out")


def test_only_a_limit_that_does_something_binds():
    assert not shown(pictures.normal())["power"]["binding"]
    assert shown(pictures.holding())["power"]["binding"]
    assert shown(picture(0, ledger=(cap(0),)))["power"]["binding"]
    assert not shown(pictures.completed())["power"]["binding"], "an idle rebound guard"
    stopped = replace(pictures.holding(), stop=Stop(NOON, "operator ann", "fire drill"))
    assert not shown(stopped)["power"]["binding"], "a local stop holds nothing"


def test_the_ceiling_to_come_is_shown_corner_by_corner():
    ramps = record(event(start=300.0, ramp_down=s(-60), ramp_up=s(120)))
    ahead = shown(picture(0, ramps))["power"]["ahead"]
    corners = [(datetime.fromisoformat(c["at"]) - NOON, c["limit_w"]) for c in ahead]
    assert corners[0] == (s(0), None), "until it begins, the site's own limit alone"
    assert [(at, limit) for at, limit in corners if not at.microseconds] == [
        (s(0), None),
        (s(300), 40_000.0),
        (s(360), 30_000.0),
        (s(900), 30_000.0),
        (s(1020), 40_400.0),
        (s(1020 + 3600), None),
    ]
    assert corners[-2] == (s(1020 + 3600) - s(0.001), 40_400.0), "and just before it jumps"


def test_of_many_events_the_nearest_corners_are_shown_each_at_the_ceiling():
    stairs = [(600.0, 1.0 + i % 2) for i in range(30)]
    many = [
        record(event(*stairs, event_id=f"ev-{i}", start=-9_000.0 + 7_000.0 * i)) for i in range(20)
    ]
    of = picture(0, *many)
    ahead = shown(of)["power"]["ahead"]
    assert len(ahead) == 200
    for corner in ahead:
        ceiling = of.timeline.ceiling_at(datetime.fromisoformat(corner["at"]))
        assert corner["limit_w"] == pytest.approx(ceiling.limit_w, abs=0.1)
    bends = {b for o in of.timeline.obligations for b in o.bends() if b > of.at}
    seen = {datetime.fromisoformat(corner["at"]) for corner in ahead}
    assert set(sorted(bends)[:99]) <= seen, "none is left out on the way"


def test_the_baseline_of_the_current_event_is_shown_with_its_method():
    baseline = Baseline(40_000.0, 41_000.0, "mean of the 15 min before", NOON)
    power = shown(picture(60, replace(record(), baseline=baseline)))["power"]
    assert power["baseline_w"] == 40_000.0
    assert power["baseline_method"] == "mean of the 15 min before"


def test_problems_are_shown_with_severity_and_since():
    problem = Problem("meter", Severity.CRITICAL, "the meter cannot be read")
    view = shown(replace(pictures.normal(), problems={"meter": Raised(problem, at(-60))}))
    assert view["problems"] == [
        {
            "key": "meter",
            "severity": "critical",
            "text": "the meter cannot be read",
            "since": "2026-07-01T11:59:00.000Z",
        }
    ]


def test_of_several_events_that_act_the_one_that_binds_is_spoken_of_first():
    """The page spoke of the milder one, which began first, with the limit of the other."""
    mild = record(event((600, 1), start=0, event_id="a-mild"))
    strict = record(event((600, 2), start=30, event_id="b-strict", ramp_down=s(-20)))
    both = picture(60, mild, strict)
    assert current_event(both) == strict.key
    assert said(both) == "Event b-strict: holding 5.8 kW of 30 kW allowed, ends in 10 min."
    assert current_event(picture(35, mild, strict)) == mild.key, (
        "the other is still on its way down"
    )
    assert current_event(picture(10, mild, strict)) == mild.key
