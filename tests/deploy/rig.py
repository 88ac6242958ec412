"""A simulated site, its configuration and an event in its store: an agent started here acts at once."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.core.event import Event, EventRecord, Interval, Opt, OptDecision, Signal, SignalKind
from agent.store.events import EventBook
from agent.store.ledger import Ledger
from agent.store.state import open_state
from drivers.sim.physics import JobSpec, SiteSpec
from drivers.sim.site import SimSite

FLEXLOAD = (sys.executable, "-m", "agent")
MARKET = "http://utility.example/fast-dr"
LIMIT_W = 1_700.0
FULL_W = 700.0
PATIENCE_S = 20.0
"""How long anything here may take before the test fails. Nothing waits for it in vain."""

SPEC = SiteSpec(
    name="deploy",
    hosts=("gpu01",),
    gpus_per_host=4,
    host_base_w=400.0,
    pue=1.0,
    jobs=(
        JobSpec("sim:train", "train", {}, (0, 1), 600.0),
        JobSpec("sim:batch", "batch", {}, (2, 3), 600.0),
    ),
)
"""Draws 2.8 kW. The event's 1.7 kW need both a cap and the pause."""

CONFIG = """
[site]
name = "deploy"
max_import = "3 kW"
state_dir = "{directory}"
control_socket = "{directory}/control.sock"

[gpu]
kind = "sim"
site = "{directory}/site.json"

[[jobs]]
kind = "sim"
site = "{directory}/site.json"

[meter]
kind = "sim"
site = "{directory}/site.json"

[[program]]
name = "fast-dr"
market_context = "{market}"

[[workload]]
name = "train"
class = "training"
tier = 2

[[workload]]
name = "batch"
class = "batch"
tier = 3
may_pause = true

[governor]
dwell = "0 s"

[policy]
min_pause = "1 s"
lease_grace = "1 s"

[web]
listen = "127.0.0.1:0"
"""


class Rig:
    """One site in a directory of its own."""

    def __init__(self, directory: Path, hold_s: float = 600.0) -> None:
        """Build the site and put an event into its store that has just begun."""
        self.directory = directory
        self.site = SimSite.create(directory / "site.json", SPEC)
        self.config = directory / "agent.toml"
        self.config.write_text(CONFIG.format(directory=directory, market=MARKET))
        database = open_state(directory)
        EventBook(database).put(_record(hold_s))
        database.close()

    @property
    def held(self) -> bool:
        """Whether anything on the devices is not as it was built."""
        _, state = self.site.read()
        return bool(state.paused_at) or any(gpu.limit_w != FULL_W for gpu in state.gpus)

    @property
    def devices(self) -> tuple[tuple[float, ...], tuple[str, ...]]:
        """Limits of the GPUs and names of the paused jobs."""
        _, state = self.site.read()
        return tuple(gpu.limit_w for gpu in state.gpus), tuple(sorted(state.paused_at))

    def ledger(self) -> int:
        """How many setpoints the ledger holds."""
        database = open_state(self.directory)
        count = len(Ledger(database).entries)
        database.close()
        return count


class Agent:
    """One `flexload run`, under what it takes for a service manager."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._manager.settimeout(PATIENCE_S)
        address = rig.directory / "notify.sock"
        address.unlink(missing_ok=True)
        self._manager.bind(str(address))
        self._log = (rig.directory / "agent.log").open("ab")
        self.process = subprocess.Popen(
            [*FLEXLOAD, "run", "--config", str(rig.config)],
            env={**os.environ, "NOTIFY_SOCKET": str(address)},
            stderr=self._log,
        )

    def __enter__(self) -> "Agent":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._manager.close()
        self._log.close()

    def told(self) -> list[str]:
        """The next message to the service manager, line by line."""
        return self._manager.recv(4096).decode().splitlines()

    def rest(self) -> list[str]:
        """Everything told and not asked for yet, line by line."""
        self._manager.setblocking(False)
        lines = []
        with contextlib.suppress(BlockingIOError):
            while True:
                lines += self.told()
        return lines

    def until_held(self) -> None:
        """Wait until a cycle is told after which the event is held on the devices, and settled."""
        before = None
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            assert "WATCHDOG=1" in self.told()
            limits, paused = now = self._rig.devices
            if paused and min(limits) < FULL_W and now == before:
                return
            before = now
        raise AssertionError(f"not held: {self._rig.devices}")

    def end(self, number: signal.Signals) -> int:
        """Send a signal; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


def restore(
    rig: Rig,
    *arguments: str,
    result: str | None = None,
    status: int | None = None,
    state_directory: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `flexload restore`, with what the service manager says of the service and its end."""
    said = {
        "SERVICE_RESULT": result,
        "EXIT_STATUS": None if status is None else str(status),
        "STATE_DIRECTORY": state_directory,
    }
    return subprocess.run(
        [*FLEXLOAD, "restore", "--config", str(rig.config), *arguments],
        env={**os.environ, **{name: value for name, value in said.items() if value is not None}},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def _record(hold_s: float) -> EventRecord:
    """Import no more than LIMIT_W, from a second ago on."""
    now = datetime.now(UTC)
    start = now - timedelta(seconds=1)
    whole = Interval(start, start + timedelta(seconds=hold_s), LIMIT_W)
    event = Event(
        event_id="ev-1",
        ven="ven",
        program=MARKET,
        revision=0,
        created_at=now,
        starts_at=start,
        duration=timedelta(seconds=hold_s),
        signals=(Signal(SignalKind.SETPOINT, "LOAD_DISPATCH setpoint", "W", (whole,)),),
    )
    return EventRecord(event, now, OptDecision(Opt.IN, "policy", now, "enrolled"))
