"""Events that the grid changes, or that arrive too late, on a simulated site."""

from dataclasses import replace
from datetime import timedelta

import pytest

from agent.core.event import Key, Opt
from agent.core.intake import receive
from agent.core.lifecycle import Phase
from tests.control.live import POLICY, PROGRAM, Live, powers_w


@pytest.fixture
async def live(tmp_path):
    site = await Live(tmp_path).start()
    await site.run(30)
    yield site
    site.close()


def arrive(live: Live, key: Key, later_s: float = 0.0, policy=POLICY, new=False, **changes):
    """What is in the book is sent again, later by so much; as new or as a modification of it."""
    known = live.book.records[key]
    (signal,) = known.event.signals
    later = timedelta(seconds=later_s)
    intervals = tuple(
        replace(i, start=i.start + later, end=i.end and i.end + later) for i in signal.intervals
    )
    event = replace(
        known.event,
        revision=known.event.revision + 1,
        starts_at=known.event.starts_at + later,
        signals=(replace(signal, intervals=intervals),),
        **changes,
    )
    before = None if new else known
    intake = receive(before, event, (PROGRAM,), policy, live.clock.now(), 0.5)
    live.book.put(intake.record)
    return intake


async def test_an_event_opted_out_of_on_arrival_is_left_alone_though_it_is_under_way(live):
    key = live.call(0.35, start_s=-60, hold_s=3600, ramp_s=300)
    late = arrive(live, key, policy=replace(POLICY, min_notice_s=600.0), new=True)
    assert late.opt is Opt.OUT
    for picture in await live.run(20):
        assert picture.phases[key] is Phase.OPTED_OUT
        assert not picture.ledger
        assert picture.records[key].baseline is None
    assert live.untouched


async def test_an_event_moved_under_way_lets_go_within_its_ramp_and_acts_again_later(live):
    before = powers_w(live.pictures)
    key = live.call(0.25, start_s=5, hold_s=100, ramp_s=20)
    held = (await live.run(60))[-1].power_w
    arrive(live, key, later_s=200)
    back = await live.run(40)
    risen = powers_w(back)
    assert risen[0] < held + 500.0, "no jump"
    assert all(p.power_w <= p.timeline.ceiling_at(p.at).limit_w * 1.015 for p in back)
    assert {p.phases[key] for p in back[:19]} == {Phase.RAMPING_UP}
    assert back[-1].phases[key] is Phase.PENDING
    assert live.untouched
    assert max(risen) <= max(before) * 1.01, "no rebound"
    again = (await live.run(140))[-1]
    assert again.phases[key] is Phase.HOLDING
    assert again.power_w < max(before) * 0.76
    await live.run(120)
    assert live.untouched


async def test_a_move_under_way_survives_a_crash(live):
    key = live.call(0.25, start_s=5, hold_s=100, ramp_s=20)
    await live.run(60)
    held = powers_w(live.pictures)[-1]
    arrive(live, key, later_s=3600)
    await live.run(2)
    await live.restart(after_s=1)
    assert powers_w(await live.run(1))[0] < held + 1_000.0
    await live.run(30)
    assert live.untouched


async def test_nothing_is_held_before_the_first_interval_and_its_limit_from_then_on(live):
    free = powers_w(live.pictures)[-1]
    key = live.call(0.25, start_s=10, hold_s=200, ramp_s=0)
    known = live.book.records[key]
    (signal,) = known.event.signals
    late = replace(signal.intervals[0], start=known.event.starts_at + timedelta(seconds=100))
    event = replace(known.event, signals=(replace(signal, intervals=(late,)),))
    live.book.put(replace(known, event=event))
    early = await live.run(105)
    assert live.untouched
    assert {p.phases[key] for p in early} == {Phase.PENDING}
    held = await live.run(60)
    assert held[-1].power_w < free * 0.76
    assert held[-1].performances[key].held <= timedelta(seconds=60)
