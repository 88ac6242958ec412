"""The main job on a simulated site: down to what was asked, held there, and back."""

from dataclasses import replace
from itertools import groupby, pairwise

import pytest

from agent.core.event import Opt, OptDecision
from agent.core.ledger import Lever
from agent.core.lifecycle import Phase, opted_out
from agent.core.link import Link
from agent.core.picture import Stop
from agent.core.policy import WorkloadRule
from agent.core.program import DropTo
from agent.core.site import MeterQuality, Terms, WorkloadClass
from drivers.outcome import Outcome, Result
from drivers.sim.physics import Dip
from tests.control.live import POLICY, PROGRAM, RULES, SMALL, Live, means_w, powers_w, with_dip


@pytest.fixture
async def live(tmp_path):
    site = await Live(tmp_path).start()
    yield site
    site.close()


async def test_an_event_is_met_held_and_undone(live):
    before = await live.run(40)
    key = live.call(0.25)
    first = await live.run(80)
    phases = [p.phases[key] for p in first]
    assert phases[0] is Phase.RAMPING_DOWN
    assert Phase.HOLDING in phases
    assert phases[-1] is Phase.COMPLETED
    after = await live.run(120)
    figures = after[-1].performances[key]
    assert figures.compliant_share >= 0.99
    assert figures.worst_over_w <= 0.015 * (figures.baseline_w - figures.committed_w)
    over_delivery = (figures.delivered_w - figures.committed_w) / figures.baseline_w
    assert 0 <= over_delivery <= 0.02
    assert live.untouched
    assert max(means_w(after)) <= max(means_w(before)) * 1.01, "no rebound"


async def test_a_picture_holds_the_links_that_its_cycle_saw(live):
    live.links = (Link("ven", "http://vtn.example", "OpenADR 2.0b", lost_since=live.clock.now()),)
    (seen,) = await live.run(1)
    live.links = ()
    assert [link.ven for link in seen.links] == ["ven"]
    assert "vtn/ven" in seen.problems


async def test_protected_work_is_never_touched(live):
    await live.run(30)
    live.call(0.30)
    for picture in await live.run(100):
        caps = {e.key for e in picture.ledger}
        chat = next(w for w in picture.snapshot.workloads if w.name == "chat")
        assert not caps & set(chat.gpus)
        assert "sim:chat" not in caps


async def test_a_deep_event_pauses_what_may_be_paused_and_trims_the_rest_by_caps(live):
    await live.run(30)
    key = live.call(0.36)
    pictures = await live.run(60)
    assert live.paused() == ["sim:batch"]
    figures = pictures[-1].performances[key]
    assert figures.delivered_w >= figures.committed_w
    await live.run(60)
    assert live.untouched


async def test_what_cannot_be_met_is_a_shortfall_with_its_reasons(live):
    await live.run(30)
    live.call(0.70)
    pictures = await live.run(60)
    holding = pictures[-1]
    assert holding.plan.shortfall_w > 0
    assert any("protected: chat" in reason for reason in holding.plan.short_because)
    assert "shortfall" in holding.problems


async def test_the_ramps_are_kept_second_by_second(live):
    await live.run(30)
    live.call(0.25, start_s=40, ramp_s=30)
    pictures = await live.run(140)
    for picture in pictures:
        ceiling = picture.timeline.ceiling_at(picture.at)
        assert ceiling is not None
        assert picture.power_w <= ceiling.limit_w * 1.015


async def test_a_checkpoint_dip_while_holding_gives_no_headroom_away(tmp_path):
    dip = Dip(every_s=600.0, first_s=75.0, length_s=15.0, depth=0.5)
    live = await Live(tmp_path, with_dip(SMALL, dip)).start()
    await live.run(30)
    key = live.call(0.25)
    pictures = await live.run(80)
    assert pictures[-1].performances[key].compliant_share >= 0.99
    caps = [len(p.plan.caps) for p in pictures if p.phases[key] is Phase.HOLDING]
    assert min(caps) == max(caps), "the dip freed nobody"
    live.close()


async def test_drop_to_is_held_as_drop_by_is(tmp_path):
    program = replace(PROGRAM, levels={3: DropTo(9_000.0)})
    live = await Live(tmp_path, program=program).start()
    await live.run(30)
    from agent.core.event import Interval, Signal, SignalKind

    start = live.clock.now()
    level = Signal(SignalKind.LEVEL, "SIMPLE", "1", (Interval(start, None, 3.0),))
    live.call(hold_s=None, start_s=0, signals=(level,), starts_at=start)
    held = powers_w((await live.run(60))[10:])
    assert max(held) <= 9_000.0
    assert min(held) >= 8_800.0
    live.close()


async def test_a_standing_limit_is_held_without_any_event(tmp_path):
    live = await Live(tmp_path, policy=replace(POLICY, max_import_w=11_000.0)).start()
    held = powers_w((await live.run(60))[5:])
    assert max(held) <= 11_000.0
    live.close()


async def test_an_open_ended_event_lasts_until_cancelled(live):
    await live.run(30)
    key = live.call(0.25, hold_s=None)
    await live.run(300)
    assert live.ledger.entries
    record = live.book.records[key]
    from agent.core.lifecycle import cancelled

    live.book.put(cancelled(record, live.clock.now()))
    await live.run(40)
    assert live.untouched


async def test_a_second_event_takes_over_where_it_is_stricter(live):
    await live.run(30)
    live.call(0.10, hold_s=120)
    live.call(0.25, start_s=40, hold_s=30, event_id="ev-2")
    pictures = await live.run(180)
    sources = {p.plan.ceiling.source.name for p in pictures if p.plan.ceiling}
    assert {"ev-1", "ev-2"} <= sources
    assert live.untouched
    first, second = (live.book.records["ven", name].baseline for name in ("ev-1", "ev-2"))
    assert second.power_w == pytest.approx(first.power_w, rel=0.02), "counted from the free site"


async def test_the_samples_the_page_and_the_figures_agree(live):
    await live.run(30)
    live.call(0.25)
    pictures = await live.run(30)
    for picture in pictures:
        assert picture.power_w == picture.snapshot.meter.power_w
        assert picture.snapshot.meter.quality is MeterQuality.GOOD
    samples = live.history.between(pictures[0].at, pictures[-1].at)
    assert [s.power_w for s in samples] == [p.power_w for p in pictures[:-1]]


async def test_what_is_long_over_is_forgotten(live):
    await live.run(30)
    key = live.call(0.25)
    await live.run(100)
    live.clock.leap(34 * 86_400)
    await live.run(1)
    assert key in live.book.records
    live.clock.leap(2 * 86_400)
    await live.run(1)
    assert key not in live.book.records
    assert live.history.between(live.pictures[0].at, live.pictures[90].at) == ()


async def test_a_job_runs_as_long_as_it_was_paused_before_it_is_paused_again(tmp_path):
    """A job that is stopped again at once has had no time to recover (NCCL's clock runs on)."""
    chat, _, train = RULES
    batch = WorkloadRule("batch", WorkloadClass.BATCH, Terms(3, may_pause=True, max_pause_s=20.0))
    live = await Live(tmp_path, policy=replace(POLICY, rules=(chat, batch, train))).start()
    await live.run(30)
    live.call(0.35, start_s=5, hold_s=180)
    pictures = await live.run(200)
    paused = [any(e.lever is Lever.PAUSE for e in p.ledger) for p in pictures]
    runs = [(on, len(list(run))) for on, run in groupby(paused)][1:-1]
    assert max(length for on, length in runs if on) <= 21
    assert min(length for on, length in runs if not on) >= 20
    assert all(
        p.plan.shortfall_w > 0 for p, on in [*zip(pictures, paused, strict=True)][30:180] if not on
    )
    await live.run(60)
    assert live.untouched
    live.close()


async def test_an_old_opt_out_frees_no_later_event_of_the_dwell(tmp_path):
    live = await Live(tmp_path, policy=replace(POLICY, dwell_s=300.0)).start()
    await live.run(30)
    left = live.call(0.25, start_s=1, hold_s=60, ramp_s=0, event_id="left")
    await live.run(5)
    record = live.book.records[left]
    by_hand = OptDecision(Opt.OUT, "operator bob", live.clock.now(), "launch")
    live.book.put(opted_out(replace(record, opt=by_hand), live.clock.now()))
    await live.run(5)
    assert live.untouched, "what the operator calls off does not wait for the dwell"
    await live.run(400)
    live.call(0.25, start_s=5, hold_s=30, ramp_s=0)
    pictures = await live.run(60)
    assert "not raised within 300 s" in pictures[-1].governor_note
    assert not live.untouched
    live.close()


async def test_a_slew_that_is_too_slow_for_the_event_is_a_reported_shortfall(tmp_path):
    live = await Live(tmp_path, policy=replace(POLICY, slew_down_w_per_s=20.0)).start()
    await live.run(30)
    live.call(0.25, start_s=5, hold_s=90, ramp_s=5)
    pictures = await live.run(60)
    powers = powers_w(pictures)
    assert all(before - after < 200.0 for before, after in pairwise(powers)), "noise and 20 W"
    assert powers[0] - powers[-1] < 60 * 20.0 + 200.0
    assert pictures[-1].plan.shortfall_w > 0
    assert "local governor: falls by no more than 1.2 kW a minute" in (
        pictures[-1].problems["shortfall"].problem.text
    )
    live.close()


async def test_a_pause_that_failed_once_is_tried_again_and_forgotten_after_the_event(live):
    (engine,) = live.equipment._jobs
    pause, orders = engine.pause, []

    async def refuse_once(workload_ids):
        orders.append(workload_ids)
        if len(orders) == 1:
            return [Outcome(one, Result.LOST, "slow once") for one in workload_ids]
        return await pause(workload_ids)

    engine.pause = refuse_once
    live.call(0.35, hold_s=60)
    pictures = await live.run(50)
    assert len(orders) == 2
    assert live.paused() == ["sim:batch"]
    assert not any(key.startswith("drift/") for p in pictures for key in p.problems)
    await live.run(60)
    assert live.untouched
    assert not live.pictures[-1].problems


async def test_under_the_local_stop_nothing_is_set_and_what_was_over_stays_as_it_was(live):
    key = live.call(0.25, start_s=5, hold_s=30)
    await live.run(70)
    await live.keeper.put_stop(Stop(live.clock.now(), "bob", "maintenance"))
    live.site.rebuild(
        lambda spec: replace(
            spec, jobs=tuple(replace(job, demand_w=job.demand_w + 30.0) for job in spec.jobs)
        )
    )
    pictures = await live.run(60)
    assert pictures[-1].phases[key] is Phase.COMPLETED
    assert live.untouched, "the guard after the event sets nothing either"
