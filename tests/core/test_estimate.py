"""Expected draw: follows drift, rises at once, does not fall for a checkpoint's dip."""

from dataclasses import replace

import pytest

from agent.core.estimate import Estimates, expected_draw, site_power, update
from agent.core.site import Health, MeterQuality, MeterSample, WorkloadState
from tests.core.build import NOON, gpu, snapshot, workload


def run(power_w, seconds, estimates=None, remembered=None, **changes):
    estimates = Estimates() if estimates is None else estimates
    for _ in range(seconds):
        shown = snapshot([gpu(0, power_w, **changes)], [workload("job", [0])])
        estimates = update(estimates, shown, remembered or {}, 1.0)
    return estimates


def test_small_differences_are_followed_within_seconds():
    estimates = run(620.0, 60, run(600.0, 1))
    assert estimates.demand_w["GPU-0"] == pytest.approx(620.0, abs=1.0)


def test_a_rise_is_followed_at_once():
    estimates = run(600.0, 10, run(300.0, 1))
    assert estimates.demand_w["GPU-0"] > 560.0


def test_a_checkpoints_dip_of_a_minute_is_hardly_followed():
    estimates = run(360.0, 60, run(600.0, 1))
    assert estimates.demand_w["GPU-0"] > 540.0


def test_a_gpu_without_work_is_followed_down_at_once():
    estimates = run(600.0, 1)
    for _ in range(60):
        estimates = update(estimates, snapshot([gpu(0, 80.0)]), {}, 1.0)
    assert estimates.demand_w["GPU-0"] < 100.0


def test_under_a_cap_of_ours_that_binds_the_demand_stays_what_it_was():
    estimates = run(394.0, 600, run(600.0, 1), {"GPU-0": 600.0}, limit_w=400.0)
    assert estimates.demand_w["GPU-0"] == 600.0


def test_a_limit_that_is_not_ours_says_what_the_gpu_draws_without_us():
    estimates = run(690.0, 60, run(650.0, 1), limit_w=700.0)
    assert estimates.demand_w["GPU-0"] == pytest.approx(690.0, abs=2.0)


def test_a_restart_under_a_cap_remembers_the_demand_from_the_ledger():
    estimates = run(394.0, 1, remembered={"GPU-0": 610.0}, limit_w=400.0)
    assert estimates.demand_w["GPU-0"] == 610.0


def test_a_paused_workload_keeps_its_demand():
    shown = snapshot([gpu(0, 110.0)], [workload("job", [0], state=WorkloadState.PAUSED)])
    estimates = run(600.0, 1)
    for _ in range(600):
        estimates = update(estimates, shown, {"GPU-0": 600.0}, 1.0)
    assert estimates.demand_w["GPU-0"] == 600.0


def test_a_gpu_that_cannot_be_read_keeps_its_demand_and_never_counts_as_nothing():
    known = run(600.0, 1)
    lost = snapshot([gpu(0, None, health=Health.LOST)], [workload("job", [0])])
    assert update(known, lost, {}, 1.0).demand_w["GPU-0"] == 600.0
    assert update(Estimates(), lost, {}, 1.0).demand_w["GPU-0"] == 700.0


def test_what_no_gpu_explains_is_what_the_meter_reads_more():
    estimates = update(Estimates(), snapshot([gpu(0, 600.0)], other_w=5_000.0, gain=1.2), {}, 1.0)
    assert estimates.other_w == pytest.approx(5_000.0)


def test_a_lost_meter_leaves_the_last_estimate_and_bridges_the_sites_power():
    known = update(Estimates(), snapshot([gpu(0, 600.0)], other_w=5_000.0), {}, 1.0)
    blind = replace(snapshot([gpu(0, 500.0)]), meter=MeterSample(NOON, None, MeterQuality.BAD))
    estimates = update(known, blind, {}, 1.0)
    assert estimates.other_w == known.other_w
    assert site_power(blind, estimates) == pytest.approx(5_500.0)


def test_the_sites_power_is_unknown_when_both_meter_and_a_gpu_are():
    blind = replace(
        snapshot([gpu(0, None, health=Health.LOST)]),
        meter=MeterSample(NOON, None, MeterQuality.BAD),
    )
    assert site_power(blind, Estimates(other_w=5_000.0)) is None


def test_expected_draw_is_the_demand_or_just_under_the_cap():
    assert expected_draw(gpu(0), 600.0, None) == 600.0
    assert expected_draw(gpu(0), 600.0, 400.0) == pytest.approx(394.0)
    assert expected_draw(gpu(0), 300.0, 400.0) == 300.0
