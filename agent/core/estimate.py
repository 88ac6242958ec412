"""What cannot be read off the snapshot alone: what each GPU would draw unrestrained, and what the
site draws beside its GPUs.

A checkpoint drops a job's power by tens of percent for a minute or two; a controller that takes the
dip for headroom overshoots when the job comes back. So an estimate follows small differences within
seconds, rises at once, and falls slowly.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.core.site import Gpu, Health, MeterQuality, Snapshot, WorkloadState

BINDING_SHARE = 0.985
"""A GPU under a cap that binds draws 1-3 % less than the cap (measured, A100 and V100)."""
BINDS_FROM = 0.93
"""From this share of a cap of ours on, a GPU is taken to be held by it."""
NEAR = 0.10
"""Differences up to this share are noise or drift; larger ones are a step."""
DIP_SHARE = 0.85
"""A GPU that draws less than this share of what is expected is in a dip, not free."""

_NEAR_TIME_S, _RISE_TIME_S, _FALL_TIME_S, _OTHER_TIME_S = 15.0, 3.0, 300.0, 30.0


@dataclass(frozen=True, slots=True)
class Estimates:
    """Carried from cycle to cycle."""

    demand_w: Mapping[str, float] = field(default_factory=dict)
    """By GPU: draw when nothing restrains it, W."""
    other_w: float | None = None
    """Metered power that no GPU explains, W; None before the first good reading."""


def update(
    estimates: Estimates, snapshot: Snapshot, remembered_w: Mapping[str, float], dt_s: float
) -> Estimates:
    """Take one snapshot into the estimates.

    `remembered_w`: the unrestrained draw of every GPU that the ledger has a setpoint on, W. It seeds
    a GPU that is first met restrained, as after a restart.
    """
    paused = {
        uuid
        for workload in snapshot.workloads
        if workload.state is WorkloadState.PAUSED
        for uuid in workload.gpus
    }
    at_work = {
        uuid
        for workload in snapshot.workloads
        if workload.state is WorkloadState.RUNNING
        for uuid in workload.gpus
    }
    demand_w = {
        gpu.uuid: _demand(
            gpu,
            estimates.demand_w.get(gpu.uuid, remembered_w.get(gpu.uuid)),
            dt_s,
            frozen=gpu.uuid in remembered_w and (gpu.uuid in paused or _binds(gpu)),
            idle=gpu.uuid not in at_work,
        )
        for gpu in snapshot.gpus
    }
    return Estimates(demand_w, _other(estimates.other_w, snapshot, dt_s))


def expected_draw(gpu: Gpu, demand_w: float, cap_w: float | None) -> float:
    """What a GPU is expected to draw under a cap, W; `None` is no cap beyond what already binds."""
    limit_w = gpu.enforced_w if cap_w is None else cap_w
    return demand_w if limit_w is None else min(demand_w, BINDING_SHARE * limit_w)


def site_power(snapshot: Snapshot, estimates: Estimates) -> float | None:
    """The site's import now, W: metered, or while the meter is blind what its parts come to."""
    if snapshot.meter.power_w is not None and snapshot.meter.quality is not MeterQuality.BAD:
        return snapshot.meter.power_w
    gpus_w = gpu_sum(snapshot)
    if estimates.other_w is None or gpus_w is None:
        return None
    return estimates.other_w + snapshot.watts_per_gpu_watt * gpus_w


def gpu_sum(snapshot: Snapshot) -> float | None:
    """Draw of all GPUs, W; None when one of them is not known now."""
    total_w = 0.0
    for gpu in snapshot.gpus:
        if gpu.power_w is None or gpu.health is Health.LOST:
            return None
        total_w += gpu.power_w
    return total_w


def _demand(gpu: Gpu, known_w: float | None, dt_s: float, *, frozen: bool, idle: bool) -> float:
    if gpu.power_w is None or gpu.health is not Health.OK:
        return gpu.default_limit_w if known_w is None else known_w
    if known_w is None:
        return gpu.power_w
    if frozen:
        return gpu.power_w if gpu.power_w > (1 + NEAR) * known_w else known_w
    difference_w = gpu.power_w - known_w
    if abs(difference_w) <= NEAR * known_w or (idle and difference_w < 0):
        time_s = _NEAR_TIME_S
    else:
        time_s = _RISE_TIME_S if difference_w > 0 else _FALL_TIME_S
    return known_w + difference_w * _step(dt_s, time_s)


def _binds(gpu: Gpu) -> bool:
    """Whether a GPU is held by its limit, so that its draw says nothing of its demand."""
    if gpu.power_w is None or gpu.enforced_w is None:
        return False
    return gpu.power_w >= BINDS_FROM * gpu.enforced_w


def _other(known_w: float | None, snapshot: Snapshot, dt_s: float) -> float | None:
    """Learnt only from a snapshot that is good throughout: what a silent GPU draws would end up in
    it.
    """
    gpus_w = gpu_sum(snapshot)
    meter = snapshot.meter
    sick = any(gpu.health is not Health.OK for gpu in snapshot.gpus)
    if meter.power_w is None or meter.quality is MeterQuality.BAD or gpus_w is None or sick:
        return known_w
    seen_w = max(0.0, meter.power_w - snapshot.watts_per_gpu_watt * gpus_w)
    if known_w is None:
        return seen_w
    return known_w + (seen_w - known_w) * _step(dt_s, _OTHER_TIME_S)


def _step(dt_s: float, time_s: float) -> float:
    """How far a first-order lag moves in `dt_s`."""
    return 1 - math.exp(-max(0.0, dt_s) / time_s)
