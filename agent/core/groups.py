"""Who can give power, in which steps and at what cost: the planner's view of the workloads."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from agent.core.estimate import BINDING_SHARE, Estimates, expected_draw
from agent.core.policy import CURVES, TIER_SLOWDOWN, Curve, Policy, share_for, throughput_at
from agent.core.site import Gpu, Health, Snapshot, Workload, WorkloadState

ACTIVE = (WorkloadState.RUNNING, WorkloadState.PAUSED)
SETTLE_S = 3.0
"""A workload paused for less than this may still be on its way down."""


@dataclass(frozen=True, slots=True)
class Held:
    """What is in force already: plans lean on it so that they do not flap."""

    caps_w: Mapping[str, float] = field(default_factory=dict)
    """By GPU: the cap of ours in force, W."""
    originals_w: Mapping[str, float] = field(default_factory=dict)
    """By GPU: the limit that our cap replaced, W."""
    paused_s: Mapping[str, float] = field(default_factory=dict)
    """By workload id: for how long it has been paused by us."""
    doubtful: Collection[str] = ()
    """GPUs and workloads that do not do as they are told: tried again, and not counted on meanwhile."""
    resting: Collection[str] = ()
    """Workloads that were paused for as long as they may be, and run for a while now."""


@dataclass(frozen=True, slots=True)
class Group:
    """GPUs that are decided together: all of a synchronous job's share one cap.

    Those whose last command failed are counted as they are, though a pause stops them, too.
    """

    name: str
    workload_id: str | None
    gpus: tuple[Gpu, ...]
    """Those whose caps are counted on."""
    tried: tuple[Gpu, ...]
    """Those that get the same cap though their last command failed."""
    stuck_w: float
    """What `tried` draw as they are, W."""
    each_w: float
    """Mean unrestrained draw of one GPU, W."""
    floor_w: float
    """Lowest cap a GPU of it may get, W."""
    value: float
    """What its full throughput is worth."""
    pieces: tuple["Piece", ...]
    """Its cap range from the top down to its floor, ascending in cost."""
    paused_draw_w: float
    """What the whole group would draw paused, W."""
    may_pause: bool
    doubtful: bool
    """Its last pause or resume failed: a pause of it may be tried, but not counted on."""
    paused_s: float | None
    """For how long it has been paused by us; None when it is not."""
    held_w: float | None
    """The cap of ours in force on it, W."""

    @property
    def draw_w(self) -> float:
        """Unrestrained draw of the GPUs that are counted on, W."""
        return self.each_w * len(self.gpus)


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of one group's cap range, all of it at one cost."""

    cost_per_w: float
    """Value lost a watt of draw saved."""
    saves_w: float
    """Draw saved from the top of it to the bottom, W over the whole group."""


def groups_of(
    snapshot: Snapshot, estimates: Estimates, held: Held, policy: Policy, *, firm: bool
) -> tuple[list[Group], float]:
    """The groups that can be acted on, and what all other GPUs draw, W."""
    gpus = {gpu.uuid: gpu for gpu in snapshot.gpus}
    owned = {uuid for workload in snapshot.workloads for uuid in workload.gpus}
    spare = [
        Workload(
            uuid,
            f"GPU {gpu.host}/{gpu.index}",
            policy.default_class,
            policy.default_terms,
            (uuid,),
            WorkloadState.RUNNING,
        )
        for uuid, gpu in gpus.items()
        if uuid not in owned
    ]
    groups: list[Group] = []
    acted_on: set[str] = set()
    taken = {uuid for w in snapshot.workloads if _protected(w) for uuid in w.gpus}
    # Where jobs share a GPU, it goes by the terms of the one that agreed to the least.
    for workload in sorted((*snapshot.workloads, *spare), key=lambda w: w.terms.tier):
        own = [u for u in workload.gpus if u in gpus and u not in taken]
        well = [gpus[u] for u in own if gpus[u].health is Health.OK]
        members = tuple(gpu for gpu in well if gpu.uuid not in held.doubtful)
        tried = tuple(gpu for gpu in well if gpu.uuid in held.doubtful)
        if well and _flexible(workload, held):
            groups.append(_group(workload, members, tried, estimates, held, policy, firm=firm))
            acted_on.update(gpu.uuid for gpu in well)
            taken.update(own)  # a GPU that several share gives once
    fixed_w = sum(
        _fixed_draw(gpu, estimates, firm=firm) for uuid, gpu in gpus.items() if uuid not in acted_on
    )
    return groups, fixed_w


def _protected(workload: Workload) -> bool:
    return workload.state in ACTIVE and not (workload.terms.tier > 0 or workload.terms.may_pause)


def _flexible(workload: Workload, held: Held) -> bool:
    """Whether a workload may be touched at all. One that somebody else paused is left alone."""
    if workload.state is WorkloadState.PAUSED and workload.workload_id not in held.paused_s:
        return False
    return workload.state in ACTIVE and not _protected(workload)


def _group(
    workload: Workload,
    members: tuple[Gpu, ...],
    tried: tuple[Gpu, ...],
    estimates: Estimates,
    held: Held,
    policy: Policy,
    *,
    firm: bool,
) -> Group:
    alike = members or tried
    limits_w = [limit_without_us(gpu, held) for gpu in alike]
    draws_w = [
        limit_w if firm else min(estimates.demand_w.get(gpu.uuid, limit_w), BINDING_SHARE * limit_w)
        for gpu, limit_w in zip(alike, limits_w, strict=True)
    ]
    each_w = sum(draws_w) / len(alike)
    top_w = each_w if firm else each_w / BINDING_SHARE
    full_w = max(gpu.max_limit_w for gpu in alike)
    floor_w, worth = _floor(workload, alike, top_w, full_w, policy)
    paused_s = held.paused_s.get(workload.workload_id)
    held_caps = [held.caps_w[gpu.uuid] for gpu in alike if gpu.uuid in held.caps_w]
    curve, saved_per_cap_w = CURVES[workload.kind], each_w / top_w * len(members)
    return Group(
        name=workload.name,
        workload_id=workload.workload_id if workload.terms.may_pause else None,
        gpus=members,
        tried=tried,
        stuck_w=sum(_fixed_draw(gpu, estimates, firm=firm) for gpu in tried),
        each_w=each_w,
        floor_w=floor_w,
        value=workload.terms.weight * len(members + tried),
        pieces=_pieces(curve, top_w, floor_w, full_w, worth * len(members), saved_per_cap_w)
        # Its floor is its draw, but for the last digit: that is no piece.
        if members and worth and workload.terms.tier > 0
        else (),
        paused_draw_w=_paused_draw(members + tried, paused_s, policy),
        may_pause=_may_pause(workload, paused_s, held),
        doubtful=workload.workload_id in held.doubtful,
        paused_s=paused_s,
        held_w=min(held_caps, default=None),
    )


def _floor(
    workload: Workload, gpus: tuple[Gpu, ...], top_w: float, full_w: float, policy: Policy
) -> tuple[float, float]:
    """The lowest cap a GPU of a workload may get, W, and the value of its throughput, a unit of the curve."""
    curve = CURVES[workload.kind]
    whole = throughput_at(curve, top_w / full_w)
    slowest = (1 - TIER_SLOWDOWN[workload.terms.tier]) * whole
    floor_w = max(
        policy.cap_floor_share * full_w,
        share_for(curve, slowest) * full_w,
        *(gpu.min_limit_w for gpu in gpus),
    )
    return floor_w, workload.terms.weight / whole if whole else 0.0


def _may_pause(workload: Workload, paused_s: float | None, held: Held) -> bool:
    if not workload.terms.may_pause or workload.workload_id in held.resting:
        return False
    return paused_s is None or paused_s < longest_pause_s(workload)


def longest_pause_s(workload: Workload) -> float:
    """For how long a workload may be paused in one go, s."""
    return math.inf if workload.terms.max_pause_s is None else workload.terms.max_pause_s


def _paused_draw(members: tuple[Gpu, ...], paused_s: float | None, policy: Policy) -> float:
    """Measured once the pause has had time to show, else assumed: power is the last word."""
    assumed_w = policy.idle_share * sum(gpu.max_limit_w for gpu in members)
    if paused_s is None or paused_s < SETTLE_S:
        return assumed_w
    return sum(gpu.power_w or 0.0 for gpu in members)


def _fixed_draw(gpu: Gpu, estimates: Estimates, *, firm: bool) -> float:
    """What a GPU that is not acted on is counted at: a lost one at all it may draw."""
    limit_w = gpu.max_limit_w if gpu.enforced_w is None else gpu.enforced_w
    if firm or gpu.health is Health.LOST:
        return limit_w
    return expected_draw(gpu, estimates.demand_w.get(gpu.uuid, limit_w), None)


def limit_without_us(gpu: Gpu, held: Held) -> float:
    """The limit that a GPU has without us, W."""
    known_w = held.originals_w.get(gpu.uuid)
    if known_w is None:
        known_w = gpu.limit_w if gpu.enforced_w is None else gpu.enforced_w
    return gpu.max_limit_w if known_w is None else known_w


def _pieces(
    curve: Curve, top_w: float, floor_w: float, full_w: float, worth: float, draw_per_cap_w: float
) -> tuple[Piece, ...]:
    """Cut the cap range into pieces of ascending cost.

    Where the measured curve is cheaper further down than higher up, the two pieces become one at
    their mean cost: only then is taking the cheapest first the best there is.
    """
    knots_w = [share * full_w for share, _ in curve if floor_w < share * full_w < top_w]
    pieces: list[Piece] = []
    for high_w, low_w in pairwise((top_w, *reversed(knots_w), floor_w)):
        if high_w <= low_w:
            continue
        saves_w = (high_w - low_w) * draw_per_cap_w
        loss = throughput_at(curve, high_w / full_w) - throughput_at(curve, low_w / full_w)
        piece = Piece(worth * loss / saves_w, saves_w)
        while pieces and pieces[-1].cost_per_w > piece.cost_per_w:
            above = pieces.pop()
            both_w = above.saves_w + piece.saves_w
            cost = above.cost_per_w * above.saves_w + piece.cost_per_w * piece.saves_w
            piece = Piece(cost / both_w, both_w)
        pieces.append(piece)
    return tuple(pieces)
