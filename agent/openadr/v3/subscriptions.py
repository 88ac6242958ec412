"""Our subscriptions at a VTN: where it is to send notifications.

They are found again by their address, so that a restart makes no second one, and get the token of
the agent that runs. Those that nobody wants any more are deleted.
"""

import asyncio
import random
from collections.abc import Iterable
from dataclasses import replace
from typing import NoReturn

from agent.clock import Clock
from agent.errors import UnreachableError, WireError
from agent.openadr.http import StatusError
from agent.openadr.pace import Alarm, Backoff
from agent.openadr.standing import LinkKeeper, RegistrationKeeper
from agent.openadr.v3.client import Client
from agent.openadr.v3.settings import Ven3Settings
from agent.openadr.v3.webhook import Webhook
from agent.openadr.v3.wire import WireSubscription

TROUBLE = "subscriptions"
CHECK_S = 3600.0
"""How often to look whether the VTN still has them."""
REFUSED_S = 300.0
"""How long a VTN that would not have them is left alone with them."""


class Subscriber:
    """Keeps one VEN's subscriptions."""

    def __init__(
        self,
        settings: Ven3Settings,
        client: Client,
        registration: RegistrationKeeper,
        webhook: Webhook | None,
        link: LinkKeeper,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        """Without a webhook none are wanted, and what is left of earlier ones is deleted."""
        self._settings = settings
        self._client = client
        self._registration = registration
        self._webhook = webhook
        self._link = link
        self._alarm = Alarm(clock)
        self._backoff = Backoff(rng)
        self._lock = asyncio.Lock()
        self._programs: frozenset[str] | None = None
        self._told: set[str] = set()
        """Ids of those that have our present token."""

    @property
    def _known(self) -> tuple[str, ...]:
        held = self._registration.current
        return () if held is None else held.subscriptions

    def place(self, programs: Iterable[str]) -> None:
        """The ids of the programs that are ours, as they are now: the VTN answers."""
        # Only 3.0.1 has one for each program.
        each = frozenset(programs) if self._settings.version == "3.0.1" else frozenset({""})
        if each != self._programs:
            self._programs = each
            self._alarm.ring()

    async def run(self) -> NoReturn:
        """Keep them until cancelled."""
        while True:
            await self._alarm.wait(await self._attempt())

    async def end(self) -> None:
        """Delete them: we left, until programs are placed again. Raises `WireError`."""
        async with self._lock:
            self._programs = None
            await self._delete(self._known)

    async def _attempt(self) -> float | None:
        """See to them; the time until the next attempt, s."""
        if self._webhook is not None:
            await self._webhook.listens.wait()  # The VTN may try the address at once.
        try:
            async with self._lock:
                if self._programs is None:
                    return None
                await self._keep(self._programs)
        except StatusError as error:
            self._fail(str(error))
            return REFUSED_S if error.status < 500 or error.status == 501 else self._backoff.after()
        except UnreachableError:
            return self._backoff.after()  # Polling says so.
        except WireError as error:
            self._fail(str(error))
            return REFUSED_S
        self._link.clear(TROUBLE)
        self._backoff.reset()
        return CHECK_S

    def _fail(self, why: str) -> None:
        # Said once, whatever each further attempt fails for.
        if not self._link.in_trouble(TROUBLE):
            said = f"no notifications by webhook, polls go on: {why}"
            self._link.trouble(TROUBLE, said)

    async def _keep(self, programs: frozenset[str]) -> None:
        webhook, hook = self._webhook, self._settings.webhook
        if webhook is None or hook is None:
            await self._delete(self._known)
            return
        found = await self._ours(hook.url)
        await self._remember({s.id for s in found})  # Others of ours went without us.
        for program_id in sorted(programs):
            known_id = next((s.id for s in found if s.program_id == program_id), None)
            if known_id is None or known_id not in self._told:
                made = await self._client.subscribe(program_id, hook.url, webhook.token, known_id)
                self._told.add(made)
                await self._remember({*self._known, made})
            found = [s for s in found if s.id != known_id]
        await self._delete(s.id for s in found)

    async def _ours(self, url: str) -> list[WireSubscription]:
        return [
            s
            for s in await self._client.subscriptions()
            if s.id in self._known or (url in s.urls and s.client_name == self._settings.label)
        ]

    async def _delete(self, ids: Iterable[str]) -> None:
        for each in tuple(ids):
            await self._client.unsubscribe(each)
            self._told.discard(each)
            await self._remember({*self._known} - {each})

    async def _remember(self, ids: set[str]) -> None:
        known = tuple(sorted(ids))
        await self._registration.update(lambda held: replace(held, subscriptions=known))
