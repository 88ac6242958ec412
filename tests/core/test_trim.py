"""The slow correction: cuts faster than it gives, ignores dips, and cannot be wound up."""

from dataclasses import replace

import pytest

from agent.core import trim
from agent.core.estimate import BINDING_SHARE, Estimates
from agent.core.plan import NO_PLAN, Cap, Plan
from agent.core.site import MeterQuality, MeterSample
from agent.core.trim import LARGEST_SHARE, Trim
from tests.core.build import NOON, gpu, snapshot, workload

PLAN = Plan(goal_w=10_000.0, caps={"GPU-0": Cap(400.0, "test")})
ESTIMATES = Estimates({"GPU-0": 600.0}, 1_000.0)
EXPECTED_W = 1_000.0 + BINDING_SHARE * 400.0


def run(off_w, seconds, state=None, plan=PLAN, power_w=394.0, limit_w=400.0):
    """The correction after the meter read `off_w` less than the model says for some seconds."""
    state = Trim() if state is None else state
    shown = snapshot([gpu(0, power_w, limit_w=limit_w)], [workload("job", [0])])
    expected_w = 1_000.0 + min(600.0, BINDING_SHARE * limit_w)
    meter = MeterSample(NOON, expected_w - off_w, MeterQuality.GOOD)
    for _ in range(seconds):
        state = trim.update(state, plan, replace(shown, meter=meter), ESTIMATES, 1.0)
    return state


def test_it_ends_up_where_the_model_is_off():
    assert run(60.0, 300).trim_w == pytest.approx(60.0, abs=0.1)
    assert run(-60.0, 300).trim_w == pytest.approx(-60.0, abs=0.1)


def test_it_cuts_faster_than_it_gives():
    assert -run(-60.0, 10).trim_w > 2 * run(60.0, 10).trim_w


def test_it_looks_away_while_limits_move():
    state = run(-60.0, 100)
    moved = run(-130.0, 1, state, limit_w=300.0, power_w=295.0)
    assert moved.trim_w == state.trim_w


def test_a_dip_is_no_headroom():
    assert run(200.0, 60, power_w=194.0).trim_w == pytest.approx(0.0, abs=1.0)


def test_a_command_that_was_not_carried_out_winds_nothing_up():
    """The limit stayed at 700 W and the GPU draws what it likes: the model knows, so nothing is off."""
    assert run(0.0, 600, power_w=600.0, limit_w=700.0).trim_w == pytest.approx(0.0, abs=0.1)


def test_without_levers_in_force_it_is_forgotten():
    assert run(60.0, 5, run(60.0, 30), plan=replace(NO_PLAN, goal_w=10_000.0)) == Trim()


def test_it_is_bounded():
    assert run(-5_000.0, 1_000).trim_w == pytest.approx(-LARGEST_SHARE * EXPECTED_W)


def test_a_blind_meter_keeps_it():
    state = run(60.0, 30)
    blind = replace(snapshot([gpu(0)]), meter=MeterSample(NOON, None, MeterQuality.BAD))
    assert trim.update(state, PLAN, blind, ESTIMATES, 1.0).trim_w == state.trim_w


def test_a_paused_job_counts_at_what_it_draws():
    from agent.core.site import WorkloadState

    job = workload("job", [0], state=WorkloadState.PAUSED)
    shown = snapshot([gpu(0, 107.0)], [job])
    state = Trim()
    for _ in range(60):
        state = trim.update(state, PLAN, shown, ESTIMATES, 1.0)
    assert state.trim_w == pytest.approx(0.0)
