"""From what should hold, what is seen and what the ledger remembers to what is still to do.

Level-triggered: each cycle compares anew, so that a restart, a lost command or a meddling operator
needs no path of its own. The end of every event is this code with an empty plan. Called again on
the state its own actions lead to, it finds nothing to do; interrupted after any one of them and
called again, it leads to the same end.

Order of the actions: first what lowers power (caps, then pauses), then what raises it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from agent.core.ledger import SAME_LIMIT_W, Entry, Instant, Lever
from agent.core.plan import Cap, Plan
from agent.core.site import Gpu, Health, Workload, WorkloadState


@dataclass(frozen=True, slots=True)
class Write:
    """Write an entry ahead, then make the device hold it: a limit set, or a workload paused."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Undo:
    """Bring back what an entry replaced, then drop the entry."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Drop:
    """Drop an entry without touching the device: there is nothing of ours left on it."""

    entry: Entry
    why: str
    """Empty when the device is as it was; else a sentence for the operator."""


@dataclass(frozen=True, slots=True)
class Confirm:
    """Note in the ledger that a setpoint was read back, or renew its lease. Touches no device."""

    entry: Entry


Action = Write | Undo | Drop | Confirm


@dataclass(frozen=True, slots=True)
class Observed:
    """What is seen of the levers, by GPU and by workload."""

    gpus: Mapping[str, Gpu]
    workloads: Mapping[str, Workload]
    blocked: Collection[str] = ()
    """Refused or did not answer lately; left alone until they are due again."""
    fought: Collection[str] = ()
    """Moved by somebody else more often than we set them again."""
    jobs_listed: bool = True
    """Whether every jobs engine answered: only then is a workload that is not listed gone."""


def reconcile(
    plan: Plan,
    observed: Observed,
    ledger: Sequence[Entry],
    demands_w: Mapping[str, float],
    now: Instant,
    lease: Instant,
    renew_s: float,
) -> tuple[Action, ...]:
    """The actions, in order, that lead from what is seen to the plan.

    `demands_w`: unrestrained draw by GPU and by workload, W, remembered with each new entry.
    `lease`: until when what this plan holds may stand; entries further than `renew_s` from it are
    rewritten.
    """
    entries = {entry.ident: entry for entry in ledger}
    actions: list[Action] = []
    for uuid, cap in plan.caps.items():
        entry = entries.pop((Lever.CAP, uuid), None)
        gpu = observed.gpus.get(uuid)
        if gpu is not None and uuid not in observed.blocked:
            wanted = _wanted_cap(uuid, cap, gpu, entry, demands_w.get(uuid, 0.0), plan, now, lease)
            actions += _hold_cap(wanted, entry, gpu, observed, renew_s)
    for workload_id, reason in plan.pauses.items():
        entry = entries.pop((Lever.PAUSE, workload_id), None)
        workload = observed.workloads.get(workload_id)
        if workload is not None and workload_id not in observed.blocked:
            demand_w = entry.demand_w if entry else demands_w.get(workload_id, 0.0)
            wanted = _wanted_pause(workload_id, reason, demand_w, plan, now, lease)
            actions += _hold_pause(wanted, entry, workload, observed, renew_s)
    for entry in entries.values():
        actions += _let_go(entry, observed, now)
    return tuple(sorted(actions, key=lambda action: _stage(action, observed)))


def stages(actions: Sequence[Action], observed: Observed) -> Iterator[tuple[Action, ...]]:
    """The actions in batches that may run together; each batch waits for the one before."""
    for _, batch in groupby(actions, key=lambda action: _stage(action, observed)):
        yield tuple(batch)


def _wanted_cap(
    uuid: str,
    cap: Cap,
    gpu: Gpu,
    entry: Entry | None,
    demand_w: float,
    plan: Plan,
    now: Instant,
    lease: Instant,
) -> Entry:
    """The entry that the plan calls for. The original is what was found before our first write."""
    found_w = gpu.limit_w if gpu.limit_w is not None else gpu.default_limit_w
    return Entry(
        lever=Lever.CAP,
        key=uuid,
        setpoint_w=cap.limit_w,
        confirmed_w=entry.confirmed_w if entry else None,
        original_w=entry.original_w if entry else found_w,
        demand_w=demand_w,
        source=_source(plan),
        reason=cap.reason,
        written=now,
        lease=lease,
    )


def _wanted_pause(
    workload_id: str, reason: str, demand_w: float, plan: Plan, now: Instant, lease: Instant
) -> Entry:
    return Entry(
        Lever.PAUSE, workload_id, None, None, None, demand_w, _source(plan), reason, now, lease
    )


def _source(plan: Plan) -> str:
    return str(plan.ceiling.source) if plan.ceiling else ""


def _hold_cap(
    wanted: Entry, entry: Entry | None, gpu: Gpu, observed: Observed, renew_s: float
) -> Iterator[Action]:
    """Set, set again, confirm or renew one cap, or leave it.

    A limit that somebody else put lower than ours asks for no more than we do: it is not fought.
    """
    setpoint_w, found_w = wanted.setpoint_w, gpu.limit_w
    assert setpoint_w is not None
    if gpu.health is not Health.OK or found_w is None or gpu.uuid in observed.fought:
        return
    if entry is None:
        yield Write(wanted)
    elif abs(found_w - setpoint_w) < SAME_LIMIT_W:
        held = replace(wanted, written=entry.written, confirmed_w=setpoint_w)
        if entry.confirmed_w != setpoint_w or _renewal_due(entry, wanted, renew_s):
            yield Confirm(held)
    elif found_w > setpoint_w or entry.is_ours(found_w):
        same = entry.setpoint_w is not None and abs(entry.setpoint_w - setpoint_w) < SAME_LIMIT_W
        written = entry.written if same else wanted.written
        # What is there now and is ours must stay known as ours until the new setpoint is read back.
        confirmed_w = found_w if entry.is_ours(found_w) else entry.confirmed_w
        yield Write(replace(wanted, written=written, confirmed_w=confirmed_w))


def _hold_pause(
    wanted: Entry, entry: Entry | None, workload: Workload, observed: Observed, renew_s: float
) -> Iterator[Action]:
    if entry is None:
        if workload.state is WorkloadState.RUNNING:
            yield Write(wanted)
    elif workload.state is WorkloadState.RUNNING and workload.workload_id not in observed.fought:
        yield Write(replace(wanted, written=entry.written))
    elif _renewal_due(entry, wanted, renew_s):
        yield Confirm(replace(entry, lease=wanted.lease))


def _let_go(entry: Entry, observed: Observed, now: Instant) -> Iterator[Action]:
    """What an entry that no plan wants any more comes to.

    A GPU or workload that is not listed may come back with our setpoint on it, so its entry stays
    until a reboot has taken that away for certain.
    """
    due = entry.key not in observed.blocked
    if entry.lever is Lever.PAUSE:
        if entry.key in observed.workloads:
            # Whatever it seems to be: a pause that came late, or the freezer of a job that was
            # killed, is ours to lift, and to resume what runs does no harm.
            if due:
                yield Undo(entry)
        elif observed.jobs_listed and entry.written.boot_id != now.boot_id:
            yield Drop(entry, f"{entry.key} is not there since the reboot: nothing to resume")
        return
    gpu = observed.gpus.get(entry.key)
    if gpu is None:
        if entry.written.boot_id != now.boot_id:
            yield Drop(entry, f"GPU {entry.key} is not there since the reboot: nothing to restore")
    elif gpu.health is not Health.OK or gpu.limit_w is None:
        return
    elif entry.original_w is None or abs(gpu.limit_w - entry.original_w) < SAME_LIMIT_W:
        yield Drop(entry, "")
    elif entry.is_ours(gpu.limit_w):
        if due:
            yield Undo(entry)
    else:
        yield Drop(
            entry,
            f"GPU {gpu.host}/{gpu.index} is at {gpu.limit_w:.0f} W, which is neither ours nor what "
            f"it had ({entry.original_w:.0f} W): somebody else set it, so it is left alone",
        )


def _renewal_due(entry: Entry, wanted: Entry, renew_s: float) -> bool:
    return abs((wanted.lease.at - entry.lease.at).total_seconds()) > renew_s


def _stage(action: Action, observed: Observed) -> int:
    """0 ledger only, 1 caps down, 2 pauses, 3 resumes, 4 caps up and back."""
    match action:
        case Drop() | Confirm():
            return 0
        case Undo(entry):
            return 3 if entry.lever is Lever.PAUSE else 4
        case Write(entry):
            if entry.lever is Lever.PAUSE:
                return 2
            gpu = observed.gpus[entry.key]
            lowers = gpu.limit_w is None or (entry.setpoint_w or 0.0) <= gpu.limit_w
            return 1 if lowers else 4
