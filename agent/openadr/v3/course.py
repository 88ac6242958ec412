"""When the intervals of an event are: starts, durations, loops and ends, in absolute time. Pure.

The texts are the User Guide's sections 7.3 and 7.4 and the intervalPeriod of the OpenADR 3 documents.
What they leave open is decided so that a site rather does what was asked for too long than not at all:

* "Now" is when the VTN was last told so: the event's modificationDateTime, but never the future. So
  it means the same to an agent that was away, and after a restart. Without any, it is when we heard.
* A duration that nobody gives lasts until the next interval begins, and the last one's until the event
  is cancelled.
* `PT0S` is no time at all, and an event of nothing else is called off (3.1.0, User Guide 7.9). In 3.0.1
  it is endless, unless it begins "now", which is how 3.0.1 calls off.
* An event duration of `PT0S` is the document's default, and as good as none.
* Intervals may overlap; each stands for itself.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from agent.openadr.iso8601 import parse_duration, parse_time
from agent.openadr.v3.wire import WireEvent, WireInterval, WirePeriod

ENDLESS = timedelta.max
"""A duration that has no end: `P9999Y`, and whatever else nobody lives to see."""
_LONGEST = timedelta(days=366 * 100)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HORIZON = datetime(9000, 1, 1, tzinfo=UTC)
"""Nothing lies beyond it: kept well within the calendar, so that shifts stay in it."""
_NOTHING = timedelta(0)
_BEGINNING_OF_TIME = re.compile(r"0|000[01]-\d\d-\d\d.*|0000.*", re.DOTALL)
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


class CourseError(Exception):
    """Why the times of an event cannot be worked out. Its field is the path within the event."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(why)
        self.field = field


class Piece(NamedTuple):
    """One interval as it lies in time. Light, because there may be a hundred thousand."""

    start: datetime
    end: datetime | None
    """None: until the event is cancelled."""
    interval: int
    """Its place among the event's intervals, from 0."""


@dataclass(frozen=True, slots=True)
class Course:
    """All of an event in time, before any randomised start."""

    starts_at: datetime
    ends_at: datetime | None
    """None: until it is cancelled."""
    pieces: tuple[Piece, ...]
    """In the order of the intervals. None of them is empty; looping ones are here once."""
    loop: timedelta | None
    """How often the pieces repeat, until the end; None: they do not."""
    window: timedelta
    """The start is drawn at random within so much before or after (randomizeStart)."""

    def whole(self) -> tuple[Piece, ...]:
        """All pieces once, cut at the event's end."""
        return self.pieces if self.ends_at is None else tuple(self._cut(self.pieces))

    def looped(self, since: datetime, until: datetime) -> Iterator[Piece]:
        """The pieces again and again, cut at the event's end: those that end after `since`, up to the
        whole turn that `until` lies in.
        """
        loop = self.loop or ENDLESS
        turn = max(0, (since - self.starts_at) // loop)
        end = until if self.ends_at is None else min(until, self.ends_at)
        while (offset := turn * loop) < end - self.starts_at:
            moved = (_moved(piece, offset) for piece in self.pieces)
            yield from self._cut(p for p in moved if p.end is None or p.end > since)
            turn += 1

    def _cut(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        end = self.ends_at
        for piece in pieces:
            if end is None or (piece.end is not None and piece.end <= end):
                yield piece
            elif piece.start < end:
                yield piece._replace(end=end)


def course_of(
    wire: WireEvent, now: datetime, heard_at: datetime, *, zero_is_endless: bool = False
) -> Course | None:
    """When an event's intervals are; None where none of them lasts. Raises `CourseError`.

    `heard_at` is when it was first heard of. `zero_is_endless`: a duration of zero is 3.0.1's, see above.
    """
    anchor = anchor_of(wire, now, heard_at)
    default = wire.period or WirePeriod()
    start = _start(default, "intervalPeriod")
    length = _length(default, "intervalPeriod")
    window = _window(default, "intervalPeriod")
    pieces = tuple(
        _pieces(wire.intervals, start or anchor, length, start is not None, zero_is_endless)
    )
    if not pieces:
        return None
    first = wire.intervals[0].period
    if window is None and first is not None:
        window = _window(first, "intervals.0.intervalPeriod")
    return _bounded(pieces, _span(wire.duration, "duration"), window or _NOTHING)


def anchor_of(wire: WireEvent, now: datetime, heard_at: datetime) -> datetime:
    """What "now" means in an event: when the VTN was told, as far as it says so."""
    for said in (wire.modified, wire.created):
        at = _time_or_none(said)
        if at is not None and at > EPOCH:
            return min(at, now)
    return heard_at


def period_of(
    wire: WireEvent, now: datetime, heard_at: datetime
) -> tuple[datetime, timedelta] | None:
    """Start and length of the intervals that an event without any implies (User Guide 7.5); None
    where it implies none. Raises `CourseError`.
    """
    if wire.period is None:
        return None
    start = _start(wire.period, "intervalPeriod")
    length = _length(wire.period, "intervalPeriod")
    if not length or length == ENDLESS:
        return None
    return start or anchor_of(wire, now, heard_at), length


def _pieces(
    intervals: Sequence[WireInterval],
    start: datetime,
    default: timedelta | None,
    dated: bool,
    zero_is_endless: bool,
) -> Iterator[Piece]:
    """The intervals one after the other, or where they say. `dated`: the start is a real one."""
    cursor: datetime | None = start
    for place, interval in enumerate(intervals):
        begin: datetime | None = cursor
        length = default
        if interval.period is not None:
            field = f"intervals.{place}.intervalPeriod"
            own = _start(interval.period, field)
            if own is not None:
                begin, dated = own, True
            own_length = _length(interval.period, field)
            length = default if own_length is None else own_length
        if begin is None:
            continue  # After one that never ends.
        if length:
            end = cursor = _later(begin, length)
        elif length is None:
            following = _next_start(intervals, place)
            end = cursor = following if following is not None and following > begin else None
        elif zero_is_endless and dated:
            end = None
        else:
            cursor = begin
            continue
        if end is None or begin < end:
            yield Piece(begin, end, place)


def _next_start(intervals: Sequence[WireInterval], place: int) -> datetime | None:
    if place + 1 == len(intervals):
        return None
    following = intervals[place + 1].period
    return None if following is None else _start(following, f"intervals.{place + 1}.intervalPeriod")


def _bounded(pieces: tuple[Piece, ...], duration: timedelta | None, window: timedelta) -> Course:
    """The pieces with the event's own duration applied: looping, or cut short."""
    starts_at = min(piece.start for piece in pieces)
    last = _last_end(pieces)
    if not duration:
        return Course(starts_at, last, pieces, None, window)
    ends_at = _later(starts_at, duration)
    loops = last is not None and (ends_at is None or ends_at > last)
    if loops and last is not None:
        return Course(starts_at, ends_at, pieces, last - starts_at, window)
    return Course(starts_at, ends_at, pieces, None, window)


def _last_end(pieces: Sequence[Piece]) -> datetime | None:
    ends = [piece.end for piece in pieces if piece.end is not None]
    return max(ends) if len(ends) == len(pieces) else None


def _start(period: WirePeriod, field: str) -> datetime | None:
    """None: "now", or right after what comes before."""
    said = period.start
    if said is None or not said.strip() or _BEGINNING_OF_TIME.fullmatch(said.strip()):
        return None
    try:
        at = read_time(said)
    except ValueError as error:
        raise CourseError(f"{field}.start", str(error)) from None
    if not EPOCH <= at < HORIZON:
        raise CourseError(f"{field}.start", f"it is in the year {at.year}")
    return at


def read_time(said: str) -> datetime:
    """A time as the examples write it: a date alone is its midnight, no zone is UTC. Raises
    `ValueError`.
    """
    text = said.strip()
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return parse_time(text)
    if at.tzinfo is None:
        return at.replace(tzinfo=UTC)
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{text[:40]!r} is not a time in the calendar") from None


def _time_or_none(said: str | None) -> datetime | None:
    try:
        return None if said is None else read_time(said)
    except ValueError:
        return None


def _length(period: WirePeriod, field: str) -> timedelta | None:
    return _span(period.duration, f"{field}.duration")


def _window(period: WirePeriod, field: str) -> timedelta | None:
    """Its sign is meaningless: it is to either side."""
    said = period.randomize_start
    if said is None:
        return None
    try:
        window = abs(_duration(said))
    except ValueError as error:
        raise CourseError(f"{field}.randomizeStart", str(error)) from None
    if window > _LONGEST:
        raise CourseError(f"{field}.randomizeStart", f"{said[:40]!r} is too long")
    return window


def _span(said: str | None, field: str) -> timedelta | None:
    """None where it is not given; `ENDLESS` from a century on."""
    if said is None or not said.strip():
        return None
    try:
        length = _duration(said)
    except ValueError as error:
        raise CourseError(field, str(error)) from None
    if length < _NOTHING:
        raise CourseError(field, f"{said[:40]!r} is negative")
    return ENDLESS if length > _LONGEST else length


@lru_cache(maxsize=256)
def _duration(said: str) -> timedelta:
    try:
        return parse_duration(said)
    except ValueError as error:
        if "too long" in str(error):
            return ENDLESS
        raise


def _later(at: datetime, length: timedelta) -> datetime | None:
    """None where that has no end."""
    return at + length if length < HORIZON - at else None


def _moved(piece: Piece, by: timedelta) -> Piece:
    end = None if piece.end is None else piece.end + by
    return piece._replace(start=piece.start + by, end=end)
