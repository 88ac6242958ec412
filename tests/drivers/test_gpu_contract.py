"""What every GPU driver promises, whatever is behind it."""

import asyncio
import math
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from drivers.gpu.base import GpuHealth, LimitSetpoint
from drivers.outcome import Result
from tests.drivers.gpu_rigs import RIGS, GpuRig


@pytest.fixture(params=RIGS)
async def rig(request) -> AsyncIterator[GpuRig]:
    async with request.param() as rig:
        yield rig


async def uuids(rig: GpuRig) -> list[str]:
    return [info.uuid for info in await rig.driver.list()]


async def readings(rig: GpuRig):
    return {reading.uuid: reading for reading in await rig.driver.read()}


async def set_limit(rig: GpuRig, uuid: str, limit_w: float):
    [outcome] = await rig.driver.set_limits([LimitSetpoint(uuid, limit_w, 60)])
    return outcome


async def reading_when(rig: GpuRig, uuid: str, condition):
    """The first reading of a GPU that meets the condition."""
    for _ in range(200):
        reading = (await readings(rig))[uuid]
        if condition(reading):
            return reading
        await rig.pass_time(0.05)
    raise AssertionError(f"not in 10 s: {reading}")


async def test_lists_each_gpu_once_in_order_with_a_range(rig):
    infos = await rig.driver.list()
    assert len(infos) >= 3
    assert len({info.uuid for info in infos}) == len(infos)
    assert [(i.host, i.index) for i in infos] == sorted((i.host, i.index) for i in infos)
    for info in infos:
        assert info.name
        assert info.host
        assert 0 < info.min_limit_w <= info.default_limit_w <= info.max_limit_w


async def test_reads_every_gpu_in_the_order_of_the_list(rig):
    before = datetime.now(UTC)
    read = await rig.driver.read()
    assert [reading.uuid for reading in read] == await uuids(rig)
    for reading in read:
        assert reading.health is GpuHealth.OK
        assert reading.detail == ""
        assert reading.at.utcoffset() == timedelta(0)
        assert abs(reading.at - before) < timedelta(seconds=10)
        assert reading.power_w > 0
        assert reading.limit_w == reading.enforced_w == rig.limit_w(reading.uuid)


async def test_a_limit_is_applied_and_reads_back(rig):
    target, other, *_ = await uuids(rig)
    untouched_w = rig.limit_w(other)
    outcome = await set_limit(rig, target, 300)
    assert (outcome.key, outcome.result) == (target, Result.APPLIED)
    assert outcome.ok
    assert outcome.detail == ""
    assert rig.limit_w(target) == 300
    assert rig.limit_w(other) == untouched_w
    reading = (await readings(rig))[target]
    assert (reading.limit_w, reading.enforced_w) == (300, 300)


async def test_a_limit_that_is_in_place_is_applied_again(rig):
    target, *_ = await uuids(rig)
    for _ in range(2):
        assert (await set_limit(rig, target, 300)).result is Result.APPLIED


@pytest.mark.parametrize("end", ["min_limit_w", "max_limit_w"])
async def test_both_ends_of_the_range_are_in_it(rig, end):
    info, *_ = await rig.driver.list()
    outcome = await set_limit(rig, info.uuid, getattr(info, end))
    assert outcome.result is Result.APPLIED
    assert (await readings(rig))[info.uuid].enforced_w == getattr(info, end)


@pytest.mark.parametrize("limit_w", [-300, 0, 1, 1e6, 4_294_967.296 + 300, math.nan, math.inf])
async def test_a_limit_out_of_range_is_refused_and_changes_nothing(rig, limit_w):
    target, *_ = await uuids(rig)
    await set_limit(rig, target, 400)
    outcome = await set_limit(rig, target, limit_w)
    assert outcome.result is Result.REFUSED
    assert outcome.detail
    assert not outcome.ok
    assert rig.limit_w(target) == 400


async def test_one_outcome_a_setpoint_in_their_order(rig):
    first, second, third, *_ = await uuids(rig)
    asked = [(third, 310), (first, 1e6), (second, 330), ("GPU-nowhere", 300)]
    outcomes = await rig.driver.set_limits([LimitSetpoint(u, w, 60) for u, w in asked])
    assert [outcome.key for outcome in outcomes] == [uuid for uuid, _ in asked]
    assert [outcome.result for outcome in outcomes] == [
        Result.APPLIED,
        Result.REFUSED,
        Result.APPLIED,
        Result.LOST,
    ]
    assert (rig.limit_w(third), rig.limit_w(second)) == (310, 330)


async def test_no_setpoints_no_outcomes(rig):
    assert list(await rig.driver.set_limits([])) == []


async def test_the_later_of_two_setpoints_for_a_gpu_stays(rig):
    target, *_ = await uuids(rig)
    outcomes = await rig.driver.set_limits(
        [LimitSetpoint(target, 400, 60), LimitSetpoint(target, 350, 60)]
    )
    assert [outcome.result for outcome in outcomes] == [Result.APPLIED, Result.APPLIED]
    assert rig.limit_w(target) == 350


async def test_a_fraction_of_a_watt_is_never_rounded_up(rig):
    target, *_ = await uuids(rig)
    outcome = await set_limit(rig, target, 300.4)
    assert outcome.result is Result.APPLIED
    assert 299.4 < (await readings(rig))[target].enforced_w <= 300.4


async def test_draw_comes_down_under_a_limit_and_goes_back(rig):
    target, *_ = await uuids(rig)
    rig.demand(target, 600)
    await reading_when(rig, target, lambda r: r.power_w > 550)
    await set_limit(rig, target, 300)
    capped = await reading_when(rig, target, lambda r: r.power_w <= 306)
    assert capped.power_w > 250
    await set_limit(rig, target, 700)
    await reading_when(rig, target, lambda r: r.power_w > 550)


async def test_energy_only_grows(rig):
    target, *_ = await uuids(rig)
    first = (await readings(rig))[target]
    if first.energy_j is None:
        pytest.skip("this driver has no energy counter")
    await reading_when(rig, target, lambda r: r.energy_j > first.energy_j)


async def test_a_limit_held_lower_out_of_band_is_clamped(rig):
    target, *_ = await uuids(rig)
    rig.hold_out_of_band(target, 350)
    outcome = await set_limit(rig, target, 500)
    assert outcome.result is Result.CLAMPED
    assert outcome.ok
    assert "350" in outcome.detail
    reading = (await readings(rig))[target]
    assert (reading.limit_w, reading.enforced_w) == (500, 350)


async def test_a_limit_below_the_one_out_of_band_is_applied(rig):
    target, *_ = await uuids(rig)
    rig.hold_out_of_band(target, 350)
    outcome = await set_limit(rig, target, 300)
    assert outcome.result is Result.APPLIED
    assert (await readings(rig))[target].enforced_w == 300


async def test_a_second_writer_is_seen_and_can_be_overruled(rig):
    target, *_ = await uuids(rig)
    await set_limit(rig, target, 300)
    rig.second_writer(target, 650)
    assert (await readings(rig))[target].limit_w == 650
    assert (await set_limit(rig, target, 300)).result is Result.APPLIED
    assert rig.limit_w(target) == 300


async def test_without_permission_limits_are_refused_and_readings_go_on(rig):
    target, *_ = await uuids(rig)
    before_w = rig.limit_w(target)
    rig.forbid()
    outcome = await set_limit(rig, target, 300)
    assert outcome.result is Result.REFUSED
    assert "permission" in outcome.detail
    assert rig.limit_w(target) == before_w
    assert (await readings(rig))[target].health is GpuHealth.OK


async def test_a_lost_gpu_stays_listed_and_costs_no_other(rig):
    everyone = await uuids(rig)
    lost, *well = everyone
    rig.lose(lost)
    read = await readings(rig)
    assert await uuids(rig) == list(read) == everyone
    assert read[lost].health is GpuHealth.LOST
    assert read[lost].detail
    assert read[lost].power_w is None
    outcomes = await rig.driver.set_limits([LimitSetpoint(u, 300, 60) for u in everyone])
    assert [o.result for o in outcomes] == [Result.LOST] + [Result.APPLIED] * len(well)
    assert outcomes[0].detail
    assert {read[uuid].health for uuid in well} == {GpuHealth.OK}


async def test_a_hanging_gpu_is_stale_and_delays_the_others_by_the_timeout_at_most(rig):
    everyone = await uuids(rig)
    sick, *well = everyone
    good = (await readings(rig))[sick]
    rig.hang(sick)
    clock = asyncio.get_running_loop().time
    begun = clock()
    read = await readings(rig)
    assert clock() - begun < rig.timeout_s + 1
    assert read[sick].health is GpuHealth.STALE
    assert read[sick].detail
    assert (read[sick].at, read[sick].power_w, read[sick].limit_w) == (
        good.at,
        good.power_w,
        good.limit_w,
    )
    assert {read[uuid].health for uuid in well} == {GpuHealth.OK}
    outcomes = await rig.driver.set_limits([LimitSetpoint(u, 300, 60) for u in everyone])
    assert [o.result for o in outcomes] == [Result.LOST] + [Result.APPLIED] * len(well)


async def test_a_gpu_that_hung_comes_back_by_itself(rig):
    sick, *_ = await uuids(rig)
    rig.hang(sick)
    assert (await readings(rig))[sick].health is GpuHealth.STALE
    rig.release(sick)
    reading = await reading_when(rig, sick, lambda r: r.health is GpuHealth.OK)
    assert reading.detail == ""
    assert (await set_limit(rig, sick, 300)).result is Result.APPLIED


async def test_closing_changes_no_limit(rig):
    target, *_ = await uuids(rig)
    await set_limit(rig, target, 300)
    await rig.driver.close()
    assert rig.limit_w(target) == 300
