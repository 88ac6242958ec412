"""What is shown of events: in every view the latest ones in brief, on request all of them whole.

An event may have thousands of intervals, and a book thousands of events: neither belongs into what is
sent every second.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from heapq import nlargest, nsmallest

from agent.core.event import EventRecord, Key
from agent.core.picture import Picture
from agent.core.program import describe_ask, program_of
from agent.core.settlement import Performance
from agent.core.timeline import Step, each_step, steps_of, window_of
from agent.telemetry.plain import View, iso, watts

MOST_EVENTS = 20
"""Events that every view carries at most."""
MOST_STEPS = 20
"""Steps of the current event that every view carries at most, from the one in force on."""


class EventViews:
    """Views of a picture's events. What does not change is made once for each record."""

    def __init__(self) -> None:
        self._made: dict[Key, _Made] = {}

    def of(self, picture: Picture, current: Key | None) -> View:
        """The current event with its next steps, the events of most interest, and how many there are.

        Those not over come first, the soonest before the others; then those that began last.
        """
        self._renew(picture)
        live = [key for key in self._made if not _over(key, picture)]
        over = self._made.keys() - set(live)
        chosen = nsmallest(MOST_EVENTS, live, key=self._starts)
        chosen += nlargest(MOST_EVENTS - len(chosen), over, key=self._starts)
        chosen.sort(key=self._starts, reverse=True)
        owners = _owners(picture)
        event = None
        if current is not None:
            asks = self._made[current].next_asks(picture.at)
            event = {**self._brief(current, picture, owners), "asks": asks}
        return {
            "event": event,
            "events": [self._brief(key, picture, owners) for key in chosen],
            "events_known": len(self._made),
            "events_live": len(live),
        }

    def _renew(self, picture: Picture) -> None:
        for key, record in picture.records.items():
            made = self._made.get(key)
            if made is None or made.record is not record:
                self._made[key] = _Made(record, picture)
        for gone in self._made.keys() - picture.records.keys():
            del self._made[gone]

    def _starts(self, key: Key) -> tuple[datetime, Key]:
        return self._made[key].starts_at, key

    def _brief(self, key: Key, picture: Picture, owners: Mapping[str, int]) -> View:
        return {**self._made[key].brief, **_changing(key, picture, owners)}


class _Made:
    """What is shown of one record, each part made when it is first needed."""

    def __init__(self, record: EventRecord, picture: Picture) -> None:
        self.record = record
        self.starts_at = record.event.starts_at + record.start_shift
        self._program = program_of(record.event, picture.programs)
        self._max_import_w = picture.max_import_w

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The event cut at its intervals."""
        return steps_of(self.record, self._program, self._max_import_w)

    @cached_property
    def brief(self) -> View:
        """All that does not change with time, its intervals aside."""
        record, event = self.record, self.record.event
        window = window_of(record, self._program)
        steps = each_step(record, self._program, self._max_import_w)
        first = next((step for step in steps if step.asks), None)
        return {
            "event_id": event.event_id,
            "ven": event.ven,
            "program": self._program.name,
            "revision": event.revision,
            "test": event.test,
            "ask": None if first is None else _words(first),
            "received_at": iso(record.received_at),
            "starts_at": iso(self.starts_at),
            "ramp_from": iso(window.ramp_from),
            "hold_from": iso(window.hold_from),
            "hold_until": iso(window.hold_until),
            "done_at": iso(window.done_at),
            "opt": record.opt.opt.value,
            "opt_by": record.opt.by,
            "opt_why": record.opt.why,
            "baseline_w": None if record.baseline is None else watts(record.baseline.power_w),
            "comment": event.comment,
        }

    def next_asks(self, at: datetime) -> list[View]:
        """The step in force and those that follow, each with its time."""
        in_force = bisect_right(self.steps, at, key=lambda step: step.at) - 1
        return _asks(self.steps[max(0, in_force) :][:MOST_STEPS])

    @property
    def whole(self) -> View:
        """All that does not change with time."""
        return {
            **self.brief,
            "asks": _asks(self.steps),
            "signals": [
                {"name": s.name, "unit": s.unit, "values": [i.value for i in s.intervals]}
                for s in self.record.event.signals
            ],
        }


def events_of(picture: Picture, event_id: str | None = None) -> list[View]:
    """All events of a picture, or those with one id, newest first and whole."""
    made = [
        _Made(record, picture)
        for (_, known), record in picture.records.items()
        if event_id in (None, known)
    ]
    made.sort(key=lambda one: one.starts_at, reverse=True)
    owners = _owners(picture)
    return [{**one.whole, **_changing(one.record.key, picture, owners)} for one in made]


def performance_view(figures: Performance) -> View:
    """One event's figures."""
    return {
        "baseline_w": watts(figures.baseline_w),
        "committed_w": watts(figures.committed_w),
        "delivered_w": watts(figures.delivered_w),
        "compliant_share": round(figures.compliant_share, 4),
        "worst_over_w": watts(figures.worst_over_w),
        "energy_shed_wh": round(figures.energy_shed_wh, 1),
        "held_s": round(figures.held.total_seconds()),
    }


def _changing(key: Key, picture: Picture, owners: Mapping[str, int]) -> View:
    """What changes while the record does not."""
    phase, figures = picture.phases.get(key), picture.performances.get(key)
    return {
        "phase": None if phase is None else phase.value,
        "performance": None if figures is None else performance_view(figures),
        "ambiguous": owners[key[1]] > 1,
    }


def _owners(picture: Picture) -> Mapping[str, int]:
    """By event id: how many VENs know an event of that id."""
    return Counter(event_id for _, event_id in picture.records)


def _over(key: Key, picture: Picture) -> bool:
    phase = picture.phases.get(key)
    return phase is not None and phase.over


def _asks(steps: Sequence[Step]) -> list[View]:
    return [{"from": iso(step.at), "text": _words(step)} for step in steps]


def _words(step: Step) -> str:
    return " and ".join(map(describe_ask, step.asks)) or "normal"
