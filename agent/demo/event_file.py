"""An event as a JSON file, for `flexload simulate`. docs/simulate.md lists its keys for people."""

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from agent.core.event import Event, Interval, Signal, SignalKind
from agent.core.program import Percent, Program, ask_of, describe_ask
from agent.errors import ConfigError
from agent.faults import faults_of
from agent.fields import Duration
from agent.units import format_duration, parse_power, parse_share

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
"""OpenADR 2.0b's signals that shed."""

ALLOWED = {
    SignalKind.LEVEL: "a level of the program: 0, 1, 2 or 3",
    SignalKind.LEVEL_OFFSET: "whole levels, like 1 or -1",
    SignalKind.SETPOINT: 'a power with its unit, like "20 kW"',
    SignalKind.CHANGE: 'a power with its sign and unit, like "-20 kW"',
    SignalKind.MULTIPLIER: 'a factor from 0 on, like 0.75, or a share like "75 %"',
    SignalKind.CAPACITY: 'a share of the largest import from 0 to 1, like 0.6, or "60 %"',
    SignalKind.PERCENT_OFFSET: 'a percentage with its sign, like "-25 %", or a number as on the wire',
}
"""What the values of each kind may be."""

_SIGNED = re.compile(r"\s*([+-]?)\s*(.+)", re.DOTALL)


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class IntervalFile(_Table):
    """One interval."""

    duration: Annotated[Duration, Field(gt=0)]
    value: Annotated[float, Field(allow_inf_nan=False)] | str


class EventFile(_Table):
    """An event as a file."""

    signal: Literal[tuple(KINDS)]  # type: ignore[valid-type]
    intervals: list[IntervalFile] = Field(min_length=1)
    program: str | None = None
    starts_in: Duration = 60.0
    ramp_down: Duration | None = None
    ramp_up: Duration | None = None

    @model_validator(mode="after")
    def _has_values(self) -> "EventFile":
        for number, interval in enumerate(self.intervals):
            try:
                value_of(self.kind, interval.value, Percent.PERCENT)
            except ValueError as error:
                raise ValueError(f"intervals.{number}.value: {error}") from None
        return self

    @property
    def kind(self) -> SignalKind:
        """What the values mean."""
        return KINDS[self.signal]


def read(path: Path) -> EventFile:
    """The event in a file. Raises `ConfigError` with every fault, a line each."""
    try:
        return EventFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        faults = faults_of(error, EventFile)
        raise ConfigError(*(f"{path}: {fault}" for fault in faults)) from error


def value_of(kind: SignalKind, value: float | str, percent: Percent) -> float:
    """A value as the core counts it: powers in watts. Raises `ValueError` saying what is allowed."""
    shown = repr(value) if isinstance(value, str) else f"{value:g}"
    allowed = f"must be {ALLOWED[kind]}, not {shown}"
    try:
        number = _quantity(kind, value, percent) if isinstance(value, str) else _bare(kind, value)
    except ValueError:
        raise ValueError(allowed) from None
    whole = kind in (SignalKind.LEVEL, SignalKind.LEVEL_OFFSET)
    signed = kind in (SignalKind.LEVEL_OFFSET, SignalKind.CHANGE, SignalKind.PERCENT_OFFSET)
    share = kind is SignalKind.CAPACITY
    if (whole and number != round(number)) or (not signed and number < 0) or (share and number > 1):
        raise ValueError(allowed)
    return number


def program_named(name: str | None, programs: tuple[Program, ...]) -> Program:
    """The program with this name or market context, or the only one. Raises `ConfigError`."""
    known = ", ".join(f"{p.name} ({p.market_context})" for p in programs) or "none"
    if name is None:
        if len(programs) == 1:
            return programs[0]
        raise ConfigError(f"the event's program must be named; configured: {known}")
    for program in programs:
        if name in (program.name, program.market_context):
            return program
    for program in programs:
        if program.market_context == "*":
            return program
    raise ConfigError(f"the event's program {name!r} is not configured; configured: {known}")


def event_of(file: EventFile, program: Program, now: datetime) -> Event:
    """The event as its VTN would have sent it at `now`."""
    start = begin = now + timedelta(seconds=file.starts_in)
    intervals = []
    for piece in file.intervals:
        end = begin + timedelta(seconds=piece.duration)
        value = value_of(file.kind, piece.value, program.percent)
        intervals.append(Interval(begin, end, value))
        begin = end
    return Event(
        event_id="what-if",
        ven=program.ven or "simulate",
        program=program.market_context,
        revision=0,
        created_at=now,
        starts_at=start,
        duration=begin - start,
        signals=(Signal(file.kind, file.signal, "", tuple(intervals)),),
        ramp_down=None if file.ramp_down is None else timedelta(seconds=file.ramp_down),
        ramp_up=None if file.ramp_up is None else timedelta(seconds=file.ramp_up),
    )


def understood(event: Event, program: Program, max_import_w: float) -> list[str]:
    """What was understood of an event, one sentence for each interval."""
    (signal,) = event.signals
    sentences = []
    for interval in signal.intervals:
        ask = ask_of(signal.kind, interval.value, program, max_import_w)
        asks = _nothing(signal.kind, interval.value, program) if ask is None else describe_ask(ask)
        end = interval.end or interval.start
        sentences.append(f"{asks} for {format_duration(end - interval.start)}")
    return sentences


def _nothing(kind: SignalKind, value: float, program: Program) -> str:
    level = abs(round(value))
    if kind in (SignalKind.LEVEL, SignalKind.LEVEL_OFFSET) and level:
        has = ", ".join(map(str, sorted(program.levels))) or "none"
        return f"nothing (program {program.name} has no level {level}, its levels: {has})"
    return "nothing"


def _bare(kind: SignalKind, value: float) -> float:
    if kind in (SignalKind.SETPOINT, SignalKind.CHANGE):
        raise ValueError
    return value


def _quantity(kind: SignalKind, text: str, percent: Percent) -> float:
    match = _SIGNED.fullmatch(text)
    sign, amount = (match[1], match[2]) if match else ("", "")
    factor = -1.0 if sign == "-" else 1.0
    match kind:
        case SignalKind.SETPOINT | SignalKind.CHANGE:
            return factor * parse_power(amount)
        case SignalKind.MULTIPLIER | SignalKind.CAPACITY:
            return factor * parse_share(amount)
        case SignalKind.PERCENT_OFFSET:
            return factor * parse_share(amount) * (100 if percent is Percent.PERCENT else 1)
        case _:
            raise ValueError
