"""ISO 8601 times and durations: lenient in what is read, strict in what is written."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

_NUMBER = r"([0-9]{1,12}(?:[.,][0-9]{1,12})?)"
_DURATION = re.compile(
    rf"([+-])?P(?:{_NUMBER}Y)?(?:{_NUMBER}M)?(?:{_NUMBER}W)?(?:{_NUMBER}D)?"
    rf"T?(?:{_NUMBER}H)?(?:{_NUMBER}M)?(?:{_NUMBER}S)?"
)
_BARE_WEEKS = re.compile(r"([0-9]{1,12})W")
_UNITS_S = (365 * 86400, 30 * 86400, 7 * 86400, 86400, 3600, 60, 1)
_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]+))?)?"
    r"(?:[Zz]|([+-])([0-9]{2})(?::?([0-9]{2}))?)?"
)


def parse_duration(text: str) -> timedelta:
    """A duration such as `PT15M`, `-P1DT2H`, `PT0.5S` or `P1W`.

    A year counts 365 days and a month 30, having no length of their own. Read too: `P` alone as
    zero (openleadr writes it), a missing `T` where nothing is ambiguous, and `1W` (the 2.0b schema
    has it). Raises `ValueError`.
    """
    text = text.strip()
    if weeks := _BARE_WEEKS.fullmatch(text):
        text = f"P{weeks[1]}W"
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is not an ISO 8601 duration")
    sign, *numbers = match.groups()
    seconds = sum(
        (Decimal(n.replace(",", ".")) * u for n, u in zip(numbers, _UNITS_S, strict=True) if n),
        start=Decimal(0),
    )
    try:
        duration = timedelta(microseconds=int(seconds * 1_000_000))
    except OverflowError:
        raise ValueError(f"{text[:40]!r} is too long a duration") from None
    return -duration if sign == "-" else duration


def format_duration(duration: timedelta) -> str:
    """The inverse of `parse_duration`: `P1DT2H3M4.5S`, `-PT5M`, `PT0S`.

    Whole seconds are also valid in the 2.0b schema, which knows no fractions.
    """
    sign = "-" if duration < timedelta(0) else ""
    duration = abs(duration)
    hours, rest_s = divmod(duration.seconds, 3600)
    minutes, seconds = divmod(rest_s, 60)
    fraction = f".{duration.microseconds:06d}".rstrip("0").rstrip(".")
    days = f"{duration.days}D" if duration.days else ""
    time = f"{hours}H" if hours else ""
    time += f"{minutes}M" if minutes else ""
    time += f"{seconds}{fraction}S" if seconds or fraction else ""
    if not days and not time:
        return "PT0S"
    return f"{sign}P{days}" + (f"T{time}" if time else "")


def parse_time(text: str) -> datetime:
    """A time such as `2026-11-20T19:00:00Z`, as aware UTC.

    Read too: offsets, no zone at all (2.0b times are UTC), a leap second (the second after it),
    `24:00:00`, and any number of fractional digits. Raises `ValueError`.
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text[:40]!r} is not an ISO 8601 time")
    year, month, day, hour, minute = (int(match[n]) for n in range(1, 6))
    second = int(match[6] or 0)
    microsecond = int((match[7] or "")[:6].ljust(6, "0"))
    offset = timedelta(hours=int(match[9] or 0), minutes=int(match[10] or 0))
    if hour > 24 or minute > 59 or second > 60 or offset > timedelta(hours=24):
        raise ValueError(f"{text[:40]!r} is not an ISO 8601 time")
    since_midnight = timedelta(hours=hour, minutes=minute, seconds=second, microseconds=microsecond)
    try:
        at = datetime(year, month, day, tzinfo=UTC) + since_midnight
        return at + offset if match[8] == "-" else at - offset
    except (ValueError, OverflowError):
        raise ValueError(f"{text[:40]!r} is not a time in the calendar") from None


def format_time(at: datetime) -> str:
    """The inverse of `parse_time`, UTC with a `Z`."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"
