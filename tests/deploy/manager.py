"""A systemd of our own, booted in namespaces, with the units as they ship and a simulated site."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.deploy.rig import FULL_W, PATIENCE_S, Rig
from tests.requirement import missing

ROOT = Path(__file__).parents[2]
STATE = Path("var/lib/flexload")
ENTER = 'echo $$ >"$0/cgroup.procs" && exec unshare "$@"'
NAMESPACES = ("--pid", "--mount", "--cgroup", "--uts", "--ipc", "--net")

FLEXLOAD = """#!/bin/sh
# The units want a virtual environment in /opt/flexload: this stands in for it. The interpreter lies
# where the sandbox can see it, which it may not where it was installed.
export LD_LIBRARY_PATH=/opt/python/lib PYTHONPATH=/opt/src:/opt/site PYTHONDONTWRITEBYTECODE=1
exec /opt/python/bin/{python} -m agent "$@"
"""


class Manager:
    """One booted systemd."""

    def __init__(self, directory: Path, cgroup: Path) -> None:
        """Boot, with `cgroup` as its root of control groups. Skips the test where that cannot be."""
        self._directory = directory
        _lay_out(directory)
        base = Path(sys.base_prefix)
        sources = {
            "opt/python": base,
            "opt/src": ROOT,
            "opt/site": Path(sysconfig.get_path("purelib")),
        }
        boot = [Path(__file__).parent / "boot.sh", directory]
        boot += [f"{mount}={source}" for mount, source in sources.items()]
        self._log = (directory / "boot.log").open("wb")
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", ENTER, cgroup, *NAMESPACES, "--fork", "--kill-child", *boot],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        try:
            self._pid = self._booted()
        except BaseException:
            self.close()
            raise
        self.root = Path(f"/proc/{self._pid}/root")

    def close(self) -> None:
        """End it and everything in it."""
        self._process.kill()
        self._process.wait()
        self._log.close()

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command inside; what it printed."""
        result = subprocess.run(
            ["nsenter", f"--target={self._pid}", "--all", "env", "-i", *_ENVIRONMENT, *command],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        said = (result.stdout + result.stderr).strip()
        if check and result.returncode != 0:
            raise AssertionError(f"{command}: {said}\n{self.journal()}")
        return said

    def show(self, name: str, unit: str = "flexload") -> str:
        """One property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit)

    def journal(self) -> str:
        """What was logged lately, for a failing test."""
        return self.run("journalctl", "--no-pager", "-o", "cat", "-n", "60", check=False)

    def until(self, what: str, true: Callable[[], bool]) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + PATIENCE_S
        while not true():
            assert time.monotonic() < deadline, f"never {what}\n{self.journal()}"
            time.sleep(0.02)

    def until_running_anew(self, before: str) -> None:
        """Wait until the agent is ready under another process id than `before`."""
        self.until(
            "running anew",
            lambda: (
                self.show("MainPID") not in ("0", before) and self.show("ActiveState") == "active"
            ),
        )

    def prepare(self, hold_s: float = 600.0) -> None:
        """A site with an event that has just begun, the configuration where the unit looks for it."""
        # Killed first, because a clean stop takes its time to bring everything back; the agent that is
        # killed and not started again has its restore unit started, so that is stopped after it.
        self.run("systemctl", "kill", "--signal=KILL", "flexload", check=False)
        self.run("systemctl", "stop", "flexload")
        self.run("systemctl", "stop", "flexload-restore")
        self.run("systemctl", "reset-failed")
        self.run("systemd-sysusers", "/opt/src/systemd/flexload.sysusers")
        shutil.rmtree(self.root / STATE, ignore_errors=True)
        # Built outside: SQLite follows the link that `root` is, and would write to this machine.
        with tempfile.TemporaryDirectory() as name:
            rig = Rig(Path(name), hold_s)
            text = rig.config.read_text().replace(name, f"/{STATE}")
            rig.config.unlink()
            shutil.copytree(name, self.root / STATE)
        self.run("chown", "-R", "flexload:flexload", f"/{STATE}")
        text = text.replace(f"/{STATE}/control.sock", "/run/flexload/control.sock")
        (self.root / "etc/flexload").mkdir(exist_ok=True)
        (self.root / "etc/flexload/agent.toml").write_text(text)
        self.run("systemd-tmpfiles", "--create", "/opt/src/systemd/flexload.tmpfiles")

    def devices(self) -> tuple[tuple[float, ...], tuple[str, ...]]:
        """Limits of the simulated GPUs and names of the paused jobs."""
        state = json.loads((self.root / STATE / "site.json").read_text())["state"]
        return tuple(gpu["limit_w"] for gpu in state["gpus"]), tuple(state["paused_at"])

    def held(self) -> bool:
        """Whether the event is held: a job paused and a GPU capped."""
        limits, paused = self.devices()
        return bool(paused) and min(limits) < FULL_W

    def free(self) -> bool:
        """Whether everything is as it was built."""
        limits, paused = self.devices()
        return not paused and min(limits) == FULL_W

    def _booted(self) -> int:  # noqa: RET503
        """The process id of its systemd, seen from here, once it has booted."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and self._process.poll() is None:
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
            for pid in children.read_text().split():
                self._pid = int(pid)
                if Path(f"/proc/{pid}/comm").read_text() == "systemd\n":
                    state = self.run("systemctl", "is-system-running", check=False)
                    if state in ("running", "degraded"):
                        self.run("systemctl", "start", "systemd-journald")
                        return self._pid
            time.sleep(0.02)
        said = (self._directory / "boot.log").read_text().strip()[-500:]
        missing("pid1", f"a systemd of our own does not boot here: {said or 'it says nothing'}")


_ENVIRONMENT = ("PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C")


def _lay_out(directory: Path) -> None:
    if os.geteuid() != 0:
        missing("pid1", "needs root")
    for tool in ("unshare", "nsenter", "systemctl", "ip"):
        if shutil.which(tool) is None:
            missing("pid1", f"{tool} is not installed")
    (directory / "scratch").mkdir(parents=True)
    program = directory / "opt/flexload/bin/flexload"
    program.parent.mkdir(parents=True)
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    program.write_text(FLEXLOAD.format(python=python))
    program.chmod(0o755)
    units = directory / "etc"
    units.mkdir()
    (units / "tests.target").write_text("[Unit]\nDefaultDependencies=no\n")
    for unit in (ROOT / "systemd").glob("*.service"):
        shutil.copy(unit, units)
    # As they ship, only that the tests do not wait two seconds for every automatic restart.
    (units / "flexload.service.d").mkdir()
    (units / "flexload.service.d/quick.conf").write_text("[Service]\nRestartSec=200ms\n")
