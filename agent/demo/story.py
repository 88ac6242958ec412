"""The demo's story: start the utility, the site and the agent, watch the event, tell how it went."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from agent.app import App
from agent.config import parse
from agent.core.event import Key
from agent.core.ledger import Lever
from agent.core.lifecycle import Phase
from agent.core.picture import Picture
from agent.core.timeline import SourceKind
from agent.demo.site import SPEC, configuration
from agent.errors import FlexloadError
from drivers.sim.physics import SiteState
from drivers.sim.site import SimSite, uuids

ON_TARGET_CYCLES = 3
"""This many cycles in a row at or below the limit are on target."""
REQUIRED_COMPLIANCE = 0.99
EVERY_S = 300.0
"""Between two events of a demo that goes on."""


@dataclass(frozen=True, slots=True)
class Script:
    """What the demo's utility asks for."""

    share: float = 0.25
    hold_s: float = 120.0
    ramp_s: float = 20.0
    after_s: float = 0.0
    """How long the demo goes on after the event."""
    once: bool = False
    listen: str = "127.0.0.1:9430"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the demo's event went."""

    event_id: str
    baseline_kw: float
    committed_kw: float
    delivered_kw: float
    """Mean while holding."""
    worst_kw_over_ceiling: float
    """Highest ten-second mean above the ceiling; negative when always below."""
    compliant_fraction: float
    """Of the seconds while holding."""
    response_s: float | None
    """From the VTN's call until on target, ramp included."""
    gpus_capped: int
    jobs_paused: int
    gpus_restored: int
    jobs_resumed: int
    reports_received_by_vtn: int

    @property
    def met(self) -> bool:
        """Whether the event was met and every GPU and job is back as it was."""
        return (
            self.compliant_fraction >= REQUIRED_COMPLIANCE
            and self.delivered_kw >= self.committed_kw > 0
            and self.gpus_restored == self.gpus_capped > 0
            and self.jobs_resumed == self.jobs_paused
        )


@dataclass(slots=True)
class Notes:
    """What the teller noted as it went."""

    called_at: float | None = None
    reports: int = 0
    on_target_at: float | None = None
    cycles_on_target: int = 0
    capped: set[str] = field(default_factory=set)
    paused: set[str] = field(default_factory=set)
    key: Key | None = None
    over_at: datetime | None = None


async def tell(directory: Path, script: Script, say: Callable[[str], None]) -> Outcome | None:
    """Run the demo in `directory` until it is over or cancelled; the outcome of its first event."""
    site = SimSite.create(directory / "site.json", SPEC)
    _, before = site.read()
    notes = Notes()
    utility, url = await _start_utility(script)
    listening = asyncio.create_task(_listen(utility, notes, say))
    app = App(parse(configuration(directory, url, script.listen)), demo=True)
    started = asyncio.Event()
    running = asyncio.create_task(app.run(started))
    try:
        await asyncio.wait(
            {asyncio.create_task(started.wait()), running}, return_when="FIRST_COMPLETED"
        )
        if started.is_set():
            say(f"utility   {url}")
            say(
                f"site      {len(SPEC.hosts)} hosts, {len(before.gpus)} GPUs, {len(SPEC.jobs)} workloads"
            )
            say(f"page      {app.url}")
            await _watch(app, script, notes, say, running)
        app.let_go()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        listening.cancel()
        await _stop_utility(utility)
    if running.done() and not running.cancelled() and (error := running.exception()) is not None:
        raise error
    _, after = site.read()
    return _outcome(app.picture, notes, before, after)


async def _watch(
    app: App, script: Script, notes: Notes, say: Callable[[str], None], running: asyncio.Task[None]
) -> None:
    """Follow the agent's pictures until the first event is over, or for good."""
    last_said, last_phase = 0.0, None
    seen: datetime | None = None
    while not running.done():
        await asyncio.sleep(0.1)
        picture = app.picture
        if picture is None or picture.at == seen:
            continue
        seen = picture.at
        _note(picture, notes)
        phase = None if notes.key is None else picture.phases.get(notes.key)
        view = app.view
        if view is not None and (phase is not last_phase or time.monotonic() - last_said >= 10.0):
            say(f"{picture.at:%H:%M:%S}  {view['sentence']}")
            last_said, last_phase = time.monotonic(), phase
        if script.once and phase is not None and phase.over and not picture.ledger:
            notes.over_at = notes.over_at or picture.at
            if picture.at - notes.over_at >= timedelta(seconds=script.after_s):
                return


def _note(picture: Picture, notes: Notes) -> None:
    if notes.key is None:
        notes.key = next(iter(picture.records), None)
    for entry in picture.ledger:
        (notes.capped if entry.lever is Lever.CAP else notes.paused).add(entry.key)
    if notes.key is None or picture.power_w is None or notes.on_target_at is not None:
        return
    lowest_w = min(
        (
            segment.to_w
            for o in picture.timeline.obligations
            if o.source.kind is SourceKind.EVENT and o.source.name == notes.key[1]
            for segment in o.segments
        ),
        default=0.0,
    )
    acting = picture.phases.get(notes.key) in (Phase.RAMPING_DOWN, Phase.HOLDING)
    on_target = acting and picture.power_w <= lowest_w
    notes.cycles_on_target = notes.cycles_on_target + 1 if on_target else 0
    if notes.cycles_on_target == ON_TARGET_CYCLES:
        notes.on_target_at = picture.at.timestamp() - (ON_TARGET_CYCLES - 1)


def _outcome(
    picture: Picture | None, notes: Notes, before: SiteState, after: SiteState
) -> Outcome | None:
    figures = None if picture is None or notes.key is None else picture.performances.get(notes.key)
    if figures is None:
        return None
    names = uuids(SPEC)
    limits = {name: gpu.limit_w for name, gpu in zip(names, after.gpus, strict=True)}
    originals = {name: gpu.limit_w for name, gpu in zip(names, before.gpus, strict=True)}
    response_s = None
    if notes.on_target_at is not None and notes.called_at is not None:
        response_s = round(notes.on_target_at - notes.called_at, 1)
    return Outcome(
        event_id=figures.event_id,
        baseline_kw=round(figures.baseline_w / 1000, 3),
        committed_kw=round(figures.committed_w / 1000, 3),
        delivered_kw=round(figures.delivered_w / 1000, 3),
        worst_kw_over_ceiling=round(figures.worst_over_w / 1000, 3),
        compliant_fraction=round(figures.compliant_share, 4),
        response_s=response_s,
        gpus_capped=len(notes.capped),
        jobs_paused=len(notes.paused),
        gpus_restored=sum(limits[uuid] == originals[uuid] for uuid in notes.capped),
        jobs_resumed=sum(job_id not in after.paused_at for job_id in notes.paused),
        reports_received_by_vtn=notes.reports,
    )


def as_json(outcome: Outcome) -> str:
    """One line of JSON."""
    return json.dumps(asdict(outcome))


async def _start_utility(script: Script) -> tuple[asyncio.subprocess.Process, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "agent.demo.vtn",
        f"--hold-s={script.hold_s}",
        f"--ramp-s={script.ramp_s}",
        f"--multiplier={1 - script.share}",
        f"--every-s={0.0 if script.once else EVERY_S + script.hold_s}",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    async for event in _events(process):
        if event["what"] == "listening":
            return process, str(event["url"])
    raise FlexloadError("the demo's VTN did not start")


async def _stop_utility(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(5.0):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _listen(
    process: asyncio.subprocess.Process, notes: Notes, say: Callable[[str], None]
) -> None:
    """Note what the utility tells."""
    async for event in _events(process):
        match event["what"]:
            case "called":
                notes.called_at = notes.called_at or event["at"]
                say(f"utility   calls event {event['event_id']}")
            case "answered":
                say(f"utility   got {event['opt']} for event {event['event_id']}")
            case "report":
                notes.reports += 1
            case _:
                pass


async def _events(process: asyncio.subprocess.Process) -> AsyncIterator[dict[str, Any]]:
    assert process.stdout is not None
    async for line in process.stdout:
        if line.startswith(b"{"):
            yield json.loads(line)
