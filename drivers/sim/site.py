"""The simulated site, kept in one small file that every simulated driver is a view on.

The file holds what was built and what has been done to it; everything else is physics. So the site
lives on when a process dies, and several processes (an agent, `flexload restore`, a test) see and
change the same one.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from drivers.errors import SettingsError, UnavailableError
from drivers.sim import physics
from drivers.sim.physics import Dip, GpuState, JobSpec, SiteSpec, SiteState

Time = Callable[[], float]


class SimSite:
    """One simulated site. Instances on the same file are the same site."""

    def __init__(self, path: Path, time_s: Time = time.time) -> None:
        self._path = path
        self._time_s = time_s
        self._seen: tuple[str, SiteSpec, SiteState] | None = None

    @classmethod
    def create(cls, path: Path, spec: SiteSpec, time_s: Time = time.time) -> "SimSite":
        """Build a site and start it: all jobs run, all limits are the largest."""
        started_at = time_s()
        idle = GpuState(limit_w=spec.max_limit_w, changed_at=started_at - 60.0)
        gpus = (idle,) * (len(spec.hosts) * spec.gpus_per_host)
        _store(path, spec, SiteState(started_at, gpus))
        return cls(path, time_s)

    @property
    def now_s(self) -> float:
        """The site's own time, Unix seconds."""
        return self._time_s()

    def read(self) -> tuple[SiteSpec, SiteState]:
        """The site as built and as it stands. Raises `UnavailableError` or `SettingsError`."""
        try:
            text = self._path.read_text(encoding="utf-8")
            # Taking the text apart is most of the work, and mostly it has not changed.
            if self._seen is None or self._seen[0] != text:
                document = json.loads(text)
                self._seen = text, _spec(document["spec"]), _state(document["state"])
            return self._seen[1:]
        except FileNotFoundError:
            raise UnavailableError(f"the simulated site {self._path} does not exist") from None
        except (ValueError, KeyError, TypeError) as error:
            raise SettingsError(f"{self._path} is not a simulated site: {error!r}") from error

    def power_w(self) -> float:
        """What the site's meter reads now, W."""
        return physics.site_power(*self.read(), self.now_s)

    def change_gpu(self, uuid: str, change: Callable[[GpuState], GpuState]) -> None:
        """Change one GPU from now on. Raises `KeyError` for one that is not there."""
        with self._changing() as (spec, state, at):
            position = uuids(spec).index(uuid) if uuid in uuids(spec) else None
            if position is None:
                raise KeyError(uuid)
            gpus = list(state.gpus)
            gpus[position] = change(_settled(spec, state, position, at))
            _store(self._path, spec, replace(state, gpus=tuple(gpus)))

    def pause(self, job_id: str, *, paused: bool) -> None:
        """Pause or resume one job from now on. Raises `KeyError` for one that is not there to be paused,
        nor was when it ended.
        """
        with self._changing() as (spec, state, at):
            job = next((job for job in spec.jobs if job.job_id == job_id), None)
            if job is None and (paused or job_id not in state.paused_at):
                raise KeyError(job_id)
            if paused == (job_id in state.paused_at):
                return
            gpus = list(state.gpus)
            for position in job.gpus if job is not None else ():
                gpus[position] = _settled(spec, state, position, at)
            others = {key: since for key, since in state.paused_at.items() if key != job_id}
            paused_at = {**others, job_id: at} if paused else others
            _store(self._path, spec, replace(state, gpus=tuple(gpus), paused_at=paused_at))

    def break_meter(self, fault: str) -> None:
        """Make the meter answer nothing but `fault`; an empty one mends it."""
        with self._changing() as (spec, state, _):
            _store(self._path, spec, replace(state, meter_fault=fault))

    def break_jobs(self, fault: str) -> None:
        """Make the jobs engine refuse (`denied`) or not answer (`away`); an empty fault mends it."""
        with self._changing() as (spec, state, _):
            _store(self._path, spec, replace(state, jobs_fault=fault))

    def rebuild(self, change: Callable[[SiteSpec], SiteSpec]) -> None:
        """Change what is built: jobs come and go, or want another power."""
        with self._changing() as (spec, state, at):
            gpus = tuple(_settled(spec, state, i, at) for i in range(len(state.gpus)))
            _store(self._path, change(spec), replace(state, gpus=gpus))

    @contextmanager
    def _changing(self) -> Iterator[tuple[SiteSpec, SiteState, float]]:
        with self._path.with_suffix(".lock").open("a", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            spec, state = self.read()
            yield spec, state, self.now_s


def uuids(spec: SiteSpec) -> tuple[str, ...]:
    """The GPUs' UUIDs in order, the same for every site of this shape."""
    return _uuids(spec.seed, len(spec.hosts) * spec.gpus_per_host)


@lru_cache
def _uuids(seed: int, count: int) -> tuple[str, ...]:
    return tuple(f"GPU-{seed:08x}-0000-4000-8000-{i:012x}" for i in range(count))


def _settled(spec: SiteSpec, state: SiteState, position: int, at: float) -> GpuState:
    """A GPU just before a change at `at`: its draw and counter carried up to there."""
    return replace(
        state.gpus[position],
        level_w=physics.gpu_power(spec, state, position, at),
        energy_j=physics.energy(spec, state, position, at),
        changed_at=at,
    )


def _store(path: Path, spec: SiteSpec, state: SiteState) -> None:
    partial = path.with_suffix(f".{os.getpid()}")
    gpus = [{name: getattr(gpu, name) for name in GpuState.__slots__} for gpu in state.gpus]
    bare = {**asdict(replace(state, gpus=())), "gpus": gpus}
    partial.write_text(json.dumps({"spec": asdict(spec), "state": bare}), encoding="utf-8")
    partial.replace(path)


def _spec(document: dict[str, Any]) -> SiteSpec:
    jobs = tuple(
        JobSpec(
            **{
                **job,
                "gpus": tuple(job["gpus"]),
                "dip": None if job["dip"] is None else Dip(**job["dip"]),
            }
        )
        for job in document["jobs"]
    )
    return SiteSpec(**{**document, "hosts": tuple(document["hosts"]), "jobs": jobs})


def _state(document: dict[str, Any]) -> SiteState:
    gpus = tuple(GpuState(**gpu) for gpu in document["gpus"])
    return SiteState(**{**document, "gpus": gpus})
