"""Standing import limits: the limit, else the subscription with what is reserved on top."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.agenda import Inputs, agenda_of
from agent.core.capacity import AHEAD, MOST_CHANGES, connections_of, standing_obligations
from agent.core.decide import decide
from agent.core.diagnosis import problems_of
from agent.core.event import Interval, Opt, OptDecision, Signal, SignalKind
from agent.core.intake import receive
from agent.core.lifecycle import cancelled
from agent.core.memory import Memory
from agent.core.policy import Blackout
from agent.core.program import BlindRule
from agent.core.timeline import SourceKind, Timeline
from tests.core.build import NOON, POLICY, PROGRAM, at, event, gpu, instant, record, s, snapshot

LIMIT, SUBSCRIPTION, RESERVATION = SignalKind.LIMIT, SignalKind.SUBSCRIPTION, SignalKind.RESERVATION


def standing(kind, *pieces, **more):
    return record(event(*pieces, kind=kind, **{"event_id": kind.value, **more}), baseline_w=None)


def limits(*records, seconds):
    timeline = Timeline(tuple(standing_obligations(records, (PROGRAM,), NOON)))
    ceilings = [timeline.ceiling_at(at(t)) for t in seconds]
    found = [None if c is None else c.limit_w for c in ceilings]
    for connection in connections_of(records).values():
        looked_up = [connection.limit_at(at(t)) for t in seconds]
        assert found == [None if one is None else one[0] for one in looked_up]
    return found


def test_without_any_there_is_no_limit():
    assert limits(seconds=(0,)) == [None]


def test_a_limit_holds_from_its_first_second_to_its_last_without_ramps():
    schedule = standing(LIMIT, (600, 9_000), (600, 7_000))
    slow = replace(PROGRAM, ramp_down_s=60.0, ramp_up_s=60.0)
    assert limits(schedule, seconds=(-1, 0, 599, 600, 1199, 1200)) == [
        None,
        9_000,
        9_000,
        7_000,
        7_000,
        None,
    ]
    [obligation] = standing_obligations([schedule], (slow,), NOON)
    assert obligation.limit_at(at(600)) == 7_000


def test_the_subscription_counts_where_no_limit_is_in_force():
    schedule = standing(LIMIT, (600, 9_000), start=60)
    subscribed = standing(SUBSCRIPTION, (0, 5_000))
    assert limits(schedule, subscribed, seconds=(0, 60, 659, 660, 90_000)) == [
        5_000,
        9_000,
        9_000,
        5_000,
        5_000,
    ]


def test_what_is_reserved_comes_on_top_of_the_subscription_only():
    subscribed = standing(SUBSCRIPTION, (0, 5_000))
    reserved = standing(RESERVATION, (600, 800))
    assert limits(subscribed, reserved, seconds=(0, 600)) == [5_800, 5_000]
    assert limits(reserved, seconds=(0,)) == [None], "of nothing there is no more"
    limited = standing(LIMIT, (600, 3_000))
    assert limits(subscribed, reserved, limited, seconds=(0,)) == [3_000]


def test_what_one_program_reserves_loosens_no_subscription_of_another():
    one = standing(SUBSCRIPTION, (0, 5_000), event_id="one", program="connection")
    other = standing(SUBSCRIPTION, (0, 5_500), event_id="other")
    reserved = standing(RESERVATION, (0, 800))
    assert limits(one, other, reserved, seconds=(0,)) == [5_000]
    assert limits(one, reserved, seconds=(0,)) == [5_000]
    assert limits(other, reserved, seconds=(0,)) == [6_300]


def test_the_most_urgent_limit_counts_and_of_equally_urgent_ones_the_lowest():
    one = standing(LIMIT, (600, 3_000), event_id="one")
    other = standing(LIMIT, (600, 4_000), event_id="other")
    assert limits(one, other, seconds=(0,)) == [3_000]
    urgent = standing(LIMIT, (600, 4_000), event_id="other", priority=0)
    assert limits(one, urgent, seconds=(0,)) == [4_000]


def test_no_urgency_loosens_what_another_program_was_promised():
    one = standing(LIMIT, (600, 3_000), event_id="one", program="connection")
    urgent = standing(LIMIT, (600, 4_000), event_id="other", priority=0)
    assert limits(one, urgent, seconds=(0,)) == [3_000]


def test_the_limit_that_binds_is_named():
    [obligation] = standing_obligations([standing(LIMIT, (600, 3_000))], (PROGRAM,), NOON)
    assert obligation.source.kind is SourceKind.CAPACITY
    assert str(obligation.source) == "import limit import-limit (at most 3 kW)"


def test_two_vens_live_under_both_their_limits():
    ours = standing(LIMIT, (600, 3_000))
    theirs = standing(LIMIT, (600, 2_000), ven="other")
    timeline = Timeline(tuple(standing_obligations([ours, theirs], (PROGRAM,), NOON)))
    assert timeline.ceiling_at(at(0)).limit_w == 2_000
    assert timeline.ceiling_at(at(0)).source.ven == "other"


def test_a_limit_called_off_limits_nothing_any_more():
    off = cancelled(standing(LIMIT, (0, 3_000)), at(60))
    assert limits(off, seconds=(0, 59, 60)) == [3_000, 3_000, None]


def test_a_limit_the_operator_left_limits_nothing():
    left = replace(standing(LIMIT, (0, 3_000)), opt=OptDecision(Opt.OUT, "operator x", NOON, "no"))
    assert limits(left, seconds=(0,)) == [None]


def test_obligations_reach_a_day_ahead_and_end_where_the_limit_next_changes():
    day = AHEAD.total_seconds()
    schedule = standing(LIMIT, *[(3600, 5_000 + n) for n in range(48)])
    [obligation] = standing_obligations([schedule], (PROGRAM,), NOON)
    assert obligation.until() == at(day + 3600)
    assert obligation.limit_at(at(day)) == 5_024


def test_of_limits_that_change_each_second_the_next_are_laid_out():
    fast = standing(LIMIT, *[(1, 9_000 + n % 50) for n in range(90_000)])
    for seconds in (0, 50_000, 89_000):
        [obligation] = standing_obligations([fast], (PROGRAM,), at(seconds))
        assert len(obligation.segments) <= MOST_CHANGES
        for second in (seconds, seconds + 999):
            assert obligation.limit_at(at(second)) == 9_000 + second % 50


def test_an_endless_limit_is_open_ended():
    [obligation] = standing_obligations([standing(LIMIT, (0, 5_000))], (PROGRAM,), NOON)
    assert obligation.until() is None


def test_a_limit_with_prices_beside_it_is_still_standing():
    priced = event((600, 3_000), kind=LIMIT)
    price = Signal(SignalKind.PRICE, "PRICE", "", (Interval(NOON, at(600), 0.2),))
    both = replace(priced, signals=(*priced.signals, price))
    assert both.standing
    assert limits(record(both), seconds=(0,)) == [3_000]


@pytest.mark.parametrize("kind", [LIMIT, SUBSCRIPTION])
def test_neither_a_blackout_nor_short_notice_opts_out_of_the_connection(kind):
    closed = replace(POLICY, min_notice_s=600.0, blackouts=(Blackout(at(-60), at(60), "holiday"),))
    taken = receive(None, event((0, 5_000), kind=kind), (PROGRAM,), closed, NOON, 0.5)
    assert taken.opt is Opt.IN
    stopped = replace(closed, stopped="repairs")
    taken = receive(None, event((0, 5_000), kind=kind), (PROGRAM,), stopped, NOON, 0.5)
    assert taken.opt is Opt.OUT


def agenda(*records, stopped_at=None, expected_w=40_000.0):
    known = {one.key: one for one in records}
    inputs = Inputs(instant(), snapshot([gpu()]), known, (), (), {}, stopped_at)
    return agenda_of(inputs, (PROGRAM,), POLICY, expected_w)


def test_the_agenda_holds_the_lower_of_a_limit_and_an_event():
    shed = record(event((600, 2)))
    for limit_w, source in ((35_000, SourceKind.EVENT), (25_000, SourceKind.CAPACITY)):
        ceiling = agenda(shed, standing(LIMIT, (0, limit_w))).timeline.ceiling_at(NOON)
        assert (ceiling.limit_w, ceiling.source.kind) == (min(30_000, limit_w), source)


def test_a_standing_limit_leaves_no_rebound_guard_behind():
    over = replace(standing(LIMIT, (600, 5_000), start=-1200), baseline=record().baseline)
    kinds = {o.source.kind for o in agenda(over).timeline.obligations}
    assert kinds == {SourceKind.SITE}


def test_a_standing_limit_outlasts_its_vtn_whatever_becomes_of_events():
    subscribed = standing(SUBSCRIPTION, (0, 5_000))
    shed = record(event((0, 2)))
    known = {one.key: one for one in (subscribed, shed)}
    longer_ago = {"ven": at(-7200)}
    inputs = Inputs(instant(), snapshot([gpu()]), known, (), (), longer_ago)
    market = replace(PROGRAM, when_blind=BlindRule.NORMAL, blind_after_s=3600.0)
    timeline = agenda_of(inputs, (market,), POLICY, 40_000.0).timeline
    ceiling = timeline.ceiling_at(NOON)
    assert (ceiling.limit_w, ceiling.source.kind) == (5_000, SourceKind.CAPACITY)
    assert not any(o.source.kind is SourceKind.EVENT for o in timeline.obligations)


def test_a_local_stop_overrides_the_limit_as_everything():
    timeline = agenda(standing(LIMIT, (0, 5_000)), stopped_at=NOON).timeline
    assert timeline.ceiling_at(NOON) is None


def test_a_shifted_limit_is_shifted():
    late = replace(standing(LIMIT, (600, 5_000)), start_shift=s(30))
    assert limits(late, seconds=(29, 30, 629, 630)) == [None, 5_000, 5_000, None]


def test_after_a_power_outage_limits_give_way_to_the_subscription_until_they_are_listed_again():
    schedule = standing(LIMIT, (600, 9_000), (600, 3_000))
    subscribed = standing(SUBSCRIPTION, (0, 5_000))
    reserved = standing(RESERVATION, (60, 500))
    records = [schedule, subscribed, reserved]
    for void, expected in ((("ven",), [5_500, 5_000, 5_000]), (("other",), [9_000, 9_000, 3_000])):
        timeline = Timeline(tuple(standing_obligations(records, (PROGRAM,), NOON, void)))
        found = [timeline.ceiling_at(at(t)) for t in (0, 60, 600)]
        assert [one.limit_w for one in found if one] == expected


def test_a_limit_without_a_subscription_to_go_back_to_outlasts_a_power_outage():
    subscribed = standing(SUBSCRIPTION, (600, 5_000), start=600)
    records = [standing(LIMIT, (1800, 9_000)), subscribed]
    timeline = Timeline(tuple(standing_obligations(records, (PROGRAM,), NOON, ("ven",))))
    found = [timeline.ceiling_at(at(t)) for t in (0, 600, 1200)]
    assert [one.limit_w for one in found if one] == [9_000, 5_000, 9_000]


def test_limits_that_do_not_count_are_a_problem_while_there_are_any():
    def problems(*known):
        inputs = Inputs(
            instant(),
            snapshot([gpu()]),
            {one.key: one for one in known},
            (),
            (),
            {},
            limits_void=("ven",),
        )
        found = decide(Memory(), inputs, (PROGRAM,), POLICY)
        return [p.text for p in problems_of(found, inputs, POLICY) if p.key == "limits/ven"]

    subscribed = standing(SUBSCRIPTION, (0, 5_000))
    past = standing(LIMIT, (600, 9_000), start=-600)
    assert problems(subscribed, past) == []
    [text] = problems(subscribed, standing(LIMIT, (600, 9_000)))
    assert "the import limits of VEN ven give way to its subscription" in text


PIECES = st.lists(st.tuples(st.integers(1, 500), st.integers(1, 9)), min_size=1, max_size=4)


@given(
    st.lists(
        st.tuples(
            st.sampled_from((LIMIT, SUBSCRIPTION, RESERVATION)),
            PIECES,
            st.integers(-600, 600),
            st.sampled_from((None, 0, 1)),
            st.sampled_from(("one", "other")),
            st.sampled_from((None, 300)),
        ),
        max_size=6,
    )
)
def test_what_is_laid_out_ahead_is_what_is_looked_up(drawn):
    records = [
        replace(
            standing(kind, *pieces, start=start, event_id=str(n), priority=rank, program=program),
            ended_at=None if ends is None else at(ends),
        )
        for n, (kind, pieces, start, rank, program, ends) in enumerate(drawn)
    ]
    limits(*records, seconds=range(0, 2600, 50))
