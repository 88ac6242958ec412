"""What the cycle keeps, and what it does when that cannot be written.

Whatever fails to reach the disk stays in memory, is named as a problem, and is tried again with the
next write; the cycle goes on.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from agent.core.event import EventRecord
from agent.core.ledger import Entry
from agent.core.picture import Key, Stop
from agent.core.sample import Sample
from agent.core.settlement import Performance
from agent.errors import StoreError
from agent.store.audit import Audit, AuditLine
from agent.store.database import Database
from agent.store.events import EventBook
from agent.store.facts import Facts
from agent.store.history import KEEP, History
from agent.store.ledger import Ledger

log = logging.getLogger(__name__)

KEEP_EVENTS = timedelta(days=35)
"""How long an event that is over is kept, for reports and disputes."""

_STOP = TypeAdapter(Stop)
_PERFORMANCE = TypeAdapter(Performance)
_STOP_FACT = "stop"

T = TypeVar("T")


class Keeper:
    """The stores, as the control cycle uses them."""

    def __init__(self, database: Database, history: History) -> None:
        """`database` is the open `state.db`. Raises `StoreError` when it cannot be read."""
        self.events = EventBook(database)
        self.ledger = Ledger(database)
        self.history = history
        self._facts = Facts(database)
        self._audit = Audit(database)
        self._unsaved: list[Sample] = []
        # What was damaged is said until the next start.
        salvaged = {"state.db": database.salvaged, "history.db": history.salvaged}
        self._troubles = {file: said for file, said in salvaged.items() if said}
        self._stop = self._read_stop()

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
        """What could not be written or read lately, each a sentence."""
        return tuple(self._troubles.values())

    async def freeze(self, records: Sequence[EventRecord]) -> None:
        """Keep records whose baseline was frozen, and whatever waited for room.

        What arrived from the VTN since the cycle began stays: only the baseline is added.
        """
        for record in records:
            current = self.events.records.get(record.key)
            if current is not None and current.event.starts_at == record.event.starts_at:
                self.events.hold(replace(current, baseline=record.baseline))
        if self.events.unsaved:
            await self._try("events", self.events.flush)

    async def put_events(self, records: Sequence[EventRecord], line: AuditLine) -> None:
        """Keep what an operator's deed made of events, and the deed."""
        self.events.hold(*records)
        await self._try("events", self.events.flush)
        await self._try("audit", lambda: self._audit.add(line))

    async def deeds(self, count: int) -> tuple[AuditLine, ...]:
        """The operators' latest deeds, newest first."""
        return await self._try("audit", lambda: self._audit.last(count)) or ()

    async def put_stop(self, stop: Stop | None) -> None:
        """Put the local stop in force or lift it."""
        self._stop = stop
        document = None if stop is None else _STOP.dump_json(stop).decode()
        await self._try("facts", lambda: self._facts.put({_STOP_FACT: document}))

    async def add_sample(self, sample: Sample) -> None:
        """Keep a sample; up to an hour of them waits in memory while there is no room."""
        self._unsaved.append(sample)
        del self._unsaved[:-3600]
        waiting = tuple(self._unsaved)
        await self._try("history", lambda: self.history.add(waiting))
        if "history" not in self._troubles:
            self._unsaved.clear()

    async def samples(
        self, since: datetime, until: datetime, most: int | None = None
    ) -> tuple[Sample, ...]:
        """Kept samples with since <= at < until, in order; of more than `most` the first ones."""
        found = await self._try("history", lambda: self.history.between(since, until, most))
        return found or ()

    async def tidy(self, now: datetime) -> None:
        """Forget what nobody will ask for any more: events long over, samples long past."""
        old = self.events.older_than(now - KEEP_EVENTS)
        if old:
            self.events.forget(old)
            await self._try("events", self.events.flush)
            gone = dict.fromkeys(map(_performance_fact, old))
            await self._try("facts", lambda: self._facts.put(gone))
        await self._try("history", lambda: self.history.forget_before(now - KEEP))

    async def put_performance(self, key: Key, figures: Performance | None) -> None:
        """Keep an event's final figures, or with None forget them."""
        document = None if figures is None else _PERFORMANCE.dump_json(figures).decode()
        await self._try("facts", lambda: self._facts.put({_performance_fact(key): document}))

    async def performance(self, key: Key) -> Performance | None:
        """An event's final figures, if they were kept."""
        document = await self._try("facts", lambda: self._facts.get(_performance_fact(key)))
        try:
            return None if document is None else _PERFORMANCE.validate_json(document)
        except ValidationError:
            return None

    async def _try(self, what: str, action: Callable[[], T]) -> T | None:
        """Run a store call off the event loop; None, and a trouble, when it fails."""
        try:
            result = await asyncio.to_thread(action)
        except StoreError as error:
            if what not in self._troubles:
                log.error("%s", error)
            self._troubles[what] = str(error)
            return None
        self._troubles.pop(what, None)
        return result

    def _read_stop(self) -> Stop | None:
        document = self._facts.get(_STOP_FACT)
        return None if document is None else _STOP.validate_json(document)


def _performance_fact(key: Key) -> str:
    return "performance " + json.dumps(key)
