"""Somebody else sets limits and pauses, too: seen, answered a bounded number of times, never wiped out."""

from dataclasses import replace

import pytest

from tests.control.live import POLICY, Live


@pytest.fixture
async def held(tmp_path):
    live = await Live(tmp_path).start()
    await live.run(30)
    live.call(0.25, hold_s=120)
    await live.run(40)
    yield live
    live.close()


def capped(live):
    return next(e.key for e in live.ledger.entries if e.setpoint_w)


def write(live, uuid, limit_w):
    live.site.change_gpu(uuid, lambda gpu: replace(gpu, limit_w=limit_w))


def limit(live, uuid):
    return {g.uuid: g.limit_w for g in live.pictures[-1].snapshot.gpus}[uuid]


async def test_a_limit_that_somebody_raised_is_set_again_and_counted(held):
    uuid = capped(held)
    write(held, uuid, 700.0)
    pictures = await held.run(3)
    assert limit(held, uuid) < 700.0
    assert pictures[-1].counters.drifts == 1
    assert f"drift/{uuid}" in pictures[-1].problems
    await held.run(200)
    assert held.untouched


async def test_after_so_many_times_it_is_left_alone_and_said_loudly(held):
    uuid = capped(held)
    for _ in range(20):
        write(held, uuid, 700.0)
        pictures = await held.run(1)
    assert pictures[-1].counters.drifts == POLICY.max_reasserts + 1
    assert limit(held, uuid) == 700.0
    assert "stopped setting it again" in pictures[-1].problems[f"drift/{uuid}"].problem.text


async def test_what_somebody_set_during_the_event_is_not_wiped_out_after_it(held, caplog):
    uuid = capped(held)
    write(held, uuid, 300.0)
    await held.run(200)
    assert limit(held, uuid) == 300.0
    assert not held.ledger.entries
    assert "somebody else set it" in caplog.text


async def test_a_limit_held_lower_out_of_band_is_no_fight(held):
    uuid = capped(held)
    held.site.change_gpu(uuid, lambda gpu: replace(gpu, out_of_band_w=250.0))
    pictures = await held.run(30)
    assert pictures[-1].counters.drifts == 0
    await held.run(200)
    assert limit(held, uuid) == 700.0, "what software asks for is as it was"


async def test_a_job_that_somebody_resumed_is_paused_again(tmp_path):
    live = await Live(tmp_path).start()
    await live.run(30)
    live.call(0.35, hold_s=120)
    await live.run(40)
    live.site.pause("sim:batch", paused=False)
    await live.run(2)
    assert live.paused() == ["sim:batch"]
    await live.run(200)
    assert live.untouched
    live.close()


async def test_a_job_that_somebody_paused_before_stays_paused_after(tmp_path):
    live = await Live(tmp_path).start()
    live.site.pause("sim:batch", paused=True)
    await live.run(30)
    live.call(0.20)
    await live.run(150)
    assert live.paused() == ["sim:batch"]
    assert not live.ledger.entries
    live.close()


async def test_a_limit_below_the_largest_is_what_comes_back(tmp_path):
    live = await Live(tmp_path).start()
    uuid = (await live.run(1))[0].snapshot.workloads[-1].gpus[0]
    write(live, uuid, 680.0)
    await live.run(30)
    live.call(0.25)
    await live.run(60)
    assert limit(live, uuid) < 680.0
    await live.run(60)
    assert limit(live, uuid) == 680.0
    live.close()


async def test_gpus_that_we_no_longer_fight_over_are_made_up_for_by_the_others(tmp_path):
    live = await Live(tmp_path).start()
    await live.run(30)
    live.call(0.15, hold_s=300)
    await live.run(40)
    taken = [e.key for e in live.ledger.entries if e.setpoint_w][:4]
    for _ in range(60):
        for uuid in taken:
            write(live, uuid, 700.0)
        pictures = await live.run(1)
    ceiling = pictures[-1].timeline.ceiling_at(pictures[-1].at)
    assert pictures[-1].power_w <= ceiling.limit_w
    live.close()
