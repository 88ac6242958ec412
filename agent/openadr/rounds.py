"""Rounds with a VTN, back-off, and what is told between them: what every VEN that polls does alike.

What was said and what is still to be said is found by comparing what is kept with what was
acknowledged, never by remembering to send something: a restart of either side needs no path of its
own.
"""

import logging
import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import NoReturn

from agent.clock import Clock
from agent.core.event import EventRecord
from agent.core.link import Link
from agent.errors import NotRegisteredError, UnreachableError, WireError
from agent.openadr.pace import LONGEST_S, Alarm, Backoff
from agent.openadr.settings import VenSettings
from agent.openadr.standing import LinkKeeper, RegistrationKeeper

log = logging.getLogger(__name__)

AWAY_S = 3600.0
"""How long a round lasts once we left: there is nothing to do but to look whether we still have."""


class RoundVen(ABC):
    """A VEN in rounds (`agent.openadr.base.Ven`); a profile says what it polls with.

    A round is a poll and what it brings; between rounds it tells what changes or did not arrive.
    """

    def __init__(
        self,
        settings: VenSettings,
        link: LinkKeeper,
        registration: RegistrationKeeper,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._name = settings.name
        self._link = link
        self._registration = registration
        self._clock = clock
        self._rng = rng
        self._alarm = Alarm(clock)
        self._backoff = Backoff(rng)
        self._replies = Backoff(rng)
        self._urged = False
        self._link.stands(registration.departed())

    @property
    def name(self) -> str:
        """Its name in the configuration, and of its events."""
        return self._name

    def link(self) -> Link:
        """How it stands now."""
        return self._link.link

    def tell(self, record: EventRecord) -> None:
        """The site changed its mind on an event, and the book knows: let the VTN know, too.

        What is sent is what the book then says, so that it also survives a restart.
        """
        if record.event.ven == self.name:
            self._alarm.ring()

    def wake(self) -> None:
        """The operator had it leave its program, come back, or register: see to that now."""
        self._urged = True
        # It may have left and come back within one round: its events ended meanwhile.
        self._missed()
        self._alarm.ring()

    @property
    @abstractmethod
    def _poll_s(self) -> float:
        """The period between polls, s."""

    @abstractmethod
    async def _poll(self) -> None:
        """Ask the VTN for what it has, and deal with it. Raises `WireError`."""

    @abstractmethod
    def _lapse(self, why: str) -> None:
        """The VTN does not know us any more."""

    @abstractmethod
    async def _retry_store(self) -> None:
        """Write what an earlier failure left in memory only."""

    @abstractmethod
    async def _settle(self) -> None:
        """Send what is open. Raises `WireError`."""

    async def _take_leave(self) -> None:  # noqa: B027 - a profile without registration has none to end
        """Tell the VTN that we left, if it does not know yet. Raises `WireError`."""

    def _missed(self) -> None:  # noqa: B027 - nothing to do where each poll asks for everything
        """Something of the VTN's may have gone by."""

    async def _supervise(self, name: str, task: Callable[[], Awaitable[NoReturn]]) -> None:
        """Run one of our tasks for good. A fault of ours in it is logged once and tried again."""
        backoff = Backoff(self._rng)
        last = ""
        while True:
            began_s = self._clock.instant().boot_s
            try:
                await task()
            except Exception as error:
                fault = f"{type(error).__name__}: {error}"
                if fault != last:
                    log.exception("VEN %s: %s failed and is started again", self.name, name)
                last = fault
                self._link.trouble(name, f"{name} fails: {fault}")
                if self._clock.instant().boot_s - began_s > LONGEST_S:
                    backoff.reset()
                await self._clock.sleep(backoff.after())

    async def _converse(self) -> NoReturn:
        self._missed()
        while True:
            delay_s = await self._turn()
            await self._rest(delay_s)

    async def _turn(self) -> float:
        """One round with the VTN; the time until the next, s."""
        began_s = self._clock.instant().boot_s
        self._urged = False
        self._link.stands(self._registration.departed())
        if self._registration.departed() is not None:
            return await self._stay_away()
        try:
            await self._registration.save()
            await self._retry_store()
            await self._poll()
        except NotRegisteredError as error:
            self._link.found()
            self._lapse(str(error))
            return self._backoff.after(error)
        except WireError as error:
            self._link.lost(str(error))
            self._missed()
            delay_s = self._backoff.after(error, max(LONGEST_S, self._poll_s))
            # Whoever answers, if uselessly, must not be polled more often than it asked for.
            return delay_s if isinstance(error, UnreachableError) else max(delay_s, self._poll_s)
        self._link.clear("polling")
        self._link.found()
        await self._catch_up()
        if self._registration.valid is None:
            return self._backoff.after()
        self._backoff.reset()
        return self._poll_s - (self._clock.instant().boot_s - began_s)

    async def _stay_away(self) -> float:
        """A round of a VEN that left: it asks for nothing. The time until the next, s."""
        self._missed()
        try:
            await self._registration.save()
            await self._take_leave()
        except WireError as error:
            self._link.trouble("leaving", f"the VTN does not know yet that we left: {error}")
            return self._backoff.after(error)
        self._link.clear("leaving")
        self._backoff.reset()
        return AWAY_S

    async def _rest(self, delay_s: float) -> None:
        """Wait for the next round, and meanwhile tell what changes or did not arrive."""
        until_s = self._clock.instant().boot_s + delay_s
        was_registered = self._registration.valid is not None
        while (left_s := until_s - self._clock.instant().boot_s) > 0:
            retry_s = self._replies.after() if self._link.in_trouble("replies") else left_s
            await self._alarm.wait(min(left_s, retry_s))
            if self._urged or was_registered != (self._registration.valid is not None):
                return
            if until_s > self._clock.instant().boot_s and self._link.link.lost_since is None:
                await self._catch_up()

    async def _catch_up(self) -> None:
        """Send what is open. What does not go through is tried again, and polls go on meanwhile."""
        try:
            await self._settle()
        except NotRegisteredError as error:
            if self._registration.believes("answers"):
                self._lapse(str(error))
            else:
                self._failed(error)
        except WireError as error:
            self._failed(error)
        else:
            self._replies.reset()
            self._link.clear("replies")

    def _failed(self, error: WireError) -> None:
        """Something besides a poll did not go through: polls go on, and it is tried again."""
        self._missed()
        self._link.trouble("replies", f"not everything reaches the VTN: {error}")
