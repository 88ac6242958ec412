"""The control cycle: observe, decide, act, publish, once a second and whenever an event arrives.

Level-triggered: every cycle starts from what is seen and what is on disk, so that a restart is
nothing special. What cannot be written or read is named as a problem and tried again in the next
cycle; what is held stays held.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from agent.clock import Clock
from agent.control import account
from agent.control.actuator import Actuator, Report
from agent.control.equipment import LISTING_PATIENCE_S, Equipment
from agent.control.keeper import Keeper
from agent.core import problems
from agent.core.agenda import Inputs
from agent.core.decide import Decision, decide
from agent.core.diagnosis import link_problems, problems_of
from agent.core.estimate import site_power
from agent.core.link import Link
from agent.core.memory import Memory, learn
from agent.core.picture import Counters, Picture
from agent.core.policy import Policy
from agent.core.problems import Problem, Severity
from agent.core.program import Program
from agent.core.sample import Sample

log = logging.getLogger(__name__)

_LEVELS = {
    Severity.INFO: logging.INFO,
    Severity.WARNING: logging.WARNING,
    Severity.CRITICAL: logging.ERROR,
}

PERIOD_S = 1.0
SAMPLE_SPACING_S = 0.5
"""Cycles that an event woke early take no sample of their own."""
TIDY_PERIOD = timedelta(hours=1)


class Controller:
    """Runs the cycle over one site."""

    def __init__(
        self,
        equipment: Equipment,
        actuator: Actuator,
        keeper: Keeper,
        clock: Clock,
        programs: tuple[Program, ...],
        policy: Policy,
        links: Callable[[], tuple[Link, ...]],
        publish: Callable[[Picture], None],
    ) -> None:
        self._equipment = equipment
        self._actuator = actuator
        self._keeper = keeper
        self._clock = clock
        self._programs = programs
        self._policy = policy
        self._links = links
        self._publish = publish
        self._wake = asyncio.Event()
        self._memory = Memory()
        self._counters = Counters()
        self._picture: Picture | None = None
        self._tidied_at: datetime | None = None
        self._accountant = account.Accountant(keeper, programs, policy)
        longest_s = max((p.baseline_window_s for p in programs), default=0.0)
        self._samples: deque[Sample] = deque(maxlen=int(longest_s / SAMPLE_SPACING_S) + 120)

    @property
    def picture(self) -> Picture | None:
        """The last cycle's picture; None before the first."""
        return self._picture

    def wake(self) -> None:
        """Run the next cycle now: something arrived that should not wait a second."""
        self._wake.set()

    async def run(self) -> None:
        """Cycle until cancelled."""
        loop = asyncio.get_running_loop()
        await self.start()
        while True:
            begun_s = loop.time()
            self._wake.clear()
            await self.step()
            left_s = PERIOD_S - (loop.time() - begun_s)
            if left_s <= 0:
                late = self._counters.late_cycles + 1
                self._counters = replace(self._counters, late_cycles=late)
            await self._rest(max(0.0, left_s))

    async def start(self) -> None:
        """Take up what recent samples are on disk."""
        now = self._clock.now()
        reach = timedelta(seconds=(self._samples.maxlen or 0) * SAMPLE_SPACING_S)
        self._samples.extend(await self._keeper.samples(now - reach, now))

    async def step(self) -> Picture:
        """One cycle; returns its picture after it is published."""
        begun = self._clock.instant()
        snapshot, jobs_listed = await self._equipment.observe(begun.at, LISTING_PATIENCE_S)
        # A driver may have taken its time: what is decided must fit the moment it is carried out.
        now = self._clock.instant()
        stop, links = self._keeper.stop, self._links()
        inputs = Inputs(
            now=now,
            snapshot=snapshot,
            records=dict(self._keeper.records),
            ledger=self._keeper.entries,
            samples=self._samples,
            contacts=self._keeper.contacts({link.ven: link.last_contact for link in links}),
            stopped_at=None if stop is None else stop.since,
            jobs_listed=jobs_listed,
            limits_void=frozenset(link.ven for link in links if link.limits_void),
        )
        decision = decide(self._memory, inputs, self._programs, self._policy)
        report = await self._actuator.execute(decision.actions, decision.observed, now)
        await self._keeper.freeze(decision.agenda.frozen)
        self._count_drifts(decision.memory)
        self._memory = learn(decision.memory, report.feedback, now.boot_s)
        picture = await self._draw(decision, inputs, report, links, begun.boot_s)
        account.log_changes(self._picture, picture, report)
        if self._tidied_at is None or now.at - self._tidied_at >= TIDY_PERIOD:
            await self._keeper.tidy(now.at)
            self._tidied_at = now.at
        self._picture = picture
        self._publish(picture)
        return picture

    async def _draw(
        self,
        decision: Decision,
        inputs: Inputs,
        report: Report,
        links: tuple[Link, ...],
        begun_s: float,
    ) -> Picture:
        """The picture of a cycle that was just carried out."""
        now = inputs.now
        power_w = site_power(inputs.snapshot, decision.memory.estimates)
        await self._sample(decision, inputs, power_w)
        picture = Picture(
            at=now.at,
            snapshot=inputs.snapshot,
            programs=self._programs,
            max_import_w=self._policy.max_import_w,
            timeline=decision.agenda.timeline,
            plan=decision.plan,
            governor_note=decision.memory.governor.note,
            expected_w=decision.expected_w,
            power_w=power_w,
            records=dict(self._keeper.records),
            phases=decision.agenda.phases,
            performances=await self._accountant.performances(decision, now.at),
            ledger=self._keeper.entries,
            problems=self._problems(decision, inputs, report, links),
            links=links,
            stop=self._keeper.stop,
            cycle_s=max(0.0, self._clock.instant().boot_s - begun_s),
        )
        self._counters = account.count(self._counters, self._picture, picture, report)
        return replace(picture, counters=self._counters)

    def _count_drifts(self, memory: Memory) -> None:
        known = self._memory.reasserts
        more = sum(max(0, n - known.get(key, 0)) for key, n in memory.reasserts.items())
        self._counters = replace(self._counters, drifts=self._counters.drifts + more)

    async def _sample(self, decision: Decision, inputs: Inputs, power_w: float | None) -> None:
        sample = account.sample_of(decision, inputs, power_w)
        last = self._samples[-1].at if self._samples else None
        if last is None or (sample.at - last).total_seconds() >= SAMPLE_SPACING_S:
            self._samples.append(sample)
            await self._keeper.add_sample(sample)

    def _problems(
        self, decision: Decision, inputs: Inputs, report: Report, links: tuple[Link, ...]
    ) -> dict[str, problems.Raised]:
        before = self._picture.problems if self._picture else {}
        present = (
            *problems_of(decision, inputs, self._policy),
            *link_problems(links, inputs.now.at),
            *self._own_problems(report),
        )
        current, raised, cleared = problems.update(before, present, inputs.now.at)
        for problem in raised:
            log.log(_LEVELS[problem.severity], "problem: %s", problem.text)
        for over in cleared:
            lasted_s = (inputs.now.at - over.since).total_seconds()
            log.info("over after %.0f s: %s", lasted_s, over.problem.text)
        return current

    def _own_problems(self, report: Report) -> Iterator[Problem]:
        if report.trouble:
            text = f"no new setpoint can be applied, what is held stays held: {report.trouble}"
            yield Problem("ledger", Severity.CRITICAL, text)
        for trouble in self._keeper.troubles:
            yield Problem(f"store/{trouble}", Severity.CRITICAL, trouble)
        step = self._clock.step()
        if step is not None:
            text = (
                f"the system clock was stepped by {step.total_seconds():+.0f} s; not followed until "
                "the VTN's clock agrees or the agent is restarted"
            )
            yield Problem("clock", Severity.WARNING, text)

    async def _rest(self, delay_s: float) -> None:
        try:
            async with asyncio.timeout(delay_s):
                await self._wake.wait()
        except TimeoutError:
            pass
