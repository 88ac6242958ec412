"""The local governor: what no message from any network can exceed.

It stands between the timeline and the planner and bounds the ceiling itself: the smallest import,
how fast it may move either way, how soon after a fall it may rise, and how often an hour it may turn.
The largest import is a standing obligation in the timeline and needs nothing here.
"""

from dataclasses import dataclass, replace

from agent.core.policy import Policy
from agent.core.timeline import Ceiling

HOUR_S = 3600.0
TURN_SHARE = 0.01
"""A move of less than this share of the limit is no turn."""


@dataclass(frozen=True, slots=True)
class Governor:
    """Carried from cycle to cycle. Times are the monotonic clock's, s."""

    limit_w: float | None = None
    """The limit let through last, W; None before the first."""
    at_s: float = 0.0
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
) -> tuple[Governor, Ceiling]:
    """Let a ceiling through, bounded.

    `power_w` is the site's import now: a fall starts from there when that is lower than the last
    limit. `free`: the operator called the event off, which neither dwell nor turns may delay.
    """
    wanted_w = max(ceiling.limit_w, policy.min_import_w)
    note = ""
    if wanted_w > ceiling.limit_w:
        note = f"no message can push the site below {policy.min_import_w / 1000:.4g} kW"
    last_w = wanted_w if governor.limit_w is None else governor.limit_w
    dt_s = max(0.0, at_s - governor.at_s)
    turns_s = tuple(t for t in governor.turns_s if at_s - t < HOUR_S)
    governor = replace(governor, at_s=at_s, turns_s=turns_s)
    if wanted_w < last_w:
        start_w = last_w if power_w is None else min(last_w, power_w)
        limit_w = max(wanted_w, start_w - policy.slew_down_w_per_s * dt_s)
        governor = replace(governor, fell_at_s=at_s)
    else:
        held = "" if free else _held_down(governor, wanted_w, policy)
        limit_w = last_w if held else min(wanted_w, last_w + policy.slew_up_w_per_s * dt_s)
        note = held or note
    governor = _turned(governor, limit_w)
    return replace(governor, limit_w=limit_w, note=note), replace(ceiling, limit_w=limit_w)


def _held_down(governor: Governor, wanted_w: float, policy: Policy) -> str:
    """Why a limit may not rise now; empty when it may."""
    if not governor.falling or wanted_w <= governor.extreme_w * (1 + TURN_SHARE):
        return ""
    if governor.at_s - governor.fell_at_s < policy.dwell_s:
        return f"not raised within {policy.dwell_s:.0f} s of a fall"
    if len(governor.turns_s) >= policy.max_turns_per_h:
        return f"turned {len(governor.turns_s)} times within the hour: stays down"
    return ""


def _turned(governor: Governor, limit_w: float) -> Governor:
    """Note a turn once the limit is far enough from its last extreme."""
    extreme_w = governor.extreme_w
    if governor.falling:
        if limit_w > extreme_w * (1 + TURN_SHARE):
            turns_s = (*governor.turns_s, governor.at_s)
            return replace(governor, falling=False, extreme_w=limit_w, turns_s=turns_s)
        return replace(governor, extreme_w=min(extreme_w, limit_w))
    if limit_w < extreme_w * (1 - TURN_SHARE):
        return replace(governor, falling=True, extreme_w=limit_w)
    return replace(governor, extreme_w=max(extreme_w, limit_w))
