"""What the site is at one instant: the snapshot that a cycle decides on.

Absent knowledge is `None`, never zero.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Health(StrEnum):
    """Whether what is shown of a device can be believed."""

    OK = "ok"
    STALE = "stale"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as observed this cycle."""

    uuid: str
    host: str
    index: int
    name: str
    min_limit_w: float
    max_limit_w: float
    default_limit_w: float
    power_w: float | None
    limit_w: float | None
    """What software last asked for, read back."""
    enforced_w: float | None
    """What binds, which may be lower."""
    health: Health = Health.OK
    energy_j: float | None = None
    persistence: bool | None = None
    detail: str = ""


class WorkloadState(StrEnum):
    """What a workload is seen to do."""

    RUNNING = "running"
    PAUSED = "paused"
    PENDING = "pending"
    ENDED = "ended"


class WorkloadClass(StrEnum):
    """What kind of work it is; decides how its speed falls with power."""

    REAL_TIME = "real-time"
    LATENCY_TOLERANT = "latency-tolerant"
    BATCH = "batch"
    TRAINING = "training"


@dataclass(frozen=True, slots=True)
class Terms:
    """What a workload's owner agreed to give up."""

    tier: int
    """0 protected, then 1, 2, 3: up to 10, 25, 50 % slower while it runs (the field's Flex 0-3)."""
    may_pause: bool = False
    max_pause_s: float | None = None
    """Longest single pause; None: as long as the event."""
    weight: float = 1.0
    """Value of this work per GPU against other work's; greater is dearer to slow."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One job or service with its terms."""

    workload_id: str
    name: str
    kind: WorkloadClass
    terms: Terms
    gpus: tuple[str, ...]
    state: WorkloadState
    since: datetime | None = None


class MeterQuality(StrEnum):
    """How far the metered figure can be trusted."""

    GOOD = "good"
    ESTIMATED = "estimated"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class MeterSample:
    """The site's import at one instant."""

    at: datetime
    power_w: float | None
    quality: MeterQuality
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything observed in one cycle, as one picture."""

    at: datetime
    gpus: tuple[Gpu, ...]
    workloads: tuple[Workload, ...]
    meter: MeterSample
    watts_per_gpu_watt: float
    """Metered watts that one GPU watt makes."""
    blind: tuple[str, ...] = ()
    """What could not be observed at all this cycle, each a sentence."""
