"""When intervals are: what is inherited, missing, endless, looping, cut short and "now"."""

from datetime import UTC, datetime, timedelta

import pytest

from agent.openadr.v3.course import CourseError, course_of
from agent.openadr.v3.wire import WireEvent

pytestmark = pytest.mark.openadr3

NOW = datetime(2027, 3, 4, 12, tzinfo=UTC)
SIX = "2027-03-04T06:00:00Z"


def at(hour, minute=0, day=4):
    return datetime(2027, 3, day, hour, minute, tzinfo=UTC)


def course(*periods, now=NOW, zero_is_endless=False, **event):
    intervals = [{"id": n, **({"intervalPeriod": p} if p else {})} for n, p in enumerate(periods)]
    wire = WireEvent.model_validate({"id": "ev", "intervals": intervals, **event})
    return course_of(wire, now, now, zero_is_endless=zero_is_endless)


def pieces(*periods, **more):
    found = course(*periods, **more)
    return [] if found is None else [(p.start, p.end) for p in found.whole()]


def period(start=SIX, duration="PT1H", **more):
    return {"start": start, "duration": duration, **more}


def test_intervals_inherit_the_events_period_one_after_the_other():
    assert pieces(None, None, intervalPeriod=period()) == [(at(6), at(7)), (at(7), at(8))]


def test_an_interval_s_own_period_comes_before_the_events():
    own = {"start": "2027-03-04T09:00:00Z"}
    longer = {"duration": "PT2H"}
    assert pieces(None, longer, own, None, intervalPeriod=period()) == [
        (at(6), at(7)),
        (at(7), at(9)),
        (at(9), at(10)),
        (at(10), at(11)),
    ]


def test_a_missing_duration_lasts_until_the_next_begins_and_the_last_until_cancelled():
    late = {"start": "2027-03-04T09:00:00Z"}
    assert pieces({"start": SIX}, late) == [(at(6), at(9)), (at(9), None)]


def test_what_follows_one_that_never_ends_never_comes():
    assert pieces({"start": SIX, "duration": "P9999Y"}, None) == [(at(6), None)]


@pytest.mark.parametrize("duration", ["P9999Y", "P1000Y", "P99999999999Y", "P9999Y1D"])
def test_endless_is_endless_and_overflows_nothing(duration):
    found = course(None, intervalPeriod=period(duration=duration))
    assert (found.starts_at, found.ends_at) == (at(6), None)


@pytest.mark.parametrize(
    "start",
    [
        "0001-01-01",
        "0001-01-01T00:00:00",
        "0001-01-01T00:00:00Z",
        "0000-00-00",
        "0000-00-00T00:00:00Z",
        "0",
        0,
        "",
    ],
)
def test_now_is_when_the_vtn_was_last_told(start):
    told = {"modificationDateTime": "2027-03-04T11:40:00Z", "createdDateTime": SIX}
    found = course(None, intervalPeriod=period(start), **told)
    assert (found.starts_at, found.ends_at) == (at(11, 40), at(12, 40))


def test_now_is_created_time_where_no_modification_is_said():
    found = course(
        None, intervalPeriod=period("0001-01-01"), createdDateTime="2027-03-04T11:00:00Z"
    )
    assert found.starts_at == at(11)


@pytest.mark.parametrize(
    "said", [None, "14:13:26", "", "2031-01-01T00:00:00Z", "0001-01-01T00:00:00Z"]
)
def test_now_is_when_we_heard_where_the_vtn_says_nothing_usable(said):
    found = course(None, intervalPeriod=period("0001-01-01"), modificationDateTime=said)
    assert found.starts_at == NOW


def test_an_event_without_any_period_is_now_and_until_cancelled():
    assert pieces(None) == [(NOW, None)]


def test_a_first_interval_that_begins_now_begins_when_the_event_does():
    first = {"start": "0001-01-01", "duration": "PT2H"}
    assert pieces(first, None, intervalPeriod=period()) == [(at(6), at(8)), (at(8), at(9))]


@pytest.mark.parametrize(
    "start",
    ["2027-03-04", "2027-03-04 00:00:00", "2027-03-04T00:00:00", "2027-03-04T01:00:00+01:00"],
)
def test_sloppy_starts_are_utc(start):
    assert course(None, intervalPeriod=period(start)).starts_at == at(0)


def test_an_event_of_no_time_at_all_is_none():
    assert course(None, intervalPeriod=period("0001-01-01", "PT0S")) is None
    assert course(None, intervalPeriod=period(SIX, "PT0H")) is None
    assert course(intervalPeriod=period()) is None


def test_in_3_0_1_a_dated_zero_is_endless_and_one_from_now_is_called_off():
    assert pieces(None, intervalPeriod=period(SIX, "PT0S"), zero_is_endless=True) == [(at(6), None)]
    assert not pieces(None, intervalPeriod=period("0000-00-00", "PT0S"), zero_is_endless=True)


def test_an_event_shorter_than_its_intervals_is_cut_short():
    found = course(None, None, None, intervalPeriod=period(), duration="PT90M")
    assert [(p.start, p.end) for p in found.whole()] == [(at(6), at(7)), (at(7), at(7, 30))]
    assert found.ends_at == at(7, 30)
    assert found.loop is None


def test_an_endless_interval_is_cut_at_the_events_end():
    assert pieces(None, intervalPeriod=period(duration="P9999Y"), duration="PT3H") == [
        (at(6), at(9))
    ]


def test_an_event_longer_than_its_intervals_loops():
    found = course(None, None, intervalPeriod=period(), duration="PT5H")
    assert found.loop == timedelta(hours=2)
    turns = [(p.start, p.end, p.interval) for p in found.looped(at(6), at(23))]
    assert turns == [
        (at(6), at(7), 0),
        (at(7), at(8), 1),
        (at(8), at(9), 0),
        (at(9), at(10), 1),
        (at(10), at(11), 0),
    ]


def test_an_endless_loop_is_unrolled_as_far_as_is_asked_and_skips_what_is_over():
    found = course(
        None, None, intervalPeriod=period("2020-01-01T00:00:00Z", "PT12H"), duration="P9999Y"
    )
    assert found.ends_at is None
    turns = [(p.start, p.interval) for p in found.looped(NOW, NOW + timedelta(hours=13))]
    assert turns == [(at(12), 1), (at(0, day=5), 0), (at(12, day=5), 1)]


def test_centuries_of_intervals_end_at_the_horizon():
    assert pieces(*[period(duration="P99Y")] * 3)[0] == (at(6), datetime(2126, 2, 8, 6, tzinfo=UTC))
    found = course(*[{"duration": "P99Y"}] * 200, intervalPeriod={"start": SIX})
    assert found.ends_at is None


def test_an_event_duration_of_zero_is_the_documents_default_and_as_good_as_none():
    assert pieces(None, intervalPeriod=period(), duration="PT0S") == [(at(6), at(7))]


@pytest.mark.parametrize(
    ("said", "minutes"), [("PT10M", 10), ("-PT10M", 10), ("PT0S", 0), (None, 0)]
)
def test_the_random_window_has_no_sign(said, minutes):
    found = course(None, intervalPeriod=period(randomizeStart=said))
    assert found.window == timedelta(minutes=minutes)


def test_the_random_window_may_stand_at_the_first_interval():
    found = course(period(randomizeStart="PT5M"), None)
    assert found.window == timedelta(minutes=5)


@pytest.mark.parametrize(
    ("periods", "event", "field"),
    [
        ((), {"intervalPeriod": period("tomorrow")}, "intervalPeriod.start"),
        ((None, period(duration="soon")), {}, "intervals.1.intervalPeriod.duration"),
        ((None, period("2027-13-04")), {}, "intervals.1.intervalPeriod.start"),
        ((period("1942-01-01T00:00:00Z"),), {}, "intervals.0.intervalPeriod.start"),
        ((period(duration="-PT1H"),), {}, "intervals.0.intervalPeriod.duration"),
        ((period(randomizeStart="P200Y"),), {}, "intervals.0.intervalPeriod.randomizeStart"),
        ((period(),), {"duration": "1 hour"}, "duration"),
    ],
)
def test_a_time_that_is_none_names_its_field(periods, event, field):
    with pytest.raises(CourseError) as raised:
        course(*periods, **event)
    assert raised.value.field == field
