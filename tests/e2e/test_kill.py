"""SIGKILL in the middle of an event, over the real wire: with a restart, and without."""

import signal
import time

import pytest

from tests.e2e.run import Agent, Utility, wait_until

HOLD_S, RAMP_S = 14.0, 4.0


@pytest.fixture
def utility():
    vtn = Utility(hold_s=HOLD_S, ramp_s=RAMP_S, call_after_s=6.0, poll_s=1.0)
    yield vtn
    vtn.stop()


@pytest.fixture
def agent(tmp_path, utility):
    process = Agent(tmp_path, utility.url)
    process.start()
    yield process
    if process.process is not None and process.process.poll() is None:
        process.process.kill()
        process.process.wait()


def hold(utility) -> float:
    """When the event holds from, Unix seconds, once it was called and answered."""
    utility.wait_for("answered")
    return utility.wait_for("called")["starts_at"]


@pytest.mark.timeout(120)
def test_killed_while_holding_and_restarted_the_event_goes_on_without_a_spike(agent, utility):
    starts_at = hold(utility)
    time.sleep(max(0.0, starts_at + 3 - time.time()))
    held_w = agent.site.power_w()
    assert agent.entries() > 0
    agent.signal(signal.SIGKILL)
    time.sleep(1.0)
    agent.start()
    seen_w = []
    while time.time() < starts_at + HOLD_S - 1:
        seen_w.append(agent.site.power_w())
        time.sleep(0.2)
    assert max(seen_w) <= held_w * 1.02
    wait_until(lambda: agent.untouched and agent.entries() == 0, RAMP_S + 20, "everything is back")
    time.sleep(1.5)
    assert utility.count("registered") == 1, "no need to register again"
    before = utility.count("report")
    wait_until(lambda: utility.count("report") > before, 25, "telemetry goes on")
    view = agent.view()
    assert view["events"][0]["phase"] == "completed"
    assert view["events"][0]["performance"]["delivered_w"] > 0
    assert agent.signal(signal.SIGTERM) == 0


@pytest.mark.timeout(120)
def test_killed_and_never_restarted_the_restore_unit_brings_all_back_after_the_event(
    agent, utility
):
    starts_at = hold(utility)
    time.sleep(max(0.0, starts_at + 3 - time.time()))
    agent.signal(signal.SIGKILL)
    early = agent.command("restore", "--after-stop", SERVICE_RESULT="signal")
    assert early.returncode == 0, early.stderr
    assert "left in force" in early.stdout
    assert not agent.untouched, "in the middle of the event nothing is undone"
    late = agent.command("restore", "--when-expired")
    assert late.returncode == 0, late.stderr
    assert agent.untouched
    assert agent.entries() == 0
    lease_s = 20.0
    assert time.time() <= starts_at + HOLD_S + RAMP_S + lease_s + 15
