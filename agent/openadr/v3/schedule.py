"""Which intervals a report is to be on, and when it is due: a reportDescriptor worked out. Pure.

The fields' own descriptions in the documents count where the User Guide's pictures (section 7.5)
disagree with each other. For what is past (`historical`):

* `startInterval` is the last interval of the first report, which is due at its end and goes back over
  `numIntervals`. Where there are not so many before it, it is the first of them instead.
* `numIntervals` of -1 is all of them in one report, due at the end of the last.
* `frequency` is by how many intervals each report is later than the one before; -1 (and 0, whenever we
  like): by `numIntervals`.
* `repeat` is how many reports there are at most; -1: until the last interval.

Of what is to come, `startInterval` is the first interval of the first report, which is due as that
begins. -1 is the first of all, and a `numIntervals` of -1 is all from there on.
"""

from bisect import bisect_right
from collections.abc import Iterator
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

    first: tuple[Slot, ...]
    loop: timedelta | None
    ends_at: datetime | None
    implied: bool = False
    """Whether there is but a length, and no interval of the event's."""
    in_order: bool = False
    """Whether each slot ends after the one before it, over all turns."""

    @property
    def end(self) -> int:
        """The place at and after which there are no slots, counted over all turns."""
        turns = 1
        if self.loop is not None:
            ends_at = HORIZON if self.ends_at is None else min(HORIZON, self.ends_at)
            turns = max(1, -((self.first[0].start - ends_at) // self.loop))
        return turns * len(self.first)

    def slots(self, place: int, count: int) -> tuple[Slot, ...]:
        """So many slots from one place on, but for those after the event's end."""
        places = range(place, min(place + count, self.end))
        found = (self._slot(*divmod(each, len(self.first))) for each in places)
        return tuple(slot for slot in found if slot is not None)

    def _slot(self, turn: int, place: int) -> Slot | None:
        """One slot, cut at the event's end. An implied one goes by its turn: nobody gave it an id."""
        slot = self.first[place]
        start, end = slot.start, slot.end
        if turn and self.loop is not None:
            start, end = start + self.loop * turn, end + self.loop * turn
        if self.ends_at is not None:
            end = min(end, self.ends_at)
        return Slot(turn if self.implied else slot.interval_id, start, end) if start < end else None

    def place_at(self, at: datetime) -> int:
        """A place, counted over all turns, before which every slot is over at `at`."""
        at = at if self.ends_at is None else min(at, self.ends_at)
        if self.loop is None:
            return self._place_in_turn(at)
        turn = max(0, (at - self.first[0].start) // self.loop)
        if not self.in_order:
            return max(0, turn - 1) * len(self.first)
        return turn * len(self.first) + self._place_in_turn(at - self.loop * turn)

    def _place_in_turn(self, at: datetime) -> int:
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
    loop = course.loop
    in_order = all(one.end <= following.end for one, following in pairwise(slots))
    in_order &= loop is None or slots[-1].end - slots[0].start <= loop
    return Grid(slots, loop, course.ends_at, in_order=in_order)


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
        while number < self.most and (place := self.begin + number * self.step) < self.grid.end:
            slots = self.grid.slots(place, self.length)
            # Of reports that overlap none is on less than was asked for, unless there is no other.
            whole = len(slots) == self.length or self.step >= self.length or number == 0
            if slots and (self.ahead or whole):
                at = slots[0].start if self.ahead else max(slot.end for slot in slots)
                yield Due(at, slots)
            number += 1


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
        begin = max(0, len(grid.slots(0, listed)) - length)
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
