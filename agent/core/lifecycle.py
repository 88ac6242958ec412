"""The life of an event: derived from what is recorded and the time, never stored."""

from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum

from agent.core.event import Ending, EventRecord, Opt
from agent.core.program import Program
from agent.core.timeline import window_of


class Phase(StrEnum):
    """Where an event stands."""

    NOTIFIED = "notified"
    """Known, and further off than the pending lead."""
    PENDING = "pending"
    """Begins to act within the pending lead."""
    RAMPING_DOWN = "ramping down"
    HOLDING = "holding"
    RAMPING_UP = "ramping up"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    OPTED_OUT = "opted out"

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it by itself."""
        return self in (Phase.COMPLETED, Phase.CANCELLED, Phase.OPTED_OUT)

    @property
    def acting(self) -> bool:
        """Whether it holds the site down now."""
        return self in (Phase.RAMPING_DOWN, Phase.HOLDING, Phase.RAMPING_UP)


def phase_of(
    record: EventRecord, program: Program, now: datetime, pending_lead: timedelta
) -> Phase:
    """The phase of an event at `now`.

    One that was cancelled or opted out of under way first ramps up, then is what it is; so does one
    that the grid changed under way to something that does not act now.
    """
    phase, back = _own_phase(record, program, now, pending_lead), record.way_back
    if back is not None and not phase.acting and back.since <= now < back.done_at:
        return Phase.RAMPING_UP
    return phase


def _own_phase(
    record: EventRecord, program: Program, now: datetime, pending_lead: timedelta
) -> Phase:
    window = window_of(record, program)
    let_go = window.done_at is not None and (now >= window.done_at or not window.acted)
    if let_go or (record.opt.opt is Opt.OUT and record.ended_at is None):
        return phase_once_over(record)
    if window.hold_until is not None and now >= window.hold_until:
        return Phase.RAMPING_UP
    if now >= max(window.hold_from, window.ramp_from):
        return Phase.HOLDING
    if now >= window.ramp_from:
        return Phase.RAMPING_DOWN
    return Phase.PENDING if window.ramp_from - now <= pending_lead else Phase.NOTIFIED


def phase_once_over(record: EventRecord) -> Phase:
    """What an event is once nothing more comes of it."""
    if record.ended_by is not None:
        return Phase.CANCELLED if record.ended_by is Ending.CANCELLED else Phase.OPTED_OUT
    return Phase.OPTED_OUT if record.opt.opt is Opt.OUT else Phase.COMPLETED


def cancelled(record: EventRecord, at: datetime) -> EventRecord:
    """The record once the grid cancelled the event at `at`.

    An event whose start was drawn at random and has come ends after a delay drawn with it, so that
    many sites do not come back at once (2.0b rule 65). What ended before stays as it ended.
    """
    acts = record.baseline is not None and at >= record.starts_at
    return _ended(record, at + record.end_shift if acts else at, Ending.CANCELLED)


def opted_out(record: EventRecord, at: datetime) -> EventRecord:
    """The record once the site left the event at `at`; the decision itself is the caller's to set."""
    return _ended(record, at, Ending.OPTED_OUT)


def opted_in(record: EventRecord) -> EventRecord:
    """The record once the site took the event up again. A cancelled one stays cancelled."""
    if record.ended_by is not Ending.OPTED_OUT:
        return record
    return replace(record, ended_at=None, ended_by=None)


def _ended(record: EventRecord, at: datetime, by: Ending) -> EventRecord:
    if record.ended_by is Ending.CANCELLED:
        return record
    if record.ended_by is Ending.OPTED_OUT and record.ended_at is not None:
        at = min(at, record.ended_at)
    return replace(record, ended_at=at, ended_by=by)
