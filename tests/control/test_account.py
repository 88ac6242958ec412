"""The figures of events: final only when an event is, bounded work, and nothing kept too long."""

from dataclasses import fields, replace
from datetime import timedelta

import pytest

from agent.control import account
from agent.control.account import count
from agent.control.actuator import Report
from agent.core.event import Interval, Opt, OptDecision, Signal, SignalKind
from agent.core.lifecycle import Phase, opted_in, opted_out
from agent.core.picture import Counters
from agent.core.settlement import figures_of, fold, tally_of
from agent.core.timeline import obligations_of
from agent.errors import StoreFullError
from tests.control.live import PROGRAM, Live
from tests.core.build import event, record, s
from tests.web.pictures import picture


@pytest.fixture
async def live(tmp_path):
    site = await Live(tmp_path).start()
    yield site
    site.close()


def refuse(samples):
    raise StoreFullError("no space left")


def opt(live, key, answer):
    """What the operator's opt-out or opt-in makes of an event."""
    now, old = live.clock.now(), live.book.records[key]
    decided = replace(old, opt=OptDecision(answer, "operator ann", now, "test"))
    live.book.put(opted_out(decided, now) if answer is Opt.OUT else opted_in(decided))


def summed(live, key):
    """The figures from all samples on disk at once."""
    one = live.book.records[key]
    limits = obligations_of(one, PROGRAM, live.policy.max_import_w, one.baseline.power_w, 0.0)
    tally = tally_of(one, PROGRAM, limits[0])
    window = tally.window
    until = window.hold_until or live.clock.now()
    return near(figures_of(fold(tally, live.history.between(window.hold_from, until))))


def near(figures):
    """The same figures, but for what rounding makes of sums in pieces."""
    exact = {"event_id", "held", "samples"}
    close = {
        field.name: pytest.approx(getattr(figures, field.name), rel=1e-9)
        for field in fields(figures)
        if field.name not in exact
    }
    return replace(figures, **close)


async def test_an_event_that_was_left_and_taken_up_again_is_settled_over_all_of_it(live):
    await live.run(30)
    key = live.call(0.25, hold_s=300)
    await live.run(70)
    opt(live, key, Opt.OUT)
    (*_, left) = await live.run(20)
    assert left.phases[key] is Phase.OPTED_OUT
    first = left.performances[key]
    opt(live, key, Opt.IN)
    (again, *_) = await live.run(1)
    assert again.phases[key] is Phase.HOLDING
    (*_, final) = await live.run(300)
    assert final.phases[key] is Phase.COMPLETED
    assert final.performances[key].held > timedelta(seconds=299) > first.held
    assert final.performances[key] == summed(live, key)
    await live.restart()
    (restarted,) = await live.run(1)
    assert restarted.performances[key] == final.performances[key], "what is on disk is the same"


async def test_figures_kept_before_an_event_was_taken_up_again_do_not_outlive_a_crash(live):
    await live.run(30)
    key = live.call(0.25, hold_s=300)
    await live.run(70)
    opt(live, key, Opt.OUT)
    await live.run(20)
    opt(live, key, Opt.IN)
    await live.restart(1.0)
    await live.run(50)
    await live.restart(300.0)
    (final,) = await live.run(1)
    assert final.phases[key] is Phase.COMPLETED
    assert final.performances[key].held > timedelta(seconds=100)
    assert final.performances[key] == summed(live, key)
    assert await live.keeper.performance(key) == final.performances[key]


async def test_an_event_under_way_costs_only_its_new_samples(live, monkeypatch):
    read = []
    between = live.history.between

    def watched(since, until, most=None):
        samples = between(since, until, most)
        read.append(len(samples))
        return samples

    monkeypatch.setattr(live.history, "between", watched)
    await live.run(30)
    key = live.call(0.25, hold_s=None)
    await live.run(30)
    read.clear()
    await live.run(400)
    assert max(read) <= account.SETTLE_PERIOD.total_seconds()
    shown = live.pictures[-1].performances[key]
    assert shown.samples > 400
    await live.run(5)
    kept = summed(live, key)
    assert kept.samples - live.pictures[-1].performances[key].samples <= 5


async def test_after_a_restart_figures_come_back_in_bounded_pieces_and_only_whole(
    live, monkeypatch
):
    await live.run(30)
    key = live.call(0.25, hold_s=None)
    await live.run(230)
    before = live.pictures[-1].performances[key]
    monkeypatch.setattr(account, "MOST_SAMPLES", 50)
    await live.restart()
    pictures = await live.run(6)
    shown = [p.performances.get(key) for p in pictures]
    assert shown[:4] == [None] * 4, "nothing is shown of a part"
    assert shown[-1] is not None
    assert shown[-1].samples >= before.samples
    await live.run(20)
    opt(live, key, Opt.OUT)
    (*_, final) = await live.run(30)
    assert final.phases[key] is Phase.OPTED_OUT
    assert final.performances[key] == summed(live, key)


async def test_final_figures_wait_until_all_samples_are_in(live, monkeypatch):
    await live.run(30)
    key = live.call(0.25, hold_s=120)
    await live.run(100)
    monkeypatch.setattr(account, "MOST_SAMPLES", 50)
    await live.restart(120.0)
    (first, *_, last) = await live.run(5)
    assert first.phases[key].over
    assert first.performances.get(key) is None
    assert last.performances[key] == summed(live, key)
    assert await live.keeper.performance(key) == last.performances[key]


async def test_samples_that_come_late_to_the_disk_still_count(live, monkeypatch):
    await live.run(30)
    key = live.call(0.25, hold_s=120)
    await live.run(40)
    with monkeypatch.context() as full:
        full.setattr(live.history, "add", refuse)
        await live.run(30)
    (*_, final) = await live.run(100)
    assert final.phases[key] is Phase.COMPLETED
    assert final.performances[key].samples == 120


async def test_an_event_that_is_forgotten_is_forgotten_altogether(live):
    await live.run(30)
    key = live.call(0.25, hold_s=20)
    await live.run(60)
    assert key in live.pictures[-1].performances
    live.book.forget((key,))
    await live.run(1)
    accountant = live.controller._accountant
    assert not live.pictures[-1].performances
    assert not accountant._final
    assert not accountant._tallies
    assert not accountant._figures


async def test_a_price_is_not_counted_as_curtailing_though_it_holds(live):
    await live.run(10)
    now = live.clock.now()
    prices = (Interval(now, None, 80.0),)
    key = live.call(
        hold_s=None,
        start_s=0,
        ramp_s=0,
        event_id="price",
        signals=(Signal(SignalKind.OTHER, "ELECTRICITY_PRICE", "EUR/MWh", prices),),
    )
    (*_, priced) = await live.run(50)
    assert priced.phases[key] is Phase.HOLDING
    assert (priced.counters.curtailed_s, priced.counters.shed_j) == (0, 0)
    live.call(0.25, start_s=5, hold_s=30, ramp_s=0)
    (*_, after) = await live.run(50)
    assert after.counters.curtailed_s == 30


def test_only_events_that_limit_the_site_count_as_curtailing_it():
    def curtailed(*records, seconds=60.0):
        of = picture(seconds, *records)
        after = replace(of, at=of.at + s(1))
        return count(Counters(), of, after, Report()).curtailed_s

    price = record(event(kind=SignalKind.OTHER, event_id="price"))
    assert curtailed(price) == 0
    assert curtailed(record(event((600.0, 0.0)))) == 0
    assert curtailed(record(event(test=True))) == 0
    assert curtailed(price, record()) == 1
    assert curtailed(record(event(ramp_up=s(120))), seconds=620) == 1, "on the way back"
