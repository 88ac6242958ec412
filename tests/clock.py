"""A clock that stands still until a test moves it."""

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from agent.core.ledger import Instant

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)

sleeper: ContextVar[str] = ContextVar("sleeper", default="")
"""Who sleeps, for tests that must tell sleepers apart; tasks inherit it."""


@dataclass(eq=False)
class _Sleep:
    due_s: float
    woken: asyncio.Future[None]
    who: str


class FakeClock:
    """An `agent.clock.Clock` whose time passes in leaps."""

    def __init__(self, at: datetime = NOON) -> None:
        self.boot_id = "boot"
        self.witnessed: list[datetime] = []
        self._at = at
        self._boot_s = 10_000.0
        self._sleeps: list[_Sleep] = []
        self._changed = asyncio.Event()

    def instant(self) -> Instant:
        return Instant(self._at, self.boot_id, self._boot_s)

    def now(self) -> datetime:
        return self._at

    def witness(self, at: datetime) -> None:
        self.witnessed.append(at)

    def step(self) -> timedelta | None:
        return None

    async def sleep(self, delay_s: float) -> None:
        """Return once the clock was leapt so far."""
        if delay_s <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        sleep = _Sleep(self._boot_s + delay_s, woken, sleeper.get())
        self._sleeps.append(sleep)
        self._changed.set()
        try:
            await woken
        finally:
            self._sleeps.remove(sleep)

    def leap(self, delay_s: float) -> None:
        """Let time pass: whoever sleeps no longer than that wakes when the loop next runs."""
        self._at += timedelta(seconds=delay_s)
        self._boot_s += delay_s
        for sleep in self._sleeps:
            if sleep.due_s <= self._boot_s + 1e-9 and not sleep.woken.done():
                sleep.woken.set_result(None)

    def sleeps(self, who: str) -> bool:
        """Whether a certain one sleeps, and was not just woken."""
        return any(sleep.who == who and not sleep.woken.done() for sleep in self._sleeps)

    async def asleep(self, count: int = 1, timeout_s: float = 5.0) -> None:
        """Wait, in real time, until so many sleep; those just woken do not."""
        async with asyncio.timeout(timeout_s):
            while sum(not sleep.woken.done() for sleep in self._sleeps) < count:
                self._changed.clear()
                await self._changed.wait()
