"""The twin of the real job engines: jobs of the simulated site."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from drivers.errors import UnavailableError
from drivers.jobs.base import Job, JobsDriver, JobState
from drivers.outcome import Outcome, Result
from drivers.settings import DriverSettings
from drivers.sim.site import SimSite, Time, uuids


class SimJobs:
    """Jobs of the simulated site."""

    class Settings(DriverSettings):
        """Settings of the `sim` jobs driver."""

        kind: Literal["sim"] = "sim"
        site: Path
        """The simulated site's file."""

    def __init__(self, settings: Settings, time_s: Time = time.time) -> None:
        self._site = SimSite(settings.site, time_s)
        self._known: set[str] = set()

    async def open(self) -> None:
        """See that the site is there."""
        spec, _ = self._site.read()
        self._known.update(job.job_id for job in spec.jobs)

    async def list(self) -> Sequence[Job]:
        """All jobs of the site."""
        spec, state = self._site.read()
        if state.jobs_fault == "away":
            raise UnavailableError("the simulated jobs engine does not answer")
        self._known.update(job.job_id for job in spec.jobs)
        gpus = uuids(spec)
        return [
            Job(
                job_id=job.job_id,
                name=job.name,
                state=JobState.PAUSED if job.job_id in state.paused_at else JobState.RUNNING,
                gpus=tuple(gpus[i] for i in job.gpus),
                labels=job.labels,
                since=datetime.fromtimestamp(
                    state.paused_at.get(job.job_id, state.started_at), UTC
                ),
            )
            for job in sorted(spec.jobs, key=lambda job: job.job_id)
        ]

    async def pause(self, job_ids: Sequence[str]) -> Sequence[Outcome]:
        """Pause jobs at once."""
        return [self._set(job_id, paused=True) for job_id in job_ids]

    async def resume(self, job_ids: Sequence[str]) -> Sequence[Outcome]:
        """Resume jobs at once."""
        return [self._set(job_id, paused=False) for job_id in job_ids]

    async def close(self) -> None:
        """Nothing to let go of."""

    def _set(self, job_id: str, *, paused: bool) -> Outcome:
        _, state = self._site.read()
        if state.jobs_fault == "away":
            raise UnavailableError("the simulated jobs engine does not answer")
        if state.jobs_fault == "denied":
            return Outcome(job_id, Result.REFUSED, f"no permission to pause or resume {job_id}")
        try:
            self._site.pause(job_id, paused=paused)
        except KeyError:
            if not paused and job_id in self._known:
                return Outcome(job_id, Result.APPLIED)
            return Outcome(job_id, Result.LOST, f"job {job_id} is not there")
        return Outcome(job_id, Result.APPLIED)


if TYPE_CHECKING:
    _conforms: type[JobsDriver] = SimJobs
