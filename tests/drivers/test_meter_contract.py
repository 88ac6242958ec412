"""What every meter promises, and the arithmetic of the computed one."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.gpu.base import GpuHealth, GpuReading
from drivers.meter.base import Quality
from drivers.meter.gpu_sum import GpuSumMeter
from drivers.registry import build_meter, parse_settings
from tests.drivers.meter_rigs import RIGS, MeterRig

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.fixture(params=RIGS)
async def rig(request) -> AsyncIterator[MeterRig]:
    async with request.param() as rig:
        yield rig


async def test_reads_the_power_of_the_site(rig):
    reading = await rig.meter.read(rig.gpus())
    assert reading.quality in (Quality.GOOD, Quality.ESTIMATED)
    assert reading.power_w > 0
    assert reading.detail == ""
    assert reading.at.utcoffset() == timedelta(0)
    assert abs(reading.at - datetime.now(UTC)) < timedelta(seconds=10)


async def test_a_gpu_watt_is_at_least_a_metered_watt(rig):
    assert rig.meter.watts_per_gpu_watt >= 1


async def test_a_lost_meter_is_bad_and_does_not_raise(rig):
    rig.lose()
    reading = await rig.meter.read(rig.gpus())
    assert reading.quality is Quality.BAD
    assert reading.power_w is None
    assert reading.detail


# The computed meter


def gpu(name: str, power_w: float | None, health=GpuHealth.OK, at=NOON) -> GpuReading:
    return GpuReading(f"GPU-{name}", at, power_w, 700, 700, health=health)


def meter(base_load_w: float = 1000, pue: float = 1.25) -> GpuSumMeter:
    return GpuSumMeter(GpuSumMeter.Settings(base_load_w=base_load_w, pue=pue))


def test_the_registry_builds_it():
    settings = parse_settings("meter", {"kind": "gpu-sum", "base_load_w": 800})
    built = build_meter(settings)
    assert isinstance(built, GpuSumMeter)
    assert built.watts_per_gpu_watt == 1


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"base_load_w": -1},
        {"base_load_w": float("inf")},
        {"base_load_w": 1, "pue": 0.99},
        {"base_load_w": 1, "pue": float("nan")},
        {"base_load_w": 1, "pues": 1},
    ],
)
def test_settings_that_cannot_be_are_errors(table):
    with pytest.raises(ValidationError):
        GpuSumMeter.Settings(**table)


async def test_base_load_and_gpus_times_pue():
    reading = await meter().read([gpu("1", 400), gpu("2", 600, at=NOON + timedelta(seconds=1))])
    assert reading.power_w == pytest.approx(2500)
    assert reading.quality is Quality.ESTIMATED
    assert reading.at == NOON + timedelta(seconds=1)


async def test_without_gpus_it_is_the_base_load():
    assert (await meter().read([])).power_w == pytest.approx(1250)


async def test_a_stale_gpu_counts_with_its_last_draw_and_is_named():
    reading = await meter().read([gpu("1", 400), gpu("2", 600, GpuHealth.STALE)])
    assert reading.power_w == pytest.approx(2500)
    assert reading.quality is Quality.ESTIMATED
    assert reading.detail == "counts the last known draw of stale GPU-2"


@pytest.mark.parametrize(
    ("power_w", "health"),
    [(None, GpuHealth.OK), (None, GpuHealth.STALE), (None, GpuHealth.LOST), (600, GpuHealth.LOST)],
)
async def test_a_gpu_without_a_believable_draw_is_named_and_the_sum_is_bad(power_w, health):
    reading = await meter().read([gpu("1", 400), gpu("2", power_w, health)])
    assert (reading.power_w, reading.quality) == (None, Quality.BAD)
    assert reading.detail == "no draw known of GPU-2"


@given(
    base_load_w=st.floats(0, 1e6),
    pue=st.floats(1, 3),
    draws_w=st.lists(st.floats(0, 2000), max_size=20),
    saved_w=st.floats(0, 500),
)
async def test_a_gpu_watt_saved_saves_watts_per_gpu_watt(base_load_w, pue, draws_w, saved_w):
    computed = meter(base_load_w, pue)
    gpus = [gpu(str(index), draw_w) for index, draw_w in enumerate([*draws_w, saved_w])]
    before = await computed.read(gpus)
    after = await computed.read([*gpus[:-1], replace(gpus[-1], power_w=0.0)])
    assert before.power_w >= base_load_w + sum(draws_w)
    saved = before.power_w - after.power_w
    assert saved == pytest.approx(saved_w * computed.watts_per_gpu_watt, rel=1e-6, abs=1e-3)
