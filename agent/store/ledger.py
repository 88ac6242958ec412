"""The ledger: the durable record of every setpoint in force and what it replaced.

Shared by the control cycle, the node agent and `flexload restore`; its lease rules are in
`agent.core.ledger`.
"""

from collections.abc import Iterable

from pydantic import TypeAdapter, ValidationError

from agent.core.ledger import Entry, Lever
from agent.store.database import Database

_ENTRY = TypeAdapter(Entry)


class Ledger:
    """Entries by lever and key. Every write is on disk when it returns, or has raised."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._entries: dict[tuple[Lever, str], Entry] = {}
        self.unreadable: tuple[str, ...] = ()
        """Rows that could not be understood, a sentence each; they are left as they are."""
        self._load()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All setpoints in force."""
        return tuple(self._entries.values())

    def put(self, entries: Iterable[Entry]) -> None:
        """Write entries, replacing those of the same device. Raises `StoreError` or one of its kinds."""
        batch = list(entries)
        if not batch:
            return
        rows = [(e.lever.value, e.key, _ENTRY.dump_json(e).decode()) for e in batch]
        with self._database.transaction() as connection:
            connection.executemany("INSERT OR REPLACE INTO ledger VALUES (?, ?, ?)", rows)
        self._entries.update((entry.ident, entry) for entry in batch)

    def drop(self, entries: Iterable[Entry]) -> None:
        """Remove entries. Raises `StoreError` or one of its kinds."""
        idents = [entry.ident for entry in entries]
        if not idents:
            return
        with self._database.transaction() as connection:
            connection.executemany("DELETE FROM ledger WHERE lever = ? AND key = ?", idents)
        for ident in idents:
            self._entries.pop(ident, None)

    def _load(self) -> None:
        unreadable = []
        for row in self._database.query("SELECT lever, key, entry FROM ledger"):
            try:
                entry = _ENTRY.validate_json(row["entry"])
            except ValidationError as error:
                unreadable.append(f"ledger entry of {row['key']}: {error.error_count()} faults")
                continue
            self._entries[entry.ident] = entry
        self.unreadable = tuple(unreadable)
