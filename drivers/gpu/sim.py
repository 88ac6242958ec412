"""The twin of `drivers.gpu.nvml`: GPUs of the simulated site."""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from drivers.gpu.base import GpuDriver, GpuHealth, GpuInfo, GpuReading, LimitSetpoint
from drivers.outcome import Outcome, Result
from drivers.settings import DriverSettings
from drivers.sim import physics
from drivers.sim.physics import SiteSpec, SiteState
from drivers.sim.site import SimSite, Time, uuids


class SimGpus:
    """GPUs of the simulated site."""

    class Settings(DriverSettings):
        """Settings of the `sim` GPU driver."""

        kind: Literal["sim"] = "sim"
        site: Path
        """The simulated site's file."""

    def __init__(self, settings: Settings, time_s: Time = time.time) -> None:
        self._site = SimSite(settings.site, time_s)
        self._last: dict[str, GpuReading] = {}

    async def open(self) -> None:
        """See that the site is there."""
        self._site.read()

    async def list(self) -> Sequence[GpuInfo]:
        """All GPUs of the site."""
        spec, _ = self._site.read()
        return [
            GpuInfo(
                uuid=uuid,
                name=spec.gpu_name,
                host=spec.hosts[i // spec.gpus_per_host],
                index=i % spec.gpus_per_host,
                min_limit_w=spec.min_limit_w,
                max_limit_w=spec.max_limit_w,
                default_limit_w=spec.max_limit_w,
                persistence=True,
            )
            for i, uuid in enumerate(uuids(spec))
        ]

    async def read(self) -> Sequence[GpuReading]:
        """One reading a GPU."""
        spec, state = self._site.read()
        readings = [self._read(spec, state, i) for i in range(len(state.gpus))]
        self._last.update((r.uuid, r) for r in readings if r.health is GpuHealth.OK)
        return readings

    async def set_limits(self, setpoints: Sequence[LimitSetpoint]) -> Sequence[Outcome]:
        """Set limits and read each back."""
        return [self._set(setpoint) for setpoint in setpoints]

    async def close(self) -> None:
        """Nothing to let go of."""

    def _read(self, spec: SiteSpec, state: SiteState, position: int) -> GpuReading:
        uuid, gpu, now_s = uuids(spec)[position], state.gpus[position], self._site.now_s
        now = datetime.fromtimestamp(now_s, UTC)
        if gpu.fault == "lost":
            detail = f"GPU {uuid} has fallen off the bus"
            return GpuReading(uuid, now, None, None, None, None, GpuHealth.LOST, detail)
        if gpu.fault == "hung":
            detail = f"GPU {uuid} does not answer"
            last = self._last.get(uuid, GpuReading(uuid, now, None, None, None))
            return replace(last, health=GpuHealth.STALE, detail=detail)
        return GpuReading(
            uuid=uuid,
            at=now,
            power_w=physics.gpu_reading(spec, state, position, now_s),
            limit_w=gpu.limit_w,
            enforced_w=physics.enforced_w(gpu),
            energy_j=physics.energy(spec, state, position, now_s),
        )

    def _set(self, setpoint: LimitSetpoint) -> Outcome:
        spec, state = self._site.read()
        uuid = setpoint.uuid
        if uuid not in uuids(spec):
            return Outcome(uuid, Result.LOST, f"GPU {uuid} is not there")
        gpu = state.gpus[uuids(spec).index(uuid)]
        if gpu.fault in ("lost", "hung"):
            return Outcome(uuid, Result.LOST, f"GPU {uuid} does not answer")
        if gpu.fault == "denied":
            return Outcome(uuid, Result.REFUSED, f"no permission to set the limit of GPU {uuid}")
        if not spec.min_limit_w <= setpoint.limit_w <= spec.max_limit_w:
            text = (
                f"{setpoint.limit_w:g} W is outside what GPU {uuid} allows "
                f"({spec.min_limit_w:g} to {spec.max_limit_w:g} W)"
            )
            return Outcome(uuid, Result.REFUSED, text)
        self._site.change_gpu(uuid, lambda g: replace(g, limit_w=setpoint.limit_w))
        if gpu.out_of_band_w is not None and gpu.out_of_band_w < setpoint.limit_w:
            text = f"GPU {uuid} is held at {gpu.out_of_band_w:g} W out of band"
            return Outcome(uuid, Result.CLAMPED, text)
        return Outcome(uuid, Result.APPLIED)


if TYPE_CHECKING:
    _conforms: type[GpuDriver] = SimGpus
