"""The events and what the site decided about each."""

import sqlite3
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType

from pydantic import TypeAdapter, ValidationError

from agent.core.event import EventRecord, Key
from agent.store.database import Database
from agent.store.pending import Pending

_RECORD = TypeAdapter(EventRecord)


class EventBook:
    """All event records: on disk, and in memory for the control cycle to read at any time.

    `hold`, `forget` and everything that reads belong to one thread, the event loop's; `flush` may run in
    others. What could not be written for lack of room stays in memory, counted in `unsaved`, until
    the next `flush`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._records: dict[Key, EventRecord] = {}
        self._pending: Pending[Key, EventRecord] = Pending(database, _write)
        self.unreadable: tuple[str, ...] = ()
        """Rows that could not be understood, a sentence each; they are left as they are."""
        self._load()

    @property
    def records(self) -> Mapping[Key, EventRecord]:
        """All records by (VEN, event id); a live view."""
        return MappingProxyType(self._records)

    @property
    def unsaved(self) -> int:
        """How many records are not on disk as they are, those to be removed there included."""
        return len(self._pending)

    def hold(self, *records: EventRecord) -> None:
        """Keep records in memory, at once; `flush` brings them to disk."""
        for record in records:
            self._records[record.key] = record
            self._pending.hold(record.key, record)

    def forget(self, keys: tuple[Key, ...]) -> None:
        """Remove records from memory, at once; `flush` removes them from disk."""
        for key in keys:
            self._records.pop(key, None)
            self._pending.hold(key, None)

    def flush(self) -> None:
        """Bring to disk what is not there yet. Raises `StoreError` or one of its kinds."""
        self._pending.flush()

    def put(self, *records: EventRecord) -> None:
        """`hold` and `flush`."""
        self.hold(*records)
        self.flush()

    def older_than(self, at: datetime) -> tuple[Key, ...]:
        """Keys of events that ended before `at`, for forgetting."""
        return tuple(
            key
            for key, record in self._records.items()
            if (end := record.ended_at or record.ends_at) is not None and end < at
        )

    def surplus(self, most: int, before: datetime) -> tuple[Key, ...]:
        """Keys of events that ended before `before`, for forgetting: of each VEN all but the `most` that
        ended last.
        """
        over: dict[str, list[tuple[datetime, Key]]] = {}
        for key, record in self._records.items():
            end = record.ended_at or record.ends_at
            if end is not None and end < before:
                over.setdefault(key[0], []).append((end, key))
        return tuple(key for ended in over.values() for _, key in sorted(ended)[: -most or None])

    def _load(self) -> None:
        unreadable = []
        for row in self._database.query("SELECT ven, event_id, record FROM events"):
            try:
                record = _RECORD.validate_json(row["record"])
            except ValidationError as error:
                unreadable.append(
                    f"event {row['event_id']} of {row['ven']}: {error.error_count()} faults"
                )
                continue
            self._records[record.key] = record
        self.unreadable = tuple(unreadable)


def _write(connection: sqlite3.Connection, records: Mapping[Key, EventRecord | None]) -> None:
    for key, record in records.items():
        if record is None:
            connection.execute("DELETE FROM events WHERE ven = ? AND event_id = ?", key)
        else:
            document = _RECORD.dump_json(record).decode()
            connection.execute("INSERT OR REPLACE INTO events VALUES (?, ?, ?)", (*key, document))
