"""Everything that calls NVML, for one GPU and for the library; blocking, in watts, without asyncio.

What NVML's documentation fixes and this file relies on: limits and draw are milliwatts, energy is
millijoules since the driver was loaded; a limit out of range is an error and is not clamped; the
enforced limit is the lowest of all that are in force, also of those set out of band; NVML may be
called from many threads; initialising it is counted, so each `start_nvml` needs one
`stop_nvml`.
"""

import contextlib
import ctypes
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import Any

import pynvml

from drivers.errors import SettingsError, UnavailableError
from drivers.gpu.base import GpuHealth, GpuInfo, GpuReading
from drivers.outcome import Outcome, Result

FIRST_RETRY_S = 1.0
"""How long a lost GPU is left alone before the first attempt to reach it again."""
LAST_RETRY_S = 60.0
"""The pause between attempts doubles up to this: a GPU off the bus costs the driver's lock each time."""

_restarting = threading.Lock()


class Code(IntEnum):
    """The NVML return codes that are told apart here, as NVML numbers them."""

    UNINITIALIZED = 1
    INVALID_ARGUMENT = 2
    NOT_SUPPORTED = 3
    NO_PERMISSION = 4
    NOT_FOUND = 6
    DRIVER_NOT_LOADED = 9
    LIBRARY_NOT_FOUND = 12
    FUNCTION_NOT_FOUND = 13
    GPU_IS_LOST = 15
    RESET_REQUIRED = 16
    LIB_RM_VERSION_MISMATCH = 18
    GPU_NOT_FOUND = 28
    UNKNOWN = 999


_GONE = {
    Code.UNINITIALIZED: "NVML is not initialised any more: the NVIDIA driver was reloaded",
    Code.INVALID_ARGUMENT: "device access was lost: NVML does not know the device's handle any more",
    Code.NOT_FOUND: "device access was lost: NVML does not list the GPU any more",
    Code.GPU_NOT_FOUND: "device access was lost: NVML does not list the GPU any more",
    Code.DRIVER_NOT_LOADED: "the NVIDIA driver is not loaded",
    Code.LIBRARY_NOT_FOUND: "libnvidia-ml.so.1 was not found: the NVIDIA driver is not installed,"
    " or not visible to this process",
    Code.GPU_IS_LOST: "device access was lost: the GPU fell off the bus or cannot be reached",
    Code.RESET_REQUIRED: "device access was lost: the GPU must be reset before it can be used",
    Code.LIB_RM_VERSION_MISMATCH: "the NVIDIA driver and its library differ in version, as after an"
    " upgrade under running processes: restart the agent, and reboot if that does not help",
    Code.UNKNOWN: "device access was lost: NVML answers 'unknown error', as it does when a"
    " container's access to its devices was withdrawn",
}
"""What it means when a GPU that has answered before answers this: nothing to be had until it is
reached anew."""

_ABSENT = (Code.NOT_SUPPORTED, Code.FUNCTION_NOT_FOUND)


_FORBIDDEN = "no permission to set the limit: needs CAP_SYS_ADMIN in the initial user namespace"
_UNSUPPORTED = "this GPU or its driver has no power limit that can be set"


@dataclass(frozen=True, slots=True)
class Fault:
    """Why there is no good reading."""

    health: GpuHealth
    detail: str
    """One sentence for an operator, naming the GPU and its host."""


def start_nvml(library: Path | None, host: str, wanted: Callable[[], bool]) -> int:
    """Load NVML, initialise it and return the number of GPUs, at least one.

    `library` is loaded instead of what the system's loader finds as libnvidia-ml.so.1. Raises
    `SettingsError` and `UnavailableError`, and then nothing is left initialised; nor when `wanted()`
    is false by the time NVML has answered.
    """
    if not hasattr(pynvml, "_nvmlGetFunctionPointer"):
        raise SettingsError(
            "the unofficial 'pynvml' package hides NVIDIA's nvidia-ml-py: uninstall pynvml and"
            " reinstall nvidia-ml-py"
        )
    if library is not None:
        _load(library)
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise UnavailableError(f"NVML on {host}: {_sentence(error)}") from error
    try:
        count: int = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError as error:
        stop_nvml()
        raise UnavailableError(f"NVML on {host}: {_sentence(error)}") from error
    if count == 0 or not wanted():
        stop_nvml()
        raise UnavailableError(f"NVML on {host} lists no GPU")
    return count


def stop_nvml() -> None:
    """Undo one `start_nvml`. Changes no limit."""
    with contextlib.suppress(pynvml.NVMLError):
        pynvml.nvmlShutdown()


def _load(library: Path) -> None:
    loaded = pynvml.nvmlLib
    if loaded is None:
        try:
            pynvml.nvmlLib = ctypes.CDLL(str(library))
        except OSError as error:
            raise SettingsError(f"cannot load the NVML library {library}: {error}") from error
    elif loaded._name != str(library):
        raise SettingsError(
            f"this process already uses the NVML library {loaded._name} and cannot use {library} too"
        )


def _restart() -> None:
    """Initialise NVML again if it is not, once for all the threads that find it so."""
    with _restarting:
        try:
            pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as error:
            if error.value == Code.UNINITIALIZED:
                pynvml.nvmlInit()


def find_gpu(index: int, host: str) -> "Device | Fault":
    """Identify the GPU at one of NVML's positions."""
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        return Device(handle, _identify(handle, index, host))
    except pynvml.NVMLError as error:
        return _fault(error, f"GPU {index} on {host}")


def _identify(handle: Any, index: int, host: str) -> GpuInfo:
    limits_mw = _supported(pynvml.nvmlDeviceGetPowerManagementLimitConstraints, handle)
    default_mw = _supported(pynvml.nvmlDeviceGetPowerManagementDefaultLimit, handle)
    if default_mw is None:
        default_mw = _supported(pynvml.nvmlDeviceGetPowerManagementLimit, handle)
    fixed_mw = default_mw or 0
    min_mw, max_mw = limits_mw or (fixed_mw, fixed_mw)
    persistence = _supported(pynvml.nvmlDeviceGetPersistenceMode, handle)
    return GpuInfo(
        uuid=pynvml.nvmlDeviceGetUUID(handle),
        name=pynvml.nvmlDeviceGetName(handle),
        host=host,
        index=index,
        min_limit_w=min_mw / 1000,
        max_limit_w=max_mw / 1000,
        default_limit_w=(max_mw if default_mw is None else default_mw) / 1000,
        persistence=None if persistence is None else bool(persistence),
    )


class Device:
    """One GPU. To be used from one thread only, as every call may hang."""

    def __init__(self, handle: Any, info: GpuInfo) -> None:
        self.info = info
        self.where = f"GPU {info.index} on {info.host}"
        self._handle = handle
        self._has_instant_power = True
        self._gone: Fault | None = None
        self._retry_at_s = 0.0
        self._retry_s = FIRST_RETRY_S

    def read(self) -> GpuReading | Fault:
        """Draw, both limits and energy: at most five NVML calls, four on most GPUs."""
        if (gone := self._still_gone()) is not None:
            return gone
        try:
            handle = self._reach()
            reading = GpuReading(
                uuid=self.info.uuid,
                at=datetime.now(UTC),
                power_w=self._power_w(handle),
                limit_w=_thousandth(pynvml.nvmlDeviceGetPowerManagementLimit, handle),
                enforced_w=_thousandth(pynvml.nvmlDeviceGetEnforcedPowerLimit, handle),
                energy_j=_thousandth(pynvml.nvmlDeviceGetTotalEnergyConsumption, handle),
            )
        except pynvml.NVMLError as error:
            return self._failed(error)
        self._gone, self._retry_s = None, FIRST_RETRY_S
        return reading

    def set_limit(self, limit_w: float, wanted: Callable[[], bool]) -> Outcome:
        """Set the limit unless it is in place already, and judge by what is read back.

        Writes nothing once `wanted()` is false: a limit must not arrive after its sender gave up.
        """
        asked_mw = _milliwatts(limit_w)
        if asked_mw is None:
            return self._outcome(Result.REFUSED, self._out_of_range(limit_w))
        if (gone := self._still_gone()) is not None:
            return self._outcome(Result.LOST, gone.detail)
        try:
            handle = self._reach()
            refusal = None
            requested_mw: int = pynvml.nvmlDeviceGetPowerManagementLimit(handle)
            if not _holds(requested_mw, asked_mw):
                if not wanted():
                    return self._outcome(Result.LOST, f"{self.where} answered too late")
                refusal = _write(handle, asked_mw)
                requested_mw = pynvml.nvmlDeviceGetPowerManagementLimit(handle)
            enforced_mw = _supported(pynvml.nvmlDeviceGetEnforcedPowerLimit, handle)
        except pynvml.NVMLError as error:
            if error.value in _ABSENT:
                return self._outcome(Result.UNSUPPORTED, f"{self.where}: {_UNSUPPORTED}")
            return self._outcome(Result.LOST, self._failed(error).detail)
        binding_mw = requested_mw if enforced_mw is None else enforced_mw
        return self._outcome(*self._judge(asked_mw, requested_mw, binding_mw, refusal))

    def _judge(
        self, asked_mw: int, requested_mw: int, binding_mw: int, refusal: Any
    ) -> tuple[Result, str]:
        asked = f"{asked_mw / 1000:g} W"
        code = None if refusal is None else refusal.value
        if code == Code.NO_PERMISSION:
            return Result.REFUSED, f"{self.where}: {_FORBIDDEN}"
        if code == Code.INVALID_ARGUMENT:
            return Result.REFUSED, self._out_of_range(asked_mw / 1000)
        if code in _ABSENT:
            return Result.UNSUPPORTED, f"{self.where}: {_UNSUPPORTED}"
        # Any other error proves nothing: what is read back decides.
        if not _holds(requested_mw, asked_mw) or binding_mw > requested_mw:
            answered = "" if refusal is None else f" (NVML answered: {refusal})"
            held = f"{max(requested_mw, binding_mw) / 1000:g} W"
            return (
                Result.REFUSED,
                f"{self.where} was asked for {asked}, but its limit reads {held}{answered}",
            )
        if binding_mw < requested_mw:
            return (
                Result.CLAMPED,
                f"{self.where} is held at {binding_mw / 1000:g} W out of band (a BMC or a vendor"
                f" tool), below the {asked} asked for",
            )
        return Result.APPLIED, ""

    def _outcome(self, result: Result, detail: str) -> Outcome:
        return Outcome(self.info.uuid, result, detail)

    def _out_of_range(self, limit_w: float) -> str:
        low, high = self.info.min_limit_w, self.info.max_limit_w
        return f"{self.where} does not accept {limit_w:g} W: its range is {low:g} to {high:g} W"

    def _still_gone(self) -> Fault | None:
        return self._gone if time.monotonic() < self._retry_at_s else None

    def _reach(self) -> Any:
        """The handle, found anew by UUID after a loss: positions change, UUIDs do not."""
        if self._handle is None:
            try:
                self._handle = pynvml.nvmlDeviceGetHandleByUUID(self.info.uuid)
            except pynvml.NVMLError as error:
                if error.value != Code.UNINITIALIZED:
                    raise
                _restart()
                self._handle = pynvml.nvmlDeviceGetHandleByUUID(self.info.uuid)
        return self._handle

    def _failed(self, error: Any) -> Fault:
        fault = _fault(error, self.where)
        if fault.health is GpuHealth.LOST:
            self._gone, self._handle = fault, None
            self._retry_at_s = time.monotonic() + self._retry_s
            self._retry_s = min(2 * self._retry_s, LAST_RETRY_S)
        return fault

    def _power_w(self, handle: Any) -> float | None:
        """Draw now where the GPU can say it, else NVML's power usage, which on Ampere (but not
        GA100) and later is the average of the last second.
        """
        if self._has_instant_power:
            power_mw = _instant_power_mw(handle)
            if power_mw is not None:
                return power_mw / 1000
            self._has_instant_power = False
        return _thousandth(pynvml.nvmlDeviceGetPowerUsage, handle)


def _write(handle: Any, limit_mw: int) -> Any:
    """Write the limit; returns NVML's error or None.

    Deliberately the first version of the call: nvidia-ml-py's wrapper of the second one drops
    the return code, so a refusal would look like success.
    """
    try:
        pynvml.nvmlDeviceSetPowerManagementLimit(handle, limit_mw)
    except pynvml.NVMLError as error:
        return error
    return None


def _instant_power_mw(handle: Any) -> int | None:
    """None where the GPU or its driver does not know the field."""
    fields = _supported(_power_fields, handle)
    if fields is None:
        return None
    # The call succeeds though a field in it does not: each field has its own return code.
    code = fields[0].nvmlReturn
    if code in (*_ABSENT, Code.INVALID_ARGUMENT):
        return None
    if code != pynvml.NVML_SUCCESS:
        raise pynvml.NVMLError(code)
    return int(fields[0].value.uiVal)


def _power_fields(handle: Any) -> Any:
    return pynvml.nvmlDeviceGetFieldValues(handle, [pynvml.NVML_FI_DEV_POWER_INSTANT])


def _holds(requested_mw: int, asked_mw: int) -> bool:
    """Whether a limit read back is the one asked for: equal, or rounded down to the whole watt."""
    return asked_mw - 1000 < requested_mw <= asked_mw


def _milliwatts(limit_w: float) -> int | None:
    """None for what NVML's unsigned 32 bits cannot carry: a wrapped value would be a valid limit."""
    if not math.isfinite(limit_w) or not 0 < limit_w * 1000 < 2**32:
        return None
    return round(limit_w * 1000)


def _thousandth(call: Callable[[Any], int], handle: Any) -> float | None:
    value = _supported(call, handle)
    return None if value is None else value / 1000


def _supported(call: Callable[[Any], Any], handle: Any) -> Any:
    """What `call` returns; None when this GPU or this driver does not have it."""
    try:
        return call(handle)
    except pynvml.NVMLError as error:
        if error.value not in _ABSENT:
            raise
        return None


def _fault(error: Any, where: str) -> Fault:
    health = GpuHealth.LOST if error.value in _GONE else GpuHealth.STALE
    return Fault(health, f"{where}: {_sentence(error)}")


def _sentence(error: Any) -> str:
    return _GONE.get(error.value, f"NVML answered: {error}")
