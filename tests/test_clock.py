"""A wall clock that is stepped by an hour either way moves nothing, until a witness agrees."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from agent import clock as module
from agent.clock import SystemClock

BOOT_S, WALL_S = 5_000.0, 1_800_000_000.0


class Host:
    """The host's two clocks."""

    def __init__(self, monkeypatch):
        self.boot_s, self.wall_s = BOOT_S, WALL_S
        monkeypatch.setattr(module, "_boot_s", lambda: self.boot_s)
        monkeypatch.setattr(time, "time", lambda: self.wall_s)

    def passes(self, seconds):
        self.boot_s += seconds
        self.wall_s += seconds


@pytest.fixture
def host(monkeypatch):
    return Host(monkeypatch)


def wall(seconds=0.0):
    return datetime.fromtimestamp(WALL_S + seconds, UTC)


def test_time_passes_on_both_clocks(host):
    clock = SystemClock()
    first = clock.instant()
    host.passes(10)
    later = clock.instant()
    assert (later.at - first.at, later.boot_s - first.boot_s) == (timedelta(seconds=10), 10)
    assert first.boot_id == later.boot_id != ""


@pytest.mark.parametrize("step_s", [-3600, 3600])
def test_a_step_is_seen_said_and_not_followed(host, step_s):
    clock = SystemClock()
    host.passes(10)
    host.wall_s += step_s
    assert clock.now() == wall(10)
    assert clock.step() == timedelta(seconds=step_s)
    host.passes(100)
    assert clock.now() == wall(110)


def test_small_corrections_are_followed(host):
    clock = SystemClock()
    host.passes(10)
    host.wall_s += 0.5
    assert clock.now() == wall(10.5)
    assert clock.step() is None


def test_a_step_that_the_vtns_clock_agrees_with_is_followed(host):
    clock = SystemClock()
    host.wall_s += 3600
    clock.witness(wall(3601))
    assert clock.now() == wall(3600)
    assert clock.step() is None


def test_a_step_that_the_vtns_clock_disagrees_with_is_not(host):
    clock = SystemClock()
    host.wall_s += 3600
    clock.witness(wall(1))
    assert clock.now() == wall()


def test_a_vtn_whose_clock_is_wrong_convinces_nobody(host):
    clock = SystemClock()
    clock.witness(wall(86_400))
    assert clock.now() == wall()
