"""`flexload simulate EVENT.json`: what an event would come to, without touching anything.

It is played on a simulated twin of the site that the configuration names, read once and never
written to; where there is no configuration, on the demo's site. What it is played on is said first.
"""

import argparse
import asyncio
import json
import logging
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from agent.config import Config, load, parse
from agent.configured import equipment_of, policy_of, programs_of
from agent.core.ledger import Lever
from agent.core.picture import Picture
from agent.demo import event_file
from agent.demo.rehearsal import Rehearsal, rehearse, twin_of
from agent.demo.site import SPEC, configuration
from agent.errors import CommandError
from agent.telemetry.event_view import performance_view
from agent.telemetry.sentence import sentence_of
from agent.units import format_duration, format_power
from drivers.errors import DriverError
from drivers.sim.physics import SiteSpec

PROGRESS = timedelta(minutes=10)
"""Of simulated time between two lines of progress."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What an event is played on."""

    sentence: str
    """Names it, for people."""
    config: Config
    spec: SiteSpec


def run(options: argparse.Namespace) -> int:
    """Play the event and print what would be done and given."""
    file = event_file.read(options.event)
    stage = _stage(options.config, options.default_config)
    print(stage.sentence, file=sys.stderr if options.json else sys.stdout, flush=True)
    programs, policy = programs_of(stage.config), policy_of(stage.config)
    program = event_file.program_named(file.program, programs)
    event = event_file.event_of(file, program, datetime.now(UTC).replace(microsecond=0))
    asks = event_file.understood(event, program, policy.max_import_w)
    if not options.json:
        print(f"event      {file.signal}, program {program.name}: {'; '.join(asks)}", flush=True)
    logging.disable()  # of a twin's problems those that count are in the result
    try:
        with tempfile.TemporaryDirectory(prefix="flexload-simulate-") as directory:
            play = rehearse(event, stage.spec, programs, policy, Path(directory), _Progress())
            result = asyncio.run(play)
    finally:
        logging.disable(logging.NOTSET)
    print(json.dumps(_document(result, stage, asks)) if options.json else _text(result))
    short = result.held is not None and result.held.plan.shortfall_w > 0
    return 1 if short or result.figures is None else 0


def _stage(chosen: Path | None, default: Path) -> Stage:
    if chosen is None and not default.exists():
        demo = parse(configuration(Path("unused"), "http://127.0.0.1/none", "127.0.0.1:0"))
        return Stage("no configuration: plays on the demo's site", demo, SPEC)
    path = default if chosen is None else chosen
    config = load(path)
    spec = asyncio.run(_twin(config))
    return Stage(f"plays on a twin of {config.site.name} ({path})", config, spec)


async def _twin(config: Config) -> SiteSpec:
    equipment = equipment_of(config)
    try:
        await equipment.open()
        snapshot, _ = await equipment.observe(datetime.now(UTC))
    except DriverError as error:
        raise CommandError(f"the site cannot be read: {error}") from error
    finally:
        await equipment.close()
    return twin_of(snapshot)


class _Progress:
    """Says on standard error how far a long event has been played."""

    def __init__(self) -> None:
        self._last: datetime | None = None

    def __call__(self, picture: Picture) -> None:
        if self._last is None:
            self._last = picture.at
        if picture.at - self._last >= PROGRESS:
            self._last = picture.at
            print(f"{picture.at:%H:%M} UTC  {sentence_of(picture)}", file=sys.stderr, flush=True)


def _document(result: Rehearsal, stage: Stage, asks: list[str]) -> dict[str, Any]:
    plan = None if result.held is None else result.held.plan
    return {
        "site": stage.sentence,
        "asks": asks,
        "performance": None if result.figures is None else performance_view(result.figures),
        "caps": {}
        if plan is None
        else {u: {"limit_w": c.limit_w, "reason": c.reason} for u, c in plan.caps.items()},
        "pauses": {} if plan is None else dict(plan.pauses),
        "shortfall_w": 0.0 if plan is None else round(plan.shortfall_w, 1),
        "short_because": [] if plan is None else list(plan.short_because),
        "seconds": result.seconds,
    }


def _text(result: Rehearsal) -> str:
    if result.held is None or result.figures is None:
        return "The event asks for nothing that sheds."
    figures, picture = result.figures, result.held
    lines = [
        f"asked      {format_power(figures.committed_w)} below a baseline of {format_power(figures.baseline_w)}",
        f"delivered  {format_power(figures.delivered_w)} in the mean over {format_duration(figures.held)}, "
        f"{figures.compliant_share:.1%} of the seconds compliant",
    ]
    if picture.plan.shortfall_w > 0:
        why = "; ".join(picture.plan.short_because)
        lines.append(f"SHORT      {format_power(picture.plan.shortfall_w)}: {why}")
    lines += ["", "while holding:"]
    caps = {e.key: e for e in picture.ledger if e.lever is Lever.CAP}
    for workload in picture.snapshot.workloads:
        capped = [caps[uuid] for uuid in workload.gpus if uuid in caps]
        if workload.workload_id in picture.plan.pauses:
            what = f"paused: {picture.plan.pauses[workload.workload_id]}"
        elif capped:
            what = f"{len(capped)} GPUs capped at {capped[0].setpoint_w:.0f} W of {capped[0].original_w:.0f} W"
        else:
            what = "untouched" + (" (protected)" if workload.terms.tier == 0 else "")
        lines.append(f"  {workload.name:<20} tier {workload.terms.tier}  {what}")
    return "\n".join(lines)
