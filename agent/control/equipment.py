"""The site's drivers as one: observed together, commanded by device and job."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from agent.core.policy import Policy, classify
from agent.core.site import (
    Gpu,
    Health,
    MeterQuality,
    MeterSample,
    Snapshot,
    Workload,
    WorkloadState,
)
from drivers.errors import DriverError, UnavailableError
from drivers.gpu.base import GpuDriver, GpuInfo, GpuReading, LimitSetpoint
from drivers.jobs.base import Job, JobsDriver
from drivers.meter.base import Meter, MeterReading, Quality
from drivers.outcome import Outcome, Result

log = logging.getLogger(__name__)

DRIVER_TIMEOUT_S = 8.0
"""Longest a driver may take for one call, whatever its own timeouts are: a cycle must go on."""

T = TypeVar("T")

_Driver = GpuDriver | JobsDriver | Meter


class Equipment:
    """All drivers of a site. A driver that fails makes the snapshot blind there, not the agent."""

    def __init__(
        self, gpus: GpuDriver, jobs: Sequence[JobsDriver], meter: Meter, policy: Policy
    ) -> None:
        self._gpus = gpus
        self._jobs = tuple(jobs)
        self._meter = meter
        self._policy = policy
        self._infos: tuple[GpuInfo, ...] = ()
        self._listed: dict[JobsDriver, tuple[Job, ...]] = {}
        self._owners: dict[str, JobsDriver] = {}
        self._away: dict[_Driver, DriverError] = {}

    async def open(self) -> None:
        """Reach every driver. Raises `DriverError` for the first that cannot be reached."""
        for driver in self._drivers:
            await driver.open()
        self._infos = tuple(await self._gpus.list())

    async def open_each(self) -> tuple[str, ...]:
        """Reach what can be reached, to undo what can be undone; a sentence for each driver that
        cannot. It is not asked again, and observed as one that does not answer.
        """
        for driver in self._drivers:
            try:
                await driver.open()
            except DriverError as error:
                self._away[driver] = error
        if self.gpus_listed:
            self._infos = tuple(await self._gpus.list())
        return tuple(map(str, self._away.values()))

    @property
    def gpus_listed(self) -> bool:
        """Whether the GPUs were reached: only then is one that is not listed gone."""
        return self._gpus not in self._away

    async def observe(self, at: datetime) -> tuple[Snapshot, bool]:
        """One snapshot, and whether every jobs engine answered."""
        readings, blind_gpus = await self._read_gpus(at)
        (workloads, blind_jobs), meter = await asyncio.gather(
            self._list_workloads(), self._read_meter(readings, at)
        )
        blind = (*blind_gpus, *blind_jobs)
        gpus = tuple(_gpu(info, readings.get(info.uuid)) for info in self._infos)
        gain = self._meter.watts_per_gpu_watt
        return Snapshot(at, gpus, workloads, meter, gain, blind), not blind_jobs

    async def set_limits(self, limits: Mapping[str, tuple[float, float]]) -> Sequence[Outcome]:
        """Set power limits: by GPU its limit, W, and lease, s."""
        setpoints = [LimitSetpoint(uuid, *limit) for uuid, limit in limits.items()]
        return await _answered(self._gpus.set_limits(setpoints), list(limits))

    async def pause(self, job_ids: Sequence[str]) -> Sequence[Outcome]:
        """Pause workloads through the engines that listed them."""
        return await self._command(job_ids, lambda driver, ids: driver.pause(ids))

    async def resume(self, job_ids: Sequence[str]) -> Sequence[Outcome]:
        """Resume workloads through the engines that listed them."""
        return await self._command(job_ids, lambda driver, ids: driver.resume(ids))

    async def close(self) -> None:
        """Let go of every driver; changes nothing on the devices."""
        for driver in self._drivers:
            try:
                await driver.close()
            except DriverError as error:
                log.warning("closing a driver: %s", error)

    @property
    def _drivers(self) -> tuple[_Driver, ...]:
        return (self._gpus, *self._jobs, self._meter)

    async def _read_gpus(self, at: datetime) -> tuple[dict[str, GpuReading], tuple[str, ...]]:
        if not self.gpus_listed:
            return {}, (f"GPUs: {self._away[self._gpus]}",)
        try:
            readings = await _in_time(self._gpus.read())
        except DriverError as error:
            return {}, (f"GPUs: {error}",)
        return {reading.uuid: reading for reading in readings}, ()

    async def _list_workloads(self) -> tuple[tuple[Workload, ...], tuple[str, ...]]:
        """What the engines list; of an engine that does not answer, what it listed last."""
        blind = []
        for driver in self._jobs:
            if driver in self._away:
                blind.append(f"jobs: {self._away[driver]}")
                continue
            try:
                jobs = tuple(await _in_time(driver.list()))
            except DriverError as error:
                blind.append(f"jobs: {error}")
                continue
            self._listed[driver] = jobs
            self._owners.update((job.job_id, driver) for job in jobs)
        listed = [job for driver in self._jobs for job in self._listed.get(driver, ())]
        return tuple(self._workload(job) for job in listed), tuple(blind)

    async def _read_meter(self, readings: Mapping[str, GpuReading], at: datetime) -> MeterSample:
        ordered = [readings[info.uuid] for info in self._infos if info.uuid in readings]
        if len(ordered) < len(self._infos):
            return MeterSample(at, None, MeterQuality.BAD, "not every GPU could be read")
        try:
            return _meter_sample(await _in_time(self._meter.read(ordered)))
        except DriverError as error:
            return MeterSample(at, None, MeterQuality.BAD, str(error))

    async def _command(
        self,
        job_ids: Sequence[str],
        command: Callable[[JobsDriver, Sequence[str]], Awaitable[Sequence[Outcome]]],
    ) -> list[Outcome]:
        outcomes = [
            Outcome(job_id, Result.LOST, f"no jobs engine knows {job_id}")
            for job_id in job_ids
            if job_id not in self._owners
        ]
        for driver in self._jobs:
            ids = [job_id for job_id in job_ids if self._owners.get(job_id) is driver]
            if ids:
                outcomes += await _answered(command(driver, ids), ids)
        return outcomes

    def _workload(self, job: Job) -> Workload:
        kind, terms = classify(job.name, job.labels, self._policy)
        state = WorkloadState(job.state.value)
        return Workload(job.job_id, job.name, kind, terms, tuple(job.gpus), state, job.since)


async def _answered(
    command: Awaitable[Sequence[Outcome]], keys: Sequence[str]
) -> Sequence[Outcome]:
    """A driver that fails as a whole has failed for each."""
    try:
        return await _in_time(command)
    except DriverError as error:
        return [Outcome(key, Result.LOST, str(error)) for key in keys]


async def _in_time(call: Awaitable[T]) -> T:
    """A driver's answer. Raises `DriverError` when there is none in time."""
    try:
        async with asyncio.timeout(DRIVER_TIMEOUT_S):
            return await call
    except TimeoutError:
        raise UnavailableError(f"a driver gave no answer within {DRIVER_TIMEOUT_S:.0f} s") from None


def _gpu(info: GpuInfo, reading: GpuReading | None) -> Gpu:
    return Gpu(
        uuid=info.uuid,
        host=info.host,
        index=info.index,
        name=info.name,
        min_limit_w=info.min_limit_w,
        max_limit_w=info.max_limit_w,
        default_limit_w=info.default_limit_w,
        power_w=None if reading is None else reading.power_w,
        limit_w=None if reading is None else reading.limit_w,
        enforced_w=None if reading is None else reading.enforced_w,
        health=Health.STALE if reading is None else Health(reading.health.value),
        energy_j=None if reading is None else reading.energy_j,
        persistence=info.persistence,
        detail="" if reading is None else reading.detail,
    )


def _meter_sample(reading: MeterReading) -> MeterSample:
    quality = MeterQuality(reading.quality.value)
    if reading.power_w is None or reading.quality is Quality.BAD:
        return MeterSample(reading.at, None, MeterQuality.BAD, reading.detail or "no reading")
    if not math.isfinite(reading.power_w):
        return MeterSample(reading.at, None, MeterQuality.BAD, f"it reads {reading.power_w} W")
    return MeterSample(reading.at, reading.power_w, quality, reading.detail)
