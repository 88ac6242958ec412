"""`flexload simulate EVENT.json`: what an event would come to, without touching anything.

Without a configuration it is played on the demo's site; with one, on a simulated twin of the site
that the configuration names, read once and never written to.
"""

import argparse
import asyncio
import json
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agent.config import equipment_of, load, parse, policy_of, programs_of
from agent.core.event import Event, Interval, Signal, SignalKind
from agent.core.ledger import Lever
from agent.core.policy import Policy
from agent.core.program import Program
from agent.demo.rehearsal import Rehearsal, rehearse, twin_of
from agent.demo.site import MARKET_CONTEXT, SPEC, configuration
from agent.errors import CommandError, ConfigError
from agent.faults import faults_of
from agent.fields import Duration
from agent.telemetry.event_view import performance_view
from agent.units import format_duration, format_power
from drivers.errors import DriverError
from drivers.sim.physics import SiteSpec

KINDS = {
    "SIMPLE level": SignalKind.LEVEL,
    "LOAD_DISPATCH setpoint": SignalKind.SETPOINT,
    "LOAD_DISPATCH delta": SignalKind.CHANGE,
    "LOAD_DISPATCH multiplier": SignalKind.MULTIPLIER,
    "LOAD_DISPATCH level": SignalKind.LEVEL,
    "LOAD_CONTROL x-loadControlCapacity": SignalKind.CAPACITY,
    "LOAD_CONTROL x-loadControlLevelOffset": SignalKind.LEVEL_OFFSET,
    "LOAD_CONTROL x-loadControlPercentOffset": SignalKind.PERCENT_OFFSET,
    "LOAD_CONTROL x-loadControlSetpoint": SignalKind.SETPOINT,
}
"""OpenADR 2.0b's signals that shed; powers in watts."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class IntervalFile(_Table):
    """One interval."""

    duration: Duration
    value: Annotated[float, Field(allow_inf_nan=False)]


class EventFile(_Table):
    """An event as a file."""

    signal: Literal[tuple(KINDS)]  # type: ignore[valid-type]
    intervals: list[IntervalFile] = Field(min_length=1)
    program: str = MARKET_CONTEXT
    starts_in: Duration = 60.0
    ramp_down: Duration | None = None
    ramp_up: Duration | None = None


def run(options: argparse.Namespace) -> int:
    """Play the event and print what would be done and given."""
    file = _read(options.event)
    if options.config is None:
        config = parse(configuration(Path("unused"), "http://127.0.0.1/none", "127.0.0.1:0"))
        spec, programs, policy = SPEC, programs_of(config), policy_of(config)
    else:
        spec, programs, policy = asyncio.run(_twin(options.config))
    with tempfile.TemporaryDirectory(prefix="flexload-simulate-") as directory:
        result = asyncio.run(rehearse(_event(file), spec, programs, policy, Path(directory)))
    print(json.dumps(_document(result)) if options.json else _text(result))
    short = result.held is not None and result.held.plan.shortfall_w > 0
    return 1 if short or result.figures is None else 0


def _read(path: Path) -> EventFile:
    try:
        return EventFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        faults = faults_of(error, EventFile)
        raise ConfigError(*(f"{path}: {fault}" for fault in faults)) from error


async def _twin(path: Path) -> tuple[SiteSpec, tuple[Program, ...], Policy]:
    config = load(path)
    equipment = equipment_of(config)
    try:
        await equipment.open()
        snapshot, _ = await equipment.observe(datetime.now(UTC))
    except DriverError as error:
        raise CommandError(f"the site cannot be read: {error}") from error
    finally:
        await equipment.close()
    return twin_of(snapshot), programs_of(config), policy_of(config)


def _event(file: EventFile) -> Event:
    now = datetime.now(UTC).replace(microsecond=0)
    start = begin = now + timedelta(seconds=file.starts_in)
    intervals = []
    for piece in file.intervals:
        end = begin + timedelta(seconds=piece.duration)
        intervals.append(Interval(begin, end, piece.value))
        begin = end
    return Event(
        event_id="what-if",
        ven="simulate",
        program=file.program,
        revision=0,
        created_at=now,
        starts_at=start,
        duration=begin - start,
        signals=(Signal(KINDS[file.signal], file.signal, "", tuple(intervals)),),
        ramp_down=None if file.ramp_down is None else timedelta(seconds=file.ramp_down),
        ramp_up=None if file.ramp_up is None else timedelta(seconds=file.ramp_up),
    )


def _document(result: Rehearsal) -> dict[str, Any]:
    plan = None if result.held is None else result.held.plan
    return {
        "performance": None if result.figures is None else performance_view(result.figures),
        "caps": {}
        if plan is None
        else {u: {"limit_w": c.limit_w, "reason": c.reason} for u, c in plan.caps.items()},
        "pauses": {} if plan is None else dict(plan.pauses),
        "shortfall_w": 0.0 if plan is None else round(plan.shortfall_w, 1),
        "short_because": [] if plan is None else list(plan.short_because),
        "seconds": result.seconds,
    }


def _text(result: Rehearsal) -> str:
    if result.held is None or result.figures is None:
        return "The event asks for nothing that sheds."
    figures, picture = result.figures, result.held
    lines = [
        f"asked      {format_power(figures.committed_w)} below a baseline of {format_power(figures.baseline_w)}",
        f"delivered  {format_power(figures.delivered_w)} in the mean over {format_duration(figures.held)}, "
        f"{figures.compliant_share:.1%} of the seconds compliant",
    ]
    if picture.plan.shortfall_w > 0:
        why = "; ".join(picture.plan.short_because)
        lines.append(f"SHORT      {format_power(picture.plan.shortfall_w)}: {why}")
    lines += ["", "while holding:"]
    caps = {e.key: e for e in picture.ledger if e.lever is Lever.CAP}
    for workload in picture.snapshot.workloads:
        capped = [caps[uuid] for uuid in workload.gpus if uuid in caps]
        if workload.workload_id in picture.plan.pauses:
            what = f"paused: {picture.plan.pauses[workload.workload_id]}"
        elif capped:
            what = f"{len(capped)} GPUs capped at {capped[0].setpoint_w:.0f} W of {capped[0].original_w:.0f} W"
        else:
            what = "untouched" + (" (protected)" if workload.terms.tier == 0 else "")
        lines.append(f"  {workload.name:<20} tier {workload.terms.tier}  {what}")
    return "\n".join(lines)
