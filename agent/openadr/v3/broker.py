"""Notifications by MQTT (OpenADR 3.1.0): where the VTN says, on the topics it names, under its token.

A broker is nobody's to rely on. It may be away, refuse us, send rubbish, a flood or one message without
end: that is one trouble of the link, another attempt later, and never a poll less.
"""

import asyncio
import random
from collections.abc import Iterable
from typing import NoReturn
from urllib.parse import quote

from agent.clock import Clock
from agent.errors import UnreachableError, WireError
from agent.openadr.http import StatusError
from agent.openadr.pace import LONGEST_S, Backoff
from agent.openadr.standing import LinkKeeper
from agent.openadr.v3.client import Client
from agent.openadr.v3.notices import Notices
from agent.openadr.v3.session import Access, BrokerError, access_to, listening
from agent.openadr.v3.settings import Ven3Settings
from agent.openadr.v3.wire import WireMqtt

TROUBLE = "MQTT"
ASK_AGAIN_S = 3600.0
"""How long a VTN without a broker is left alone with the question."""
MOST_PROGRAMS = 50
"""Programs whose events are listened for one by one."""


class _NoBrokerError(Exception):
    """There is none for us."""


class BrokerListener:
    """Keeps listening to the broker of one VTN, as far as there is one."""

    def __init__(
        self,
        settings: Ven3Settings,
        client: Client,
        link: LinkKeeper,
        clock: Clock,
        rng: random.Random,
        notices: Notices,
    ) -> None:
        """`notices` hears of each notification, and whenever listening begins: until then, some may
        have gone by.
        """
        self._settings = settings
        self._client = client
        self._link = link
        self._clock = clock
        self._backoff = Backoff(rng)
        self._notices = notices
        self._attempts = 0
        self._ven_id = ""
        self._programs: frozenset[str] = frozenset()
        self._changed = asyncio.Event()
        self._placed = asyncio.Event()

    def place(self, ven_id: str, programs: Iterable[str]) -> None:
        """Who we are at the VTN, and the ids of the programs whose events are ours, as they are now."""
        ours = frozenset(sorted(programs)[:MOST_PROGRAMS])
        if (ven_id, ours) != (self._ven_id, self._programs):
            self._ven_id, self._programs = ven_id, ours
            self._changed.set()
        self._placed.set()

    def leave(self) -> None:
        """We left: there is nothing to listen for until programs are placed again."""
        self._placed.clear()
        self._changed.set()

    async def run(self) -> NoReturn:
        """Listen until cancelled."""
        while True:
            await self._placed.wait()
            await self._clock.sleep(await self._attempt())

    async def _attempt(self) -> float:
        """Listen for as long as that goes well; the time until the next attempt, s."""
        began_s = self._clock.instant().boot_s
        try:
            await self._listen()
        except _NoBrokerError as none:
            if self._settings.mqtt is True:
                self._fail(str(none))
            else:
                self._link.clear(TROUBLE)
            return ASK_AGAIN_S
        except UnreachableError:
            pass  # It is the VTN that is away, and polling says so.
        except (WireError, BrokerError) as error:
            self._fail(str(error))
        else:
            return 0.0
        if self._clock.instant().boot_s - began_s > LONGEST_S:
            self._backoff.reset()
        return self._backoff.after()

    def _fail(self, why: str) -> None:
        # Said once, whatever each further attempt fails for.
        if not self._link.in_trouble(TROUBLE):
            self._link.trouble(TROUBLE, f"no notifications by MQTT, polls go on: {why}")

    async def _listen(self) -> None:
        """Listen until there is something else to listen for. Raises when it ends otherwise."""
        self._changed.clear()
        binding = await self._binding()
        topics = await self._topics()
        if not topics:
            raise _NoBrokerError("the VTN names no topics for us")
        access = await access_to(binding, self._attempts, self._settings, self._client.token)
        self._attempts += 1
        session = asyncio.create_task(self._session(access, topics))
        changed = asyncio.create_task(self._changed.wait())
        try:
            await asyncio.wait((session, changed), return_when=asyncio.FIRST_COMPLETED)
            if session.done():
                session.result()
        finally:
            session.cancel()
            changed.cancel()
            await asyncio.gather(session, changed, return_exceptions=True)

    async def _binding(self) -> WireMqtt:
        try:
            binding = await self._client.mqtt()
        except StatusError as error:
            if error.status >= 500 and error.status != 501:
                raise
            raise _NoBrokerError(f"the VTN does not say where: {error}") from error
        if binding is None:
            raise _NoBrokerError("the VTN has no broker")
        return binding

    async def _topics(self) -> list[str]:
        """What there is to listen to; where the VTN grants nothing, polls are all there is."""
        paths = ["programs", *(f"programs/{quote(p, safe='')}/events" for p in self._programs)]
        if self._ven_id:
            ven = f"vens/{quote(self._ven_id, safe='')}"
            paths = [f"{ven}/events", f"{ven}/programs", *paths]
        topics: dict[str, None] = {}
        for path in paths:
            try:
                topics |= dict.fromkeys(await self._client.topics(path))
            except StatusError as error:
                if error.status >= 500:
                    raise
        return list(topics)

    async def _session(self, access: Access, topics: list[str]) -> NoReturn:
        try:
            async with listening(access, topics, self._settings.max_bytes, self._clock) as messages:
                self._link.clear(TROUBLE)
                self._notices.missed()
                async for _ in messages:
                    self._notices.hear()
        except BrokerError as error:
            if error.unauthorised and access.token is not None:
                self._client.refused(access.token)
            raise
        raise BrokerError("the broker ended the session")
