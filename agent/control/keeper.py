"""What the cycle keeps, and what it does when that cannot be written.

Whatever fails to reach the disk stays in memory, is named as a problem, and is tried again in every
cycle; the cycle goes on.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from agent.core.event import EventRecord, Key
from agent.core.ledger import Entry
from agent.core.link import Departure
from agent.core.picture import Stop
from agent.core.sample import Sample
from agent.core.settlement import Performance
from agent.core.timeline import BEGINNING
from agent.errors import StoreBusyError, StoreError
from agent.store.audit import Audit, AuditLine
from agent.store.database import Database, failures, peek
from agent.store.events import EventBook
from agent.store.facts import Facts
from agent.store.history import KEEP, History
from agent.store.ledger import Ledger

log = logging.getLogger(__name__)

KEEP_EVENTS = timedelta(days=35)
"""How long an event that is over is kept, for reports and disputes."""
MOST_OVER = 10_000
"""How many of one VEN's are: a new event each five minutes for all that time."""
SETTLED = timedelta(hours=2)
"""An event that ended so long ago has no hold on the site any more."""
MOST_FIGURES = 1000
"""Of how many events the final figures may wait in memory for room; they can be worked out anew."""

_STOP = TypeAdapter(Stop)
_DEPARTURE = TypeAdapter(Departure)
_PERFORMANCE = TypeAdapter(Performance)
_STOP_FACT = "stop"
_CONTACTS = TypeAdapter(dict[str, datetime])
_CONTACTS_FACT = "contacts"
CONTACT_SPACING = timedelta(minutes=1)
"""How far the kept time of a VTN's last answer may lag behind: it is written no more often."""

T = TypeVar("T")


class Keeper:
    """The stores, as the control cycle uses them."""

    def __init__(self, database: Database, history: History, now: datetime) -> None:
        """`database` is the open `state.db`; `now`: since when a local stop counts whose record cannot
        be understood. Raises `StoreError` when it cannot be read.
        """
        self.events = EventBook(database)
        self.ledger = Ledger(database)
        self.history = history
        self._database = database
        self._facts = Facts(database)
        self._figures = Facts(database, MOST_FIGURES)
        self._audit = Audit(database)
        self._unsaved: list[Sample] = []
        left = (*self.ledger.unreadable, *self.events.unreadable)
        self._found = (
            *filter(None, [database.salvaged]),
            *(f"in state.db, not to be understood and left as it is: {row}" for row in left),
        )
        self._failed_writes: dict[str, StoreError] = {}
        self._failed_reads: dict[str, StoreError] = {}
        self._unknown_stop = ""
        self._stop = self._read_stop(now)
        self._contacts = self._read_contacts()
        self._started_at = now
        self._departures: dict[str, Departure | None] = {}

    @property
    def records(self) -> Mapping[Key, EventRecord]:
        """All events and what was decided about each."""
        return self.events.records

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All setpoints in force."""
        return self.ledger.entries

    @property
    def stop(self) -> Stop | None:
        """The operator's local stop, if it is in force."""
        return self._stop

    @property
    def troubles(self) -> tuple[str, ...]:
        """What cannot be written or read, each a sentence; what was found damaged or could not be
        understood at the start is among it until the next one.
        """
        failed = (*self._failed_writes.values(), *self._failed_reads.values())
        found = (*self._found, *filter(None, [self.history.salvaged, self._unknown_stop]))
        return tuple(dict.fromkeys((*found, *map(str, failed))))

    async def freeze(self, records: Sequence[EventRecord]) -> None:
        """Keep records whose baseline was frozen, and whatever waited for room.

        What arrived from the VTN since the cycle began stays: only the baseline is added.
        """
        for record in records:
            current = self.events.records.get(record.key)
            if current is not None and current.event.starts_at == record.event.starts_at:
                self.events.hold(replace(current, baseline=record.baseline))
        await self._flush()

    async def put_events(self, records: Sequence[EventRecord], line: AuditLine) -> None:
        """Keep what an operator's deed made of events, and the deed."""
        self.events.hold(*records)
        self._audit.hold(line)
        await self._flush()

    async def deeds(self, count: int) -> tuple[AuditLine, ...] | None:
        """The operators' latest deeds, newest first; None, and a trouble, when they cannot be read."""
        return await self._read("audit", lambda: self._audit.last(count))

    async def put_stop(self, stop: Stop | None) -> None:
        """Put the local stop in force or lift it."""
        self._stop = stop
        self._unknown_stop = ""
        self._facts.hold({_STOP_FACT: None if stop is None else _STOP.dump_json(stop).decode()})
        await self._flush()

    def departure(self, ven: str) -> Departure | None:
        """That the operator took a VEN out of its program; None while it belongs to it.

        A record of it that cannot be understood counts: it is there only while the VEN is out. Raises
        `StoreError` the first time, when it cannot be read.
        """
        if ven not in self._departures:
            self._departures[ven] = self._read_departure(ven)
        return self._departures[ven]

    async def put_departure(self, ven: str, departure: Departure | None) -> None:
        """Take a VEN out of its program, or with None back in."""
        self._departures[ven] = departure
        document = None if departure is None else _DEPARTURE.dump_json(departure).decode()
        self._facts.hold({_departure_fact(ven): document})
        await self._flush()

    def contacts(self, live: Mapping[str, datetime | None]) -> Mapping[str, datetime | None]:
        """When each VEN's VTN last answered, over restarts; `live`: what is known of it since the start.

        Written with the next flush.
        """
        news = {ven: at for ven, at in live.items() if at is not None}
        if any(
            at - self._contacts.get(ven, BEGINNING) > CONTACT_SPACING for ven, at in news.items()
        ):
            self._contacts |= news
            self._facts.hold({_CONTACTS_FACT: _CONTACTS.dump_json(self._contacts).decode()})
        return {ven: at or self._contacts.get(ven) for ven, at in live.items()}

    async def add_sample(self, sample: Sample) -> None:
        """Keep a sample; up to an hour of them waits in memory while there is no room."""
        self._unsaved.append(sample)
        del self._unsaved[:-3600]
        waiting = tuple(self._unsaved)
        if await self._write("history", lambda: self.history.add(waiting)):
            self._unsaved.clear()

    async def samples(
        self, since: datetime, until: datetime, most: int | None = None
    ) -> tuple[Sample, ...]:
        """Kept samples with since <= at < until, in order; of more than `most` the first ones."""
        found = await self._read("history", lambda: self.history.between(since, until, most))
        return found or ()

    async def tidy(self, now: datetime) -> None:
        """Forget what nobody will ask for any more: events long over, samples long past, and what
        could not be read and was not asked for since.
        """
        self._failed_reads.clear()
        old = self.events.older_than(now - KEEP_EVENTS)
        old += tuple(set(self.events.surplus(MOST_OVER, now - SETTLED)) - set(old))
        if old:
            self.events.forget(old)
            self._figures.hold(dict.fromkeys(map(_performance_fact, old)))
            await self._flush()
        await self._write("history", lambda: self.history.forget_before(now - KEEP))
        await asyncio.to_thread(self._database.lay_ballast)

    async def put_performance(self, key: Key, figures: Performance | None) -> None:
        """Keep an event's final figures, or with None forget them."""
        document = None if figures is None else _PERFORMANCE.dump_json(figures).decode()
        self._figures.hold({_performance_fact(key): document})
        await self._flush()

    async def performance(self, key: Key) -> Performance | None:
        """An event's final figures, if they were kept."""
        document = await self._read("figures", lambda: self._figures.get(_performance_fact(key)))
        try:
            return None if document is None else _PERFORMANCE.validate_json(document)
        except ValidationError:
            return None

    async def _flush(self) -> None:
        """Bring to disk what waits, what matters most first."""
        books: dict[str, Facts | EventBook | Audit] = {
            "facts": self._facts,
            "events": self.events,
            "audit": self._audit,
            "figures": self._figures,
        }
        for name, book in books.items():
            if not book.unsaved:
                # The VENs write events, too, and may have been the ones to succeed.
                self._failed_writes.pop(name, None)
            elif not await self._write(name, book.flush) and self._locked(name):
                # The others would only wait for the same lock.
                return

    async def _write(self, what: str, action: Callable[[], None]) -> bool:
        """Run a store's write off the event loop; False, and a trouble, when it fails."""
        try:
            await asyncio.to_thread(action)
        except StoreError as error:
            _note(self._failed_writes, what, error)
            return False
        self._failed_writes.pop(what, None)
        return True

    async def _read(self, what: str, action: Callable[[], T]) -> T | None:
        """Run a store's read off the event loop; None, and a trouble, when it fails."""
        try:
            result = await asyncio.to_thread(action)
        except StoreError as error:
            _note(self._failed_reads, what, error)
            return None
        self._failed_reads.pop(what, None)
        return result

    def _locked(self, what: str) -> bool:
        return isinstance(self._failed_writes.get(what), StoreBusyError)

    def _read_stop(self, now: datetime) -> Stop | None:
        """The local stop as it is kept.

        The fact is there only while a stop is in force, so one that cannot be understood is in force
        all the same: whoever stopped the agent may be at work on what it would command.
        """
        document = self._facts.get(_STOP_FACT)
        if document is None:
            return None
        try:
            return _STOP.validate_json(document)
        except ValidationError:
            why = "its record in state.db cannot be read, so it counts as in force"
            self._unknown_stop = f"a local stop is in force: {why} until `flexload resume`"
            return Stop(now, "somebody", why)

    def _read_departure(self, ven: str) -> Departure | None:
        return _departure_of(self._facts.get(_departure_fact(ven)), self._started_at)

    def _read_contacts(self) -> dict[str, datetime]:
        try:
            return _CONTACTS.validate_json(self._facts.get(_CONTACTS_FACT) or "{}")
        except ValidationError:
            return {}


def _note(failed: dict[str, StoreError], what: str, error: StoreError) -> None:
    if what not in failed:
        log.error("%s", error)
    failed[what] = error


def departure_in(file: Path, ven: str, now: datetime) -> Departure | None:
    """That a VEN was taken out of its program, in a database that may be another process's.

    None also where there is no database yet. Raises `StoreError` or one of its kinds.
    """
    with failures(file):
        if not file.exists():
            return None
    rows = peek(file, "SELECT value FROM facts WHERE name = ?", (_departure_fact(ven),))
    return _departure_of(rows[0]["value"] if rows else None, now)


def _departure_of(document: str | None, otherwise: datetime) -> Departure | None:
    """A departure as it was kept; one whose record cannot be read counts, as if from `otherwise` on."""
    try:
        return None if document is None else _DEPARTURE.validate_json(document)
    except ValidationError:
        why = "its record in state.db cannot be read, so it counts"
        return Departure(otherwise, "somebody", why)


def _departure_fact(ven: str) -> str:
    return f"left {ven}"


def _performance_fact(key: Key) -> str:
    return "performance " + json.dumps(key)
