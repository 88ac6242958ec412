"""What every jobs driver promises, whatever runs the jobs."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from drivers.jobs.base import JobState
from drivers.outcome import Result
from tests.drivers.job_rigs import RIGS, JobRig
from tests.drivers.slurm_rig import SLURM_RIG


@pytest.fixture(params=[*RIGS, SLURM_RIG])
async def rig(request) -> AsyncIterator[JobRig]:
    async with request.param() as rig:
        yield rig


async def states(rig: JobRig) -> dict[str, JobState]:
    return {job.job_id: job.state for job in await rig.driver.list()}


async def assert_works(rig: JobRig, job_id: str) -> None:
    before = rig.work(job_id)
    for _ in range(1000):
        await rig.pass_time(0.01)
        if rig.work(job_id) > before:
            return
    raise AssertionError(f"{job_id} does no work")


async def assert_stands_still(rig: JobRig, job_id: str) -> None:
    before = rig.work(job_id)
    await rig.pass_time(0.1)
    assert rig.work(job_id) == before


async def test_lists_the_jobs_in_order_of_their_ids(rig):
    jobs = await rig.driver.list()
    assert [job.job_id for job in jobs] == sorted(rig.job_ids)
    for job in jobs:
        assert job.name
        assert all(job.job_id.partition(":"))
        assert job.state is JobState.RUNNING


async def test_a_paused_job_stands_still_and_the_others_work(rig):
    paused, *others = rig.job_ids
    [outcome] = await rig.driver.pause([paused])
    assert (outcome.key, outcome.result, outcome.detail) == (paused, Result.APPLIED, "")
    await assert_stands_still(rig, paused)
    assert await states(rig) == {paused: JobState.PAUSED} | dict.fromkeys(others, JobState.RUNNING)
    for other in others:
        await assert_works(rig, other)


async def test_a_resumed_job_works_again(rig):
    target, *_ = rig.job_ids
    await rig.driver.pause([target])
    [outcome] = await rig.driver.resume([target])
    assert (outcome.key, outcome.result, outcome.detail) == (target, Result.APPLIED, "")
    assert (await states(rig))[target] is JobState.RUNNING
    await assert_works(rig, target)


async def test_pausing_and_resuming_again_is_applied(rig):
    target, *_ = rig.job_ids
    assert [o.result for o in await rig.driver.resume([target])] == [Result.APPLIED]
    for _ in range(2):
        assert [o.result for o in await rig.driver.pause([target])] == [Result.APPLIED]
    await assert_stands_still(rig, target)
    for _ in range(2):
        assert [o.result for o in await rig.driver.resume([target])] == [Result.APPLIED]
    await assert_works(rig, target)


async def test_one_outcome_a_job_in_their_order(rig):
    first, second, third = rig.job_ids
    asked = [third, "nowhere:x", first]
    for command in (rig.driver.pause, rig.driver.resume):
        outcomes = await command(asked)
        assert [outcome.key for outcome in outcomes] == asked
        assert [outcome.result for outcome in outcomes] == [
            Result.APPLIED,
            Result.LOST,
            Result.APPLIED,
        ]
        assert outcomes[1].detail
    assert (await states(rig))[second] is JobState.RUNNING


async def test_no_jobs_no_outcomes(rig):
    assert list(await rig.driver.pause([])) == []
    assert list(await rig.driver.resume([])) == []


async def test_tells_since_when_a_job_is_paused_if_it_knows(rig):
    target, *_ = rig.job_ids
    before = datetime.now(UTC)
    await rig.driver.pause([target])
    [first] = [job.since for job in await rig.driver.list() if job.job_id == target]
    if first is None:
        pytest.skip("this driver does not know")
    assert before <= first <= datetime.now(UTC)
    assert first.utcoffset() == timedelta(0)
    await rig.driver.pause([target])
    [again] = [job.since for job in await rig.driver.list() if job.job_id == target]
    assert again == first


@pytest.mark.parametrize("paused", [False, True])
async def test_an_ended_job_has_nothing_left_to_pause_or_resume_and_costs_no_other(rig, paused):
    ended, other, _ = rig.job_ids
    if paused:
        await rig.driver.pause([ended])
    rig.end(ended)
    assert (await states(rig)).get(ended, JobState.ENDED) is JobState.ENDED
    lost, applied = await rig.driver.pause([ended, other])
    assert lost.result is Result.LOST
    assert lost.detail
    assert applied.result is Result.APPLIED
    outcomes = await rig.driver.resume([ended, other])
    assert [(o.result, o.detail) for o in outcomes] == [(Result.APPLIED, "")] * 2


async def test_what_starts_where_a_paused_job_died_is_not_born_paused_once_that_was_resumed(rig):
    target, *_ = rig.job_ids
    await rig.driver.pause([target])
    rig.die(target)
    assert (await states(rig)).get(target, JobState.ENDED) is JobState.ENDED
    [outcome] = await rig.driver.resume([target])
    assert (outcome.key, outcome.result, outcome.detail) == (target, Result.APPLIED, "")
    rig.start(target)
    assert (await states(rig))[target] is JobState.RUNNING
    await assert_works(rig, target)


async def test_without_permission_it_is_refused_and_nothing_changes(rig):
    working, paused, _ = rig.job_ids
    await rig.driver.pause([paused])
    rig.forbid()
    [outcome] = await rig.driver.pause([working])
    assert outcome.result is Result.REFUSED
    assert outcome.detail
    [outcome] = await rig.driver.resume([paused])
    assert outcome.result is Result.REFUSED
    assert outcome.detail
    await assert_works(rig, working)
    await assert_stands_still(rig, paused)


async def test_closing_changes_no_job(rig):
    paused, working, _ = rig.job_ids
    await rig.driver.pause([paused])
    await rig.driver.close()
    await assert_stands_still(rig, paused)
    await assert_works(rig, working)
