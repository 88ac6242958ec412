"""One cycle's thinking: from everything observed to everything to do. Pure.

Composes the timeline, the governor, the estimates, the trim, the planner and reconcile, and holds
the one rule that spans them: power is never raised because something went blind.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from agent.core import estimate, planner, trim
from agent.core.agenda import LOOKAHEAD, Agenda, Inputs, agenda_of
from agent.core.governor import govern, idle
from agent.core.groups import Held, limit_without_us, longest_pause_s
from agent.core.ledger import Entry, Instant, Lever, lease_for
from agent.core.memory import Memory, blocked, count_reasserts
from agent.core.plan import NO_PLAN, Cap, Plan
from agent.core.policy import Policy
from agent.core.program import Program
from agent.core.reconcile import Action, Observed, reconcile
from agent.core.site import MeterQuality, Snapshot
from agent.core.timeline import Ceiling, Obligation, SourceKind, Timeline

RISE_SHARE = 0.002
"""A goal that grew by less than this share has not risen."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a cycle decided."""

    memory: Memory
    agenda: Agenda
    plan: Plan
    observed: Observed
    actions: tuple[Action, ...]
    expected_w: float | None
    """What the site would draw now with nothing restrained, W."""


def decide(
    memory: Memory, inputs: Inputs, programs: tuple[Program, ...], policy: Policy
) -> Decision:
    """Think one cycle through."""
    now, snapshot = inputs.now, inputs.snapshot
    dt_s = 1.0 if memory.at_s is None else max(0.0, now.boot_s - memory.at_s)
    held = _held(inputs, memory, policy)
    estimates = estimate.update(memory.estimates, snapshot, _remembered_demands(inputs), dt_s)
    expected_w = _unrestrained(snapshot, estimates, held)
    agenda = agenda_of(inputs, programs, policy, expected_w)
    memory = replace(
        memory,
        at_s=now.boot_s,
        estimates=estimates,
        trim=trim.update(memory.trim, memory.plan, snapshot, estimates, dt_s),
        meter_lost_at_s=_meter_lost_at(memory, inputs),
    )
    memory, plan = _plan(memory, inputs, agenda, held, policy)
    observed = Observed(
        gpus={gpu.uuid: gpu for gpu in snapshot.gpus},
        workloads={workload.workload_id: workload for workload in snapshot.workloads},
        blocked=blocked(memory, now.boot_s),
        fought=_fought(memory, policy),
        jobs_listed=inputs.jobs_listed,
    )
    lease, renew_s = _lease(agenda.timeline, plan, now, policy)
    demands_w = _demands(snapshot, estimates)
    actions = reconcile(plan, observed, inputs.ledger, demands_w, now, lease, renew_s)
    memory = replace(
        memory,
        reasserts=count_reasserts(memory.reasserts, actions, inputs.ledger, memory.blocks),
        resting=_resting(memory, inputs, plan),
        blocks=memory.blocks if plan.caps or plan.pauses or inputs.ledger else {},
    )
    return Decision(memory, agenda, plan, observed, actions, expected_w)


def _plan(
    memory: Memory,
    inputs: Inputs,
    agenda: Agenda,
    held: Held,
    policy: Policy,
) -> tuple[Memory, Plan]:
    """The plan for now, and the memory with it and the governor's state in it."""
    now, timeline = inputs.now, agenda.timeline
    ceilings = [timeline.ceiling_at(at) for at in (now.at, now.at + LOOKAHEAD)]
    asked = min((c for c in ceilings if c is not None), key=lambda c: c.limit_w, default=None)
    if asked is None:
        return replace(memory, plan=NO_PLAN, governor=idle(memory.governor, now.boot_s)), NO_PLAN
    power_w = estimate.site_power(inputs.snapshot, memory.estimates)
    governor, ceiling = govern(
        memory.governor,
        asked,
        power_w,
        policy,
        now.boot_s,
        free=agenda.called_off,
        still=agenda.still,
    )
    still_held = _still_held(timeline, inputs)
    if memory.meter_lost_at_s is not None and still_held:
        lost_s = now.boot_s - memory.meter_lost_at_s
        ceiling = replace(ceiling, firm=ceiling.firm or lost_s > policy.meter_grace_s)
    if memory.estimates.other_w is None:
        plan = _as_held(inputs.ledger, ceiling) if still_held else NO_PLAN
    else:
        plan = planner.plan(
            ceiling, inputs.snapshot, memory.estimates, held, policy, memory.trim.trim_w
        )
        plan = _counting_the_governor(plan, asked, governor.note)
        if still_held and _blind(inputs) and not _goal_rose(plan, memory.plan):
            plan = _not_above(plan, inputs.ledger)
    return replace(memory, governor=governor, plan=plan), plan


def _counting_the_governor(plan: Plan, asked: Ceiling, note: str) -> Plan:
    """The plan with what the governor let through above the ask counted as short, too."""
    if plan.ceiling is None or plan.ceiling.limit_w <= asked.limit_w or plan.expected_w is None:
        return plan
    short_w = plan.expected_w - asked.limit_w
    if short_w <= plan.shortfall_w:
        return plan
    why = (f"local governor: {note}", *plan.short_because)
    return replace(plan, shortfall_w=short_w, short_because=why)


def _still_held(timeline: Timeline, inputs: Inputs) -> bool:
    """Whether an ask is in force that setpoints are or will be held for.

    After a restart the ledger tells: what it holds for the site's own limit or a guard is held for
    something that goes on.
    """
    at = inputs.now.at
    going_on = {str(o.source) for o in timeline.obligations if o.limit_at(at) is not None}
    return bool(_asked(timeline, at)) or any(e.source in going_on for e in inputs.ledger)


def _resting(memory: Memory, inputs: Inputs, plan: Plan) -> dict[str, float]:
    """Until when (monotonic, s) workloads run after a pause that was as long as it may be.

    As long as that pause: work that is stopped again at once has had no time to recover.
    """
    now_s = inputs.now.boot_s
    resting = {key: until_s for key, until_s in memory.resting.items() if now_s < until_s}
    paused = {e.key: e for e in inputs.ledger if e.lever is Lever.PAUSE}
    for workload in inputs.snapshot.workloads:
        entry, longest_s = paused.get(workload.workload_id), longest_pause_s(workload)
        if entry is None or entry.key in plan.pauses:
            continue
        if _paused_s(entry, inputs) >= longest_s:
            resting[entry.key] = now_s + longest_s
    return resting


def _blind(inputs: Inputs) -> bool:
    return bool(inputs.snapshot.blind) or inputs.snapshot.meter.quality is MeterQuality.BAD


def _goal_rose(plan: Plan, before: Plan) -> bool:
    if plan.goal_w is None or before.goal_w is None:
        return False
    return plan.goal_w > before.goal_w * (1 + RISE_SHARE)


def _as_held(ledger: Sequence[Entry], ceiling: Ceiling) -> Plan:
    """A plan that keeps what is in force, for when there is nothing to plan by."""
    return _not_above(Plan(ceiling=ceiling), ledger)


def _not_above(plan: Plan, ledger: Sequence[Entry]) -> Plan:
    """The plan with nothing raised above what is in force."""
    caps, pauses = dict(plan.caps), dict(plan.pauses)
    for entry in ledger:
        if entry.lever is Lever.PAUSE:
            pauses.setdefault(entry.key, entry.reason)
        elif entry.setpoint_w is not None:
            planned = caps.get(entry.key)
            if planned is None or planned.limit_w > entry.setpoint_w:
                caps[entry.key] = Cap(entry.setpoint_w, entry.reason)
    return replace(plan, caps=caps, pauses=pauses)


def _asked(timeline: Timeline, at: datetime) -> list[Obligation]:
    """The events' obligations in force, now or as far as the plan looks ahead."""
    return [
        o
        for o in timeline.obligations
        if o.source.kind is SourceKind.EVENT
        and (o.limit_at(at) is not None or o.limit_at(at + LOOKAHEAD) is not None)
    ]


def _lease(timeline: Timeline, plan: Plan, now: Instant, policy: Policy) -> tuple[Instant, float]:
    """Until when what is set now may stand, and how far an entry may be off before it is renewed.

    As long as the last event in force (or about to be) asks, and the grace. An open-ended event and
    the site's own limit are leased for longer at a time, the guard after an event for the grace.
    """
    ends = [o.until() for o in _asked(timeline, now.at)]
    known = [end for end in ends if end is not None]
    until = max(known) if known and len(known) == len(ends) else None
    guards = plan.ceiling is not None and plan.ceiling.source.kind is SourceKind.REBOUND
    short = until is not None or (guards and not ends)
    grace_s = policy.lease_grace_s if short else policy.open_lease_s
    return lease_for(until, now, timedelta(seconds=grace_s)), grace_s / 2


def _paused_s(entry: Entry, inputs: Inputs) -> float:
    return max(0.0, (inputs.now.at - entry.written.at).total_seconds())


def _held(inputs: Inputs, memory: Memory, policy: Policy) -> Held:
    caps = [entry for entry in inputs.ledger if entry.lever is Lever.CAP]
    return Held(
        caps_w={e.key: e.setpoint_w for e in caps if e.setpoint_w is not None},
        originals_w={e.key: e.original_w for e in caps if e.original_w is not None},
        paused_s={e.key: _paused_s(e, inputs) for e in inputs.ledger if e.lever is Lever.PAUSE},
        doubtful=frozenset(memory.blocks) | _fought(memory, policy),
        resting=frozenset(memory.resting),
    )


def _remembered_demands(inputs: Inputs) -> dict[str, float]:
    """Unrestrained draw by GPU as the ledger remembers it, W; a paused workload's in equal parts."""
    demands_w = {
        e.key: e.demand_w for e in inputs.ledger if e.lever is Lever.CAP and e.demand_w > 0
    }
    members = {w.workload_id: w.gpus for w in inputs.snapshot.workloads}
    for entry in inputs.ledger:
        gpus = members.get(entry.key, ())
        if entry.lever is Lever.PAUSE and gpus and entry.demand_w > 0:
            for uuid in gpus:
                demands_w.setdefault(uuid, entry.demand_w / len(gpus))
    return demands_w


def _demands(snapshot: Snapshot, estimates: estimate.Estimates) -> dict[str, float]:
    demands_w = dict(estimates.demand_w)
    for workload in snapshot.workloads:
        demands_w[workload.workload_id] = sum(
            estimates.demand_w.get(uuid, 0.0) for uuid in workload.gpus
        )
    return demands_w


def _unrestrained(snapshot: Snapshot, estimates: estimate.Estimates, held: Held) -> float | None:
    """What the site would draw with nothing of ours in force, W."""
    if estimates.other_w is None:
        return None
    gpus_w = sum(
        min(estimates.demand_w.get(gpu.uuid, 0.0), limit_without_us(gpu, held))
        for gpu in snapshot.gpus
    )
    return estimates.other_w + snapshot.watts_per_gpu_watt * gpus_w


def _meter_lost_at(memory: Memory, inputs: Inputs) -> float | None:
    if inputs.snapshot.meter.quality is not MeterQuality.BAD:
        return None
    return inputs.now.boot_s if memory.meter_lost_at_s is None else memory.meter_lost_at_s


def _fought(memory: Memory, policy: Policy) -> frozenset[str]:
    return frozenset(key for key, count in memory.reasserts.items() if count > policy.max_reasserts)
