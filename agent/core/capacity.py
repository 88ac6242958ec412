"""What a site lives under: the import limits of its connection, resolved to one at an instant. Pure.

Of one VEN's standing events, a limit counts wherever there is one, and else the subscription with what
its program reserves on top of it (OpenADR 3 User Guide 8.10). So when the limits a VTN announced are
exhausted,
because it is lost or has no more to say, the subscription is what is left; and after a power outage it
counts alone until the VTN has listed its limits again. Where there is no subscription to go back to,
the limit stays: nothing is let go because something is not known. Of one program's limits in
force the most urgent counts (event priority), of equally urgent ones the lowest; of several programs'
the lowest.

Such a limit has no ramp: it holds from its first second to its last. It has no baseline, and nothing
to rebound from.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice

from agent.core.event import EventRecord, Key, Opt, Signal, SignalKind
from agent.core.program import DropTo, Program, describe_ask, program_of
from agent.core.timeline import Obligation, Segment, Source, SourceKind

AHEAD = timedelta(days=1)
"""How far ahead obligations are made of limits: a year of them is looked up, not laid out."""
MOST_CHANGES = 2000
"""Changes of limits that obligations are made of at a time: a day of minutes, and less of shorter ones."""
_LEAST_URGENT = float("inf")


@dataclass(frozen=True, slots=True)
class _Line:
    """One signal of one standing event."""

    record: EventRecord
    signal: Signal

    def value_at(self, at: datetime) -> float | None:
        """Its value in force, W."""
        return self.record.value_of(self.signal, at)

    def edges(self, since: datetime, until: datetime) -> Iterator[datetime]:
        """Where its value may change after `since`, as far as the first such instant past `until`."""
        shift, ended_at = self.record.start_shift, self.record.ended_at
        if ended_at is not None:
            yield ended_at
        intervals = self.signal.intervals
        for place in range(max(0, self.signal.place_at(since - shift)), len(intervals)):
            interval = intervals[place]
            yield interval.start + shift
            if interval.end is not None:
                yield interval.end + shift
            if interval.start + shift > until:
                return

    @property
    def begins(self) -> datetime:
        """Before then it has no value."""
        return self.signal.intervals[0].start + self.record.start_shift

    def is_over(self, at: datetime) -> bool:
        """Whether it has no value at `at` and after it."""
        end = self.signal.intervals[-1].end
        return end is not None and end + self.record.start_shift <= at

    @property
    def rank(self) -> float:
        """Of two, the lower is the more urgent."""
        priority = self.record.event.priority
        return _LEAST_URGENT if priority is None else priority


@dataclass(frozen=True, slots=True)
class Connection:
    """The standing limits that one VEN received, looked up at any time."""

    lines: tuple[_Line, ...]
    limits_void: bool = False
    """Whether limits give way to a subscription, as after a power outage."""

    def limit_at(self, at: datetime) -> tuple[float, EventRecord] | None:
        """The limit in force, W, and the event it comes from; None when there is none."""
        limits = self._of_programs(SignalKind.LIMIT, at)
        if not limits or self.limits_void:
            subscribed = self._of_programs(SignalKind.SUBSCRIPTION, at)
            allowed = [
                (w + self._reserved_w(program, at), r) for program, (w, r) in subscribed.items()
            ]
            if allowed:
                return min(allowed, key=_power)
        return min(limits.values(), key=_power, default=None)

    def _of_programs(
        self, kind: SignalKind, at: datetime
    ) -> Mapping[str, tuple[float, EventRecord]]:
        """What each program asks for, W, by its most urgent event."""
        found: dict[str, tuple[float, float, EventRecord]] = {}
        for line in self.lines:
            if line.signal.kind is not kind or (value := line.value_at(at)) is None:
                continue
            program = line.record.event.program
            known = found.get(program)
            if known is None or (line.rank, value) < known[:2]:
                found[program] = (line.rank, value, line.record)
        return {program: (value, record) for program, (_, value, record) in found.items()}

    def _reserved_w(self, program: str, at: datetime) -> float:
        """What is reserved on top of a program's subscription, W."""
        return sum(
            line.value_at(at) or 0.0
            for line in self.lines
            if line.signal.kind is SignalKind.RESERVATION and line.record.event.program == program
        )

    def through(self, instants: Iterable[datetime]) -> Iterator["Connection"]:
        """At each of some instants, in order: what of it counts then. Of thousands of events few do at once."""
        coming = deque(sorted(self.lines, key=lambda line: line.begins))
        there: list[_Line] = []
        for at in instants:
            while coming and coming[0].begins <= at:
                there.append(coming.popleft())
            there = [line for line in there if not line.is_over(at)]
            yield replace(self, lines=tuple(there))

    def changes(self, at: datetime, until: datetime) -> Sequence[datetime]:
        """The instants after `at` at which the limit may change, as far as the first past `until`; of more
        than `MOST_CHANGES`, so many.
        """
        edges: set[datetime] = set()
        for line in self.lines:
            ahead = (edge for edge in line.edges(at, until) if edge > at)
            edges.update(islice(ahead, MOST_CHANGES))
        near = sorted(edge for edge in edges if edge <= until)
        return [*near, *sorted(edges - set(near))[:1]][:MOST_CHANGES]


def _power(one: tuple[float, EventRecord]) -> float:
    return one[0]


def connections_of(
    records: Iterable[EventRecord], void: Collection[str] = ()
) -> Mapping[str, Connection]:
    """By VEN: its standing events that the site takes part in. `void`: VENs whose limits give way to
    their subscription.
    """
    lines: dict[str, list[_Line]] = {}
    for record in records:
        if record.event.standing and record.opt.opt is Opt.IN:
            lines.setdefault(record.event.ven, []).extend(
                _Line(record, signal) for signal in record.event.signals if signal.intervals
            )
    return {ven: Connection(tuple(of_ven), ven in void) for ven, of_ven in lines.items()}


def standing_obligations(
    records: Iterable[EventRecord],
    programs: tuple[Program, ...],
    at: datetime,
    void: Collection[str] = (),
    ahead: timedelta = AHEAD,
) -> Iterator[Obligation]:
    """What the standing limits come to from `at` on, for so long: one obligation for each event that binds.
    `void`: see `connections_of`.
    """
    for connection in connections_of(records, void).values():
        found: dict[Key, tuple[EventRecord, list[Segment]]] = {}
        edges = [at, *connection.changes(at, at + ahead)]
        # The last edge begins what is not laid out yet, where it lies beyond that.
        more = edges[-1] > at + ahead or len(edges) > MOST_CHANGES
        ends = edges[1:] if more else [*edges[1:], None]
        for start, end, then in zip(edges, ends, connection.through(edges), strict=False):
            limit = then.limit_at(start)
            if limit is not None:
                limit_w, record = limit
                segments = found.setdefault(record.key, (record, []))[1]
                segments.append(Segment(start, end, limit_w, limit_w))
        for record, segments in found.values():
            yield _obligation(record, program_of(record.event, programs), segments)


def _obligation(record: EventRecord, program: Program, segments: Sequence[Segment]) -> Obligation:
    ven, event_id = record.key
    words = describe_ask(DropTo(segments[0].to_w))
    source = Source(SourceKind.CAPACITY, event_id, words, ven)
    return Obligation(source, tuple(segments), program.margin, program.firm)
