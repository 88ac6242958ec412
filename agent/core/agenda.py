"""What the grid and the operator ask of the site now: the events as they count, and their timeline. Pure.

An event as it counts may differ from its record: a local stop or a VTN lost for too long ends it,
and its baseline is frozen when it begins to act.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from agent.core.baseline import meter_before
from agent.core.capacity import standing_obligations
from agent.core.event import BY_POLICY, Ending, EventRecord, Key, SignalKind
from agent.core.ledger import Entry, Instant
from agent.core.lifecycle import Phase, phase_of, phase_once_over
from agent.core.policy import Policy
from agent.core.program import BlindRule, Program, program_of
from agent.core.sample import Sample
from agent.core.site import Snapshot
from agent.core.timeline import (
    Obligation,
    SourceKind,
    Timeline,
    obligations_of,
    standing_limit,
    window_of,
)

LOOKAHEAD = timedelta(seconds=1.5)
"""How far the plan looks ahead on the way down: a cycle, and the half second a draw and its reading
take to follow, so that a limit is kept when it comes and not a second later."""
SITE_MARGIN = 0.01
"""Share to stay below the site's own largest import."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything one cycle decides on."""

    now: Instant
    snapshot: Snapshot
    records: Mapping[Key, EventRecord]
    ledger: tuple[Entry, ...]
    samples: Sequence[Sample]
    """Recent samples in order, at least as far back as the longest baseline window."""
    contacts: Mapping[str, datetime | None]
    """By VEN: when its VTN last answered."""
    stopped_at: datetime | None = None
    """Since when the operator's local stop is in force."""
    jobs_listed: bool = True
    limits_void: Collection[str] = ()
    """The VENs whose import limits do not count, after a power outage (`Link.limits_void`)."""


@dataclass(frozen=True, slots=True)
class Agenda:
    """What is asked now."""

    timeline: Timeline
    phases: Mapping[Key, Phase]
    frozen: tuple[EventRecord, ...]
    """Records whose baseline was frozen in this cycle, to be kept."""
    called_off: bool
    """Whether the operator has just called something off, and power may return without delay."""
    still: str
    """Why nothing may rise now; empty when it may."""


def agenda_of(
    inputs: Inputs, programs: tuple[Program, ...], policy: Policy, expected_w: float | None
) -> Agenda:
    """What is asked now. `expected_w` is what the site would draw with nothing restrained, W."""
    at = inputs.now.at
    settled = frozenset(_settled(inputs, programs, policy))
    records = {
        key: _effective(record, inputs, programs)
        for key, record in inputs.records.items()
        if key not in settled
    }
    frozen = tuple(_freeze(records, inputs, programs, expected_w))
    records.update({record.key: _effective(record, inputs, programs) for record in frozen})
    lead = timedelta(seconds=policy.pending_lead_s)
    belongs = {key: program_of(record.event, programs) for key, record in records.items()}
    phases = {key: phase_once_over(inputs.records[key]) for key in settled}
    phases |= {key: phase_of(record, belongs[key], at, lead) for key, record in records.items()}
    return Agenda(
        timeline=_timeline(records, inputs, programs, policy, expected_w),
        phases=phases,
        frozen=tuple(replace(inputs.records[r.key], baseline=r.baseline) for r in frozen),
        called_off=inputs.stopped_at is not None
        or any(_called_off(record, belongs[k], at, policy) for k, record in records.items()),
        still=_still(records, belongs, at),
    )


def _timeline(
    records: Mapping[Key, EventRecord],
    inputs: Inputs,
    programs: tuple[Program, ...],
    policy: Policy,
    expected_w: float | None,
) -> Timeline:
    obligations: list[Obligation] = []
    stand_in_w = policy.max_import_w if expected_w is None else expected_w
    for record in sorted(records.values(), key=_urgency):
        program = program_of(record.event, programs)
        if _long_over(record, program, inputs.now.at, policy):
            continue
        obligations += obligations_of(
            record,
            program,
            policy.max_import_w,
            stand_in_w,
            policy.rebound_guard_s,
        )
    owners = Counter(event_id for _, event_id in inputs.records)
    obligations = [_told_apart(o) if owners[o.source.name] > 1 else o for o in obligations]
    if inputs.stopped_at is not None:
        # Nothing new is set then: only what is on its way back still counts.
        return Timeline(tuple(o for o in obligations if o.source.kind is SourceKind.EVENT))
    own = standing_limit("largest import", policy.max_import_w, SITE_MARGIN)
    standing = standing_obligations(records.values(), programs, inputs.now.at, inputs.limits_void)
    return Timeline((*obligations, *standing, own))


def _told_apart(obligation: Obligation) -> Obligation:
    """The obligation of an event whose id several VENs know: its source says which VEN's it is."""
    source = obligation.source
    detail = f"{source.detail}, VEN {source.ven}" if source.detail else f"VEN {source.ven}"
    return replace(obligation, source=replace(source, detail=detail))


def _urgency(record: EventRecord) -> tuple[bool, int, datetime, datetime, Key]:
    """Which of two events is named where both ask for the same: the more urgent, then the one that
    began first (2.0b rule 18). What is held is the lowest limit of all, whoever asks for it.
    """
    rank = record.event.priority
    return (rank is None, rank or 0, record.starts_at, record.received_at, record.key)


def _settled(inputs: Inputs, programs: tuple[Program, ...], policy: Policy) -> Iterator[Key]:
    """Events so long over that nothing can come of them: a cheap test for a book of thousands."""
    longest_ramp_s = max((program.ramp_up_s for program in programs), default=0.0)
    after = timedelta(seconds=max(policy.rebound_guard_s, policy.dwell_s))
    for key, record in inputs.records.items():
        end = record.ended_at if record.ends_at is None else record.ends_at
        if end is None or (inputs.stopped_at is not None and inputs.stopped_at < end):
            continue
        ramp_up = record.event.ramp_up or timedelta(0)
        over_at = end + max(ramp_up, timedelta(seconds=longest_ramp_s))
        if record.way_back is not None:
            over_at = max(over_at, record.way_back.done_at)
        if inputs.now.at > over_at + after:
            yield key


def _long_over(record: EventRecord, program: Program, at: datetime, policy: Policy) -> bool:
    done_at = window_of(record, program).done_at
    if done_at is not None and record.way_back is not None:
        done_at = max(done_at, record.way_back.done_at)
    return done_at is not None and at > done_at + timedelta(seconds=policy.rebound_guard_s)


def _effective(record: EventRecord, inputs: Inputs, programs: tuple[Program, ...]) -> EventRecord:
    """The record as it counts now: ended by a local stop, or let go because all went blind."""
    ends = [] if inputs.stopped_at is None else [inputs.stopped_at]
    program = program_of(record.event, programs)
    contact = inputs.contacts.get(record.event.ven)
    if (
        program.when_blind is BlindRule.NORMAL
        and record.event.duration is None
        and not record.event.standing
        and contact is not None
        and (inputs.now.at - contact).total_seconds() > program.blind_after_s
    ):
        ends.append(contact + timedelta(seconds=program.blind_after_s))
    if record.ended_at is not None:
        ends.append(record.ended_at)
    hold_until = window_of(record, program).hold_until
    if not ends or (hold_until is not None and min(ends) >= hold_until):
        return record
    if min(ends) == record.ended_at:
        return record  # by what ended it, which may be a cancel
    return replace(record, ended_at=min(ends), ended_by=Ending.OPTED_OUT)


def _freeze(
    records: Mapping[Key, EventRecord],
    inputs: Inputs,
    programs: tuple[Program, ...],
    expected_w: float | None,
) -> list[EventRecord]:
    """Freeze the baseline of every event that begins to act now."""
    frozen = []
    for record in records.values():
        program = program_of(record.event, programs)
        window = window_of(record, program)
        begun = inputs.now.at + LOOKAHEAD >= window.ramp_from
        if record.baseline is not None or not window.acted or not begun:
            continue
        if window.done_at is not None and inputs.now.at >= window.done_at:
            continue
        length = timedelta(seconds=program.baseline_window_s)
        at = min(window.ramp_from, inputs.now.at)
        baseline = meter_before(inputs.samples, at, length, expected_w, inputs.now.at)
        if baseline is not None:
            frozen.append(replace(record, baseline=baseline))
    return frozen


def _still(records: Mapping[Key, EventRecord], belongs: Mapping[Key, Program], at: datetime) -> str:
    for key, record in records.items():
        for_real = belongs[key].shed_on_test or not record.event.test
        if for_real and any(record.values_at(SignalKind.BLACK_START, at)):
            return f"black start, event {record.event.event_id}: not cleared yet"
    return ""


def _called_off(record: EventRecord, program: Program, at: datetime, policy: Policy) -> bool:
    """Whether the operator has just called an event off, and power may return without delay."""
    if record.ended_by is not Ending.OPTED_OUT or record.opt.by == BY_POLICY:
        return False
    done_at = window_of(record, program).done_at
    return done_at is not None and at <= done_at + timedelta(seconds=policy.dwell_s)
