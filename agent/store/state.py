"""`state.db`: its schema, and the lock that keeps two agents off one state directory."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agent.errors import StoreBusyError
from agent.store.database import Database, failures

DRIVERS_FACT = "drivers"
"""Name of the fact that says with what the devices are driven, so that restoring needs no
configuration."""

MIGRATIONS = (
    """
    CREATE TABLE events (
        ven TEXT NOT NULL,
        event_id TEXT NOT NULL,
        record TEXT NOT NULL,
        PRIMARY KEY (ven, event_id)
    ) STRICT;
    CREATE TABLE ledger (
        lever TEXT NOT NULL,
        key TEXT NOT NULL,
        entry TEXT NOT NULL,
        PRIMARY KEY (lever, key)
    ) STRICT;
    CREATE TABLE registrations (
        ven TEXT NOT NULL PRIMARY KEY,
        registration TEXT NOT NULL
    ) STRICT;
    CREATE TABLE facts (
        name TEXT NOT NULL PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT;
    CREATE TABLE audit (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        at_us INTEGER NOT NULL,
        who TEXT NOT NULL,
        what TEXT NOT NULL,
        why TEXT NOT NULL
    ) STRICT
    """,
)
"""Rows hold JSON documents where nothing but whole rows is ever asked for."""


def open_state(directory: Path) -> Database:
    """Open `state.db` in the state directory, creating both as needed."""
    return Database(directory / "state.db", MIGRATIONS, durable=True)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the state directory for this process. Raises `StoreBusyError` when another one does, and
    `StoreError` when it cannot be used.

    The lock is the kernel's: it goes with the process, however that ends.
    """
    path = directory / "lock"
    with failures(path):
        directory.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b", buffering=0)
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().decode("ascii", "replace").strip() or "unknown"
            raise StoreBusyError(
                f"{directory} is in use by another flexload process (pid {owner})"
            ) from None
        # For whoever is refused only: a full disk must not keep an agent from starting.
        with suppress(OSError):
            file.truncate(0)
            file.write(str(os.getpid()).encode())
        yield
