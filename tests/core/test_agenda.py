"""What is asked now, whatever else is in the book."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from agent.core import agenda
from agent.core.agenda import Inputs, agenda_of
from agent.core.event import Ending, EventRecord, Opt, OptDecision, WayBack
from agent.core.lifecycle import Phase
from agent.core.program import DropByShare, Program
from tests.core.build import NOON, POLICY, PROGRAM, at, event, gpu, instant, record, s, snapshot

OTHER = "http://utility.example/emergency"
PROGRAMS = (
    PROGRAM,
    Program("emergency", OTHER, levels={2: DropByShare(0.25), 3: DropByShare(0.5)}),
)


def asked(*records: EventRecord, second: float = 60.0, programs=PROGRAMS, policy=POLICY, **more):
    inputs = Inputs(
        now=instant(second),
        snapshot=snapshot([gpu(0)]),
        records={one.key: one for one in records},
        ledger=(),
        samples=(),
        contacts={"ven": NOON},
        **more,
    )
    return agenda_of(inputs, programs, policy, 40_000.0)


def ceiling(*records: EventRecord, second: float = 60.0):
    return asked(*records, second=second).timeline.ceiling_at(at(second))


def test_of_two_events_that_ask_the_same_the_more_urgent_is_named():
    late = record(event((600, 2), start=30, event_id="urgent", program=OTHER, priority=1))
    soon = record(event((600, 2), event_id="soon", priority=4))
    none = record(event((600, 2), event_id="none"))
    for order in ((late, soon, none), (none, soon, late), (soon, none, late)):
        assert ceiling(*order).source.name == "urgent"
    assert ceiling(none, soon).source.name == "soon", "no priority is the least urgent"


def test_of_two_equally_urgent_events_the_one_that_began_first_is_named():
    first = record(event((600, 2), event_id="z"))
    second = record(event((600, 2), start=20, event_id="a", program=OTHER))
    assert ceiling(second, first).source.name == "z"


def test_urgency_never_loosens_what_another_event_asks():
    mild = record(event((600, 1), event_id="urgent", priority=1))
    strict = record(event((600, 3), event_id="lax", program=OTHER, priority=9))
    found = ceiling(mild, strict)
    assert (found.limit_w, found.source.name) == (20_000.0, "lax")


endings = st.one_of(st.none(), st.tuples(st.sampled_from(Ending), st.integers(-4000, 12_000)))


@given(
    length=st.sampled_from([0, 30, 600]),
    start=st.integers(-600, 3000),
    ramps=st.tuples(st.sampled_from([None, -60, 0, 300]), st.sampled_from([None, -60, 0, 300])),
    ended=endings,
    opt=st.sampled_from(Opt),
    baseline=st.sampled_from([None, 40_000.0]),
    back=st.sampled_from([None, 500, 9000]),
    stopped=st.one_of(st.none(), st.integers(0, 9000)),
    second=st.integers(0, 12_000),
)
def test_skipping_what_is_long_over_changes_nothing(
    length, start, ramps, ended, opt, baseline, back, stopped, second
):
    down, up = (None if ramp is None else s(ramp) for ramp in ramps)
    one = record(
        event((length, 2), start=start, ramp_down=down, ramp_up=up),
        baseline_w=baseline,
        opt=OptDecision(opt, "policy", NOON, "why"),
    )
    if ended is not None:
        one = replace(one, ended_by=ended[0], ended_at=at(min(ended[1], second)))
    if back is not None:
        one = replace(one, way_back=WayBack(at(0), 30_000.0, 40_000.0, at(back)))
    more = {} if stopped is None else {"stopped_at": at(min(stopped, second))}
    quick = asked(one, second=second, **more)
    skipping, agenda._settled = agenda._settled, lambda *_: ()
    try:
        whole = asked(one, second=second, **more)
    finally:
        agenda._settled = skipping
    assert replace(quick, timeline=whole.timeline) == whole
    gone = set(whole.timeline.obligations) - set(quick.timeline.obligations)
    assert all(o.until() is not None and o.until() <= at(second) for o in gone)


def test_what_is_long_over_is_over_and_asks_nothing():
    yesterday = record(event(start=-86_400))
    left = record(
        event(start=-80_000, event_id="left"), opt=OptDecision(Opt.OUT, "policy", NOON, "why")
    )
    unending = record(event((0, 2), start=-90_000, event_id="unending"))
    found = asked(yesterday, left, unending)
    assert found.phases == {
        yesterday.key: Phase.COMPLETED,
        left.key: Phase.OPTED_OUT,
        unending.key: Phase.HOLDING,
    }
    assert {o.source.name for o in found.timeline.obligations} == {"unending", "largest import"}
