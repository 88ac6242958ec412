"""The OpenADR 3 VEN: polls for programs and events, reports, and says where it opts out.

    poll ──▶ events.ListReceiver ──▶ event book, on_intake
     └─────▶ reports.EventReporter ──▶ reports that events ask for, opts (OPERATING_STATE)

A notification (broker.BrokerListener, webhook.Webhook ──▶ notices.Notices) has the next poll come at once,
and is nothing more: every poll asks for everything, so that nothing can have been missed and every list is whole. There is
no registration to be had: our ven and resource objects are looked up or created, and a VTN that will
have none of them is polled all the same.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from agent.core.link import Link
from agent.core.outlook import Outlook
from agent.errors import UnreachableError, WireError
from agent.openadr.base import Surroundings
from agent.openadr.pace import LONGEST_S
from agent.openadr.rounds import RoundVen
from agent.openadr.standing import LinkKeeper, RegistrationKeeper
from agent.openadr.v3.broker import BrokerListener
from agent.openadr.v3.client import Client
from agent.openadr.v3.events import ListReceiver
from agent.openadr.v3.notices import Notices
from agent.openadr.v3.reports import EventReporter
from agent.openadr.v3.settings import Ven3Settings
from agent.openadr.v3.subscriptions import Subscriber
from agent.openadr.v3.webhook import Webhook
from agent.openadr.v3.wire import RejectedObject, WireProgram, read_objects
from agent.store.history import History
from agent.store.registrations import Registration

REFUSED_S = 300.0
"""How long a VTN that would not have our objects is left alone with them."""
ENROLLED_S = 3600.0
"""How often to look whether it still has them: by them it knows which events are ours."""


class Ven3(RoundVen):
    """One virtual end node of OpenADR 3.0.1 or 3.1.0 (`agent.openadr.base.Ven`)."""

    def __init__(
        self,
        settings: Ven3Settings,
        around: Surroundings,
        history: History,
        outlook: Callable[[datetime], Outlook | None] = lambda _: None,
    ) -> None:
        """Nothing is sent before `run`. Raises `ConfigError` for unusable files, `StoreError`.

        `outlook` gives what the site is expected to draw until a time; it is called in a thread.
        """
        clock, rng = around.clock, around.rng
        link = LinkKeeper(settings.name, settings.vtn_url, clock, f"OpenADR {settings.version}")
        registration = RegistrationKeeper(settings, around, link)
        registration.current = _standing_of(settings, registration.current)
        super().__init__(settings, link, registration, clock, rng)
        # What tells a power outage from a restart of ours; a reboot for other reasons looks the same.
        self._boot_id = clock.instant().boot_id
        listed_boot = registration.current.listed_boot
        link.limits(void=bool(listed_boot and self._boot_id) and listed_boot != self._boot_id)
        self._settings = settings
        self._client = Client(settings, clock, link)
        self._events = ListReceiver(settings, around, link)
        self._reporter = EventReporter(
            settings,
            self._client,
            registration,
            self._events,
            history,
            around.programs,
            clock,
            outlook,
        )
        self._notices = Notices(clock, self._notified)
        self._broker = BrokerListener(settings, self._client, link, clock, rng, self._notices)
        self._webhook: Webhook | None = None
        if settings.webhook is not None:
            self._webhook = Webhook(settings, settings.webhook, link, clock, self._notices)
        self._subscriber = Subscriber(
            settings, self._client, registration, self._webhook, link, clock, rng
        )
        self._enrol_at_s = 0.0
        self._enrolled = settings.client_id is None
        self._rejected: frozenset[RejectedObject] = frozenset()

    def link(self) -> Link:
        """How it stands now."""
        waiting, heard = self._reporter.waiting, self._notices.count
        return replace(self._link.link, reports_waiting=waiting, notifications=heard)

    async def run(self) -> None:
        """Poll and report until cancelled. A VTN in trouble never ends it."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._supervise("polling", self._converse))
                tasks.create_task(self._supervise("notices", self._notices.run))
                if self._settings.mqtt is not False and self._settings.version != "3.0.1":
                    tasks.create_task(self._supervise("listening", self._broker.run))
                if self._webhook is not None:
                    tasks.create_task(self._supervise("webhook", self._webhook.run))
                tasks.create_task(self._supervise("subscribing", self._subscriber.run))
        finally:
            await self._client.close()

    def _notified(self) -> None:
        """Poll at once. A VTN that is lost is polled when its back-off says, and one we left, not at all."""
        link = self._link.link
        if link.lost_since is None and link.left is None:
            self.wake()

    @property
    def _poll_s(self) -> float:
        return self._settings.poll_s

    async def _turn(self) -> float:
        began_s = self._clock.instant().boot_s
        try:
            return await super()._turn()
        finally:
            self._notices.round_s = self._clock.instant().boot_s - began_s

    async def _poll(self) -> None:
        documents = await self._client.programs()
        events = await self._client.events()
        programs, rejected = await asyncio.to_thread(
            read_objects, WireProgram, documents, "program"
        )
        for one in rejected:
            if one not in self._rejected:
                self._link.reject(str(one))
        self._rejected = frozenset(rejected)
        await self._events.take(events, programs, self._client.event)
        await self._registration.update(lambda held: replace(held, listed_boot=self._boot_id))
        self._link.limits(void=False)
        await self._enrol()
        held = self._registration.current
        contexts = self._settings.market_contexts
        ours = [p.id for p in programs if not contexts or p.name in contexts]
        self._broker.place("" if held is None else held.ven_id, ours)
        self._subscriber.place(ours)

    async def _take_leave(self) -> None:
        self._broker.leave()
        await self._subscriber.end()

    async def _settle(self) -> None:
        await self._reporter.send_open()

    async def _retry_store(self) -> None:
        await self._events.retry_store()

    async def _rest(self, delay_s: float) -> None:
        """Wait for the next round, but no longer than until a report is due."""
        until_s = self._clock.instant().boot_s + delay_s
        due = self._reporter.next_due()
        if due is not None and not self._link.in_trouble("replies"):
            until_due_s = (due - self._clock.now()).total_seconds()
            if 0 < until_due_s < delay_s:
                await super()._rest(until_due_s)
                if self._urged:
                    return
                await self._catch_up()
        await super()._rest(until_s - self._clock.instant().boot_s)

    def _lapse(self, why: str) -> None:
        # There is nothing to renew: polls go on.
        self._link.unregistered(why)

    async def _enrol(self) -> None:
        """Have a ven and a resource object at the VTN, by which it can target us; nobody in particular has
        none.
        """
        now_s = self._clock.instant().boot_s
        if self._settings.client_id is not None and now_s >= self._enrol_at_s:
            try:
                ven_id = self._settings.ven_id or await self._client.enrol_ven()
                await self._client.enrol_resource(ven_id)
            except WireError as error:
                answered = type(error) is not UnreachableError
                self._enrol_at_s = now_s + (REFUSED_S if answered else LONGEST_S)
                self._enrolled = False
                self._link.unregistered(str(error))
                return
            self._enrol_at_s = now_s + ENROLLED_S
            self._enrolled = True
            await self._registration.update(lambda held: replace(held, ven_id=ven_id))
        if self._enrolled:
            held = self._registration.current
            self._link.registered("" if held is None else held.ven_id, self._poll_s)


def _standing_of(settings: Ven3Settings, known: Registration | None) -> Registration:
    """What stands in for a registration: who we are there, and which opts and reports have arrived."""
    if known is not None and known.registration_id == settings.label:
        return known
    return Registration(
        ven=settings.name,
        ven_id=settings.ven_id or "",
        registration_id=settings.label,
        vtn_id="",
        poll_s=settings.poll_s,
        vtn_url=settings.vtn_url,
    )
