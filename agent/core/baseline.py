"""What the site would have drawn without the event.

Meter-before: the mean over a window that ends where the event begins to act. For a near-flat load it
is often the best there is; the programs' own day-matching rules are settlement's business.
"""

from collections import deque
from collections.abc import Sequence
from datetime import datetime, timedelta

from agent.core.event import Baseline
from agent.core.sample import Sample
from agent.core.site import MeterQuality

PEAK_WINDOW = timedelta(seconds=10)
ENOUGH_SHARE = 0.5
"""With samples for less than this share of a short window (see `meter_before`) it is an estimate."""
SHORT = timedelta(seconds=20)


def meter_before(
    samples: Sequence[Sample],
    at: datetime,
    window: timedelta,
    expected_w: float | None,
    frozen_at: datetime,
) -> Baseline | None:
    """The baseline of an event that begins to act at `at`.

    From the usable samples in the `window` before it, without those taken while we restrained the
    site already. When they cover less than half of it, or of its last 20 s where it is longer, the
    site's expected draw stands in; None when that is unknown.
    """
    usable = [
        (s.at, s.power_w)
        for s in samples
        if at - window <= s.at < at
        and s.power_w is not None
        and s.quality is not MeterQuality.BAD
        and not s.restrained
    ]
    needed_s = ENOUGH_SHARE * min(window, SHORT).total_seconds()
    covered_s = (usable[-1][0] - usable[0][0]).total_seconds() if usable else 0.0
    if len(usable) < 2 or covered_s < needed_s:
        if expected_w is None:
            return None
        return Baseline(
            expected_w, expected_w, "expected draw of the site", frozen_at, estimated=True
        )
    power_w = sum(value for _, value in usable) / len(usable)
    text = f"mean of the {_span((at - usable[0][0]).total_seconds())} before"
    return Baseline(power_w, highest_mean(usable, PEAK_WINDOW), text, frozen_at)


def highest_mean(values: Sequence[tuple[datetime, float]], window: timedelta) -> float:
    """The highest mean over any `window` of the given (time, power) pairs, W."""
    recent: deque[tuple[datetime, float]] = deque()
    total = 0.0
    highest = float("-inf")
    full_from = values[0][0] + window
    for at, value in values:
        recent.append((at, value))
        total += value
        while recent[0][0] <= at - window:
            total -= recent.popleft()[1]
        if at >= full_from or at == values[-1][0]:
            highest = max(highest, total / len(recent))
    return highest


def _span(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
