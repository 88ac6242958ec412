"""NVIDIA GPUs of this host through NVML, the driver's own library.

Each GPU has a thread of its own, because a call on a sick GPU can hang in the kernel for as long as
it likes. The others answer meanwhile, and the sick one is stale until its call returns.
"""

import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from drivers.errors import SettingsError, UnavailableError
from drivers.gpu.base import GpuDriver, GpuHealth, GpuInfo, GpuReading, LimitSetpoint
from drivers.gpu.nvml_device import Device, Fault, find_gpu, start_nvml, stop_nvml
from drivers.outcome import Outcome, Result
from drivers.settings import DriverSettings
from drivers.worker import Worker, answers

_log = logging.getLogger(__name__)

OPENING_S = 60.0
"""How long NVML and each GPU may take to come up: without persistence mode, the first touch of a GPU
initialises it, which takes seconds."""
CLOSING_S = 0.2
"""How long closing waits for calls under way."""


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("must be an absolute path")
    return path


@dataclass(slots=True)
class _Gpu:
    device: Device
    worker: Worker
    last: GpuReading
    """The last good reading; without values when there has been none."""


class NvmlGpus:
    """The NVIDIA GPUs of this host.

    Setting a limit needs CAP_SYS_ADMIN in the initial user namespace; reading needs no privilege.
    A limit is forgotten when the driver unloads or the GPU is reset. Process lists are never read:
    they hold a lock of the driver for milliseconds. A GPU that cannot be identified when the driver
    opens is left out with a warning, so that it does not cost the site the others. A GPU whose
    range is from its default limit to its default limit cannot be capped.
    """

    class Settings(DriverSettings):
        """Settings of the `nvml` GPU driver."""

        kind: Literal["nvml"] = "nvml"
        timeout_s: Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)] = 2.0
        """How long a cycle waits for a GPU before it counts as stale."""
        gpus: tuple[str, ...] = ()
        """UUIDs of the GPUs to control (`GPU-…`, as `nvidia-smi -L` prints them); empty: all."""
        host: Annotated[str, Field(default_factory=socket.gethostname, min_length=1)]
        """This host's name as the site knows it; the system's host name unless set."""
        library: Annotated[Path, AfterValidator(_absolute)] | None = None
        """Absolute path of libnvidia-ml.so.1; None: where the system's loader finds it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._nvml: Worker | None = None
        self._workers: Sequence[Worker] = ()
        self._gpus: dict[str, _Gpu] = {}

    async def open(self) -> None:
        """Initialise NVML and identify the GPUs. Raises `UnavailableError` or `SettingsError`."""
        host, library = self._settings.host, self._settings.library
        nvml = Worker("nvml")
        try:
            request = nvml.submit(partial(start_nvml, library, host, nvml.wanted))
            [count] = await answers([request], OPENING_S)
        except BaseException:
            nvml.stop()
            raise
        if count is None:
            nvml.stop()
            raise UnavailableError(f"NVML on {host} did not answer within {OPENING_S:g} s")
        self._nvml = nvml
        try:
            await self._identify(count)
        except BaseException:
            await self.close()
            raise

    async def list(self) -> Sequence[GpuInfo]:
        """The GPUs as they were identified when the driver opened."""
        return [gpu.device.info for gpu in self._gpus.values()]

    async def read(self) -> Sequence[GpuReading]:
        """One reading a GPU, all at the same time, within the timeout."""
        gpus = list(self._gpus.values())
        read = await answers(
            [gpu.worker.submit(gpu.device.read) for gpu in gpus], self._settings.timeout_s
        )
        return [self._reading(gpu, answer) for gpu, answer in zip(gpus, read, strict=True)]

    async def set_limits(self, setpoints: Sequence[LimitSetpoint]) -> Sequence[Outcome]:
        """Set and read back limits on all GPUs at the same time, within the timeout.

        `LOST` for a GPU that did not answer in time: a write that hung may still take effect, one
        that had not begun never will.
        """
        gpus = [self._gpus.get(setpoint.uuid) for setpoint in setpoints]
        requests = [
            None
            if gpu is None
            else gpu.worker.submit(
                partial(gpu.device.set_limit, setpoint.limit_w, gpu.worker.wanted)
            )
            for gpu, setpoint in zip(gpus, setpoints, strict=True)
        ]
        outcomes = await answers(requests, self._settings.timeout_s)
        return [
            outcome or Outcome(setpoint.uuid, Result.LOST, self._silence(setpoint.uuid))
            for setpoint, outcome in zip(setpoints, outcomes, strict=True)
        ]

    async def close(self) -> None:
        """Stop the threads and NVML. Leaves NVML initialised while a call hangs in it."""
        nvml, self._nvml = self._nvml, None
        if nvml is None:
            return
        workers, self._workers, self._gpus = self._workers, (), {}
        idle = await answers([worker.submit(lambda: True) for worker in workers], CLOSING_S)
        for worker in workers:
            worker.stop()
        if all(idle):
            await answers([nvml.submit(stop_nvml)], CLOSING_S)
        nvml.stop()

    async def _identify(self, count: int) -> None:
        """Fill `_gpus`, each GPU on its own thread, as one may hang already."""
        host, wanted = self._settings.host, set(self._settings.gpus)
        self._workers = [Worker(f"nvml-{index}") for index in range(count)]
        requests = [
            worker.submit(partial(find_gpu, index, host))
            for index, worker in enumerate(self._workers)
        ]
        identified = await answers(requests, OPENING_S)
        faults = []
        for index, found in enumerate(identified):
            if found is None:
                faults.append(f"GPU {index} on {host} did not answer within {OPENING_S:g} s")
            elif isinstance(found, Fault):
                faults.append(found.detail)
            elif not wanted or found.info.uuid in wanted:
                never = GpuReading(found.info.uuid, datetime.now(UTC), None, None, None)
                self._gpus[found.info.uuid] = _Gpu(found, self._workers[index], never)
        missing = sorted(wanted - self._gpus.keys())
        if missing and not faults:
            raise SettingsError(f"gpus: NVML on {host} lists no {', '.join(missing)}")
        if not self._gpus:
            raise UnavailableError(f"no GPU can be used: {'; '.join(faults)}")
        if missing or not wanted:
            for fault in faults:
                _log.warning("a GPU is left out until the next start: %s", fault)

    def _reading(self, gpu: _Gpu, answer: GpuReading | Fault | None) -> GpuReading:
        uuid = gpu.device.info.uuid
        if isinstance(answer, GpuReading):
            gpu.last = answer
            return answer
        if answer is not None and answer.health is GpuHealth.LOST:
            now = datetime.now(UTC)
            return GpuReading(uuid, now, None, None, None, None, answer.health, answer.detail)
        detail = self._silence(uuid) if answer is None else answer.detail
        return replace(gpu.last, health=GpuHealth.STALE, detail=detail)

    def _silence(self, uuid: str) -> str:
        gpu = self._gpus.get(uuid)
        if gpu is None:
            return f"there is no GPU {uuid} on {self._settings.host}"
        return f"{gpu.device.where} did not answer within {self._settings.timeout_s:g} s"


if TYPE_CHECKING:
    _conforms: type[GpuDriver] = NvmlGpus
