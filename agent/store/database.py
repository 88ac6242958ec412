"""One SQLite file: opening, migrating, transactions, and what its failures mean.

A file that is damaged is moved aside, never deleted, and what can still be read is carried over: at
the start, and in use for one that is not looked over at the start. A ballast file beside it is given
up when the disk is full, so that the few kilobytes the ledger needs in order to undo things can still
be written, and those that SQLite needs to open a file at all.
"""

import errno
import logging
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from agent.errors import StoreBusyError, StoreError, StoreFullError

log = logging.getLogger(__name__)

BUSY_TIMEOUT_S = 2.0
BALLAST_BYTES = 1 << 20
CARRY_OVER_S = 5.0
"""Longest that rows are carried over from a damaged file: whoever waits for it has a site to hold."""


class Database:
    """One SQLite database in WAL mode, safe to use from several threads, one at a time."""

    def __init__(self, path: Path, migrations: Sequence[str], *, durable: bool) -> None:
        """Open or create `path` and bring its schema up to date.

        `migrations[n]` leads from schema version n to n+1. `durable`: every commit reaches the disk
        before it returns. Raises `StoreError` or one of its kinds.
        """
        self._path = path
        self._migrations = migrations
        self._durable = durable
        self._lock = threading.RLock()
        self._ballast = path.with_suffix(".ballast") if durable else None
        self.salvaged: str = ""
        """One sentence when the file was damaged and moved aside; empty otherwise."""
        with failures(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._connection = self._open_sound()
            except sqlite3.Error as error:
                if not _is_full(error):
                    raise
                # Whichever file it lies beside: with this one closed, the others are no use.
                for ballast in path.parent.glob("*.ballast"):
                    ballast.unlink(missing_ok=True)
                self._connection = self._open_sound()
        self.lay_ballast()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction: all of it or nothing. Raises `StoreError` or one of its kinds."""
        with self._lock, failures(self._path):
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                self._roll_back()
                if _is_full(error):
                    self._drop_ballast()
                self._replace_damaged(error)
                raise
            except BaseException:
                self._roll_back()
                raise

    def query(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[sqlite3.Row]:
        """Rows of a read. Raises `StoreError` or one of its kinds."""
        with self._lock, failures(self._path):
            try:
                return self._connection.execute(sql, parameters).fetchall()
            except sqlite3.Error as error:
                self._replace_damaged(error)
                raise

    def lay_ballast(self) -> None:
        """Lay the ballast unless it lies there, or there is not room enough for more than it."""
        if self._ballast is None or self._ballast.exists():
            return
        try:
            if shutil.disk_usage(self._path.parent).free >= 2 * BALLAST_BYTES:
                self._ballast.write_bytes(bytes(BALLAST_BYTES))
        except OSError:
            self._drop_ballast()

    def close(self) -> None:
        """Close the file; what was committed stays."""
        with self._lock:
            self._connection.close()

    def _open_sound(self) -> sqlite3.Connection:
        try:
            return self._open()
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            return self._reopen_damaged(error)

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        connection.row_factory = sqlite3.Row
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'NORMAL'}")
            if self._durable:
                _check(connection)
            self._migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > len(self._migrations):
            raise StoreError(
                f"{self._path} was written by a newer flexload (schema {version}, "
                f"this one knows {len(self._migrations)})"
            )
        for number in range(version, len(self._migrations)):
            connection.executescript(
                f"BEGIN IMMEDIATE; {self._migrations[number]}; PRAGMA user_version = {number + 1}; COMMIT"
            )

    def _replace_damaged(self, error: sqlite3.Error) -> None:
        """Start the file afresh if it turned out to be damaged and no start would find that.

        Once: a disk that goes on failing must not be filled with what was moved aside.
        """
        if isinstance(error, sqlite3.DatabaseError) and _is_damage(error):
            if self._durable or self.salvaged:
                return
            self._connection.close()
            self._connection = self._reopen_damaged(error)

    def _reopen_damaged(self, error: sqlite3.DatabaseError) -> sqlite3.Connection:
        aside = _free_name(self._path)
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                Path(f"{self._path}{suffix}").rename(f"{aside}{suffix}")
        connection = self._open()
        saved = _carry_over(aside, connection)
        self.salvaged = (
            f"{self._path} was damaged ({error}); it was moved to {aside.name} and {saved} of its "
            "rows were carried over"
            + (": compare `flexload status` with the devices" if self._durable else "")
        )
        log.critical(self.salvaged)
        return connection

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):
            self._connection.execute("ROLLBACK")

    def _drop_ballast(self) -> None:
        if self._ballast is not None:
            with suppress(OSError):
                self._ballast.unlink(missing_ok=True)


def peek(path: Path, sql: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:
    """Rows of a database that may be another process's, which is left exactly as it is.

    Raises `StoreError` or one of its kinds.
    """
    # Without a log nobody writes to it, and reading must not leave files that its owner cannot open.
    form = "mode=ro" if Path(f"{path}-wal").exists() else "mode=ro&immutable=1"
    with failures(path):
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?{form}", uri=True, timeout=BUSY_TIMEOUT_S
        )
        with closing(connection):
            connection.row_factory = sqlite3.Row
            return connection.execute(sql, parameters).fetchall()


@contextmanager
def failures(path: Path) -> Iterator[None]:
    """SQLite's and the file system's errors as ours."""
    try:
        yield
    except sqlite3.Error as error:
        if _is_full(error):
            raise StoreFullError(f"{path} cannot be written: {error}") from error
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (
            sqlite3.SQLITE_BUSY,
            sqlite3.SQLITE_LOCKED,
        ):
            raise StoreBusyError(f"{path} is locked by another process") from error
        raise StoreError(f"{path}: {error}") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise StoreFullError(f"{path} cannot be written: {error.strerror}") from error
        raise StoreError(f"{path}: {error.strerror}") from error


def _is_full(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR)


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    )


def _check(connection: sqlite3.Connection) -> None:
    """Look for damage now: found later, it would end what is under way."""
    (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if said != "ok":
        error = sqlite3.DatabaseError(said.splitlines()[-1])
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error


def _free_name(path: Path) -> Path:
    number = 1
    while (aside := path.with_suffix(f".damaged-{number}")).exists():
        number += 1
    return aside


def _carry_over(damaged: Path, connection: sqlite3.Connection) -> int:
    """Copy the rows that can still be read into the new file, the newest first; the number copied."""
    tables = [
        name
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        if not name.startswith("sqlite_")
    ]
    before = connection.total_changes
    until_s = time.monotonic() + CARRY_OVER_S
    connection.execute("BEGIN IMMEDIATE")
    with suppress(sqlite3.Error), closing(sqlite3.connect(damaged)) as old:
        for table in tables:
            # From both ends, because a reading ends at the first bad page.
            for order in ("DESC", "ASC"):
                with suppress(sqlite3.Error):
                    for row in old.execute(f"SELECT * FROM {table} ORDER BY rowid {order}"):  # noqa: S608
                        _take_over(connection, table, row)
                        if time.monotonic() > until_s:
                            break
                    else:
                        break
    connection.execute("COMMIT")
    return connection.total_changes - before


def _take_over(connection: sqlite3.Connection, table: str, row: Sequence[Any]) -> None:
    marks = ", ".join("?" for _ in row)
    with suppress(sqlite3.Error):
        connection.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row)  # noqa: S608
