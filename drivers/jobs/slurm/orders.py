"""What scontrol is told to do with jobs, and what it says when it will not."""

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence

from drivers.errors import UnavailableError
from drivers.jobs.halt import Rejection
from drivers.jobs.slurm.command import Answer, SlurmPrograms
from drivers.outcome import Result

MOST_AT_ONCE = 500
"""Jobs named in one command."""
MOST_AT_A_TIME = 8
"""Commands under way, where each names one job."""

_JOB = re.compile(r"(?:\bfor job |^)(\d+(?:_\d+)?)(?=:|$)")
"""The job that a line of scontrol's errors is on."""
_DENIED = re.compile(r"denied|not permitted|invalid user", re.IGNORECASE)
_DISABLED = re.compile(r"disabled|not supported", re.IGNORECASE)

Rejections = Mapping[str, Rejection]
"""By job, as Slurm's commands name it. Slurm rejects, too, what is done already."""


class Orders:
    """Orders to jobs, many in one command. That one was taken does not mean that it is carried out."""

    def __init__(self, programs: SlurmPrograms) -> None:
        self._programs = programs
        self._priorities_stay: bool | None = None

    async def suspend(self, jobs: Sequence[str]) -> Rejections:
        """Take jobs off their CPUs."""
        return await self._order("suspend", jobs)

    async def resume(self, jobs: Sequence[str]) -> Rejections:
        """Give suspended jobs their CPUs again."""
        return await self._order("resume", jobs)

    async def release(self, jobs: Sequence[str]) -> Rejections:
        """Let held jobs start."""
        return await self._order("release", jobs)

    async def prioritise(self, priorities: Mapping[str, int]) -> Rejections:
        """Give jobs their priorities, where those stay as they are (`priority/basic`).

        Where they are computed all the time, Slurm does that by itself, and would no more for a job
        that was given one.
        """
        rejected: dict[str, Rejection] = {}
        given = list(priorities.items()) if priorities and await self._do_priorities_stay() else []
        for i in range(0, len(given), MOST_AT_A_TIME):
            each = (self._prioritise(*some) for some in given[i : i + MOST_AT_A_TIME])
            for rejections in await asyncio.gather(*each):
                rejected |= rejections
        return rejected

    async def _do_priorities_stay(self) -> bool:
        if self._priorities_stay is None:
            answer = await self._programs.run("scontrol", "show", "config")
            found = re.search(r"^PriorityType\s*=\s*(\S+)", answer.output, re.MULTILINE)
            if found is None:
                raise UnavailableError("Slurm does not show its configuration")
            self._priorities_stay = found[1] == "priority/basic"
        return self._priorities_stay

    async def _prioritise(self, job: str, priority: int) -> Rejections:
        arguments = (f"jobid={job}", f"priority={priority}")
        answer = await self._programs.run("scontrol", "update", *arguments)
        return dict(_rejections(answer, [job], "prioritise"))

    async def _order(self, verb: str, jobs: Sequence[str]) -> Rejections:
        rejected: dict[str, Rejection] = {}
        for i in range(0, len(jobs), MOST_AT_ONCE):
            some = jobs[i : i + MOST_AT_ONCE]
            answer = await self._programs.run("scontrol", verb, ",".join(some))
            rejected |= dict(_rejections(answer, some, verb))
        return rejected


def _rejections(answer: Answer, jobs: Sequence[str], verb: str) -> Iterator[tuple[str, Rejection]]:
    """What was not taken, by job; a line that names no job is on all of them."""
    if answer.ok:
        return
    for line in answer.errors or (f"scontrol ended with {answer.status}",):
        named = _JOB.search(line.strip())
        detail = f"Slurm would not {verb} job {{}}: {line.strip()}"
        for job in jobs if named is None else (named[1],):
            yield job, Rejection(_result(line), detail.replace("{}", job))


def _result(line: str) -> Result:
    if _DENIED.search(line):
        return Result.REFUSED
    return Result.UNSUPPORTED if _DISABLED.search(line) else Result.LOST
