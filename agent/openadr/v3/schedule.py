"""Which intervals a report is to be on, and when it is due: a reportDescriptor worked out. Pure.

The fields' own descriptions in the documents count where the User Guide's pictures (section 7.5)
disagree with each other. For what is past (`historical`):

* `startInterval` is the last interval of the first report, which is due at its end and goes back over
  `numIntervals`. Where there are not so many before it, it is the first of them instead.
* `numIntervals` of -1 is all of them in one report, due at the end of the last.
* `frequency` is by how many intervals each report is later than the one before; -1: by `numIntervals`.
* `repeat` is how many reports there are at most; -1: until the last interval.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count, islice

from agent.openadr.v3.course import Course, course_of, period_of
from agent.openadr.v3.wire import WireEvent, WireReportDescriptor

MOST_SLOTS = 10_000
"""Intervals of one report; more is a fault of scale."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One interval to report on."""

    interval_id: int
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Grid:
    """The intervals of an event that reports refer to: those listed, again and again where they loop."""

    first: tuple[Slot, ...]
    loop: timedelta | None
    ends_at: datetime | None
    implied: bool = False
    """Whether there is but a length, and no interval of the event's."""

    def slots(self, turn: int) -> Iterator[Slot]:
        """The slots of one turn, cut at the event's end; none once that is over."""
        offset = timedelta(0) if self.loop is None else self.loop * turn
        for slot in self.first if turn == 0 or self.loop is not None else ():
            start, end = slot.start + offset, slot.end + offset
            if self.ends_at is not None:
                end = min(end, self.ends_at)
            if start < end:
                yield Slot(slot.interval_id, start, end)

    def slots_from(self, place: int) -> Iterator[Slot]:
        """Every slot from one place on, counted over all turns; without end where the loop has none.

        An implied slot goes by its place: nobody gave it an id.
        """
        turn, skipped = divmod(place, len(self.first))
        for turned in count(turn):
            slots = tuple(self.slots(turned))
            if not slots:
                return
            if self.implied:
                slots = (replace(slots[0], interval_id=turned),)
            yield from slots[skipped:]
            skipped = 0

    def turn_at(self, at: datetime) -> int:
        """The turn that `at` lies in, from 0."""
        return 0 if self.loop is None else max(0, (at - self.first[0].start) // self.loop)


@dataclass(frozen=True, slots=True)
class Due:
    """One report: on what, and from when on it can be made."""

    at: datetime
    slots: tuple[Slot, ...]


def grid_of(wire: WireEvent, now: datetime, *, zero_is_endless: bool = False) -> Grid | None:
    """The intervals that reports on an event refer to; None where there are none that end. Raises
    `CourseError`.
    """
    if not wire.intervals:
        implied = period_of(wire, now, now)
        if implied is None:
            return None
        start, length = implied
        return Grid((Slot(0, start, start + length),), length, None, implied=True)
    course = course_of(wire, now, now, zero_is_endless=zero_is_endless)
    slots = () if course is None else tuple(_slots(wire, course))
    if course is None or not slots:
        return None
    return Grid(slots, course.loop, course.ends_at)


def due_reports(grid: Grid, descriptor: WireReportDescriptor, since: datetime) -> Iterator[Due]:
    """The reports on what is past that are due after `since`, in order; without end for a loop without."""
    if descriptor.repeat < 0:
        reports = _reports(grid, descriptor, max(0, grid.turn_at(since) - 1))
    else:
        reports = islice(_reports(grid, descriptor, 0), max(1, descriptor.repeat))
    return (due for due in reports if due.at > since)


def _reports(grid: Grid, descriptor: WireReportDescriptor, turn: int) -> Iterator[Due]:
    """All reports whose intervals lie in a turn from `turn` on, and maybe some before."""
    length = min(descriptor.num_intervals, MOST_SLOTS)
    if length <= 0:
        yield from _turns(grid, turn)
        return
    start = descriptor.start_interval
    if start < 0:
        # "The end of the last interval" is where the report ends.
        slots = tuple(grid.slots(0))[-length:]
        yield from ([_due(slots)] if slots else [])
        return
    step = descriptor.frequency if descriptor.frequency > 0 else length
    first = start - length + 1 if start - length + 1 >= 0 else start
    skipped = max(0, (turn * len(grid.first) - first - length) // step)
    window: list[Slot] = []
    for place, slot in enumerate(grid.slots_from(first + skipped * step)):
        # Where reports are further apart than they are long, what lies between is in none.
        if step <= length or place % step < length:
            window.append(slot)
        if len(window) == length:
            yield _due(window)
            window = window[step:]
    if window and step >= length:
        yield _due(window)


def _turns(grid: Grid, turn: int) -> Iterator[Due]:
    """One report on all intervals, for each turn of a loop."""
    for turned in count(turn):
        slots = tuple(grid.slots(turned))
        if not slots:
            return
        yield _due([replace(slots[0], interval_id=turned)] if grid.implied else slots)


def _due(slots: Sequence[Slot]) -> Due:
    return Due(max(slot.end for slot in slots), tuple(slots))


def _slots(wire: WireEvent, course: Course) -> Iterator[Slot]:
    for piece in course.pieces:
        said = wire.intervals[piece.interval].id
        interval_id = (
            said if isinstance(said, int) and not isinstance(said, bool) else piece.interval
        )
        if piece.end is not None:
            yield Slot(interval_id, piece.start, piece.end)
