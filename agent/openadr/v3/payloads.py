"""What each payload type of a report comes to: from samples for what is past, from the outlook for what
is ahead. Pure.

Values are in kW or kWh, to a thousandth of a watt. What is not known is named as missing
(DATA_QUALITY), never invented.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from agent.core.event import Baseline, EventRecord, SignalKind
from agent.core.outlook import Outlook
from agent.core.sample import LEAST_COVERED, SPACING, Sample
from agent.core.site import MeterQuality
from agent.errors import quote
from agent.openadr.v3.schedule import Slot
from agent.openadr.v3.wire import WireReportDescriptor

Payload = tuple[str, float | str]
"""A payload type with its value."""
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Kind:
    """A payload type that is reported on; of units and readings the first is what is meant by none."""

    units: tuple[str, ...] = ("",)
    readings: tuple[str, ...] = ("",)
    behind: bool = True
    """Whether it is to be had of what is past."""
    ahead: bool = False
    """Whether it is to be had of what is to come."""


KINDS = {
    "USAGE": Kind(("KWH",), ("", "SUMMED"), ahead=True),
    "DEMAND": Kind(("KW",), ("MEAN", "PEAK", "AVERAGE"), ahead=True),
    "READING": Kind(("KW",), ("DIRECT_READ",)),
    "BASELINE": Kind(("KW", "KWH"), ahead=True),
    "DELTA_USAGE": Kind(("KWH",)),
    "SETPOINT": Kind(("KW",)),
    "SIMPLE_LEVEL": Kind(),
    "OPERATING_STATE": Kind(),
    "DATA_QUALITY": Kind(),
    "USAGE_FORECAST": Kind(("KWH",), behind=False, ahead=True),
    "LOAD_SHED_DELTA_AVAILABLE": Kind(("KW", "KWH"), behind=False, ahead=True),
}
_FORECAST = "FORECAST"


def looks_ahead(descriptor: WireReportDescriptor) -> bool:
    """Whether a report is on what is to come: as it says, or as its type or reading type does."""
    kind = KINDS.get(descriptor.payload_type)
    says_so = not descriptor.historical or descriptor.reading_type.upper() == _FORECAST
    return says_so or (kind is not None and not kind.behind)


def is_made(descriptor: WireReportDescriptor) -> bool:
    """Whether reports as asked for are to be had here."""
    kind = KINDS.get(descriptor.payload_type)
    if kind is None or not (kind.ahead if looks_ahead(descriptor) else kind.behind):
        return False
    asked = descriptor.units.upper()
    return not asked or kind.units == ("",) or asked in kind.units


def named(descriptor: WireReportDescriptor) -> str:
    """What is asked for, for a sentence."""
    units = f" in {quote(descriptor.units)}" if descriptor.units else ""
    ahead = " on what is to come" if looks_ahead(descriptor) else ""
    return f"{quote(descriptor.payload_type)}{units}{ahead}"


def meant_by(descriptor: WireReportDescriptor) -> tuple[str, str]:
    """The reading type and units that reports of a kind that is made are in."""
    kind = KINDS[descriptor.payload_type]
    asked, units = descriptor.reading_type.upper(), descriptor.units.upper()
    reading = asked if asked in kind.readings else kind.readings[0]
    if looks_ahead(descriptor) and reading != "PEAK":
        reading = _FORECAST
    return reading, units if units in kind.units else kind.units[0]


def forecast(
    descriptor: WireReportDescriptor, slot: Slot, outlook: Outlook | None
) -> Iterator[Payload]:
    """What is expected of an interval; one that has begun is taken to be as what is left of it."""
    if outlook is None or slot.end <= outlook.at:
        yield "DATA_QUALITY", "MISSING"
        return
    kind = descriptor.payload_type
    start = max(slot.start, outlook.at)
    reading, units = meant_by(descriptor)
    if kind == "BASELINE":
        power_w = outlook.expected_w
    elif kind == "LOAD_SHED_DELTA_AVAILABLE":
        power_w = outlook.shed_w(start, slot.end)
    elif reading == "PEAK":
        power_w = outlook.peak_w(start, slot.end)
    else:
        power_w = outlook.mean_w(start, slot.end)
    yield kind, _in_units(power_w, slot.end - slot.start, units)


def level_of(records: Iterable[EventRecord], at: datetime) -> int:
    """The highest SIMPLE level that the site took part in at `at`; 0 is normal."""
    levels = (level for record in records for level in record.values_at(SignalKind.LEVEL, at))
    return int(max(levels, default=0))


class Reading:
    """What the samples of one interval come to."""

    def __init__(self, slot: Slot, baseline: Baseline | None = None, level: int = 0) -> None:
        """`baseline` is the event's. Where it has none, and nothing was restrained, what was drawn is what
        would have been. `level` is what was asked then (`level_of`).
        """
        self._length = slot.end - slot.start
        self._baseline = baseline
        self._level = level
        self._sum_w, self._count = 0.0, 0
        self._peak_w: float | None = None
        self._last_w: float | None = None
        self._ceiling_w: float | None = None
        self._seen = self._estimated = self._left = self._restrained = False

    def add(self, sample: Sample) -> None:
        """One more, in order."""
        self._seen = True
        self._left |= sample.override
        self._restrained |= sample.restrained
        self._ceiling_w = sample.ceiling_w
        power_w = sample.power_w
        if power_w is None or not math.isfinite(power_w) or sample.quality is MeterQuality.BAD:
            return
        self._sum_w += power_w
        self._count += 1
        self._peak_w = power_w if self._peak_w is None else max(self._peak_w, power_w)
        self._last_w = power_w
        self._estimated |= sample.quality is MeterQuality.ESTIMATED

    def payloads(self, descriptor: WireReportDescriptor) -> Iterator[Payload]:
        """The value, and what is to be said of it."""
        kind = descriptor.payload_type
        if kind == "OPERATING_STATE":
            yield kind, self._state()
            return
        if kind == "DATA_QUALITY":
            yield kind, self._quality()
            return
        value = self._value(descriptor)
        if value is None:
            yield "DATA_QUALITY", "MISSING"
            return
        yield kind, value
        if self._is_estimate(kind):
            yield "DATA_QUALITY", "ESTIMATED"

    def _value(self, descriptor: WireReportDescriptor) -> float | None:
        kind, (reading, units) = descriptor.payload_type, meant_by(descriptor)
        if kind == "SIMPLE_LEVEL":
            return None if not self._seen else 0 if self._left else self._level
        mean_w = self._sum_w / self._count if self._count else None
        base_w = mean_w if self._baseline is None else self._baseline.power_w
        if self._baseline is None and self._restrained:
            base_w = None
        power_w = {
            "USAGE": mean_w,
            "DEMAND": self._peak_w if reading == "PEAK" else mean_w,
            "READING": self._last_w,
            "BASELINE": base_w,
            "DELTA_USAGE": None if mean_w is None or base_w is None else mean_w - base_w,
            "SETPOINT": self._ceiling_w,
        }[kind]
        return None if power_w is None else _in_units(power_w, self._length, units)

    def _is_estimate(self, kind: str) -> bool:
        if kind in ("SETPOINT", "SIMPLE_LEVEL"):
            return False
        frozen = self._baseline if kind in ("BASELINE", "DELTA_USAGE") else None
        by_samples = kind != "BASELINE" or frozen is None
        return (frozen is not None and frozen.estimated) or (
            by_samples and self._quality() == "ESTIMATED"
        )

    def _quality(self) -> str:
        if self._count == 0:
            return "MISSING"
        sparse = self._count < LEAST_COVERED * (self._length // SPACING)
        return "ESTIMATED" if self._estimated or sparse else "OK"

    def _state(self) -> str:
        if self._left:
            return "RUNNING_OPTED_OUT"
        if self._restrained:
            return "RUNNING_CURTAILED"
        return "RUNNING_NORMAL" if self._count else "ERROR"


def _in_units(power_w: float, length: timedelta, units: str) -> float:
    """A power in kW, or what it comes to over an interval in kWh."""
    return round(power_w / 1000 * (length / _HOUR if units == "KWH" else 1.0), 6)
