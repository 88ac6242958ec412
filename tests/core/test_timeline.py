"""Rule 5: ceiling(t) <= every obligation in force; ties go to the lower; the source is named."""

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.event import Ending, Interval, Opt, OptDecision, Signal, SignalKind
from agent.core.timeline import (
    Obligation,
    Segment,
    Source,
    SourceKind,
    Timeline,
    obligations_of,
    standing_limit,
    window_of,
)
from tests.core.build import NOON, PROGRAM, at, event, record, s

MAX_W = 100_000.0


def limits(of_record, *seconds, program=PROGRAM, expected_w=40_000.0, guard_s=3600.0):
    timeline = Timeline(obligations_of(of_record, program, MAX_W, expected_w, guard_s))
    ceilings = [timeline.ceiling_at(at(t)) for t in seconds]
    return [None if c is None else round(c.limit_w) for c in ceilings]


def test_drop_by_without_ramps_is_a_step_down_and_a_step_back():
    assert limits(record(event((600, 2))), -1, 0, 599, 600) == [None, 30_000, 30_000, 40_400]


def test_the_level_before_is_kept_for_an_hour_after_the_event():
    kept = limits(record(event((600, 2)), peak_w=41_000), 600, 4199, 4200)
    assert kept == [41_410, 41_410, None], "the peak before, plus the tolerance for noise"


def test_an_event_that_never_bound_guards_nothing():
    assert limits(record(event((600, 60_000), kind=SignalKind.SETPOINT)), 599, 601) == [
        60_000,
        None,
    ]


def test_a_positive_ramp_lies_before_the_start_and_a_positive_recovery_after_the_end():
    ramped = event((600, 2), ramp_down=s(20), ramp_up=s(40))
    shown = limits(record(ramped), -20, -10, 0, 599, 600, 620, 640)
    assert shown == [40_000, 35_000, 30_000, 30_000, 30_000, 35_000, 40_400]


def test_a_negative_ramp_lies_after_the_start_and_a_negative_recovery_before_the_end():
    ramped = event((600, 2), ramp_down=s(-20), ramp_up=s(-40))
    assert limits(record(ramped), -1, 0, 10, 20, 560, 580) == [
        None,
        40_000,
        35_000,
        30_000,
        30_000,
        35_000,
    ]


def test_the_programs_ramp_is_time_after_the_start():
    slow = replace(PROGRAM, ramp_down_s=60.0, ramp_up_s=60.0)
    assert limits(record(event((600, 2))), 0, 30, 60, 630, program=slow) == [
        40_000,
        35_000,
        30_000,
        35_000,
    ]


def test_steps_follow_the_intervals():
    stepped = event((300, 1), (300, 2), (300, 0))
    assert limits(record(stepped), 299, 300, 599, 600, 899) == [
        36_000,
        30_000,
        30_000,
        40_000,
        40_000,
    ]


def late_first(first, *later, **changes):
    """An event of 600 s whose only signal begins with an interval at `first`."""
    edges = (first, *later, 600)
    pieces = tuple(Interval(at(a), at(b), 2.0) for a, b in pairwise(edges))
    return event((600, 2), signals=(Signal(SignalKind.LEVEL, "level", "1", pieces),), **changes)


def test_an_event_whose_first_interval_begins_later_asks_for_nothing_before_it():
    assert limits(record(late_first(300)), 0, 50, 299, 300, 599) == [
        None,
        None,
        None,
        30_000,
        30_000,
    ]


def test_the_ramp_leads_to_the_first_interval_or_starts_with_it():
    before = record(late_first(300, ramp_down=s(20)), start_shift=s(5))
    assert limits(before, 200, 284, 285, 295, 305) == [None, None, 40_000, 35_000, 30_000]
    after = record(late_first(300, ramp_down=s(-20)))
    assert limits(after, 299, 300, 310, 320) == [None, 40_000, 35_000, 30_000]
    window = window_of(after, PROGRAM)
    assert (window.ramp_from, window.hold_from) == (at(300), at(320))


def test_a_normal_level_or_a_price_before_the_first_ask_limits_nothing():
    assert limits(record(event((300, 0), (300, 2))), 0, 299, 300) == [None, None, 30_000]
    price = Signal(SignalKind.PRICE, "price", "", (Interval(at(0), at(600), 0.3),))
    both = late_first(300)
    both = replace(both, signals=(price, *both.signals))
    assert limits(record(both), 0, 299, 300) == [None, None, 30_000]


def test_an_event_that_ended_without_a_baseline_never_acted_and_has_no_way_back():
    early = record(event((600, 2), ramp_up=s(60)), baseline_w=None, ended_at=at(300))
    assert limits(early, 0, 300, 330) == [None] * 3


def test_an_open_ended_event_holds_until_it_is_ended():
    endless = record(event((0, 2)))
    assert limits(endless, 0, 10_000_000) == [30_000, 30_000]
    ended = replace(endless, ended_at=at(900), ended_by=Ending.CANCELLED)
    assert limits(ended, 899, 900) == [30_000, 40_400]


def test_ending_in_the_middle_of_a_ramp_turns_back_from_where_it_was():
    ramped = record(event((600, 2), ramp_down=s(-60), ramp_up=s(60)), ended_at=at(30))
    assert limits(ramped, 29, 30, 60, 90) == [35_167, 35_000, 37_500, 40_400]


def test_an_event_ended_before_it_began_asks_for_nothing():
    early = record(event((600, 2), start=60), ended_at=at(10), ended_by=Ending.CANCELLED)
    assert limits(early, 0, 61, 700) == [None, None, None]


def test_the_drawn_start_moves_the_whole_event():
    shifted = record(event((600, 2)), start_shift=s(45))
    assert limits(shifted, 44, 45, 644, 645) == [None, 30_000, 30_000, 40_400]


def test_the_strictest_of_several_signals_counts():
    both = event((600, 1))
    setpoint = Signal(
        SignalKind.SETPOINT, "LOAD_DISPATCH", "W", (Interval(at(0), at(600), 20_000),)
    )
    assert limits(record(replace(both, signals=(*both.signals, setpoint))), 10) == [20_000]


def test_a_limit_above_the_level_before_lets_the_site_grow_up_to_it():
    assert limits(record(event((600, 60_000), kind=SignalKind.SETPOINT)), 0, 300) == [
        60_000,
        60_000,
    ]


@pytest.mark.parametrize("kind", [SignalKind.PRICE, SignalKind.OTHER])
def test_prices_and_unknown_signals_shed_nothing(kind):
    assert limits(record(event((600, 250.0), kind=kind)), 10) == [None]


def test_test_events_shed_only_where_the_program_says_so():
    rehearsal = record(event((600, 2), test=True))
    assert limits(rehearsal, 10) == [None]
    assert limits(rehearsal, 10, program=replace(PROGRAM, shed_on_test=True)) == [30_000]


def test_opted_out_from_the_start_asks_for_nothing():
    out = OptDecision(Opt.OUT, "policy", NOON, "blackout")
    assert limits(record(event((600, 2), start=5), opt=out, ended_at=NOON), 10) == [None]


def test_a_frozen_baseline_counts_and_until_then_the_expected_draw():
    assert limits(record(event((600, 2)), baseline_w=None), 10, expected_w=50_000.0) == [37_500]


def test_ties_go_to_the_first_and_the_binding_source_is_named():
    timeline = Timeline((standing_limit("breaker", 30_000.0), *_simple("ev-1", 30_000.0)))
    ceiling = timeline.ceiling_at(at(1))
    assert ceiling is not None
    assert str(ceiling.source) == "site limit breaker"


def test_firmness_is_inherited_from_any_obligation_in_force():
    firm = replace(_simple("a", 50_000.0)[0], firm=True)
    ceiling = Timeline((firm, *_simple("b", 30_000.0))).ceiling_at(at(1))
    assert ceiling is not None
    assert (ceiling.limit_w, ceiling.firm) == (30_000.0, True)


def _simple(name: str, limit_w: float) -> tuple[Obligation, ...]:
    whole = Segment(at(0), at(600), limit_w, limit_w)
    return (Obligation(Source(SourceKind.EVENT, name), (whole,)),)


seconds = st.integers(-300, 300)
pieces = st.lists(st.tuples(st.integers(1, 900), st.integers(0, 4)), min_size=1, max_size=5)


@st.composite
def records(draw):
    ramp_down = draw(st.none() | seconds)
    ramp_up = draw(st.none() | seconds)
    made = event(
        *draw(pieces),
        start=draw(st.integers(-1000, 1000)),
        event_id=draw(st.sampled_from(["a", "b", "c"])),
        ramp_down=None if ramp_down is None else s(ramp_down),
        ramp_up=None if ramp_up is None else s(ramp_up),
    )
    ended = draw(st.none() | st.integers(-1500, 4000))
    return record(
        made,
        baseline_w=draw(st.sampled_from([None, 40_000.0, 5_000.0])),
        start_shift=s(draw(st.integers(0, 60))),
        ended_at=None if ended is None else at(ended),
        ended_by=None if ended is None else Ending.CANCELLED,
    )


@given(st.lists(records(), max_size=4), st.integers(-2000, 9000), st.floats(0, 1))
def test_the_ceiling_never_exceeds_any_obligation_in_force(all_records, second, fraction):
    obligations = [
        o for r in all_records for o in obligations_of(r, PROGRAM, MAX_W, 30_000.0, 600.0)
    ]
    instant = at(second + fraction)
    in_force = [limit for o in obligations if (limit := o.limit_at(instant)) is not None]
    ceiling = Timeline(tuple(obligations)).ceiling_at(instant)
    if not in_force:
        assert ceiling is None
    else:
        assert ceiling is not None
        assert ceiling.limit_w == min(in_force)
        assert ceiling.source in {o.source for o in obligations}


@given(records())
def test_an_events_obligation_is_one_unbroken_line_of_finite_limits(made):
    for obligation in obligations_of(made, PROGRAM, MAX_W, 30_000.0, 600.0):
        for before, after in zip(obligation.segments, obligation.segments[1:], strict=False):
            assert before.end == after.start
            assert before.start < after.start
        for segment in obligation.segments:
            assert segment.end is None or segment.end > segment.start
            assert min(segment.from_w, segment.to_w) >= 0
            assert max(segment.from_w, segment.to_w) <= max(MAX_W, 40_400.0)


@given(records(), st.integers(1, 3000))
def test_without_steps_asked_for_the_limit_moves_no_faster_than_its_ramp(made, second):
    """With ramps both ways of at least 60 s, no second changes the limit by more than 1/60."""
    gentle = replace(made.event, ramp_down=timedelta(seconds=-60), ramp_up=timedelta(seconds=60))
    made = replace(made, event=gentle)
    window = window_of(made, PROGRAM)
    if window.done_at is None or window.done_at - window.ramp_from < s(1):
        return
    event_only = obligations_of(made, PROGRAM, MAX_W, 30_000.0, 0.0)[:1]
    for obligation in event_only:
        first = obligation.limit_at(window.ramp_from + s(second))
        later = obligation.limit_at(window.ramp_from + s(second + 1))
        if first is not None and later is not None:
            highest = max(max(seg.from_w, seg.to_w) for seg in obligation.segments)
            assert abs(later - first) <= highest / 60 + 1e-6


@pytest.mark.parametrize("second", [0, 1, 300])
def test_the_window_of_an_event_without_ramps(second):
    window = window_of(record(event((600, 2), start=second)), PROGRAM)
    assert (window.ramp_from, window.hold_from) == (at(second), at(second))
    assert (window.hold_until, window.done_at) == (at(second + 600), at(second + 600))
