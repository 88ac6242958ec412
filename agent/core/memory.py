"""What the core carries from one cycle to the next, and how it learns from what its actions came to.

None of it must survive a restart: the events, the ledger and the samples do, and the rest is learned
again within seconds.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from agent.core.estimate import Estimates
from agent.core.governor import Governor
from agent.core.ledger import Entry
from agent.core.plan import NO_PLAN, Plan
from agent.core.reconcile import Action, Write
from agent.core.trim import Trim

FIRST_BLOCK_S, LONGEST_BLOCK_S = 1.0, 60.0


@dataclass(frozen=True, slots=True)
class Block:
    """A device or workload that is left alone for a while, longer after every failure."""

    until_s: float
    failures: int
    detail: str
    """What it answered, for people."""


@dataclass(frozen=True, slots=True)
class Memory:
    """The core's state between cycles."""

    at_s: float | None = None
    """Monotonic time of the last cycle, s."""
    plan: Plan = NO_PLAN
    estimates: Estimates = field(default_factory=Estimates)
    trim: Trim = field(default_factory=Trim)
    governor: Governor = field(default_factory=Governor)
    blocks: Mapping[str, Block] = field(default_factory=dict)
    reasserts: Mapping[str, int] = field(default_factory=dict)
    """How often a confirmed setpoint was found moved by somebody else, by GPU or workload."""
    resting: Mapping[str, float] = field(default_factory=dict)
    """Until when a workload runs that was paused for as long as it may be, by workload, s."""
    meter_lost_at_s: float | None = None


@dataclass(frozen=True, slots=True)
class Feedback:
    """What one command to one device or workload came to."""

    key: str
    ok: bool
    detail: str = ""


def learn(memory: Memory, feedback: Iterable[Feedback], at_s: float) -> Memory:
    """Block what failed, for twice as long each time up to a minute; unblock what worked."""
    blocks = dict(memory.blocks)
    for answer in feedback:
        if answer.ok:
            blocks.pop(answer.key, None)
        else:
            failures = blocks[answer.key].failures + 1 if answer.key in blocks else 1
            pause_s = min(LONGEST_BLOCK_S, FIRST_BLOCK_S * 2 ** (failures - 1))
            blocks[answer.key] = Block(at_s + pause_s, failures, answer.detail)
    return replace(memory, blocks=blocks)


def blocked(memory: Memory, at_s: float) -> frozenset[str]:
    """What is to be left alone now."""
    return frozenset(key for key, block in memory.blocks.items() if at_s < block.until_s)


def count_reasserts(
    known: Mapping[str, int],
    actions: Sequence[Action],
    ledger: Sequence[Entry],
    failing: Collection[str],
) -> dict[str, int]:
    """Count the setpoints that are set again because somebody else moved them.

    The count of a device goes with its ledger entry: the next event starts from zero. What is in
    `failing` never came to hold, so nobody moved it.
    """
    entries = {entry.key: entry for entry in ledger}
    counts = {key: count for key, count in known.items() if key in entries}
    for action in actions:
        if not isinstance(action, Write) or action.entry.key in failing:
            continue
        before = entries.get(action.entry.key)
        if before is not None and before.written == action.entry.written and _was_held(before):
            counts[before.key] = counts.get(before.key, 0) + 1
    return counts


def _was_held(entry: Entry) -> bool:
    return entry.setpoint_w is None or entry.confirmed_w == entry.setpoint_w
