"""The site's own rules: what may be touched, how far, how fast, and when to say no."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from itertools import pairwise

from agent.core.event import BY_POLICY, Event, Opt, OptDecision
from agent.core.program import Program
from agent.core.site import Terms, WorkloadClass

TIER_SLOWDOWN: Mapping[int, float] = {0: 0.0, 1: 0.10, 2: 0.25, 3: 0.50}
"""Largest average slow-down a tier tolerates (the field's Flex 0-3, arXiv 2507.00909)."""

Curve = tuple[tuple[float, float], ...]
"""Throughput against power: (share of the GPU's largest limit, share of full throughput), ascending."""

_INFERENCE: Curve = (
    (0.25, 0.23),
    (0.5, 0.78),
    (0.625, 0.87),
    (0.75, 0.93),
    (0.875, 0.976),
    (1.0, 1.0),
)
_FINE_TUNING: Curve = (
    (0.25, 0.24),
    (0.5, 0.79),
    (0.625, 0.89),
    (0.75, 0.94),
    (0.875, 0.97),
    (1.0, 1.0),
)
_PRE_TRAINING: Curve = (
    (0.25, 0.19),
    (0.5, 0.63),
    (0.625, 0.78),
    (0.75, 0.87),
    (0.875, 0.92),
    (1.0, 1.0),
)

CURVES: Mapping[WorkloadClass, Curve] = {
    WorkloadClass.REAL_TIME: _INFERENCE,
    WorkloadClass.LATENCY_TOLERANT: _INFERENCE,
    WorkloadClass.BATCH: _FINE_TUNING,
    WorkloadClass.TRAINING: _PRE_TRAINING,
}
"""Measured on A100 400 W parts under caps of 100-400 W (Emerald AI's published sweep, May 2025)."""


PROTECTED = Terms(tier=0)
"""What nobody agreed to anything about is not touched."""


@dataclass(frozen=True, slots=True)
class WorkloadRule:
    """One line of the administrator's map: jobs that match get this class and these terms."""

    name: str
    """Shell pattern on the job's name; `*` matches all."""
    kind: WorkloadClass
    terms: Terms
    labels: Mapping[str, str] = field(default_factory=dict)
    """Shell patterns on the job's labels; all must match."""


@dataclass(frozen=True, slots=True)
class Blackout:
    """A stretch in which the site takes part in nothing."""

    start: datetime
    end: datetime
    why: str


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything the core needs to know about the site's rules."""

    max_import_w: float
    """The site's largest import, W: a standing limit that no message can raise."""
    min_import_w: float = 0.0
    """No message can push the site below this, W."""
    slew_down_w_per_s: float = float("inf")
    slew_up_w_per_s: float = float("inf")
    dwell_s: float = 30.0
    """A ceiling that fell is not raised again for this long."""
    max_turns_per_h: int = 12
    """How often an hour the ceiling may turn from falling to rising; then it stays down."""
    rebound_guard_s: float = 3600.0
    cap_floor_share: float = 0.5
    """No cap below this share of a GPU's largest limit: the knee, under which pausing is better."""
    min_pause_s: float = 60.0
    """A paused workload stays paused at least this long while its event lasts."""
    idle_share: float = 0.16
    """What a paused GPU still draws, as a share of its largest limit, until it is measured."""
    lease_grace_s: float = 60.0
    """How long a setpoint may outlive the ask it serves."""
    open_lease_s: float = 900.0
    """Lease of a setpoint that serves an ask without an end; renewed while the agent lives."""
    pending_lead_s: float = 600.0
    """An event is pending, not just notified, this long before it begins to act."""
    max_reasserts: int = 5
    """How often a limit that somebody else moved is set again before we stop fighting."""
    meter_grace_s: float = 30.0
    """How long a lost meter is bridged by the last known difference between it and the GPUs."""
    min_notice_s: float = 0.0
    """Events with less notice are opted out of, unless their program has a notice of its own."""
    blackouts: tuple[Blackout, ...] = ()
    stopped: str = ""
    """Why the operator's local stop is in force; empty when it is not."""
    rules: tuple[WorkloadRule, ...] = ()
    default_terms: Terms = PROTECTED
    default_class: WorkloadClass = WorkloadClass.BATCH


def classify(name: str, labels: Mapping[str, str], policy: Policy) -> tuple[WorkloadClass, Terms]:
    """The class and terms of a job: the first rule that matches, else the default."""
    for rule in policy.rules:
        if fnmatchcase(name, rule.name) and all(
            fnmatchcase(labels.get(key, ""), pattern) for key, pattern in rule.labels.items()
        ):
            return rule.kind, rule.terms
    return policy.default_class, policy.default_terms


def decide_opt(
    event: Event, program: Program | None, policy: Policy, now: datetime, noticed_at: datetime
) -> OptDecision:
    """Whether the site takes part in an event, and why. `noticed_at`: when its start was heard of."""
    if policy.stopped:
        return OptDecision(Opt.OUT, BY_POLICY, now, f"local stop: {policy.stopped}")
    if program is None:
        return OptDecision(
            Opt.OUT, BY_POLICY, now, f"no program for market context {event.program!r}"
        )
    if event.standing:
        # The connection's limit holds through our holidays, too, and without notice.
        return OptDecision(Opt.IN, BY_POLICY, now, f"standing limit of {program.name}")
    end = None if event.duration is None else event.starts_at + event.duration
    for blackout in policy.blackouts:
        if event.starts_at < blackout.end and (end is None or end > blackout.start):
            return OptDecision(Opt.OUT, BY_POLICY, now, f"blackout: {blackout.why}")
    notice_s = (event.starts_at - noticed_at).total_seconds()
    least_s = least_notice_s(program, policy)
    if least_s > 0 and notice_s < least_s:
        text = f"notice of {max(0.0, notice_s):.0f} s is below {least_s:.0f} s"
        return OptDecision(Opt.OUT, BY_POLICY, now, text)
    return OptDecision(Opt.IN, BY_POLICY, now, f"enrolled in {program.name}")


def least_notice_s(program: Program, policy: Policy) -> float:
    """The notice under which events of a program are opted out of: its own, or else the site's."""
    return policy.min_notice_s if program.min_notice_s is None else program.min_notice_s


def throughput_at(curve: Curve, share: float) -> float:
    """Share of full throughput at a power limit of `share` of the largest, by straight lines."""
    if share >= curve[-1][0]:
        return curve[-1][1]
    for (x0, y0), (x1, y1) in pairwise(((0.0, 0.0), *curve)):
        if share <= x1:
            return y0 + (y1 - y0) * max(0.0, share - x0) / (x1 - x0)
    return curve[-1][1]


def share_for(curve: Curve, throughput: float) -> float:
    """The smallest power share that still gives `throughput`; the inverse of `throughput_at`."""
    for (x0, y0), (x1, y1) in pairwise(((0.0, 0.0), *curve)):
        if throughput <= y1:
            return x0 + (x1 - x0) * max(0.0, throughput - y0) / (y1 - y0)
    return curve[-1][0]
