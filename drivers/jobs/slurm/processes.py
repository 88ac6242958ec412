"""Which processes on this host belong to which Slurm job, and whether they are stopped.

Slurm's own list (`scontrol listpids`) takes seconds with 200 jobs and gets in the way of a suspend,
so /proc is looked at.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from drivers.jobs.proc import PROC, Processes, Stat, living_threads
from drivers.jobs.slurm.queue import SlurmJob

STEP_DAEMON = "slurmstepd"

_STEP = re.compile(r"\[(\d+)(?:\+\d+)?\.")
"""The job in the title of a step's daemon: `slurmstepd: [123.batch]`."""
_CGROUP = re.compile(r"/job_(\d+)(?:/|$)", re.MULTILINE)
"""The job in a process's cgroup, where Slurm tracks by cgroups (`proctrack/cgroup`)."""

SETTLE_JOBS, SETTLE_MORE_S = 64, 12.0
"""slurmd keeps book of 64 jobs a node. With more of them it stops 64 at a time, and goes on with the
next after 10 to 12 s (22.05, 24.11)."""


class Standstill:
    """Tells which suspended jobs really stand."""

    def __init__(self, settle_s: float) -> None:
        """`settle_s`: how long Slurm's word must stand for jobs whose processes are not all seen."""
        self._settle_s = settle_s
        self._suspended_s: dict[str, float] = {}
        """When Slurm was first seen to say that a job is suspended, on the event loop's clock."""

    def judge(
        self, suspended: Mapping[str, SlurmJob], at_work: Mapping[int, bool], now_s: float
    ) -> set[str]:
        """Those that stand, of all jobs that Slurm says are suspended."""
        self._suspended_s = {i: self._suspended_s.get(i, now_s) for i in suspended}
        crowds = Counter(node for job in suspended.values() for node in job.nodes)
        return {
            job_id
            for job_id, job in suspended.items()
            if not self._may_run(
                job, at_work.get(job.number), crowds, now_s - self._suspended_s[job_id]
            )
        }

    def _may_run(
        self, job: SlurmJob, seen: bool | None, crowds: Mapping[str, int], said_s: float
    ) -> bool:
        """`seen`: whether what of it is seen here runs; None when nothing is."""
        if seen is True or (seen is False and len(job.nodes) == 1):
            return seen
        waves = max(((crowds[node] - 1) // SETTLE_JOBS for node in job.nodes), default=0)
        return said_s < self._settle_s + SETTLE_MORE_S * waves


def jobs_at_work() -> Mapping[int, bool]:
    """By Slurm's number, each job with a process on this host: whether any of it can still run.

    A job's processes are what a step's daemon started, and whatever else is in the job's cgroup. The
    daemons themselves are not stopped with the job and do not count.
    """
    stats = Processes().all
    at_work: dict[int, bool] = {}
    for pid, job in _owners(stats).items():
        if not at_work.get(job) and (threads := living_threads(pid)):
            at_work[job] = not all(thread.stopped for thread in threads)
    return at_work


def _owners(stats: Mapping[int, Stat]) -> Mapping[int, int]:
    """The job of every process that has one, by pid."""
    children = defaultdict[int, list[int]](list)
    for stat in stats.values():
        children[stat.parent].append(stat.pid)
    owners: dict[int, int] = {}
    for stat in stats.values():
        if stat.name == STEP_DAEMON:
            if (job := _number(_STEP, stat.pid, "cmdline")) is not None:
                owners.update(dict.fromkeys(_below(stat.pid, children), job))
        elif stat.pid not in owners and (job := _number(_CGROUP, stat.pid, "cgroup")) is not None:
            owners[stat.pid] = job
    return {pid: job for pid, job in owners.items() if stats[pid].name != STEP_DAEMON}


def _below(pid: int, children: Mapping[int, list[int]]) -> Iterator[int]:
    for child in children.get(pid, ()):
        yield child
        yield from _below(child, children)


def _number(pattern: re.Pattern[str], pid: int, file: str) -> int | None:
    try:
        text = (PROC / str(pid) / file).read_bytes().decode(errors="replace")
    except OSError:
        return None
    found = pattern.search(text)
    return None if found is None else int(found[1])
