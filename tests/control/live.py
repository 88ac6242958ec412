"""A whole site on a fake clock: real controller, real stores, simulated devices, in seconds that leap.

Scenario tests read as stories: build a site, call an event, let seconds pass, look at what was seen.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from agent.control.actuator import Actuator
from agent.control.controller import Controller
from agent.control.equipment import Equipment
from agent.control.keeper import Keeper
from agent.control.restorer import Restored, Restorer
from agent.core.event import Event, EventRecord, Interval, Opt, OptDecision, Signal, SignalKind
from agent.core.link import Link
from agent.core.picture import Picture
from agent.core.policy import Policy, WorkloadRule
from agent.core.program import DropByShare, Program
from agent.core.site import Terms, WorkloadClass
from agent.demo.rehearsal import LeapingClock
from agent.store.history import History
from agent.store.ledger import Ledger
from agent.store.state import open_state
from drivers.gpu.sim import SimGpus
from drivers.jobs.sim import SimJobs
from drivers.meter.sim import SimMeter
from drivers.sim.physics import Dip, JobSpec, SiteSpec
from drivers.sim.site import SimSite
from tests.core.build import NOON

MARKET = "http://utility.example/fast-dr"
PROGRAM = Program(
    "fast-dr",
    MARKET,
    levels={1: DropByShare(0.10), 2: DropByShare(0.25)},
    baseline_window_s=30.0,
)
RULES = (
    WorkloadRule("chat", WorkloadClass.REAL_TIME, Terms(0)),
    WorkloadRule("batch", WorkloadClass.BATCH, Terms(3, may_pause=True)),
    WorkloadRule("train*", WorkloadClass.TRAINING, Terms(2)),
)
POLICY = Policy(max_import_w=20_000.0, rules=RULES, min_pause_s=10.0, dwell_s=5.0)
SMALL = SiteSpec(
    "small",
    ("h1", "h2"),
    8,
    host_base_w=800.0,
    jobs=(
        JobSpec("sim:chat", "chat", {}, tuple(range(4)), 520.0),
        JobSpec("sim:batch", "batch", {}, tuple(range(4, 8)), 640.0),
        JobSpec("sim:train", "train", {}, tuple(range(8, 16)), 660.0, 0.02),
    ),
)
"""16 GPUs, of which four are protected, four may be paused and eight train."""


def with_dip(spec: SiteSpec, dip: Dip) -> SiteSpec:
    """The site whose training job writes checkpoints."""
    *others, train = spec.jobs
    return replace(spec, jobs=(*others, replace(train, dip=dip)))


class Live:
    """The site and its agent; everything durable is in one directory."""

    def __init__(
        self,
        directory: Path,
        spec: SiteSpec = SMALL,
        policy: Policy = POLICY,
        program: Program = PROGRAM,
        since: datetime | None = None,
        site: Path | None = None,
    ) -> None:
        """Build the site anew, or with `since` take up the one in `directory` at that time. With `site`
        that file is the site, and only the agent's state is in `directory`.
        """
        self.directory = directory
        self.site_path = site or directory / "site.json"
        self.policy = policy
        self.program = program
        self.clock = LeapingClock(since or NOON)
        create = SimSite.create if since is None else lambda path, spec, time: SimSite(path, time)
        self.site = create(self.site_path, spec, self.time_s)
        self.pictures: list[Picture] = []
        self.links: tuple[Link, ...] = ()
        self.wrap: Callable[[Equipment, Ledger], None] = lambda equipment, ledger: None
        self._open()

    def time_s(self) -> float:
        return self.clock.now().timestamp()

    def _open(self) -> None:
        self.database = open_state(self.directory)
        self.history = History(self.directory)
        self.keeper = Keeper(self.database, self.history, self.clock.now())
        self.book, self.ledger = self.keeper.events, self.keeper.ledger
        path = self.site_path
        self.equipment = Equipment(
            SimGpus(SimGpus.Settings(site=path), self.time_s),
            [SimJobs(SimJobs.Settings(site=path), self.time_s)],
            SimMeter(SimMeter.Settings(site=path), self.time_s),
            self.policy,
        )
        self.controller = Controller(
            self.equipment,
            Actuator(self.equipment, self.ledger),
            self.keeper,
            self.clock,
            (self.program,),
            self.policy,
            lambda: self.links,
            self.pictures.append,
        )

    async def start(self) -> "Live":
        self.wrap(self.equipment, self.ledger)
        await self.equipment.open()
        await self.controller.start()
        return self

    async def restart(self, after_s: float = 0.0) -> None:
        """The agent is gone for a while and comes back with nothing but what is on disk."""
        self.close()
        self.clock.leap(after_s)
        self._open()
        await self.start()

    def close(self) -> None:
        self.database.close()
        self.history.close()

    async def run(self, seconds: int) -> list[Picture]:
        """Let seconds pass, a cycle each; the pictures of them."""
        seen = []
        for _ in range(seconds):
            self.clock.leap(1.0)
            seen.append(await self.controller.step())
        return seen

    async def restore(self, **how: bool) -> Restored:
        """What `flexload restore` does, at once."""
        await self.equipment.open()
        restorer = Restorer(self.equipment, self.ledger, self.clock)
        return await restorer.restore(at_once=True, **how)

    def call(
        self,
        share: float = 0.25,
        start_s: float = 10.0,
        hold_s: float | None = 60.0,
        ramp_s: float = 10.0,
        **changes: object,
    ) -> tuple[str, str]:
        """An event arrives that asks for `share` less; its key."""
        start = self.clock.now() + timedelta(seconds=start_s)
        duration = None if hold_s is None else timedelta(seconds=hold_s)
        end = None if duration is None else start + duration
        interval = Interval(start, end, 1 - share)
        fields: dict[str, object] = {
            "event_id": "ev-1",
            "ven": "ven",
            "program": MARKET,
            "revision": 0,
            "created_at": self.clock.now(),
            "starts_at": start,
            "duration": duration,
            "signals": (
                Signal(SignalKind.MULTIPLIER, "LOAD_DISPATCH multiplier", "1", (interval,)),
            ),
            "ramp_down": timedelta(seconds=ramp_s),
            "ramp_up": timedelta(seconds=ramp_s),
        }
        event = Event(**{**fields, **changes})  # type: ignore[arg-type]
        decision = OptDecision(Opt.IN, "policy", self.clock.now(), "enrolled")
        self.book.put(EventRecord(event, self.clock.now(), decision))
        return event.key

    def power_w(self) -> float:
        """What the site's meter reads at this instant."""
        return self.site.power_w()

    def limits_w(self) -> list[float]:
        """The GPUs' limits as the devices have them."""
        return [gpu.limit_w for gpu in self.site.read()[1].gpus]

    def paused(self) -> list[str]:
        """The jobs that stand still."""
        return sorted(self.site.read()[1].paused_at)

    @property
    def untouched(self) -> bool:
        """Whether every device and job is as it was built, and the ledger empty."""
        largest = self.site.read()[0].max_limit_w
        return not self.paused() and set(self.limits_w()) == {largest} and not self.ledger.entries


def powers_w(pictures: Sequence[Picture]) -> list[float]:
    """The metered powers of cycles that had one."""
    return [p.power_w for p in pictures if p.power_w is not None]


def means_w(pictures: Sequence[Picture], window: int = 10) -> list[float]:
    """Ten-second means of the metered power."""
    values = powers_w(pictures)
    return [sum(values[i : i + window]) / window for i in range(len(values) - window + 1)]
