"""How often notifications have the VEN poll, however many they are."""

import asyncio
import contextlib

import pytest

from agent.openadr.v3.notices import CREDIT_S, LEAST_GAP_S, REST_PER_ROUND, Notices
from tests.clock import FakeClock

pytestmark = pytest.mark.openadr3


@contextlib.asynccontextmanager
async def noticing(round_s):
    """Notices of a VEN whose rounds take so long, their clock, and when they had it begin one."""
    clock, began_s = FakeClock(), []
    notices = Notices(clock, lambda: began_s.append(clock.instant().boot_s))
    notices.round_s = round_s
    task = asyncio.create_task(notices.run())
    yield notices, clock, began_s
    task.cancel()


async def passes(clock, seconds, step_s, meanwhile):
    for _ in range(round(seconds / step_s)):
        meanwhile()
        for _ in range(5):
            await asyncio.sleep(0)
        clock.leap(step_s)


async def test_a_notification_each_millisecond_is_ten_rounds_a_second_at_most():
    async with noticing(0.01) as (notices, clock, began_s):
        await passes(clock, 2, 0.001, notices.hear)
        assert len(began_s) == pytest.approx(2 / LEAST_GAP_S, abs=1)
        assert notices.count == 2000


async def test_a_flood_has_a_vtn_that_is_slow_polled_a_fifth_of_the_time():
    async with noticing(1.0) as (notices, clock, began_s):
        await passes(clock, 400, 0.1, notices.hear)
        assert len(began_s) <= (400 + CREDIT_S) / REST_PER_ROUND + 1


async def test_few_notifications_in_a_row_wait_for_no_slow_round():
    async with noticing(0.5) as (notices, clock, began_s):
        await passes(clock, 1, 0.5, notices.hear)
        assert len(began_s) == 2


async def test_what_is_heard_while_it_rests_is_one_round_afterwards():
    async with noticing(3.0) as (notices, clock, began_s):
        await passes(clock, 1, 0.1, notices.hear)
        assert len(began_s) == 1
        await passes(clock, 100, 0.1, lambda: None)
        assert len(began_s) == 2


async def test_what_may_have_been_missed_is_looked_for_and_no_notification():
    async with noticing(0.0) as (notices, clock, began_s):
        notices.missed()
        await passes(clock, 1, 0.1, lambda: None)
        assert (len(began_s), notices.count) == (1, 0)
