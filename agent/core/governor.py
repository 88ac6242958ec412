"""The local governor: what no message from any network can exceed.

It stands between the timeline and the planner and bounds the ceiling itself: the smallest import,
how fast it may move either way, how soon after a fall it may rise, and how often an hour it may turn.
The largest import is a standing obligation in the timeline and needs nothing here.
"""

import math
from dataclasses import dataclass, replace

from agent.core.policy import Policy
from agent.core.timeline import Ceiling

HOUR_S = 3600.0
CYCLE_S = 1.0
"""What the first cycle counts for."""
TURN_SHARE = 0.01
"""A move of less than this share of the limit is no turn."""


@dataclass(frozen=True, slots=True)
class Governor:
    """Carried from cycle to cycle. Times are the monotonic clock's, s."""

    limit_w: float | None = None
    """The limit let through last, W; None where the cycle before had none."""
    at_s: float | None = None
    """When the cycle before was."""
    falling: bool = False
    """Which way the last turn went."""
    extreme_w: float = 0.0
    """The lowest limit since it began to fall, or the highest since it began to rise, W."""
    fell_at_s: float = float("-inf")
    """When the limit was last lowered."""
    turns_s: tuple[float, ...] = ()
    """When it turned from falling to rising, within the last hour."""
    note: str = ""
    """What is being held back and why, for people; empty when nothing is."""


def govern(
    governor: Governor,
    ceiling: Ceiling,
    power_w: float | None,
    policy: Policy,
    at_s: float,
    *,
    free: bool = False,
    still: str = "",
) -> tuple[Governor, Ceiling]:
    """Let a ceiling through, bounded.

    `power_w` is the site's import now, where a fall starts from when that is lower than the last
    limit. `free`: the operator called the event off, which neither dwell nor turns may delay.
    `still`: why nothing may rise at all; empty when it may.
    """
    wanted_w, note = _wanted(governor, ceiling, power_w, policy, still)
    dt_s = CYCLE_S if governor.at_s is None else max(0.0, at_s - governor.at_s)
    falling_on = governor.fell_at_s == governor.at_s
    last_w = governor.limit_w
    if last_w is None:
        last_w = wanted_w if power_w is None else max(wanted_w, power_w)
    governor = replace(
        governor,
        at_s=at_s,
        falling=governor.falling and not free,
        turns_s=tuple(t for t in governor.turns_s if at_s - t < HOUR_S),
    )
    if wanted_w < last_w:
        # Only where it begins: a fall that started anew from the power each cycle, a margin below the
        # limit, would be faster than it may.
        start_w = last_w if power_w is None or falling_on else min(last_w, power_w)
        limit_w = max(wanted_w, start_w - _most_w(policy.slew_down_w_per_s, dt_s))
        governor = replace(governor, fell_at_s=at_s)
        if limit_w > wanted_w:
            note = f"falls by no more than {policy.slew_down_w_per_s * 0.06:.4g} kW a minute"
    else:
        held = (still if wanted_w > last_w else "") or _held_down(governor, wanted_w, policy, at_s)
        limit_w = last_w if held else min(wanted_w, last_w + _most_w(policy.slew_up_w_per_s, dt_s))
        note = held or note
    governor = _turned(governor, limit_w, at_s)
    return replace(governor, limit_w=limit_w, note=note), replace(ceiling, limit_w=limit_w)


def _wanted(
    governor: Governor, ceiling: Ceiling, power_w: float | None, policy: Policy, still: str
) -> tuple[float, str]:
    """The limit to come to, W, and why that is not the ceiling's. Where nothing may rise, and no limit of
    before is known, it is no more than the power now.
    """
    limit_w = ceiling.limit_w
    if still and governor.limit_w is None and power_w is not None and power_w < limit_w:
        return max(power_w, policy.min_import_w), still
    if limit_w < policy.min_import_w:
        least_w = policy.min_import_w
        return least_w, f"no message can push the site below {least_w / 1000:.4g} kW"
    return limit_w, ""


def idle(governor: Governor, at_s: float) -> Governor:
    """The governor after a cycle without a ceiling: the next one is reached from the power then."""
    return replace(governor, limit_w=None, at_s=at_s, note="")


def _most_w(slew_w_per_s: float, dt_s: float) -> float:
    return math.inf if math.isinf(slew_w_per_s) else slew_w_per_s * dt_s


def _held_down(governor: Governor, wanted_w: float, policy: Policy, at_s: float) -> str:
    """Why a limit may not rise now; empty when it may."""
    if not governor.falling or wanted_w <= governor.extreme_w * (1 + TURN_SHARE):
        return ""
    if at_s - governor.fell_at_s < policy.dwell_s:
        return f"not raised within {policy.dwell_s:.0f} s of a fall"
    if len(governor.turns_s) >= policy.max_turns_per_h:
        return f"turned {len(governor.turns_s)} times within the hour: stays down"
    return ""


def _turned(governor: Governor, limit_w: float, at_s: float) -> Governor:
    """Note a turn once the limit is far enough from its last extreme."""
    extreme_w = governor.extreme_w
    if governor.falling:
        if limit_w > extreme_w * (1 + TURN_SHARE):
            turns_s = (*governor.turns_s, at_s)
            return replace(governor, falling=False, extreme_w=limit_w, turns_s=turns_s)
        return replace(governor, extreme_w=min(extreme_w, limit_w))
    if limit_w < extreme_w * (1 - TURN_SHARE):
        return replace(governor, falling=True, extreme_w=limit_w)
    return replace(governor, extreme_w=max(extreme_w, limit_w))
