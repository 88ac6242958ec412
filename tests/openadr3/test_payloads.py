"""What each payload type of a report comes to."""

from datetime import timedelta

import pytest

from agent.core.event import Baseline
from agent.core.outlook import Outlook
from agent.core.sample import Sample
from agent.core.site import MeterQuality
from agent.core.timeline import Obligation, Segment, Source, SourceKind, Timeline
from agent.openadr.v3.payloads import Reading, forecast, is_made, looks_ahead, meant_by
from agent.openadr.v3.schedule import Slot
from agent.openadr.v3.wire import WireReportDescriptor
from tests.clock import NOON

pytestmark = pytest.mark.openadr3

MINUTE = Slot(3, NOON, NOON + timedelta(minutes=1))
HOUR = Slot(3, NOON, NOON + timedelta(hours=1))


def wanted(kind, **fields):
    return WireReportDescriptor.model_validate({"payloadType": kind, **fields})


def read(kind, baseline=None, level=0, count=60, samples=None, units="", **more):
    """What a minute of 6 kW comes to."""
    reading = Reading(MINUTE, baseline, level)
    for n in range(count):
        at = NOON + timedelta(seconds=n)
        reading.add(Sample(at, 6_000.0, more.get("quality", MeterQuality.GOOD), **(samples or {})))
    return list(reading.payloads(wanted(kind, units=units)))


def frozen(estimated=False):
    return Baseline(9_000.0, 9_100.0, "", NOON, estimated=estimated)


def test_a_baseline_is_the_events_whatever_was_measured():
    assert read("BASELINE", frozen(), count=0) == [("BASELINE", 9.0)]
    assert read("BASELINE", frozen(), units="KWH") == [("BASELINE", 0.15)]


def test_an_estimated_baseline_says_so_wherever_it_counts():
    estimated = ("DATA_QUALITY", "ESTIMATED")
    assert read("BASELINE", frozen(estimated=True)) == [("BASELINE", 9.0), estimated]
    assert read("DELTA_USAGE", frozen(estimated=True)) == [("DELTA_USAGE", -0.05), estimated]


def test_without_an_event_the_baseline_is_what_was_drawn_unless_something_restrained_it():
    assert read("BASELINE") == [("BASELINE", 6.0)]
    assert read("DELTA_USAGE") == [("DELTA_USAGE", 0.0)]
    restrained = {"restrained": True}
    assert read("BASELINE", samples=restrained) == [("DATA_QUALITY", "MISSING")]
    assert read("DELTA_USAGE", samples=restrained) == [("DATA_QUALITY", "MISSING")]


def test_a_level_that_the_operator_left_is_not_operated_at():
    assert read("SIMPLE_LEVEL", level=2) == [("SIMPLE_LEVEL", 2)]
    assert read("SIMPLE_LEVEL", level=2, samples={"override": True}) == [("SIMPLE_LEVEL", 0)]
    assert read("SIMPLE_LEVEL", level=2, count=0) == [("DATA_QUALITY", "MISSING")]


def test_a_setpoint_needs_no_meter():
    ceiling = {"ceiling_w": 4_500.0}
    assert read("SETPOINT", samples=ceiling, quality=MeterQuality.BAD) == [("SETPOINT", 4.5)]


@pytest.mark.parametrize(
    ("count", "quality", "expected"),
    [
        (60, MeterQuality.GOOD, "OK"),
        (29, MeterQuality.GOOD, "ESTIMATED"),
        (60, MeterQuality.ESTIMATED, "ESTIMATED"),
        (60, MeterQuality.BAD, "MISSING"),
        (0, MeterQuality.GOOD, "MISSING"),
    ],
)
def test_the_quality_of_an_interval_goes_by_its_samples(count, quality, expected):
    assert read("DATA_QUALITY", count=count, quality=quality) == [("DATA_QUALITY", expected)]
    with_usage = dict(read("USAGE", count=count, quality=quality))
    assert with_usage.get("DATA_QUALITY", "OK") == expected


def test_what_is_asked_ahead_is_told_by_direction_type_or_reading():
    assert not looks_ahead(wanted("USAGE"))
    assert looks_ahead(wanted("USAGE", historical=False))
    assert looks_ahead(wanted("DEMAND", readingType="FORECAST"))
    assert looks_ahead(wanted("USAGE_FORECAST"))
    assert looks_ahead(wanted("LOAD_SHED_DELTA_AVAILABLE"))


@pytest.mark.parametrize(
    ("kind", "fields", "made"),
    [
        ("USAGE", {"units": "kwh"}, True),
        ("USAGE", {"units": "KW"}, False),
        ("BASELINE", {"units": "KWH"}, True),
        ("READING", {"historical": False}, False),
        ("SIMPLE_LEVEL", {"units": "PERCENT"}, True),
        ("STORAGE_CHARGE_LEVEL", {}, False),
    ],
)
def test_what_cannot_be_had_as_asked_for_is_not_made(kind, fields, made):
    assert is_made(wanted(kind, **fields)) is made


def test_a_reading_type_that_is_not_made_is_not_claimed():
    assert meant_by(wanted("DEMAND", readingType="PEAK")) == ("PEAK", "KW")
    assert meant_by(wanted("READING", readingType="PEAK")) == ("DIRECT_READ", "KW")
    assert meant_by(wanted("USAGE_FORECAST", readingType="MEAN")) == ("FORECAST", "KWH")


def outlook(at=NOON):
    """20 kW of which 12 can be shed, and 10 kW asked for in the second half of the hour."""
    half = NOON + timedelta(minutes=30)
    asked = Segment(half, NOON + timedelta(hours=1), 10_000.0, 10_000.0)
    source = Source(SourceKind.EVENT, "ev-1")
    return Outlook(at, 20_000.0, 8_000.0, Timeline((Obligation(source, (asked,)),)))


@pytest.mark.parametrize(
    ("kind", "fields", "expected"),
    [
        ("USAGE_FORECAST", {}, 15.0),
        ("DEMAND", {"readingType": "FORECAST"}, 15.0),
        ("DEMAND", {"readingType": "PEAK", "historical": False}, 20.0),
        ("BASELINE", {"historical": False}, 20.0),
        ("LOAD_SHED_DELTA_AVAILABLE", {}, 7.0),
    ],
)
def test_a_forecast_counts_what_is_asked_for(kind, fields, expected):
    assert list(forecast(wanted(kind, **fields), HOUR, outlook())) == [(kind, expected)]


def test_an_hour_half_gone_is_expected_to_be_as_its_rest():
    late = outlook(NOON + timedelta(minutes=30))
    assert list(forecast(wanted("USAGE_FORECAST"), HOUR, late)) == [("USAGE_FORECAST", 10.0)]


def test_what_is_over_or_not_known_is_not_forecast():
    missing = [("DATA_QUALITY", "MISSING")]
    assert list(forecast(wanted("USAGE_FORECAST"), HOUR, outlook(HOUR.end))) == missing
    assert list(forecast(wanted("USAGE_FORECAST"), HOUR, None)) == missing
