"""Single facts that must survive: the local stop, what was being driven with what."""

import sqlite3
from collections.abc import Mapping

from agent.store.database import Database
from agent.store.pending import Pending


class Facts:
    """Named texts. What could not be written stays in memory, counted in `unsaved`, until the next
    `flush`.
    """

    def __init__(self, database: Database, most: int | None = None) -> None:
        """`most`: how many may wait in memory; of more, the oldest are lost."""
        self._database = database
        self._pending: Pending[str, str] = Pending(database, _write, most)

    @property
    def unsaved(self) -> int:
        """How many facts are not on disk as they are."""
        return len(self._pending)

    def get(self, name: str) -> str | None:
        """The text of a fact, or None. Raises `StoreError` or one of its kinds."""
        waiting = self._pending.waiting
        if name in waiting:
            return waiting[name]
        rows = self._database.query("SELECT value FROM facts WHERE name = ?", (name,))
        return str(rows[0]["value"]) if rows else None

    def hold(self, facts: Mapping[str, str | None]) -> None:
        """Keep facts in memory, at once; None removes one. `flush` brings them to disk."""
        for name, value in facts.items():
            self._pending.hold(name, value)

    def flush(self) -> None:
        """Bring to disk what is not there yet. Raises `StoreError` or one of its kinds."""
        self._pending.flush()

    def put(self, facts: Mapping[str, str | None]) -> None:
        """`hold` and `flush`."""
        self.hold(facts)
        self.flush()


def _write(connection: sqlite3.Connection, facts: Mapping[str, str | None]) -> None:
    for name, value in facts.items():
        if value is None:
            connection.execute("DELETE FROM facts WHERE name = ?", (name,))
        else:
            connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))
