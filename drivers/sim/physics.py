"""What the simulated site's devices do: pure functions of their state and the time.

A GPU's draw follows its level (what its job wants, or what its limit lets it have) with a
first-order lag from the last change of limit or job, carries noise, and is read as a mean over the
last second, as most GPUs' sensors do. Times are Unix seconds.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

LAG_S = 0.07
"""Time constant of a draw that follows a new limit: settled within about 0.2 s (measured, V100)."""
BIND_SHARE = 0.98
"""A limit that binds is undershot by 1-3 % (measured, A100 and V100)."""
CONTEXT_W = 35.0
"""What a paused process's CUDA context draws above the bare idle of its GPU (measured, A100, H100)."""


@dataclass(frozen=True, slots=True)
class Dip:
    """A checkpoint: the job's draw falls for a while, again and again."""

    every_s: float
    first_s: float
    """After the site's start."""
    length_s: float
    depth: float
    """Share of the draw that is missing during it."""


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One simulated job."""

    job_id: str
    name: str
    labels: Mapping[str, str]
    gpus: tuple[int, ...]
    """Positions in the site's list of GPUs."""
    demand_w: float
    """What each of its GPUs draws unrestrained, W."""
    noise: float = 0.03
    """Standard deviation of a GPU's half-second draw, as a share."""
    dip: Dip | None = None


@dataclass(frozen=True, slots=True)
class SiteSpec:
    """The simulated site as built."""

    name: str
    hosts: tuple[str, ...]
    gpus_per_host: int
    gpu_name: str = "NVIDIA H100 80GB HBM3 (simulated)"
    min_limit_w: float = 200.0
    max_limit_w: float = 700.0
    idle_w: float = 72.0
    host_base_w: float = 1200.0
    """CPUs, fans and network of one host, W."""
    pue: float = 1.15
    seed: int = 1
    jobs: tuple[JobSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class GpuState:
    """What has been done to one simulated GPU."""

    limit_w: float
    level_w: float = 0.0
    """Its draw when the last change was made, W: where the lag starts from."""
    changed_at: float = 0.0
    out_of_band_w: float | None = None
    """A limit held by something we do not command (a BMC), W."""
    fault: str = ""
    """`lost`, `hung`, `denied` or nothing."""
    energy_j: float = 0.0
    """Counter at `changed_at`, J."""


@dataclass(frozen=True, slots=True)
class SiteState:
    """The simulated site at work."""

    started_at: float
    gpus: tuple[GpuState, ...]
    paused_at: Mapping[str, float] = field(default_factory=dict)
    """By job id: since when it is paused."""
    meter_fault: str = ""
    """What the meter answers instead of a reading; empty: it reads."""
    jobs_fault: str = ""
    """`denied` (no right to pause and resume) or `away` (the engine does not answer), or nothing."""


def enforced_w(gpu: GpuState) -> float:
    """The limit that binds, W."""
    return gpu.limit_w if gpu.out_of_band_w is None else min(gpu.limit_w, gpu.out_of_band_w)


def gpu_power(spec: SiteSpec, state: SiteState, position: int, at: float) -> float:
    """A GPU's draw at an instant, W, noise and lag included."""
    gpu = state.gpus[position]
    level_w = _level(spec, state, position, at)
    rest = math.exp(-max(0.0, at - gpu.changed_at) / LAG_S)
    return level_w + (gpu.level_w - level_w) * rest


def gpu_reading(spec: SiteSpec, state: SiteState, position: int, at: float) -> float:
    """A GPU's draw averaged over the last second, W."""
    return sum(gpu_power(spec, state, position, at - back) for back in _AVERAGED_S) / len(
        _AVERAGED_S
    )


def site_power(spec: SiteSpec, state: SiteState, at: float) -> float:
    """What the site's meter reads: GPUs, hosts and losses, averaged over the last second, W."""
    gpus_w = sum(gpu_reading(spec, state, i, at) for i in range(len(state.gpus)))
    return (gpus_w + spec.host_base_w * len(spec.hosts)) * spec.pue


def energy(spec: SiteSpec, state: SiteState, position: int, at: float) -> float:
    """A GPU's energy counter, J: the integral of its draw without the noise, so it never falls."""
    gpu = state.gpus[position]
    elapsed_s = max(0.0, at - gpu.changed_at)
    job = job_of(spec, position)
    if job is None or job.job_id in state.paused_at:
        high_w = low_w = spec.idle_w + (0.0 if job is None else CONTEXT_W)
        dip_s = 0.0
    else:
        bound_w = enforced_w(gpu) * BIND_SHARE
        depth = 0.0 if job.dip is None else job.dip.depth
        high_w, low_w = min(job.demand_w, bound_w), min(job.demand_w * (1 - depth), bound_w)
        begun_s = gpu.changed_at - state.started_at
        dip_s = _dipped_s(job.dip, begun_s + elapsed_s) - _dipped_s(job.dip, begun_s)
    lag_j = (gpu.level_w - high_w) * LAG_S * (1 - math.exp(-elapsed_s / LAG_S))
    return gpu.energy_j + high_w * (elapsed_s - dip_s) + low_w * dip_s + lag_j


def job_of(spec: SiteSpec, position: int) -> JobSpec | None:
    """The job that holds a GPU."""
    for job in spec.jobs:
        if position in job.gpus:
            return job
    return None


_AVERAGED_S = (0.1, 0.3, 0.5, 0.7, 0.9)


def _level(spec: SiteSpec, state: SiteState, position: int, at: float) -> float:
    """Where the draw settles, W."""
    job = job_of(spec, position)
    if job is None:
        return spec.idle_w
    if job.job_id in state.paused_at:
        return spec.idle_w + CONTEXT_W
    noise = 1 + job.noise * _noise(spec.seed, position, math.floor(at * 2))
    wanted_w = job.demand_w * (1 - _dip(job.dip, at - state.started_at)) * noise
    limit_w = enforced_w(state.gpus[position])
    if wanted_w <= limit_w * BIND_SHARE:
        return wanted_w
    small = 1 + 0.004 * _noise(spec.seed + 1, position, math.floor(at * 2))
    return limit_w * BIND_SHARE * small


def _dip(dip: Dip | None, elapsed_s: float) -> float:
    if dip is None or elapsed_s < dip.first_s:
        return 0.0
    return dip.depth if (elapsed_s - dip.first_s) % dip.every_s < dip.length_s else 0.0


def _dipped_s(dip: Dip | None, elapsed_s: float) -> float:
    """How long of the first `elapsed_s` was spent in dips."""
    if dip is None or elapsed_s < dip.first_s:
        return 0.0
    rounds, rest_s = divmod(elapsed_s - dip.first_s, dip.every_s)
    return rounds * dip.length_s + min(rest_s, dip.length_s)


@lru_cache(maxsize=8192)
def _noise(seed: int, position: int, tick: int) -> float:
    """A number around 0 with standard deviation 1, the same for the same arguments everywhere."""
    total = 0.0
    for part in range(3):
        total += _hash(seed * 1_000_003 + position * 10_007 + tick * 101 + part) / 2**64
    return (total - 1.5) * 2.0


def _hash(value: int) -> int:
    """SplitMix64's output function: neighbouring inputs give unrelated outputs."""
    value = (value * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return value ^ (value >> 31)
