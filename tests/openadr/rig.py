"""A VEN with its stores in a temporary directory and its time in the test's hands."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from agent.core.event import EventRecord
from agent.core.intake import Intake
from agent.core.link import Departure
from agent.core.policy import Policy
from agent.core.program import DropByShare, Program
from agent.core.sample import Sample
from agent.core.site import MeterQuality
from agent.openadr.base import Surroundings
from agent.openadr.pace import Alarm
from agent.openadr.v20a.settings import Ven20aSettings
from agent.openadr.v20a.ven import Ven20a
from agent.openadr.v20b.settings import Ven20bSettings
from agent.openadr.v20b.ven import Ven20b
from agent.store.events import EventBook
from agent.store.history import History
from agent.store.registrations import Registration, Registrations
from agent.store.state import open_state
from tests.clock import NOON, FakeClock, sleeper
from tests.openadr import wire
from tests.openadr.wire import MARKET

PROGRAM = Program("fast-dr", MARKET, levels={1: DropByShare(0.1), 2: DropByShare(0.25)})
POLICY = Policy(max_import_w=100_000.0)


class Rig:
    """One VEN that can be stopped and started over as a process would be."""

    def __init__(
        self,
        directory: Path,
        url: str,
        *,
        at: datetime = NOON,
        policy: Policy = POLICY,
        programs: tuple[Program, ...] = (PROGRAM,),
        **settings: Any,
    ) -> None:
        self.directory = directory
        self.clock = FakeClock(at)
        self.rounds = 0
        """How many rounds of polling have ended."""
        self.delay_s = 0.0
        """How long the VEN means to wait for the next."""
        self.settings = self._settings(name="ven", vtn_url=url, **settings)
        self.policy = policy
        self.programs = programs
        self.intakes: list[Intake] = []
        self.on_intake: Callable[[Sequence[Intake]], None] = self.intakes.extend
        self.departure: Departure | None = None
        self._task: asyncio.Task[None] | None = None
        self._open()

    def _settings(self, **fields: Any) -> Any:
        return Ven20bSettings(kind="openadr-2.0b", **fields)

    def _ven(self, around: Surroundings) -> Any:
        return Ven20b(self.settings, around, self.history)

    def _open(self) -> None:
        self.database = open_state(self.directory)
        self.book = EventBook(self.database)
        self.registrations = Registrations(self.database)
        self.history = History(self.directory)
        self.ven = self._ven(
            Surroundings(
                book=self.book,
                registrations=self.registrations,
                programs=self.programs,
                policy=lambda: self.policy,
                clock=self.clock,
                rng=random.Random(1),
                departed=lambda: self.departure,
                on_intake=lambda intakes: self.on_intake(intakes),  # noqa: PLW0108 - tests swap it
            )
        )
        self._waiting: dict[str, tuple[Alarm, float | None]] = {}
        self._tasks: list[str] = []
        self._watch("polling", self.ven._alarm)
        if isinstance(self.ven, Ven20b):
            self._watch("reporting", self.ven._reporter._alarm)
        rest = self.ven._rest

        async def resting(delay_s: float) -> None:
            self.rounds += 1
            self.delay_s = delay_s
            await rest(delay_s)

        self.ven._rest = resting

    def _watch(self, name: str, alarm: Alarm) -> None:
        """Note while a task of the VEN waits, and mark its sleep as its own."""
        self._tasks.append(name)
        wait = alarm.wait

        async def watched(delay_s: float | None) -> bool:
            sleeper.set(name)
            self._waiting[name] = (alarm, delay_s)
            try:
                return await wait(delay_s)
            finally:
                del self._waiting[name]

        alarm.wait = watched

    def waits(self, name: str) -> bool:
        """Whether a task of the VEN waits, with nothing to wake it but time to come."""
        if name not in self._waiting:
            return False
        alarm, delay_s = self._waiting[name]
        return not alarm._rung.is_set() and (delay_s is None or self.clock.sleeps(name))

    def start(self) -> None:
        self._task = asyncio.create_task(self.ven.run())

    async def stop(self) -> None:
        """End as a process does: nothing said or written any more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        self.database.close()
        self.history.close()

    async def restart(self, **settings: Any) -> None:
        await self.stop()
        self.settings = self.settings.model_copy(update=settings)
        self._open()
        self.start()

    async def __aenter__(self) -> "Rig":
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        failed = None
        if self._task is not None and self._task.done() and not self._task.cancelled():
            failed = self._task.exception()
        await self.stop()
        assert failed is None, failed

    async def rested(self, rounds: int = 1) -> None:
        """Wait until so many rounds of polling have ended since the test began."""
        await until(lambda: self.rounds >= rounds and self.waits("polling"))

    async def turn(self, delay_s: float | None = None) -> None:
        """Let time pass until the next round, or for so long, and wait for that round's end."""
        await self.rested()
        rounds = self.rounds
        self.clock.leap(self.delay_s + 1e-6 if delay_s is None else delay_s)
        await self.rested(rounds + 1)

    async def quiet(self, timeout_s: float = 5.0) -> None:
        """Wait until the VEN has done all there is to do at this time."""
        await until(lambda: all(self.waits(task) for task in self._tasks), timeout_s)

    async def pass_time(self, seconds: float, step_s: float = 1.0) -> None:
        """Let time pass in steps, the VEN doing at each what there is to do."""
        for _ in range(round(seconds / step_s)):
            await self.quiet()
            self.clock.leap(step_s)
        await self.quiet()

    def record(self, event_id: str = "ev-1") -> EventRecord:
        return self.book.records["ven", event_id]

    @property
    def registration(self) -> Registration:
        found = self.registrations.get("ven")
        assert found is not None
        return found

    def samples(self, start: datetime, count: int, power_w: float = 1000.0, **more: Any) -> None:
        """A sample each second from `start` on, 1 W more each."""
        self.history.add(
            Sample(start + timedelta(seconds=n), power_w + n, MeterQuality.GOOD, **more)
            for n in range(count)
        )


class Rig20a(Rig):
    """A VEN after the 2.0a profile."""

    def _settings(self, **fields: Any) -> Any:
        return Ven20aSettings(kind="openadr-2.0a", **{"ven_id": "ven-1", **fields})

    def _ven(self, around: Surroundings) -> Any:
        return Ven20a(self.settings, around)


async def until(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Wait, in real time, for something to become so."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.002)


async def delivered(
    vtn: Any, rig: Rig, *events: str, **message: Any
) -> dict[str, tuple[int, str, str]]:
    """Let the next poll of a scripted VTN bring these events; how each was answered, by id."""
    await rig.rested()
    answered = vtn.count("oadrCreatedEvent")
    vtn.reply("oadrPoll", wire.distribute_event(*events, **message))
    await rig.turn()
    if vtn.count("oadrCreatedEvent") == answered:
        return {}
    answers: dict[str, tuple[int, str, str]] = vtn.of("oadrCreatedEvent")[answered].event_answers
    return answers
