"""Which intervals a report is to be on, and when it is due: a reportDescriptor worked out. Pure.

The fields' own descriptions in the documents count where the User Guide's pictures (section 7.5)
disagree with each other. For what is past (`historical`):

* `startInterval` is the last interval of the first report, which is due at its end and goes back over
  `numIntervals`. Where there are not so many before it, it is the first of them instead.
* `numIntervals` of -1 is all of them in one report, due at the end of the last.
* `frequency` is by how many intervals each report is later than the one before; -1: by `numIntervals`.
* `repeat` is how many reports there are at most; -1: until the last interval.

Of what is to come, `startInterval` is the first interval of the first report, which is due as that
begins. -1 is the first of all, and a `numIntervals` of -1 is all from there on.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice, pairwise

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
    in_order: bool = False
    """Whether each slot ends after the one before it."""

    def slots(self, turn: int, skipped: int = 0) -> Iterator[Slot]:
        """The slots of one turn but for the first few, cut at the event's end; none once that is over.

        An implied slot goes by its turn: nobody gave it an id.
        """
        offset = timedelta(0) if self.loop is None else self.loop * turn
        for place in range(skipped, len(self.first)):
            slot = self.first[place]
            start, end = slot.start + offset, slot.end + offset
            if self.ends_at is not None:
                end = min(end, self.ends_at)
            if start < end:
                yield Slot(turn if self.implied else slot.interval_id, start, end)

    def slots_from(self, place: int) -> Iterator[Slot]:
        """Every slot from one place on, counted over all turns; without end where the loop has none."""
        turn, skipped = divmod(place, len(self.first))
        while turn == 0 or self.loop is not None:
            found = False
            for slot in self.slots(turn, skipped):
                found = True
                yield slot
            if not found:
                return
            turn, skipped = turn + 1, 0

    def place_at(self, at: datetime) -> int:
        """A place, counted over all turns, before which every slot is over at `at`."""
        if self.loop is not None:
            turn = max(0, (at - self.first[0].start) // self.loop - 1)
            return turn * len(self.first)
        return bisect_right(self.first, at, key=lambda slot: slot.end) if self.in_order else 0


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
    in_order = all(one.end <= following.end for one, following in pairwise(slots))
    return Grid(slots, course.loop, course.ends_at, in_order=in_order)


def due_reports(
    grid: Grid, descriptor: WireReportDescriptor, since: datetime, *, ahead: bool = False
) -> Iterator[Due]:
    """The reports that are due after `since`, in order; without end for a loop without. They are on what
    is past, or on what is `ahead`.
    """
    most = max(1, descriptor.repeat) if descriptor.repeat >= 0 else None
    reports = _forecasts if ahead else _reports
    for number, due in reports(grid, descriptor, grid.place_at(since)):
        if most is not None and number >= most:
            return
        if due.at > since:
            yield due


def _reports(grid: Grid, descriptor: WireReportDescriptor, place: int) -> Iterator[tuple[int, Due]]:
    """The reports with their number, from 0: all whose last interval is at `place` or after it, and maybe
    some before.
    """
    length = min(descriptor.num_intervals, MOST_SLOTS)
    if length <= 0:
        yield from _turns(grid, place // len(grid.first))
        return
    start = descriptor.start_interval
    if start < 0:
        # "The end of the last interval" is where the report ends.
        slots = tuple(grid.slots(0))[-length:]
        yield from ([(0, _due(slots))] if slots else [])
        return
    step = descriptor.frequency if descriptor.frequency > 0 else length
    first = start - length + 1 if start - length + 1 >= 0 else start
    number = max(0, (place - first - length) // step)
    window: list[Slot] = []
    for passed, slot in enumerate(grid.slots_from(first + number * step)):
        # Where reports are further apart than they are long, what lies between is in none.
        if step <= length or passed % step < length:
            window.append(slot)
        if len(window) == length:
            yield number, _due(window)
            number += 1
            window = window[step:]
    if window and step >= length:
        yield number, _due(window)


def _forecasts(
    grid: Grid, descriptor: WireReportDescriptor, place: int
) -> Iterator[tuple[int, Due]]:
    """The reports on what is to come with their number, from 0: all whose first interval is at `place` or
    after it, and maybe one before.
    """
    start, asked = max(0, descriptor.start_interval), min(descriptor.num_intervals, MOST_SLOTS)
    length = asked if asked > 0 else max(1, len(grid.first) - start)
    step = asked if asked > 0 else len(grid.first)
    if descriptor.frequency > 0:
        step = descriptor.frequency
    number = max(0, (place - start) // step)
    while slots := tuple(islice(grid.slots_from(start + number * step), length)):
        yield number, Due(slots[0].start, slots)
        number += 1


def _turns(grid: Grid, turn: int) -> Iterator[tuple[int, Due]]:
    """One report on all intervals, for each turn of a loop."""
    while slots := tuple(grid.slots(turn)):
        yield turn, _due(slots)
        if grid.loop is None:
            return
        turn += 1


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
