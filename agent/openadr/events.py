"""Storing and announcing what becomes of the events that a VTN sends, whatever OpenADR it speaks.

Nothing here acts on the site.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime

from agent.core.event import Ending, EventRecord, Key
from agent.core.intake import Intake, Verdict
from agent.errors import StoreError, quote
from agent.openadr.base import Surroundings
from agent.openadr.settings import VenSettings
from agent.openadr.standing import LinkKeeper

log = logging.getLogger(__name__)

MOST_AHEAD = 2_000
MOST_KEPT = 20_000
"""Events of one VEN that are not over, and all: the control cycle goes through them each second."""
NO_ROOM = f"no more events are taken while {MOST_AHEAD} of them are not over, or {MOST_KEPT} are kept in all"
CHANGES = (Verdict.NEW, Verdict.MODIFIED, Verdict.CANCELLED)
"""The verdicts by which something is to be stored and announced."""


class EventTaker:
    """Takes in a VTN's events, for one VEN; a profile says how it judges them."""

    def __init__(self, settings: VenSettings, around: Surroundings, link: LinkKeeper) -> None:
        self._settings = settings
        self._book = around.book
        self._programs = around.programs
        self._policy = around.policy
        self._clock = around.clock
        self._rng = around.rng
        self._on_intake = around.on_intake
        self._foreign_contexts = around.foreign_contexts
        self._link = link

    def answerable(self) -> Mapping[str, EventRecord]:
        """By id: the events on which the VTN is still to know how we decide.

        Cancelled ones are not among them: those are answered when the cancellation arrives.
        """
        now = self._clock.now()
        return {
            key[1]: record
            for key, record in tuple(self._book.records.items())
            if key[0] == self._settings.name and is_open(record, now)
        }

    def _room(self, now: datetime) -> int:
        """How many more events may be taken."""
        ours = [r for key, r in self._book.records.items() if key[0] == self._settings.name]
        ahead = sum(r.ended_by is not Ending.CANCELLED and not r.is_past(now) for r in ours)
        return max(0, min(MOST_AHEAD - ahead, MOST_KEPT - len(ours)))

    async def retry_store(self) -> None:
        """Write what an earlier failure left in memory only."""
        # Another VEN may have been the one to succeed.
        if self._book.unsaved or self._link.in_trouble("event store"):
            await self._store()

    async def _keep(self, records: Mapping[Key, EventRecord], intakes: Sequence[Intake]) -> None:
        if not intakes:
            return
        await self._store(*records.values())
        for intake in intakes:
            if intake.record is not None:
                log.info(
                    "VEN %s: %s", self._settings.name, _describe(intake.verdict, intake.record)
                )
        self._on_intake(tuple(intakes))

    async def _store(self, *records: EventRecord) -> None:
        """Put records into the book; without room they are held in memory, and count all the same."""
        self._book.hold(*records)
        try:
            await asyncio.to_thread(self._book.flush)
        except StoreError as error:
            self._link.trouble("event store", str(error))
        else:
            self._link.clear("event store")


def _describe(verdict: Verdict, record: EventRecord) -> str:
    event = record.event
    signals = ", ".join(signal.name for signal in event.signals)
    length = "until cancelled" if event.duration is None else f"for {event.duration}"
    return (
        f"event {quote(event.event_id)} {verdict} (modification {event.revision}): "
        f"{quote(signals)} at {event.starts_at:%Y-%m-%d %H:%M:%S} UTC {length}, "
        f"opt {record.opt.opt}: {record.opt.why}"
    )


def is_open(record: EventRecord, now: datetime) -> bool:
    """Whether a change of mind on an event is still to be told."""
    return (
        record.event.response_required
        and record.ended_by is not Ending.CANCELLED
        and not record.is_past(now)
    )
