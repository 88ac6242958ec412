"""The cycle's bookkeeping: samples, counters, event figures, and the log of what changed."""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from agent.control.actuator import Report
from agent.control.keeper import Keeper
from agent.core.agenda import Inputs
from agent.core.decide import Decision
from agent.core.estimate import gpu_sum
from agent.core.event import EventRecord, Key, Opt
from agent.core.ledger import Lever
from agent.core.lifecycle import Phase
from agent.core.picture import Counters, Picture, limiting_events
from agent.core.policy import Policy
from agent.core.program import Program, program_for
from agent.core.reconcile import Undo
from agent.core.sample import Sample
from agent.core.settlement import Performance, Tally, figures_of, fold, tally_of
from agent.core.site import MeterQuality
from agent.core.timeline import SourceKind, own_obligations_of

log = logging.getLogger(__name__)

SETTLE_PERIOD = timedelta(seconds=5)
"""How often the figures of an event under way are brought up to date."""
MOST_SAMPLES = 3600
"""How many samples of an event are read in one cycle: after a restart there may be days of them."""
_NEXT = timedelta(microseconds=1)
_SETTLING = (Phase.HOLDING, Phase.RAMPING_UP)


class Accountant:
    """Works out what each event asked and got, from the kept samples."""

    def __init__(self, keeper: Keeper, programs: tuple[Program, ...], policy: Policy) -> None:
        self._keeper = keeper
        self._programs = programs
        self._policy = policy
        self._final: dict[Key, bool] = {}
        """By event: whether it is over and its figures are final."""
        self._tallies: dict[Key, Tally] = {}
        self._figures: dict[Key, Performance] = {}
        self._worked_at: datetime | None = None

    async def performances(self, decision: Decision, at: datetime) -> dict[Key, Performance]:
        """The figures of all events that have held: current ones every few seconds, then final.

        An event that is taken up again after it was over is current again. After a restart an event's
        figures appear once all its samples have been read, some in every cycle.
        """
        self._forget(self._final.keys() - decision.agenda.phases.keys())
        due = self._worked_at is None or at - self._worked_at >= SETTLE_PERIOD
        for key, phase in decision.agenda.phases.items():
            done = True
            if not phase.over:
                await self._open(key)
                if phase in _SETTLING and (due or key not in self._figures):
                    done = await self._work_out(key, at)
            elif not self._final.get(key):
                done = await self._close(key, at)
            if not done:
                break  # enough for one cycle: the others have their turn once this one is through
        else:
            if due:
                self._worked_at = at
        return dict(self._figures)

    async def _open(self, key: Key) -> None:
        """An event that is not over has no final figures, though it may have had some."""
        if self._final.get(key) is False:
            return
        self._figures.pop(key, None)
        if await self._keeper.performance(key) is not None:
            await self._keeper.put_performance(key, None)
        self._final[key] = False

    async def _close(self, key: Key, at: datetime) -> bool:
        """The final figures: as they were kept before a restart, or else worked out and kept; whether
        that is done.
        """
        kept = None if key in self._final else await self._keeper.performance(key)
        if kept is not None:
            self._figures[key] = kept
        elif not await self._work_out(key, at):
            return False
        elif key in self._figures:
            await self._keeper.put_performance(key, self._figures[key])
        self._tallies.pop(key, None)
        self._final[key] = True
        return True

    async def _work_out(self, key: Key, at: datetime) -> bool:
        """Take in the next samples of an event; whether that was all there are."""
        tally = self._tally(key)
        if tally is None:
            return True
        until = at if tally.window.hold_until is None else min(at, tally.window.hold_until)
        since = tally.window.hold_from if tally.seen_at is None else tally.seen_at + _NEXT
        samples = await self._keeper.samples(since, until, MOST_SAMPLES)
        self._tallies[key] = tally = await asyncio.to_thread(fold, tally, samples)
        if len(samples) == MOST_SAMPLES:
            return False
        figures = figures_of(tally)
        if figures is not None:
            self._figures[key] = figures
        return True

    def _tally(self, key: Key) -> Tally | None:
        """The tally of an event as it is recorded now; None when there is nothing to settle."""
        record = self._keeper.records.get(key)
        known = self._tallies.get(key)
        if known is not None and known.record is record:
            return known
        program = None if record is None else program_for(record.event, self._programs)
        if record is None or program is None or record.baseline is None:
            return None
        own = own_obligations_of(
            record, program, self._policy.max_import_w, record.baseline.power_w, 0.0
        )
        return tally_of(record, program, own[0]) if own else None

    def _forget(self, gone: Iterable[Key]) -> None:
        for key in gone:
            for known in (self._final, self._tallies, self._figures):
                known.pop(key, None)


def sample_of(decision: Decision, inputs: Inputs, power_w: float | None) -> Sample:
    """The cycle's sample. While the meter is blind its power is an estimate, and says so."""
    meter = inputs.snapshot.meter
    estimated = meter.quality is MeterQuality.BAD and power_w is not None
    ceiling = decision.agenda.timeline.ceiling_at(inputs.now.at)
    left = any(
        record.opt.opt is Opt.OUT and decision.agenda.phases.get(key) is Phase.RAMPING_UP
        for key, record in inputs.records.items()
    )
    return Sample(
        at=inputs.now.at,
        power_w=power_w,
        quality=MeterQuality.ESTIMATED if estimated else meter.quality,
        ceiling_w=None
        if ceiling is None or ceiling.source.kind is SourceKind.SITE
        else ceiling.limit_w,
        gpus_w=gpu_sum(inputs.snapshot),
        override=inputs.stopped_at is not None or left,
        restrained=bool(inputs.ledger),
    )


def count(counters: Counters, before: Picture | None, picture: Picture, report: Report) -> Counters:
    """The counters after a cycle."""
    commands = dict(counters.commands)
    for deed in report.deeds:
        pair = (deed.lever.value, deed.outcome.result.value)
        commands[pair] = commands.get(pair, 0) + 1
    limiting = limiting_events(picture)
    acting = [key for key, phase in picture.phases.items() if phase.acting and key in limiting]
    dt_s = 0.0 if before is None else max(0.0, (picture.at - before.at).total_seconds())
    shed_w = max((_shed(picture.records[key], picture.power_w) for key in acting), default=0.0)
    return replace(
        counters,
        cycles=counters.cycles + 1,
        commands=commands,
        curtailed_s=counters.curtailed_s + (dt_s if acting else 0.0),
        shed_j=counters.shed_j + shed_w * dt_s,
    )


def log_changes(before: Picture | None, picture: Picture, report: Report) -> None:
    """One line for each thing that changed: phases, pauses, commands that failed, the last restore."""
    phases = {} if before is None else before.phases
    for key, phase in picture.phases.items():
        if phases.get(key) is not phase and not (before is None and phase.over):
            record = picture.records[key]
            log.info("event %s: %s (opt %s: %s)", key[1], phase, record.opt.opt, record.opt.why)
    for deed in report.deeds:
        if not deed.outcome.ok:
            log.warning("%s %s: %s", deed.lever, deed.outcome.key, deed.outcome.detail)
        elif deed.lever is Lever.PAUSE:
            verb = "resumed" if isinstance(deed.action, Undo) else "paused"
            log.info("%s %s: %s", verb, deed.outcome.key, deed.action.entry.reason)
    if before is not None and before.ledger and not picture.ledger:
        log.info("everything is back as it was")
    elif picture.ledger and (before is None or not before.ledger):
        log.info("holding %d setpoints for %s", len(picture.ledger), picture.ledger[0].source)


def _shed(record: EventRecord, power_w: float | None) -> float:
    if record.baseline is None or power_w is None:
        return 0.0
    return max(0.0, record.baseline.power_w - power_w)
