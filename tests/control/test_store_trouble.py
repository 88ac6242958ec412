"""A full disk, a locked or damaged database: named, nothing lost, what is held stays held."""

import sqlite3
from contextlib import contextmanager
from datetime import timedelta

import pytest

from agent.core.event import Opt
from agent.core.picture import Stop
from agent.errors import StoreError
from agent.store import database as database_module
from agent.store.audit import AuditLine
from tests.control.live import Live
from tests.disk import small_disk


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


@contextmanager
def lock(live, name="state.db"):
    """Another process holds the file locked."""
    for database in (live.database, live.history._database):
        database.query("PRAGMA busy_timeout = 20")
    other = sqlite3.connect(live.directory / name, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("ROLLBACK")
    other.close()


def problems(picture):
    return [raised.problem.text for raised in picture.problems.values()]


async def pause(live, why="fire drill"):
    """What the console does when an operator stops the agent."""
    now = live.clock.now()
    await live.keeper.put_stop(Stop(now, "ann", why))
    await live.keeper.put_events((), AuditLine(now, "ann", "local stop", why))


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


async def test_a_stop_and_its_record_reach_the_disk_though_it_was_locked_at_that_moment(held):
    with lock(held):
        await pause(held)
        (picture,) = await held.run(1)
        assert any("locked" in text for text in problems(picture))
    (picture,) = await held.run(1)
    assert not any("locked" in text for text in problems(picture))
    await held.restart(after_s=1)
    assert held.keeper.stop.why == "fire drill"
    assert [deed.what for deed in await held.keeper.deeds(5)] == ["local stop"]


async def test_a_deed_is_listed_while_it_waits_for_the_disk(held):
    with lock(held):
        await pause(held)
        assert [deed.why for deed in await held.keeper.deeds(5)] == ["fire drill"]


async def test_a_stop_lifted_while_the_disk_was_locked_stays_lifted(held):
    await pause(held)
    with lock(held):
        await held.keeper.put_stop(None)
    await held.run(1)
    await held.restart(after_s=1)
    assert held.keeper.stop is None


async def test_final_figures_reach_the_disk_though_it_was_locked_when_the_event_ended(tmp_path):
    live = await Live(tmp_path).start()
    await live.run(30)
    key = live.call(0.25, hold_s=30)
    await live.run(60)
    with lock(live):
        figures = (await live.run(20))[-1].performances[key]
    await live.run(1)
    live.close()
    live._open()
    assert await live.keeper.performance(key) == figures
    live.close()


async def test_a_trouble_lasts_as_long_as_writing_fails_though_reading_works(held):
    with lock(held, "history.db"):
        pictures = await held.run(20)
    assert all(any("history.db is locked" in text for text in problems(p)) for p in pictures)
    assert len({p.problems[key].since for p in pictures for key in p.problems}) == 1, "raised once"
    (picture,) = await held.run(1)
    assert not problems(picture)


async def test_a_trouble_is_over_when_somebody_else_brought_the_events_to_disk(held):
    with lock(held):
        held.book.hold(*held.book.records.values())
        await held.run(1)
    held.book.flush()
    (picture,) = await held.run(1)
    assert not problems(picture)


async def test_what_could_not_be_read_once_is_not_a_problem_for_ever(held, monkeypatch):
    def damaged(count):
        raise StoreError("state.db: database disk image is malformed")

    with monkeypatch.context() as patch:
        patch.setattr(held.keeper._audit, "last", damaged)
        assert await held.keeper.deeds(5) is None
    assert any("malformed" in text for text in problems((await held.run(1))[0]))
    held.clock.leap(3600)
    (*_, picture) = await held.run(2)
    assert not problems(picture)


async def test_rows_that_cannot_be_understood_are_problems_until_the_next_start(tmp_path):
    live = await Live(tmp_path).start()
    with live.database.transaction() as connection:
        connection.execute("INSERT INTO events VALUES ('ven', 'ev-9', '{}')")
        connection.execute("INSERT INTO ledger VALUES ('cap', 'GPU-9', 'nonsense')")
    await live.restart()
    (picture,) = await live.run(1)
    assert sum("not to be understood" in text for text in problems(picture)) == 2
    assert any("GPU-9" in text for text in problems(picture))
    assert any("ev-9" in text for text in problems(picture))
    live.close()


async def test_a_stop_that_cannot_be_read_is_in_force_until_it_is_lifted(tmp_path):
    live = await Live(tmp_path).start()
    await live.run(30)
    await pause(live)
    with live.database.transaction() as connection:
        connection.execute("UPDATE facts SET value = '{}' WHERE name = 'stop'")
    await live.restart()
    live.call(0.25, start_s=5, hold_s=300)
    (*_, picture) = await live.run(30)
    assert live.untouched
    assert "cannot be read" in picture.stop.why
    assert any("flexload resume" in text for text in problems(picture))
    await live.keeper.put_stop(None)
    (*_, picture) = await live.run(30)
    assert not live.untouched
    assert not problems(picture)
    await live.restart(after_s=1)
    assert live.keeper.stop is None
    live.close()


@pytest.fixture
async def on_small_disk(tmp_path):
    """A site whose agent keeps its state on a disk that can be filled, in the middle of an event."""
    with small_disk(tmp_path / "state") as disk:
        live = await Live(disk.path, site=tmp_path / "site.json").start()
        await live.run(30)
        live.call(0.25, hold_s=600)
        await live.run(30)
        yield live, disk
        live.close()


async def test_on_a_disk_that_is_really_full_what_is_held_stays_held_and_nothing_is_lost(
    on_small_disk,
):
    live, disk = on_small_disk
    capped = [limit_w < 700.0 for limit_w in live.limits_w()]
    disk.fill()
    live.book.hold(*live.book.records.values())
    (*_, first) = await live.run(300)
    disk.fill()
    assert not (disk.path / "state.ballast").exists()
    await pause(live)
    await live.keeper.put_stop(None)
    pictures = await live.run(60)
    assert all(any("cannot be written" in text for text in problems(p)) for p in pictures)
    assert [limit_w < 700.0 for limit_w in live.limits_w()] == capped
    assert all(p.power_w <= p.timeline.ceiling_at(p.at).limit_w * 1.01 for p in pictures)
    disk.empty()
    await live.run(2)
    (picture,) = await live.run(1)
    assert not problems(picture)
    seen = await live.keeper.samples(first.at, picture.at + timedelta(seconds=1))
    assert len(seen) == 64, "no second is missing"
    live.clock.leap(3600 - 400)
    await live.run(1)
    assert (disk.path / "state.ballast").exists()
    await live.restart(after_s=2)
    assert [deed.what for deed in await live.keeper.deeds(5)] == ["local stop"]
    assert live.keeper.stop is None
    assert live.book.records["ven", "ev-1"].opt.opt is Opt.IN
