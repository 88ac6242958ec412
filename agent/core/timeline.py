"""From events to obligations to one ceiling, with the source that binds.

An obligation is what one source asks of the site over time: straight lines of import limit, W. The
ceiling at an instant is the lowest of them; ties go to the earlier listed, and the binding source
is always named. Nothing here knows the present: a timeline is a function of time.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import accumulate, dropwhile

from agent.core.event import SILENT, Event, EventRecord, Opt, Signal, WayBack
from agent.core.program import Ask, Program, ask_of, describe_ask, limit_of

REBOUND_TOLERANCE = 0.01
"""Noise about the level before an event that the rebound guard lets through, as a share of it."""

BEGINNING = datetime(1, 1, 1, tzinfo=UTC)


class SourceKind(StrEnum):
    """Who asks."""

    EVENT = "event"
    CAPACITY = "import limit"
    SITE = "site limit"
    REBOUND = "rebound guard"


@dataclass(frozen=True, slots=True)
class Source:
    """Who asks, for people and for the ledger."""

    kind: SourceKind
    name: str
    """The event's id, or what limits the site."""
    detail: str = ""
    ven: str = ""
    """The VEN that received the event: its id is unique only within that."""

    def __str__(self) -> str:
        """`event ev-1 (25 % below baseline)`."""
        return f"{self.kind} {self.name}" + (f" ({self.detail})" if self.detail else "")


@dataclass(frozen=True, slots=True)
class Segment:
    """A limit over one stretch: a straight line from `from_w` to `to_w`."""

    start: datetime
    end: datetime | None
    """None: open-ended, and level."""
    from_w: float
    to_w: float

    def limit_at(self, at: datetime) -> float:
        """The limit at an instant within the segment, W."""
        if self.end is None or self.from_w == self.to_w:
            return self.to_w
        passed = (at - self.start) / (self.end - self.start)
        return self.from_w + (self.to_w - self.from_w) * passed


@dataclass(frozen=True, slots=True)
class Obligation:
    """What one source asks over time. Segments are in order, contiguous or with gaps."""

    source: Source
    segments: tuple[Segment, ...]
    margin: float = 0.0
    """Share of the limit to aim below it."""
    firm: bool = False
    """Whether the caps, not only the expected draw, must add up to the limit."""

    def limit_at(self, at: datetime) -> float | None:
        """The limit in force at `at`, W; None when none is. A segment holds its start, not its end."""
        position = bisect_right(self.segments, at, key=lambda segment: segment.start) - 1
        if position < 0:
            return None
        segment = self.segments[position]
        return segment.limit_at(at) if segment.end is None or at < segment.end else None

    def bends(self) -> Iterator[datetime]:
        """Where its line may turn or jump."""
        for segment in self.segments:
            yield segment.start
            if segment.end is not None:
                yield segment.end

    def until(self) -> datetime | None:
        """When it asks for nothing any more; None when open-ended."""
        return self.segments[-1].end


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The one binding import limit at an instant, with the source that binds."""

    limit_w: float
    source: Source
    margin: float = 0.0
    firm: bool = False
    until: datetime | None = None
    """When the binding source lets go altogether; None when open-ended."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """All obligations together."""

    obligations: tuple[Obligation, ...] = ()

    def ceiling_at(self, at: datetime) -> Ceiling | None:
        """The lowest limit in force at `at` and its source; None when nothing limits the site.

        Firmness is inherited from every obligation in force: a cheap one that binds must not
        loosen the guarantee that a firm one was given.
        """
        in_force = [(limit, o) for o in self.obligations if (limit := o.limit_at(at)) is not None]
        if not in_force:
            return None
        limit_w, binding = min(in_force, key=lambda pair: pair[0])
        firm = any(o.firm for _, o in in_force)
        return Ceiling(limit_w, binding.source, binding.margin, firm, binding.until())


@dataclass(frozen=True, slots=True)
class Window:
    """The stretches of one event: ramp, hold, ramp, with everything that shifts them applied.

    An event that ended early may let go (`hold_until`) before it was to hold (`hold_from`).
    """

    ramp_from: datetime
    hold_from: datetime
    hold_until: datetime | None
    """None: until cancelled."""
    done_at: datetime | None

    @property
    def acted(self) -> bool:
        """Whether the event ends after it begins to act at all."""
        return self.hold_until is None or self.ramp_from < self.hold_until


def window_of(record: EventRecord, program: Program) -> Window:
    """When an event ramps, holds and lets go.

    It starts with its first interval that asks for anything. A positive ramp lies before the start
    and a positive recovery after the end (2.0b x-eiRampUp, x-eiRecovery); the program's own ramps
    lie after each. What ended without a baseline never acted, whenever that was.
    """
    event, end = record.event, record.ends_at
    start = _first_ask(event, program) + record.start_shift
    ramp_from, hold_from = _transition(start, -_ramp_down(event, program))
    if record.ended_at is not None:
        ended_at = record.ended_at if record.baseline is not None else ramp_from
        end = ended_at if end is None else min(end, ended_at)
    if end is None:
        return Window(ramp_from, hold_from, None, None)
    return Window(ramp_from, hold_from, *_transition(end, _ramp_up(event, program)))


def _first_ask(event: Event, program: Program) -> datetime:
    """When an event first asks for anything, as it was sent; its start if it never does."""
    firsts = (
        next((p.start for p in s.intervals if ask_of(s.kind, p.value, program, 0.0)), None)
        for s in event.signals
    )
    return min((first for first in firsts if first is not None), default=event.starts_at)


@dataclass(frozen=True, slots=True)
class Step:
    """What an event asks from `at` until its next step. No asks: normal."""

    at: datetime
    asks: tuple[Ask, ...]


def steps_of(record: EventRecord, program: Program, max_import_w: float) -> tuple[Step, ...]:
    """The event cut at every interval's edge, shifted by its drawn start."""
    return tuple(each_step(record, program, max_import_w))


def each_step(record: EventRecord, program: Program, max_import_w: float) -> Iterator[Step]:
    """The same one after the other: for whom the first ones do, of a hundred thousand.

    Several signals may ask at once and cannot be compared without a baseline, so each step keeps
    them all.
    """
    shift = record.start_shift
    edges: set[datetime] = set()
    signals = []
    for signal in record.event.signals:
        if signal.kind in SILENT:
            continue
        starts = [piece.start for piece in signal.intervals]
        edges.update(starts)
        edges.update(piece.end for piece in signal.intervals if piece.end is not None)
        signals.append((signal, starts))
    for edge in sorted(edges):
        asks = (_ask_at(edge, *signal, program, max_import_w) for signal in signals)
        yield Step(edge + shift, tuple(ask for ask in asks if ask is not None))


def _ask_at(
    edge: datetime, signal: Signal, starts: list[datetime], program: Program, max_import_w: float
) -> Ask | None:
    """What one signal asks at an instant; `starts` are its intervals'."""
    position = bisect_right(starts, edge) - 1
    if position < 0:
        return None
    piece = signal.intervals[position]
    if piece.end is not None and edge >= piece.end:
        return None
    return ask_of(signal.kind, piece.value, program, max_import_w)


def obligations_of(
    record: EventRecord, program: Program, max_import_w: float, expected_w: float, guard_s: float
) -> tuple[Obligation, ...]:
    """What an event asks of the site over time, and the guard against a rebound after it; both again,
    and last, for what is left of the event as it was before the grid changed it.
    """
    own = own_obligations_of(record, program, max_import_w, expected_w, guard_s)
    return (*own, *_left_of_before(record, program, guard_s))


def own_obligations_of(
    record: EventRecord, program: Program, max_import_w: float, expected_w: float, guard_s: float
) -> tuple[Obligation, ...]:
    """What an event asks as it is now, and the guard against a rebound after it.

    `expected_w` stands in for the level before the event while that is not frozen yet. The guard
    holds the site at that level for `guard_s` after an event that shed.
    """
    if record.event.standing:
        return ()  # `agent.core.capacity` sees to it.
    window = window_of(record, program)
    every_step = steps_of(record, program, max_import_w)
    steps = tuple(dropwhile(lambda step: not step.asks, every_step))
    if not steps or not window.acted or not _takes_part(record, program):
        return ()
    baseline_w, before_w = expected_w, expected_w
    if record.baseline is not None:
        baseline_w = record.baseline.power_w
        before_w = max(baseline_w, record.baseline.peak_w)
    limits = [min((limit_of(a, baseline_w) for a in step.asks), default=None) for step in steps]
    top_w = max(before_w, *(limit_w for limit_w in limits if limit_w is not None))
    levels = [
        (step.at, top_w if limit_w is None else limit_w)
        for step, limit_w in zip(steps, limits, strict=True)
    ]
    source = _source(SourceKind.EVENT, record, describe_ask(steps[0].asks[0]))
    segments = _profile(window, levels, top_w, record.event, program)
    event = Obligation(source, segments, program.margin, program.firm)
    shed = any(limit_w < before_w for _, limit_w in levels)
    if window.done_at is None or record.baseline is None or not shed:
        return (event,)
    return (event, _guard(record, before_w, window.done_at, guard_s))


def _source(kind: SourceKind, record: EventRecord, detail: str) -> Source:
    ven, event_id = record.key
    return Source(kind, event_id, detail, ven)


def _guard(record: EventRecord, before_w: float, since: datetime, guard_s: float) -> Obligation:
    level_w = before_w * (1 + REBOUND_TOLERANCE)
    source = _source(SourceKind.REBOUND, record, "level before the event")
    until = since + timedelta(seconds=guard_s)
    return Obligation(source, (Segment(since, until, level_w, level_w),))


def _left_of_before(record: EventRecord, program: Program, guard_s: float) -> Iterator[Obligation]:
    """The way back from what the event asked before its last change, and the guard after that."""
    back = record.way_back
    if back is None:
        return
    if back.since < back.done_at:
        source = _source(SourceKind.EVENT, record, "on the way back since it was changed")
        line = Segment(back.since, back.done_at, back.from_w, back.to_w)
        yield Obligation(source, (line,), program.margin, program.firm)
    yield _guard(record, back.to_w, back.done_at, guard_s)


def way_back_of(
    record: EventRecord, program: Program, max_import_w: float, at: datetime
) -> WayBack | None:
    """How the site would come back from an event if it ended at `at`, or did before.

    The way back from its last change where it asks for nothing by then; None where there is none.
    """
    ended_at = at if record.ended_at is None else min(at, record.ended_at)
    ended = replace(record, ended_at=ended_at)
    own = own_obligations_of(ended, program, max_import_w, 0.0, 0.0)
    if record.baseline is None or len(own) < 2:
        return record.way_back
    guard = own[1].segments[0]
    before_w = max(record.baseline.power_w, record.baseline.peak_w)
    limit_w = asked_at(ended, program, max_import_w, at)
    from_w = before_w if limit_w is None else min(limit_w, before_w)
    return WayBack(min(at, guard.start), from_w, before_w, guard.start)


def asked_at(
    record: EventRecord, program: Program, max_import_w: float, at: datetime
) -> float | None:
    """The limit that an event with a frozen baseline asks for at `at`, W; None when it asks for none."""
    asked = obligations_of(record, program, max_import_w, max_import_w, 0.0)
    limits = [o.limit_at(at) for o in asked if o.source.kind is SourceKind.EVENT]
    return min((limit_w for limit_w in limits if limit_w is not None), default=None)


def standing_limit(name: str, limit_w: float, margin: float = 0.0) -> Obligation:
    """A limit without beginning or end: the site's own largest import."""
    whole = Segment(BEGINNING, None, limit_w, limit_w)
    return Obligation(Source(SourceKind.SITE, name), (whole,), margin)


def _takes_part(record: EventRecord, program: Program) -> bool:
    """Test events shed only where the program says so; what was left early still has its way back."""
    if record.event.test and not program.shed_on_test:
        return False
    return record.opt.opt is Opt.IN or record.ended_at is not None


def _transition(edge: datetime, length: timedelta) -> tuple[datetime, datetime]:
    other = edge + length
    return (edge, other) if length >= timedelta(0) else (other, edge)


def _ramp_down(event: Event, program: Program) -> timedelta:
    """Positive before the start, negative after it."""
    if event.ramp_down is not None:
        return event.ramp_down
    return -timedelta(seconds=program.ramp_down_s)


def _ramp_up(event: Event, program: Program) -> timedelta:
    """Positive after the end, negative before it."""
    return event.ramp_up if event.ramp_up is not None else timedelta(seconds=program.ramp_up_s)


def _profile(
    window: Window,
    levels: Sequence[tuple[datetime, float]],
    top_w: float,
    event: Event,
    program: Program,
) -> tuple[Segment, ...]:
    """Straight lines from the top level through the event's levels and back to the top."""
    bends: list[tuple[datetime, datetime, float]] = []
    current_w = top_w
    for position, (at, limit_w) in enumerate(levels):
        if window.hold_until is not None and at >= window.hold_until:
            break
        if position == 0:
            bends.append((window.ramp_from, window.hold_from, limit_w))
        elif limit_w < current_w:
            bends.append((*_transition(at, -_ramp_down(event, program)), limit_w))
        else:
            bends.append((*_transition(at, _ramp_up(event, program)), limit_w))
        current_w = limit_w
    if window.hold_until is not None and window.done_at is not None:
        bends.append((window.hold_until, window.done_at, top_w))
    return tuple(_lines(bends, top_w, window.done_at))


def _lines(
    bends: Sequence[tuple[datetime, datetime, float]], top_w: float, done_at: datetime | None
) -> Iterator[Segment]:
    """Join bends (begin, reach, level) into contiguous segments; the next bend cuts this one short."""
    begins = list(accumulate((begin for begin, _, _ in bends), max))
    level_w = top_w
    for begin, following, (_, reach, target_w) in zip(
        begins, [*begins[1:], done_at], bends, strict=True
    ):
        full = max(reach, begin)
        stop = full if following is None else min(full, following)
        line = Segment(begin, full, level_w, target_w)
        level_w = target_w if stop == full else line.limit_at(stop)
        if stop > begin:
            yield Segment(begin, stop, line.from_w, level_w)
        if following is None or following > stop:
            yield Segment(stop, following, level_w, level_w)
