"""Jobs of a Slurm cluster, suspended and resumed by scontrol, with the queue closed meanwhile.

Two things that Slurm does must be undone for it. A suspended job's CPUs are given to the next job, so
the partitions of its nodes are closed before, and opened after the last job on them is back. A resumed
job's priority is another than before, so it is set again. What was before stands in a file of the
driver's (`drivers.jobs.slurm.holds`) before anything is changed.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from pydantic import Field

from drivers.errors import SettingsError, UnavailableError
from drivers.jobs.base import Job, JobsDriver, JobState
from drivers.jobs.halt import Rejection
from drivers.jobs.slurm.command import SlurmPrograms
from drivers.jobs.slurm.gpus import gpus_of_this_host, uuids_of
from drivers.jobs.slurm.holds import Holds, JobHold
from drivers.jobs.slurm.looks import Looks
from drivers.jobs.slurm.orders import Orders
from drivers.jobs.slurm.partitions import Partitions
from drivers.jobs.slurm.processes import Standstill, jobs_at_work
from drivers.jobs.slurm.queue import SlurmJob, parse_queue
from drivers.outcome import Outcome, Result
from drivers.settings import DriverSettings
from drivers.worker import Worker, answers

PREFIX = "slurm:"
UNKNOWN = "is none of Slurm's"
KERNEL_S = 2.0
"""How long a look at the processes, or a write to disk, is waited for: milliseconds as a rule."""

T = TypeVar("T")

Queue = Mapping[str, SlurmJob]
"""By job id."""


class SlurmJobs:
    """All running and suspended jobs of the cluster.

    A job on this host counts as paused once its processes are seen stopped, which takes Slurm up to
    2 s, with more than 64 jobs a node nearly a minute. Of one on another host only Slurm's word can be
    had; it counts as paused when that has stood for `settle_s`.

    Pausing needs Slurm's administrator rights, as it closes partitions. An order that is not seen carried
    out in time is `LOST` and stays given. A job that was asked to pause is listed, ended or not, until
    it is asked to resume.
    """

    class Settings(DriverSettings):
        """Settings of the `slurm` jobs driver."""

        kind: Literal["slurm"] = "slurm"
        state_file: Path = Path("/var/lib/flexload/slurm.json")
        """Where it is kept what partitions and jobs were before. It must last as long as the ledger."""
        conf: Path | None = None
        """slurm.conf, if it is not where Slurm's programs look for it."""
        bin: Path | None = None
        """The directory of squeue and scontrol, if they are not on the PATH."""
        keep_open: tuple[str, ...] = ()
        """Partitions that are never closed: their jobs may start on the CPUs of paused ones."""
        gpus: Mapping[str, tuple[str, ...]] = {}
        """By node, the UUIDs of its GPUs in the order of Slurm's indices. This host's are found."""
        poll_s: Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)] = 5.0
        """Slurm is asked for its jobs no more often than this, but when one is paused or resumed."""
        command_timeout_s: Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)] = 3.0
        """How long Slurm may take to answer one command."""
        timeout_s: Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)] = 2.5
        """How long to wait until jobs are seen paused or resumed."""
        settle_s: Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)] = 3.0
        """How long Slurm's word must stand for jobs whose processes cannot be seen."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._programs = SlurmPrograms(settings.bin, settings.conf, settings.command_timeout_s)
        self._holds = Holds(settings.state_file)
        self._partitions = Partitions(self._programs, self._holds, self._save)
        self._orders = Orders(self._programs)
        self._gpus: Mapping[str, Sequence[str]] = settings.gpus
        self._worker: Worker | None = None
        self._one_at_a_time = asyncio.Lock()
        self._listed: Mapping[str, str] = {}
        self._listed_last: dict[str, str] = {}
        """The names of the jobs of the last two listings and of the last one, by id."""
        self._standstill = Standstill(settings.settle_s)
        self._queue: Queue = {}
        self._asked_s = float("-inf")
        """Every job that had not ended when Slurm was asked last, and when that was (loop's clock)."""
        self._paused_since: dict[str, datetime] = {}

    async def open(self) -> None:
        """Read what was changed before. Slurm itself may be away: an agent must hold its caps all the same.

        Raises `SettingsError` when Slurm's programs are missing, or what is changed could not be
        written down.
        """
        self._worker = Worker("slurm")
        if why := await self._ask(self._programs.missing):
            raise SettingsError(f"bin: {why}")
        await self._ask(self._holds.load)
        self._gpus = {**await self._ask(gpus_of_this_host), **self._settings.gpus}

    async def list(self) -> Sequence[Job]:
        """The jobs that run or are suspended, and as ended those that were asked to pause and are gone.

        Keeps the partitions closed that are closed for paused jobs. Raises `UnavailableError` while
        Slurm or this host does not answer.
        """
        if asyncio.get_running_loop().time() - self._asked_s >= self._settings.poll_s:
            await self._look()
            if not self._one_at_a_time.locked():
                async with self._one_at_a_time:
                    await self._partitions.keep_closed()
        queue = _placed(self._queue)
        paused = await self._paused(queue)
        jobs = [self._job(job_id, job, job_id in paused) for job_id, job in queue.items()]
        held = ((PREFIX + name_id, hold.name) for name_id, hold in self._holds.jobs.items())
        jobs += [Job(job_id, name, JobState.ENDED) for job_id, name in held if job_id not in queue]
        names = {job.job_id: job.name for job in jobs}
        self._listed, self._listed_last = self._listed_last | names, names
        return sorted(jobs, key=lambda job: job.job_id)

    async def pause(self, job_ids: Sequence[str]) -> Sequence[Outcome]:
        """Close the partitions of the jobs' nodes, then suspend the jobs and wait until they stand."""
        if not job_ids:
            return []
        async with self._one_at_a_time:
            queue = _placed(await self._look())
            unfit = ((job_id, self._unfit(job_id, queue)) for job_id in job_ids)
            failed = {job_id: outcome for job_id, outcome in unfit if outcome is not None}
            wanted = {job_id: queue[job_id] for job_id in job_ids if job_id not in failed}
            try:
                await self._remember(job_id for job_id in failed if job_id in self._listed)
                if wanted:
                    failed |= await self._suspend(wanted)
            except OSError as error:
                why = self._unwritable(error)
                failed |= {job_id: Outcome(job_id, Result.REFUSED, why) for job_id in wanted}
        return [failed.get(job_id, Outcome(job_id, Result.APPLIED)) for job_id in job_ids]

    async def resume(self, job_ids: Sequence[str]) -> Sequence[Outcome]:
        """Resume the jobs, give them back their priorities, and open the partitions that none needs closed
        any more.
        """
        if not job_ids:
            return []
        async with self._one_at_a_time:
            queue = await self._look()
            known = [job_id for job_id in job_ids if self._is_known(job_id, queue)]
            failed = await self._bring_back(known, queue) if known else {}
        failed |= {job_id: _lost(job_id, UNKNOWN) for job_id in job_ids if job_id not in known}
        return [failed.get(job_id, Outcome(job_id, Result.APPLIED)) for job_id in job_ids]

    async def close(self) -> None:
        """End the thread; a paused job stays paused and its partitions closed."""
        if self._worker is not None:
            self._worker.stop()

    async def _suspend(self, wanted: Queue) -> dict[str, Outcome]:
        """Suspend jobs behind closed partitions; what failed, by job id. Raises `OSError` when it could
        not be written down: nothing is changed then.
        """
        trouble = await self._close_for(wanted)
        if trouble:
            failed = {i: Outcome(i, Result.REFUSED, trouble) for i in wanted}
        else:
            running = [job.name_id for job in wanted.values() if not job.is_suspended]
            rejected = await self._orders.suspend(running) if running else {}
            failed = await self._see_paused(wanted, rejected)
        refused = (wanted[i] for i, o in failed.items() if o.result is not Result.LOST)
        if on_cpus := [job.name_id for job in refused if not job.is_suspended]:
            self._holds.need_no_partition(on_cpus)
            await self._partitions.open_unneeded()
            await self._save()
        return failed

    async def _close_for(self, wanted: Queue) -> str:
        """Write jobs down and close the partitions of their nodes; why that failed, empty when done."""
        nodes = {node for job in wanted.values() for node in job.nodes}
        found = await self._partitions.of_nodes(nodes, self._settings.keep_open)
        before = (dict(self._holds.partitions), dict(self._holds.jobs))
        holds = {}
        for job in wanted.values():
            closing = (p.name for p in found if p.nodes & set(job.nodes))
            holds[job.name_id] = JobHold(
                name=job.name, priority=job.priority, partitions=tuple(closing)
            )
        self._holds.keep_closed_for(holds)
        try:
            return await self._partitions.close(found)
        except OSError:
            self._holds.partitions, self._holds.jobs = before
            raise

    async def _see_paused(
        self, wanted: Queue, rejected: Mapping[str, Rejection]
    ) -> dict[str, Outcome]:
        """Wait until jobs are seen paused; what failed or is not seen in time, by job id."""
        looks = Looks(self._settings.timeout_s)
        left = dict(wanted)
        failed: dict[str, Outcome] = {}
        queue: Queue = {}
        while left:
            if looks.ask_again():
                queue = _placed(await self._look())
            for job_id in await self._paused(queue) & left.keys():
                self._paused_since.setdefault(job_id, datetime.now(UTC))
                del left[job_id]
            for job_id, job in list(left.items()):
                if job_id not in queue:
                    failed[job_id] = _lost(job_id, "has ended")
                elif job.name_id in rejected and not queue[job_id].is_suspended:
                    rejection = rejected[job.name_id]
                    failed[job_id] = Outcome(job_id, rejection.result, rejection.detail)
                elif looks.over:
                    failed[job_id] = _lost(job_id, _not_paused_yet(queue[job_id]))
                if job_id in failed:
                    del left[job_id]
            if left:
                await looks.pause()
        return failed

    async def _bring_back(self, known: Sequence[str], queue: Queue) -> dict[str, Outcome]:
        """Undo all of a pause; what failed, by job id."""
        listed = {i: queue[i] for i in known if i in queue}
        suspended = [job.name_id for job in listed.values() if job.is_suspended]
        requeued = [job.name_id for job in listed.values() if self._is_held_by_us(job)]
        rejected = dict(await self._orders.resume(suspended)) if suspended else {}
        if requeued:
            rejected |= await self._orders.release(requeued)
        failed, queue = await self._see_back(known, rejected)
        back = {i: queue[i] for i in known if i in queue and not queue[i].is_suspended}
        refused = await self._orders.prioritise(self._to_prioritise(back.values()))
        for job_id, job in back.items():
            if job.name_id in refused:
                rejection = refused[job.name_id]
                failed.setdefault(job_id, Outcome(job_id, rejection.result, rejection.detail))
        # One that Slurm says runs has its CPUs, though its processes may not be seen at work yet.
        off = (i for i in known if i not in queue or i in back)
        self._holds.need_no_partition(_name_id(i) for i in off)
        trouble = await self._partitions.open_unneeded()
        if trouble:
            failed = {i: Outcome(i, Result.REFUSED, trouble) for i in known} | failed
        for job_id in known:
            if job_id not in failed:
                self._holds.jobs.pop(_name_id(job_id), None)
        try:
            await self._save()
        except OSError as error:
            why = self._unwritable(error)
            failed = {i: Outcome(i, Result.REFUSED, why) for i in known} | failed
        return failed

    async def _see_back(
        self, known: Sequence[str], rejected: Mapping[str, Rejection]
    ) -> tuple[dict[str, Outcome], Queue]:
        """Wait until nothing of a pause is left on jobs; what failed or is not seen in time, by job id,
        and what Slurm said last.
        """
        looks = Looks(self._settings.timeout_s)
        left = set(known)
        failed: dict[str, Outcome] = {}
        queue: Queue = {}
        while left:
            if looks.ask_again():
                queue = await self._look()
            at_work = await self._ask(jobs_at_work)
            for job_id in list(left):
                job = queue.get(job_id)
                if job is None or self._is_back(job, at_work):
                    left.remove(job_id)
                elif job.name_id in rejected and not job.is_running:
                    rejection = rejected[job.name_id]
                    failed[job_id] = Outcome(job_id, rejection.result, rejection.detail)
                    left.remove(job_id)
                elif looks.over:
                    failed[job_id] = _lost(job_id, _not_back_yet(job))
                    left.remove(job_id)
            if left:
                await looks.pause()
        return failed, queue

    def _is_back(self, job: SlurmJob, at_work: Mapping[int, bool]) -> bool:
        if job.is_suspended or self._is_held_by_us(job):
            return False
        if job.is_ending:
            # It may be requeued, and would then be held for having been suspended.
            return job.name_id not in self._holds.jobs
        # One that its owner stopped stands for a reason of its own.
        stands = job.states & {"RUNNING", "STOPPED"} == {"RUNNING"} and not at_work.get(
            job.number, True
        )
        return not stands

    def _is_held_by_us(self, job: SlurmJob) -> bool:
        return job.is_held_since_suspended and job.name_id in self._holds.jobs

    def _to_prioritise(self, jobs: Iterable[SlurmJob]) -> dict[str, int]:
        former = {name_id: hold.priority for name_id, hold in self._holds.jobs.items()}
        return {
            job.name_id: former[job.name_id]
            for job in jobs
            if former.get(job.name_id) and former[job.name_id] != job.priority and not job.is_ending
        }

    async def _look(self) -> Queue:
        """Ask Slurm for every job that has not ended."""
        asked_s = asyncio.get_running_loop().time()
        answer = await self._programs.run("squeue", "--json", "--all")
        if not answer.ok:
            why = "; ".join(answer.errors) or f"squeue ended with {answer.status}"
            raise UnavailableError(f"Slurm does not list its jobs: {why}")
        jobs = parse_queue(answer.output)
        queue = {PREFIX + job.name_id: job for job in jobs if not job.has_ended}
        if asked_s >= self._asked_s:
            self._queue, self._asked_s = queue, asked_s
        return queue

    async def _paused(self, queue: Queue) -> set[str]:
        """The ids of the jobs that stand."""
        suspended = {job_id: job for job_id, job in queue.items() if job.is_suspended}
        self._paused_since = {i: at for i, at in self._paused_since.items() if i in suspended}
        at_work = await self._ask(jobs_at_work) if suspended else {}
        return self._standstill.judge(suspended, at_work, asyncio.get_running_loop().time())

    def _job(self, job_id: str, job: SlurmJob, paused: bool) -> Job:
        if paused:
            since = self._paused_since.get(job_id, job.suspended)
        else:
            since = job.started if job.suspended is None else None
        state = JobState.PAUSED if paused else JobState.RUNNING
        return Job(job_id, job.name, state, uuids_of(job.gpus, self._gpus), job.labels, since)

    def _unfit(self, job_id: str, queue: Queue) -> Outcome | None:
        """Why a job cannot be paused. One that ended since it was listed is listed on until resumed."""
        if job_id not in queue:
            known = self._is_known(job_id, queue)
            return _lost(job_id, "has ended" if known else UNKNOWN)
        if queue[job_id].heterogeneous:
            why = f"job {job_id} is heterogeneous: Slurm does not suspend its parts"
            return Outcome(job_id, Result.UNSUPPORTED, why)
        return None

    def _is_known(self, job_id: str, queue: Queue) -> bool:
        return job_id in queue or job_id in self._listed or _name_id(job_id) in self._holds.jobs

    async def _remember(self, job_ids: Iterable[str]) -> None:
        """List jobs on until they are asked to resume, though they were not paused. Raises `OSError`."""
        new = {i: JobHold(name=self._listed[i], priority=0, partitions=()) for i in job_ids}
        if new:
            self._holds.keep_closed_for({_name_id(i): hold for i, hold in new.items()})
            await self._save()

    def _unwritable(self, error: OSError) -> str:
        return f"cannot write {self._settings.state_file}: {error.strerror}"

    async def _save(self) -> None:
        await self._ask(self._holds.save)

    async def _ask(self, call: Callable[[], T]) -> T:
        """What a call that may hang returns. Raises `UnavailableError` when it does."""
        assert self._worker is not None, "not open"
        [answer] = await answers([self._worker.submit(lambda: (call(),))], KERNEL_S)
        if answer is None:
            raise UnavailableError(f"this host gave no answer within {KERNEL_S:g} s")
        return answer[0]


def _placed(queue: Queue) -> Queue:
    """Those that have a place on the nodes: they run or are suspended."""
    return {i: job for i, job in queue.items() if job.is_running or job.is_suspended}


def _name_id(job_id: str) -> str:
    return job_id.removeprefix(PREFIX)


def _lost(job_id: str, what: str) -> Outcome:
    return Outcome(job_id, Result.LOST, f"job {job_id} {what}")


def _not_paused_yet(job: SlurmJob) -> str:
    if job.is_suspended:
        return "is suspended, but not all of its processes are seen stopped yet"
    return "is not suspended yet"


def _not_back_yet(job: SlurmJob) -> str:
    if job.is_running:
        return "runs as Slurm says, but none of its processes is seen at work yet"
    return f"does not run again yet: Slurm says {'/'.join(sorted(job.states)).lower()}"


if TYPE_CHECKING:
    _conforms: type[JobsDriver] = SlurmJobs
