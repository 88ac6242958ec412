"""Taking in events: judging each, storing what becomes of it, and the answer it gets.

Nothing here acts on the site. An event that cannot be used is answered with its code and leaves its
neighbours, and what is already known of it, as they are.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from agent.core.event import Ending, Event, EventRecord, Key, Opt
from agent.core.intake import Intake, Verdict, missing_from, receive
from agent.core.program import program_for
from agent.errors import quote
from agent.openadr.events import CHANGES, NO_ROOM, EventTaker, is_open
from agent.openadr.v20.messages import (
    Code,
    DistributeEvent,
    EventAnswer,
    FaultError,
    RejectedEvent,
    Response,
    WireEvent,
)
from agent.openadr.v20.translate import translate
from agent.store.registrations import Answer, Registration

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reception:
    """What one oadrDistributeEvent came to."""

    answers: tuple[EventAnswer, ...]
    """One for each event that wants one and has an id (2.0b rules 12, 19 and 62)."""
    fault: Response | None
    """For the message as a whole: events that could not even be named, or a wrong sender."""
    news: bool
    """Whether anything changed by it."""


class EventReceiver(EventTaker):
    """Takes in what a VTN distributes, for one VEN."""

    _room_left: int | None = None
    request_id = ""
    """Of the newest list, which names every event that is still on (2.0b rule 42)."""

    async def receive(self, message: DistributeEvent, registration: Registration) -> Reception:
        """Judge, store and announce the events of one message; the answers are the caller's to send."""
        if registration.vtn_id and message.vtn_id != registration.vtn_id:
            return self._refuse_all(message, registration)
        self._link.clear("vtnID")
        self.request_id = message.request_id
        self._room_left = None
        now = self._clock.now()
        overlay: dict[Key, EventRecord] = {}
        intakes: list[Intake] = []
        answers: list[EventAnswer] = []
        for wire in message.events:
            key = (self._settings.name, wire.event_id)
            known = overlay.get(key) or self._book.records.get(key)
            intake, answer = self._judge_alone(wire, known, registration, now)
            if intake is not None and intake.record is not None and intake.verdict in CHANGES:
                overlay[key] = intake.record
                intakes.append(intake)
            if wire.response_required and wire.event_id:
                answers.append(answer)
        for record in self._missing(message, overlay, now):
            overlay[record.key] = record
            intakes.append(Intake(Verdict.CANCELLED, record, Opt.IN))
        await self._keep(overlay, intakes)
        unnamed = sum(1 for wire in message.events if not wire.event_id)
        fault = Response(Code.INVALID_ID, f"{unnamed} events have no eventID", message.request_id)
        return Reception(tuple(answers), fault if unnamed else None, bool(intakes))

    def open_answers(self, registration: Registration) -> tuple[EventAnswer, ...]:
        """Answers that the VTN has not acknowledged as they would be now."""
        told = {answer.event_id: answer for answer in registration.answers}
        answers = (self._answer(record) for record in self.answerable().values())
        return tuple(a for a in answers if told.get(a.event_id) != _told(a))

    def acknowledge(
        self, registration: Registration, answers: Sequence[EventAnswer]
    ) -> Registration:
        """The registration once the VTN has acknowledged answers; forgets events that are over."""
        told = {answer.event_id: answer for answer in registration.answers}
        told |= {answer.event_id: _told(answer) for answer in answers if self._is_said(answer)}
        now = self._clock.now()
        known = tuple(
            answer
            for answer in told.values()
            if (record := self._record(answer.event_id)) is not None and is_open(record, now)
        )
        return replace(registration, answers=known)

    def withdrawals(self, registration: Registration, left_at: datetime) -> tuple[EventAnswer, ...]:
        """An optOut for each event that the VTN was told we take part in, and that leaving cut short."""
        return tuple(
            EventAnswer(answer.event_id, answer.revision, Opt.OUT)
            for answer in registration.answers
            if answer.opt is Opt.IN
            and (record := self._record(answer.event_id)) is not None
            and record.ended_at is not None
            and record.ended_at >= left_at
        )

    def _record(self, event_id: str) -> EventRecord | None:
        return self._book.records.get((self._settings.name, event_id))

    def _is_said(self, answer: EventAnswer) -> bool:
        """Whether an answer is what is said of the event as it is kept now."""
        record = self._record(answer.event_id)
        return record is not None and _told(answer) == _told(self._answer(record))

    def _judge_alone(
        self,
        wire: WireEvent | RejectedEvent,
        known: EventRecord | None,
        registration: Registration,
        now: datetime,
    ) -> tuple[Intake | None, EventAnswer]:
        """Judge one event so that even a fault of ours costs none of its neighbours."""
        try:
            return self._judge(wire, known, registration, now)
        except Exception as error:
            why = f"event {quote(wire.event_id)}: {type(error).__name__} in this VEN"
            log.exception("VEN %s: %s", self._settings.name, why)
            self._link.reject(why)
            return None, _refusal(wire, Code.OTHER, why)

    def _judge(
        self,
        wire: WireEvent | RejectedEvent,
        known: EventRecord | None,
        registration: Registration,
        now: datetime,
    ) -> tuple[Intake | None, EventAnswer]:
        try:
            event = self._event(wire, known, registration, now)
        except FaultError as fault:
            self._link.reject(fault.why)
            return None, _refusal(wire, fault.code, fault.why)
        if known is None and not self._has_room(now):
            self._link.reject(NO_ROOM)
            return None, _refusal(wire, Code.OTHER, NO_ROOM)
        intake = receive(known, event, self._programs, self._policy(), now, self._rng.random())
        if intake.record is None:
            return intake, EventAnswer(event.event_id, event.revision, intake.opt)
        answer = self._answer(intake.record)
        if (why := _out_of_sequence(intake, event)) is not None:
            self._link.reject(why)
            over = intake.record.ended_by is Ending.CANCELLED and not event.cancelled
            opt = Opt.OUT if over else answer.opt
            refusal = EventAnswer(event.event_id, event.revision, opt, Code.OUT_OF_SEQUENCE, why)
            return intake, refusal
        return intake, answer

    def _has_room(self, now: datetime) -> bool:
        """Whether one more event of this message can be taken."""
        left = self._room(now) if self._room_left is None else self._room_left
        self._room_left = max(0, left - 1)
        return left > 0

    def _event(
        self,
        wire: WireEvent | RejectedEvent,
        known: EventRecord | None,
        registration: Registration,
        now: datetime,
    ) -> Event:
        """The event as the core knows it; raises `FaultError` to refuse it.

        A cancellation of an event we hold is honoured whatever else is wrong with the message: it
        is the last thing that a fault elsewhere should keep from us.
        """
        cancels = wire.cancelled and known is not None and wire.revision is not None
        if isinstance(wire, WireEvent):
            if not cancels:
                self._check_addressee(wire, registration)
            event = translate(wire, self._settings.name, now)
        else:
            event = wire
        if isinstance(event, Event):
            return event
        if cancels and known is not None and wire.revision is not None:
            return replace(known.event, revision=wire.revision, cancelled=True)
        raise FaultError(event.code, event.why)

    def _check_addressee(self, wire: WireEvent, registration: Registration) -> None:
        """2.0b rules 22 and 48: targets are alternatives, and none at all means us.

        A target whose members only the VTN knows may mean us, as a group does of which we were not
        told whether it is ours.
        """
        contexts = self._settings.market_contexts
        name = f"event {quote(wire.event_id)}"
        context = wire.market_context
        if context in self._foreign_contexts or (contexts and context not in contexts):
            raise FaultError(
                Code.NOT_RECOGNIZED,
                f"{name}: its market context {quote(context)} is not one of ours",
            )
        targets, settings = wire.targets, self._settings
        named = (
            (targets.ven_ids, (registration.ven_id.strip(),)),
            (targets.resource_ids, (settings.resource or "",)),
            (targets.group_ids, settings.groups),
            (targets.party_ids, settings.parties),
        )
        asked = [name for names, _ in named for name in names]
        if targets.others or not asked:
            return
        if not any(names and (not ours or set(names) & set(ours)) for names, ours in named):
            others = ", ".join(asked)
            raise FaultError(Code.TARGET_MISMATCH, f"{name}: it is for {quote(others)}, not for us")

    def _missing(
        self, message: DistributeEvent, overlay: Mapping[Key, EventRecord], now: datetime
    ) -> tuple[EventRecord, ...]:
        """Events cancelled by not being listed (2.0b rule 61), if this is a whole list.

        It is none when it reports an error, or when any event's id could not be read. An event that
        was refused counts as listed: what we hold of it stays.
        """
        if any(not wire.event_id for wire in message.events):
            return ()
        known = dict(self._book.records)
        listed = {
            key: known[key].event
            for wire in message.events
            if (key := (self._settings.name, wire.event_id)) in known
        }
        return missing_from(listed, known, self._settings.name, now)

    def _answer(self, record: EventRecord) -> EventAnswer:
        """What the VTN is told of an event that is kept.

        A cancelled one is always confirmed: optOut would mean that it cannot be (2.0b rule 36). One
        that is left because nothing here could answer it says why by its code (2.0b rule 48). An
        operator's own words never leave the site.
        """
        event = record.event
        opt = Opt.IN if event.cancelled else record.opt.opt
        code, description = Code.OK, "OK"
        if opt is Opt.OUT and program_for(event, self._programs) is None:
            code = Code.NOT_RECOGNIZED
            description = f"no program for market context {quote(event.program)}"
        elif opt is Opt.OUT and not event.understood:
            code, description = Code.SIGNAL_NOT_SUPPORTED, "none of its signals is known here"
        return EventAnswer(event.event_id, event.revision, opt, code, description)

    def _refuse_all(self, message: DistributeEvent, registration: Registration) -> Reception:
        """A list from a VTN that is not ours is nobody's list: nothing is stored or implied."""
        why = f"vtnID is {quote(message.vtn_id)}, but our VTN is {quote(registration.vtn_id)}"
        self._link.reject(why)
        self._link.trouble("vtnID", f"its events are refused: {why}")
        answers = tuple(
            _refusal(wire, Code.INVALID_ID, why)
            for wire in message.events
            if wire.response_required and wire.event_id
        )
        return Reception(answers, Response(Code.INVALID_ID, why, message.request_id), news=False)


def _refusal(wire: WireEvent | RejectedEvent, code: Code, why: str) -> EventAnswer:
    return EventAnswer(wire.event_id, wire.revision or 0, Opt.OUT, code, why)


def _out_of_sequence(intake: Intake, event: Event) -> str | None:
    """Why an event's modificationNumber is wrong (2.0b rules 5 and 58)."""
    if intake.record is None:
        return None
    number = f"event {quote(event.event_id)}: modificationNumber {event.revision}"
    match intake.verdict:
        case Verdict.OUTDATED:
            held = intake.record.event.revision
            return f"{number} is below {held}, which is known already (2.0b rule 58)"
        case Verdict.CONFLICTING:
            return f"{number} came with another content before (2.0b rule 5)"
        case _:
            return None


def _told(answer: EventAnswer) -> Answer:
    return Answer(answer.event_id, answer.revision, answer.opt)
