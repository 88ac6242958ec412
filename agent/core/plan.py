"""What a plan is: a setpoint per lever with its reason, and the shortfall."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.core.timeline import Ceiling


@dataclass(frozen=True, slots=True)
class Cap:
    """A power limit for one GPU."""

    limit_w: float
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to hold, until the next plan. An empty plan is the end of every event."""

    ceiling: Ceiling | None = None
    goal_w: float | None = None
    """What the meter is aimed at, W: the ceiling less its margin."""
    expected_w: float | None = None
    """What the meter should read under this plan, W."""
    caps: Mapping[str, Cap] = field(default_factory=dict)
    """By GPU."""
    pauses: Mapping[str, str] = field(default_factory=dict)
    """Workload id to reason."""
    exhausted: bool = False
    """Whether nothing more can be given: every lever is at its floor."""
    shortfall_w: float = 0.0
    """How far the floors keep the site above its ceiling, W."""
    short_because: tuple[str, ...] = ()
    """What stands in the way of the shortfall, each a sentence."""


NO_PLAN = Plan()
