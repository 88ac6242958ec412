"""The one thing a GPU driver is: limits in watts, by UUID, with a lease."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from drivers.outcome import Outcome


class GpuHealth(StrEnum):
    """Whether a GPU's reading can be believed."""

    OK = "ok"
    STALE = "stale"
    """The last call did not answer in time; the values are the last known ones."""
    LOST = "lost"
    """The device is gone (fell off the bus, driver unloaded, device access withdrawn)."""


@dataclass(frozen=True, slots=True)
class GpuInfo:
    """What does not change while a GPU is there."""

    uuid: str
    name: str
    host: str
    index: int
    """Position on its host today; not stable over reboots, so never a key."""
    min_limit_w: float
    max_limit_w: float
    default_limit_w: float
    persistence: bool | None = None
    """Persistence mode; when off, an idle GPU's driver may unload and forget its limit. None: unknown."""


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU at one instant. `None` means not known, never zero."""

    uuid: str
    at: datetime
    """When the values were read, aware UTC. For a stale reading: when they were last good; for a lost
    GPU, which has no values: when it was tried."""
    power_w: float | None
    """Draw, W, averaged over at most one second."""
    limit_w: float | None
    """The limit that software last asked for, W."""
    enforced_w: float | None
    """The limit that binds, W: below `limit_w` when something out of band holds the GPU lower."""
    energy_j: float | None = None
    """Energy counter, J, since an arbitrary start; falls back to zero when the driver reloads."""
    health: GpuHealth = GpuHealth.OK
    detail: str = ""


@dataclass(frozen=True, slots=True)
class LimitSetpoint:
    """One limit to set."""

    uuid: str
    limit_w: float
    """Whole watts are what GPUs keep; within the device's own range or the device refuses."""
    lease_s: float
    """How long the limit may outlive its sender. A driver that reaches the GPU through a node agent
    hands it on; one that writes to the GPU itself leaves leases to the agent's ledger."""


class GpuDriver(Protocol):
    """Power limits of the GPUs one driver reaches.

    `read` and `set_limits` may run at the same time, each once. A sick GPU never delays the answer for the
    others by more than the driver's own timeout. Milliwatts never leave a driver.
    """

    async def open(self) -> None:
        """Reach the devices. Raises `UnavailableError` or `SettingsError`. Called once, before the rest."""

    async def list(self) -> Sequence[GpuInfo]:
        """All GPUs, ordered by host and index. A GPU once listed stays listed, also when lost."""

    async def read(self) -> Sequence[GpuReading]:
        """One reading a listed GPU, in the order of `list`."""

    async def set_limits(self, setpoints: Sequence[LimitSetpoint]) -> Sequence[Outcome]:
        """Set limits and read each back. One outcome a setpoint, in their order; `LOST` for a UUID that
        is not listed.
        """

    async def close(self) -> None:
        """Let go of the devices. Changes no limit."""
