"""Meters under the contract.

Another meter joins the suite by a rig in `RIGS`: an async context that yields the opened meter of
a site that draws power.
"""

import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import pytest

from drivers.gpu.base import GpuHealth, GpuReading
from drivers.meter.base import Meter
from drivers.meter.gpu_sum import GpuSumMeter
from drivers.meter.sim import SimMeter
from drivers.sim.physics import SiteSpec
from drivers.sim.site import SimSite


class MeterRig(Protocol):
    """What the contract's tests do to a meter behind its back."""

    meter: Meter

    def gpus(self) -> Sequence[GpuReading]:
        """This cycle's GPU readings."""

    def lose(self) -> None:
        """The meter cannot be read any more."""


class GpuSumRig:
    """A computed meter is lost when a GPU is."""

    def __init__(self, meter: GpuSumMeter) -> None:
        self.meter = meter
        self._health = GpuHealth.OK

    def gpus(self) -> Sequence[GpuReading]:
        well = GpuReading("GPU-1", datetime.now(UTC), 400.0, 700.0, 700.0)
        if self._health is GpuHealth.LOST:
            return [well, replace(well, uuid="GPU-2", power_w=None, health=self._health)]
        return [well, replace(well, uuid="GPU-2")]

    def lose(self) -> None:
        self._health = GpuHealth.LOST


@asynccontextmanager
async def gpu_sum_rig() -> AsyncIterator[GpuSumRig]:
    meter = GpuSumMeter(GpuSumMeter.Settings(base_load_w=500, pue=1.2))
    await meter.open()
    yield GpuSumRig(meter)
    await meter.close()


class SimRig:
    """The simulated site's meter."""

    def __init__(self, meter: SimMeter, site: SimSite) -> None:
        self.meter = meter
        self._site = site

    def gpus(self) -> Sequence[GpuReading]:
        return []

    def lose(self) -> None:
        self._site.break_meter("no answer on the bus")


@asynccontextmanager
async def sim_rig() -> AsyncIterator[SimRig]:
    with tempfile.TemporaryDirectory(prefix="sim-site-") as directory:
        path = Path(directory) / "site.json"
        site = SimSite.create(path, SiteSpec("rig", ("a",), 4))
        meter = SimMeter(SimMeter.Settings(site=path))
        await meter.open()
        yield SimRig(meter, site)
        await meter.close()


RIGS = [pytest.param(gpu_sum_rig, id="gpu-sum"), pytest.param(sim_rig, id="sim")]
