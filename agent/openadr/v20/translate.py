"""From what a VTN sent to what the core understands.

Decisions that the 2.0b texts leave open, each where a wrong guess would cost least:

* A power without a unit is in watts: if the VTN meant kilowatts we shed too much, never too little.
* The event's own duration wins over the sum of its intervals (2.0b rule 8): intervals are cut at
  the event's end, and the last one holds until then.
* An end beyond the calendar means until cancelled, as duration zero does (rule 47).
* A unit that is no real power (VA, Wh, degrees) makes a signal one that is kept and sheds nothing.
* An event of unknown signals only is kept and shown, and opted out of (the core decides) with code
  460, signal not supported: rules 48 and 109 want that error of the VEN, and it tells the utility that
  nothing will be shed. Unknown signals beside a known one are kept with it and shed nothing.
* Overlapping events are all kept to: what is held is the lowest limit that any of them asks for, so
  that no priority loosens what another program was promised (rule 18 leaves a VEN free to). The
  priority decides which is named where two ask for the same.
* A status other than cancelled changes nothing here: completion is the clock's to decide (rule 66).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from agent.core.event import Event, Interval, Signal, SignalKind
from agent.errors import quote
from agent.openadr.iso8601 import format_duration
from agent.openadr.v20.messages import (
    Code,
    FaultError,
    RejectedEvent,
    WireEvent,
    WireInterval,
    WireSignal,
)

MAX_POWER_W = 1e12
"""No site is dispatched in terawatts: a larger figure is a fault of scale."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HORIZON = datetime(9000, 1, 1, tzinfo=UTC)
"""Nothing is planned beyond it; kept well within the calendar, so that shifts and ramps stay in it."""
MAX_TRANSIT = timedelta(days=366)
"""Longest startafter, ramp, recovery and notification: longer ones are faults of unit."""
MAX_LEVEL = 100
"""Levels are small whole numbers; the profile sets no bound but for SIMPLE."""

_KINDS: Mapping[tuple[str, str], SignalKind] = {
    ("SIMPLE", "level"): SignalKind.LEVEL,
    ("LOAD_DISPATCH", "setpoint"): SignalKind.SETPOINT,
    ("LOAD_DISPATCH", "delta"): SignalKind.CHANGE,
    ("LOAD_DISPATCH", "multiplier"): SignalKind.MULTIPLIER,
    ("LOAD_DISPATCH", "level"): SignalKind.LEVEL,
    ("LOAD_CONTROL", "x-loadcontrolcapacity"): SignalKind.CAPACITY,
    ("LOAD_CONTROL", "x-loadcontrolleveloffset"): SignalKind.LEVEL_OFFSET,
    ("LOAD_CONTROL", "x-loadcontrolpercentoffset"): SignalKind.PERCENT_OFFSET,
    ("LOAD_CONTROL", "x-loadcontrolsetpoint"): SignalKind.SETPOINT,
}
_POWERS = (SignalKind.SETPOINT, SignalKind.CHANGE)
_SHOWN_ONLY = (SignalKind.PRICE, SignalKind.OTHER)
_PRICES = frozenset({"ELECTRICITY_PRICE", "ENERGY_PRICE", "DEMAND_CHARGE"})
_WATTS: Mapping[str, float] = {"": 1, "W": 1, "J/s": 1, "kW": 1e3, "MW": 1e6, "GW": 1e9}
_SCALES: Mapping[str, float] = {
    "p": 1e-12,
    "n": 1e-9,
    "micro": 1e-6,
    "m": 1e-3,
    "c": 1e-2,
    "d": 1e-1,
    "none": 1.0,
    "": 1.0,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
}


def translate(wire: WireEvent, ven: str, now: datetime) -> Event | RejectedEvent:
    """A 2.0b event as the core knows it, or why it cannot be used.

    `ven` is the receiving VEN's name here; `now` stands in for a missing creation time.
    """
    try:
        return _event(wire, ven, now)
    except FaultError as fault:
        why = f"event {quote(wire.event_id)}: {fault.why}"
        return RejectedEvent(
            wire.event_id, wire.revision, wire.cancelled, wire.response_required, fault.code, why
        )


def _event(wire: WireEvent, ven: str, now: datetime) -> Event:
    _check_times(wire)
    duration = wire.duration or None
    end = None if duration is None else _later(wire.starts_at, duration)
    if not wire.signals:
        raise FaultError(Code.INVALID_DATA, "it has no signal")
    signals = tuple(_signal(signal, wire.starts_at, end) for signal in wire.signals)
    return Event(
        event_id=wire.event_id,
        ven=ven,
        program=wire.market_context,
        revision=wire.revision,
        created_at=wire.created_at or now,
        starts_at=wire.starts_at,
        duration=None if end is None else duration,
        signals=signals,
        priority=wire.priority or None,
        cancelled=wire.cancelled,
        test=wire.test,
        start_window=wire.start_after,
        ramp_down=wire.ramp_up,
        ramp_up=wire.recovery,
        notification=wire.notification,
        comment=wire.comment,
        response_required=wire.response_required,
    )


def _check_times(wire: WireEvent) -> None:
    if not EPOCH <= wire.starts_at < HORIZON:
        raise FaultError(Code.INVALID_DATA, f"its dtstart is in the year {wire.starts_at.year}")
    nothing = timedelta(0)
    lengths: tuple[tuple[str, timedelta | None, timedelta, timedelta], ...] = (
        ("duration", wire.duration, nothing, timedelta.max),
        ("startafter", wire.start_after, nothing, MAX_TRANSIT),
        ("x-eiNotification", wire.notification, nothing, MAX_TRANSIT),
        ("x-eiRampUp", wire.ramp_up, -MAX_TRANSIT, MAX_TRANSIT),
        ("x-eiRecovery", wire.recovery, -MAX_TRANSIT, MAX_TRANSIT),
    )
    for name, length, least, most in lengths:
        if length is not None and not least <= length <= most:
            what = "negative" if length < least == nothing else f"{format_duration(length)}"
            raise FaultError(Code.INVALID_DATA, f"its {name} is {what}")


def _signal(wire: WireSignal, starts_at: datetime, end: datetime | None) -> Signal:
    name = f"{wire.name} {wire.type}"
    where = f"signal {quote(name)}"
    kind, factor, unit = _meaning(wire, where)
    intervals = tuple(
        replace(i, value=_judged(kind, wire, i.value * factor, f"interval {n} of {where}"))
        for n, i in enumerate(wire.intervals, start=1)
    )
    return Signal(kind, name, unit, _timed(intervals, starts_at, end, where))


def _meaning(wire: WireSignal, where: str) -> tuple[SignalKind, float, str]:
    """A signal's kind, what to multiply its values with, and the unit they come to."""
    name = wire.name.upper()
    unlisted = SignalKind.PRICE if name in _PRICES else SignalKind.OTHER
    kind = _KINDS.get((name, wire.type.lower()), unlisted)
    if wire.scale not in _SCALES:
        raise FaultError(Code.INVALID_DATA, f"{where} has the unknown scale {quote(wire.scale)}")
    if kind in _POWERS:
        if wire.unit in _WATTS:
            return kind, _WATTS[wire.unit] * _SCALES[wire.scale], "W"
        kind = SignalKind.OTHER
    if kind in _SHOWN_ONLY:
        prefix = "" if wire.scale in ("none", "") else f"{wire.scale} "
        return kind, 1.0, f"{prefix}{wire.unit}"
    return kind, 1.0, "1"


def _judged(kind: SignalKind, wire: WireSignal, value: float, where: str) -> float:
    """The value itself where its kind allows it."""
    allowed, sense = _ALLOWED.get(kind, (math.isfinite, "a finite number"))
    if kind is SignalKind.LEVEL and wire.name.upper() == "SIMPLE":
        allowed, sense = _is_simple, "0, 1, 2 or 3 (2.0b rule 9)"
    if not allowed(value):
        raise FaultError(
            Code.INVALID_DATA, f"{where} has the value {value:.9g}, which is not {sense}"
        )
    return value


def _is_simple(value: float) -> bool:
    return value in (0, 1, 2, 3)


def _is_level(value: float) -> bool:
    return value.is_integer() and abs(value) <= MAX_LEVEL


_ALLOWED: Mapping[SignalKind, tuple[Callable[[float], bool], str]] = {
    SignalKind.LEVEL: (_is_level, f"a whole number from -{MAX_LEVEL} to {MAX_LEVEL}"),
    SignalKind.LEVEL_OFFSET: (_is_level, f"a whole number from -{MAX_LEVEL} to {MAX_LEVEL}"),
    SignalKind.SETPOINT: (lambda v: 0 <= v <= MAX_POWER_W, "a power from 0 to 1e12 W"),
    SignalKind.CHANGE: (lambda v: abs(v) <= MAX_POWER_W, "a power within 1e12 W"),
    SignalKind.MULTIPLIER: (lambda v: 0 <= v <= 100, "a factor from 0 to 100"),
    SignalKind.CAPACITY: (lambda v: 0 <= v <= 1, "a share from 0 to 1"),
    SignalKind.PERCENT_OFFSET: (lambda v: -100 <= v <= 1000, "a percentage of -100 or more"),
}


def _timed(
    wires: Sequence[WireInterval], starts_at: datetime, end: datetime | None, where: str
) -> tuple[Interval, ...]:
    """The intervals in absolute time, within the event's own period (2.0b rules 8 and 32).

    An interval begins at its own dtstart or where the one before it ends, and lasts for its own
    duration or until the next begins. The last holds until the event's end.
    """
    if not wires:
        raise FaultError(Code.INVALID_DATA, f"{where} has no interval")
    starts = _starts(wires, starts_at, where)
    stops: list[datetime | None] = []
    for number, (wire, start) in enumerate(zip(wires, starts, strict=True), start=1):
        if number == len(wires):
            stops.append(end)
            continue
        following = starts[number]
        stop = _later(start, wire.duration) if wire.duration else following
        if start > following or stop is None or stop > following:
            raise FaultError(
                Code.INVALID_DATA, f"{where}: interval {number + 1} begins before {number} ends"
            )
        stops.append(stop)
    timed = [
        Interval(max(start, starts_at), stop if end is None else _earlier(stop, end), wire.value)
        for wire, start, stop in zip(wires, starts, stops, strict=True)
    ]
    within = tuple(i for i in timed if i.end is None or i.start < i.end)
    if not within:
        raise FaultError(Code.INVALID_DATA, f"{where} has no interval within the event's period")
    return within


def _starts(wires: Sequence[WireInterval], starts_at: datetime, where: str) -> list[datetime]:
    starts: list[datetime] = []
    cursor: datetime | None = starts_at
    for number, wire in enumerate(wires, start=1):
        if wire.duration is not None and wire.duration < timedelta(0):
            raise FaultError(
                Code.INVALID_DATA, f"{where}: interval {number} has a negative duration"
            )
        start = wire.start or cursor
        if start is None:
            raise FaultError(
                Code.INVALID_DATA, f"{where}: nothing says when interval {number} begins"
            )
        starts.append(start)
        cursor = _later(start, wire.duration) if wire.duration else None
    return starts


def _later(at: datetime, length: timedelta) -> datetime | None:
    """None where that is beyond the horizon."""
    return at + length if length < HORIZON - at else None


def _earlier(stop: datetime | None, end: datetime) -> datetime:
    return end if stop is None else min(stop, end)
