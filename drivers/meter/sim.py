"""The simulated site's own meter."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from drivers.gpu.base import GpuReading
from drivers.meter.base import Meter, MeterReading, Quality
from drivers.settings import DriverSettings
from drivers.sim.site import SimSite, Time


class SimMeter:
    """The meter of the simulated site."""

    class Settings(DriverSettings):
        """Settings of the `sim` meter."""

        kind: Literal["sim"] = "sim"
        site: Path
        """The simulated site's file."""

    def __init__(self, settings: Settings, time_s: Time = time.time) -> None:
        self._site = SimSite(settings.site, time_s)
        self._pue = 1.0

    @property
    def watts_per_gpu_watt(self) -> float:
        """The simulated site's losses."""
        return self._pue

    async def open(self) -> None:
        """See that the site is there, and learn its losses."""
        spec, _ = self._site.read()
        self._pue = spec.pue

    async def read(self, gpus: Sequence[GpuReading]) -> MeterReading:
        """What the site draws, averaged over the last second."""
        _, state = self._site.read()
        now = datetime.fromtimestamp(self._site.now_s, UTC)
        if state.meter_fault:
            return MeterReading(now, None, Quality.BAD, state.meter_fault)
        return MeterReading(now, self._site.power_w(), Quality.GOOD)

    async def close(self) -> None:
        """Nothing to let go of."""


if TYPE_CHECKING:
    _conforms: type[Meter] = SimMeter
