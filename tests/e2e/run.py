"""Real processes for end-to-end tests: the demo's VTN, `flexload run`, and what can be asked of them."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from agent.demo.site import SPEC, configuration
from agent.store.ledger import Ledger
from agent.store.state import open_state
from drivers.sim.site import SimSite
from tests.cli.test_cli import toml


class Utility:
    """The demo's VTN in its own process; what it tells, line by line."""

    def __init__(self, **options: float) -> None:
        arguments = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "agent.demo.vtn", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.told: list[dict] = []
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self.url = self.wait_for("listening")["url"]

    def wait_for(self, what: str, timeout_s: float = 40.0) -> dict:
        """The first thing of this kind that it tells."""
        wait_until(lambda: self.count(what), timeout_s, f"the VTN tells {what!r}")
        return next(event for event in self.told if event["what"] == what)

    def _listen(self) -> None:
        for line in self.process.stdout:
            if line.startswith(b"{"):
                self.told.append(json.loads(line))

    def count(self, what: str) -> int:
        return sum(event["what"] == what for event in self.told)

    def stop(self) -> None:
        self.process.stdin.close()
        self.process.wait(10)
        self._listener.join(10)
        self.process.stdout.close()


class Agent:
    """`flexload run` on the demo's site, in its own process."""

    def __init__(self, directory: Path, vtn_url: str) -> None:
        self.directory = directory
        self.config = directory / "agent.toml"
        self.config.write_text(toml(configuration(directory, vtn_url, "127.0.0.1:0")))
        self.site = SimSite.create(directory / "site.json", SPEC)
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        with (self.directory / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "agent", "run", "--config", str(self.config)],
                stderr=log,
                stdout=log,
            )

    def signal(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end; the exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(30)

    def command(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        """Run another flexload command on the same configuration."""
        return subprocess.run(
            [sys.executable, "-m", "agent", *arguments, "--config", str(self.config)],
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
            timeout=120,
            check=False,
        )

    def view(self) -> dict | None:
        """What the agent shows; None while it does not answer."""
        done = self.command("status", "--json")
        return json.loads(done.stdout) if done.returncode == 0 else None

    def entries(self) -> int:
        """How many setpoints the ledger on disk holds."""
        database = open_state(self.directory)
        try:
            return len(Ledger(database).entries)
        finally:
            database.close()

    @property
    def untouched(self) -> bool:
        _, state = self.site.read()
        return not state.paused_at and {g.limit_w for g in state.gpus} == {SPEC.max_limit_w}

    def log(self) -> str:
        return (self.directory / "agent.log").read_text()


def wait_until(condition, timeout_s: float, what: str) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"not in {timeout_s} s: {what}"
        time.sleep(0.1)
