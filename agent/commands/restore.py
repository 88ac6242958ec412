"""`flexload restore`: undo every cap and pause, without the agent and without its configuration.

Needs the state directory alone: it holds the ledger, and with what drivers the devices were driven.
"""

import argparse
import asyncio
import json
import os
from pathlib import Path

from agent.clock import SystemClock
from agent.config import load
from agent.control.equipment import Equipment
from agent.control.restorer import Restored, Restorer
from agent.core.policy import Policy
from agent.errors import ConfigError, FlexloadError
from agent.store.facts import Facts
from agent.store.ledger import Ledger
from agent.store.state import DRIVERS_FACT, locked, open_state
from drivers.errors import DriverError
from drivers.meter.gpu_sum import GpuSumMeter
from drivers.registry import build_gpu, build_jobs, parse_settings

DEFAULT_STATE = Path("/var/lib/flexload")
POLL_S = 2.0


def run(options: argparse.Namespace) -> int:
    """Restore, and say what was done; 1 when something could not be brought back."""
    directory = options.state_dir or _configured(options.config)
    if not (directory / "state.db").exists():
        print(f"nothing to restore: {directory} holds no state")
        return 0
    only_expired = options.when_expired or (options.after_stop and not _stopped_cleanly())
    with locked(directory):
        try:
            return asyncio.run(_restore(directory, options, only_expired=only_expired))
        except DriverError as error:
            raise FlexloadError(f"a driver cannot be used: {error}") from error


async def _restore(directory: Path, options: argparse.Namespace, *, only_expired: bool) -> int:
    database = open_state(directory)
    ledger, clock = Ledger(database), SystemClock()
    if not ledger.entries and not ledger.unreadable:
        print("nothing to restore: the ledger is empty")
        return 0
    equipment = _equipment(Facts(database))
    await equipment.open()
    restorer = Restorer(equipment, ledger, clock)
    try:
        failed = False
        while True:
            restored = await restorer.restore(only_expired=only_expired, at_once=options.at_once)
            failed = _say(restored) or failed
            if not options.when_expired or not ledger.entries or failed:
                break
            await clock.sleep(POLL_S)
    finally:
        await equipment.close()
        database.close()
    for row in ledger.unreadable:
        print(f"cannot be understood and is left alone: {row}")
    if only_expired and ledger.entries:
        print(f"{len(ledger.entries)} setpoints are left in force: their leases have not run out")
    return 1 if failed or ledger.unreadable else 0


def _say(restored: Restored) -> bool:
    """Print what was done; whether anything failed."""
    if restored.undone:
        print(f"restored {restored.undone} devices and jobs")
    for sentence in restored.dropped:
        print(sentence)
    for sentence in restored.failed:
        print(f"not restored: {sentence}")
    return bool(restored.failed)


def _equipment(facts: Facts) -> Equipment:
    """The drivers that the devices were last driven with."""
    document = facts.get(DRIVERS_FACT)
    if document is None:
        raise FlexloadError("the state directory does not say with which drivers it was driven")
    tables = json.loads(document)
    return Equipment(
        build_gpu(parse_settings("gpu", tables["gpu"][0])),
        [build_jobs(parse_settings("jobs", table)) for table in tables["jobs"]],
        GpuSumMeter(GpuSumMeter.Settings(kind="gpu-sum", base_load_w=0.0, pue=1.0)),
        Policy(max_import_w=float("inf")),
    )


def _configured(config: Path) -> Path:
    try:
        return load(config).site.state_dir
    except ConfigError:
        return DEFAULT_STATE


def _stopped_cleanly() -> bool:
    """Whether the service manager says that the service ended as it was meant to (systemd.exec(5))."""
    return os.environ.get("SERVICE_RESULT", "success") == "success"
