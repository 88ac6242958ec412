"""The ledger's entries: every setpoint in force, what it replaced, and how long it may last.

The lease rules are here; the durable ledger itself is `agent.store.ledger`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class Lever(StrEnum):
    """A way to shed that leaves something to undo."""

    CAP = "cap"
    PAUSE = "pause"


@dataclass(frozen=True, slots=True)
class Instant:
    """Now, on both clocks: the wall's, and the one that no one can step."""

    at: datetime
    """Wall time, aware UTC."""
    boot_id: str
    """Changes with every boot of the host."""
    boot_s: float
    """Seconds since that boot, suspend included (CLOCK_BOOTTIME)."""

    def after(self, delay: timedelta) -> "Instant":
        """The instant `delay` later, as far as the same boot lasts."""
        return Instant(self.at + delay, self.boot_id, self.boot_s + delay.total_seconds())


@dataclass(frozen=True, slots=True)
class Entry:
    """One setpoint in force (or about to be: it is written before it is applied)."""

    lever: Lever
    key: str
    """The GPU's UUID, or the workload's id."""
    setpoint_w: float | None
    """The limit we set, W; None for a pause."""
    confirmed_w: float | None
    """The last limit of ours that was read back, W. It and `setpoint_w` are what may be found on
    the device after a crash between two writes."""
    original_w: float | None
    """The limit found before our first write, W: what restoring means. None for a pause."""
    demand_w: float
    """What it drew unrestrained, W, so that a restarted agent knows what letting go would cost."""
    source: str
    """Whose ask it serves."""
    reason: str
    written: Instant
    lease: Instant
    """When it may no longer stand, unless renewed."""

    @property
    def ident(self) -> tuple[Lever, str]:
        """Identity within the ledger."""
        return (self.lever, self.key)

    def is_ours(self, limit_w: float) -> bool:
        """Whether a limit found on the device is one that this entry put there."""
        return any(
            own is not None and abs(limit_w - own) < SAME_LIMIT_W
            for own in (self.setpoint_w, self.confirmed_w)
        )


SAME_LIMIT_W = 1.0
"""Limits closer than this are the same: drivers keep whole watts or finer."""


def expired(lease: Instant, now: Instant) -> bool:
    """Whether a lease has run out.

    Within one boot the monotonic clock decides, so that stepping the wall clock neither ends nor
    extends a lease; over a reboot only the wall clock is left to ask.
    """
    if lease.boot_id == now.boot_id:
        return now.boot_s >= lease.boot_s
    return now.at >= lease.at


def lease_for(until: datetime | None, now: Instant, grace: timedelta) -> Instant:
    """The lease of a setpoint that serves an ask until `until`: that long, plus the grace.

    An ask without an end is leased for the grace alone and renewed while the agent lives.
    """
    remaining = timedelta(0) if until is None else max(timedelta(0), until - now.at)
    return now.after(remaining + grace)
