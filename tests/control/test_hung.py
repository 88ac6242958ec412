"""Drivers that are slow, hang or fail oddly: what they do costs neither the cycle nor the agent."""

import asyncio
import logging
import threading
from dataclasses import replace

import pytest

from agent.control import caller, controller
from agent.control.equipment import Equipment
from drivers.errors import UnavailableError
from drivers.gpu.sim import SimGpus
from drivers.jobs.base import Job, JobState
from drivers.meter.sim import SimMeter
from drivers.outcome import Outcome, Result
from tests.control.live import POLICY, Live


class SlowJobs:
    """A jobs engine with one job, whose listing waits until it is let through."""

    def __init__(self, name="a"):
        self.job = Job(f"slow:{name}", name, JobState.RUNNING)
        self.listings = 0
        self.through = asyncio.Event()
        self.through.set()

    async def open(self):
        pass

    async def list(self):
        self.listings += 1
        seen = self.job
        await self.through.wait()
        return [seen]

    async def pause(self, job_ids):
        self.job = replace(self.job, state=JobState.PAUSED)
        return [Outcome(job_id, Result.APPLIED) for job_id in job_ids]

    async def resume(self, job_ids):
        self.job = replace(self.job, state=JobState.RUNNING)
        return [Outcome(job_id, Result.APPLIED) for job_id in job_ids]

    async def close(self):
        pass


@pytest.fixture
async def live(tmp_path, monkeypatch):
    monkeypatch.setattr(controller, "LISTING_PATIENCE_S", 0.01)
    site = await Live(tmp_path).start()
    await site.run(30)
    yield site
    await site.equipment.close()
    site.close()


async def equipment_of(live, *engines):
    path = live.directory / "site.json"
    equipment = Equipment(
        SimGpus(SimGpus.Settings(site=path), live.time_s),
        engines,
        SimMeter(SimMeter.Settings(site=path), live.time_s),
        POLICY,
    )
    await equipment.open()
    return equipment


async def states(live, equipment):
    snapshot, reliable = await equipment.observe(live.clock.now(), 0.01)
    return {w.workload_id: w.state.value for w in snapshot.workloads}, reliable


def hang(monkeypatch, live):
    """The site's jobs engine answers no listing any more."""
    (jobs,) = live.equipment._jobs
    calls = []

    async def listing():
        calls.append(1)
        await asyncio.Event().wait()

    monkeypatch.setattr(jobs, "list", listing)
    return calls


async def test_a_jobs_engine_that_hangs_holds_up_no_cycle(live, monkeypatch):
    calls = hang(monkeypatch, live)
    key = live.call(0.25, start_s=5, hold_s=60)
    async with asyncio.timeout(8):
        pictures = await live.run(60)
    assert pictures[-1].performances[key].compliant_share >= 0.95
    assert calls == [1], "one listing is under way, and no second one beside it"


async def test_what_we_paused_while_the_engine_hangs_is_resumed_though_its_list_is_old(
    live, monkeypatch
):
    hang(monkeypatch, live)
    live.call(0.35, start_s=5, hold_s=60)
    pictures = await live.run(40)
    assert live.paused() == ["sim:batch"]
    assert not any(key.startswith("drift/") for p in pictures for key in p.problems)
    await live.run(80)
    assert live.untouched


async def test_what_is_decided_fits_the_moment_after_a_slow_look(live, monkeypatch):
    gpus = live.equipment._gpus
    read = gpus.read

    async def slowly():
        live.clock.leap(2.0)
        return await read()

    monkeypatch.setattr(gpus, "read", slowly)
    live.call(0.25, start_s=10, hold_s=60, ramp_s=20)
    for picture in await live.run(10):
        assert picture.cycle_s == 2.0
    assert picture.at == live.clock.now()
    ceiling = picture.timeline.ceiling_at(live.clock.now())
    assert picture.plan.goal_w <= ceiling.limit_w


async def test_engines_are_listed_at_the_same_time(live):
    both = asyncio.Barrier(2)

    class Together(SlowJobs):
        async def list(self):
            await both.wait()
            return await super().list()

    equipment = await equipment_of(live, Together("a"), Together("b"))
    assert await states(live, equipment) == ({"slow:a": "running", "slow:b": "running"}, True)


async def test_an_answer_that_comes_between_two_cycles_counts_in_the_next(live):
    jobs = SlowJobs()
    equipment = await equipment_of(live, jobs)
    jobs.job = replace(jobs.job, state=JobState.PENDING)
    jobs.through.clear()
    assert await states(live, equipment) == ({"slow:a": "running"}, True)
    jobs.through.set()
    await asyncio.sleep(0)
    jobs.through.clear()
    assert await states(live, equipment) == ({"slow:a": "pending"}, True)
    assert jobs.listings == 3, "and the next one is under way already"
    await equipment.close()


async def test_an_answer_asked_for_before_a_command_does_not_undo_it(live):
    jobs = SlowJobs()
    equipment = await equipment_of(live, jobs)
    jobs.through.clear()
    await states(live, equipment)
    (outcome,) = await equipment.pause(["slow:a"])
    assert outcome.ok
    jobs.through.set()
    await asyncio.sleep(0)
    jobs.through.clear()
    assert await states(live, equipment) == ({"slow:a": "paused"}, True)
    jobs.job = replace(jobs.job, state=JobState.RUNNING)
    jobs.through.set()
    await states(live, equipment)
    assert await states(live, equipment) == ({"slow:a": "running"}, True), "asked for after it"
    await equipment.close()


async def test_an_engine_silent_for_long_is_blind_and_is_asked_for_nothing_but_its_list(
    live, monkeypatch
):
    jobs = SlowJobs()
    equipment = await equipment_of(live, jobs)
    jobs.through.clear()
    monkeypatch.setattr(caller, "DRIVER_TIMEOUT_S", 0.001)
    snapshot, reliable = await equipment.observe(live.clock.now(), 5.0)
    assert not reliable
    assert snapshot.blind == ("jobs: the jobs driver SlowJobs gave no answer within 0.001 s",)
    assert [w.workload_id for w in snapshot.workloads] == ["slow:a"], "what it listed last"
    monkeypatch.undo()
    (outcome,) = await equipment.pause(["slow:a"])
    assert outcome.result is Result.LOST
    assert "gave no answer" in outcome.detail
    assert jobs.job.state is JobState.RUNNING
    jobs.through.set()
    assert await states(live, equipment) == ({"slow:a": "running"}, True)
    assert (await equipment.pause(["slow:a"]))[0].ok


async def test_of_several_engines_each_that_is_blind_is_a_problem_of_its_own(live):
    async def refuse():
        raise UnavailableError("no answer on the bus")

    engines = [SlowJobs("a"), SlowJobs("b"), SlowJobs("c")]
    live.equipment = await equipment_of(live, *engines)
    for silent in (engines[0], engines[2]):
        silent.list = refuse
    snapshot, _ = await live.equipment.observe(live.clock.now(), 5.0)
    assert snapshot.blind == ("jobs[0]: no answer on the bus", "jobs[2]: no answer on the bus")
    live.controller._equipment = live.equipment
    (picture,) = await live.run(1)
    assert {"blind/jobs[0]", "blind/jobs[2]"} <= set(picture.problems)
    assert "blind/jobs[1]" not in picture.problems


async def test_a_job_that_is_not_listed_any_more_is_nobodys(live):
    jobs = SlowJobs()
    equipment = await equipment_of(live, jobs)
    jobs.job = replace(jobs.job, job_id="slow:b")
    await states(live, equipment)
    (outcome,) = await equipment.resume(["slow:a"])
    assert (outcome.result, outcome.detail) == (Result.LOST, "no jobs engine lists slow:a")


@pytest.mark.parametrize(
    ("part", "call"),
    [
        ("_gpus", "read"),
        ("_gpus", "set_limits"),
        ("_meter", "read"),
        ("jobs", "list"),
        ("jobs", "pause"),
        ("jobs", "resume"),
    ],
)
@pytest.mark.parametrize(
    "error",
    [OSError(24, "Too many open files"), asyncio.CancelledError()],
    ids=lambda e: type(e).__name__,
)
async def test_no_error_of_a_driver_ends_the_agent(live, monkeypatch, caplog, part, call, error):
    driver = live.equipment._jobs[0] if part == "jobs" else getattr(live.equipment, part)

    async def fail(*arguments):
        raise error

    monkeypatch.setattr(driver, call, fail)
    live.call(0.35, start_s=2, hold_s=20)
    await live.run(40)
    assert "failed: " in caplog.text or "dropped the call" in caplog.text
    told = [r for r in caplog.records if r.levelno == logging.ERROR and r.exc_info]
    assert len(told) == (0 if isinstance(error, asyncio.CancelledError) else 1)
    monkeypatch.undo()
    await live.run(70)
    assert live.untouched


async def test_a_driver_that_cannot_be_closed_keeps_no_other_open(live, monkeypatch):
    closed = []

    async def fail():
        raise OSError(5, "Input/output error")

    async def close():
        closed.append(1)

    monkeypatch.setattr(live.equipment._gpus, "close", fail)
    monkeypatch.setattr(live.equipment._meter, "close", close)
    await live.equipment.close()
    assert closed == [1]


async def test_an_hour_of_a_hanging_engine_costs_no_thread(live, monkeypatch):
    hang(monkeypatch, live)
    monkeypatch.setattr(caller, "DRIVER_TIMEOUT_S", 0.001)
    await live.run(10)
    before = threading.active_count(), len(asyncio.all_tasks())
    await live.run(100)
    after = threading.active_count(), len(asyncio.all_tasks())
    assert after[0] <= before[0]
    assert after[1] <= before[1] + 1
