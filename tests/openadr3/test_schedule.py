"""Which intervals a report is on and when it is due, by the fields of its descriptor."""

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest

from agent.openadr.v3.schedule import due_reports, grid_of
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
    found = islice(due_reports(grid, descriptor, since, ahead=ahead), most)
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
    found = next(due_reports(grid, WireReportDescriptor.model_validate(each), at(0)))
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


@pytest.mark.parametrize("historical", [True, False])
@pytest.mark.parametrize("start", [-1, 0, 5, 99])
@pytest.mark.parametrize("number", [-1, 0, 1, 99])
@pytest.mark.parametrize("frequency", [-1, 0, 1, 99])
@pytest.mark.parametrize("repeat", [-1, 0, 1, 99])
def test_whatever_the_numbers_reports_are_in_order_and_end(
    start, number, frequency, repeat, historical
):
    found = due(
        startInterval=start,
        numIntervals=number,
        frequency=frequency,
        repeat=repeat,
        historical=historical,
    )
    assert found == sorted(found)
    assert all(ids for _, ids in found)
