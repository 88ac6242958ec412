"""Reaching everything a configuration names, without changing anything: for `check-config --online`
and `doctor`.
"""

import asyncio
import errno
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from agent.clock import SystemClock
from agent.config import AnyVenSettings, Config
from agent.configured import equipment_of, policy_of
from agent.core.site import Health, MeterQuality, Snapshot
from agent.enrolment.capacity import Capacity, capacity_of
from agent.enrolment.check import check_connection
from agent.errors import ConfigError, WireError
from agent.fields import split_address
from agent.openadr.v3.client import list_programs
from agent.openadr.v3.settings import Ven3Settings
from agent.places import answers, writing_fault
from agent.units import format_power
from drivers.errors import DriverError

TIMEOUT_S = 90.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    good: bool
    text: str

    def __str__(self) -> str:
        """`ok    text` or `FAIL  text`."""
        return f"{'ok   ' if self.good else 'FAIL '} {self.text}"


async def inspect(config: Config) -> list[Finding]:
    """Try what the agent would write to and listen on, reach every driver and every VTN, and say what
    could be shed now.
    """
    return [
        *_inspect_places(config),
        _inspect_listening(config),
        *await _inspect_equipment(config),
        *[await _inspect_vtn(settings) for settings in config.ven],
    ]


def _inspect_places(config: Config) -> Iterator[Finding]:
    for directory in (config.site.state_dir, config.site.control_socket.parent):
        fault = writing_fault(directory)
        yield Finding(fault is None, fault or f"{directory} is writable")


def _inspect_listening(config: Config) -> Finding:
    """Whether the page could listen where it is to. It may be this very agent that does already."""
    listen, path = config.web.listen, config.site.control_socket
    host, port = split_address(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE and answers(path):
            text = f"note: web.listen: {listen} is in use, and an agent answers on {path}"
            return Finding(True, text)
        why = os.strerror(error.errno) if error.errno else str(error)
        return Finding(False, f"web.listen: cannot listen on {listen}: {why}")
    return Finding(True, f"the page can listen on {listen}")


async def measure(config: Config) -> Capacity | str:
    """What the site could shed now, or one sentence on why that cannot be told."""
    snapshot = await _observe(config)
    if isinstance(snapshot, str):
        return snapshot
    meter = snapshot.meter
    if meter.power_w is None or meter.quality is MeterQuality.BAD:
        return f"meter: {meter.detail}"
    return capacity_of(snapshot, policy_of(config))


async def _observe(config: Config) -> Snapshot | str:
    """The site at one instant, or one sentence on why it cannot be seen."""
    equipment = equipment_of(config)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await equipment.open()
            snapshot, _ = await equipment.observe(SystemClock().now())
    except DriverError as error:
        return f"drivers: {error}"
    except TimeoutError:
        return f"drivers: no answer within {TIMEOUT_S:.0f} s"
    finally:
        await equipment.close()
    return snapshot


async def _inspect_equipment(config: Config) -> list[Finding]:
    snapshot = await _observe(config)
    if isinstance(snapshot, str):
        return [Finding(False, snapshot)]
    findings = [*_gpu_findings(snapshot), *_job_findings(snapshot)]
    meter = snapshot.meter
    if meter.power_w is None:
        return [*findings, Finding(False, f"meter: {meter.detail}")]
    findings.append(Finding(True, f"meter reads {format_power(meter.power_w)} ({meter.quality})"))
    if meter.quality is not MeterQuality.BAD:
        findings.append(_flexibility(config, snapshot))
    return findings


def _gpu_findings(snapshot: Snapshot) -> Iterator[Finding]:
    well = [gpu for gpu in snapshot.gpus if gpu.health is Health.OK]
    yield Finding(bool(well), f"{len(well)} of {len(snapshot.gpus)} GPUs answer")
    for gpu in snapshot.gpus:
        name = f"GPU {gpu.host}/{gpu.index}"
        if gpu.health is not Health.OK:
            yield Finding(False, f"{name}: {gpu.detail or gpu.health}")
        elif gpu.persistence is False:
            yield Finding(
                True, f"note: {name}: persistence mode is off: limits may be forgotten when idle"
            )
        if gpu.enforced_w is not None and gpu.limit_w is not None and gpu.enforced_w < gpu.limit_w:
            text = f"held at {gpu.enforced_w:.0f} W out of band, below its {gpu.limit_w:.0f} W"
            yield Finding(True, f"note: {name}: {text}")


def _job_findings(snapshot: Snapshot) -> Iterator[Finding]:
    for sentence in snapshot.blind:
        yield Finding(False, sentence)
    for workload in snapshot.workloads:
        may = "may be paused" if workload.terms.may_pause else "not to be paused"
        text = (
            f"{workload.name}: {workload.kind}, tier {workload.terms.tier}, {may}, {workload.state}"
        )
        yield Finding(True, f"workload {text}")


def _flexibility(config: Config, snapshot: Snapshot) -> Finding:
    """What could be shed now."""
    capacity = capacity_of(snapshot, policy_of(config))
    text = f"could shed {format_power(capacity.shed_w)} of {format_power(capacity.now_w)} now, "
    text += f"capping {capacity.capped} GPUs and pausing {capacity.paused} jobs"
    return Finding(capacity.shed_w > 0, text)


async def _inspect_vtn(settings: AnyVenSettings) -> Finding:
    """Whether the VTN can be talked to; registers nothing and answers no event."""
    name = f"VTN of {settings.name}"
    if isinstance(settings, Ven3Settings):
        try:
            await list_programs(settings, SystemClock())
        except (WireError, ConfigError) as error:
            return Finding(False, f"{name}: {error}")
    else:
        async for step in check_connection(settings):
            if not step.good:
                remedy = f" ({step.remedy})" if step.remedy else ""
                return Finding(False, f"{name}: {step.name}: {step.text}{remedy}")
    return Finding(True, f"{name} answers on {settings.vtn_url}")
