"""What the units rely on, with real processes: signals, exit statuses, sd_notify, `flexload restore`."""

import signal
import time

import pytest

from agent.app import RESTART_STATUS
from tests.deploy.rig import Agent, Rig, restore


@pytest.fixture
def rig(tmp_path) -> Rig:
    return Rig(tmp_path)


@pytest.fixture
def left_behind(rig) -> Rig:
    """A site whose agent was killed while it held an event of ten minutes."""
    with Agent(rig) as agent:
        agent.until_held()
        agent.end(signal.SIGKILL)
    assert rig.held
    return rig


def test_it_is_ready_after_its_first_cycle_and_alive_with_each(rig):
    with Agent(rig) as agent:
        first = agent.told()
        assert "READY=1" in first
        assert any(line.startswith("STATUS=") and "ev-1" in line for line in first)
        second = agent.told()
    assert "READY=1" not in second
    assert "WATCHDOG=1" in second


def test_sigterm_undoes_everything_before_it_ends(rig):
    with Agent(rig) as agent:
        agent.until_held()
        assert agent.end(signal.SIGTERM) == 0
    assert not rig.held
    assert rig.ledger() == 0


def test_sighup_asks_for_a_fresh_start_and_keeps_everything(rig):
    with Agent(rig) as agent:
        agent.until_held()
        held = rig.devices
        assert agent.end(signal.SIGHUP) == RESTART_STATUS
    assert rig.devices == held
    with Agent(rig) as agent:
        agent.until_held()
        assert agent.end(signal.SIGKILL) == -signal.SIGKILL
    assert rig.ledger() == 3


def test_a_fresh_start_is_not_announced_as_a_stop(rig):
    """A reload job that systemd has not finished yet is failed by it."""
    with Agent(rig) as agent:
        agent.until_held()
        agent.end(signal.SIGHUP)
        assert "STOPPING=1" not in agent.rest()


def test_after_anything_but_a_clean_stop_what_is_leased_is_kept(left_behind):
    held = left_behind.devices
    for result in ("exit-code", "signal", "core-dump", "watchdog", "timeout", "oom-kill"):
        assert restore(left_behind, "--after-stop", result=result).returncode == 0
        assert left_behind.devices == held
    assert left_behind.ledger() == 3


def test_after_a_clean_stop_everything_is_undone(left_behind):
    done = restore(left_behind, "--after-stop", result="success")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not left_behind.held
    assert left_behind.ledger() == 0


def test_nothing_outlives_its_lease_with_the_agent_gone(tmp_path):
    rig = Rig(tmp_path, hold_s=5.0)
    until = time.time() + 4.0
    with Agent(rig) as agent:
        agent.until_held()
        agent.end(signal.SIGKILL)
    done = restore(rig, "--when-expired")
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.time() >= until, "let go before the event was over"
    assert not rig.held
    assert rig.ledger() == 0


def test_restoring_needs_no_configuration(left_behind):
    left_behind.config.write_text("[nonsense]\n")
    directory = str(left_behind.directory)
    done = restore(left_behind, "--state-dir", directory, "--at-once")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not left_behind.held


def test_restoring_beside_a_running_agent_is_refused(rig):
    with Agent(rig) as agent:
        agent.until_held()
        refused = restore(rig)
        assert refused.returncode == 1
        assert "in use by another flexload process" in refused.stderr
        assert rig.held
