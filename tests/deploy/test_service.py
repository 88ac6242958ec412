"""The units under a real systemd: what each way of ending the agent does to what it holds.

The table in systemd/README.md, row by row, with a simulated site and the sandbox as it ships.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.deploy.manager import Manager
from tests.drivers.job_rigs import cgroup_tree

pytestmark = [pytest.mark.pid1, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def manager(tmp_path_factory) -> Iterator[Manager]:
    with cgroup_tree() as cgroup:
        booted = Manager(tmp_path_factory.mktemp("pid1"), cgroup)
        try:
            yield booted
        finally:
            booted.close()


@pytest.fixture
def running(manager) -> Manager:
    """The agent, ready, and holding an event of ten minutes."""
    manager.prepare()
    manager.run("systemctl", "start", "flexload")
    manager.until("held", manager.held)
    return manager


@contextmanager
def never_free(manager: Manager) -> Iterator[None]:
    """Fails when anything is let go within, however briefly."""
    let_go, over = [], threading.Event()

    def watch() -> None:
        while not over.is_set():
            if not manager.held():
                let_go.append(manager.devices())
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
    assert let_go == []


def kill(manager: Manager, number: signal.Signals) -> str:
    """Signal the agent; its process id."""
    pid = manager.show("MainPID")
    manager.run("kill", f"-{number.value}", pid)
    return pid


def test_it_starts_confined_and_is_ready_when_the_event_is_held(running):
    status = running.run("cat", f"/proc/{running.show('MainPID')}/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    only_sys_admin = f"{1 << 21:016x}"
    assert {fields[f"Cap{kind}"] for kind in ("Prm", "Eff", "Bnd", "Amb")} == {only_sys_admin}
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")
    assert running.run("stat", "-c", "%U %a", "/run/flexload/control.sock") == "flexload 660"
    assert "ev-1" in running.show("StatusText")
    assert "ev-1" in running.run("/opt/flexload/bin/flexload", "status")


def test_a_crash_keeps_everything_and_the_next_start_carries_on(running):
    with never_free(running):
        before = kill(running, signal.SIGKILL)
        running.until_running_anew(before)
    assert running.show("NRestarts") == "1"
    assert running.show("ActiveState", "flexload-restore") == "inactive"


def test_a_reload_keeps_everything(running):
    with never_free(running):
        before = running.show("MainPID")
        running.run("systemctl", "reload", "flexload", check=False)
        running.until_running_anew(before)


def test_a_reload_is_reported_as_done(running):
    for _ in range(4):
        before = running.show("MainPID")
        running.run("systemctl", "reload", "flexload")
        running.until_running_anew(before)


def test_a_stop_undoes_everything(running):
    running.run("systemctl", "stop", "flexload")
    assert running.free()
    assert running.show("Result") == "success"


def test_a_restart_is_a_stop_and_a_start(running):
    seen_free = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            seen_free.append(running.free())
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    running.run("systemctl", "restart", "flexload")
    running.until("held", running.held)
    over.set()
    watcher.join()
    assert any(seen_free)


@pytest.mark.long
def test_a_hang_is_aborted_and_keeps_everything(manager):
    manager.prepare()
    dropin = manager.root / "etc/systemd/system/flexload.service.d/hang.conf"
    dropin.write_text("[Service]\nWatchdogSec=3s\nTimeoutStopSec=1s\n")
    try:
        manager.run("systemctl", "daemon-reload")
        manager.run("systemctl", "start", "flexload")
        manager.until("held", manager.held)
        with never_free(manager):
            before = kill(manager, signal.SIGSTOP)
            manager.until_running_anew(before)
        assert "result 'watchdog'" in manager.journal()
    finally:
        dropin.unlink()
        manager.run("systemctl", "daemon-reload")


@pytest.mark.long
@pytest.mark.parametrize("wrong", ["[nonsense]\n", "[nonsense\n"], ids=["refused", "no TOML"])
def test_an_agent_that_cannot_start_again_leaves_nothing_behind(manager, wrong):
    manager.prepare(hold_s=8.0)
    began = time.monotonic()
    manager.run("systemctl", "start", "flexload")
    manager.until("held", manager.held)
    (manager.root / "etc/flexload/agent.toml").write_text(wrong)
    kill(manager, signal.SIGKILL)
    manager.until("given up", lambda: manager.show("ActiveState") == "failed")
    manager.until("seen to", lambda: manager.show("ActiveState", "flexload-restore") == "active")
    assert manager.held()
    manager.until("free", manager.free)
    assert time.monotonic() - began > 6.0, "let go before the event was over"
    manager.until("done", lambda: manager.show("ActiveState", "flexload-restore") == "inactive")


def test_starting_the_agent_again_ends_the_restore_unit(manager):
    manager.prepare()
    manager.run("systemctl", "start", "flexload")
    manager.until("held", manager.held)
    config = manager.root / "etc/flexload/agent.toml"
    text = config.read_text()
    with never_free(manager):
        config.write_text("[nonsense]\n")
        kill(manager, signal.SIGKILL)
        manager.until(
            "seen to", lambda: manager.show("ActiveState", "flexload-restore") == "active"
        )
        manager.until("given up", lambda: manager.show("ActiveState") == "failed")
        config.write_text(text)
        manager.run("systemctl", "start", "flexload")
        assert manager.show("ActiveState", "flexload-restore") == "inactive"
