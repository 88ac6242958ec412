"""What becomes of an event as it arrives: duplicate, reordered, modified, cancelled or new.

Whatever order messages come in, the newest valid state is what stays (2.0b rules 56-62): a higher
revision replaces, an equal one repeats the stored answer, a lower one is an error and changes
nothing. The random start is drawn once and kept over all modifications (rule 30).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from agent.core.event import Ending, Event, EventRecord, Key, Opt, OptDecision, WayBack
from agent.core.lifecycle import cancelled, opted_in, opted_out
from agent.core.policy import Policy, decide_opt
from agent.core.program import Program, program_for, program_of
from agent.core.timeline import asked_at, way_back_of, window_of


class Verdict(StrEnum):
    """What an arriving event turned out to be."""

    NEW = "new"
    MODIFIED = "modified"
    CANCELLED = "cancelled"
    REPEATED = "repeated"
    OUTDATED = "outdated"
    """A lower revision than the one held: refused."""
    CONFLICTING = "conflicting"
    """The revision held, asking for something else: refused, since only a higher one replaces."""
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

    `draw` is a random number in [0, 1), used once per event for its start, and again only where the
    window for it changes before the event has begun (rule 30). An event that was
    cancelled by implication (`missing_from`) and is listed again is on again; answers to polls come in
    order, so that it cannot be an old message. A cancel is always confirmed (2.0b rule 36); the event
    it ends is the one we know, whatever else the message changes in it.
    """
    if known is None:
        if event.cancelled:
            return Intake(Verdict.UNKNOWN_CANCEL, None, Opt.IN)
        decision = _decision(event, programs, policy, now, now)
        record = EventRecord(event, now, decision, *_drawn(event, draw))
        if decision.opt is Opt.OUT:
            record = opted_out(record, now)
        return Intake(Verdict.NEW, record, decision.opt)
    if event.revision < known.event.revision:
        return Intake(Verdict.OUTDATED, known, known.opt.opt)
    if event.revision == known.event.revision and known.event.cancelled >= event.cancelled:
        if known.ended_by is Ending.CANCELLED and not known.event.cancelled:
            record = modified(known, event, programs, policy, now, draw)
            return Intake(Verdict.MODIFIED, record, record.opt.opt)
        opt = Opt.IN if event.cancelled else known.opt.opt
        same = event.cancelled or _asks_the_same(known.event, event)
        return Intake(Verdict.REPEATED if same else Verdict.CONFLICTING, known, opt)
    if event.cancelled:
        ending = replace(known.event, revision=event.revision, cancelled=True)
        return Intake(Verdict.CANCELLED, cancelled(replace(known, event=ending), now), Opt.IN)
    record = modified(known, event, programs, policy, now, draw)
    return Intake(Verdict.MODIFIED, record, record.opt.opt)


def modified(
    known: EventRecord,
    event: Event,
    programs: tuple[Program, ...],
    policy: Policy,
    now: datetime,
    draw: float,
) -> EventRecord:
    """The record of an event that the grid changed: its decision stands, unless policy made it.

    A frozen baseline stays frozen once the event has begun to act; a modification that moves that
    into the future begins afresh. A later revision takes a cancel back. Where the event now asks for
    less than it did, the site comes back from that as it would from its end.
    """
    decision = known.opt
    if decision.by == "policy":
        noticed_at = known.received_at if event.starts_at == known.event.starts_at else now
        decision = _decision(event, programs, policy, now, noticed_at)
    start_shift, end_shift = _shifts(known, event, now, draw)
    changed = replace(
        known,
        event=event,
        opt=decision,
        start_shift=start_shift,
        end_shift=end_shift,
    )
    begins = window_of(changed, program_of(event, programs)).ramp_from
    if begins > now and event.starts_at != known.event.starts_at:
        changed = replace(changed, baseline=None)
    if decision.opt is Opt.IN:
        changed = replace(changed, ended_at=None, ended_by=None)
    else:
        ended_at = now if known.ended_at is None else min(now, known.ended_at)
        changed = replace(changed, ended_at=ended_at, ended_by=Ending.OPTED_OUT)
    return replace(changed, way_back=_way_back(known, changed, programs, policy, now))


def _asks_the_same(known: Event, event: Event) -> bool:
    """Whether two descriptions of an event differ in nothing but what may change unannounced."""
    return known == replace(
        event,
        created_at=known.created_at,
        comment=known.comment,
        response_required=known.response_required,
    )


def _drawn(event: Event, draw: float) -> tuple[timedelta, timedelta]:
    """How much later than planned an event starts, and ends once it is cancelled."""
    shift = (event.start_early + event.start_window) * draw - event.start_early
    # A delayed end is 2.0b's rule 65, for windows of its kind.
    return shift, timedelta(0) if event.start_early else shift


def _shifts(
    known: EventRecord, event: Event, now: datetime, draw: float
) -> tuple[timedelta, timedelta]:
    """The same for an event that was changed: as drawn before, unless its window itself changed and it
    has not begun. What has begun is not let go and begun again.
    """
    before = known.event
    start_shift = max(-event.start_early, min(known.start_shift, event.start_window))
    same = (before.start_early, before.start_window) == (event.start_early, event.start_window)
    if same or event.starts_at + start_shift <= now:
        return start_shift, min(known.end_shift, event.start_window)
    return _drawn(event, draw)


def _way_back(
    known: EventRecord,
    changed: EventRecord,
    programs: tuple[Program, ...],
    policy: Policy,
    now: datetime,
) -> WayBack | None:
    """The way back from the event as it was known, where the changed one asks for less at `now`."""
    most_w = policy.max_import_w
    back = way_back_of(known, program_of(known.event, programs), most_w, now)
    asked_w = asked_at(changed, program_of(changed.event, programs), most_w, now)
    if back is None or (asked_w is not None and asked_w <= back.from_w):
        return known.way_back
    return back


def reconsidered(
    known: EventRecord, programs: tuple[Program, ...], policy: Policy, now: datetime
) -> EventRecord:
    """The record once the site's rules changed: a local stop leaves every event, its end takes up again
    what nobody but policy had left, and what an operator had decided to take part in.
    """
    if known.ended_by is Ending.CANCELLED or known.is_past(now):
        return known
    by_policy = known.opt.by == "policy"
    if not by_policy and not policy.stopped:
        return known
    decision = _decision(known.event, programs, policy, now, known.received_at)
    if by_policy and not policy.stopped and known.overruled is not None:
        decision = known.overruled
    if decision.opt is known.opt.opt:
        return known
    overruled = None if by_policy else known.opt
    decided = replace(known, opt=decision, overruled=overruled)
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
        and not record.is_past(now)
    )


def _decision(
    event: Event,
    programs: tuple[Program, ...],
    policy: Policy,
    now: datetime,
    noticed_at: datetime,
) -> OptDecision:
    """What policy decides about an event.

    One of which nothing is understood is left although it asks for nothing here: taking part would
    let the utility count on an answer that cannot come.
    """
    decision = decide_opt(event, program_for(event, programs), policy, now, noticed_at)
    if decision.opt is Opt.IN and not event.understood:
        why = "none of its signals is known here: kept and shown, sheds nothing"
        return replace(decision, opt=Opt.OUT, why=why)
    return decision
