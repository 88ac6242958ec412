"""What the units rely on, with real processes: signals, exit statuses, sd_notify, `flexload restore`."""

import json
import shutil
import signal
import time
from dataclasses import replace

import pytest

from agent.app import RESTART_STATUS
from agent.commands import restore as module
from agent.control.restorer import STILL_HELD_STATUS
from agent.store.facts import Facts
from agent.store.state import DRIVERS_FACT, open_state
from drivers.sim.site import uuids
from tests.deploy.rig import SPEC, Agent, Rig, restore
from tests.disk import small_disk


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


def test_a_second_signal_does_not_cut_the_undoing_short(rig):
    with Agent(rig) as agent:
        agent.until_held()
        agent.process.send_signal(signal.SIGTERM)
        while "STOPPING=1" not in agent.told():
            pass
        assert rig.held
        agent.process.send_signal(signal.SIGINT)
        agent.process.send_signal(signal.SIGHUP)
        assert agent.end(signal.SIGTERM) == 0
    assert not rig.held
    assert "another signal does not hasten it" in (rig.directory / "agent.log").read_text()


def test_a_stop_that_comes_with_a_fresh_start_undoes_everything(rig):
    with Agent(rig) as agent:
        agent.until_held()
        # Stopped, it finds both at once.
        for number in (signal.SIGSTOP, signal.SIGHUP, signal.SIGTERM):
            agent.process.send_signal(number)
        assert agent.end(signal.SIGCONT) == 0
    assert not rig.held


def test_a_stop_that_could_not_undo_everything_says_so_and_is_tried_again(rig):
    stuck = uuids(SPEC)[0]
    with Agent(rig) as agent:
        agent.until_held()
        rig.site.change_gpu(stuck, lambda gpu: replace(gpu, fault="denied"))
        status = agent.end(signal.SIGTERM)
    assert status == STILL_HELD_STATUS
    assert (
        f"not undone: no permission to set the limit of GPU {stuck}"
        in (rig.directory / "agent.log").read_text()
    )
    rig.site.change_gpu(stuck, lambda gpu: replace(gpu, fault=""))
    done = restore(rig, "--after-stop", result="exit-code", status=status)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not rig.held


@pytest.mark.parametrize("ended_by", [signal.SIGKILL, signal.SIGHUP])
def test_an_agent_that_has_nothing_new_to_write_starts_on_a_full_disk(tmp_path, ended_by):
    rig = Rig(tmp_path)
    with small_disk(tmp_path / "state") as disk:
        shutil.move(tmp_path / "state.db", disk.path)
        text = rig.config.read_text()
        rig.config.write_text(
            text.replace(f'state_dir = "{tmp_path}"', f'state_dir = "{disk.path}"')
        )
        with Agent(rig) as agent:
            agent.until_held()
            disk.fill()
            agent.end(ended_by)
        disk.fill()
        with Agent(rig) as agent:
            agent.until_held()
            agent.end(signal.SIGKILL)
        done = restore(rig)
        assert done.returncode == 0, done.stdout + done.stderr
        assert not rig.held


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


def test_by_hand_an_end_is_not_taken_for_a_clean_stop(left_behind):
    held = left_behind.devices
    done = restore(left_behind, "--after-stop")
    assert (
        "SERVICE_RESULT is not set: not taken for a clean stop, so leases are kept" in done.stdout
    )
    assert done.returncode == 0
    assert left_behind.devices == held


def test_after_a_clean_stop_everything_is_undone(left_behind):
    done = restore(left_behind, "--after-stop", result="success")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not left_behind.held
    assert left_behind.ledger() == 0


def test_nothing_outlives_its_lease_with_the_agent_gone(tmp_path):
    rig = Rig(tmp_path, hold_s=15.0)  # time enough to start in on a busy machine
    until = time.time() + 14.0
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


def test_restoring_finds_the_state_of_a_configuration_that_the_agent_refuses(left_behind):
    """As with credentials, which are there only for the agent."""
    text = left_behind.config.read_text()
    left_behind.config.write_text(text + '[[ven]]\nname = "x"\nkey = "/run/credentials/none"\n')
    done = restore(left_behind, "--at-once")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not left_behind.held


@pytest.mark.parametrize("garbled", ["[site\n", "[site]\nstate_dir = 7\n", "site = 7\n", "\xff"])
def test_a_configuration_that_does_not_say_where_the_state_is_is_2_and_one_sentence(
    left_behind, garbled
):
    left_behind.config.write_bytes(garbled.encode("latin-1"))
    refused = restore(left_behind)
    assert refused.returncode == 2
    assert "so say --state-dir" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert left_behind.held
    done = restore(left_behind, "--at-once", "--state-dir", str(left_behind.directory))
    assert done.returncode == 0, done.stdout + done.stderr
    assert not left_behind.held


def test_then_the_service_manager_says_where_it_is(left_behind, tmp_path):
    left_behind.config.write_text("[site\n")
    elsewhere = restore(left_behind, state_directory=str(tmp_path / "none"))
    assert elsewhere.returncode == 2
    done = restore(left_behind, "--at-once", state_directory=str(left_behind.directory))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cannot be read" in done.stderr
    assert not left_behind.held


def test_without_a_configuration_the_state_is_where_it_is_by_default(tmp_path):
    assert module._configured(tmp_path / "none.toml") == module.DEFAULT_STATE
    (tmp_path / "agent.toml").write_text('[site]\nname = "x"\n')
    assert module._configured(tmp_path / "agent.toml") == module.DEFAULT_STATE


def with_drivers(rig: Rig, change) -> None:
    """Change what the devices are said to have been driven with."""
    database = open_state(rig.directory)
    facts = Facts(database)
    tables = json.loads(facts.get(DRIVERS_FACT) or "")
    change(tables)
    facts.put({DRIVERS_FACT: json.dumps(tables)})
    database.close()


@pytest.mark.parametrize(
    "away",
    [{"kind": "sim", "site": "/none/site.json"}, {"kind": "of-a-plugin-that-was-removed"}],
    ids=["out of reach", "not installed"],
)
def test_a_jobs_engine_that_is_away_costs_the_gpus_nothing_and_its_jobs_stay_known(
    left_behind, away
):
    there = left_behind.site.read()[0]
    mended = []

    def replace_engine(tables):
        mended[:] = tables["jobs"]
        tables["jobs"] = [away]

    with_drivers(left_behind, replace_engine)
    done = restore(left_behind, "--at-once")
    assert done.returncode == 1
    assert "out of reach: " in done.stdout
    assert "not restored: sim:batch does not answer" in done.stdout
    limits_w, paused = left_behind.devices
    assert set(limits_w) == {there.max_limit_w}
    assert paused == ("sim:batch",)
    assert left_behind.ledger() == 1

    with_drivers(left_behind, lambda tables: tables.update(jobs=mended))
    assert restore(left_behind, "--at-once").returncode == 0
    assert not left_behind.held


def test_gpus_that_are_away_cost_the_jobs_nothing_and_their_caps_stay_known(left_behind):
    with_drivers(left_behind, lambda tables: tables["gpu"][0].update(site="/none/site.json"))
    done = restore(left_behind, "--at-once")
    assert done.returncode == 1
    _, paused = left_behind.devices
    assert paused == ()
    assert left_behind.ledger() == 2


def test_an_engine_that_is_away_and_holds_nothing_of_ours_is_no_failure(left_behind):
    with_drivers(
        left_behind, lambda tables: tables["jobs"].append({"kind": "sim", "site": "/none.json"})
    )
    assert restore(left_behind, "--at-once").returncode == 0
    assert not left_behind.held


def test_restoring_beside_a_running_agent_is_refused(rig):
    with Agent(rig) as agent:
        agent.until_held()
        refused = restore(rig)
        assert refused.returncode == 1
        assert "in use by another flexload process" in refused.stderr
        assert rig.held
