"""The slow correction from the meter.

Feed-forward puts the site near its goal; what the model does not know (losses, fans, a cap that
binds a little differently) is left to this integral. It cuts fast and gives back slowly, looks at a
filtered error with checkpoint dips taken out, and stands still while the ceiling moves.
"""

import math
from dataclasses import dataclass

from agent.core.estimate import DIP_SHARE, Estimates, expected_draw
from agent.core.plan import Plan
from agent.core.site import Health, MeterQuality, Snapshot, WorkloadState

FILTER_S = 8.0
CUT_PER_S = 0.08
GIVE_PER_S = 0.02
LARGEST_SHARE = 0.10
"""The trim never exceeds this share of the goal: beyond it something else is wrong."""
SETTLE_S = 4.0
"""After the goal moved, this long is left to the caps and the meter's averaging."""
STILL_SHARE = 0.002
"""Goals that differ by less than this share are the same."""


@dataclass(frozen=True, slots=True)
class Trim:
    """Carried from cycle to cycle."""

    trim_w: float = 0.0
    """Correction to the GPUs' budget, W."""
    error_w: float = 0.0
    """Filtered goal less metered power, W."""
    goal_w: float | None = None
    still_s: float = 0.0
    """For how long the goal has not moved."""


def update(trim: Trim, plan: Plan, snapshot: Snapshot, estimates: Estimates, dt_s: float) -> Trim:
    """Take one cycle's reading into the trim; `plan` is the one that was in force until now.

    Without a lever in force there is nothing to trim and the trim is forgotten. Without a good meter
    there is nothing to trim by, and with every lever at its floor nothing to trim with: both keep it as it is.
    """
    goal_w = plan.goal_w
    if goal_w is None or not (plan.caps or plan.pauses):
        return Trim()
    still = trim.goal_w is not None and abs(goal_w - trim.goal_w) <= STILL_SHARE * goal_w
    still_s = trim.still_s + dt_s if still else 0.0
    metered_w = snapshot.meter.power_w
    blind = metered_w is None or snapshot.meter.quality is MeterQuality.BAD
    if metered_w is None or blind or still_s < SETTLE_S or plan.exhausted:
        return Trim(trim.trim_w, 0.0, goal_w, still_s)
    error_now_w = goal_w - (metered_w + _dips(snapshot, estimates))
    error_w = trim.error_w + (error_now_w - trim.error_w) * (1 - math.exp(-dt_s / FILTER_S))
    rate = GIVE_PER_S if error_w > 0 else CUT_PER_S
    largest_w = LARGEST_SHARE * goal_w / snapshot.watts_per_gpu_watt
    trim_w = trim.trim_w + rate * dt_s * error_w / snapshot.watts_per_gpu_watt
    return Trim(max(-largest_w, min(largest_w, trim_w)), error_w, goal_w, still_s)


def _dips(snapshot: Snapshot, estimates: Estimates) -> float:
    """What the meter would read more if no GPU were in a checkpoint dip, W."""
    paused = {
        uuid
        for workload in snapshot.workloads
        if workload.state is WorkloadState.PAUSED
        for uuid in workload.gpus
    }
    missing_w = 0.0
    for gpu in snapshot.gpus:
        if gpu.power_w is None or gpu.health is not Health.OK or gpu.uuid in paused:
            continue
        expected_w = expected_draw(gpu, estimates.demand_w.get(gpu.uuid, gpu.power_w), None)
        if gpu.power_w < DIP_SHARE * expected_w:
            missing_w += expected_w - gpu.power_w
    return missing_w * snapshot.watts_per_gpu_watt
