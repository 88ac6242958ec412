"""Problems are state, not log lines: raised once, shown while they last, cleared when they are over."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Severity(StrEnum):
    """How much a problem matters, from little to much."""

    INFO = "info"
    """Nothing is worse than it should be yet, but somebody has something to do."""
    WARNING = "warning"
    """Something is worse than it should be; what is promised still holds."""
    CRITICAL = "critical"
    """Something that is promised may not hold: somebody should look now."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong now."""

    key: str
    """Stable name: `meter`, `drift/<GPU or workload>`."""
    severity: Severity
    text: str
    """One sentence: what and where."""


@dataclass(frozen=True, slots=True)
class Raised:
    """A problem and since when."""

    problem: Problem
    since: datetime


def update(
    known: Mapping[str, Raised], present: Iterable[Problem], now: datetime
) -> tuple[dict[str, Raised], tuple[Problem, ...], tuple[Raised, ...]]:
    """What is wrong now, what has just been raised or become graver, and what has just been cleared.

    A problem keeps its start while its key lasts, though its text may change.
    """
    current: dict[str, Raised] = {}
    for problem in present:
        before = known.get(problem.key)
        current[problem.key] = Raised(problem, before.since if before else now)
    raised = tuple(
        r.problem
        for key, r in current.items()
        if key not in known or _rank(r.problem) > _rank(known[key].problem)
    )
    cleared = tuple(r for key, r in known.items() if key not in current)
    return current, raised, cleared


def _rank(problem: Problem) -> int:
    return list(Severity).index(problem.severity)
