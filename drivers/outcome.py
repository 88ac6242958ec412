"""What became of one command to one device or job.

"Six of eight GPUs took it" is an answer, so results are values.
"""

from dataclasses import dataclass
from enum import StrEnum


class Result(StrEnum):
    """How a command to one device or job ended."""

    APPLIED = "applied"
    """Done and read back: the device holds what was asked."""
    CLAMPED = "clamped"
    """Accepted, but something else (a BMC, a vendor tool) holds the device lower than asked."""
    REFUSED = "refused"
    """The device said no (no permission, out of range) or holds something else than it was told.
    Asking again will not help soon."""
    LOST = "lost"
    """No answer, or the device is gone. Its state is unknown: read it back before believing anything."""
    UNSUPPORTED = "unsupported"
    """This device cannot do that at all."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one command to one device or job."""

    key: str
    """The GPU's UUID or the job's id, as the driver lists it."""
    result: Result
    detail: str = ""
    """One sentence for the operator; empty when applied."""

    @property
    def ok(self) -> bool:
        """Whether the device now holds no more than was asked."""
        return self.result in (Result.APPLIED, Result.CLAMPED)
