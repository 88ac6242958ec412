"""The demo's story: start the utility, the site and the agent, watch the events, tell how they went."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.app import App
from agent.config import parse
from agent.core.lifecycle import Phase
from agent.core.picture import Picture
from agent.demo.outcome import Notes, Outcome, note, outcome_of
from agent.demo.site import SPEC, configuration
from agent.demo.utility import Utility, running
from agent.units import format_duration
from drivers.sim.physics import SiteState
from drivers.sim.site import SimSite

Say = Callable[[str], None]
Show = Callable[[Outcome], None]

SAID_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class Script:
    """What the demo's utility asks for."""

    listen: str
    share: float = 0.25
    hold_s: float = 120.0
    ramp_s: float = 20.0
    after_s: float = 0.0
    """How long the demo goes on after the event, when there is but one."""
    once: bool = False
    command: str = "flexload"
    """How the command is typed here."""


@dataclass(slots=True)
class Telling:
    """One run of the demo, as far as it has been told."""

    app: App
    utility: Utility
    script: Script
    site: SimSite
    before: SiteState
    say: Say
    show: Show
    notes: Notes = field(default_factory=Notes)
    """Of the event that goes on, or comes next."""
    noted: str | None = None
    """The event that they are of."""
    last: Outcome | None = None
    last_said_s: float = 0.0
    last_phase: Phase | None = None


async def tell(directory: Path, script: Script, say: Say, show: Show) -> Outcome | None:
    """Run the demo in `directory` until it is over or cancelled; the outcome of its last event.

    `say` gets sentences as it goes, `show` the outcome of each event.
    """
    site = SimSite.create(directory / "site.json", SPEC)
    _, before = site.read()
    async with running(script.share, script.hold_s, script.ramp_s, once=script.once) as utility:
        app = App(parse(configuration(directory, utility.url, script.listen)), demo=True)
        telling = Telling(app, utility, script, site, before, say, show)
        await _play(telling, directory)
        if script.once:
            _show_outcome(telling)
        return telling.last


async def _play(telling: Telling, directory: Path) -> None:
    """Run the agent beside the utility for as long as there is something to tell."""
    app, say = telling.app, telling.say
    started = asyncio.Event()
    listening = asyncio.create_task(_listen(telling, directory))
    agent = asyncio.create_task(app.run(started))
    starting = asyncio.create_task(started.wait())
    try:
        await asyncio.wait({starting, agent}, return_when=asyncio.FIRST_COMPLETED)
        if started.is_set():
            say(f"utility   {telling.utility.url}")
            say(
                f"site      {len(SPEC.hosts)} hosts, {len(telling.before.gpus)} GPUs, "
                f"{len(SPEC.jobs)} workloads, all of it simulated"
            )
            say(f"page      {app.url}")
            say(f"control   {_control(telling.script, 'status --watch', directory)}")
            await _watch(telling, agent)
        app.let_go()
    except asyncio.CancelledError:
        _say_what_was_held(telling)
        raise
    finally:
        agent.cancel()
        await asyncio.gather(agent, return_exceptions=True)
        listening.cancel()
        starting.cancel()
    if agent.done() and not agent.cancelled() and (error := agent.exception()) is not None:
        raise error


async def _watch(telling: Telling, agent: asyncio.Task[None]) -> None:
    """Follow the agent's pictures until the only event is over, or for good."""
    script, notes = telling.script, telling.notes
    seen: datetime | None = None
    while not agent.done():
        await asyncio.sleep(0.1)
        picture = telling.app.picture
        if picture is None or picture.at == seen:
            continue
        seen = picture.at
        if telling.noted != telling.utility.called:
            telling.noted = telling.utility.called
            notes = telling.notes = Notes()
        told = notes.over_at is not None
        note(picture, notes, telling.noted)
        _say_status(telling, picture)
        if notes.over_at is None:
            continue
        if script.once and picture.at - notes.over_at >= timedelta(seconds=script.after_s):
            return
        if not script.once and not told:
            _show_outcome(telling)
            _say_next(telling)


def _say_status(telling: Telling, picture: Picture) -> None:
    key, view = telling.notes.key, telling.app.view
    phase = None if key is None else picture.phases.get(key)
    now_s = time.monotonic()
    if view is None or (phase is telling.last_phase and now_s - telling.last_said_s < SAID_EVERY_S):
        return
    telling.say(f"{picture.at.astimezone():%H:%M:%S}  {view['sentence']}")
    telling.last_said_s, telling.last_phase = now_s, phase


def _show_outcome(telling: Telling) -> None:
    _, after = telling.site.read()
    utility = telling.utility
    outcome = outcome_of(
        telling.app.picture,
        telling.notes,
        utility.called_at,
        utility.reports,
        telling.before,
        after,
    )
    telling.last = outcome
    if outcome is not None:
        telling.show(outcome)
    elif telling.notes.key is not None:
        telling.say(f"\nevent {telling.notes.key[1]}: never held, so there are no figures")


def _say_next(telling: Telling) -> None:
    next_at = telling.utility.next_at
    if next_at is not None:
        left = format_duration(timedelta(seconds=max(0.0, next_at - time.time())))
        at = datetime.fromtimestamp(next_at, UTC).astimezone()
        telling.say(f"\nutility   calls the next event in {left}, at {at:%H:%M:%S}")


def _say_what_was_held(telling: Telling) -> None:
    held = telling.app.keeper.entries
    if held:
        caps = sum(entry.setpoint_w is not None for entry in held)
        telling.say(
            f"\nin force: {caps} GPU caps, {len(held) - caps} pauses; they end with the simulated site "
            "here.\nAn agent with real GPUs undoes them before it stops."
        )


async def _listen(telling: Telling, directory: Path) -> None:
    """Say what the utility tells."""
    say, first = telling.say, True
    async for told in telling.utility.news():
        match told["what"]:
            case "registered":
                say(f"utility   registered this site; calls an event in {told['calls_in_s']:.0f} s")
            case "called":
                say(f"utility   calls event {told['event_id']}")
                if first:
                    leave = f"opt-out {told['event_id']} --reason trial"
                    say(f"          to leave it: {_control(telling.script, leave, directory)}")
                first = False
            case "answered":
                say(f"utility   got {told['opt']} for event {told['event_id']}")
            case _:
                pass


def _control(script: Script, arguments: str, directory: Path) -> str:
    """A command to paste that reaches this demo's agent."""
    socket = configuration(directory, "", "")["site"]["control_socket"]
    return f"{script.command} {arguments} --socket {socket}"
