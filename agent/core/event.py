"""What the grid asks: events with their signals, and what the site answered.

These types are what both OpenADR generations are translated into. Powers are watts, times aware
UTC, priority ranks ascend from the most urgent.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class SignalKind(StrEnum):
    """What the values of a signal mean, whatever the wire calls it."""

    LEVEL = "level"
    """A step of the program's own ladder (SIMPLE 0-3, LOAD_DISPATCH level). 0 is normal."""
    LEVEL_OFFSET = "level-offset"
    """Steps away from normal, either sign (x-loadControlLevelOffset). 0 is normal."""
    SETPOINT = "setpoint"
    """The import to stay at or below, W."""
    CHANGE = "change"
    """The change from what the site would have drawn, W; the sign's meaning is the program's."""
    MULTIPLIER = "multiplier"
    """A factor on what the site would have drawn; 1 is normal."""
    CAPACITY = "capacity"
    """A share of the site's largest import; 1 is everything."""
    PERCENT_OFFSET = "percent-offset"
    """The change from normal, in percent or as a fraction, as the program says; 0 is normal."""
    SHARE_CHANGE = "share-change"
    """The change from normal as a fraction; 0 is normal, and the sign's meaning is the program's."""
    LIMIT = "import-limit"
    """The import to stay at or below, W, by standing agreement: no ramp, no baseline, no rebound guard."""
    SUBSCRIPTION = "import-subscription"
    """The import that is subscribed to, W: a standing limit wherever no LIMIT is in force."""
    RESERVATION = "import-reservation"
    """What may be imported beyond the subscription, W."""
    EMERGENCY = "emergency"
    """The grid is in danger; 1 is on."""
    BLACK_START = "black-start"
    """The grid is coming back: no more than now until it is cleared; 1 is on."""
    PRICE = "price"
    """A price, of any kind: kept and shown, sheds nothing."""
    INFORMATION = "information"
    """Said to whom it may concern (emissions, weather alerts, capacity on offer): sheds nothing."""
    OTHER = "other"
    """Whatever else, known to nobody here: kept and shown, sheds nothing."""


STANDING = frozenset({SignalKind.LIMIT, SignalKind.SUBSCRIPTION, SignalKind.RESERVATION})
"""What a site lives under rather than takes part in."""
SILENT = frozenset({SignalKind.PRICE, SignalKind.INFORMATION, SignalKind.OTHER})
"""What never asks for anything."""


@dataclass(frozen=True, slots=True)
class Interval:
    """One value over one stretch of time, before any randomised start is applied."""

    start: datetime
    end: datetime | None
    """None: until the event is cancelled."""
    value: float


@dataclass(frozen=True, slots=True)
class Signal:
    """One signal of an event; its intervals are in order and do not overlap."""

    kind: SignalKind
    name: str
    """As on the wire, for people: `LOAD_DISPATCH setpoint`."""
    unit: str
    """Unit of the values after translation: `W`, `1` for factors and levels, or the wire's own."""
    intervals: tuple[Interval, ...]

    def place_at(self, at: datetime) -> int:
        """The place of the interval that began last by `at`; -1 before the first."""
        return bisect_right(self.intervals, at, key=lambda interval: interval.start) - 1

    def value_at(self, at: datetime) -> float | None:
        """Its value at `at`; None between, before and after its intervals."""
        place = self.place_at(at)
        if place < 0:
            return None
        interval = self.intervals[place]
        return interval.value if interval.end is None or at < interval.end else None


@dataclass(frozen=True, slots=True)
class Event:
    """One event as its VTN last described it."""

    event_id: str
    ven: str
    """Name of the VEN of ours that received it; with `event_id` its identity."""
    program: str
    """Market context (2.0b) or the program's name (3.x; its id where the VTN lists no name)."""
    revision: int
    """Ascends with every modification (2.0b: modificationNumber)."""
    created_at: datetime
    starts_at: datetime
    duration: timedelta | None
    """None: until cancelled."""
    signals: tuple[Signal, ...]
    priority: int | None = None
    """Rank, the lower the more urgent; None: unspecified, the least urgent."""
    cancelled: bool = False
    test: bool = False
    start_window: timedelta = timedelta(0)
    """The start is drawn at random within this window after `starts_at` (2.0b startafter)."""
    start_early: timedelta = timedelta(0)
    """How far before `starts_at` that window begins (3.x randomizeStart: as far as it ends after)."""
    ramp_down: timedelta | None = None
    """Transit into the event: before the start when positive, after it when negative (2.0b
    x-eiRampUp, whose "up" is the shed's). None: the program's own."""
    ramp_up: timedelta | None = None
    """Transit out of it: after the end when positive, before it when negative (2.0b x-eiRecovery)."""
    notification: timedelta | None = None
    """How long before the start the grid promised to send it (2.0b x-eiNotification)."""
    comment: str = ""
    response_required: bool = True

    @property
    def key(self) -> tuple[str, str]:
        """Identity over all VTNs: event ids are only unique within one."""
        return (self.ven, self.event_id)

    @property
    def standing(self) -> bool:
        """Whether it tells of a standing limit of the site's connection, and asks for nothing else."""
        asking = {signal.kind for signal in self.signals} - SILENT
        return bool(asking) and asking <= STANDING

    @property
    def limits(self) -> bool:
        """Whether it tells of an import limit of the connection that may change from hour to hour."""
        return any(signal.kind is SignalKind.LIMIT for signal in self.signals)

    @property
    def understood(self) -> bool:
        """Whether any of its signals is of a kind that is known here."""
        return any(signal.kind is not SignalKind.OTHER for signal in self.signals)


class Opt(StrEnum):
    """Whether the site takes part in an event."""

    IN = "in"
    OUT = "out"


Key = tuple[str, str]
"""The VEN's name and the event's id: what tells events apart."""
BY_POLICY = "policy"
"""Who decided, where it was not a person."""


@dataclass(frozen=True, slots=True)
class OptDecision:
    """Who decided on taking part, when and why."""

    opt: Opt
    by: str
    """`policy`, or `operator <user>`."""
    at: datetime
    why: str


class Ending(StrEnum):
    """What ended an event before its time."""

    CANCELLED = "cancelled"
    OPTED_OUT = "opted out"


@dataclass(frozen=True, slots=True)
class Baseline:
    """What the site would have drawn without the event, frozen before it began to act."""

    power_w: float
    """The figure that drop-by is counted from, W."""
    peak_w: float
    """The highest ten-second mean before the event, W: the level that must not be exceeded after it."""
    method: str
    """How it was made, for people: `mean of the 15 min before`."""
    frozen_at: datetime
    estimated: bool = False
    """True when there was too little history and the GPUs' expected draw stood in."""


@dataclass(frozen=True, slots=True)
class WayBack:
    """How the site comes back from what an event asked before the grid changed it."""

    since: datetime
    from_w: float
    """The limit that was in force when the change came, W."""
    to_w: float
    """The level before the event, W."""
    done_at: datetime
    """When it is reached; from then on it must not be exceeded for a while."""


@dataclass(frozen=True, slots=True)
class EventRecord:
    """An event and all that the site has decided about it. This is what is kept durably."""

    event: Event
    received_at: datetime
    opt: OptDecision
    start_shift: timedelta = timedelta(0)
    """Drawn once within the event's start window, kept over modifications (2.0b rule 30)."""
    end_shift: timedelta = timedelta(0)
    """Drawn with it; delays the end of an event cancelled once it has started (2.0b rule 65)."""
    ended_at: datetime | None = None
    """When the event stopped asking before its time, if it did."""
    ended_by: Ending | None = None
    baseline: Baseline | None = None
    """Frozen when the event begins to act. One that ended without it never did."""
    way_back: WayBack | None = None
    """What is left of what the event asked before its last change."""
    overruled: OptDecision | None = None
    """The operator's decision that a local stop overruled; it stands again after the stop."""

    @property
    def key(self) -> tuple[str, str]:
        """The event's identity."""
        return self.event.key

    @property
    def starts_at(self) -> datetime:
        """When it starts, with the delay drawn for it."""
        return self.event.starts_at + self.start_shift

    @property
    def ends_at(self) -> datetime | None:
        """When its own time is over, whatever became of it; None: until cancelled."""
        duration = self.event.duration
        return None if duration is None else self.starts_at + duration

    def value_of(self, signal: Signal, at: datetime) -> float | None:
        """The value of one of its signals that is in force at `at`, with the start drawn for it."""
        if self.ended_at is not None and at >= self.ended_at:
            return None
        return signal.value_at(at - self.start_shift)

    def values_at(self, kind: SignalKind, at: datetime) -> Iterator[float]:
        """The values in force at `at` of its signals of one kind, as far as the site takes part."""
        for signal in self.event.signals:
            if signal.kind is kind and self.opt.opt is Opt.IN:
                value = self.value_of(signal, at)
                if value is not None:
                    yield value

    def is_past(self, at: datetime) -> bool:
        """Whether its own time is over at `at`."""
        return self.ends_at is not None and self.ends_at <= at
