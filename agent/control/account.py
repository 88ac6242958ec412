"""The cycle's bookkeeping: samples, counters, event figures, and the log of what changed."""

import logging
from dataclasses import replace
from datetime import datetime, timedelta

from agent.control.actuator import Report
from agent.control.keeper import Keeper
from agent.core.agenda import Inputs
from agent.core.decide import Decision
from agent.core.event import EventRecord, Opt
from agent.core.ledger import Lever
from agent.core.lifecycle import Phase
from agent.core.picture import Counters, Key, Picture
from agent.core.policy import Policy
from agent.core.program import Program, program_for
from agent.core.reconcile import Undo
from agent.core.sample import Sample
from agent.core.settlement import Performance, performance
from agent.core.site import MeterQuality
from agent.core.timeline import SourceKind, obligations_of, window_of

log = logging.getLogger(__name__)

SETTLE_PERIOD = timedelta(seconds=5)
"""How often the figures of an event under way are worked out anew."""


class Accountant:
    """Works out what each event asked and got, from the kept samples."""

    def __init__(self, keeper: Keeper, programs: tuple[Program, ...], policy: Policy) -> None:
        self._keeper = keeper
        self._programs = programs
        self._policy = policy
        self._figures: dict[Key, Performance] = {}
        self._closed: set[Key] = set()
        self._worked_at: datetime | None = None

    async def performances(self, decision: Decision, at: datetime) -> dict[Key, Performance]:
        """The figures of all events that have held: current ones every few seconds, then final."""
        due = self._worked_at is None or at - self._worked_at >= SETTLE_PERIOD
        for key, phase in decision.agenda.phases.items():
            if phase.over and key not in self._closed:
                await self._close(key, at)
            elif due and phase in (Phase.HOLDING, Phase.RAMPING_UP):
                await self._work_out(key, at)
        if due:
            self._worked_at = at
        return dict(self._figures)

    async def _close(self, key: Key, at: datetime) -> None:
        """The final figures: as they were kept, or else worked out now and kept."""
        kept = await self._keeper.performance(key)
        if kept is not None:
            self._figures[key] = kept
        else:
            await self._work_out(key, at)
            if key in self._figures:
                await self._keeper.put_performance(key, self._figures[key])
        self._closed.add(key)

    async def _work_out(self, key: Key, at: datetime) -> None:
        record = self._keeper.records.get(key)
        program = None if record is None else program_for(record.event, self._programs)
        if record is None or program is None or record.baseline is None:
            return
        window = window_of(record, program)
        until = at if window.hold_until is None else min(at, window.hold_until)
        obligations = obligations_of(
            record, program, self._policy.max_import_w, record.baseline.power_w, 0.0
        )
        if not obligations or until <= window.hold_from:
            return
        samples = await self._keeper.samples(window.hold_from, until)
        figures = performance(record, program, obligations[0], samples)
        if figures is not None:
            self._figures[key] = figures


def sample_of(decision: Decision, inputs: Inputs, power_w: float | None) -> Sample:
    """The cycle's sample. While the meter is blind its power is an estimate, and says so."""
    meter = inputs.snapshot.meter
    estimated = meter.quality is MeterQuality.BAD and power_w is not None
    ceiling = decision.agenda.timeline.ceiling_at(inputs.now.at)
    draws_w = [gpu.power_w for gpu in inputs.snapshot.gpus if gpu.power_w is not None]
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
        gpus_w=sum(draws_w),
        override=inputs.stopped_at is not None or left,
        restrained=bool(inputs.ledger),
    )


def count(counters: Counters, before: Picture | None, picture: Picture, report: Report) -> Counters:
    """The counters after a cycle."""
    commands = dict(counters.commands)
    for deed in report.deeds:
        pair = (deed.lever.value, deed.outcome.result.value)
        commands[pair] = commands.get(pair, 0) + 1
    acting = [key for key, phase in picture.phases.items() if phase.acting]
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
