"""GPU drivers under the contract: each with hands on the devices behind it.

Another driver joins the suite by a rig in `RIGS`: an async context that yields the opened driver
over at least three GPUs, all well, all with the same range, and work that draws 500 W on each.
"""

import asyncio
import atexit
import functools
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from drivers.gpu.base import GpuDriver
from drivers.gpu.nvml import NvmlGpus
from drivers.gpu.sim import SimGpus
from drivers.sim.physics import JobSpec, SiteSpec
from drivers.sim.site import SimSite
from drivers.sim.site import uuids as site_uuids
from tests.drivers.nvml_stub import NvmlStub
from tests.drivers.sim_clock import SimClock
from tests.requirement import missing


class GpuRig(Protocol):
    """What the contract's tests do to a driver's devices behind its back."""

    driver: GpuDriver
    timeout_s: float
    """Within which the driver answers though a GPU hangs."""

    def limit_w(self, uuid: str) -> float:
        """The limit that software asked of the device, as the device itself has it."""

    def demand(self, uuid: str, power_w: float) -> None:
        """What the GPU's work would draw without a limit."""

    def hold_out_of_band(self, uuid: str, limit_w: float) -> None:
        """Something like a BMC holds the GPU at `limit_w`."""

    def second_writer(self, uuid: str, limit_w: float) -> None:
        """Somebody else sets the limit."""

    def lose(self, uuid: str) -> None:
        """The GPU falls off the bus."""

    def hang(self, uuid: str) -> None:
        """Every call on the GPU hangs until `release`."""

    def release(self, uuid: str) -> None:
        """Calls on the GPU return again."""

    def forbid(self) -> None:
        """This process loses the right to set limits."""

    async def pass_time(self, seconds: float) -> None:
        """Let the devices live for a while."""


class NvmlRig:
    """`NvmlGpus` over the stub library."""

    def __init__(self, driver: NvmlGpus, stub: NvmlStub, timeout_s: float) -> None:
        self.driver = driver
        self.stub = stub
        self.timeout_s = timeout_s
        self.limit_w = stub.limit_w
        self.demand = stub.set_demand
        self.hold_out_of_band = stub.hold_out_of_band
        self.second_writer = stub.write_limit
        self.lose = stub.lose
        self.hang = stub.hang
        self.release = stub.release

    def forbid(self) -> None:
        self.stub.forbid()

    async def pass_time(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@functools.cache
def _library() -> Path:
    # Kept until the process ends: a library once loaded is never unloaded.
    directory = tempfile.mkdtemp(prefix="nvml-stub-")
    atexit.register(shutil.rmtree, directory)
    return NvmlStub.build(Path(directory))


def nvml_stub() -> NvmlStub:
    """The stub library, built once a process."""
    if shutil.which("gcc") is None:
        missing("gcc", "the NVML stub is compiled with it")
    return NvmlStub(_library())


def wait_for_threads() -> None:
    """Wait until the threads of closed drivers have ended, so that no call is late into a reset."""
    for thread in threading.enumerate():
        if thread.name.startswith("nvml"):
            thread.join(10)
            assert not thread.is_alive(), thread.name


@asynccontextmanager
async def nvml_rig(
    gpus: int = 3, timeout_s: float = 0.5, delay_s: float = 0.0
) -> AsyncIterator[NvmlRig]:
    stub = nvml_stub()
    stub.reset(gpus, delay_s)
    settings = NvmlGpus.Settings(library=stub.path, timeout_s=timeout_s, host="host-a")
    driver = NvmlGpus(settings)
    await driver.open()
    try:
        yield NvmlRig(driver, stub, timeout_s)
    finally:
        stub.release()
        await driver.close()
        wait_for_threads()
        stub.forget()


class SimRig:
    """`SimGpus` over a simulated site, on a clock that the test moves."""

    timeout_s = 0.5

    def __init__(self, site: SimSite, driver: SimGpus, clock: SimClock) -> None:
        self.site = site
        self.driver = driver
        self.clock = clock

    def limit_w(self, uuid: str) -> float:
        spec, state = self.site.read()
        return state.gpus[site_uuids(spec).index(uuid)].limit_w

    def demand(self, uuid: str, power_w: float) -> None:
        def change(spec: SiteSpec) -> SiteSpec:
            position = site_uuids(spec).index(uuid)
            jobs = [
                j if position not in j.gpus else replace(j, demand_w=power_w) for j in spec.jobs
            ]
            return replace(spec, jobs=tuple(jobs))

        self.site.rebuild(change)

    def hold_out_of_band(self, uuid: str, limit_w: float) -> None:
        self.site.change_gpu(uuid, lambda gpu: replace(gpu, out_of_band_w=limit_w))

    def second_writer(self, uuid: str, limit_w: float) -> None:
        self.site.change_gpu(uuid, lambda gpu: replace(gpu, limit_w=limit_w))

    def lose(self, uuid: str) -> None:
        self.site.change_gpu(uuid, lambda gpu: replace(gpu, fault="lost"))

    def hang(self, uuid: str) -> None:
        self.site.change_gpu(uuid, lambda gpu: replace(gpu, fault="hung"))

    def release(self, uuid: str) -> None:
        self.site.change_gpu(uuid, lambda gpu: replace(gpu, fault=""))

    def forbid(self) -> None:
        for uuid in site_uuids(self.site.read()[0]):
            self.site.change_gpu(uuid, lambda gpu: replace(gpu, fault="denied"))

    async def pass_time(self, seconds: float) -> None:
        self.clock.forward_s += seconds


@asynccontextmanager
async def sim_rig() -> AsyncIterator[SimRig]:
    clock = SimClock()
    jobs = tuple(JobSpec(f"sim:{n}", str(n), {}, (n,), 500.0) for n in range(4))
    with tempfile.TemporaryDirectory(prefix="sim-site-") as directory:
        path = Path(directory) / "site.json"
        site = SimSite.create(path, SiteSpec("rig", ("a", "b"), 2, jobs=jobs), clock)
        driver = SimGpus(SimGpus.Settings(site=path), clock)
        await driver.open()
        yield SimRig(site, driver, clock)
        await driver.close()


RIGS = [
    pytest.param(nvml_rig, id="nvml", marks=pytest.mark.gcc),
    pytest.param(sim_rig, id="sim"),
]
