"""The slow correction: cuts faster than it gives, ignores dips, stands still while the goal moves."""

from dataclasses import replace

import pytest

from agent.core import trim
from agent.core.estimate import Estimates
from agent.core.plan import NO_PLAN, Cap, Plan
from agent.core.site import MeterQuality, MeterSample
from agent.core.trim import LARGEST_SHARE, Trim
from tests.core.build import NOON, gpu, snapshot, workload

PLAN = Plan(goal_w=10_000.0, caps={"GPU-0": Cap(400.0, "test")})
ESTIMATES = Estimates({"GPU-0": 600.0}, 1_000.0)


def run(metered_w, seconds, state=None, plan=PLAN, power_w=394.0):
    state = Trim() if state is None else state
    shown = snapshot([gpu(0, power_w, limit_w=400.0)], [workload("job", [0])])
    shown = replace(shown, meter=MeterSample(NOON, metered_w, MeterQuality.GOOD))
    for _ in range(seconds):
        state = trim.update(state, plan, shown, ESTIMATES, 1.0)
    return state


def test_it_cuts_faster_than_it_gives():
    over, under = run(10_200.0, 30), run(9_800.0, 30)
    assert over.trim_w < 0 < under.trim_w
    assert -over.trim_w > 3 * under.trim_w


def test_it_waits_until_the_goal_has_settled():
    assert run(10_500.0, 4).trim_w == 0.0


def test_a_moving_goal_resets_the_wait():
    state = run(10_500.0, 20)
    moved = trim.update(state, replace(PLAN, goal_w=9_000.0), snapshot([gpu(0)]), ESTIMATES, 1.0)
    assert (moved.still_s, moved.trim_w) == (0.0, state.trim_w)


def test_a_dip_is_no_headroom():
    assert run(9_800.0, 60, power_w=194.0).trim_w == pytest.approx(0.0, abs=1.0)


def test_without_levers_in_force_it_is_forgotten():
    assert run(10_500.0, 5, run(10_500.0, 30), plan=replace(NO_PLAN, goal_w=10_000.0)) == Trim()


def test_with_every_lever_at_its_floor_it_neither_winds_up_nor_down():
    short = replace(PLAN, exhausted=True)
    assert run(10_500.0, 600, plan=short).trim_w == 0.0
    assert run(9_500.0, 600, plan=short).trim_w == 0.0


def test_it_is_bounded():
    assert run(20_000.0, 10_000).trim_w == -LARGEST_SHARE * 10_000.0


def test_a_blind_meter_keeps_it():
    state = run(10_200.0, 30)
    blind = replace(snapshot([gpu(0)]), meter=MeterSample(NOON, None, MeterQuality.BAD))
    assert trim.update(state, PLAN, blind, ESTIMATES, 1.0).trim_w == state.trim_w
