"""What was delivered against what was asked: the figures of one event, from its samples.

An event may last for weeks, so its figures are running sums: folding samples in piece by piece comes
to the same as summing all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from agent.core.baseline import PEAK_WINDOW, highest_mean
from agent.core.event import EventRecord
from agent.core.program import Program
from agent.core.sample import Sample
from agent.core.site import MeterQuality
from agent.core.timeline import Obligation, Window, window_of


@dataclass(frozen=True, slots=True)
class Performance:
    """One event's figures over the seconds in which it held."""

    event_id: str
    baseline_w: float
    committed_w: float
    """Mean reduction that was asked, W: baseline less limit."""
    delivered_w: float
    """Mean reduction that was metered, W: baseline less power."""
    compliant_share: float
    """Share of the holding seconds with metered power at or below the limit; seconds without a
    usable sample count as not compliant."""
    worst_over_w: float
    """Highest ten-second mean of power less limit, W; negative when always below."""
    energy_shed_wh: float
    held: timedelta
    """How long it held, up to now."""
    samples: int


@dataclass(frozen=True, slots=True)
class Tally:
    """The running sums of one event's holding seconds; new samples are folded in as they come."""

    record: EventRecord
    obligation: Obligation
    window: Window
    seen_at: datetime | None = None
    """The last sample folded in, whether it counted or not."""
    held_at: datetime | None = None
    """The last sample while holding."""
    held: int = 0
    """Samples while holding."""
    usable: int = 0
    compliant: int = 0
    power_sum_w: float = 0.0
    limit_sum_w: float = 0.0
    over_w: tuple[tuple[datetime, float], ...] = ()
    """Power less limit of the last usable samples: those of a peak's window, and one before it."""
    worst_over_w: float = float("-inf")


def tally_of(record: EventRecord, program: Program, obligation: Obligation) -> Tally:
    """An empty tally of an event as it is recorded now; a changed record needs a new one."""
    return Tally(record, obligation, window_of(record, program))


def fold(tally: Tally, samples: Sequence[Sample]) -> Tally:
    """The tally with the next samples in it. They must be in order and later than those before."""
    if not samples:
        return tally
    window, until = tally.window, tally.window.hold_until
    holding = [
        (s, limit_w)
        for s in samples
        if window.hold_from <= s.at
        and (until is None or s.at < until)
        and (limit_w := tally.obligation.limit_at(s.at)) is not None
    ]
    usable = [
        (s.at, s.power_w, limit_w)
        for s, limit_w in holding
        if s.power_w is not None and s.quality is not MeterQuality.BAD
    ]
    over_w = (*tally.over_w, *((at, power_w - limit_w) for at, power_w, limit_w in usable))
    worst_w = highest_mean(over_w, PEAK_WINDOW) if over_w else float("-inf")
    if len(tally.over_w) < tally.usable:
        worst_w = max(worst_w, tally.worst_over_w)
    return replace(
        tally,
        seen_at=samples[-1].at,
        held_at=holding[-1][0].at if holding else tally.held_at,
        held=tally.held + len(holding),
        usable=tally.usable + len(usable),
        compliant=tally.compliant + sum(power_w <= limit_w for _, power_w, limit_w in usable),
        power_sum_w=tally.power_sum_w + sum(power_w for _, power_w, _ in usable),
        limit_sum_w=tally.limit_sum_w + sum(limit_w for _, _, limit_w in usable),
        over_w=_recent(over_w),
        worst_over_w=worst_w,
    )


def figures_of(tally: Tally) -> Performance | None:
    """What the tally comes to; None before the event has held for a second or without a baseline."""
    baseline = tally.record.baseline
    if baseline is None or not tally.usable or tally.held_at is None:
        return None
    seconds = max(tally.held, round((tally.held_at - tally.window.hold_from).total_seconds()))
    delivered_w = baseline.power_w - tally.power_sum_w / tally.usable
    return Performance(
        event_id=tally.record.event.event_id,
        baseline_w=baseline.power_w,
        committed_w=baseline.power_w - tally.limit_sum_w / tally.usable,
        delivered_w=delivered_w,
        compliant_share=tally.compliant / seconds,
        worst_over_w=tally.worst_over_w,
        energy_shed_wh=delivered_w * seconds / 3600,
        held=timedelta(seconds=seconds),
        samples=tally.usable,
    )


def _recent(values: tuple[tuple[datetime, float], ...]) -> tuple[tuple[datetime, float], ...]:
    """What the next peak needs: with one value from before its window, every window to come is full."""
    first = len(values) - 1
    while first > 0 and values[first][0] > values[-1][0] - PEAK_WINDOW:
        first -= 1
    return values[max(0, first) :]
