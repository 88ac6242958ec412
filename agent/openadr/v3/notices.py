"""Notifications, by whatever way they come, as rounds with the VTN.

A notification is a hint: what it says is never read, and so nothing in it can be wrong, late, forged
or too much. It has the VEN poll and reconcile at once, which polls of their own do all the same.
"""

import asyncio
from collections.abc import Callable
from typing import NoReturn

from agent.clock import Clock

LEAST_GAP_S = 0.1
REST_PER_ROUND = 4.0
"""However many notifications come, rounds for them take no more than a fifth of the time in the long run."""
CREDIT_S = 5.0
"""So much of that rest may be put off, so that few notifications in a row wait for none of it."""


class Notices:
    """Has a VEN begin a round when something is heard; much that is heard is one round."""

    def __init__(self, clock: Clock, wake: Callable[[], None]) -> None:
        """`wake` begins a round, or has another follow the one under way."""
        self.round_s = 0.0
        """How long the last round took."""
        self.count = 0
        """Notifications since the start."""
        self._clock = clock
        self._wake = wake
        self._heard = asyncio.Event()

    def hear(self) -> None:
        """Something changed at the VTN."""
        self.count += 1
        self._heard.set()

    def missed(self) -> None:
        """Something may have changed, and no notification of it have reached us."""
        self._heard.set()

    async def run(self) -> NoReturn:
        """Turn what is heard into rounds, until cancelled."""
        owed_s, at_s = 0.0, 0.0
        while True:
            await self._heard.wait()
            self._heard.clear()
            self._wake()
            now_s = self._clock.instant().boot_s
            owed_s = max(0.0, owed_s - (now_s - at_s)) + REST_PER_ROUND * self.round_s
            at_s = now_s
            await self._clock.sleep(max(LEAST_GAP_S, owed_s - CREDIT_S))
