"""Powers, durations, shares and asks as people write them in a configuration, and back."""

import math
import re
from datetime import timedelta

from agent.core.program import Ask, DropBy, DropByShare, DropTo

_POWER = {"W": 1.0, "kW": 1e3, "MW": 1e6}
_TIME = {"ms": 1e-3, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z%]+)\s*")
_ASK = re.compile(r"\s*drop\s+(to|by)\s+(.+)", re.IGNORECASE)


def parse_power(text: object) -> float:
    """`"120 kW"` as watts. Raises `ValueError` saying what is allowed."""
    return _parse(text, _POWER, 'a power with its unit, like "120 kW" (W, kW, MW)')


def parse_duration(text: object) -> float:
    """`"15 min"` as seconds. Raises `ValueError` saying what is allowed."""
    return _parse(text, _TIME, 'a duration with its unit, like "15 min" (ms, s, min, h, d)')


def parse_slew(text: object) -> float:
    """`"500 kW/min"` as watts a second. Raises `ValueError` saying what is allowed."""
    allowed = 'a power over a time, like "500 kW/min"'
    if not isinstance(text, str) or text.count("/") != 1:
        raise ValueError(f"must be {allowed}")
    power, per = text.split("/")
    try:
        return parse_power(power) / parse_duration(f"1 {per.strip()}")
    except ValueError:
        raise ValueError(f"must be {allowed}") from None


def parse_share(text: object) -> float:
    """`"25 %"` as 0.25. Raises `ValueError` saying what is allowed."""
    allowed = 'a share from "0 %" to "100 %"'
    share = _parse(text, {"%": 0.01}, allowed)
    if share > 1:
        raise ValueError(f"must be {allowed}")
    return share


def parse_ask(text: object) -> Ask:
    """`"drop by 25 %"`, `"drop by 80 kW"` or `"drop to 300 kW"`. Raises `ValueError`."""
    allowed = 'like "drop by 25 %", "drop by 80 kW" or "drop to 300 kW"'
    match = _ASK.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"must be {allowed}")
    verb, amount = match[1].lower(), match[2]
    try:
        if verb == "to":
            return DropTo(parse_power(amount))
        return DropByShare(parse_share(amount)) if "%" in amount else DropBy(parse_power(amount))
    except ValueError:
        raise ValueError(f"must be {allowed}") from None


def format_power(watts: float) -> str:
    """Watts in the unit that reads best: `412.3 kW`."""
    if not math.isfinite(watts):
        return "unlimited"
    for unit, factor in (("MW", 1e6), ("kW", 1e3)):
        if abs(watts) >= factor:
            return f"{watts / factor:.4g} {unit}"
    return f"{watts:.0f} W"


def format_duration(duration: timedelta) -> str:
    """A duration as people say it: `47 min`, `1 h 5 min`, `20 s`."""
    seconds = round(duration.total_seconds())
    if seconds < 120:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{round(hours / 24)} days"


def _parse(text: object, units: dict[str, float], allowed: str) -> float:
    match = _QUANTITY.fullmatch(text) if isinstance(text, str) else None
    if match is None or match[2] not in units:
        raise ValueError(f"must be {allowed}")
    return float(match[1]) * units[match[2]]
