"""The one thing a meter is: the site's power now, and how good the figure is."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from drivers.gpu.base import GpuReading


class Quality(StrEnum):
    """How far a figure can be trusted."""

    GOOD = "good"
    """Measured by a meter."""
    ESTIMATED = "estimated"
    """Computed from something else that was measured."""
    BAD = "bad"
    """Not to be used; the value is the last good one or absent."""


@dataclass(frozen=True, slots=True)
class MeterReading:
    """The site's import at one instant."""

    at: datetime
    """When it was read, aware UTC."""
    power_w: float | None
    """Power drawn from the grid, W, averaged over at most one second; None when bad."""
    quality: Quality
    detail: str = ""


class Meter(Protocol):
    """The meter that the grid's limits are held on."""

    @property
    def watts_per_gpu_watt(self) -> float:
        """How many metered watts one GPU watt makes: 1 for an IT meter, about the PUE for a site's."""

    async def open(self) -> None:
        """Reach the meter. Raises `UnavailableError` or `SettingsError`. Called once, before the rest."""

    async def read(self, gpus: Sequence[GpuReading]) -> MeterReading:
        """The site's power now. `gpus` are this cycle's GPU readings, for meters that are computed
        from them; a real meter ignores them. Never raises for a lost meter: says `BAD`.
        """

    async def close(self) -> None:
        """Let go of the meter."""
