"""One field of a message as a value. Each raises `FaultError` where it is missing or wrong."""

import re
from datetime import datetime, timedelta

from agent.errors import quote
from agent.openadr.iso8601 import parse_duration, parse_time
from agent.openadr.v20.messages import Code, FaultError
from agent.openadr.v20.xml import Element, text

MAX_COUNT = 4_294_967_295
"""The schema's unsignedInt: an answer that repeats a larger number would be no valid message, and be lost
with all others that go with it."""

MOST_TEXT = 1000
_COUNT = re.compile(r"[0-9]{1,10}")


def word(element: Element, name: str) -> str:
    """A text without the space around it; empty where it is missing, which is no fault."""
    return (text(element, name) or "").strip()


def required_text(element: Element | None, name: str) -> str:
    """A text that is more than space, as it stands."""
    found = text(element, name)
    if not found or not found.strip():
        raise FaultError(Code.INVALID_ID, f"it has no {name}")
    return short(found, name)


def short(said: str, name: str) -> str:
    """A text that is not too long to be kept and shown."""
    if len(said) > MOST_TEXT:
        raise FaultError(Code.INVALID_DATA, f"its {name} has more than {MOST_TEXT} characters")
    return said


def count(element: Element | None, name: str, default: int | None = None) -> int:
    """A whole number from 0 to `MAX_COUNT`."""
    found = text(element, name)
    if found is None and default is not None:
        return default
    if not is_count((found or "").strip()):
        raise FaultError(
            Code.INVALID_DATA,
            f"its {name} is {quote(found or '')}, not a whole number up to {MAX_COUNT}",
        )
    return int((found or "").strip())


def is_count(said: str) -> bool:
    """Whether a text is a whole number from 0 to `MAX_COUNT`, in plain digits."""
    return _COUNT.fullmatch(said) is not None and int(said) <= MAX_COUNT


def time(element: Element | None, *path: str) -> datetime | None:
    """A time; None where it is missing."""
    found = text(element, *path)
    try:
        return None if found is None else parse_time(found)
    except ValueError as error:
        raise FaultError(Code.INVALID_DATA, f"its {path[0]} {error}") from None


def required_time(element: Element | None, *path: str) -> datetime:
    """A time."""
    found = time(element, *path)
    if found is None:
        raise FaultError(Code.INVALID_DATA, f"it has no {path[0]}")
    return found


def duration(element: Element | None, *path: str) -> timedelta | None:
    """A duration, which may be negative; None where it is missing."""
    found = text(element, *path)
    try:
        return None if found is None else parse_duration(found)
    except ValueError as error:
        raise FaultError(Code.INVALID_DATA, f"its {path[0]} {error}") from None


def length(element: Element | None, *path: str) -> timedelta:
    """A duration that cannot be negative; zero where it is missing."""
    found = duration(element, *path) or timedelta(0)
    if found < timedelta(0):
        raise FaultError(Code.INVALID_DATA, f"its {path[0]} is negative")
    return found
