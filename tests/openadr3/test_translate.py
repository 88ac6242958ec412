"""What each payload type comes to in the core, and what becomes of values nobody can act on."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.event import Event, SignalKind
from agent.core.program import Change, DropBy, DropByShare, DropTo, Program, ask_of
from agent.openadr.v3.translate import AHEAD, MANY, Translation, Translator
from agent.openadr.v3.wire import RejectedObject, WireEvent, WireProgram

pytestmark = pytest.mark.openadr3

NOW = datetime(2027, 3, 4, 12, tzinfo=UTC)
NOON = "2027-03-04T12:00:00Z"
PROGRAM = WireProgram.model_validate({"id": "p", "programName": "fast-dr"})
TRANSLATOR = Translator("ven", {"p": PROGRAM})


def translation(*values, name="SIMPLE", now=NOW, translator=TRANSLATOR, unit=None, **event):
    """An event of hours from noon, each with its values."""
    document = {
        "id": "ev",
        "programID": "p",
        "intervalPeriod": {"start": NOON, "duration": "PT1H"},
        "intervals": [
            {"id": n, "payloads": [{"type": name, "values": v if isinstance(v, list) else [v]}]}
            for n, v in enumerate(values)
        ],
        **({"payloadDescriptors": [{"payloadType": name, "units": unit}]} if unit else {}),
        **event,
    }
    return translator.translate(WireEvent.model_validate(document), now)


def event(*values, **more) -> Event:
    found = translation(*values, **more)
    assert isinstance(found, Translation), found
    assert found.event is not None
    return found.event


def signal(*values, **more):
    [only] = event(*values, **more).signals
    return only


def ask(program, *values, **more):
    found = signal(*values, **more)
    return ask_of(found.kind, found.intervals[0].value, program, 1e6)


def test_an_event_carries_its_programs_name_and_its_times():
    found = event(1, 2, priority=3, eventName="peak")
    assert (found.program, found.ven, found.event_id, found.comment) == (
        "fast-dr",
        "ven",
        "ev",
        "peak",
    )
    assert (found.starts_at, found.duration, found.priority) == (NOW, timedelta(hours=2), 3)


def test_a_program_that_is_not_listed_goes_by_its_id():
    assert event(1, programID="elsewhere").program == "elsewhere"


@pytest.mark.parametrize(("sent", "rank"), [(None, None), (0, 0), (7, 7), (-3, 0)])
def test_priority_0_is_the_most_urgent_and_none_the_least(sent, rank):
    assert event(1, priority=sent).priority == rank


def test_random_starts_lie_to_either_side():
    found = event(1, intervalPeriod={"start": NOON, "duration": "PT1H", "randomizeStart": "PT5M"})
    assert found.start_early == found.start_window == timedelta(minutes=5)


LADDER = Program("p", "*", levels={1: DropByShare(0.1), 2: DropByShare(0.25)})


@pytest.mark.parametrize(
    ("name", "value", "unit", "asks"),
    [
        ("SIMPLE", 0, None, None),
        ("SIMPLE", 2, None, DropByShare(0.25)),
        ("SIMPLE", "2", None, DropByShare(0.25)),
        ("DISPATCH_SETPOINT", 640.5, "KW", DropTo(640_500.0)),
        ("DISPATCH_SETPOINT", 640.5, None, DropTo(640_500.0)),
        ("DISPATCH_SETPOINT", 1.5, "MW", DropTo(1_500_000.0)),
        ("DISPATCH_SETPOINT", 640.5, "KWH", None),
        ("DISPATCH_SETPOINT_RELATIVE", -100, "KW", DropBy(100_000.0)),
        ("DISPATCH_SETPOINT_RELATIVE", 100, "KW", None),
        ("CONTROL_SETPOINT", 500, "KW", DropTo(500_000.0)),
        ("CONTROL_SETPOINT", -50, "KW", DropBy(50_000.0)),
        ("CONTROL_SETPOINT", 0.5, "PERCENT", None),
        ("CONTROL_LEVEL_OFFSET", 1, None, DropByShare(0.1)),
        ("CONTROL_LEVEL_OFFSET", -2, None, None),
        ("CONTROL_LEVEL_OFFSET_PERCENT", -0.25, "PERCENT", DropByShare(0.25)),
        ("CONTROL_LEVEL_OFFSET_PERCENT", 0.25, "PERCENT", None),
        ("IMPORT_CAPACITY_LIMIT", 800, "KW", DropTo(800_000.0)),
        ("IMPORT_CAPACITY_SUBSCRIPTION", 800, "KW", DropTo(800_000.0)),
        ("IMPORT_CAPACITY_RESERVATION", 800, "KW", None),
        ("IMPORT_CAPACITY_AVAILABLE", 800, "KW", None),
        ("CHARGE_STATE_SETPOINT", 0.8, "PERCENT", None),
        ("PRICE", -0.02, None, None),
        ("GHG", 412, None, None),
        ("ALERT_GRID_EMERGENCY", "less!", None, DropByShare(0.25)),
        ("ALERT_BLACK_START", "slowly!", None, DropByShare(0.25)),
        ("ALERT_FLEX_ALERT", "shift!", None, None),
        ("CTA2045_REBOOT", 1, None, None),
        ("X_OUR_OWN", True, None, None),
    ],
)
def test_what_each_payload_type_asks_for(name, value, unit, asks):
    assert ask(LADDER, value, name=name, unit=unit) == asks


def test_the_sign_of_a_relative_setpoint_is_the_programs():
    less = Program("p", "*", change=Change.REDUCTION)
    assert ask(less, 100, name="DISPATCH_SETPOINT_RELATIVE") == DropBy(100_000.0)
    assert ask(less, 0.2, name="CONTROL_LEVEL_OFFSET_PERCENT") == DropByShare(0.2)


def test_a_black_start_lets_nothing_rise_where_no_emergency_is_agreed():
    assert ask(Program("p", "*"), "slowly!", name="ALERT_BLACK_START") == DropByShare(0.0)
    assert ask(Program("p", "*"), "less!", name="ALERT_GRID_EMERGENCY") is None


def test_what_an_emergency_asks_for_can_be_agreed():
    agreed = Program("p", "*", levels=LADDER.levels, emergency=DropTo(5.0))
    assert ask(agreed, "less!", name="ALERT_GRID_EMERGENCY") == DropTo(5.0)


@pytest.mark.parametrize("name", ["CHARGE_STATE_SETPOINT", "CURVE", "DISPATCH_INSTRUCTION", "OLS"])
def test_what_no_lever_serves_is_shown_and_not_understood(name):
    found = event(1, name=name)
    assert not found.understood
    assert found.signals[0].name == name


@pytest.mark.parametrize("name", ["PRICE", "GHG", "ALERT_FIRE", "IMPORT_CAPACITY_AVAILABLE"])
def test_what_only_informs_is_understood(name):
    assert event(1, name=name).understood


def test_the_programs_descriptor_counts_where_the_event_has_none():
    program = WireProgram.model_validate(
        {
            "id": "p",
            "programName": "fast-dr",
            "payloadDescriptors": [{"payloadType": "DISPATCH_SETPOINT", "units": "MW"}],
        }
    )
    by_program = Translator("ven", {"p": program})
    assert signal(2, name="DISPATCH_SETPOINT", translator=by_program).intervals[0].value == 2e6
    own = signal(2, name="DISPATCH_SETPOINT", unit="KW", translator=by_program)
    assert own.intervals[0].value == 2e3


def test_several_values_share_their_interval_in_equal_parts():
    found = signal([1, 2, 3], name="SIMPLE")
    third = timedelta(minutes=20)
    assert [(i.start, i.end, i.value) for i in found.intervals] == [
        (NOW + n * third, NOW + (n + 1) * third, n + 1) for n in range(3)
    ]


def test_overlapping_intervals_are_in_force_together():
    own = {"start": "2027-03-04T12:30:00Z", "duration": "PT1H"}
    intervals = [
        {"id": 0, "payloads": [{"type": "DISPATCH_SETPOINT", "values": [5]}]},
        {
            "id": 1,
            "intervalPeriod": own,
            "payloads": [{"type": "DISPATCH_SETPOINT", "values": [9]}],
        },
    ]
    first, second = event(intervals=intervals).signals
    assert [i.value for i in (*first.intervals, *second.intervals)] == [5e3, 9e3]


def test_payloads_of_one_type_are_one_signal_with_gaps_where_others_are():
    intervals = [
        {"id": 0, "payloads": [{"type": "SIMPLE", "values": [1]}]},
        {"id": 1, "payloads": [{"type": "PRICE", "values": [0.5]}]},
        {"id": 2, "payloads": [{"type": "SIMPLE", "values": [2]}]},
    ]
    simple, price = event(intervals=intervals).signals
    assert [i.start for i in simple.intervals] == [NOW, NOW + timedelta(hours=2)]
    assert price.kind is SignalKind.PRICE


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"values": (7,)}, "SIMPLE"),
        ({"values": (1.5,)}, "SIMPLE"),
        ({"values": (True,)}, "SIMPLE"),
        ({"values": ({"x": 1, "y": 2},)}, "SIMPLE"),
        ({"values": ([],)}, "SIMPLE"),
        ({"values": (float("nan"),), "name": "PRICE"}, "PRICE"),
        ({"values": ("1e999",), "name": "DISPATCH_SETPOINT"}, "DISPATCH_SETPOINT"),
        ({"values": (-5,), "name": "IMPORT_CAPACITY_LIMIT"}, "IMPORT_CAPACITY_LIMIT"),
        ({"values": (1e12,), "name": "DISPATCH_SETPOINT"}, "DISPATCH_SETPOINT"),
        ({"values": (11,), "name": "CONTROL_LEVEL_OFFSET"}, "CONTROL_LEVEL_OFFSET"),
        ({"values": (25,), "name": "CONTROL_LEVEL_OFFSET_PERCENT"}, "CONTROL_LEVEL_OFFSET_PERCENT"),
    ],
)
def test_a_value_that_makes_no_sense_names_its_interval(changes, field):
    values = changes.pop("values")
    found = translation(0, *values, **changes)
    assert isinstance(found, RejectedObject)
    assert found.field == f"intervals.1.payloads.{field}"
    assert found.object_id == "ev"


def test_several_values_cannot_share_forever():
    found = translation([1, 2], intervalPeriod={"start": NOON, "duration": "P9999Y"})
    assert isinstance(found, RejectedObject)


def test_a_hundred_overlapping_intervals_are_refused():
    own = {"start": NOON, "duration": "PT1H"}
    payload = {"type": "SIMPLE", "values": [1]}
    intervals = [{"id": n, "intervalPeriod": own, "payloads": [payload]} for n in range(100)]
    found = translation(intervals=intervals)
    assert isinstance(found, RejectedObject)
    assert "overlap" in found.why


@pytest.mark.parametrize(
    "nothing",
    [
        {"intervals": []},
        {"intervals": [{"id": 0, "payloads": []}]},
        {"intervals": [{"id": 0}]},
        {"intervalPeriod": {"start": "0001-01-01", "duration": "PT0S"}},
    ],
)
def test_an_event_that_asks_for_nothing_is_none(nothing):
    assert translation(1, **nothing) == Translation(None)


def test_a_loop_is_worked_out_ahead_and_again_before_it_runs_out():
    found = translation(1, 0, duration="P9999Y")
    assert found.event.duration is None
    last = found.event.signals[0].intervals[-1].end
    assert last >= NOW + AHEAD
    assert NOW < found.renew_at < NOW + AHEAD / 2


def test_a_loop_to_come_is_worked_out_from_its_start():
    begins = {"start": "2028-01-01T00:00:00Z", "duration": "PT1H"}
    found = translation(1, 0, intervalPeriod=begins, duration="P9999Y")
    assert found.event.signals[0].intervals[0].start == datetime(2028, 1, 1, tzinfo=UTC)


def test_a_loop_of_seconds_is_worked_out_no_further_than_can_be_held():
    short = {"start": NOON, "duration": "PT1S"}
    found = translation(1, 0, intervalPeriod=short, duration="P9999Y")
    intervals = found.event.signals[0].intervals
    assert len(intervals) <= MANY + 4
    assert found.renew_at < intervals[-1].end


def test_a_running_loop_keeps_the_start_of_its_event():
    later = NOW + timedelta(days=200)
    found = translation(1, 0, duration="P9999Y", now=later).event
    assert found.starts_at == NOW
    intervals = found.signals[0].intervals
    assert intervals[0].start < later < intervals[-1].start


def test_a_loop_is_worked_out_as_far_back_as_its_start_may_be_drawn():
    later = NOW + timedelta(days=1)
    short = {"start": NOON, "duration": "PT10M", "randomizeStart": "PT2H"}
    found = translation(1, intervalPeriod=short, duration="P9999Y", now=later).event
    assert found.signals[0].value_at(later - timedelta(hours=2)) == 1


@pytest.mark.parametrize("past_s", [0, 50_000, 400_000])
def test_of_very_many_setpoints_the_next_are_worked_out_and_more_before_they_run_out(past_s):
    now = NOW + timedelta(seconds=past_s)
    fast = {"start": NOON, "duration": "P5D", "randomizeStart": "PT30S"}
    values = [8000 + n % 50 for n in range(40_000)]
    found = translation(values, name="DISPATCH_SETPOINT", intervalPeriod=fast, now=now)
    signal = found.event.signals[0]
    assert len(signal.intervals) <= MANY
    assert (found.renew_at is None) == (past_s == 400_000)
    assert (found.event.starts_at, found.event.duration) == (NOW, timedelta(days=5))
    until = NOW + timedelta(days=5) if found.renew_at is None else found.renew_at
    for at in (now, now - timedelta(seconds=30 if past_s else 0), until - timedelta(seconds=1)):
        place = (at - NOW) // timedelta(seconds=10.8)
        assert signal.value_at(at) == (8000 + place % 50) * 1000


def test_of_very_many_setpoints_that_in_force_stays_in_force_however_long_ago_it_began():
    now = NOW + timedelta(days=4)
    intervals = [
        {"id": n, "intervalPeriod": period, "payloads": [{"type": "SIMPLE", "values": values}]}
        for n, (period, values) in enumerate(
            [
                ({"start": NOON, "duration": "P9999Y"}, [2]),
                ({"start": NOON, "duration": "P5D"}, [1] * 30_000),
            ]
        )
    ]
    signals = translation(intervals=intervals, now=now).event.signals
    assert sorted(signal.value_at(now) for signal in signals) == [1, 2]


def test_limits_that_come_with_a_dispatch_are_worked_out_as_that_is():
    year = {"start": "2027-01-01T00:00:00Z", "duration": "P365D"}
    payloads = [
        {"type": "IMPORT_CAPACITY_LIMIT", "values": [8000] * 105_120},
        {"type": "SIMPLE", "values": [1]},
    ]
    found = translation(intervalPeriod=year, intervals=[{"id": 0, "payloads": payloads}])
    assert [len(signal.intervals) for signal in found.event.signals] == [MANY // 2, 1]
    assert found.renew_at > NOW


def test_a_year_of_limits_is_worked_out_whole():
    values = [8000 + n % 50 for n in range(105_120)]
    year = {"start": "2027-01-01T00:00:00Z", "duration": "P365D"}
    found = translation(values, name="IMPORT_CAPACITY_LIMIT", intervalPeriod=year)
    assert found.renew_at is None
    intervals = found.event.signals[0].intervals
    assert len(intervals) == 105_120
    assert intervals[0].end - intervals[0].start == timedelta(minutes=5)


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
start = (
    st.sampled_from(["0001-01-01", NOON, "0000-00-00", "2027-03-04", "9999-12-31T23:59:59Z", None])
    | json
)
duration = st.sampled_from(["PT1H", "PT0S", "P9999Y", "P1M", "PT0.5S", None, "-PT1H"]) | json
period = (
    st.none()
    | json
    | st.fixed_dictionaries(
        {}, optional={"start": start, "duration": duration, "randomizeStart": duration}
    )
)
payload = json | st.fixed_dictionaries(
    {
        "type": st.sampled_from(["SIMPLE", "PRICE", "IMPORT_CAPACITY_LIMIT", "ALERT_FIRE"]) | json,
        "values": json | st.lists(st.integers(0, 3) | json, max_size=4),
    }
)
interval = json | st.fixed_dictionaries(
    {},
    optional={
        "id": json,
        "intervalPeriod": period,
        "payloads": json | st.lists(payload, max_size=3),
    },
)


@given(
    st.fixed_dictionaries(
        {"id": st.just("ev")},
        optional={
            "programID": json,
            "priority": json,
            "duration": duration,
            "intervalPeriod": period,
            "intervals": json | st.lists(interval, max_size=4),
            "payloadDescriptors": json,
            "reportDescriptors": json,
            "modificationDateTime": start,
        },
    )
)
def test_whatever_is_sent_is_an_event_or_a_reason(document):
    from agent.openadr.v3.wire import read_object

    wire = read_object(WireEvent, document, "event")
    if isinstance(wire, RejectedObject):
        assert wire.why
        return
    found = TRANSLATOR.translate(wire, NOW)
    if isinstance(found, RejectedObject):
        assert found.field
        return
    for each in found.event.signals if found.event else ():
        assert each.intervals
        for one, following in zip(each.intervals, each.intervals[1:], strict=False):
            assert one.end is not None
            assert one.start < one.end <= following.start
