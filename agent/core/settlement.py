"""What was delivered against what was asked: the figures of one event, from its samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from agent.core.baseline import PEAK_WINDOW, highest_mean
from agent.core.event import EventRecord
from agent.core.program import Program
from agent.core.sample import Sample
from agent.core.site import MeterQuality
from agent.core.timeline import Obligation, window_of


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


def performance(
    record: EventRecord, program: Program, obligation: Obligation, samples: Sequence[Sample]
) -> Performance | None:
    """The figures of an event so far; None before it has held for a second or without a baseline.

    `samples` are the site's around the event; only those while holding count.
    """
    window = window_of(record, program)
    until = window.hold_until
    holding = [
        (s, limit_w)
        for s in samples
        if window.hold_from <= s.at
        and (until is None or s.at < until)
        and (limit_w := obligation.limit_at(s.at)) is not None
    ]
    if record.baseline is None or not holding:
        return None
    baseline_w = record.baseline.power_w
    usable = [
        (s.at, s.power_w, limit_w)
        for s, limit_w in holding
        if s.power_w is not None and s.quality is not MeterQuality.BAD
    ]
    if not usable:
        return None
    seconds = max(len(holding), round((holding[-1][0].at - window.hold_from).total_seconds()))
    count = len(usable)
    delivered_w = baseline_w - sum(power_w for _, power_w, _ in usable) / count
    return Performance(
        event_id=record.event.event_id,
        baseline_w=baseline_w,
        committed_w=baseline_w - sum(limit_w for _, _, limit_w in usable) / count,
        delivered_w=delivered_w,
        compliant_share=sum(power_w <= limit_w for _, power_w, limit_w in usable) / seconds,
        worst_over_w=highest_mean([(at, p - limit_w) for at, p, limit_w in usable], PEAK_WINDOW),
        energy_shed_wh=delivered_w * seconds / 3600,
        held=timedelta(seconds=seconds),
        samples=count,
    )
