"""One step of an enrolment, as it was found."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How a step stands."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing, and nothing that stands in the way."""
    MISSING = "todo"
    """Somebody's next move; what it is stands in the remedy."""
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Step:
    """What was looked at or done, what came of it, and what to do about that."""

    name: str
    state: State
    text: str
    remedy: str = ""
    """Empty where there is nothing to do."""

    @property
    def good(self) -> bool:
        """Whether nothing is left to do here."""
        return self.state in (State.OK, State.NOTE)
