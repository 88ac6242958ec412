"""The phases of an event, derived from its record and the time."""

from dataclasses import replace

import pytest

from agent.core.event import Ending, Opt, OptDecision
from agent.core.lifecycle import Phase, cancelled, opted_in, opted_out, phase_of
from tests.core.build import NOON, PROGRAM, at, event, record, s

LEAD = s(120)
RAMPED = record(event((600, 2), start=300, ramp_down=s(60), ramp_up=s(60)))


def phases(of_record, *seconds):
    return [phase_of(of_record, PROGRAM, at(second), LEAD) for second in seconds]


def test_a_whole_life():
    assert phases(RAMPED, 0, 119, 120, 239, 240, 299, 300, 899, 900, 959, 960) == [
        Phase.NOTIFIED,
        Phase.NOTIFIED,
        Phase.PENDING,
        Phase.PENDING,
        Phase.RAMPING_DOWN,
        Phase.RAMPING_DOWN,
        Phase.HOLDING,
        Phase.HOLDING,
        Phase.RAMPING_UP,
        Phase.RAMPING_UP,
        Phase.COMPLETED,
    ]


def test_cancelled_under_way_ramps_up_first():
    gone = cancelled(RAMPED, at(500))
    assert phases(gone, 499, 500, 559, 560) == [
        Phase.HOLDING,
        Phase.RAMPING_UP,
        Phase.RAMPING_UP,
        Phase.CANCELLED,
    ]


def test_pending_until_its_first_interval_though_it_has_started():
    (signal,) = RAMPED.event.signals
    later = replace(signal, intervals=(replace(signal.intervals[0], start=at(600)),))
    assert phases(
        replace(RAMPED, event=replace(RAMPED.event, signals=(later,))), 420, 540, 600
    ) == [
        Phase.PENDING,
        Phase.RAMPING_DOWN,
        Phase.HOLDING,
    ]


def test_cancelled_before_it_acts_is_over_at_once():
    assert phases(cancelled(RAMPED, at(10)), 10, 400) == [Phase.CANCELLED, Phase.CANCELLED]


def test_opted_out_under_way_ramps_up_and_can_be_taken_up_again():
    out = OptDecision(Opt.OUT, "operator ann", at(500), "launch")
    left = opted_out(replace(RAMPED, opt=out), at(500))
    assert phases(left, 500, 560) == [Phase.RAMPING_UP, Phase.OPTED_OUT]
    back = opted_in(replace(left, opt=OptDecision(Opt.IN, "operator ann", at(600), "")))
    assert phases(back, 600) == [Phase.HOLDING]


def test_a_cancelled_event_cannot_be_taken_up_again():
    gone = cancelled(RAMPED, at(500))
    assert opted_in(gone) == gone
    assert opted_out(gone, at(510)) == gone


def test_leaving_twice_keeps_the_first_time():
    assert opted_out(opted_out(RAMPED, at(500)), at(600)).ended_at == at(500)


def test_an_unending_event_holds_and_never_completes():
    endless = record(event((0, 2)))
    assert phases(endless, 0, 86_400 * 400) == [Phase.HOLDING, Phase.HOLDING]


@pytest.mark.parametrize("phase", Phase)
def test_a_phase_is_before_acting_or_over(phase):
    assert not (phase.acting and phase.over)


def test_opted_out_by_policy_from_the_start():
    out = replace(
        RAMPED,
        opt=OptDecision(Opt.OUT, "policy", NOON, "blackout"),
        ended_at=NOON,
        ended_by=Ending.OPTED_OUT,
    )
    assert phases(out, 0, 400, 2000) == [Phase.OPTED_OUT] * 3


def test_an_event_knows_when_its_own_time_is_over():
    shifted = replace(RAMPED, start_shift=s(7))
    assert (shifted.starts_at, shifted.ends_at) == (at(307), at(907))
    assert [shifted.is_past(at(second)) for second in (906, 907)] == [False, True]
    assert not record(event((0, 2))).is_past(at(86_400 * 400))
