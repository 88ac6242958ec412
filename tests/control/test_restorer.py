"""Restoring with a part of the equipment out of reach: what can be undone is, the rest stays known."""

from dataclasses import replace

import pytest

from agent.control.restorer import Restorer
from agent.core.ledger import Lever
from agent.errors import StoreFullError
from drivers.errors import UnavailableError
from tests.control.live import Live


@pytest.fixture
async def left_behind(tmp_path):
    """A site whose agent is gone, with caps and a pause in force."""
    live = await Live(tmp_path).start()
    await live.run(30)
    live.call(0.35, hold_s=300)
    await live.run(40)
    live.close()
    live._open()
    assert {entry.lever for entry in live.ledger.entries} == set(Lever)
    yield live
    live.close()


async def away():
    raise UnavailableError("the driver is not loaded")


async def restored(live):
    sentences = await live.equipment.open_each()
    return sentences, await Restorer(live.equipment, live.ledger, live.clock).restore(at_once=True)


async def test_caps_of_gpus_that_are_out_of_reach_stay_known_over_a_reboot(
    left_behind, monkeypatch
):
    """Only of GPUs that are listed can it be told that one is gone."""
    caps = {entry.key for entry in left_behind.ledger.entries if entry.lever is Lever.CAP}
    monkeypatch.setattr(left_behind.equipment._gpus, "open", away)
    instant = left_behind.clock.instant
    monkeypatch.setattr(
        left_behind.clock, "instant", lambda: replace(instant(), boot_id="another boot")
    )
    sentences, done = await restored(left_behind)
    assert sentences == ("the driver is not loaded",)
    assert {entry.key for entry in left_behind.ledger.entries} == caps
    assert len(done.failed) == len(caps)
    assert left_behind.paused() == []


async def test_jobs_of_an_engine_that_is_out_of_reach_stay_known(left_behind, monkeypatch):
    (jobs,) = left_behind.equipment._jobs
    monkeypatch.setattr(jobs, "open", away)
    _, done = await restored(left_behind)
    assert [entry.key for entry in left_behind.ledger.entries] == ["sim:batch"]
    assert done.failed == ("sim:batch does not answer",)
    assert set(left_behind.limits_w()) == {700.0}


async def test_a_ledger_that_cannot_be_written_is_named_as_what_is_in_the_way(
    left_behind, monkeypatch
):
    def full(entries):
        if tuple(entries):
            raise StoreFullError("state.db cannot be written")

    monkeypatch.setattr(left_behind.ledger, "drop", full)
    _, done = await restored(left_behind)
    assert set(left_behind.limits_w()) == {700.0}
    assert "sim:batch stays in the ledger: state.db cannot be written" in done.failed
