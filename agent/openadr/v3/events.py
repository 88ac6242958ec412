"""Taking in a VTN's list of events: what is new, changed or gone, and what each came to.

There is no modification number, and no word for a cancel: an event counts as changed when it comes to
something else in the core, and as gone when it is missing from a whole list and the VTN, asked for it
by its id, has none. One that cannot be used leaves what is known of it as it is, and so does one whose
program cannot be read: what its values are measured in, and whose it is, stand there.
"""

import asyncio
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from agent.core.event import Ending, Event, EventRecord, Key
from agent.core.intake import Intake, receive
from agent.errors import UnreachableError, quote
from agent.openadr.base import Surroundings
from agent.openadr.events import CHANGES, NO_ROOM, EventTaker
from agent.openadr.http import StatusError
from agent.openadr.standing import LinkKeeper
from agent.openadr.v3.bulk import uncollected
from agent.openadr.v3.course import CourseError, read_time
from agent.openadr.v3.schedule import Grid, grid_of
from agent.openadr.v3.settings import Ven3Settings
from agent.openadr.v3.translate import Translation, Translator
from agent.openadr.v3.wire import (
    RejectedObject,
    WireEvent,
    WireProgram,
    WireReportDescriptor,
    read_object,
    read_objects,
)

log = logging.getLogger(__name__)

MOST_ASKED_FOR = 50
"""Missing events that the VTN is asked for by their id in one round; any of them, so that none waits for
good behind others that the VTN says nothing of."""
SPARE_DEPTH = 50
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class ReportAsk:
    """What one event asks to be reported."""

    event_id: str
    program_id: str
    grid: Grid | None
    """The intervals that reports refer to; None where there are none that end."""
    descriptors: tuple[WireReportDescriptor, ...]
    unreadable: tuple[RejectedObject, ...] = ()
    """Requests that cannot be read, with why."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What an event came to when it was last looked at."""

    digest: bytes
    found: Translation | RejectedObject
    stamp: int = 0
    """Its modificationDateTime, us since 1970; 0 where it has none."""
    program_id: str = ""
    ask: ReportAsk | None = None

    def is_good(self, digest: bytes, now: datetime) -> bool:
        """Whether there is nothing to look at again."""
        renew_at = self.found.renew_at if isinstance(self.found, Translation) else None
        return self.digest == digest and (renew_at is None or now < renew_at)


class ListReceiver(EventTaker):
    """Takes in what a VTN of OpenADR 3 lists, for one VEN."""

    def __init__(self, settings: Ven3Settings, around: Surroundings, link: LinkKeeper) -> None:
        super().__init__(settings, around, link)
        self._zero_is_endless = settings.version == "3.0.1"
        self._seen: Mapping[str, Seen] = {}

    @property
    def asks(self) -> Iterator[ReportAsk]:
        """The reports that the listed events ask for."""
        return (seen.ask for seen in self._seen.values() if seen.ask is not None)

    def program_id_of(self, event: Event) -> str:
        """The id of an event's program at the VTN; its name where that is all that is known."""
        seen = self._seen.get(event.event_id)
        return event.program if seen is None or not seen.program_id else seen.program_id

    def records(self) -> list[EventRecord]:
        """What is known of this VEN's events."""
        name = self._settings.name
        return [record for key, record in tuple(self._book.records.items()) if key[0] == name]

    async def take(
        self,
        events: Sequence[Any],
        programs: Iterable[WireProgram],
        look_up: Callable[[str], Awaitable[Any | None]],
    ) -> None:
        """Judge, store and announce the events of one whole list. `look_up` gives one by its id, or None
        where the VTN has none; what it cannot say stays as it is until the next list.
        """
        now = self._clock.now()
        translator = Translator(
            self._settings.name, {p.id: p for p in programs}, self._zero_is_endless
        )
        seen = self._admit(await asyncio.to_thread(self._look_at, events, translator, now), now)
        missing = self._unlisted(seen, now)
        # Before anything else: whatever becomes of the missing ones, what is listed counts.
        await self._judge_all(seen, (), now)
        gone, found = await self._confirmed(missing, look_up)
        more = await asyncio.to_thread(self._look_at, found, translator, now)
        await self._judge_all(more, gone, now)
        # Until now they stood for what was seen before.
        self._seen = seen | more

    def _admit(self, seen: dict[str, Seen], now: datetime) -> dict[str, Seen]:
        """Of what is listed, what there is room for: all that is known, and the first of what is new."""
        name, known = self._settings.name, self._book.records
        new = [
            event_id
            for event_id, one in seen.items()
            if (name, event_id) not in known
            and isinstance(one.found, Translation)
            and one.found.event is not None
            and self._is_ours(one.found.event)
            and not _is_over(one.found.event, now)
        ]
        surplus = set(new[self._room(now) :]) if new else set()
        if surplus:
            self._link.reject(NO_ROOM)
        return {event_id: one for event_id, one in seen.items() if event_id not in surplus}

    async def _judge_all(
        self, seen: Mapping[str, Seen], gone: Sequence[str], now: datetime
    ) -> None:
        """Judge, store and announce. What was judged before as it is now is not judged again."""
        self._say_rejected(seen)
        overlay: dict[Key, EventRecord] = {}
        intakes: list[Intake] = []
        for event_id in (*gone, *seen):
            key, one = (self._settings.name, event_id), seen.get(event_id)
            known = self._book.records.get(key)
            as_before = one is not None and one is self._seen.get(event_id)
            if as_before and (known is None or known.ended_by is not Ending.CANCELLED):
                continue
            intake = self._judge_one(key, one, now)
            if intake is not None and intake.record is not None and intake.verdict in CHANGES:
                overlay[key] = intake.record
                intakes.append(intake)
        self._seen = {**self._seen, **seen}
        await self._keep(overlay, intakes)

    def _look_at(
        self, documents: Sequence[Any], translator: Translator, now: datetime
    ) -> dict[str, Seen]:
        """By id: what each event of a list comes to. What has not changed is as before. In a thread."""
        with uncollected():
            return dict(
                self._look_at_alone(place, document, translator, now)
                for place, document in enumerate(documents, start=1)
            )

    def _look_at_alone(
        self, place: int, document: Any, translator: Translator, now: datetime
    ) -> tuple[str, Seen]:
        """So that even a fault of ours costs none of its neighbours."""
        try:
            return self._look_at_one(place, document, translator, now)
        except Exception as error:
            event_id = _id_in(document) or f"#{place}"
            why = f"{type(error).__name__} in this VEN"
            fault = Seen(b"", RejectedObject("event", event_id, "", why))
            if self._seen.get(event_id) != fault:
                log.exception("VEN %s: event %s: %s", self._settings.name, quote(event_id), why)
            return event_id, fault

    def _look_at_one(
        self, place: int, document: Any, translator: Translator, now: datetime
    ) -> tuple[str, Seen]:
        event_id = _id_in(document)
        try:
            text = json.dumps(
                _nested([document, str(translator.programs.get(_program_in(document)))])
            )
        except RecursionError:
            why = "it is nested too deeply"
            return event_id or f"#{place}", Seen(
                b"", RejectedObject("event", event_id or f"#{place}", "", why)
            )
        digest = hashlib.blake2b(text.encode()).digest()
        if (known := self._seen.get(event_id)) is not None and known.is_good(digest, now):
            return event_id, known
        wire = read_object(WireEvent, document, "event", place)
        if isinstance(wire, RejectedObject):
            return wire.object_id, Seen(digest, wire)
        record = self._book.records.get((self._settings.name, wire.id))
        heard_at = None if record is None else record.event.created_at
        try:
            found = translator.translate(wire, now, heard_at)
            ask = self._ask_of(wire, now)
        except CourseError as fault:
            return wire.id, Seen(digest, RejectedObject("event", wire.id, fault.field, str(fault)))
        if record is not None and wire.program_id not in translator.programs:
            found = _as_known(record, wire, found)
        return wire.id, Seen(digest, found, _stamp(wire), wire.program_id, ask)

    def _ask_of(self, wire: WireEvent, now: datetime) -> ReportAsk | None:
        asked = wire.report_descriptors
        if not asked:
            return None
        listed = asked if isinstance(asked, list) else [asked]
        wanted, unreadable = read_objects(WireReportDescriptor, listed, "report descriptor")
        grid = grid_of(wire, now, zero_is_endless=self._zero_is_endless)
        return ReportAsk(wire.id, wire.program_id, grid, wanted, unreadable)

    def _say_rejected(self, seen: Mapping[str, Seen]) -> None:
        """Count and name what cannot be used, once for each version of it."""
        for event_id, one in seen.items():
            if isinstance(one.found, RejectedObject) and self._seen.get(event_id) != one:
                self._link.reject(str(one.found))

    async def _confirmed(
        self, missing: Sequence[Key], look_up: Callable[[str], Awaitable[Any | None]]
    ) -> tuple[list[str], list[Any]]:
        """The ids of the events that are gone, and those that are there all the same."""
        gone: list[str] = []
        found: list[Any] = []
        for _, event_id in missing:
            try:
                document = await look_up(event_id)
            except StatusError as error:
                log.info("VEN %s: whether an event is gone: %s", self._settings.name, error)
                continue
            except UnreachableError as error:
                log.info("VEN %s: whether events are gone: %s", self._settings.name, error)
                break  # Each of the others might take as long.
            if document is None:
                gone.append(event_id)
            elif _id_in(document) == event_id:
                found.append(document)
            else:
                said = "what the VTN answers, asked for it by its id, is something else"
                self._link.say_once(f"event {quote(event_id)}: {said}")
        return gone, found

    def _unlisted(self, seen: Mapping[str, Seen], now: datetime) -> list[Key]:
        """Events that we hold and a list does not, of which something may still come."""
        missing = [
            key
            for key, record in tuple(self._book.records.items())
            if key[0] == self._settings.name
            and key[1] not in seen
            and record.ended_by is not Ending.CANCELLED
            and not record.is_past(now)
        ]
        return self._rng.sample(missing, min(len(missing), MOST_ASKED_FOR))

    def _judge_one(self, key: Key, seen: Seen | None, now: datetime) -> Intake | None:
        """Judge one event so that even a fault of ours costs none of its neighbours; None: it is gone."""
        try:
            return self._intake(key, seen, now)
        except Exception as error:
            why = f"event {quote(key[1])}: {type(error).__name__} in this VEN"
            log.exception("VEN %s: %s", self._settings.name, why)
            self._link.reject(why)
            return None

    def _intake(self, key: Key, seen: Seen | None, now: datetime) -> Intake | None:
        known = self._book.records.get(key)
        found = None if seen is None else seen.found
        if isinstance(found, RejectedObject):
            return None
        event = None if found is None else found.event
        if event is not None and seen is not None and self._is_ours(event):
            if known is None and _is_over(event, now):
                return None
            event = _numbered(event, seen.stamp, known)
        elif known is None or known.ended_by is Ending.CANCELLED or known.is_past(now):
            return None
        else:
            event = replace(known.event, revision=known.event.revision + 1, cancelled=True)
        return receive(known, event, self._programs, self._policy(), now, self._rng.random())

    def _is_ours(self, event: Event) -> bool:
        contexts = self._settings.market_contexts
        return event.program not in self._foreign_contexts and (
            not contexts or event.program in contexts
        )


def _as_known(
    known: EventRecord, wire: WireEvent, found: Translation | RejectedObject
) -> Translation | RejectedObject:
    """What an event without a readable program comes to where we know it under one: it may only end."""
    if isinstance(found, RejectedObject) or found.event is None:
        return found
    if known.event.program == found.event.program:
        return found
    why = "its program cannot be read; the event stays as it was"
    return RejectedObject("event", wire.id, "programID", why)


def _numbered(event: Event, stamp: int, known: EventRecord | None) -> Event:
    """With a revision that tells whether it is another than the one we know, and ascends."""
    if known is None:
        return replace(event, revision=stamp)
    told = known.event
    same = replace(event, revision=told.revision, created_at=told.created_at, comment=told.comment)
    return same if same == told else replace(event, revision=max(stamp, told.revision + 1))


def _is_over(event: Event, now: datetime) -> bool:
    return (
        event.duration is not None and event.starts_at + event.duration + event.start_window <= now
    )


def _stamp(wire: WireEvent) -> int:
    try:
        return 0 if wire.modified is None else (read_time(wire.modified) - _EPOCH) // _TICK
    except ValueError:
        return 0


def _id_in(document: Any) -> str:
    object_id = document.get("id") if isinstance(document, dict) else None
    return str(object_id or "") if isinstance(object_id, str | int) else ""


def _nested(document: Any) -> Any:
    """Deeper than it is: what can be written like this leaves room for whatever looks at it later."""
    for _ in range(SPARE_DEPTH):
        document = [document]
    return document


def _program_in(document: Any) -> str:
    return str(document.get("programID")) if isinstance(document, dict) else ""
