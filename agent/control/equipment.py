"""The site's drivers as one: observed together, commanded by device and job."""

import asyncio
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain

from agent.control.caller import DRIVER_TIMEOUT_S, Caller
from agent.control.engine import JobsEngine
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
from drivers.errors import DriverError
from drivers.gpu.base import GpuDriver, GpuInfo, GpuReading, LimitSetpoint
from drivers.jobs.base import Job, JobsDriver
from drivers.meter.base import Meter, MeterReading, Quality
from drivers.outcome import Outcome, Result

log = logging.getLogger(__name__)

LISTING_PATIENCE_S = 0.5
"""How long a cycle waits for what jobs there are before it goes by what was listed last: an engine
answers in milliseconds, or it may take seconds."""

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
        self._caller = Caller()
        self._infos: tuple[GpuInfo, ...] = ()
        self._engines: tuple[JobsEngine, ...] = ()
        self._away: dict[_Driver, DriverError] = {}

    async def open(self) -> None:
        """Reach every driver, and list the jobs once so that the first cycle knows them.

        Raises `DriverError` for the first driver that cannot be reached.
        """
        for driver in self._drivers:
            await driver.open()
        await self._list()

    async def open_each(self) -> tuple[str, ...]:
        """Reach what can be reached, to undo what can be undone; a sentence for each driver that
        cannot. It is not asked again, and observed as one that does not answer.
        """
        for driver in self._drivers:
            try:
                await driver.open()
            except DriverError as error:
                self._away[driver] = error
        await self._list()
        return tuple(map(str, self._away.values()))

    @property
    def gpus_listed(self) -> bool:
        """Whether the GPUs were reached: only then is one that is not listed gone."""
        return self._gpus not in self._away

    async def observe(
        self, at: datetime, patience_s: float = DRIVER_TIMEOUT_S
    ) -> tuple[Snapshot, bool]:
        """One snapshot, and whether what the jobs engines listed can be relied on.

        Waits `patience_s` for the jobs engines at the longest. What one listed before counts for one
        that takes longer, and for some seconds is not too old to rely on.
        """
        (workloads, blind_jobs), (readings, blind_gpus, meter) = await asyncio.gather(
            self._list_workloads(patience_s), self._read(at)
        )
        blind = (*blind_gpus, *blind_jobs)
        gpus = tuple(_gpu(info, readings.get(info.uuid)) for info in self._infos)
        gain = self._meter.watts_per_gpu_watt
        return Snapshot(at, gpus, workloads, meter, gain, blind), not blind_jobs

    async def set_limits(self, limits: Mapping[str, tuple[float, float]]) -> Sequence[Outcome]:
        """Set power limits: by GPU its limit, W, and lease, s."""
        setpoints = [LimitSetpoint(uuid, *limit) for uuid, limit in limits.items()]
        try:
            return await self._caller.ask(
                "the GPU driver", lambda: self._gpus.set_limits(setpoints)
            )
        except DriverError as error:
            return [Outcome(uuid, Result.LOST, str(error)) for uuid in limits]

    async def pause(self, job_ids: Sequence[str]) -> Sequence[Outcome]:
        """Pause workloads through the engines that listed them."""
        return await self._bring(job_ids, paused=True)

    async def resume(self, job_ids: Sequence[str]) -> Sequence[Outcome]:
        """Resume workloads through the engines that listed them."""
        return await self._bring(job_ids, paused=False)

    async def close(self) -> None:
        """Let go of every driver; changes nothing on the devices."""
        for engine in self._engines:
            engine.stop()
        for driver in self._drivers:
            try:
                await self._caller.ask(f"closing {type(driver).__name__}", driver.close)
            except DriverError as error:
                log.warning("%s", error)

    @property
    def _drivers(self) -> tuple[_Driver, ...]:
        return (self._gpus, *self._jobs, self._meter)

    async def _list(self) -> None:
        """What there is to command."""
        if self.gpus_listed:
            self._infos = tuple(await self._gpus.list())
        reached = (driver for driver in self._jobs if driver not in self._away)
        self._engines = tuple(JobsEngine(driver, self._caller) for driver in reached)
        await self._list_workloads(DRIVER_TIMEOUT_S)

    async def _read(
        self, at: datetime
    ) -> tuple[Mapping[str, GpuReading], tuple[str, ...], MeterSample]:
        """The GPUs' readings, what of them is blind, and the meter, which may be computed from them."""
        blind: tuple[str, ...] = ()
        try:
            if not self.gpus_listed:
                raise self._away[self._gpus]
            read = await self._caller.ask("the GPU driver", self._gpus.read)
        except DriverError as error:
            read, blind = (), (f"GPUs: {error}",)
        readings = {reading.uuid: reading for reading in read}
        return readings, blind, await self._read_meter(readings, at)

    async def _list_workloads(
        self, patience_s: float
    ) -> tuple[tuple[Workload, ...], tuple[str, ...]]:
        """What the engines list, all asked at the same time, and which of them are blind."""
        await asyncio.gather(*(engine.look(patience_s) for engine in self._engines))
        workloads = tuple(self._workload(job) for engine in self._engines for job in engine.jobs)
        return workloads, tuple(self._blind_engines())

    def _blind_engines(self) -> Iterator[str]:
        """A sentence for each engine that cannot be relied on, named as its table in the configuration."""
        reached = iter(self._engines)
        for i, driver in enumerate(self._jobs):
            why = str(self._away[driver]) if driver in self._away else next(reached).blind
            if why:
                yield f"jobs[{i}]: {why}" if len(self._jobs) > 1 else f"jobs: {why}"

    async def _read_meter(self, readings: Mapping[str, GpuReading], at: datetime) -> MeterSample:
        ordered = [readings[info.uuid] for info in self._infos if info.uuid in readings]
        if len(ordered) < len(self._infos):
            return MeterSample(at, None, MeterQuality.BAD, "not every GPU could be read")
        try:
            reading = await self._caller.ask("the meter", lambda: self._meter.read(ordered))
        except DriverError as error:
            return MeterSample(at, None, MeterQuality.BAD, str(error))
        return _meter_sample(reading)

    async def _bring(self, job_ids: Sequence[str], *, paused: bool) -> list[Outcome]:
        outcomes = [
            Outcome(job_id, Result.LOST, f"no jobs engine lists {job_id}")
            for job_id in job_ids
            if not any(engine.lists(job_id) for engine in self._engines)
        ]
        owned = [(e, [job_id for job_id in job_ids if e.lists(job_id)]) for e in self._engines]
        brought = await asyncio.gather(*(e.bring(ids, paused=paused) for e, ids in owned if ids))
        return [*outcomes, *chain.from_iterable(brought)]

    def _workload(self, job: Job) -> Workload:
        kind, terms = classify(job.name, job.labels, self._policy)
        state = WorkloadState(job.state.value)
        return Workload(job.job_id, job.name, kind, terms, tuple(job.gpus), state, job.since)


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
