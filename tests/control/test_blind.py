"""Rule 4: power is never raised because something went blind."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from agent.core.link import Link
from agent.core.program import BlindRule
from tests.control.live import POLICY, PROGRAM, SMALL, Live, powers_w


@pytest.fixture
async def held(tmp_path):
    """A site that has been holding an event of 35 % for ten seconds: caps and a pause in force."""
    live = await Live(tmp_path).start()
    await live.run(30)
    live.call(0.35, hold_s=600)
    await live.run(30)
    assert live.paused() == ["sim:batch"]
    yield live
    live.close()


def never_raised(before, after):
    return all(now_w <= then_w for then_w, now_w in zip(before, after, strict=True))


async def test_with_the_meter_lost_what_is_held_stays_held(held):
    before = held.limits_w()
    held.site.break_meter("no answer on the bus")
    pictures = await held.run(200)
    assert never_raised(before, held.limits_w())
    assert held.paused() == ["sim:batch"]
    assert "meter" in pictures[-1].problems
    assert pictures[-1].power_w is not None, "bridged by what the parts come to"


async def test_with_the_meter_lost_for_long_the_caps_alone_guarantee_the_limit(held):
    held.site.break_meter("no answer on the bus")
    pictures = await held.run(60)
    plan = pictures[-1].plan
    assert plan.ceiling is not None
    assert plan.ceiling.firm


async def test_a_meter_that_returns_is_used_again(held):
    held.site.break_meter("no answer on the bus")
    await held.run(60)
    held.site.break_meter("")
    pictures = await held.run(60)
    assert "meter" not in pictures[-1].problems
    assert (
        max(powers_w(pictures[5:]))
        <= pictures[-1].timeline.ceiling_at(pictures[-1].at).limit_w * 1.005
    )


async def test_an_event_that_ends_while_the_meter_is_lost_still_ends(held):
    held.site.break_meter("no answer on the bus")
    await held.run(700)
    assert held.untouched


async def test_a_jobs_engine_that_does_not_answer_forgets_no_pause(held):
    held.site.break_jobs("away")
    pictures = await held.run(700)
    assert any(key.startswith("blind/jobs") for key in pictures[-1].problems)
    assert held.paused() == ["sim:batch"]
    assert [e.key for e in held.ledger.entries] == ["sim:batch"]
    held.site.break_jobs("")
    await held.run(70)
    assert held.untouched


@pytest.mark.parametrize("fault", ["hung", "lost"])
async def test_a_sick_gpu_costs_the_others_nothing_and_is_brought_back_when_it_returns(held, fault):
    uuid = next(e.key for e in held.ledger.entries if e.setpoint_w)
    before = held.limits_w()
    held.site.change_gpu(uuid, lambda gpu: replace(gpu, fault=fault))
    pictures = await held.run(60)
    assert never_raised(before, held.limits_w())
    assert f"gpu/{uuid}" in pictures[-1].problems
    await held.run(600)
    assert [e.key for e in held.ledger.entries] == [uuid], "its entry waits for it"
    held.site.change_gpu(uuid, lambda gpu: replace(gpu, fault=""))
    await held.run(5)
    assert held.untouched


async def test_a_gpu_that_refuses_is_named_and_the_others_make_up_for_it(tmp_path):
    live = await Live(tmp_path).start()
    await live.run(30)
    uuid = live.pictures[-1].snapshot.workloads[-1].gpus[0]
    live.site.change_gpu(uuid, lambda gpu: replace(gpu, fault="denied"))
    key = live.call(0.2)
    pictures = await live.run(60)
    assert pictures[-1].performances[key].compliant_share >= 0.95
    assert any("no permission" in r.problem.text for p in pictures for r in p.problems.values())
    await live.run(60)
    assert live.untouched
    live.close()


def link(live, lost_s):
    seen = live.clock.now() - timedelta(seconds=lost_s)
    return Link(
        "ven", "http://vtn", "OpenADR 2.0b", last_contact=seen, lost_since=seen, trouble="timeout"
    )


async def test_with_the_vtn_lost_the_known_schedule_goes_on_and_ends(held):
    held.links = (link(held, 0),)
    pictures = await held.run(300)
    assert held.paused() == ["sim:batch"]
    assert "vtn/ven" in pictures[-1].problems
    await held.run(400)
    assert held.untouched


@pytest.mark.parametrize(("rule", "let_go"), [(BlindRule.NORMAL, True), (BlindRule.LIMIT, False)])
async def test_an_open_ended_event_with_the_vtn_lost_follows_its_program(tmp_path, rule, let_go):
    program = replace(PROGRAM, when_blind=rule, blind_after_s=100.0)
    live = await Live(tmp_path, SMALL, program=program).start()
    await live.run(30)
    live.call(0.25, hold_s=None)
    await live.run(20)
    live.links = (link(live, 0),)
    await live.run(90)
    assert live.ledger.entries
    await live.run(60)
    assert live.untouched is let_go
    live.close()


async def test_what_was_let_go_with_the_vtn_lost_is_not_taken_up_by_a_restart(tmp_path):
    program = replace(PROGRAM, when_blind=BlindRule.NORMAL, blind_after_s=100.0)
    live = await Live(tmp_path, SMALL, program=program).start()
    live.links = (link(live, 0),)
    await live.run(30)
    live.call(0.25, hold_s=None)
    await live.run(160)
    assert live.untouched
    live.links = (replace(live.links[0], last_contact=None),)
    await live.restart(5.0)
    pictures = await live.run(60)
    assert not any(p.ledger for p in pictures)
    live.links = (link(live, 0),)
    await live.run(30)
    assert live.ledger.entries, "the VTN is back, and has not called it off"
    live.close()


async def test_a_driver_that_never_answers_costs_one_cycle_not_the_agent(held, monkeypatch):
    from agent.control import caller as module

    monkeypatch.setattr(module, "DRIVER_TIMEOUT_S", 0.02)
    (jobs,) = held.equipment._jobs

    async def hang():
        await asyncio.sleep(3600)

    before = held.limits_w()
    monkeypatch.setattr(jobs, "list", hang)
    pictures = await held.run(3)
    assert any("no answer within" in r.problem.text for r in pictures[-1].problems.values())
    assert never_raised(before, held.limits_w())
    monkeypatch.undo()
    pictures = await held.run(3)
    assert not any("no answer within" in r.problem.text for r in pictures[-1].problems.values())


@pytest.mark.parametrize("blinded", ["meter", "jobs"])
async def test_a_restart_in_the_dark_keeps_what_the_sites_own_limit_needs(tmp_path, blinded):
    """No event is known: the ledger alone says that something is held for a limit that goes on."""
    live = await Live(tmp_path, policy=replace(POLICY, max_import_w=9_000.0)).start()
    await live.run(60)
    before = live.limits_w()
    assert not live.untouched
    getattr(live.site, f"break_{blinded}")("away")
    await live.restart(2.0)
    await live.run(30)
    assert never_raised(before, live.limits_w())
    assert live.power_w() <= 9_000.0
    live.close()


async def test_a_restart_in_the_dark_after_the_event_lets_go_of_it(held):
    held.site.break_meter("no answer on the bus")
    await held.restart(700.0)
    await held.run(30)
    assert held.untouched
