"""From what a VTN of OpenADR 3 sent to what the core understands. Pure.

Decisions that the texts leave open, each where a wrong guess would cost least:

* Power is in kilowatts, where no descriptor says otherwise. A unit that is no real power (kWh, kvar)
  makes a payload one that is kept and sheds nothing.
* CONTROL_SETPOINT in kilowatts is the import to stay at or below, as DISPATCH_SETPOINT is; where any of
  its values is negative it is a change (User Guide, example 8.9.3-2), with the sign that the program says.
* CONTROL_LEVEL_OFFSET below zero asks for more load, so for nothing that we shed.
* PERCENT is a fraction from -1 to 1; the sign of CONTROL_LEVEL_OFFSET_PERCENT is the program's, because
  the enumeration's own text gives it both ways.
* Several values of a single-valued type share their interval in equal parts (User Guide 7.3).
* What overlaps is in force together, and the lowest limit binds.
* A negative priority is as high as the highest.
* Types of somebody's own, and those that no lever here serves (CURVE, CHARGE_STATE_SETPOINT,
  DISPATCH_INSTRUCTION), are kept and shown and ask for nothing.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from agent.core.event import SILENT, STANDING, Event, Interval, Signal, SignalKind
from agent.openadr.v3.course import Course, CourseError, Piece, anchor_of, course_of
from agent.openadr.v3.wire import (
    RejectedObject,
    WireEvent,
    WirePayload,
    WirePayloadDescriptor,
    WireProgram,
)

AHEAD = timedelta(days=35)
"""How far ahead an event that loops is worked out."""
RENEWAL = timedelta(days=1)
SOON = timedelta(seconds=10)
"""After how long it is worked out again, the latest and the soonest."""
MOST_VALUES = 250_000
"""Values of one event: a year of two-minute intervals."""
MANY = 10_000
"""Values of an event that are worked out at most where they are acted on, one after the other. Of
standing limits, which are looked up, and of what is not acted on there may be a year.
"""
MOST_LANES = 20
"""Intervals of one payload type that may be in force together."""
MOST_COMMENT = 500
MOST_TEXTS = 50
"""Intervals whose texts are shown."""

_KINDS: Mapping[str, SignalKind] = {
    "SIMPLE": SignalKind.LEVEL,
    "DISPATCH_SETPOINT": SignalKind.SETPOINT,
    "DISPATCH_SETPOINT_RELATIVE": SignalKind.CHANGE,
    "CONTROL_SETPOINT": SignalKind.SETPOINT,
    "CONTROL_LEVEL_OFFSET": SignalKind.LEVEL_OFFSET,
    "CONTROL_LEVEL_OFFSET_PERCENT": SignalKind.SHARE_CHANGE,
    "IMPORT_CAPACITY_LIMIT": SignalKind.LIMIT,
    "IMPORT_CAPACITY_SUBSCRIPTION": SignalKind.SUBSCRIPTION,
    "IMPORT_CAPACITY_RESERVATION": SignalKind.RESERVATION,
    # So the User Guide's own examples call them.
    "CAPACITY_SUBSCRIPTION": SignalKind.SUBSCRIPTION,
    "CAPACITY_RESERVATION": SignalKind.RESERVATION,
    "ALERT_GRID_EMERGENCY": SignalKind.EMERGENCY,
    "ALERT_BLACK_START": SignalKind.BLACK_START,
    "PRICE": SignalKind.PRICE,
    "PRICE_ALTERNATE": SignalKind.PRICE,
    "EXPORT_PRICE": SignalKind.PRICE,
    "GHG": SignalKind.INFORMATION,
}
_INFORMING = (
    "ALERT_",
    "IMPORT_CAPACITY_",
    "EXPORT_CAPACITY_",
    "CAPACITY_AVAILABLE",
    "CAPACITY_RESERVATION_",
)
"""Beginnings of types that tell something and ask for nothing."""
_WATTS: Mapping[str, float] = {"": 1e3, "W": 1.0, "KW": 1e3, "MW": 1e6}
_POWERS = frozenset(
    {
        SignalKind.SETPOINT,
        SignalKind.CHANGE,
        SignalKind.LIMIT,
        SignalKind.SUBSCRIPTION,
        SignalKind.RESERVATION,
    }
)
_TEXTS = frozenset({SignalKind.EMERGENCY, SignalKind.BLACK_START})
_LOOSE = frozenset({SignalKind.OTHER, SignalKind.INFORMATION})
MAX_POWER = 1e9
"""No site is dispatched with so many kilowatts: a larger figure is a fault of scale."""
_IS_NUMBER: tuple[Callable[[float], bool], str] = (math.isfinite, "a number")
_IS_POWER: tuple[Callable[[float], bool], str] = (
    lambda v: 0 <= v <= MAX_POWER,
    "a power of 0 or more",
)
_ALLOWED: Mapping[SignalKind, tuple[Callable[[float], bool], str]] = {
    SignalKind.LEVEL: (lambda v: v in (0, 1, 2, 3), "0, 1, 2 or 3"),
    SignalKind.LEVEL_OFFSET: (
        lambda v: v.is_integer() and abs(v) <= 10,
        "a whole number from -10 to 10",
    ),
    SignalKind.SHARE_CHANGE: (lambda v: abs(v) <= 1, "a fraction from -1 to 1"),
    SignalKind.CHANGE: (lambda v: abs(v) <= MAX_POWER, "a power"),
    SignalKind.SETPOINT: _IS_POWER,
    SignalKind.LIMIT: _IS_POWER,
    SignalKind.SUBSCRIPTION: _IS_POWER,
    SignalKind.RESERVATION: _IS_POWER,
}


@dataclass(frozen=True, slots=True)
class Translation:
    """What an event came to."""

    event: Event | None
    """None where it asks for nothing at any time: a request for reports, or called off."""
    renew_at: datetime | None = None
    """When it is to be translated anew, because not all of it could be worked out; None: never."""


@dataclass(frozen=True, slots=True)
class Translator:
    """What is needed to translate the events of one VEN."""

    ven: str
    programs: Mapping[str, WireProgram] = field(default_factory=dict)
    """By id, as the VTN lists them."""
    zero_is_endless: bool = False
    """3.0.1's durations of zero, see `course`."""

    def translate(
        self, wire: WireEvent, now: datetime, heard_at: datetime | None = None
    ) -> Translation | RejectedObject:
        """An event as the core knows it, or why it cannot be used. `heard_at`: when we first heard of it,
        if that is not `now`.
        """
        try:
            return self._translate(wire, now, heard_at or now)
        except CourseError as fault:
            return RejectedObject("event", wire.id, fault.field, str(fault))

    def _translate(self, wire: WireEvent, now: datetime, heard_at: datetime) -> Translation:
        course = course_of(wire, now, heard_at, zero_is_endless=self.zero_is_endless)
        if course is None:
            return Translation(None)
        program = self.programs.get(wire.program_id)
        descriptors = (*wire.payload_descriptors, *(program.payload_descriptors if program else ()))
        signals, renew_at = _signals(wire, course, _units(descriptors), now)
        if not signals:
            return Translation(None)
        event = Event(
            event_id=wire.id,
            ven=self.ven,
            program=program.name if program else wire.program_id,
            revision=0,
            created_at=anchor_of(wire, now, heard_at),
            starts_at=course.starts_at,
            duration=None if course.ends_at is None else course.ends_at - course.starts_at,
            signals=signals,
            priority=None if wire.priority is None else max(0, wire.priority),
            start_window=course.window,
            start_early=course.window,
            comment=_comment(wire),
        )
        return Translation(event, renew_at)


def _units(descriptors: Sequence[WirePayloadDescriptor]) -> Mapping[str, str]:
    """By payload type; the event's own descriptors come before the program's."""
    return {d.payload_type: d.units.strip() for d in reversed(descriptors) if d.payload_type}


def _signals(
    wire: WireEvent, course: Course, units: Mapping[str, str], now: datetime
) -> tuple[tuple[Signal, ...], datetime | None]:
    """One signal for each payload type, or several where its intervals overlap; and when to work out more."""
    pieces, renew_at = _pieces(course, now)
    found: dict[str, _Values] = {}
    for piece in pieces:
        for payload in wire.intervals[piece.interval].payloads or ():
            name = payload.type.upper()
            values = found.get(name)
            if values is None:
                values = found[name] = _Values(payload.type, units.get(payload.type, ""))
            values.add(piece, payload)
    ordered = [(values, values.in_order()) for values in found.values()]
    acted_on = {values.kind for values, _ in ordered} - SILENT
    if acted_on <= STANDING:
        acted_on = set()
    signals: list[Signal] = []
    for values, timed in ordered:
        coming, half_over_at = timed, None
        if values.kind in acted_on:
            most = MANY // sum(values.kind in acted_on for values, _ in ordered)
            coming, half_over_at = _coming(timed, now - course.window, most)
        if half_over_at is not None:
            renew_at = min(renew_at or now + RENEWAL, max(now + SOON, half_over_at))
        signals += (Signal(values.kind, values.name, values.unit, lane) for lane in _lanes(coming))
    return tuple(signals), renew_at


def _coming(
    timed: list[Interval], since: datetime, most: int
) -> tuple[list[Interval], datetime | None]:
    """Of very many, those that are not over, as far as they are worked out; and, where there are more,
    when half of them are.
    """
    if len(timed) <= most:
        return timed, None
    coming = [one for one in timed if one.end is None or one.end > since]
    return coming[:most], coming[most // 2].start if len(coming) > most else None


def _pieces(course: Course, now: datetime) -> tuple[tuple[Piece, ...], datetime | None]:
    """The pieces to work out, and when to work out more."""
    if course.loop is None:
        return course.whole(), None
    turns = max(2, min(AHEAD // course.loop + 1, MANY // len(course.pieces)))
    ahead = min(AHEAD, turns * course.loop)
    since = now - course.loop - course.window
    pieces = tuple(course.looped(since, max(now, course.starts_at) + ahead))
    return pieces, now + min(RENEWAL, ahead / 2)


class _Values:
    """The values of one payload type of an event, as they are collected."""

    def __init__(self, name: str, unit: str) -> None:
        self.name = name
        self.kind, self._factor, self.unit = _meaning(name, unit)
        self._is_control = name.upper() == "CONTROL_SETPOINT" and self.kind in _POWERS
        # Which of the two a CONTROL_SETPOINT is, its signs tell: see `in_order`.
        judged = SignalKind.CHANGE if self._is_control else self.kind
        self._allowed, self._sense = _ALLOWED.get(judged, _IS_NUMBER)
        self._timed: list[Interval] = []

    def add(self, piece: Piece, payload: WirePayload) -> None:
        """The values of one payload, each for an equal part of the interval."""
        listed = payload.listed
        if len(listed) == 1 or self.kind in _TEXTS or self.kind in _LOOSE:
            raw = listed[0] if listed else None
            self._timed.append(Interval(piece.start, piece.end, self._value(raw, piece)))
        else:
            self._timed += self._shared(piece, listed)
        if len(self._timed) > MOST_VALUES:
            raise CourseError("intervals", f"more than {MOST_VALUES} values of {self.name[:40]}")

    def in_order(self) -> list[Interval]:
        """All of them by their starts."""
        if self._is_control and any(interval.value < 0 for interval in self._timed):
            self.kind = SignalKind.CHANGE
        return sorted(self._timed, key=lambda interval: interval.start)

    def _shared(self, piece: Piece, listed: Sequence[Any]) -> Iterator[Interval]:
        if not listed:
            raise CourseError(self._where(piece), "it has no value")
        if piece.end is None:
            why = "several values cannot share an interval that has no end"
            raise CourseError(self._where(piece), why)
        length = (piece.end - piece.start) / len(listed)
        for place, raw in enumerate(listed):
            start = piece.start + place * length
            end = piece.end if place + 1 == len(listed) else start + length
            yield Interval(start, end, self._value(raw, piece))

    def _value(self, raw: Any, piece: Piece) -> float:
        """A value in the core's unit. Texts, points and the like count 1: they are on."""
        if self.kind in _TEXTS:
            return 1.0
        number = _number(raw)
        if number is None and self.kind in _LOOSE:
            return 1.0
        if number is None or not self._allowed(number):
            raise CourseError(self._where(piece), f"{str(raw)[:40]!r} is not {self._sense}")
        if self.kind is SignalKind.LEVEL_OFFSET:
            return max(0.0, number)
        return number * self._factor

    def _where(self, piece: Piece) -> str:
        return f"intervals.{piece.interval}.payloads.{self.name[:60]}"


def _meaning(name: str, unit: str) -> tuple[SignalKind, float, str]:
    """A payload type's kind, what to multiply its values with, and the unit they come to."""
    kind = _KINDS.get(name.upper(), SignalKind.OTHER)
    if kind is SignalKind.OTHER and name.upper().startswith(_INFORMING):
        kind = SignalKind.INFORMATION
    if kind in _POWERS:
        factor = _WATTS.get(unit.upper())
        return (SignalKind.OTHER, 1.0, unit) if factor is None else (kind, factor, "W")
    return kind, 1.0, unit if kind is SignalKind.PRICE or kind in _LOOSE else "1"


def _number(raw: Any) -> float | None:
    """A finite number, also one in quotes; None where it is none."""
    kind = type(raw)
    if kind is not float and kind is not int and kind is not str:
        return None
    try:
        number = float(raw)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _lanes(timed: Sequence[Interval]) -> Iterator[tuple[Interval, ...]]:
    """Intervals, in order of their starts, dealt out so that none overlaps its neighbour."""
    if all(a.end is not None and a.end <= b.start for a, b in pairwise(timed)):
        return iter((tuple(timed),))
    lanes: list[list[Interval]] = []
    for interval in timed:
        for lane in lanes:
            end = lane[-1].end
            if end is not None and end <= interval.start:
                lane.append(interval)
                break
        else:
            lanes.append([interval])
            if len(lanes) > MOST_LANES:
                raise CourseError("intervals", f"more than {MOST_LANES} of them overlap")
    return (tuple(lane) for lane in lanes)


def _comment(wire: WireEvent) -> str:
    """What an event says to people: its name, and the texts in it."""
    texts = [wire.name] if wire.name else []
    for interval in wire.intervals[:MOST_TEXTS]:
        for payload in interval.payloads or ():
            said = ", ".join(v for v in payload.listed if isinstance(v, str) and v)
            text = f"{payload.type}: {said}"
            if said and text not in texts:
                texts.append(text)
    return "; ".join(texts)[:MOST_COMMENT]
