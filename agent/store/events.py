"""The events and what the site decided about each."""

import threading
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType

from pydantic import TypeAdapter, ValidationError

from agent.core.event import EventRecord
from agent.store.database import Database

Key = tuple[str, str]

_RECORD = TypeAdapter(EventRecord)


class EventBook:
    """All event records: on disk, and in memory for the control cycle to read at any time.

    `hold`, `forget` and everything that reads belong to one thread, the event loop's; `flush` may run in
    another. What could not be written for lack of room stays in memory, counted in `unsaved`, until
    the next `flush`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._records: dict[Key, EventRecord] = {}
        self._unsaved: set[Key] = set()
        self._gone: set[Key] = set()
        self._lock = threading.Lock()
        self.unreadable: tuple[str, ...] = ()
        """Rows that could not be understood, a sentence each; they are left as they are."""
        self._load()

    @property
    def records(self) -> Mapping[Key, EventRecord]:
        """All records by (VEN, event id); a live view."""
        return MappingProxyType(self._records)

    @property
    def unsaved(self) -> int:
        """How many records are not on disk yet."""
        return len(self._unsaved)

    def hold(self, *records: EventRecord) -> None:
        """Keep records in memory, at once; `flush` brings them to disk."""
        with self._lock:
            for record in records:
                self._records[record.key] = record
                self._unsaved.add(record.key)
                self._gone.discard(record.key)

    def forget(self, keys: tuple[Key, ...]) -> None:
        """Remove records from memory, at once; `flush` removes them from disk."""
        with self._lock:
            for key in keys:
                self._records.pop(key, None)
                self._unsaved.discard(key)
                self._gone.add(key)

    def flush(self) -> None:
        """Bring to disk what is not there yet. Raises `StoreError` or one of its kinds."""
        with self._lock:
            waiting = {key: self._records[key] for key in self._unsaved}
            gone = set(self._gone)
        if not waiting and not gone:
            return
        with self._database.transaction() as connection:
            connection.executemany("DELETE FROM events WHERE ven = ? AND event_id = ?", gone)
            for key, record in waiting.items():
                document = _RECORD.dump_json(record).decode()
                connection.execute(
                    "INSERT OR REPLACE INTO events VALUES (?, ?, ?)", (*key, document)
                )
        with self._lock:
            self._gone -= gone
            self._unsaved -= {
                key for key, record in waiting.items() if self._records.get(key) is record
            }

    def put(self, *records: EventRecord) -> None:
        """`hold` and `flush`."""
        self.hold(*records)
        self.flush()

    def older_than(self, at: datetime) -> tuple[Key, ...]:
        """Keys of events that ended before `at`, for forgetting."""
        return tuple(
            key
            for key, record in self._records.items()
            if (end := _end_of(record)) is not None and end < at
        )

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


def _end_of(record: EventRecord) -> datetime | None:
    if record.ended_at is not None:
        return record.ended_at
    duration = record.event.duration
    return None if duration is None else record.event.starts_at + record.start_shift + duration
