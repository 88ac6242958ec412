"""From a `kind` in the configuration to a driver: the built-in ones and the installed third parties'.

A third party names its driver class in the entry-point group `flexload.drivers`, keyed
`<folder>.<kind>` (`gpu.redfish = "my_package:RedfishGpus"`). A driver class has a `Settings`
attribute (a `DriverSettings`) and takes an instance of it as its one argument.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Protocol, cast

from drivers.errors import SettingsError
from drivers.gpu.base import GpuDriver
from drivers.jobs.base import JobsDriver
from drivers.meter.base import Meter
from drivers.settings import DriverSettings

BUILT_IN: Mapping[str, str] = {
    "gpu.nvml": "drivers.gpu.nvml:NvmlGpus",
    "gpu.sim": "drivers.gpu.sim:SimGpus",
    "jobs.cgroup": "drivers.jobs.cgroup:CgroupJobs",
    "jobs.sim": "drivers.jobs.sim:SimJobs",
    "jobs.slurm": "drivers.jobs.slurm.driver:SlurmJobs",
    "meter.gpu-sum": "drivers.meter.gpu_sum:GpuSumMeter",
    "meter.sim": "drivers.meter.sim:SimMeter",
}


class DriverClass(Protocol):
    """What a driver class looks like to the registry."""

    Settings: type[DriverSettings]

    def __call__(self, settings: DriverSettings) -> object:
        """Build the driver; touches nothing outside the process."""


def kinds(folder: str) -> Mapping[str, Callable[[], DriverClass]]:
    """The kinds of one folder (`gpu`, `jobs`, `meter`), each with a loader that imports it."""
    found: dict[str, Callable[[], DriverClass]] = {}
    for name, target in BUILT_IN.items():
        if name.startswith(f"{folder}."):
            found[name.removeprefix(f"{folder}.")] = lambda target=target: _load(target)  # type: ignore[misc]
    for point in entry_points(group="flexload.drivers"):
        if point.name.startswith(f"{folder}."):
            found.setdefault(point.name.removeprefix(f"{folder}."), point.load)
    return found


def settings_class(folder: str, table: Mapping[str, Any]) -> type[DriverSettings]:
    """What one driver's table must look like. Raises `SettingsError` for a missing or unknown `kind`."""
    return _driver_class(folder, table).Settings


def parse_settings(folder: str, table: Mapping[str, Any]) -> DriverSettings:
    """Validate one driver's table of the configuration.

    Raises `SettingsError` for a missing or unknown `kind`, `ValidationError` for the rest, whose
    error locations are relative to the table.
    """
    return settings_class(folder, table).model_validate(dict(table))


def build_gpu(settings: DriverSettings) -> GpuDriver:
    """Build a GPU driver from its settings."""
    return cast("GpuDriver", _build("gpu", settings))


def build_jobs(settings: DriverSettings) -> JobsDriver:
    """Build a jobs driver from its settings."""
    return cast("JobsDriver", _build("jobs", settings))


def build_meter(settings: DriverSettings) -> Meter:
    """Build a meter from its settings."""
    return cast("Meter", _build("meter", settings))


def _build(folder: str, settings: DriverSettings) -> object:
    return _driver_class(folder, {"kind": settings.kind})(settings)


def _driver_class(folder: str, table: Mapping[str, Any]) -> DriverClass:
    available = kinds(folder)
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in available:
        allowed = ", ".join(sorted(available))
        said = "is missing" if kind is None else f"{kind!r} is not known"
        raise SettingsError(f"kind {said}; allowed: {allowed}")
    return available[kind]()


def _load(target: str) -> DriverClass:
    module, _, name = target.partition(":")
    return cast("DriverClass", getattr(import_module(module), name))
