"""Composition: builds everything from the configuration, and owns start, tasks and shutdown order.

What is essential (the control loop) ends the process when it fails, and the service manager starts
it again; a restart is cheap because nothing that matters is in memory only. What is at the edge (a
VEN) looks after itself.
"""

import asyncio
import json
import logging
import random
import signal
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import datetime
from functools import partial

from agent.clock import Clock, SystemClock
from agent.config import AnyVenSettings, Config
from agent.configured import equipment_of, others_contexts, policy_of, programs_of
from agent.control.actuator import Actuator
from agent.control.console import Console
from agent.control.controller import Controller
from agent.control.keeper import Keeper
from agent.control.restorer import STILL_HELD_STATUS, Restorer
from agent.core.event import EventRecord
from agent.core.intake import Intake
from agent.core.ledger import Entry
from agent.core.link import Link
from agent.core.outlook import Outlook, outlook_of
from agent.core.picture import Picture
from agent.core.policy import Policy
from agent.core.program import Program
from agent.openadr.base import Surroundings, Ven
from agent.openadr.v3.settings import Ven3Settings
from agent.openadr.v3.ven import Ven3
from agent.openadr.v20a.settings import Ven20aSettings
from agent.openadr.v20a.ven import Ven20a
from agent.openadr.v20b.ven import Ven20b
from agent.places import DEFAULT_SOCKET
from agent.store.facts import Facts
from agent.store.history import History
from agent.store.registrations import Registrations
from agent.store.state import DRIVERS_FACT, locked, open_state
from agent.telemetry.event_view import EventViews, events_of
from agent.telemetry.metrics import Metrics
from agent.telemetry.plain import View
from agent.telemetry.systemd import ServiceManager
from agent.telemetry.view import About, view_of
from agent.web.server import WebServer
from drivers.settings import DriverSettings

log = logging.getLogger(__name__)

RESTART_STATUS = 75
"""Exit status of an agent that was asked to start afresh: the service manager starts it again."""
UNDOING = (
    "what is held is undone first, which takes some 10 s, and up to a minute where a device does not "
    "answer; another signal does not hasten it"
)


class App:
    """One site's agent."""

    def __init__(self, config: Config, clock: Clock | None = None, *, demo: bool = False) -> None:
        """Open the stores. Raises `StoreError` or one of its kinds."""
        self._config = config
        self._clock = SystemClock() if clock is None else clock
        self._held = ExitStack()
        directory = config.site.state_dir
        self._held.enter_context(locked(directory))
        database = open_state(directory)
        self._held.callback(database.close)
        self._facts = Facts(database)
        history = History(directory)
        self._held.callback(history.close)
        self._keeper = Keeper(database, history, self._clock.now())
        self._policy, programs = policy_of(config), programs_of(config)
        self._equipment = equipment_of(config)
        self._vens: Sequence[Ven] = [
            self._ven(settings, Registrations(database), history, programs)
            for settings in config.ven
        ]
        self._controller = Controller(
            self._equipment,
            Actuator(self._equipment, self._keeper.ledger),
            self._keeper,
            self._clock,
            programs,
            self._policy,
            self.links,
            self._on_picture,
        )
        socket = config.site.control_socket
        self._about = About(
            config.site.name,
            self._clock.now(),
            demo,
            None if socket == DEFAULT_SOCKET else str(socket),
        )
        self._events = EventViews()
        self._view: View | None = None
        self._news = asyncio.Event()
        self._letting_go = False
        self._service = ServiceManager()
        self._web = WebServer(
            config.web,
            Metrics(lambda: self._controller.picture),
            self.events,
            self._keeper.samples,
            self._clock.now,
        )
        self._console = Console(
            config.site.control_socket,
            self._keeper,
            self._clock,
            programs,
            self._policy_now,
            lambda: self._view,
            self.events,
            self._on_command,
            [settings.name for settings in config.ven],
            self._on_move,
        )

    @property
    def url(self) -> str:
        """Where the page is, once started."""
        return self._web.url

    @property
    def keeper(self) -> Keeper:
        """What the agent keeps."""
        return self._keeper

    @property
    def picture(self) -> Picture | None:
        """The last cycle's picture."""
        return self._controller.picture

    @property
    def view(self) -> View | None:
        """What is shown of the last cycle."""
        return self._view

    def links(self) -> tuple[Link, ...]:
        """How every VEN stands with its VTN."""
        return tuple(ven.link() for ven in self._vens)

    async def events(self, event_id: str | None = None) -> list[View]:
        """All events of the last cycle's picture, or those with one id, newest first and whole."""
        picture = self._controller.picture
        if picture is None:
            return []
        # A book of long events takes a good part of a second.
        return await asyncio.to_thread(events_of, picture, event_id)

    async def run(self, started: asyncio.Event | None = None) -> None:
        """Run until cancelled; what is held then stays held, unless `let_go` was called before.

        Raises what ended it: a driver or store that cannot be used at all.
        """
        with self._held:
            try:
                await self._start()
                if started is not None:
                    started.set()
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._controller.run(), name="control")
                    tasks.create_task(self._present(), name="present")
                    for ven in self._vens:
                        tasks.create_task(ven.run(), name=f"ven {ven.name}")
            finally:
                # Not before a fresh start: systemd would fail the reload that asked for it.
                if self._letting_go:
                    self._service.stopping()
                await self._stop()

    def let_go(self) -> None:
        """When it ends, undo everything first: the stop is meant to last."""
        self._letting_go = True

    @property
    def held(self) -> tuple[Entry, ...]:
        """The setpoints in force, as far as the ledger knows."""
        return self._keeper.entries

    @property
    def still_held(self) -> bool:
        """Whether it was to let go and, now that it has ended, something is held all the same."""
        return self._letting_go and bool(self._keeper.entries)

    async def _start(self) -> None:
        await self._equipment.open()
        self._remember_drivers()
        await self._console.start()
        await self._web.start()
        log.info("%s: page on %s", self._config.site.name, self._web.url)
        stop = self._keeper.stop
        if stop is not None:
            said = "stopped by %s since %s (%s): acting on nothing until `flexload resume`"
            log.warning(said, stop.by, f"{stop.since:%Y-%m-%d %H:%M:%SZ}", stop.why)

    async def _stop(self) -> None:
        """Shut down from the outside in: first what can be asked, last what is held."""
        await self._console.stop()
        await self._web.stop()
        if self._letting_go:
            done = await Restorer(self._equipment, self._keeper.ledger, self._clock).restore()
            for sentence in done.failed:
                log.error("not undone: %s", sentence)
        await self._equipment.close()

    async def _present(self) -> None:
        """Show every new picture to whoever watches."""
        while True:
            await self._news.wait()
            self._news.clear()
            picture = self._controller.picture
            if picture is not None:
                self._view = view_of(picture, self._about, self._events)
                self._service.cycle_done(self._view["sentence"])
                await self._web.show(self._view)

    def _ven(
        self,
        settings: AnyVenSettings,
        registrations: Registrations,
        history: History,
        programs: tuple[Program, ...],
    ) -> Ven:
        around = Surroundings(
            book=self._keeper.events,
            registrations=registrations,
            programs=programs,
            policy=self._policy_now,
            clock=self._clock,
            rng=random.Random(),
            on_intake=self._on_intake,
            foreign_contexts=others_contexts(self._config, settings.name),
            departed=partial(self._keeper.departure, settings.name),
        )
        if isinstance(settings, Ven20aSettings):
            return Ven20a(settings, around)
        if isinstance(settings, Ven3Settings):
            return Ven3(settings, around, history, self._outlook)
        return Ven20b(settings, around, history)

    def _remember_drivers(self) -> None:
        """Note what the devices are driven with, so that restoring needs no configuration.

        What is noted already is not written again: a full disk must not keep an agent from starting.
        """
        settings: dict[str, list[DriverSettings]] = {
            "gpu": [self._config.gpu_settings],
            "jobs": list(self._config.jobs_settings),
        }
        document = {
            folder: [s.model_dump(mode="json") for s in listed]
            for folder, listed in settings.items()
        }
        text = json.dumps(document)
        if self._facts.get(DRIVERS_FACT) != text:
            self._facts.put({DRIVERS_FACT: text})

    def _policy_now(self) -> Policy:
        """The site's rules, with the operator's local stop in them while it is in force."""
        stop = self._keeper.stop
        return (
            self._policy
            if stop is None
            else replace(self._policy, stopped=f"{stop.why}, by {stop.by}")
        )

    def _outlook(self, until: datetime) -> Outlook | None:
        """What lies ahead, seen from the last cycle."""
        picture = self._controller.picture
        return None if picture is None else outlook_of(picture, self._policy, until)

    def _on_intake(self, intakes: Sequence[Intake]) -> None:
        self._controller.wake()

    def _on_command(self, records: Sequence[EventRecord]) -> None:
        for record in records:
            for ven in self._vens:
                if ven.name == record.event.ven:
                    ven.tell(record)
        self._controller.wake()

    def _on_move(self, name: str) -> None:
        for ven in self._vens:
            if ven.name == name:
                ven.wake()

    def _on_picture(self, picture: Picture) -> None:
        self._news.set()


def serve(config: Config) -> int:
    """Run the agent in the foreground until a signal; the exit status.

    SIGTERM and SIGINT end it, and everything held is undone first, however often they come: the
    status is `STILL_HELD_STATUS` when that could not be done. SIGHUP ends it with `RESTART_STATUS`, to
    be started afresh with new configuration and credentials: everything stays held meanwhile, as after
    a crash.
    """
    return asyncio.run(_serve(config))


async def _serve(config: Config) -> int:
    app = App(config)
    running = asyncio.create_task(app.run())
    sent: list[signal.Signals] = []

    def end(number: signal.Signals) -> None:
        again = signal.SIGTERM in sent or signal.SIGINT in sent
        sent.append(number)
        if number is signal.SIGHUP:
            log.info("SIGHUP: ends to start afresh; %d setpoints stay held", len(app.held))
        else:
            app.let_go()
            if again:
                log.warning("%s: already stopping: %s", number.name, UNDOING)
            else:
                said = "%s: stopping: %d setpoints to undo%s"
                log.info(said, number.name, len(app.held), f"; {UNDOING}" if app.held else "")
        # Once: a second time would cut short what the first one began.
        if len(sent) == 1:
            running.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, end, number)
    with suppress(asyncio.CancelledError):
        await running
    if set(sent) == {signal.SIGHUP}:
        return RESTART_STATUS
    if app.still_held:
        names = ", ".join(f"{entry.lever} of {entry.key}" for entry in app.held)
        log.error("stopped; still held: %s", names)
        return STILL_HELD_STATUS
    log.info("stopped, nothing held")
    return 0
