"""Jobs on this host, halted where they stand: by the cgroup freezer or, by pid file, by SIGSTOP.

Halting stops the processes, not what they had handed to the GPU already, and frees no memory. The
clocks of the world run on meanwhile: collectives and leases of a halted job time out.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from drivers.errors import SettingsError, UnavailableError
from drivers.jobs.base import Job, JobsDriver, JobState
from drivers.jobs.halt import Freezer, Halt, ProcessGroup, Rejection
from drivers.jobs.proc import Processes
from drivers.outcome import Outcome, Result
from drivers.settings import DriverSettings
from drivers.worker import Worker, answers

FIRST_LOOK_S = 0.001
LAST_LOOK_S = 0.05
"""How often an order is checked while it is carried out: a freeze takes about a millisecond, or as
long as the slowest system call of the job."""
KERNEL_S = 2.0
"""How long one look or order, which takes the kernel a millisecond, is waited for."""

T = TypeVar("T")


def _below_root(path: PurePosixPath) -> PurePosixPath:
    if path.is_absolute() or not path.parts or ".." in path.parts:
        raise ValueError("must be a path below root: relative, not empty, without '..'")
    return path


class JobSettings(BaseModel):
    """One job that may be paused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^\S+$")]
    """Unique among the jobs; its id is `cgroup:` and this."""
    cgroup: Annotated[PurePosixPath, AfterValidator(_below_root)] | None = None
    """The job's cgroup, relative to `root`; it may come and go."""
    pid_file: Path | None = None
    """A file with the pid of a process whose whole process group is the job."""
    gpus: tuple[str, ...] = ()
    """UUIDs of the GPUs it holds."""
    labels: Mapping[str, str] = {}

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.cgroup is None) == (self.pid_file is None):
            raise ValueError("needs exactly one of cgroup and pid_file")
        return self


class CgroupJobs:
    """The jobs that its settings name. Pausing needs write access to `cgroup.freeze`, or the right
    to signal the processes.

    An order that is not seen carried out within the timeout is `LOST` and stays given: the kernel
    may still carry it out, and the list tells when it has.

    All looks and orders are made on one thread of the driver's own, as any of them may hang (a pid
    file on a dead mount, a kernel in trouble): while one does, nothing else is asked of the host.
    """

    class Settings(DriverSettings):
        """Settings of the `cgroup` jobs driver."""

        kind: Literal["cgroup"] = "cgroup"
        root: Path = Path("/sys/fs/cgroup")
        """Where the cgroup version 2 tree is mounted."""
        timeout_s: Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)] = 2.0
        """How long to wait until a job is seen paused or resumed."""
        job: Annotated[tuple[JobSettings, ...], Field(min_length=1)]

        @model_validator(mode="after")
        def _names_differ(self) -> Self:
            names = [job.name for job in self.job]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"job names must differ: {', '.join(twice)}")
            return self

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._jobs = {f"cgroup:{job.name}": job for job in settings.job}
        self._halts = {job_id: _halt(settings.root, job) for job_id, job in self._jobs.items()}
        self._since: dict[str, tuple[JobState, datetime | None]] = {}
        self._worker: Worker | None = None

    async def open(self) -> None:
        """Look at each job once. Raises `SettingsError` when `root` is no cgroup version 2 tree."""
        self._worker = Worker("jobs")
        if any(job.cgroup for job in self._settings.job):
            controllers = self._settings.root / "cgroup.controllers"
            if not await self._ask(controllers.exists):
                raise SettingsError(f"root: {self._settings.root} is no cgroup version 2 tree")
        await self.list()

    async def list(self) -> Sequence[Job]:
        """The jobs of the settings; one whose cgroup or process is gone is `ENDED`.

        Raises `UnavailableError` while the host does not answer.
        """
        states = await self._ask(self._states)
        return [self._job(job_id, states[job_id]) for job_id in sorted(self._jobs)]

    async def pause(self, job_ids: Sequence[str]) -> Sequence[Outcome]:
        """Pause jobs, all at the same time, within the timeout."""
        return await asyncio.gather(*(self._bring(job_id, paused=True) for job_id in job_ids))

    async def resume(self, job_ids: Sequence[str]) -> Sequence[Outcome]:
        """Resume jobs, all at the same time, within the timeout."""
        return await asyncio.gather(*(self._bring(job_id, paused=False) for job_id in job_ids))

    async def close(self) -> None:
        """End the thread; a paused job stays paused."""
        if self._worker is not None:
            self._worker.stop()

    async def _bring(self, job_id: str, *, paused: bool) -> Outcome:
        halt = self._halts.get(job_id)
        if halt is None:
            return Outcome(job_id, Result.LOST, f"there is no job {job_id} in the settings")
        try:
            rejection = await self._carry_out(job_id, halt, paused)
        except (UnavailableError, OSError) as error:
            rejection = Rejection(Result.LOST, f"job {job_id}: {error}")
        if rejection is None:
            return Outcome(job_id, Result.APPLIED)
        return Outcome(job_id, rejection.result, rejection.detail)

    async def _carry_out(self, job_id: str, halt: Halt, paused: bool) -> Rejection | None:
        """Give an order and look until it is carried out; why it is not, when not in time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.timeout_s
        rejection = await self._ask(partial(halt.order, paused))
        look_s = FIRST_LOOK_S
        while rejection is None:
            state = await self._ask(lambda: halt.state(Processes()))
            if state is JobState.ENDED:
                return Rejection(Result.LOST, f"job {job_id} has ended") if paused else None
            if (state is JobState.PAUSED) is paused:
                self._note(job_id, state, datetime.now(UTC))
                return None
            if loop.time() >= deadline:
                return await self._ask(partial(halt.excuse, paused))
            await asyncio.sleep(look_s)
            look_s = min(2 * look_s, LAST_LOOK_S)
        return rejection

    async def _ask(self, call: Callable[[], T]) -> T:
        """What a call that may hang returns. Raises `UnavailableError` when it does."""
        assert self._worker is not None, "not open"
        [answer] = await answers([self._worker.submit(lambda: (call(),))], KERNEL_S)
        if answer is None:
            raise UnavailableError(f"this host told nothing of its jobs within {KERNEL_S:g} s")
        return answer[0]

    def _states(self) -> Mapping[str, JobState]:
        processes = Processes()
        return {job_id: halt.state(processes) for job_id, halt in self._halts.items()}

    def _job(self, job_id: str, state: JobState) -> Job:
        self._note(job_id, state, None)
        job = self._jobs[job_id]
        return Job(job_id, job.name, state, job.gpus, job.labels, self._since[job_id][1])

    def _note(self, job_id: str, state: JobState, at: datetime | None) -> None:
        """Remember since when a job is in a state: known only for a change that was made here."""
        if job_id not in self._since or self._since[job_id][0] is not state:
            self._since[job_id] = (state, at)


def _halt(root: Path, job: JobSettings) -> Halt:
    if job.cgroup is not None:
        return Freezer(root, job.cgroup)
    assert job.pid_file is not None
    return ProcessGroup(job.pid_file)


if TYPE_CHECKING:
    _conforms: type[JobsDriver] = CgroupJobs
