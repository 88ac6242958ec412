"""The OpenADR 2.0a VEN: polls for events and answers them, whatever its VTN does.

Every poll asks for all events, so that nothing can have been missed and every list is whole.
"""

from contextlib import suppress
from dataclasses import replace

from agent.errors import NotRegisteredError, WireError
from agent.openadr.base import Surroundings
from agent.openadr.http import HttpTransport, Transport
from agent.openadr.standing import LinkKeeper, RegistrationKeeper
from agent.openadr.v20.events import EventReceiver
from agent.openadr.v20.messages import (
    DistributeEvent,
    Message,
    OadrResponse,
    RejectedEvent,
    Targets,
    WireEvent,
    new_id,
)
from agent.openadr.v20.pull import PullVen
from agent.openadr.v20.vtn import Vtn
from agent.openadr.v20a import writer
from agent.openadr.v20a.reader import ROOTS, read
from agent.openadr.v20a.settings import SERVICE, Ven20aSettings
from agent.store.registrations import Registration


class Ven20a(PullVen):
    """One virtual end node after the 2.0a profile, HTTP pull (`agent.openadr.base.Ven`)."""

    def __init__(
        self,
        settings: Ven20aSettings,
        around: Surroundings,
        transport: Transport | None = None,
    ) -> None:
        """Nothing is sent before `run`. Raises `ConfigError` for unusable TLS files, `StoreError`."""
        clock, rng = around.clock, around.rng
        link = LinkKeeper(settings.name, settings.vtn_url, clock, ROOTS.profile)
        registration = RegistrationKeeper(settings, around, link)
        self._standing = _standing_of(settings, registration.current)
        registration.current = self._standing
        vtn = Vtn(transport or HttpTransport(settings, clock, link), link, settings.max_bytes, read)
        events = EventReceiver(settings, around, link)
        super().__init__(
            settings, vtn, link, registration, events, writer.created_event, clock, rng
        )
        self._settings = settings
        self._link.registered(settings.ven_id, settings.poll_s)

    async def run(self) -> None:
        """Poll and answer until cancelled. A VTN in trouble never ends it."""
        try:
            await self._supervise("polling", self._converse)
        finally:
            await self._vtn.close()

    @property
    def _poll_s(self) -> float:
        return self._settings.poll_s

    async def _poll(self) -> None:
        standing = self._standing
        try:
            request = writer.request_event(standing.ven_id)
            message = await self._vtn.ask(SERVICE, request, standing.ven_id)
        except NotRegisteredError as error:
            # There is nothing to renew: the venID is in the configuration, and polls go on.
            self._link.unregistered(str(error))
            return
        events = list_in(message)
        self._link.registered(standing.ven_id, self._poll_s)
        if events is None:
            return
        try:
            await self._receive(self._for_this_site(events), standing)
        except WireError as error:
            self._failed(error)

    async def _take_leave(self) -> None:
        """Opt out of what the VTN believes we take part in: there is no registration to end."""
        departure, held = self._registration.departed(), self._registration.current
        if departure is None or held is None:
            return
        answers = self._events.withdrawals(held, departure.since)
        if answers:
            body = writer.created_event(held.ven_id, self._events.request_id or new_id(), answers)
            with suppress(NotRegisteredError):  # then it expects nothing of us either
                await self._vtn.ask(SERVICE, body, held.ven_id)
        await self._registration.update(lambda r: replace(r, answers=()))

    def _lapse(self, why: str) -> None:
        # Polls say whether it knows us: an answer that it will not have is an answer that did not arrive.
        self._failed(WireError(why))

    def _for_this_site(self, message: DistributeEvent) -> DistributeEvent:
        """Its events with the resourceIDs they name as their only targets, where we know ours.

        One venID may stand for many sites, and the resourceIDs then say which of them are meant.
        Whom an event must be for when several kinds of target match is left to us (rule 22).
        """
        if self._settings.resource is None:
            return message
        return replace(message, events=tuple(map(_by_resource, message.events)))


def _by_resource(event: WireEvent | RejectedEvent) -> WireEvent | RejectedEvent:
    if isinstance(event, RejectedEvent) or not event.targets.resource_ids:
        return event
    return replace(event, targets=Targets(resource_ids=event.targets.resource_ids))


def list_in(message: Message | None) -> DistributeEvent | None:
    """The list of events in an answer to a poll; None in one that only says that all is well, which
    is no list and implies nothing. Raises `WireError` for any other.
    """
    match message:
        case None:
            raise WireError("the VTN answered a poll with an empty message")
        case DistributeEvent(response) | OadrResponse(response) if response and not response.ok:
            raise WireError(f"the VTN answered a poll with {response}")
        case DistributeEvent():
            return message
        case _:
            return None


def _standing_of(settings: Ven20aSettings, known: Registration | None) -> Registration:
    """What stands in for a registration: the ids that were agreed on, and which answers have arrived."""
    same = known is not None and known.ven_id == settings.ven_id
    return Registration(
        ven=settings.name,
        ven_id=settings.ven_id,
        registration_id=settings.ven_id,
        vtn_id=(settings.vtn_id or "").strip(),
        poll_s=settings.poll_s,
        vtn_url=settings.vtn_url,
        answers=known.answers if known is not None and same else (),
    )
