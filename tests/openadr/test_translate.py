"""From 2.0b events to the core's."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.event import Event, EventRecord, Interval, Opt, OptDecision, SignalKind
from agent.core.program import Program
from agent.core.timeline import obligations_of, window_of
from agent.openadr.v20.messages import Code, DistributeEvent, RejectedEvent, WireEvent
from agent.openadr.v20.translate import translate
from agent.openadr.v20b.reader import read
from tests.clock import NOON
from tests.openadr import wire
from tests.openadr.rig import PROGRAM

pytestmark = pytest.mark.openadr2

HOUR = timedelta(hours=1)


def translated(xml: str) -> Event | RejectedEvent:
    message = read(wire.distribute_event(xml), 2_000_000)
    assert isinstance(message, DistributeEvent)
    (event,) = message.events
    return translate(event, "ven", NOON) if isinstance(event, WireEvent) else event


def accepted(xml: str) -> Event:
    event = translated(xml)
    assert isinstance(event, Event), event
    return event


def refused(xml: str) -> RejectedEvent:
    event = translated(xml)
    assert isinstance(event, RejectedEvent), event
    return event


@pytest.mark.parametrize(
    ("name", "kind", "item", "value", "meaning", "translated_value", "unit"),
    [
        ("SIMPLE", "level", "", 2, SignalKind.LEVEL, 2, "1"),
        ("simple", "level", "", 3.0, SignalKind.LEVEL, 3, "1"),
        ("LOAD_DISPATCH", "level", "", -2, SignalKind.LEVEL, -2, "1"),
        ("LOAD_DISPATCH", "setpoint", wire.power_real("none"), 5e5, SignalKind.SETPOINT, 5e5, "W"),
        ("LOAD_DISPATCH", "setpoint", wire.power_real("k"), 500, SignalKind.SETPOINT, 5e5, "W"),
        ("LOAD_DISPATCH", "setpoint", wire.power_real("M"), 0.5, SignalKind.SETPOINT, 5e5, "W"),
        ("LOAD_DISPATCH", "setpoint", wire.power_real("m"), 5e8, SignalKind.SETPOINT, 5e5, "W"),
        ("LOAD_DISPATCH", "setpoint", wire.power_real("none", "kW"), 500, SignalKind.SETPOINT, 5e5, "W"),
        ("LOAD_DISPATCH", "setpoint", wire.power_real("k", "J/s"), 500, SignalKind.SETPOINT, 5e5, "W"),
        ("LOAD_DISPATCH", "setpoint", "", 5e5, SignalKind.SETPOINT, 5e5, "W"),
        ("LOAD_DISPATCH", "delta", wire.power_real("k"), -80, SignalKind.CHANGE, -8e4, "W"),
        ("LOAD_DISPATCH", "multiplier", "", 0.75, SignalKind.MULTIPLIER, 0.75, "1"),
        ("LOAD_CONTROL", "x-loadControlCapacity", "", 0.5, SignalKind.CAPACITY, 0.5, "1"),
        ("LOAD_CONTROL", "x-loadControlLevelOffset", "", -1, SignalKind.LEVEL_OFFSET, -1, "1"),
        ("LOAD_CONTROL", "x-loadControlPercentOffset", "", -25, SignalKind.PERCENT_OFFSET, -25, "1"),
        ("LOAD_CONTROL", "x-loadControlSetpoint", wire.power_real("k"), 9, SignalKind.SETPOINT, 9e3, "W"),
        ("ELECTRICITY_PRICE", "price", "", 0.31, SignalKind.PRICE, 0.31, ""),
        ("DEMAND_CHARGE", "priceRelative", "", -3, SignalKind.PRICE, -3, ""),
    ],
)  # fmt: skip
def test_signals_are_translated_with_their_units(
    name, kind, item, value, meaning, translated_value, unit
):
    event = accepted(wire.event(signals=[wire.signal(name, kind, [wire.interval(value)], item)]))
    (signal,) = event.signals
    assert signal.kind is meaning
    assert signal.name == f"{name} {kind}"
    assert signal.unit == unit
    assert signal.intervals == (Interval(NOON, NOON + HOUR, pytest.approx(translated_value)),)


@pytest.mark.parametrize(
    ("code", "exponent"),
    [
        ("p", -12),
        ("n", -9),
        ("micro", -6),
        ("m", -3),
        ("c", -2),
        ("d", -1),
        ("", 0),
        ("none", 0),
        ("k", 3),
        ("M", 6),
        ("G", 9),
        ("T", 12),
    ],
)
@pytest.mark.parametrize(("unit", "watts"), [("W", 1), ("kW", 1e3), ("MW", 1e6), ("GW", 1e9)])
def test_every_scale_of_the_schema_is_known(code, exponent, unit, watts):
    value = 3e5 / (watts * 10**exponent)
    item = wire.power_real(code, unit)
    event = accepted(wire.event(signals=[wire.signal(intervals=[wire.interval(value)], item=item)]))
    assert event.signals[0].intervals[0].value == pytest.approx(3e5)


@pytest.mark.parametrize(
    ("name", "kind", "item", "value", "why"),
    [
        ("SIMPLE", "level", "", 4, "4, which is not 0, 1, 2 or 3 (2.0b rule 9)"),
        ("SIMPLE", "level", "", 1.5, "1.5"),
        ("SIMPLE", "level", "", -1, "-1"),
        ("LOAD_DISPATCH", "level", "", 0.5, "whole number"),
        ("LOAD_DISPATCH", "level", "", 1000, "whole number from -100 to 100"),
        ("LOAD_DISPATCH", "setpoint", "", -1, "-1, which is not a power from 0"),
        ("LOAD_DISPATCH", "setpoint", wire.power_real("T"), 2, "2e+12"),
        ("LOAD_DISPATCH", "delta", wire.power_real("G"), -2000, "-2e+12"),
        ("LOAD_DISPATCH", "delta", "", 1e300, "1e+300"),
        ("LOAD_DISPATCH", "setpoint", wire.power_real("kilo"), 2, "unknown scale 'kilo'"),
        ("LOAD_DISPATCH", "multiplier", "", -0.1, "factor"),
        ("LOAD_CONTROL", "x-loadControlCapacity", "", -0.5, "share from 0 to 1"),
        ("LOAD_CONTROL", "x-loadControlCapacity", "", 50, "share from 0 to 1"),
        ("LOAD_CONTROL", "x-loadControlPercentOffset", "", -101, "percentage"),
        ("LOAD_CONTROL", "x-loadControlLevelOffset", "", 1.5, "whole number"),
    ],
)
def test_absurd_values_are_refused_with_what_and_where(name, kind, item, value, why):
    """Also that nothing was lost on the way: the sentence names event, interval and signal."""
    event = refused(
        wire.event(
            signals=[wire.signal(name, kind, [wire.interval(0), wire.interval(value)], item)]
        )
    )
    assert event.code is Code.INVALID_DATA
    where = "" if "scale" in why else f"interval 2 of signal '{name} {kind}' has the value "
    assert event.why.startswith(f"event 'ev-1': {where}")
    assert why in event.why


@pytest.mark.parametrize(
    "signal",
    [
        wire.signal("x-coffee", "level"),  # V29
        wire.signal("BID_LOAD", "setpoint", item=wire.power_real()),
        wire.signal("LOAD_DISPATCH", "setpoint", item=wire.power_real(unit="VA")),
        wire.signal("LOAD_CONTROL", "x-loadControlSetpoint", item=wire.power_real(unit="celsius")),
        wire.signal("SIMPLE", "price"),
    ],
)
def test_an_event_of_which_nothing_is_understood_is_kept_to_be_shown(signal):
    event = accepted(wire.event(signals=[signal]))
    assert [s.kind for s in event.signals] == [SignalKind.OTHER]
    assert not event.understood


@pytest.mark.parametrize("known", [wire.simple(1), wire.signal("ELECTRICITY_PRICE", "price")])
def test_unknown_signals_beside_a_known_one_are_kept_and_shed_nothing(known):
    event = accepted(wire.event(signals=[wire.signal("x-coffee", "level"), known]))
    assert event.signals[0].kind is SignalKind.OTHER
    assert event.signals[0].name == "x-coffee level"
    assert event.understood


@pytest.mark.parametrize(
    "broken",
    [
        wire.signal("x-coffee", "level", [wire.interval("NaN")]),
        wire.signal("x-coffee", "level", item=wire.power_real("kilo")),
        wire.signal("x-coffee", "level", []),
    ],
)
def test_a_malformed_unknown_signal_is_refused_all_the_same(broken):
    assert refused(wire.event(signals=[broken])).code is Code.INVALID_DATA


def test_the_fields_of_an_event_come_over():
    event = accepted(
        wire.event(
            "00123",
            4,
            status="active",
            priority=1,
            test="true",
            comment="hot",
            start_after="PT5M",
            notification="PT1H",
            ramp_up="PT2M",
            recovery="-PT3M",
            response="never",
        )
    )
    assert event.key == ("ven", "00123")
    assert (event.revision, event.priority, event.test, event.cancelled) == (4, 1, True, False)
    assert event.program == wire.MARKET
    assert event.start_window == timedelta(minutes=5)
    assert event.ramp_down == timedelta(minutes=2)  # its "up" is the shed's
    assert event.ramp_up == -timedelta(minutes=3)
    assert event.notification == HOUR
    assert event.comment == "hot"
    assert not event.response_required


def test_priority_zero_is_no_priority():
    assert accepted(wire.event(priority=0)).priority is None
    assert accepted(wire.event(priority=None)).priority is None


@pytest.mark.parametrize("status", ["cancelled", "canceled", "CANCELLED"])
def test_cancelled_is_understood_in_either_spelling(status):
    assert accepted(wire.event(status=status)).cancelled


def test_a_missing_creation_time_is_not_held_against_an_event():
    assert accepted(wire.event(created=None)).created_at == NOON


def test_intervals_may_say_when_they_begin():
    pieces = [
        wire.interval(1, None, "2026-07-01T12:00:00Z"),
        wire.interval(2, "PT5M", "2026-07-01T14:10:00+02:00"),
        wire.interval(3, "PT10M", "2026-07-01T12:30:00Z"),
    ]
    event = accepted(wire.event(signals=[wire.signal("SIMPLE", "level", pieces)]))
    m = timedelta(minutes=1)
    assert event.signals[0].intervals == (
        Interval(NOON, NOON + 10 * m, 1),
        Interval(NOON + 10 * m, NOON + 15 * m, 2),
        Interval(NOON + 30 * m, NOON + 60 * m, 3),
    )


def test_an_interval_beyond_the_event_is_dropped():
    pieces = [wire.interval(1, "PT2H"), wire.interval(2, "PT1H")]
    event = accepted(wire.event(signals=[wire.signal("SIMPLE", "level", pieces)]))
    assert event.signals[0].intervals == (Interval(NOON, NOON + HOUR, 1),)


@pytest.mark.parametrize("zero", ["PT0S", "P", "P0D", "P9999Y"])
def test_zero_duration_in_any_writing_lasts_until_cancelled(zero):
    event = accepted(wire.event(duration=zero, signals=[wire.simple(2, zero)]))
    assert event.duration is None
    assert event.signals[0].intervals == (Interval(NOON, None, 2),)


def test_the_last_interval_of_an_unending_event_does_not_end():
    pieces = [wire.interval(1, "PT10M"), wire.interval(2, "PT10M")]
    event = accepted(wire.event(duration="PT0S", signals=[wire.signal("SIMPLE", "level", pieces)]))
    assert [i.end for i in event.signals[0].intervals] == [NOON + timedelta(minutes=10), None]


@pytest.mark.parametrize(
    ("xml", "why"),
    [
        (wire.event(duration="-PT1H"), "its duration is negative"),
        (wire.event(start_after="-PT1M"), "its startafter is negative"),
        (wire.event(notification="-PT1M"), "its x-eiNotification is negative"),
        (wire.event(start_after="P2Y"), "its startafter is P730D"),
        (wire.event(ramp_up="P9999Y"), "its x-eiRampUp is"),
        (wire.event(recovery="-P9999Y"), "its x-eiRecovery is"),
        (wire.event(start="0001-01-01T00:00:00Z"), "its dtstart is in the year 1"),
        (wire.event(start="9999-12-31T23:59:59Z"), "its dtstart is in the year 9999"),
        (wire.event(signals=[]), "it has no signal"),
        (wire.event(signals=[wire.signal(intervals=[])]), "has no interval"),
        (
            wire.event(signals=[wire.signal(intervals=[wire.interval(1, "-PT1M")])]),
            "interval 1 has a negative duration",
        ),
        (
            wire.event(signals=[wire.signal(intervals=[wire.interval(1, None), wire.interval(2)])]),
            "nothing says when interval 2 begins",
        ),
        (
            wire.event(signals=[wire.signal(intervals=[wire.interval(1, "P"), wire.interval(2)])]),
            "nothing says when interval 2 begins",
        ),
        (
            wire.event(
                signals=[
                    wire.signal(
                        intervals=[
                            wire.interval(1, "PT30M"),
                            wire.interval(2, start="2026-07-01T12:20:00Z"),
                        ]
                    )
                ]
            ),
            "interval 2 begins before 1 ends",
        ),
        (
            wire.event(
                signals=[wire.signal(intervals=[wire.interval(1, start="2026-07-02T12:00:00Z")])]
            ),
            "no interval within the event's period",
        ),
    ],
)
def test_times_that_make_no_sense_are_refused(xml, why):
    event = refused(xml)
    assert event.code is Code.INVALID_DATA
    assert why in event.why


LENGTHS = st.sampled_from(("PT0S", "PT1S", "PT7M", "PT1H", "P400D", "P8000Y", "-PT1M", "P", None))
STARTS = st.sampled_from(
    (None, "1970-01-01T00:00:00Z", "2026-07-01T12:00:00Z", "2026-07-01T13:00:00Z", "8999-12-31T00:00:00Z")
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    start=STARTS,
    duration=LENGTHS,
    after=LENGTHS,
    ramp=LENGTHS,
    recovery=LENGTHS,
    pieces=st.lists(st.tuples(st.floats(0, 1e5), LENGTHS, STARTS), min_size=1, max_size=4),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_whatever_is_accepted_the_core_can_plan_with(
    start, duration, after, ramp, recovery, pieces, draw
):
    """Intervals are in order within the period, and no date runs out of the calendar."""
    event = translated(
        wire.event(
            start=start or "2026-07-01T12:00:00Z",
            duration=duration,
            start_after=after,
            ramp_up=ramp,
            recovery=recovery,
            signals=[wire.signal(intervals=[wire.interval(*piece) for piece in pieces])],
        )
    )
    if isinstance(event, RejectedEvent):
        assert event.why.startswith("event 'ev-1': ")
        return
    edge = event.starts_at
    for interval in event.signals[0].intervals:
        assert interval.start >= edge
        assert interval.end is None or interval.end > interval.start
        edge = interval.end or interval.start
    if event.duration is not None:
        assert edge <= event.starts_at + event.duration
    shift = event.start_window * draw
    decision = OptDecision(Opt.IN, "policy", NOON, "")
    record = EventRecord(event, NOON, decision, shift, shift)
    window_of(record, PROGRAM)
    obligations_of(record, Program("p", "*"), 1e6, 5e5, 3600.0)
