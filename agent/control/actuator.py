"""Carries actions out: the ledger first, then the device, then what was read back.

The order is the point. A setpoint stands in the ledger before any device hears of it, and leaves it
after the device has been brought back: wherever a crash falls, what the ledger says covers what the
devices hold.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from agent.control.equipment import Equipment
from agent.core.ledger import Entry, Instant, Lever
from agent.core.memory import Feedback
from agent.core.reconcile import Action, Confirm, Drop, Observed, Undo, Write, stages
from agent.errors import StoreError
from agent.store.ledger import Ledger
from drivers.outcome import Outcome

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Deed:
    """What one action came to."""

    lever: Lever
    action: Action
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Report:
    """What carrying out a cycle's actions came to."""

    deeds: tuple[Deed, ...] = ()
    trouble: str = ""
    """Why the ledger could not be written; no new setpoint was applied then. Empty when it could."""

    @property
    def feedback(self) -> tuple[Feedback, ...]:
        """For the core to learn from."""
        return tuple(Feedback(d.outcome.key, d.outcome.ok, d.outcome.detail) for d in self.deeds)


class Actuator:
    """The one place that commands devices and jobs."""

    def __init__(self, equipment: Equipment, ledger: Ledger) -> None:
        self._equipment = equipment
        self._ledger = ledger

    async def execute(self, actions: Sequence[Action], observed: Observed, now: Instant) -> Report:
        """Carry out actions stage by stage.

        A ledger that cannot be written ends it there: what is held stays held, nothing new is set.
        What only undoes is still done, since its entries are already written.
        """
        deeds: list[Deed] = []
        trouble = ""
        for stage in stages(actions, observed):
            try:
                deeds += await self._carry_out(stage, now)
            except StoreError as error:
                trouble = trouble or str(error)
        return Report(tuple(deeds), trouble)

    async def _carry_out(self, stage: Sequence[Action], now: Instant) -> list[Deed]:
        dropped = [a for a in stage if isinstance(a, Drop)]
        confirmed = [a for a in stage if isinstance(a, Confirm)]
        for drop in dropped:
            if drop.why:
                log.warning("%s", drop.why)
        await self._forget(a.entry for a in dropped)
        await self._write(a.entry for a in confirmed)
        deeds: list[Deed] = []
        for lever in Lever:
            writes = [a for a in stage if isinstance(a, Write) and a.entry.lever is lever]
            undos = [a for a in stage if isinstance(a, Undo) and a.entry.lever is lever]
            if writes:
                deeds += await self._hold(lever, writes, now)
            if undos:
                deeds += await self._undo(lever, undos)
        return deeds

    async def _hold(self, lever: Lever, writes: Sequence[Write], now: Instant) -> list[Deed]:
        entries = {w.entry.key: w for w in writes}
        await self._write(w.entry for w in writes)
        if lever is Lever.PAUSE:
            outcomes = await self._equipment.pause(list(entries))
        else:
            outcomes = await self._equipment.set_limits(
                {w.entry.key: (w.entry.setpoint_w or 0.0, _lease_s(w.entry, now)) for w in writes}
            )
            await self._write(
                replace(entries[o.key].entry, confirmed_w=entries[o.key].entry.setpoint_w)
                for o in outcomes
                if o.ok
            )
        return [Deed(lever, entries[o.key], o) for o in outcomes]

    async def _undo(self, lever: Lever, undos: Sequence[Undo]) -> list[Deed]:
        entries = {u.entry.key: u for u in undos}
        if lever is Lever.PAUSE:
            outcomes = await self._equipment.resume(list(entries))
        else:
            outcomes = await self._equipment.set_limits(
                {u.entry.key: (u.entry.original_w or 0.0, 0.0) for u in undos}
            )
        await self._forget(entries[o.key].entry for o in outcomes if o.ok)
        return [Deed(lever, entries[o.key], o) for o in outcomes]

    async def _write(self, entries: Iterable[Entry]) -> None:
        await asyncio.to_thread(self._ledger.put, tuple(entries))

    async def _forget(self, entries: Iterable[Entry]) -> None:
        await asyncio.to_thread(self._ledger.drop, tuple(entries))


def _lease_s(entry: Entry, now: Instant) -> float:
    return max(0.0, (entry.lease.at - now.at).total_seconds())
