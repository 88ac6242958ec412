"""Brings everything back, with or without the agent: reconcile with an empty plan.

The return is spread over some seconds, because every lever lets go within a second and a site that
comes back all at once makes a peak.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from agent.clock import Clock
from agent.control.actuator import Actuator
from agent.control.equipment import Equipment
from agent.core.ledger import Entry, Instant, Lever, expired
from agent.core.plan import NO_PLAN
from agent.core.reconcile import Action, Drop, Observed, reconcile
from agent.store.ledger import Ledger

log = logging.getLogger(__name__)

BATCHES = 8
BATCH_SPACING_S = 1.0
ATTEMPTS = 3
STILL_HELD_STATUS = 74
"""Exit status of an agent that was to undo what it held and could not undo all of it."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore came to."""

    undone: int
    """Devices and jobs brought back."""
    dropped: tuple[str, ...]
    """What was found changed by somebody else or gone, and left alone, a sentence each."""
    failed: tuple[str, ...]
    """What could not be brought back, a sentence each; its entry stays in the ledger."""


class Restorer:
    """Undoes what the ledger says is in force."""

    def __init__(self, equipment: Equipment, ledger: Ledger, clock: Clock) -> None:
        self._equipment = equipment
        self._ledger = ledger
        self._clock = clock
        self._actuator = Actuator(equipment, ledger)

    def due(self, now: Instant) -> tuple[Entry, ...]:
        """Entries whose lease has run out."""
        return tuple(entry for entry in self._ledger.entries if expired(entry.lease, now))

    async def restore(self, *, only_expired: bool = False, at_once: bool = False) -> Restored:
        """Undo all entries, or those whose lease has run out. Tries again what fails, then says so."""
        undone = 0
        dropped: list[str] = []
        failed: dict[str, str] = {}
        for attempt in range(ATTEMPTS):
            now = self._clock.instant()
            entries = self.due(now) if only_expired else self._ledger.entries
            if not entries:
                break
            if attempt:
                await self._clock.sleep(BATCH_SPACING_S)
            snapshot, jobs_listed = await self._equipment.observe(now.at)
            observed = Observed(
                gpus={gpu.uuid: gpu for gpu in snapshot.gpus},
                workloads={w.workload_id: w for w in snapshot.workloads},
                jobs_listed=jobs_listed,
            )
            failed = {entry.key: f"{entry.key} does not answer" for entry in entries}
            if not self._equipment.gpus_listed:
                entries = tuple(entry for entry in entries if entry.lever is not Lever.CAP)
            actions = reconcile(NO_PLAN, observed, entries, {}, now, now, 0.0)
            dropped += [a.why for a in actions if isinstance(a, Drop) and a.why]
            for number, batch in enumerate(_batches(actions, at_once=at_once)):
                if number:
                    await self._clock.sleep(BATCH_SPACING_S)
                report = await self._actuator.execute(batch, observed, now)
                undone += sum(deed.outcome.ok for deed in report.deeds)
                if report.trouble:
                    keys = (action.entry.key for action in batch)
                    failed |= {key: f"{key} stays in the ledger: {report.trouble}" for key in keys}
                failed.update((d.outcome.key, d.outcome.detail) for d in report.deeds)
        left = {entry.key for entry in self._ledger.entries}
        return Restored(undone, tuple(dropped), tuple(failed[key] for key in failed if key in left))


def _batches(actions: Sequence[Action], *, at_once: bool) -> list[Sequence[Action]]:
    size = len(actions) if at_once else -(-len(actions) // BATCHES)
    return [actions[i : i + size] for i in range(0, len(actions), max(1, size))]
