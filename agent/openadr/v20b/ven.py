"""The OpenADR 2.0b VEN: registered, polling, answering and reporting, whatever its VTN does.

    poll ──▶ events.EventReceiver ──▶ event book, on_intake ──▶ oadrCreatedEvent
     └─────▶ reports.Reporter     ──▶ report requests           (a task of its own sends reports)

Polling and reporting are separate tasks, so that neither waits for the other. What was said and
what is still to be said is found by comparing what is kept with what was acknowledged, never by
remembering to send something: a restart of either side needs no path of its own.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import NoReturn

from agent.clock import Clock
from agent.core.event import EventRecord
from agent.core.intake import Intake
from agent.core.policy import Policy
from agent.core.program import Program
from agent.errors import UnreachableError, WireError
from agent.openadr.base import Link
from agent.openadr.v20b import enrolment, writer
from agent.openadr.v20b.events import EventReceiver
from agent.openadr.v20b.http import HttpTransport, Transport
from agent.openadr.v20b.messages import (
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
from agent.openadr.v20b.pace import LONGEST_S, Alarm, Backoff
from agent.openadr.v20b.reports import Reporter
from agent.openadr.v20b.settings import Ven20bSettings
from agent.openadr.v20b.standing import LinkKeeper, RegistrationKeeper
from agent.openadr.v20b.vtn import NotRegisteredError, Vtn
from agent.store.events import EventBook
from agent.store.history import History
from agent.store.registrations import Registration, Registrations

log = logging.getLogger(__name__)

MAX_DRAIN = 50
"""Messages taken in a row before the next poll period: no VTN queues that many in earnest."""


class Ven20b:
    """One virtual end node after the 2.0b profile, HTTP pull (`agent.openadr.base.Ven`)."""

    def __init__(
        self,
        settings: Ven20bSettings,
        *,
        book: EventBook,
        registrations: Registrations,
        history: History,
        programs: tuple[Program, ...],
        policy: Callable[[], Policy],
        clock: Clock,
        rng: random.Random,
        on_intake: Callable[[Sequence[Intake]], None],
        transport: Transport | None = None,
    ) -> None:
        """Nothing is sent before `run`. Raises `ConfigError` for unusable TLS files, `StoreError`.

        `policy` gives the site's rules as they are now. `on_intake` is called in the event loop whenever events changed, after they were stored.
        """
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._link = LinkKeeper(settings.name, settings.vtn_url, clock)
        self._registration = RegistrationKeeper(
            registrations, settings.name, settings.vtn_url, self._link
        )
        self._vtn = Vtn(transport or HttpTransport(settings, clock), self._link, settings.max_bytes)
        self._events = EventReceiver(
            settings, book, programs, policy, clock, rng, self._link, on_intake
        )
        self._reporter = Reporter(
            settings, self._vtn, self._registration, history, clock, rng, self._link
        )
        self._alarm = Alarm(clock)
        self._backoff = Backoff(rng)
        self._replies = Backoff(rng)
        self._resync_due = True
        if self._registration.valid is not None:
            self._link.registered(self._registration.valid.ven_id, self._poll_s)

    @property
    def name(self) -> str:
        """Its name in the configuration, and of its events."""
        return self._settings.name

    def link(self) -> Link:
        """How it stands now."""
        return replace(self._link.link, reports_waiting=self._reporter.waiting())

    async def run(self) -> None:
        """Register, poll and report until cancelled. A VTN in trouble never ends it."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._supervise("polling", self._converse))
                tasks.create_task(self._supervise("reporting", self._report))
        finally:
            await self._vtn.close()

    def tell(self, record: EventRecord) -> None:
        """The site changed its mind on an event, and the book knows: let the VTN know, too.

        What is sent is what the book then says, so that it also survives a restart.
        """
        if record.event.ven == self.name:
            self._alarm.ring()

    @property
    def _poll_s(self) -> float:
        return enrolment.poll_period_s(self._settings, self._registration.current)

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

    async def _report(self) -> NoReturn:
        await self._reporter.run(self._lapse)

    async def _converse(self) -> NoReturn:
        self._resync_due = True
        while True:
            delay_s = await self._turn()
            await self._rest(delay_s)

    async def _turn(self) -> float:
        """One round with the VTN; the time until the next, s."""
        began_s = self._clock.instant().boot_s
        try:
            await self._registration.save()
            await self._events.retry_store()
            await self._enrol()
            await self._drain()
        except NotRegisteredError as error:
            self._link.found()
            self._lapse(str(error))
            return self._backoff.after(error)
        except WireError as error:
            self._link.lost(str(error))
            self._resync_due = True
            delay_s = self._backoff.after(error, max(LONGEST_S, self._poll_s))
            # Whoever answers, if uselessly, must not be polled more often than it asked for.
            return delay_s if isinstance(error, UnreachableError) else max(delay_s, self._poll_s)
        self._link.clear("polling")
        if self._link.link.lost_since is not None:
            self._reporter.wake()
        self._link.found()
        await self._catch_up()
        if self._registration.valid is None:
            return self._backoff.after()
        self._backoff.reset()
        return self._poll_s - (self._clock.instant().boot_s - began_s)

    async def _rest(self, delay_s: float) -> None:
        """Wait for the next round, and meanwhile tell what changes or did not arrive."""
        until_s = self._clock.instant().boot_s + delay_s
        was_registered = self._registration.valid is not None
        while (left_s := until_s - self._clock.instant().boot_s) > 0:
            retry_s = self._replies.after() if self._link.in_trouble("replies") else left_s
            await self._alarm.wait(min(left_s, retry_s))
            if was_registered and self._registration.valid is None:
                return
            if until_s > self._clock.instant().boot_s and self._link.link.lost_since is None:
                await self._catch_up()

    async def _catch_up(self) -> None:
        """Ask for events that we may have missed, and tell every opt that is not acknowledged."""
        try:
            await self._resync()
            await self._answer_open()
        except NotRegisteredError as error:
            self._lapse(str(error))
        except WireError as error:
            self._failed(error)
        else:
            self._replies.reset()
            self._link.clear("replies")

    def _failed(self, error: WireError) -> None:
        """Something besides a poll did not go through: polls go on, and it is tried again."""
        self._resync_due = True
        self._link.trouble("replies", f"not everything reaches the VTN: {error}")

    async def _enrol(self) -> None:
        if self._registration.valid is not None:
            return
        self._resync_due = True
        registration = await enrolment.enrol(self._vtn, self._settings, self._registration.current)
        await self._registration.enter(registration)
        self._link.registered(registration.ven_id, self._poll_s)
        self._reporter.wake()

    def _lapse(self, why: str) -> None:
        """The VTN does not know us any more: register again in the next round."""
        self._registration.lapse()
        self._link.unregistered(why)
        self._alarm.ring()

    async def _drain(self) -> None:
        """Poll until the VTN has nothing more.

        A VTN that answers every poll with the same list would never be done: two answers in a row
        that bring nothing new end it, too.
        """
        stale = 0
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
                news = False
            stale = 0 if news else stale + 1
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
                pass  # For another VEN: `Vtn` has said so.
            case Unexpected(kind):
                self._link.reject(f"a message that is none for a VEN: {kind}")
                return False
            case _:
                self._link.reject(f"an answer to nothing: {type(message).__name__}")
                return False
        return True

    async def _receive(self, message: DistributeEvent, held: Registration) -> bool:
        """Take in events and answer each (2.0b rules 12, 19, 42 and 64)."""
        if message.response is not None and not message.response.ok:
            raise WireError(f"the VTN sent {message.response} instead of events")
        reception = await self._events.receive(message, held)
        if reception.answers or reception.fault is not None:
            await self._answer(held, message.request_id, reception.answers, reception.fault)
        return reception.news

    async def _resync(self) -> None:
        """Ask for all events, after anything that may have made us miss some."""
        held = self._registration.valid
        if held is None or not self._resync_due:
            return
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
        self._resync_due = False

    async def _answer_open(self) -> None:
        """Tell the VTN every opt that it has not acknowledged as it stands now."""
        held = self._registration.valid
        answers = () if held is None else self._events.open_answers(held)
        if held is not None and answers:
            await self._answer(held, writer.new_id(), answers)

    async def _answer(
        self,
        held: Registration,
        request_id: str,
        answers: Sequence[EventAnswer],
        fault: Response | None = None,
    ) -> None:
        """Send answers. A VTN that refuses them gets each alone, so that one cannot spoil the rest."""
        body = writer.created_event(held.ven_id, request_id, answers, fault)
        reply = await self._vtn.ask("EiEvent", body, held.ven_id)
        if isinstance(reply, OadrResponse) and not reply.response.ok:
            if len(answers) > 1:
                for answer in answers:
                    await self._answer(held, request_id, (answer,))
                return
            log.warning(
                "VEN %s: the VTN refuses the answer on %s: %s",
                self.name,
                ", ".join(a.event_id for a in answers) or "a list of events",
                reply.response,
            )
        await self._registration.update(lambda r: self._events.acknowledge(r, answers))

    async def _end_registration(self, message: CancelPartyRegistration, held: Registration) -> None:
        why = enrolment.refusal_of(message, held)
        response = Response(Code.INVALID_ID if why else Code.OK, why or "OK", message.request_id)
        if why:
            self._link.reject(f"oadrCancelPartyRegistration: {why}")
        else:
            await self._registration.put(enrolment.cancelled(held))
        body = writer.canceled_party_registration(held.ven_id, message.registration_id, response)
        await self._vtn.ask("EiRegisterParty", body, held.ven_id)

    def _held(self) -> Registration:
        held = self._registration.valid
        if held is None:
            raise NotRegisteredError("the VTN ended the registration")
        return held
