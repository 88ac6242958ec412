"""What a site could shed now, and what its tiers give: the planner's own answer to a limit of nothing."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from agent.core.outlook import plan_for_nothing
from agent.core.policy import PROTECTED, TIER_SLOWDOWN, Policy
from agent.core.site import Snapshot, Terms

Change = Callable[[Terms], Terms]


@dataclass(frozen=True, slots=True)
class TierCapacity:
    """What the work of one tier gives."""

    tier: int
    slowdown: float
    """How much slower its work may run, as a share."""
    workloads: tuple[str, ...]
    caps_w: float
    """By caps alone."""
    pauses_w: float
    """With all that may be paused, too."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the site could shed at one instant."""

    now_w: float
    """Its import, metered."""
    shed_w: float
    """By all caps and pauses together."""
    capped: int
    """GPUs."""
    paused: int
    """Jobs."""
    tiers: tuple[TierCapacity, ...]


def capacity_of(snapshot: Snapshot, policy: Policy) -> Capacity:
    """What could be shed now; the meter must have been read."""
    now_w = snapshot.meter.power_w or 0.0
    least = plan_for_nothing(snapshot, policy)
    return Capacity(
        now_w=now_w,
        shed_w=max(0.0, now_w - (least.expected_w or now_w)),
        capped=len(least.caps),
        paused=len(least.pauses),
        tiers=tuple(_tier(snapshot, policy, tier) for tier in TIER_SLOWDOWN),
    )


def _tier(snapshot: Snapshot, policy: Policy, tier: int) -> TierCapacity:
    """Found by protecting all other work; its GPUs without a job count as far as the policy says."""

    def alone(terms: Terms) -> Terms:
        return terms if terms.tier == tier else PROTECTED

    def unpaused(terms: Terms) -> Terms:
        return replace(alone(terms), may_pause=False)

    idle_w, by_caps_w, by_all_w = (
        plan_for_nothing(*_under(snapshot, policy, each)).expected_w or 0.0
        for each in (lambda _: PROTECTED, unpaused, alone)
    )
    return TierCapacity(
        tier=tier,
        slowdown=TIER_SLOWDOWN[tier],
        workloads=tuple(w.name for w in snapshot.workloads if w.terms.tier == tier),
        caps_w=max(0.0, idle_w - by_caps_w),
        pauses_w=max(0.0, idle_w - by_all_w),
    )


def _under(snapshot: Snapshot, policy: Policy, change: Change) -> tuple[Snapshot, Policy]:
    """The site as it would be under other terms."""
    workloads = tuple(replace(w, terms=change(w.terms)) for w in snapshot.workloads)
    changed = replace(policy, default_terms=change(policy.default_terms))
    return replace(snapshot, workloads=workloads), changed
