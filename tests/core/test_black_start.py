"""A grid that comes back: nothing may rise before the alert is cleared, whatever else ends meanwhile."""

from dataclasses import replace

import pytest

from agent.core.agenda import Inputs
from agent.core.decide import decide
from agent.core.event import Opt, OptDecision, SignalKind
from agent.core.lifecycle import cancelled, opted_out
from agent.core.memory import Memory
from agent.core.program import DropByShare, Program
from agent.core.sample import Sample
from agent.core.site import MeterQuality
from tests.core.build import MARKET, POLICY, at, event, gpu, instant, record, s, snapshot, workload

BEFORE_W = 6 * 600.0 + 1_000.0
SHED_W = 3_500.0
PLAIN = Program("plain", MARKET)
AGREED = replace(PLAIN, levels={1: DropByShare(0.1)})
SHED = record(event((300, SHED_W), kind=SignalKind.SETPOINT, event_id="shed"), baseline_w=BEFORE_W)
BLACK_START = record(
    event((0, 1), kind=SignalKind.BLACK_START, event_id="black start", start=100),
    baseline_w=BEFORE_W,
)


class Site:
    """Cycles of thinking about six GPUs that draw what they are let."""

    def __init__(self, program):
        self.program = program
        self.memory = Memory()

    def limits(self, *records, seconds):
        return [self.limit(*records, second=second) for second in seconds]

    def limit(self, *records, second):
        inputs = Inputs(
            now=instant(second),
            snapshot=snapshot(
                [gpu(n, 400.0) for n in range(6)],
                [workload("job", range(6))],
                when=at(second),
            ),
            records={one.key: one for one in records},
            ledger=(),
            samples=[Sample(at(second) - s(n), BEFORE_W, MeterQuality.GOOD) for n in (2, 1)],
            contacts={"ven": at(second)},
        )
        decided = decide(self.memory, inputs, (self.program,), POLICY)
        self.memory = decided.memory
        return decided.plan.ceiling.limit_w


@pytest.mark.parametrize("program", [PLAIN, AGREED])
def test_what_an_event_shed_stays_shed_when_it_ends_within_a_black_start(program):
    site = Site(program)
    found = site.limits(SHED, BLACK_START, seconds=range(10, 1000, 10))
    assert max(found) <= SHED_W
    cleared = cancelled(BLACK_START, at(1000))
    later = site.limits(SHED, cleared, seconds=range(1000, 6000, 10))
    assert max(later) > BEFORE_W * 0.99, "cleared, it comes back"


def test_an_agent_started_within_a_black_start_lets_nothing_rise_above_what_is_drawn():
    now_w = 6 * 400.0 + 1_000.0
    assert Site(PLAIN).limit(BLACK_START, second=500) == pytest.approx(now_w)


def test_who_leaves_an_event_within_a_black_start_is_held_by_that_and_who_leaves_both_is_not():
    site = Site(PLAIN)
    site.limits(SHED, BLACK_START, seconds=range(10, 200, 10))
    by_hand = OptDecision(Opt.OUT, "operator ann", at(200), "")
    shed = opted_out(replace(SHED, opt=by_hand), at(200))
    assert max(site.limits(shed, BLACK_START, seconds=(200, 210, 260))) <= SHED_W
    both = opted_out(replace(BLACK_START, opt=by_hand), at(270))
    assert site.limits(shed, both, seconds=(270, 280))[-1] > BEFORE_W * 0.99


def test_a_test_of_a_black_start_holds_nothing():
    test = replace(BLACK_START, event=replace(BLACK_START.event, test=True))
    site = Site(PLAIN)
    assert max(site.limits(SHED, test, seconds=range(10, 1000, 10))) > BEFORE_W * 0.99
