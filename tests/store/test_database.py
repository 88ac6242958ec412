"""The store's promises when the disk is full, the file locked, damaged or from the future."""

import sqlite3
from pathlib import Path

import pytest

from agent.errors import StoreBusyError, StoreError, StoreFullError
from agent.store import database as module
from agent.store.database import Database
from agent.store.history import History
from agent.store.ledger import Ledger
from agent.store.state import MIGRATIONS, locked, open_state
from tests.core.test_reconcile import entry
from tests.disk import small_disk

SCHEMA = ("CREATE TABLE things (name TEXT PRIMARY KEY, value TEXT) STRICT",)


def put(database: Database, name: str, value: str = "x") -> None:
    with database.transaction() as connection:
        connection.execute("INSERT OR REPLACE INTO things VALUES (?, ?)", (name, value))


def names(database: Database) -> list[str]:
    return [row["name"] for row in database.query("SELECT name FROM things ORDER BY name")]


def fill_up(database: Database) -> None:
    """Let SQLite itself say that the disk is full."""
    pages = database.query("PRAGMA page_count")[0][0]
    database.query(f"PRAGMA max_page_count = {pages}")


def test_what_was_committed_is_there_after_reopening(tmp_path):
    database = Database(tmp_path / "x.db", SCHEMA, durable=True)
    put(database, "a")
    database.close()
    assert names(Database(tmp_path / "x.db", SCHEMA, durable=True)) == ["a"]


def test_commits_of_a_durable_database_reach_the_disk_before_they_return(tmp_path):
    durable = Database(tmp_path / "x.db", SCHEMA, durable=True)
    fast = Database(tmp_path / "y.db", SCHEMA, durable=False)
    assert durable.query("PRAGMA synchronous")[0][0] == 2, "FULL"
    assert fast.query("PRAGMA synchronous")[0][0] == 1, "NORMAL"
    assert durable.query("PRAGMA journal_mode")[0][0] == "wal"


def test_a_failed_transaction_leaves_nothing_behind(tmp_path):
    database = Database(tmp_path / "x.db", SCHEMA, durable=True)

    def fail_halfway() -> None:
        with database.transaction() as connection:
            connection.execute("INSERT INTO things VALUES ('a', 'x')")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert names(database) == []
    put(database, "b")


def test_a_full_disk_is_said_and_costs_the_ballast_that_makes_room_for_what_undoes(tmp_path):
    database = Database(tmp_path / "x.db", SCHEMA, durable=True)
    ballast = tmp_path / "x.ballast"
    assert ballast.stat().st_size == module.BALLAST_BYTES
    fill_up(database)
    with pytest.raises(StoreFullError, match=r"x\.db cannot be written"):
        put(database, "a", "x" * 100_000)
    assert not ballast.exists()
    assert names(database) == []


def test_a_locked_file_is_busy_not_broken(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BUSY_TIMEOUT_S", 0.05)
    database = Database(tmp_path / "x.db", SCHEMA, durable=True)
    other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusyError, match="locked by another process"):
        put(database, "a")
    other.execute("COMMIT")
    other.close()
    put(database, "a")
    assert names(database) == ["a"]


@pytest.mark.parametrize("garbage", [b"not a database at all, but a long enough text" * 100, b""])
def test_a_file_that_is_no_database_is_moved_aside_never_deleted(tmp_path, garbage):
    path = tmp_path / "x.db"
    path.write_bytes(garbage)
    database = Database(path, SCHEMA, durable=True)
    put(database, "a")
    if garbage:
        assert (tmp_path / "x.damaged-1").read_bytes() == garbage
        assert "was damaged" in database.salvaged


@pytest.mark.parametrize("fraction", [0.3, 0.5, 0.9])
def test_what_can_still_be_read_of_a_damaged_ledger_is_carried_over(tmp_path, fraction):
    database = open_state(tmp_path)
    Ledger(database).put([entry(number) for number in range(200)])
    database.close()
    path = tmp_path / "state.db"
    content = bytearray(path.read_bytes())
    page = int(len(content) * fraction) // 4096 * 4096
    content[page : page + 4096] = b"\xff" * 4096
    path.write_bytes(content)
    reopened = open_state(tmp_path)
    kept = len(Ledger(reopened).entries)
    assert 150 < kept <= 200, "an index may be hit instead"
    assert (tmp_path / "state.damaged-1").read_bytes() == content
    assert f" {kept} of its rows were carried over" in reopened.salvaged
    assert "\n" not in reopened.salvaged
    reopened.close()


def test_a_schema_from_the_future_is_left_alone(tmp_path):
    database = Database(tmp_path / "x.db", (*SCHEMA, "SELECT 1"), durable=True)
    database.close()
    with pytest.raises(StoreError, match="newer flexload"):
        Database(tmp_path / "x.db", SCHEMA, durable=True)


def test_migrations_run_once_each_in_order(tmp_path):
    Database(tmp_path / "x.db", SCHEMA, durable=True).close()
    second = "ALTER TABLE things ADD COLUMN note TEXT"
    database = Database(tmp_path / "x.db", (*SCHEMA, second), durable=True)
    database.close()
    database = Database(tmp_path / "x.db", (*SCHEMA, second), durable=True)
    assert database.query("PRAGMA user_version")[0][0] == 2
    assert len(MIGRATIONS) >= 1


def test_a_directory_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        Database(tmp_path / "file" / "x.db", SCHEMA, durable=True)


def test_two_processes_cannot_hold_one_state_directory(tmp_path: Path):
    with locked(tmp_path), pytest.raises(StoreBusyError, match="pid"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_on_a_full_disk_the_ballast_makes_room_to_open_what_is_there(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        open_state(disk.path).close()
        History(disk.path).close()
        # As an agent leaves it that found no room for its process id.
        (disk.path / "lock").write_bytes(b"")
        disk.fill()
        with locked(disk.path):
            state, history = open_state(disk.path), History(disk.path)
        assert not (disk.path / "state.ballast").exists()
        Ledger(state).put([entry(0)])
        disk.empty()
        state.lay_ballast()
        assert (disk.path / "state.ballast").stat().st_size == module.BALLAST_BYTES
        history.close()
        state.close()


def test_what_is_open_is_opened_again_on_a_full_disk_without_any_ballast(tmp_path):
    """After a crash its files lie there as they were: nothing new is needed."""
    with small_disk(tmp_path / "disk") as disk:
        left = open_state(disk.path)
        Ledger(left).put([entry(0)])
        copy = {path.name: path.read_bytes() for path in disk.path.iterdir()}
        left.close()
        for name, content in copy.items():
            (disk.path / name).write_bytes(content)
        (disk.path / "state.ballast").unlink()
        disk.fill()
        state = open_state(disk.path)
        assert len(Ledger(state).entries) == 1
        state.close()


def test_the_last_of_the_room_is_not_taken_by_the_ballast(tmp_path, monkeypatch):
    database = Database(tmp_path / "x.db", SCHEMA, durable=True)
    (tmp_path / "x.ballast").unlink()
    monkeypatch.setattr(module, "BALLAST_BYTES", 1 << 60)
    database.lay_ballast()
    assert not (tmp_path / "x.ballast").exists()
    database.close()


def test_a_state_directory_that_may_not_be_used_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"), locked(tmp_path / "file"):
        pass
