"""When to try again, and waiting that can be cut short."""

import asyncio
import random

from agent.clock import Clock
from agent.openadr.http import BusyError

FIRST_S = 1.0
LONGEST_S = 60.0


class Backoff:
    """Truncated exponential back-off with jitter: 1 s doubling to 60 s, each cut by up to half."""

    def __init__(self, rng: random.Random, first_s: float = FIRST_S) -> None:
        self._rng = rng
        self._first_s = first_s
        self._base_s = first_s

    def after(self, error: Exception | None = None, ceiling_s: float = LONGEST_S) -> float:
        """How long to wait after this failure, s; no less than the other side asked for."""
        base_s = min(self._base_s, ceiling_s)
        self._base_s = min(self._base_s * 2, max(ceiling_s, self._first_s))
        asked_s = error.retry_after_s if isinstance(error, BusyError) else 0.0
        return max(base_s * self._rng.uniform(0.5, 1.0), asked_s)

    def reset(self) -> None:
        """It worked."""
        self._base_s = self._first_s


class Alarm:
    """A wait on the clock that can be cut short, also by a ring that came before it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """End the present wait, or the next one."""
        self._rung.set()

    async def wait(self, delay_s: float | None) -> bool:
        """Wait for a ring, or for so long; None: for a ring only. True when it rang."""
        if delay_s is None:
            await self._rung.wait()
        elif delay_s > 0:
            await self._race(delay_s)
        rang = self._rung.is_set()
        self._rung.clear()
        return rang

    async def _race(self, delay_s: float) -> None:
        waits = (
            asyncio.ensure_future(self._clock.sleep(delay_s)),
            asyncio.ensure_future(self._rung.wait()),
        )
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
