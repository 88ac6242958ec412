"""What every VEN of OpenADR 2.0 that polls does alike: it takes in events and answers them."""

import random
from collections.abc import Sequence
from typing import Protocol

from agent.clock import Clock
from agent.errors import NotRegisteredError, WireError, quote
from agent.openadr.rounds import RoundVen
from agent.openadr.settings import VenSettings
from agent.openadr.standing import LinkKeeper, RegistrationKeeper
from agent.openadr.v20.events import EventReceiver
from agent.openadr.v20.messages import DistributeEvent, EventAnswer, OadrResponse, Response, new_id
from agent.openadr.v20.vtn import Vtn, is_answer
from agent.store.registrations import Registration


class CreatedEventWriter(Protocol):
    """Writes a profile's oadrCreatedEvent."""

    def __call__(
        self,
        ven_id: str,
        request_id: str,
        answers: Sequence[EventAnswer],
        fault: Response | None = None,
    ) -> bytes:
        """The message; `fault` speaks for events that could not even be named."""


class PullVen(RoundVen):
    """A VEN of OpenADR 2.0 in rounds; a profile says what it polls with and how it writes."""

    def __init__(
        self,
        settings: VenSettings,
        vtn: Vtn,
        link: LinkKeeper,
        registration: RegistrationKeeper,
        events: EventReceiver,
        created_event: CreatedEventWriter,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        super().__init__(settings, link, registration, clock, rng)
        self._vtn = vtn
        self._events = events
        self._created_event = created_event

    async def _retry_store(self) -> None:
        await self._events.retry_store()

    async def _settle(self) -> None:
        await self._answer_open()

    async def _receive(self, message: DistributeEvent, held: Registration) -> bool:
        """Take in events and answer each (2.0b rules 12, 19, 42 and 64). Whether they are news."""
        if message.response is not None and not message.response.ok:
            raise WireError(f"the VTN sent {message.response} instead of events")
        if self._registration.departed() is not None:
            raise NotRegisteredError("we left while it answered")
        reception = await self._events.receive(message, held)
        if reception.answers or reception.fault is not None:
            await self._answer(held, message.request_id, reception.answers, reception.fault)
        return reception.news

    async def _answer_open(self) -> None:
        """Tell the VTN every answer that it has not acknowledged as it stands now."""
        held = self._registration.valid
        answers = () if held is None else self._open_answers(held)
        if held is not None and answers:
            await self._answer(held, self._events.request_id or new_id(), answers)

    def _open_answers(self, held: Registration) -> Sequence[EventAnswer]:
        """The answers that an oadrCreatedEvent is to tell the VTN."""
        return self._events.open_answers(held)

    async def _answer(
        self,
        held: Registration,
        request_id: str,
        answers: Sequence[EventAnswer],
        fault: Response | None = None,
    ) -> None:
        """Send answers. A VTN that refuses or chokes on them gets each alone, so that one cannot spoil
        the rest.
        """
        several = len(answers) > 1
        try:
            body = self._created_event(held.ven_id, request_id, answers, fault)
            reply = await self._vtn.ask("EiEvent", body, held.ven_id)
        except WireError as error:
            if not several or not is_answer(error):
                raise
            await self._answer_each(held, request_id, answers)
            return
        if isinstance(reply, OadrResponse) and not reply.response.ok:
            if several:
                await self._answer_each(held, request_id, answers)
                return
            on = quote(answers[0].event_id) if answers else "a list of events"
            self._link.say_once(f"the VTN refuses the answer on {on}: {reply.response}")
        await self._registration.update(lambda r: self._events.acknowledge(r, answers))

    async def _answer_each(
        self, held: Registration, request_id: str, answers: Sequence[EventAnswer]
    ) -> None:
        """Send each answer alone. Raises `WireError` once all were tried if one did not go through."""
        failure: WireError | None = None
        for answer in answers:
            try:
                await self._answer(held, request_id, (answer,))
            except WireError as error:
                if not is_answer(error):
                    raise
                failure = error
        if failure is not None:
            raise failure
