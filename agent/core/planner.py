"""From a ceiling and a snapshot to the cheapest mix of caps and pauses.

Work is slowed where a watt costs the least value first: every workload's throughput curve is cut
into pieces of equal cost a watt, the pieces of all workloads are sorted, and the plan takes them
from the cheapest until the ceiling is met; the last one is taken in part, so that caps land on the
target. A pause frees a whole workload at once and is weighed against that; it comes in where caps at
their floors are not enough, and caps on the rest then give back what the pause freed too much.
Nothing is ever parked between its floor and a pause: there the curve collapses.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from agent.core.estimate import BINDING_SHARE, Estimates
from agent.core.groups import Group, Held, groups_of, limit_without_us
from agent.core.plan import Cap, Plan
from agent.core.policy import Policy
from agent.core.site import Health, Snapshot
from agent.core.timeline import Ceiling

STICKY = 0.5
"""A workload that is paused already counts this share of a pause's cost: pauses do not flap."""
EQUAL_SHARE = 0.02
"""Costs this close are equal: alike workloads give alike, whatever noise is in their estimates."""
DEADBAND_SHARE = 0.004
"""Caps in force are left alone while they meet the budget to within this share of the goal. A new plan
aims at the middle of the band, so that noise either way finds room in it."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which groups pause, and how much draw the caps still have to save."""

    paused: frozenset[int]
    save_w: float
    cost: float
    short_w: float


def plan(
    ceiling: Ceiling,
    snapshot: Snapshot,
    estimates: Estimates,
    held: Held,
    policy: Policy,
    trim_w: float,
) -> Plan:
    """The cheapest plan that meets a ceiling, and the shortfall where the floors forbid it.

    `trim_w` is the slow correction from the meter, in GPU watts: positive lets the GPUs draw more
    than the model thinks they may.
    """
    goal_w = ceiling.limit_w * (1 - ceiling.margin)
    gain = snapshot.watts_per_gpu_watt
    groups, fixed_w = groups_of(snapshot, estimates, held, policy, firm=ceiling.firm)
    other_w = estimates.other_w or 0.0
    budget_w = (goal_w - other_w) / gain + trim_w - fixed_w
    slack_w = DEADBAND_SHARE * goal_w / gain
    choice = _choose(groups, budget_w - slack_w / 2, policy)
    bind = 1.0 if ceiling.firm else BINDING_SHARE
    caps_w = _settled(groups, choice, budget_w, slack_w, bind) or _allot(groups, choice, bind)
    drawn_w = _drawn(groups, choice.paused, caps_w, bind)
    expected_w = other_w + gain * (fixed_w + drawn_w - trim_w)
    exhausted = choice.short_w > 0
    shortfall_w = max(0.0, expected_w - ceiling.limit_w) if exhausted else 0.0
    return Plan(
        ceiling=ceiling,
        goal_w=goal_w,
        expected_w=expected_w,
        caps=_caps(groups, choice, caps_w, held, ceiling),
        pauses=_pauses(groups, choice, ceiling),
        exhausted=exhausted,
        shortfall_w=shortfall_w,
        short_because=_obstacles(snapshot, groups, held, choice, other_w)
        if shortfall_w > 0
        else (),
    )


def _choose(groups: Sequence[Group], budget_w: float, policy: Policy) -> Choice:
    """The pauses that, with caps on the rest, cost least: short as little as possible, then cheap."""
    draw_w = sum(group.draw_w + group.stuck_w for group in groups)
    pieces = sorted(
        (
            (piece.cost_per_w, piece.saves_w, i)
            for i, group in enumerate(groups)
            for piece in group.pieces
        )
    )
    stays = {
        i
        for i, group in enumerate(groups)
        if _dependable(group) and group.paused_s is not None and group.paused_s < policy.min_pause_s
    }
    order = sorted(
        (i for i, group in enumerate(groups) if _dependable(group) and i not in stays),
        key=lambda i: _pause_cost(groups[i]) / max(1.0, _pause_saving(groups[i])),
    )
    best: Choice | None = None
    for count in range(len(order) + 1):
        paused = frozenset(stays | set(order[:count]))
        save_w = draw_w - sum(_pause_saving(groups[i]) for i in paused) - budget_w
        choice = _priced(groups, pieces, paused, save_w)
        if best is None or (round(choice.short_w), choice.cost) < (round(best.short_w), best.cost):
            best = choice
        if save_w <= 0:
            break
    assert best is not None
    return best


def _dependable(group: Group) -> bool:
    return group.may_pause and not group.doubtful


def _pause_saving(group: Group) -> float:
    return max(0.0, group.draw_w + group.stuck_w - group.paused_draw_w)


def _pause_cost(group: Group) -> float:
    return group.value * (1.0 if group.paused_s is None else STICKY)


def _priced(
    groups: Sequence[Group],
    pieces: Sequence[tuple[float, float, int]],
    paused: frozenset[int],
    save_w: float,
) -> Choice:
    """What it costs to save `save_w` by caps, cheapest pieces first, with these groups paused."""
    cost = sum(_pause_cost(groups[i]) for i in paused)
    left_w = max(0.0, save_w)
    for cost_per_w, saves_w, i in pieces:
        if left_w <= 0:
            break
        if i not in paused:
            taken_w = min(left_w, saves_w)
            cost += cost_per_w * taken_w
            left_w -= taken_w
    return Choice(paused, max(0.0, save_w), cost, left_w)


def _allot(groups: Sequence[Group], choice: Choice, bind: float) -> list[float | None]:
    """Each group's cap, W: pieces from the cheapest; those of equal cost give in equal parts."""
    saved_w = [0.0] * len(groups)
    left_w = choice.save_w
    pieces = sorted(
        (piece.cost_per_w, piece.saves_w, i)
        for i, group in enumerate(groups)
        if i not in choice.paused
        for piece in group.pieces
    )
    for level in _levels(pieces):
        if left_w <= 0:
            break
        available_w = sum(saves_w for _, saves_w, _ in level)
        part = min(1.0, left_w / available_w)
        for _, saves_w, i in level:
            saved_w[i] += saves_w * part
        left_w -= available_w * part
    return [
        group.held_w if i in choice.paused else _cap_for(group, saved_w[i], bind)
        for i, group in enumerate(groups)
    ]


def _levels(pieces: Sequence[tuple[float, float, int]]) -> Iterator[list[tuple[float, float, int]]]:
    """Pieces (cost, saving, group) in ascending cost, those of equal cost together."""
    level: list[tuple[float, float, int]] = []
    for piece in pieces:
        if level and piece[0] > level[0][0] * (1 + EQUAL_SHARE):
            yield level
            level = []
        level.append(piece)
    if level:
        yield level


def _cap_for(group: Group, saved_w: float, bind: float) -> float | None:
    """The cap that saves `saved_w` over the group: whole watts, downwards, never under the floor."""
    if saved_w <= 0:
        return None
    return max(
        math.ceil(group.floor_w), math.floor((group.draw_w - saved_w) / len(group.gpus) / bind)
    )


def _settled(
    groups: Sequence[Group], choice: Choice, budget_w: float, slack_w: float, bind: float
) -> list[float | None] | None:
    """The caps in force, if they still meet the budget closely enough to be left alone."""
    if choice.paused != {i for i, group in enumerate(groups) if group.paused_s is not None}:
        return None
    caps_w = [group.held_w for group in groups]
    if any(
        cap_w is not None and cap_w < g.floor_w for cap_w, g in zip(caps_w, groups, strict=True)
    ):
        return None
    spare_w = budget_w - _drawn(groups, choice.paused, caps_w, bind)
    return caps_w if 0 <= spare_w <= slack_w and any(caps_w) else None


def _drawn(
    groups: Sequence[Group], paused: Collection[int], caps_w: Sequence[float | None], bind: float
) -> float:
    return sum(
        group.paused_draw_w
        if i in paused
        else group.stuck_w
        + len(group.gpus) * (group.each_w if cap_w is None else min(group.each_w, bind * cap_w))
        for i, (group, cap_w) in enumerate(zip(groups, caps_w, strict=True))
    )


def _caps(
    groups: Sequence[Group],
    choice: Choice,
    caps_w: Sequence[float | None],
    held: Held,
    ceiling: Ceiling,
) -> dict[str, Cap]:
    caps: dict[str, Cap] = {}
    for i, (group, planned_w) in enumerate(zip(groups, caps_w, strict=True)):
        cap_w = planned_w
        if not group.gpus and choice.save_w > 0:
            cap_w = math.ceil(group.floor_w) if group.held_w is None else group.held_w
        if cap_w is None:
            continue
        for gpu in (*group.gpus, *group.tried):
            limit_w = limit_without_us(gpu, held)
            if cap_w < limit_w:
                what = f"{group.name} gives {limit_w - cap_w:.0f} W of {limit_w:.0f} W"
                if i in choice.paused:
                    what = f"kept for the return of {group.name}, which is paused"
                caps[gpu.uuid] = Cap(cap_w, f"{ceiling.source}: {what}")
    return caps


def _pauses(groups: Sequence[Group], choice: Choice, ceiling: Ceiling) -> dict[str, str]:
    """The reason of each pause. While short, those that failed are tried again, too."""
    tried = {i for i, g in enumerate(groups) if g.may_pause and g.doubtful and choice.short_w > 0}
    return {
        workload_id: f"{ceiling.source}: {groups[i].name} may be paused, caps alone fall short"
        for i in sorted(choice.paused | tried)
        if (workload_id := groups[i].workload_id) is not None
    }


def _obstacles(
    snapshot: Snapshot, groups: Sequence[Group], held: Held, choice: Choice, other_w: float
) -> tuple[str, ...]:
    """Why no more can be shed, in words."""
    owned = {uuid for workload in snapshot.workloads for uuid in workload.gpus}
    acted_on = {gpu.uuid for group in groups for gpu in group.gpus}
    protected = [
        w.name for w in snapshot.workloads if w.terms.tier == 0 and not w.terms.may_pause and w.gpus
    ]
    unowned = sum(gpu.uuid not in owned and gpu.uuid not in acted_on for gpu in snapshot.gpus)
    silent = [f"{gpu.host}/{gpu.index}" for gpu in snapshot.gpus if gpu.health is not Health.OK]
    refused = sum(gpu.uuid in held.doubtful for gpu in snapshot.gpus)
    at_floor = [group.name for i, group in enumerate(groups) if i not in choice.paused]
    reasons = [
        f"protected: {', '.join(protected)}" if protected else "",
        f"at their floor: {', '.join(at_floor)}" if at_floor else "",
        f"{unowned} GPUs run nothing that agreed to give" if unowned else "",
        f"not answering: GPU {', '.join(silent)}" if silent else "",
        f"{refused} GPUs refused the last command" if refused else "",
        f"beside its GPUs the site draws {other_w / 1000:.3g} kW",
    ]
    return tuple(reason for reason in reasons if reason)
