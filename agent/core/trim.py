"""The slow correction from the meter: how far the model of the site is off.

Feed-forward puts the site where the model says the goal is; what the model does not know (losses,
fans, a cap that binds a little differently) shows as the difference between what the model says the
site should draw under the limits in force and what the meter reads. Comparing these two, and not
goal and meter, means that a command that was not carried out winds nothing up. The correction cuts
fast and gives back slowly, takes no checkpoint dip for headroom, and looks away while limits move.
"""

import math
from dataclasses import dataclass

from agent.core.estimate import DIP_SHARE, Estimates, expected_draw
from agent.core.plan import Plan
from agent.core.site import Health, MeterQuality, Snapshot, WorkloadState

CUT_TIME_S = 8.0
GIVE_TIME_S = 30.0
LARGEST_SHARE = 0.10
"""The correction never exceeds this share of the site's power: beyond it something else is wrong."""
STILL_SHARE = 0.002
"""Changes of what the model expects by less than this share are standing still."""


@dataclass(frozen=True, slots=True)
class Trim:
    """Carried from cycle to cycle."""

    trim_w: float = 0.0
    """What the GPUs may draw more than the model says, W; negative: less."""
    expected_w: float | None = None
    """What the model expected of the site in the last cycle, W."""


def update(trim: Trim, plan: Plan, snapshot: Snapshot, estimates: Estimates, dt_s: float) -> Trim:
    """Take one cycle's reading into the correction; `plan` is the one in force until now.

    Without a lever in force there is nothing to correct and the correction is forgotten; without a
    good meter there is nothing to correct by, and it stays.
    """
    if not (plan.caps or plan.pauses):
        return Trim()
    metered_w = snapshot.meter.power_w
    modelled = _modelled(snapshot, estimates)
    if metered_w is None or snapshot.meter.quality is MeterQuality.BAD or modelled is None:
        return Trim(trim.trim_w)
    expected_w, dips_w = modelled
    before_w = trim.expected_w
    if before_w is None or abs(expected_w - before_w) > STILL_SHARE * expected_w:
        return Trim(trim.trim_w, expected_w)
    off_w = (expected_w - dips_w - metered_w) / snapshot.watts_per_gpu_watt
    time_s = CUT_TIME_S if off_w < trim.trim_w else GIVE_TIME_S
    trim_w = trim.trim_w + (off_w - trim.trim_w) * (1 - math.exp(-dt_s / time_s))
    largest_w = LARGEST_SHARE * expected_w / snapshot.watts_per_gpu_watt
    return Trim(max(-largest_w, min(largest_w, trim_w)), expected_w)


def _modelled(snapshot: Snapshot, estimates: Estimates) -> tuple[float, float] | None:
    """What the model says the site should draw under the limits in force, and how much of that is
    missing for checkpoint dips, both W; None while the model is not complete.
    """
    if estimates.other_w is None:
        return None
    paused = {
        uuid
        for workload in snapshot.workloads
        if workload.state is WorkloadState.PAUSED
        for uuid in workload.gpus
    }
    expected_w = missing_w = 0.0
    for gpu in snapshot.gpus:
        if gpu.power_w is None or gpu.health is not Health.OK:
            return None
        if gpu.uuid in paused:
            expected_w += gpu.power_w
            continue
        alone_w = expected_draw(gpu, estimates.demand_w.get(gpu.uuid, gpu.power_w), None)
        expected_w += alone_w
        if gpu.power_w < DIP_SHARE * alone_w:
            missing_w += alone_w - gpu.power_w
    gain = snapshot.watts_per_gpu_watt
    return estimates.other_w + gain * expected_w, gain * missing_w
