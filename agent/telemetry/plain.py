"""Plain values for views: powers with a digit after the point, times as ISO 8601 in UTC."""

from datetime import datetime
from typing import Any

View = dict[str, Any]


def watts(value: float | None) -> float | None:
    """A power as views show it, W."""
    return None if value is None else round(value, 1)


def iso(at: datetime | None) -> str | None:
    """A time as views show it."""
    return None if at is None else at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
