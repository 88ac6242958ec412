"""What the site is expected to draw, and what of it could be shed. Pure.

As things stand: the draw with nothing restrained is taken to stay what it is now, and what is asked of
the site to stay what is known of it now.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from agent.core.capacity import AHEAD, standing_obligations
from agent.core.estimate import Estimates, update
from agent.core.groups import Held
from agent.core.picture import Picture
from agent.core.plan import Plan
from agent.core.planner import plan
from agent.core.policy import Policy
from agent.core.site import MeterQuality, Snapshot
from agent.core.timeline import Ceiling, Source, SourceKind, Timeline

STEP = timedelta(minutes=1)
MOST_STEPS = 60
"""Instants of one stretch that are looked at."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What lies ahead, seen from one cycle."""

    at: datetime
    """When the cycle was."""
    expected_w: float
    """What the site would draw with nothing restrained, W."""
    least_w: float
    """What it would draw with everything shed that may be, W."""
    timeline: Timeline

    def mean_w(self, start: datetime, end: datetime) -> float:
        """The mean draw expected over a stretch, W: limits are kept as far as there is to shed."""
        draws = list(self._draws(start, end))
        return sum(draws) / len(draws)

    def peak_w(self, start: datetime, end: datetime) -> float:
        """The highest draw expected over a stretch, W."""
        return max(self._draws(start, end))

    def shed_w(self, start: datetime, end: datetime) -> float:
        """By how much the mean draw over a stretch could be less than is expected, W."""
        return max(0.0, self.mean_w(start, end) - self.least_w)

    def _draws(self, start: datetime, end: datetime) -> Iterator[float]:
        count = max(1, min(MOST_STEPS, round((end - start) / STEP)))
        for n in range(count):
            yield self._draw_w(start + (end - start) * ((n + 0.5) / count))

    def _draw_w(self, at: datetime) -> float:
        ceiling = self.timeline.ceiling_at(at)
        if ceiling is None:
            return self.expected_w
        goal_w = ceiling.limit_w * (1 - ceiling.margin)
        return min(self.expected_w, max(goal_w, self.least_w))


def outlook_of(picture: Picture, policy: Policy, until: datetime) -> Outlook | None:
    """The outlook from a cycle, good until then; None where what the site draws is not known. Under the
    operator's local stop nothing is there to be shed.
    """
    meter, expected_w = picture.snapshot.meter, picture.expected_w
    if expected_w is None or meter.power_w is None or meter.quality is MeterQuality.BAD:
        return None
    if picture.stop is not None:
        return Outlook(picture.at, expected_w, expected_w, Timeline())
    least_w = plan_for_nothing(picture.snapshot, policy).expected_w
    if least_w is None:
        return None
    return Outlook(picture.at, expected_w, min(expected_w, least_w), _timeline(picture, until))


def _timeline(picture: Picture, until: datetime) -> Timeline:
    """What is asked until then: a cycle's own timeline has the standing limits of a day."""
    ahead = until - picture.at
    if ahead <= AHEAD:
        return picture.timeline
    rest = [o for o in picture.timeline.obligations if o.source.kind is not SourceKind.CAPACITY]
    records = picture.records.values()
    void = frozenset(link.ven for link in picture.links if link.limits_void)
    standing = standing_obligations(records, picture.programs, picture.at, void, ahead)
    return Timeline((*rest, *standing))


def plan_for_nothing(snapshot: Snapshot, policy: Policy) -> Plan:
    """The plan for a limit of nothing: all that there is to shed."""
    estimates = update(Estimates(), snapshot, {}, 1.0)
    nothing = Ceiling(0.0, Source(SourceKind.SITE, "what if"))
    return plan(nothing, snapshot, estimates, Held(), policy, 0.0)
