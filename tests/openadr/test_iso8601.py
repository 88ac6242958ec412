from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.openadr.iso8601 import format_duration, format_time, parse_duration, parse_time

pytestmark = pytest.mark.openadr2


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT15M", 900),
        ("P1DT2H3M4S", 93784),
        ("-PT5M", -300),
        ("+PT5M", 300),
        ("PT0S", 0),
        ("P", 0),  # openleadr's zero
        ("PT", 0),
        ("PT1.5S", 1.5),
        ("PT0,25S", 0.25),
        ("P0.5D", 43200),
        ("PT1.5H", 5400),
        ("P1W", 604800),
        ("1W", 604800),
        ("P1Y", 365 * 86400),
        ("P2M", 60 * 86400),
        ("P1H", 3600),
        ("P30S", 30),
        ("P9999Y", 9999 * 365 * 86400),
        (" PT1S\n", 1),
    ],
)
def test_durations_are_read_in_all_forms_that_senders_use(text, seconds):
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "15M",
        "PT15",
        "P-1D",
        "PTM",
        "PT1S1H",
        "P1DT2H3",
        "nan",
        "P٣D",
        "P" + "9" * 13 + "D",
    ],
)
def test_what_is_no_duration_is_refused_with_its_text(text):
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


def test_a_duration_beyond_the_calendar_is_refused():
    with pytest.raises(ValueError, match="too long"):
        parse_duration("P999999999999Y")


@given(st.timedeltas())
def test_durations_survive_a_round_trip(duration):
    assert parse_duration(format_duration(duration)) == duration


@given(
    st.timedeltas(min_value=timedelta(0)).map(
        lambda d: timedelta(seconds=d // timedelta(seconds=1))
    )
)
def test_whole_seconds_are_written_as_the_schema_wants_them(duration):
    import re

    xsd = r"(\+|\-)?P((\d+Y)?(\d+M)?(\d+D)?T?(\d+H)?(\d+M)?(\d+S)?)|(\d+W)"
    assert re.fullmatch(xsd, format_duration(duration))
    assert format_duration(duration) != "P"


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-07-01T12:00:00Z", datetime(2026, 7, 1, 12, tzinfo=UTC)),
        ("2026-07-01T12:00:00", datetime(2026, 7, 1, 12, tzinfo=UTC)),
        ("2026-07-01T12:00:00+01:00", datetime(2026, 7, 1, 11, tzinfo=UTC)),
        ("2026-07-01T12:00:00-0530", datetime(2026, 7, 1, 17, 30, tzinfo=UTC)),
        ("2026-07-01T12:00:00.1234567899Z", datetime(2026, 7, 1, 12, 0, 0, 123456, tzinfo=UTC)),
        ("2026-12-31T23:59:60Z", datetime(2027, 1, 1, tzinfo=UTC)),
        ("2026-07-01T24:00:00Z", datetime(2026, 7, 2, tzinfo=UTC)),
        ("2026-07-01T12:00Z", datetime(2026, 7, 1, 12, tzinfo=UTC)),
        ("\n2026-07-01T12:00:00z ", datetime(2026, 7, 1, 12, tzinfo=UTC)),
    ],
)
def test_times_are_read_in_all_forms_that_senders_use(text, at):
    """V19: offsets and missing zones."""
    assert parse_time(text) == at
    assert parse_time(text).utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-07-01",
        "2026-02-30T12:00:00Z",
        "2026-13-01T12:00:00Z",
        "2026-07-01T25:00:00Z",
        "2026-07-01T12:61:00Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:60Z",
        "٢٠٢٦-07-01T12:00:00Z",
    ],
)
def test_what_is_no_time_is_refused_with_its_text(text):
    with pytest.raises(ValueError, match="time"):
        parse_time(text)


@given(st.datetimes(timezones=st.just(UTC)))
def test_times_survive_a_round_trip(at):
    assert parse_time(format_time(at)) == at


@given(st.text())
def test_no_text_raises_anything_but_value_error(text):
    for parse in (parse_time, parse_duration):
        with suppress(ValueError):
            parse(text)
