"""Which intervals a report is to be on, and when it is due: a reportDescriptor worked out. Pure.

The fields' own descriptions in the documents count where the User Guide's pictures (section 7.5)
disagree with each other. Intervals count in the order in which they end. For what is past
(`historical`):

* `startInterval` is the last interval of the first report, which is due at its end and goes back over
  `numIntervals`. Where there are not so many before it, it is the first of them instead.
* `numIntervals` of -1 is all of them in one report, due at the end of the last.
* `frequency` is by how many intervals each report is later than the one before; -1 (and 0, whenever we
  like): by `numIntervals`.
* `repeat` is how many reports there are at most; -1: until the last interval.

Of what is to come, `startInterval` is the first interval of the first report, which is due as that
begins. -1 is the first of all, and a `numIntervals` of -1 is all from there on.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from math import inf

from agent.openadr.v3.course import HORIZON, Course, course_of, period_of
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

    starts_at: datetime
    first: tuple[Slot, ...]
    """Those of the first turn, in the order of their ends."""
    loop: timedelta | None
    """How much later they are in each turn: no less than they span."""
    ends_at: datetime | None
    implied: bool = False
    """Whether there is but a length, and no interval of the event's."""
    in_order: bool = True
    """Whether none begins before the one before it."""

    @property
    def end(self) -> int:
        """The place at and after which there are no slots, counted over all turns."""
        ends_at = HORIZON if self.ends_at is None else min(HORIZON, self.ends_at)
        whole = 0 if self.loop is None else max(0, (ends_at - self.starts_at) // self.loop)
        rest = ends_at if self.loop is None else ends_at - self.loop * whole
        started = bisect_left(self.first, rest, key=lambda slot: slot.start)
        return whole * len(self.first) + (started if self.in_order else len(self.first))

    def slot(self, place: int) -> Slot | None:
        """The slot at a place, cut at the event's end; None where it is after that.

        An implied one goes by its turn: nobody gave it an id.
        """
        turn, listed = divmod(place, len(self.first))
        slot = self.first[listed]
        start, end = slot.start, slot.end
        if turn and self.loop is not None:
            start, end = start + self.loop * turn, end + self.loop * turn
        if self.ends_at is not None:
            end = min(end, self.ends_at)
        return Slot(turn if self.implied else slot.interval_id, start, end) if start < end else None

    def place_at(self, at: datetime) -> int:
        """How many slots are over at `at`, counted over all turns; none after it is."""
        at = at if self.ends_at is None else min(at, self.ends_at)
        turn = 0 if self.loop is None else max(0, (at - self.starts_at) // self.loop)
        in_turn = at if self.loop is None else at - self.loop * turn
        over = bisect_right(self.first, in_turn, key=lambda slot: slot.end)
        return turn * len(self.first) + over


@dataclass(frozen=True, slots=True)
class Due:
    """One report: on what, and from when on it can be made."""

    at: datetime
    grid: Grid
    places: range

    @property
    def slots(self) -> Iterator[Slot]:
        """What it is on. There may be a year of them."""
        return _slots_at(self.grid, self.places)


def grid_of(wire: WireEvent, now: datetime, *, zero_is_endless: bool = False) -> Grid | None:
    """The intervals that reports on an event refer to; None where there are none that end. Raises
    `CourseError`.
    """
    if not wire.intervals:
        implied = period_of(wire, now, now)
        if implied is None:
            return None
        start, length = implied
        return Grid(start, (Slot(0, start, start + length),), length, None, implied=True)
    course = course_of(wire, now, now, zero_is_endless=zero_is_endless)
    if course is None:
        return None
    slots = sorted(_slots(wire, course), key=lambda slot: slot.end)
    if course.loop is None and course.ends_at is not None:
        slots = [slot for slot in slots if slot.start < course.ends_at]
    if not slots:
        return None
    in_order = all(one.start <= following.start for one, following in pairwise(slots))
    return Grid(course.starts_at, tuple(slots), course.loop, course.ends_at, in_order=in_order)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The reports that one descriptor asks for; those on what is past, or on what is `ahead`."""

    grid: Grid
    ahead: bool
    begin: int
    """The place of the first report's first interval."""
    length: int
    step: int
    most: float
    """How many reports there are at most."""

    def due_after(self, since: datetime) -> Iterator[Due]:
        """The reports that are due after `since`, in order; without end for a loop without."""
        for due in self._reports(self._number_at(since)):
            if due.at > since:
                yield due

    def due_last(self, at: datetime) -> Due | None:
        """The last that was due by then; None where there was none."""
        last: Due | None = None
        for due in self._reports(self._number_at(at)):
            if due.at > at:
                break
            last = due
        return last

    def _number_at(self, at: datetime) -> int:
        """The number of a report before which none is due after `at`. The last that is due by then, where
        there is one, is this one or a later one.
        """
        place = self.grid.place_at(at)
        passed = place - self.begin - (1 if self.ahead else self.length)
        number = max(0, passed // self.step)
        return number if number < self.most else max(0, int(self.most) - 1)

    def _reports(self, number: int) -> Iterator[Due]:
        end = self.grid.end
        while number < self.most and (place := self.begin + number * self.step) < end:
            places = range(place, min(place + self.length, end))
            # Of reports that overlap none is on less than was asked for, unless there is no other.
            whole = len(places) == self.length or self.step >= self.length or number == 0
            at = self._due_at(places) if self.ahead or whole else None
            if at is not None:
                yield Due(at, self.grid, places)
            number += 1

    def _due_at(self, places: range) -> datetime | None:
        """When a report on these can be made; None where there is nothing in it."""
        slots = _slots_at(self.grid, places if self.ahead else reversed(places))
        nearest = next(slots, None)
        return None if nearest is None else nearest.start if self.ahead else nearest.end


def _slots_at(grid: Grid, places: Iterable[int]) -> Iterator[Slot]:
    return (slot for place in places if (slot := grid.slot(place)) is not None)


def schedule_of(grid: Grid, descriptor: WireReportDescriptor, *, ahead: bool = False) -> Schedule:
    """What a descriptor comes to."""
    listed, start = len(grid.first), descriptor.start_interval
    asked = min(descriptor.num_intervals, MOST_SLOTS)
    most = descriptor.repeat if descriptor.repeat >= 0 else inf
    step = asked if asked > 0 else listed
    if ahead:
        begin = max(0, start)
        length = asked if asked > 0 else max(1, listed - begin)
        step = descriptor.frequency if descriptor.frequency > 0 else step
    elif asked <= 0:
        begin, length = 0, listed
    elif start < 0:
        # "The end of the last interval" is where the report ends.
        length, most = asked, 1
        begin = max(0, min(listed, grid.end) - length)
    else:
        length = asked
        begin = start - length + 1 if start - length + 1 >= 0 else start
        step = descriptor.frequency if descriptor.frequency > 0 else step
    return Schedule(grid, ahead, begin, length, step, max(1, most))


def _slots(wire: WireEvent, course: Course) -> Iterator[Slot]:
    for piece in course.pieces:
        said = wire.intervals[piece.interval].id
        interval_id = (
            said if isinstance(said, int) and not isinstance(said, bool) else piece.interval
        )
        if piece.end is not None:
            yield Slot(interval_id, piece.start, piece.end)
