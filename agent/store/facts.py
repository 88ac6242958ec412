"""Single facts that must survive: the local stop, what was being driven with what."""

from collections.abc import Mapping

from agent.store.database import Database


class Facts:
    """Named texts. Every write is on disk when it returns, or has raised `StoreError`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, name: str) -> str | None:
        """The text of a fact, or None."""
        rows = self._database.query("SELECT value FROM facts WHERE name = ?", (name,))
        return str(rows[0]["value"]) if rows else None

    def put(self, facts: Mapping[str, str | None]) -> None:
        """Write facts together; None removes one."""
        with self._database.transaction() as connection:
            for name, value in facts.items():
                if value is None:
                    connection.execute("DELETE FROM facts WHERE name = ?", (name,))
                else:
                    connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))
