"""Samples of the metered power, and what reports and proofs make of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from agent.core.site import MeterQuality


@dataclass(frozen=True, slots=True)
class Sample:
    """One second of the site, as it is kept."""

    at: datetime
    power_w: float | None
    quality: MeterQuality
    ceiling_w: float | None = None
    """The limit in force, W."""
    gpus_w: float | None = None
    override: bool = False
    """Whether the operator had stopped the agent, or left an event."""
    restrained: bool = False
    """Whether any cap or pause of ours was in force: such a sample is no part of a baseline."""


@dataclass(frozen=True, slots=True)
class Point:
    """One interval of a report."""

    start: datetime
    duration: timedelta
    power_w: float | None
    """Mean power, W; None when there is no usable sample."""
    energy_wh: float | None
    quality: MeterQuality
    """The worst of its samples'; BAD when none is usable."""
    override: bool
    samples: int


def points(
    samples: Sequence[Sample], start: datetime, end: datetime, granularity: timedelta
) -> Iterator[Point]:
    """Cut [start, end) into whole intervals of `granularity` and average each.

    An incomplete last interval is left for the next time. `granularity` must be positive.
    """
    position = 0
    begin = start
    while begin + granularity <= end:
        stop = begin + granularity
        while position < len(samples) and samples[position].at < begin:
            position += 1
        first = position
        while position < len(samples) and samples[position].at < stop:
            position += 1
        yield _point(samples[first:position], begin, granularity)
        begin = stop


def _point(samples: Sequence[Sample], start: datetime, duration: timedelta) -> Point:
    usable = [s for s in samples if s.power_w is not None and s.quality is not MeterQuality.BAD]
    override = any(s.override for s in samples)
    if not usable:
        return Point(start, duration, None, None, MeterQuality.BAD, override, 0)
    power_w = sum(s.power_w for s in usable if s.power_w is not None) / len(usable)
    estimated = any(s.quality is MeterQuality.ESTIMATED for s in usable)
    quality = MeterQuality.ESTIMATED if estimated else MeterQuality.GOOD
    energy_wh = power_w * duration.total_seconds() / 3600
    return Point(start, duration, power_w, energy_wh, quality, override, len(usable))
