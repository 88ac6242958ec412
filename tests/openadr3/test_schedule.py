"""Which intervals a report is on and when it is due, by the fields of its descriptor."""

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.openadr.v3.schedule import grid_of, schedule_of
from agent.openadr.v3.wire import WireEvent, WireReportDescriptor

pytestmark = pytest.mark.openadr3

NOW = datetime(2027, 3, 4, 12, tzinfo=UTC)
PERIOD = {"start": "2027-03-04T06:00:00Z", "duration": "PT1H"}


def at(hour, day=4):
    return datetime(2027, 3, day, hour, tzinfo=UTC)


def due(count=6, since=datetime(2020, 1, 1, tzinfo=UTC), most=9, event=None, **fields):
    """(due at, ids) of the reports on an event of hours from six."""
    document = {
        "id": "ev",
        "intervalPeriod": PERIOD,
        "intervals": [{"id": 10 + n} for n in range(count)],
        **(event or {}),
    }
    grid = grid_of(WireEvent.model_validate(document), NOW)
    if grid is None:
        return None
    descriptor = WireReportDescriptor.model_validate({"payloadType": "USAGE", **fields})
    ahead = not descriptor.historical
    found = islice(schedule_of(grid, descriptor, ahead=ahead).due_after(since), most)
    return [(one.at, [slot.interval_id for slot in one.slots]) for one in found]


def test_by_default_there_is_one_report_on_everything_after_the_last_interval():
    assert due() == [(at(12), [10, 11, 12, 13, 14, 15])]


def test_periodic_reports_are_one_after_the_other():
    fields = {"startInterval": 1, "numIntervals": 2, "frequency": 2, "repeat": 3}
    assert due(**fields) == [(at(8), [10, 11]), (at(10), [12, 13]), (at(12), [14, 15])]


def test_a_subset_begins_at_the_start_where_not_so_many_come_before_it():
    assert due(startInterval=1, numIntervals=3) == [(at(10), [11, 12, 13])]


def test_rolling_reports_overlap():
    fields = {"startInterval": 2, "numIntervals": 3, "frequency": 1, "repeat": 3}
    assert due(**fields) == [
        (at(9), [10, 11, 12]),
        (at(10), [11, 12, 13]),
        (at(11), [12, 13, 14]),
    ]


def test_rolling_reports_end_with_the_last_that_is_whole():
    fields = {"startInterval": 2, "numIntervals": 3, "frequency": 1, "repeat": -1}
    assert due(4, **fields) == [(at(9), [10, 11, 12]), (at(10), [11, 12, 13])]
    assert due(2, **{**fields, "numIntervals": 5, "startInterval": 0}) == [(at(8), [10, 11])]


def test_reports_may_be_further_apart_than_they_are_long():
    fields = {"startInterval": 0, "numIntervals": 1, "frequency": 3, "repeat": -1}
    assert due(7, **fields) == [(at(7), [10]), (at(10), [13]), (at(13), [16])]


def test_the_last_ones_end_with_the_last_interval():
    assert due(numIntervals=2) == [(at(12), [14, 15])]


def test_repeating_for_ever_ends_with_the_intervals_and_leaves_none_out():
    fields = {"startInterval": 3, "numIntervals": 4, "repeat": -1}
    assert due(6, **fields) == [(at(10), [10, 11, 12, 13]), (at(12), [14, 15])]


def test_what_was_due_before_is_not_due_again():
    fields = {"startInterval": 0, "numIntervals": 1, "repeat": -1}
    assert due(3, since=at(8), **fields) == [(at(9), [12])]


def test_a_loop_is_reported_on_turn_by_turn():
    loop = {"duration": "P9999Y"}
    assert due(2, most=2, event=loop, repeat=-1) == [(at(8), [10, 11]), (at(10), [10, 11])]
    assert due(2, most=2, event=loop) == [(at(8), [10, 11])]


def test_a_loop_of_years_is_not_gone_through_from_its_beginning():
    old = {
        "duration": "P9999Y",
        "intervalPeriod": {"start": "1999-01-01T00:00:00Z", "duration": "PT1S"},
    }
    later = NOW + timedelta(seconds=1)
    found = due(1, since=NOW, most=1, event=old, startInterval=0, numIntervals=1, repeat=-1)
    assert found == [(later, [10])]
    assert due(1, since=NOW, most=1, event=old, repeat=-1) == [(later, [10])]


def test_a_loop_that_repeats_a_number_of_times_ends_with_that():
    old = {
        "duration": "P9999Y",
        "intervalPeriod": {"start": "1999-01-01T00:00:00Z", "duration": "PT1S"},
    }
    each = {"startInterval": 0, "numIntervals": 1, "repeat": 2_000_000_000}
    assert due(1, since=NOW, most=1, event=old, **each) == [(NOW + timedelta(seconds=1), [10])]
    assert due(1, since=NOW, event=old, **{**each, "repeat": 50_000}) == []


def test_a_year_of_intervals_is_not_gone_through_to_find_the_next():
    document = {
        "id": "ev",
        "intervalPeriod": {"start": "2027-01-01T00:00:00Z", "duration": "PT5M"},
        "intervals": [{"id": n} for n in range(20_000)],
    }
    grid = grid_of(WireEvent.model_validate(document), NOW)
    assert grid.place_at(at(0)) == 62 * 288
    each = {"payloadType": "USAGE", "startInterval": 0, "numIntervals": 1, "repeat": -1}
    found = next(schedule_of(grid, WireReportDescriptor.model_validate(each)).due_after(at(0)))
    assert [slot.interval_id for slot in found.slots] == [62 * 288]
    assert found.at == at(0) + timedelta(minutes=5)


def test_implied_intervals_are_numbered_on():
    implied = {"intervals": []}
    fields = {"startInterval": 0, "numIntervals": 1, "frequency": 1, "repeat": -1}
    assert due(event=implied, since=at(9), most=2, **fields) == [(at(10), [3]), (at(11), [4])]


def test_intervals_without_end_have_no_report():
    assert due(1, event={"intervalPeriod": {"duration": "P9999Y"}}) is None
    assert (
        due(event={"intervals": [], "intervalPeriod": {"start": "0001-01-01", "duration": "PT0H"}})
        is None
    )
    assert due(event={"intervals": [], "intervalPeriod": None}) is None


def test_an_event_cut_short_is_reported_on_as_far_as_it_went():
    assert due(event={"duration": "PT2H"}) == [(at(8), [10, 11])]


def test_a_forecast_of_everything_is_due_as_the_first_interval_begins():
    assert due(3, historical=False) == [(at(6), [10, 11, 12])]


def test_forecasts_begin_with_their_first_interval_and_roll_on():
    fields = {"startInterval": 1, "numIntervals": 3, "frequency": 1, "repeat": -1}
    assert due(5, historical=False, **fields) == [
        (at(7), [11, 12, 13]),
        (at(8), [12, 13, 14]),
        (at(9), [13, 14]),
        (at(10), [14]),
    ]
    assert due(5, historical=False, **{**fields, "repeat": 1}) == [(at(7), [11, 12, 13])]


def test_forecasts_go_by_their_own_length_where_no_frequency_is_said():
    fields = {"startInterval": 0, "numIntervals": 2, "repeat": -1}
    assert due(3, historical=False, **fields) == [(at(6), [10, 11]), (at(8), [12])]


def test_forecasts_of_implied_intervals_go_on_for_ever():
    fields = {"startInterval": 0, "numIntervals": 3, "frequency": 1, "repeat": -1}
    assert due(event={"intervals": []}, since=at(9), most=2, historical=False, **fields) == [
        (at(10), [4, 5, 6]),
        (at(11), [5, 6, 7]),
    ]


def test_what_begins_after_the_last_interval_is_in_no_report():
    assert due(3, startInterval=7, numIntervals=1, repeat=-1) == []
    assert due(3, startInterval=7, numIntervals=1, historical=False) == []


HUGE = 10**40
NUMBERS = st.one_of(st.integers(-1, 9), st.sampled_from([-HUGE, 10**9, HUGE]))
WILD = st.fixed_dictionaries(
    {},
    optional={
        "startInterval": NUMBERS,
        "numIntervals": NUMBERS,
        "frequency": NUMBERS,
        "repeat": NUMBERS,
        "historical": st.booleans(),
    },
)
ROLLING = st.fixed_dictionaries(
    {
        "startInterval": st.integers(0, 3),
        "numIntervals": st.integers(1, 3),
        "frequency": st.integers(-1, 3),
        "repeat": st.just(-1),
        "historical": st.booleans(),
    }
)
DESCRIPTORS = st.one_of(ROLLING, WILD)
EACH = {"startInterval": 0, "numIntervals": 1, "repeat": -1}
EVENTS = st.fixed_dictionaries(
    {"intervals": st.lists(st.sampled_from(["PT1H", "PT30M", "P1D"]), max_size=9)},
    optional={"duration": st.sampled_from(["PT45M", "PT5H", "P3D", "P9999Y"])},
)


def scheduled(event, fields):
    """A schedule of an event with intervals of such lengths, one after the other."""
    intervals = [
        {"id": n, "intervalPeriod": {"duration": length}}
        for n, length in enumerate(event["intervals"])
    ]
    document = {"id": "ev", "intervalPeriod": PERIOD, **event, "intervals": intervals}
    grid = grid_of(WireEvent.model_validate(document), NOW)
    descriptor = WireReportDescriptor.model_validate({"payloadType": "USAGE", **fields})
    return schedule_of(grid, descriptor, ahead=not descriptor.historical)


LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@given(EVENTS, DESCRIPTORS)
def test_whatever_is_asked_reports_are_in_order_and_on_intervals_one_after_the_other(event, fields):
    schedule = scheduled(event, fields)
    found = list(islice(schedule.due_after(LONG_AGO), 40))
    assert [one.at for one in found] == sorted(one.at for one in found)
    if (repeat := fields.get("repeat", 1)) >= 0:
        assert len(found) <= max(1, repeat)
    for one in found:
        slots = list(one.slots)
        assert all(slot.end == later.start for slot, later in pairwise(slots))
        assert one.at == (slots[0].start if schedule.ahead else slots[-1].end)
        if (asked := fields.get("numIntervals", -1)) > 0:
            assert len(slots) <= asked


@given(EVENTS, DESCRIPTORS, st.integers(0, 60))
@example({"intervals": ["PT1H", "PT30M"], "duration": "PT5H"}, EACH, 60)
def test_whenever_one_looks_the_next_report_and_the_last_are_the_same(event, fields, half_hours):
    schedule = scheduled(event, fields)
    looked_at = at(5) + timedelta(minutes=30 * half_hours)
    every = list(islice(schedule.due_after(LONG_AGO), 200))
    assert (
        list(islice(schedule.due_after(looked_at), 3))
        == [one for one in every if one.at > looked_at][:3]
    )
    before = [one for one in every if one.at <= looked_at]
    assert schedule.due_last(looked_at) == (before[-1] if before else None)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=6),
    DESCRIPTORS,
    st.integers(0, 20),
)
def test_of_intervals_in_any_order_none_is_lost_by_looking_later(hours, fields, looked):
    intervals = [
        {
            "id": n,
            "intervalPeriod": {"start": f"2027-03-04T{start:02}:00:00Z", "duration": f"PT{long}H"},
        }
        for n, (start, long) in enumerate(hours)
    ]
    document = {"id": "ev", "intervals": intervals}
    grid = grid_of(WireEvent.model_validate(document), NOW)
    descriptor = WireReportDescriptor.model_validate({"payloadType": "USAGE", **fields})
    schedule = schedule_of(grid, descriptor, ahead=not descriptor.historical)
    every = list(schedule.due_after(LONG_AGO))
    assert schedule.ahead or every == sorted(every, key=lambda one: one.at)
    later = [one for one in every if one.at > at(looked)]
    assert list(schedule.due_after(at(looked))) == later


@given(EVENTS, st.integers(1, 4))
def test_repeated_reports_leave_no_interval_out_and_tell_none_twice(event, number):
    schedule = scheduled(event, {"startInterval": 0, "numIntervals": number, "repeat": -1})
    told = [slot for one in islice(schedule.due_after(LONG_AGO), 9) for slot in one.slots]
    there = (schedule.grid.slot(schedule.begin + n) for n in range(len(told)))
    assert told == list(there)
    assert len(told) == min(9 * number, schedule.grid.end - schedule.begin)


def test_reports_years_apart_are_found_without_going_through_what_lies_between():
    loop = {"duration": "P9999Y", "intervalPeriod": {**PERIOD, "duration": "PT1S"}}
    rare = {"startInterval": 0, "numIntervals": 1, "frequency": 10**9, "repeat": -1}
    [(first, _), (second, _)] = due(1, event=loop, most=2, **rare)
    assert second - first == timedelta(seconds=10**9)
