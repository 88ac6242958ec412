"""The OpenADR 2.0b VEN: registered, polling, answering and reporting, whatever its VTN does.

    poll ──▶ events.EventReceiver ──▶ event book, on_intake ──▶ oadrCreatedEvent
     └─────▶ reports.Reporter     ──▶ report requests           (a task of its own sends reports)

Polling and reporting are separate tasks, so that neither waits for the other. Rounds of polling are
`agent.openadr.v20.pull`'s; what is polled for and what becomes of it is here.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import NoReturn

from agent.core.link import Link
from agent.errors import NotRegisteredError, WireError
from agent.openadr.base import Surroundings
from agent.openadr.http import Transport
from agent.openadr.pace import Backoff
from agent.openadr.standing import LinkKeeper, RegistrationKeeper
from agent.openadr.v20.events import EventReceiver
from agent.openadr.v20.messages import (
    CancelPartyRegistration,
    CancelReport,
    Code,
    CreateReport,
    DistributeEvent,
    EventAnswer,
    Message,
    OadrResponse,
    RegisterReport,
    RequestReregistration,
    Response,
    Unexpected,
)
from agent.openadr.v20.pull import PullVen
from agent.openadr.v20.vtn import is_answer
from agent.openadr.v20.xml import PAYLOAD
from agent.openadr.v20b import registration, writer
from agent.openadr.v20b.opts import OptTeller
from agent.openadr.v20b.reports import Reporter
from agent.openadr.v20b.settings import Ven20bSettings
from agent.openadr.v20b.vtn import connect
from agent.store.history import History
from agent.store.registrations import Registration

log = logging.getLogger(__name__)

MAX_DRAIN = 50
"""Messages taken in a row before the next poll period: no VTN queues that many in earnest."""
PATIENCE = 10
"""Useless answers to polls in a row after which we register again: with the back-off some four minutes,
longer than what stands before a VTN takes to come up with it, so that no passing 502 costs a
registration. Each time that does not help, twice as many are waited for."""
MOST_PATIENCE = 1440
"""However useless it stays, about once a day."""
DISMISSED_FIRST_S = 300.0
"""How long after the VTN ended a registration we ask for a new one: it may have meant it, and then does
not want to be asked at once; it may just as well have meant us to register again."""
DISMISSED_LONGEST_S = 86_400.0
"""The same for a VTN that ends each registration soon."""


class Ven20b(PullVen):
    """One virtual end node after the 2.0b profile, HTTP pull (`agent.openadr.base.Ven`)."""

    def __init__(
        self,
        settings: Ven20bSettings,
        around: Surroundings,
        history: History,
        transport: Transport | None = None,
    ) -> None:
        """Nothing is sent before `run`. Raises `ConfigError` for unusable certificates and keys,
        `StoreError`.
        """
        clock, rng = around.clock, around.rng
        link = LinkKeeper(settings.name, settings.vtn_url, clock, PAYLOAD.profile)
        standing = RegistrationKeeper(settings, around, link)
        vtn = connect(settings, clock, link, transport)
        events = EventReceiver(settings, around, link)
        super().__init__(settings, vtn, link, standing, events, writer.created_event, clock, rng)
        self._settings = settings
        self._reporter = Reporter(settings, vtn, standing, history, clock, rng, link)
        self._opts = OptTeller(settings, vtn, standing, around.policy, clock, link)
        self._resync_due = True
        self._useless = 0
        self._patience = PATIENCE
        self._dismissals = Backoff(rng, DISMISSED_FIRST_S)
        self._registered_at_s = 0.0
        self._barred_until_s = 0.0
        self._dismissed = ""
        if self._registration.valid is not None:
            self._link.registered(self._registration.valid.ven_id, self._poll_s)

    def link(self) -> Link:
        """How it stands now."""
        return replace(super().link(), reports_waiting=self._reporter.waiting())

    async def run(self) -> None:
        """Register, poll and report until cancelled. A VTN in trouble never ends it."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._supervise("polling", self._converse))
                tasks.create_task(self._supervise("reporting", self._report))
        finally:
            await self._vtn.close()

    @property
    def _poll_s(self) -> float:
        return registration.poll_period_s(self._settings, self._registration.current)

    async def _report(self) -> NoReturn:
        await self._reporter.run(self._lapse)

    def wake(self) -> None:
        """The operator had it leave its program, come back, or register: see to that now."""
        self._barred_until_s = 0.0
        super().wake()

    async def _poll(self) -> None:
        await self._enrol()
        if self._useless >= self._patience:
            await self._renew()
        try:
            await self._drain()
        except WireError as error:
            self._useless += is_answer(error)
            raise
        self._useless, self._patience = 0, PATIENCE
        self._link.clear("profiles")
        if self._link.link.lost_since is not None:
            self._reporter.wake()

    async def _settle(self) -> None:
        """Ask for events that we may have missed, and tell every decision that is not acknowledged."""
        failure: WireError | None = None
        for part in (self._resync, self._answer_open, self._tell_opts):
            try:
                await part()
            except WireError as error:
                if not is_answer(error):
                    raise
                failure = error  # of one message: the others are sent all the same
        if failure is not None:
            raise failure

    async def _tell_opts(self) -> None:
        if await self._opts.tell(self._events.answerable()):
            await self._answer_open()

    def _open_answers(self, held: Registration) -> Sequence[EventAnswer]:
        return [a for a in super()._open_answers(held) if not self._opts.tells(held, a)]

    def _missed(self) -> None:
        self._resync_due = True

    async def _enrol(self) -> None:
        held = self._registration.valid
        if held is not None:
            if not self._link.link.registered:
                self._link.registered(held.ven_id, self._poll_s)
            return
        if self._clock.instant().boot_s < self._barred_until_s:
            raise NotRegisteredError(self._dismissed)
        await self._register()

    async def _register(self) -> None:
        self._resync_due = True
        held = self._registration.current
        entered = await registration.enrol(self._vtn, self._settings, held, self._link)
        await self._registration.enter(entered)
        self._registered_at_s = self._clock.instant().boot_s
        self._dismissed = ""
        self._link.registered(entered.ven_id, self._poll_s)
        self._reporter.wake()

    async def _renew(self) -> None:
        """Register again: a VTN of which no answer is of use may have lost us. Polls go on if it cannot."""
        log.info("VEN %s: %d useless answers: registers again", self.name, self._useless)
        self._useless, self._patience = 0, min(2 * self._patience, MOST_PATIENCE)
        try:
            await self._register()
        except NotRegisteredError:
            raise
        except WireError as error:
            log.info("VEN %s: that does not work either: %s", self.name, error)

    async def _take_leave(self) -> None:
        held = self._registration.current
        if held is not None and held.registration_id:
            # Whatever the VTN hears of it: who comes back registers anew and owes nothing.
            self._registration.lapse()
            await self._registration.update(lambda r: replace(r, requests=()))
            await registration.leave(self._vtn, self._settings, held)
            await self._registration.update(registration.left)

    def _lapse(self, why: str) -> None:
        """The VTN does not know us any more: register again in the next round."""
        if self._registration.departed() is not None:
            return
        self._registration.lapse()
        self._link.unregistered(why)
        self._alarm.ring()

    async def _drain(self) -> None:
        """Poll until the VTN has nothing more.

        A VTN that answers every poll alike would never be done: two answers in a row that bring nothing
        new end it, too.
        """
        stale = 0
        before: Message | None = None
        for _ in range(MAX_DRAIN):
            held = self._held()
            message = await self._vtn.ask("OadrPoll", writer.poll(held.ven_id), held.ven_id)
            if message is None:
                raise WireError("the VTN answered a poll with an empty message")
            if isinstance(message, OadrResponse):
                if message.response.code == Code.INVALID_ID:
                    raise NotRegisteredError(f"the VTN answered a poll with {message.response}")
                if not message.response.ok:
                    raise WireError(f"the VTN answered a poll with {message.response}")
                return
            try:
                news = await self._take(message, held)
            except NotRegisteredError:
                raise
            except WireError as error:
                self._failed(error)
                if isinstance(message, DistributeEvent):
                    return  # Events are answered before the next poll (2.0b rule 64), or tried to.
                news = False
            stale = 0 if news and message != before else stale + 1
            before = message
            if stale == 2:
                return

    async def _take(self, message: Message, held: Registration) -> bool:
        """Deal with one message of the VTN's. Whether it brought anything new."""
        match message:
            case DistributeEvent():
                return await self._receive(message, held)
            case CreateReport():
                await self._reporter.create(message)
            case CancelReport():
                await self._reporter.cancel(message)
            case RegisterReport():
                body = writer.registered_report(held.ven_id, message.request_id)
                await self._vtn.ask("EiReport", body, held.ven_id)
            case CancelPartyRegistration():
                await self._end_registration(message, held)
            case RequestReregistration():
                return False  # For another VEN: `Vtn` has said so.
            case Unexpected(kind):
                self._link.reject(f"a message that is none for a VEN: {kind}")
                return False
            case _:
                self._link.reject(f"an answer to nothing: {type(message).__name__}")
                return False
        return True

    async def _resync(self) -> None:
        """Ask for all events, after anything that may have made us miss some."""
        held = self._registration.valid
        if held is None or not self._resync_due:
            return
        self._resync_due = False  # what fails from here on, or is missed meanwhile, sets it again
        message = await self._vtn.ask("EiEvent", writer.request_event(held.ven_id), held.ven_id)
        match message:
            case DistributeEvent():
                await self._receive(message, held)
            case OadrResponse(response) if response.ok:
                pass  # Some VTNs say so that there is none; it is no list, so it implies nothing.
            case OadrResponse(response):
                raise WireError(f"the VTN answered a request for events with {response}")
            case _:
                raise WireError("the VTN answered a request for events with something else")

    async def _end_registration(self, message: CancelPartyRegistration, held: Registration) -> None:
        why = registration.refusal_of(message, held)
        response = Response(Code.INVALID_ID if why else Code.OK, why or "OK", message.request_id)
        if why:
            self._link.reject(f"oadrCancelPartyRegistration: {why}")
        else:
            await self._registration.put(registration.cancelled(held))
            self._bar()
        body = writer.canceled_party_registration(held.ven_id, message.registration_id, response)
        await self._vtn.ask("EiRegisterParty", body, held.ven_id)

    def _bar(self) -> None:
        """The VTN ended the registration: ask for no other for a while."""
        now_s = self._clock.instant().boot_s
        if now_s - self._registered_at_s > DISMISSED_LONGEST_S:
            self._dismissals.reset()
        wait_s = self._dismissals.after(ceiling_s=DISMISSED_LONGEST_S)
        self._barred_until_s = now_s + wait_s
        until = self._clock.now() + timedelta(seconds=wait_s)
        self._dismissed = (
            f"the VTN ended the registration; we ask for another at {until:%Y-%m-%d %H:%M:%SZ}, or at "
            f"once with `flexload register {self.name}`"
        )

    def _held(self) -> Registration:
        held = self._registration.valid
        if held is None:
            raise NotRegisteredError(self._dismissed or "the registration ended")
        return held
