"""Playing an event against a simulated site in leaping time: what would be done, and what it would give.

Nothing is touched: the same brain and the same drivers run on a site that exists in a file only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from agent.control.actuator import Actuator
from agent.control.controller import Controller
from agent.control.equipment import Equipment
from agent.control.keeper import Keeper
from agent.core.event import Event, EventRecord, Opt
from agent.core.intake import receive
from agent.core.ledger import Instant
from agent.core.lifecycle import Phase
from agent.core.picture import Picture
from agent.core.policy import Policy
from agent.core.program import Program
from agent.core.settlement import Performance
from agent.core.site import Snapshot
from agent.errors import CommandError
from agent.store.history import History
from agent.store.state import open_state
from drivers.gpu.sim import SimGpus
from drivers.jobs.sim import SimJobs
from drivers.meter.sim import SimMeter
from drivers.sim.physics import JobSpec, SiteSpec
from drivers.sim.site import SimSite

WARM_UP_S = 60
LONGEST_S = 6 * 3600
"""An event that never ends is played for this long."""


class LeapingClock:
    """Time that passes only when it is told to."""

    def __init__(self, at: datetime) -> None:
        self._at = at

    def instant(self) -> Instant:
        """Now, on both clocks."""
        return Instant(self._at, "rehearsal", self._at.timestamp())

    def now(self) -> datetime:
        """Now."""
        return self._at

    def witness(self, at: datetime) -> None:
        """Nobody else's time counts here."""

    def step(self) -> timedelta | None:
        """Never."""
        return None

    async def sleep(self, delay_s: float) -> None:
        """Leap."""
        self.leap(delay_s)

    def leap(self, delay_s: float) -> None:
        """Let time pass."""
        self._at += timedelta(seconds=delay_s)


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """How an event would go."""

    record: EventRecord
    held: Picture | None
    """The cycle in the middle of the hold; None when it never holds."""
    figures: Performance | None
    seconds: int
    """How long it took until everything was back."""


async def rehearse(
    event: Event,
    spec: SiteSpec,
    programs: tuple[Program, ...],
    policy: Policy,
    directory: Path,
    watch: Callable[[Picture], None] = lambda picture: None,
) -> Rehearsal:
    """Play `event`, created now, on a site built to `spec` in `directory`; `watch` gets every cycle."""
    clock = LeapingClock(event.created_at - timedelta(seconds=WARM_UP_S))
    controller, keeper = await _site(clock, spec, programs, policy, directory)
    for _ in range(WARM_UP_S):
        clock.leap(1.0)
        await controller.step()
    taken = receive(None, event, programs, policy, clock.now(), 0.0)
    if taken.record is None or taken.opt is Opt.OUT:
        why = taken.record.opt.why if taken.record else "it is cancelled"
        raise CommandError(f"the site would opt out: {why}")
    keeper.events.put(taken.record)
    pictures: list[Picture] = []
    while len(pictures) < LONGEST_S:
        clock.leap(1.0)
        picture = await controller.step()
        pictures.append(picture)
        watch(picture)
        if picture.phases[event.key].over and not picture.ledger:
            break
    holding = [p for p in pictures if p.phases[event.key] is Phase.HOLDING]
    held = holding[len(holding) // 2] if holding else None
    figures = pictures[-1].performances.get(event.key)
    return Rehearsal(keeper.records[event.key], held, figures, len(pictures))


def twin_of(snapshot: Snapshot) -> SiteSpec:
    """A simulated site like the one observed: same GPUs, jobs and draw, all on one host."""
    if not snapshot.gpus:
        raise CommandError("the site has no GPU to rehearse with")
    places = {gpu.uuid: i for i, gpu in enumerate(snapshot.gpus)}
    draws_w = {gpu.uuid: gpu.power_w or 0.0 for gpu in snapshot.gpus}
    jobs = tuple(
        JobSpec(
            job_id=workload.workload_id,
            name=workload.name,
            labels={},
            gpus=tuple(places[uuid] for uuid in workload.gpus if uuid in places),
            demand_w=sum(draws_w[u] for u in workload.gpus if u in places)
            / max(1, len(workload.gpus)),
        )
        for workload in snapshot.workloads
    )
    gain = snapshot.watts_per_gpu_watt
    metered_w = snapshot.meter.power_w or 0.0
    return SiteSpec(
        name="twin",
        hosts=("twin",),
        gpus_per_host=len(snapshot.gpus),
        gpu_name=snapshot.gpus[0].name,
        min_limit_w=max(gpu.min_limit_w for gpu in snapshot.gpus),
        max_limit_w=max(gpu.max_limit_w for gpu in snapshot.gpus),
        host_base_w=max(0.0, metered_w / gain - sum(draws_w.values())),
        pue=gain,
        jobs=jobs,
    )


async def _site(
    clock: LeapingClock,
    spec: SiteSpec,
    programs: tuple[Program, ...],
    policy: Policy,
    directory: Path,
) -> tuple[Controller, Keeper]:
    def time_s() -> float:
        return clock.now().timestamp()

    path = directory / "site.json"
    SimSite.create(path, spec, time_s)
    database = open_state(directory)
    keeper = Keeper(database, History(directory), clock.now())
    equipment = Equipment(
        SimGpus(SimGpus.Settings(site=path), time_s),
        [SimJobs(SimJobs.Settings(site=path), time_s)],
        SimMeter(SimMeter.Settings(site=path), time_s),
        policy,
    )
    await equipment.open()
    controller = Controller(
        equipment,
        Actuator(equipment, keeper.ledger),
        keeper,
        clock,
        programs,
        policy,
        lambda: (),
        lambda picture: None,
    )
    await controller.start()
    return controller, keeper
