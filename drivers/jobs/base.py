"""The one thing a jobs driver is: work that can be listed, paused and resumed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from drivers.outcome import Outcome


class JobState(StrEnum):
    """What a job is seen to do, not what was commanded."""

    RUNNING = "running"
    PAUSED = "paused"
    """Confirmed stopped: not one of its processes runs."""
    PENDING = "pending"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Job:
    """One piece of work as its engine shows it."""

    job_id: str
    """Unique within the site and stable while the job lives; prefixed by its engine (`cgroup:train-a`)."""
    name: str
    state: JobState
    gpus: Sequence[str] = ()
    """UUIDs of the GPUs it holds; empty when it holds none or its engine cannot tell."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What the administrator can map to a class and tier: partition, unit, namespace, owner."""
    since: datetime | None = None
    """Since when it is in this state, aware UTC; None when unknown."""


class JobsDriver(Protocol):
    """Pausing and resuming through one engine.

    An outcome of `APPLIED` to `pause` means the job is confirmed stopped, not that a command was
    sent; power stays the last word. A job id that was never listed is `LOST`.

    A call that takes long is cancelled, and made again later: an engine that hangs for an hour must
    not cost a thread or a connection each time.
    """

    async def open(self) -> None:
        """Reach the engine. Raises `UnavailableError` or `SettingsError`. Called once, before the rest."""

    async def list(self) -> Sequence[Job]:
        """All jobs this driver may touch, ordered by id."""

    async def pause(self, job_ids: Sequence[str]) -> Sequence[Outcome]:
        """Pause jobs; a paused one is `APPLIED`, one that has ended `LOST`. One outcome a job, in their
        order.
        """

    async def resume(self, job_ids: Sequence[str]) -> Sequence[Outcome]:
        """Resume jobs; one that runs is `APPLIED`, and so is one that has ended, once nothing of a
        pause is left on what starts in its place. One outcome a job, in their order.
        """

    async def close(self) -> None:
        """Let go of the engine. Changes no job."""
