"""Samples of the metered power, and what reports and proofs make of them."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from agent.core.site import MeterQuality

SPACING = timedelta(seconds=1)
"""How often a sample is taken."""
LEAST_COVERED = 0.5
"""Share of an interval's samples below which its mean is an estimate."""


class Part(StrEnum):
    """What of a site is measured for itself."""

    SITE = "site"
    """All of it, by the meter."""
    GPUS = "gpus"
    """Its GPUs together, by what they say of themselves."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One second of the site, as it is kept."""

    at: datetime
    power_w: float | None
    quality: MeterQuality
    ceiling_w: float | None = None
    """The limit in force, W."""
    gpus_w: float | None = None
    """What all its GPUs drew, W; None when one of them could not be read."""
    override: bool = False
    """Whether the operator had stopped the agent, or left an event."""
    restrained: bool = False
    """Whether any cap or pause of ours was in force: such a sample is no part of a baseline."""


@dataclass(frozen=True, slots=True)
class Sums:
    """What samples add up to: of each part how many were usable, and the sum of their power."""

    usable: int = 0
    sum_w: float = 0.0
    estimated: bool = False
    """Whether any usable one was an estimate."""
    gpus_usable: int = 0
    gpus_sum_w: float = 0.0
    override: bool = False

    def __add__(self, other: "Sums") -> "Sums":
        """What both add up to."""
        return Sums(
            self.usable + other.usable,
            self.sum_w + other.sum_w,
            self.estimated or other.estimated,
            self.gpus_usable + other.gpus_usable,
            self.gpus_sum_w + other.gpus_sum_w,
            self.override or other.override,
        )


@dataclass(frozen=True, slots=True)
class Mean:
    """Mean power of one part over one interval."""

    power_w: float | None
    """None when there is no usable sample."""
    quality: MeterQuality
    """The worst of its samples'; an estimate when too many are missing; BAD when all are."""


@dataclass(frozen=True, slots=True)
class Point:
    """One interval of a report."""

    start: datetime
    duration: timedelta
    site: Mean
    gpus: Mean
    override: bool
    held: bool = False
    """Whether it has no sample of its own, and the one just before it stands in."""

    def mean(self, part: Part) -> Mean:
        """The mean power of a part."""
        return self.site if part is Part.SITE else self.gpus

    def energy_wh(self, part: Part) -> float | None:
        """What a part took in over the interval, Wh, as if missing samples were like the others."""
        power_w = self.mean(part).power_w
        return None if power_w is None else power_w * self.duration.total_seconds() / 3600


def point_of(sums: Sums, start: datetime, duration: timedelta, *, held: bool = False) -> Point:
    """The point of an interval from what its samples add up to."""
    expected = 1 if held else max(1, duration // SPACING)
    return Point(
        start,
        duration,
        _mean(sums.usable, sums.sum_w, expected, estimated=sums.estimated),
        _mean(sums.gpus_usable, sums.gpus_sum_w, expected),
        sums.override,
        held,
    )


def _mean(usable: int, sum_w: float, expected: int, *, estimated: bool = False) -> Mean:
    if not usable:
        return Mean(None, MeterQuality.BAD)
    uncertain = estimated or usable < LEAST_COVERED * expected
    return Mean(sum_w / usable, MeterQuality.ESTIMATED if uncertain else MeterQuality.GOOD)
