"""A site without a meter of its own: its import computed from the draw of its GPUs."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from drivers.gpu.base import GpuHealth, GpuReading
from drivers.meter.base import Meter, MeterReading, Quality
from drivers.settings import DriverSettings


class GpuSumMeter:
    """Import = (base load + sum of the GPUs' draw) x PUE; never better than `ESTIMATED`."""

    class Settings(DriverSettings):
        """Settings of the `gpu-sum` meter."""

        kind: Literal["gpu-sum"] = "gpu-sum"
        base_load_w: Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
        """What the IT draws besides the GPUs (processors, memory, fans, power supplies), W."""
        pue: Annotated[float, Field(ge=1, allow_inf_nan=False, strict=True)] = 1.0
        """Power usage effectiveness: the site's import for each watt of its IT."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def watts_per_gpu_watt(self) -> float:
        """The PUE."""
        return self._settings.pue

    async def open(self) -> None:
        """Nothing to reach."""

    async def read(self, gpus: Sequence[GpuReading]) -> MeterReading:
        """The site's power at the newest of the readings.

        `BAD` when a GPU is lost or has no draw: the sum without it would be too low. The last known
        draw of a stale GPU counts, and the detail says so.
        """
        at = max((gpu.at for gpu in gpus), default=datetime.now(UTC))
        draws_w = [gpu.power_w for gpu in gpus if gpu.health is not GpuHealth.LOST]
        known_w = [draw_w for draw_w in draws_w if draw_w is not None]
        if len(known_w) < len(gpus):
            unknown = [g for g in gpus if g.health is GpuHealth.LOST or g.power_w is None]
            return MeterReading(at, None, Quality.BAD, f"no draw known of {_names(unknown)}")
        power_w = (self._settings.base_load_w + sum(known_w)) * self._settings.pue
        stale = [gpu for gpu in gpus if gpu.health is GpuHealth.STALE]
        detail = f"counts the last known draw of stale {_names(stale)}" if stale else ""
        return MeterReading(at, power_w, Quality.ESTIMATED, detail)

    async def close(self) -> None:
        """Nothing to let go of."""


def _names(gpus: Sequence[GpuReading]) -> str:
    return ", ".join(gpu.uuid for gpu in gpus)


if TYPE_CHECKING:
    _conforms: type[Meter] = GpuSumMeter
