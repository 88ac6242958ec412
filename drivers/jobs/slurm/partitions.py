"""Slurm's partitions, closed while jobs on their nodes are suspended, and opened as they were.

A suspended job's CPUs are free in Slurm's eyes: the next job starts on them, and on resume both run.
A closed partition starts nothing; what runs goes on.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from drivers.errors import UnavailableError
from drivers.jobs.slurm.command import SlurmPrograms
from drivers.jobs.slurm.holds import Holds
from drivers.jobs.slurm.queue import Partition, parse_partitions

log = logging.getLogger(__name__)

CLOSED: Mapping[str, str] = {"UP": "DOWN", "DRAIN": "INACTIVE"}
"""What a partition that starts jobs is set to, so that it starts none. Whether it takes new ones stays.
In any other state it starts none anyway, and is left alone."""

MOST_RECLOSINGS = 5
"""How often a partition that opened meanwhile is closed again before we stop fighting."""


class Partitions:
    """Closes and opens partitions. Writes down what they were before it changes them."""

    def __init__(
        self, programs: SlurmPrograms, holds: Holds, save: Callable[[], Awaitable[None]]
    ) -> None:
        self._programs = programs
        self._holds = holds
        self._save = save
        self._reclosings: Counter[str] = Counter()

    async def of_nodes(
        self, nodes: Collection[str], spared: Collection[str]
    ) -> Sequence[Partition]:
        """The partitions that have one of these nodes, but for the spared ones."""
        every = await self._all()
        return [p for p in every.values() if p.name not in spared and p.nodes & set(nodes)]

    async def close(self, partitions: Collection[Partition]) -> str:
        """Close partitions, those that start jobs. Why one could not be, in a sentence; empty when all are."""
        opened = {p.name: p.state for p in partitions if p.state in CLOSED}
        # What is written down already was before we first closed it; open again now, it is closed again.
        self._holds.partitions = opened | self._holds.partitions
        await self._save()
        for name, state in opened.items():
            if trouble := await self._set(name, CLOSED[state]):
                return trouble
        return ""

    async def keep_closed(self) -> None:
        """Close again what opened: a restart or `reconfigure` of slurmctld takes slurm.conf's states."""
        needed = self._holds.partitions.keys() - set(self._holds.unneeded)
        if not needed:
            return
        found = await self._all()
        for name in sorted(needed & found.keys()):
            former = self._holds.partitions[name]
            if found[name].state == former:
                await self._reclose(name, CLOSED[former])

    async def open_unneeded(self) -> str:
        """Open what no job needs closed any more, as it was, unless somebody else set it meanwhile.

        Why one could not be, in a sentence; empty when all are.
        """
        unneeded = self._holds.unneeded
        if not unneeded:
            return ""
        found = await self._all()
        for name in unneeded:
            former = self._holds.partitions[name]
            if name in found and found[name].state == CLOSED[former]:
                if trouble := await self._set(name, former):
                    return trouble
            elif name in found and found[name].state != former:
                log.warning(
                    "partition %s is %s, which is neither ours nor what it was (%s): left alone",
                    name, found[name].state, former,
                )  # fmt: skip
            del self._holds.partitions[name]
            self._reclosings.pop(name, None)
        return ""

    async def _reclose(self, name: str, state: str) -> None:
        self._reclosings[name] += 1
        if self._reclosings[name] > MOST_RECLOSINGS:
            return
        last = "; for the last time" if self._reclosings[name] == MOST_RECLOSINGS else ""
        log.warning(
            "partition %s opened while jobs on its nodes are paused: closed again%s", name, last
        )
        if trouble := await self._set(name, state):
            log.warning("%s", trouble)

    async def _set(self, name: str, state: str) -> str:
        answer = await self._programs.run(
            "scontrol", "update", f"partitionname={name}", f"state={state}"
        )
        if answer.ok:
            return ""
        why = "; ".join(answer.errors) or f"scontrol ended with {answer.status}"
        return f"partition {name} cannot be set {state}: {why}"

    async def _all(self) -> Mapping[str, Partition]:
        answer = await self._programs.run("scontrol", "show", "partition", "--oneliner", "--all")
        if not answer.ok:
            raise UnavailableError(f"Slurm did not list its partitions: {'; '.join(answer.errors)}")
        return parse_partitions(answer.output)
