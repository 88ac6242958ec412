"""Time at the edges. The core never reads a clock; it is given these readings.

Event boundaries are wall-clock instants, so a stepped system clock would move them. `SystemClock`
therefore runs on the monotonic clock from the wall time it started with, follows small corrections
as NTP makes them, and takes over a step only when a witness (the VTN's own Date header) agrees with
it. Until then it says so and carries on.
"""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from agent.core.ledger import Instant

STEP_S = 5.0
"""A difference larger than this between the system's clock and ours is a step, not a correction."""
WITNESS_S = 30.0
"""How far a witness may be off and still be agreed with: its seconds are whole and it travelled."""


class Clock(Protocol):
    """What the edges need of time."""

    def instant(self) -> Instant:
        """Now, on both clocks."""

    def now(self) -> datetime:
        """Now on the wall, aware UTC."""

    def witness(self, at: datetime) -> None:
        """Somebody else's idea of now, aware UTC."""

    def step(self) -> timedelta | None:
        """By how much the system's clock was stepped away from ours, if it was and we did not follow."""

    async def sleep(self, delay_s: float) -> None:
        """Wait."""


class SystemClock:
    """The host's clocks, immune to steps that nobody confirms."""

    def __init__(self) -> None:
        self._boot_id = boot_id()
        self._boot0_s = _boot_s()
        self._wall0_s = time.time()

    def instant(self) -> Instant:
        """Now, on both clocks."""
        boot_s = _boot_s()
        steady_s = self._wall0_s + (boot_s - self._boot0_s)
        difference_s = time.time() - steady_s
        if abs(difference_s) <= STEP_S:
            self._wall0_s += difference_s
            steady_s += difference_s
        return Instant(datetime.fromtimestamp(steady_s, UTC), self._boot_id, boot_s)

    def now(self) -> datetime:
        """Now on the wall, aware UTC."""
        return self.instant().at

    def witness(self, at: datetime) -> None:
        """Follow a step of the system's clock if `at` agrees with it rather than with us."""
        ours_s = self.instant().at.timestamp()
        system_s = time.time()
        seen_s = at.timestamp()
        if abs(seen_s - system_s) <= WITNESS_S and abs(seen_s - ours_s) > WITNESS_S:
            self._wall0_s += system_s - ours_s

    def step(self) -> timedelta | None:
        """By how much the system's clock was stepped away from ours, if we did not follow."""
        difference_s = time.time() - self.instant().at.timestamp()
        return timedelta(seconds=difference_s) if abs(difference_s) > STEP_S else None

    async def sleep(self, delay_s: float) -> None:
        """Wait on the event loop's own clock."""
        await asyncio.sleep(delay_s)


def boot_id() -> str:
    """The kernel's random id of this boot; empty where there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _boot_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
