"""Who did what, when and why: evidence, kept apart from logs that rotate."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from agent.store.database import Database
from agent.store.pending import Pending

MOST_WAITING = 1000
"""How many lines may wait in memory for room; of more, the oldest are lost."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One deed."""

    at: datetime
    who: str
    what: str
    why: str


class Audit:
    """An append-only list of deeds. A line that could not be written stays in memory, counted in
    `unsaved`, until the next `flush`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pending: Pending[int, AuditLine] = Pending(database, _write, MOST_WAITING)
        self._held = 0

    @property
    def unsaved(self) -> int:
        """How many lines are not on disk yet."""
        return len(self._pending)

    def hold(self, line: AuditLine) -> None:
        """Append one line, in memory, at once; `flush` brings it to disk."""
        self._held += 1
        self._pending.hold(self._held, line)

    def flush(self) -> None:
        """Bring to disk what is not there yet. Raises `StoreError` or one of its kinds."""
        self._pending.flush()

    def add(self, line: AuditLine) -> None:
        """`hold` and `flush`."""
        self.hold(line)
        self.flush()

    def last(self, count: int) -> tuple[AuditLine, ...]:
        """The latest `count` lines, newest first. Raises `StoreError` or one of its kinds."""
        waiting = [line for line in self._pending.waiting.values() if line is not None]
        rows = self._database.query(
            "SELECT at_us, who, what, why FROM audit ORDER BY number DESC LIMIT ?", (count,)
        )
        lines = [
            AuditLine(from_microseconds(r["at_us"]), r["who"], r["what"], r["why"]) for r in rows
        ]
        # Written in between, a line is found in both.
        return tuple(dict.fromkeys((*reversed(waiting), *lines)))[:count]


def microseconds(at: datetime) -> int:
    """An aware time as UTC microseconds since 1970."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def from_microseconds(at_us: int) -> datetime:
    """The inverse of `microseconds`, aware UTC."""
    return _EPOCH + timedelta(microseconds=at_us)


def _write(connection: sqlite3.Connection, lines: Mapping[int, AuditLine | None]) -> None:
    connection.executemany(
        "INSERT INTO audit (at_us, who, what, why) VALUES (?, ?, ?, ?)",
        [
            (microseconds(line.at), line.who, line.what, line.why)
            for line in lines.values()
            if line is not None
        ],
    )
