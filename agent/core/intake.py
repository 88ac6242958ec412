"""What becomes of an event as it arrives: duplicate, reordered, modified, cancelled or new.

Whatever order messages come in, the newest valid state is what stays (2.0b rules 56-62): a higher
revision replaces, an equal one repeats the stored answer, a lower one is an error and changes
nothing. The random start is drawn once and kept over all modifications (rule 30).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from agent.core.event import Ending, Event, EventRecord, Opt
from agent.core.lifecycle import cancelled, opted_in, opted_out
from agent.core.policy import Policy, decide_opt
from agent.core.program import Program, program_for

Key = tuple[str, str]


class Verdict(StrEnum):
    """What an arriving event turned out to be."""

    NEW = "new"
    MODIFIED = "modified"
    CANCELLED = "cancelled"
    REPEATED = "repeated"
    OUTDATED = "outdated"
    """A lower revision than the one held: refused."""
    UNKNOWN_CANCEL = "unknown cancel"
    """Cancelled before we ever heard of it: acknowledged and forgotten (rule 60)."""


@dataclass(frozen=True, slots=True)
class Intake:
    """The verdict on one arriving event and the record it leads to."""

    verdict: Verdict
    record: EventRecord | None
    """What to keep from now on; None when nothing is kept. Unchanged for a repetition."""
    opt: Opt
    """What to answer."""


def receive(
    known: EventRecord | None,
    event: Event,
    programs: tuple[Program, ...],
    policy: Policy,
    now: datetime,
    draw: float,
) -> Intake:
    """Judge one arriving event against what is known of it.

    `draw` is a random number in [0, 1), used once per event for its start. An event that was
    cancelled by implication (`missing_from`) and is listed again is on again; answers to polls come in
    order, so that it cannot be an old message. A cancel is always confirmed (2.0b rule 36).
    """
    if known is None:
        if event.cancelled:
            return Intake(Verdict.UNKNOWN_CANCEL, None, Opt.IN)
        decision = decide_opt(event, program_for(event, programs), policy, now, now)
        shift = event.start_window * draw
        record = EventRecord(event, now, decision, shift, shift)
        if decision.opt is Opt.OUT:
            record = opted_out(record, now)
        return Intake(Verdict.NEW, record, decision.opt)
    if event.revision < known.event.revision:
        return Intake(Verdict.OUTDATED, known, known.opt.opt)
    if event.revision == known.event.revision and known.event.cancelled >= event.cancelled:
        if known.ended_by is Ending.CANCELLED and not known.event.cancelled:
            record = modified(known, event, programs, policy, now)
            return Intake(Verdict.MODIFIED, record, record.opt.opt)
        opt = Opt.IN if event.cancelled else known.opt.opt
        return Intake(Verdict.REPEATED, known, opt)
    if event.cancelled:
        return Intake(Verdict.CANCELLED, cancelled(replace(known, event=event), now), Opt.IN)
    record = modified(known, event, programs, policy, now)
    return Intake(Verdict.MODIFIED, record, record.opt.opt)


def modified(
    known: EventRecord,
    event: Event,
    programs: tuple[Program, ...],
    policy: Policy,
    now: datetime,
) -> EventRecord:
    """The record of an event that the grid changed: its decision stands, unless policy made it.

    A frozen baseline stays frozen once the event has begun to act; a modification that moves the
    start into the future begins afresh.
    """
    decision = known.opt
    if decision.by == "policy":
        noticed_at = known.received_at if event.starts_at == known.event.starts_at else now
        decision = decide_opt(event, program_for(event, programs), policy, now, noticed_at)
    shift = known.start_shift if event.start_window else timedelta(0)
    begins_later = event.starts_at + shift > now and event.starts_at != known.event.starts_at
    baseline = None if begins_later else known.baseline
    record = replace(known, event=event, opt=decision, start_shift=shift, baseline=baseline)
    if decision.opt is Opt.OUT:
        return record if known.ended_by is Ending.OPTED_OUT else opted_out(_revived(record), now)
    return _revived(record)


def reconsidered(
    known: EventRecord, programs: tuple[Program, ...], policy: Policy, now: datetime
) -> EventRecord:
    """The record once the site's rules changed: a local stop leaves every event, its end takes up again
    what nobody but policy had left.
    """
    if known.ended_by is Ending.CANCELLED or _past(known, now):
        return known
    if known.opt.by != "policy" and not policy.stopped:
        return known
    program = program_for(known.event, programs)
    decision = decide_opt(known.event, program, policy, now, known.received_at)
    if decision.opt is known.opt.opt:
        return known
    decided = replace(known, opt=decision)
    return opted_out(decided, now) if decision.opt is Opt.OUT else opted_in(decided)


def missing_from(
    listing: Mapping[Key, Event], known: Mapping[Key, EventRecord], ven: str, now: datetime
) -> tuple[EventRecord, ...]:
    """Events that a VTN no longer lists although they are not over: cancelled by implication
    (2.0b rule 61). `listing` must be one complete message; returns the records as they become.
    """
    return tuple(
        cancelled(record, now)
        for key, record in known.items()
        if key[0] == ven
        and key not in listing
        and record.ended_by is not Ending.CANCELLED
        and not _past(record, now)
    )


def _past(record: EventRecord, now: datetime) -> bool:
    duration = record.event.duration
    return duration is not None and record.event.starts_at + record.start_shift + duration <= now


def _revived(record: EventRecord) -> EventRecord:
    """Without any earlier end: a later revision takes a cancel back."""
    return replace(record, ended_at=None, ended_by=None)
