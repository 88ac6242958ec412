"""A full disk, a locked or damaged database: named, nothing lost, what is held stays held."""

import sqlite3

import pytest

from agent.store import database as database_module
from tests.control.live import Live


@pytest.fixture
async def held(tmp_path):
    live = await Live(tmp_path).start()
    await live.run(30)
    live.call(0.25, hold_s=300)
    await live.run(30)
    yield live
    live.close()


def full(live, yes=True):
    """Let SQLite itself say that the disk is full."""
    for database in (live.database, live.history._database):
        pages = database.query("PRAGMA page_count")[0][0]
        database.query(f"PRAGMA max_page_count = {pages if yes else 10_000_000}")


async def test_with_the_disk_full_what_is_held_stays_held_and_the_trouble_is_named(held):
    before = held.limits_w()
    full(held)
    held.call(0.36, start_s=5, hold_s=600, event_id="ev-2")
    pictures = await held.run(60)
    texts = [r.problem.text for r in pictures[-1].problems.values()]
    assert any("cannot be written" in text for text in texts)
    assert all(now <= then for then, now in zip(before, held.limits_w(), strict=True))


async def test_a_setpoint_that_cannot_be_written_ahead_is_not_applied(tmp_path, monkeypatch):
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_S", 0.02)
    live = await Live(tmp_path).start()
    await live.run(30)
    live.call(0.25, start_s=5, hold_s=60)
    lock = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    pictures = await live.run(20)
    assert set(live.limits_w()) == {700.0}, "rule 1: nothing applied that is not in the ledger"
    texts = [r.problem.text for r in pictures[-1].problems.values()]
    assert any("no new setpoint can be applied" in text for text in texts)
    lock.execute("ROLLBACK")
    lock.close()
    pictures = await live.run(10)
    assert set(live.limits_w()) != {700.0}
    assert not any("cannot" in r.problem.text for r in pictures[-1].problems.values())
    await live.run(100)
    assert live.untouched
    live.close()


async def test_what_is_held_can_be_undone_though_the_ledger_is_locked(held, monkeypatch):
    monkeypatch.setattr(held.database._connection, "row_factory", sqlite3.Row)
    held.database.query("PRAGMA busy_timeout = 20")
    lock = sqlite3.connect(held.directory / "state.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    await held.run(320)
    assert set(held.limits_w()) == {700.0}
    assert held.ledger.entries, "its entries wait for the lock"
    lock.execute("ROLLBACK")
    lock.close()
    await held.run(3)
    assert held.untouched


async def test_samples_taken_while_the_history_is_locked_are_kept_later(held):
    held.history._database.query("PRAGMA busy_timeout = 20")
    lock = sqlite3.connect(held.directory / "history.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    blocked = await held.run(10)
    assert held.history.between(blocked[0].at, blocked[-1].at) == ()
    lock.execute("ROLLBACK")
    lock.close()
    await held.run(1)
    assert len(held.history.between(blocked[0].at, blocked[-1].at)) == 9


async def test_a_damaged_history_costs_nothing_but_the_past(tmp_path):
    live = await Live(tmp_path).start()
    await live.run(30)
    live.call(0.25, hold_s=60)
    await live.run(20)
    live.close()
    for name in ("history.db", "history.db-wal"):
        if (tmp_path / name).exists():
            (tmp_path / name).write_bytes(b"garbage" * 1000)
    live._open()
    await live.start()
    assert "was damaged" in live.history.salvaged
    await live.run(120)
    assert live.untouched
    live.close()


async def test_a_damaged_state_is_named_and_what_can_be_read_of_it_is_undone(tmp_path):
    live = await Live(tmp_path).start()
    await live.run(30)
    live.call(0.25, hold_s=60)
    await live.run(20)
    live.close()
    path = tmp_path / "state.db"
    content = bytearray(path.read_bytes())
    # The audit's page: the last table, and empty.
    content[-4096:] = b"\xff" * 4096
    path.write_bytes(content)
    live._open()
    await live.start()
    pictures = await live.run(5)
    assert any("state.db was damaged" in r.problem.text for r in pictures[-1].problems.values()), (
        pictures[-1].problems
    )
    assert live.ledger.entries
    await live.run(120)
    assert live.untouched
    live.close()
