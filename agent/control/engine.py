"""One jobs engine as the cycle uses it: listed beside the cycle, so that a slow one delays nothing."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from agent.control import caller
from agent.control.caller import Caller, SilentError
from drivers.errors import DriverError
from drivers.jobs.base import Job, JobsDriver, JobState
from drivers.outcome import Outcome, Result


class JobsEngine:
    """Lists, pauses and resumes through one driver. What it listed last stands until it answers again.

    One listing at most is under way. It goes on when nobody waits for it any more, as long as any
    call may take; an answer asked for longer ago than that is too old to rely on.
    """

    def __init__(self, driver: JobsDriver, caller: Caller) -> None:
        self._driver = driver
        self._caller = caller
        self._who = f"the jobs driver {type(driver).__name__}"
        self._listing: asyncio.Task[tuple[Job, ...] | DriverError] | None = None
        self._begun_s = 0.0
        self._jobs: dict[str, Job] = {}
        self._asked_s: float | None = None
        """When the answer that stands was asked for, on the event loop's clock."""
        self._fault: DriverError | None = None
        """What became of the last listing, if it failed."""
        self._commanded: dict[str, tuple[float, JobState]] = {}
        """What jobs were brought to since that answer was asked for, and when."""

    @property
    def jobs(self) -> tuple[Job, ...]:
        """What it listed last, as brought to another state since."""
        return tuple(self._as_commanded(job) for job in self._jobs.values())

    @property
    def blind(self) -> str:
        """Why `jobs` is not to be relied on, in a sentence; empty when it is."""
        if self._fault is not None:
            return str(self._fault)
        if self._asked_s is None or _now_s() - self._asked_s > caller.DRIVER_TIMEOUT_S:
            return f"{self._who} gave no answer within {caller.DRIVER_TIMEOUT_S:g} s"
        return ""

    def lists(self, job_id: str) -> bool:
        """Whether a job is among those it listed last."""
        return job_id in self._jobs

    async def look(self, patience_s: float) -> None:
        """Have it listed anew; waits no longer than until `patience_s` after the listing began."""
        self._take_answer()
        if self._listing is None:
            self._begun_s = _now_s()
            self._listing = asyncio.create_task(self._list())
        left_s = self._begun_s + patience_s - _now_s()
        await asyncio.wait([self._listing], timeout=max(0.0, left_s))
        self._take_answer()

    async def bring(self, job_ids: Sequence[str], *, paused: bool) -> Sequence[Outcome]:
        """Pause or resume jobs. One that fell silent is not asked until it has answered a listing."""
        if isinstance(self._fault, SilentError):
            return _lost(job_ids, self._fault)
        command = self._driver.pause if paused else self._driver.resume
        try:
            outcomes = await self._caller.ask(self._who, lambda: command(job_ids))
        except DriverError as error:
            return _lost(job_ids, error)
        state = JobState.PAUSED if paused else JobState.RUNNING
        self._commanded.update((o.key, (_now_s(), state)) for o in outcomes if o.ok)
        return outcomes

    def stop(self) -> None:
        """Leave a listing that is under way. For when the driver is about to be closed."""
        if self._listing is not None:
            self._listing.cancel()

    async def _list(self) -> tuple[Job, ...] | DriverError:
        try:
            return tuple(await self._caller.ask(self._who, self._driver.list))
        except DriverError as error:
            return error

    def _take_answer(self) -> None:
        """Let the listing that was under way, if it has ended, stand for what is there."""
        if self._listing is None or not self._listing.done():
            return
        listing, self._listing = self._listing, None
        answer = listing.result()
        if isinstance(answer, DriverError):
            self._fault = answer
            return
        self._fault, self._asked_s = None, self._begun_s
        self._jobs = {job.job_id: job for job in answer}
        self._commanded = {
            k: (s, to) for k, (s, to) in self._commanded.items() if s > self._begun_s
        }

    def _as_commanded(self, job: Job) -> Job:
        _, state = self._commanded.get(job.job_id, (0.0, job.state))
        if state is job.state or job.state not in (JobState.RUNNING, JobState.PAUSED):
            return job
        return replace(job, state=state, since=None)


def _lost(job_ids: Sequence[str], error: DriverError) -> list[Outcome]:
    return [Outcome(job_id, Result.LOST, str(error)) for job_id in job_ids]


def _now_s() -> float:
    return asyncio.get_running_loop().time()
