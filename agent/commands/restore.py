"""`flexload restore`: undo every cap and pause, without the agent.

Needs the state directory alone: it holds the ledger, and with what drivers the devices were driven.
Of the configuration it reads where that is, and nothing else: it works with one that the agent
refuses.
"""

import argparse
import asyncio
import json
import os
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from agent.clock import SystemClock
from agent.control.equipment import Equipment
from agent.control.restorer import STILL_HELD_STATUS, Restored, Restorer
from agent.core.policy import Policy
from agent.errors import ConfigError, FlexloadError, StoreError
from agent.faults import faults_of
from agent.places import DEFAULT_STATE
from agent.store.facts import Facts
from agent.store.ledger import Ledger
from agent.store.state import DRIVERS_FACT, locked, open_state
from drivers.errors import DriverError, SettingsError
from drivers.gpu.base import GpuDriver
from drivers.jobs.base import JobsDriver
from drivers.meter.gpu_sum import GpuSumMeter
from drivers.registry import build_gpu, build_jobs, parse_settings
from drivers.settings import DriverSettings

POLL_S = 2.0


def run(options: argparse.Namespace) -> int:
    """Restore, and say what was done; 1 when something could not be brought back."""
    directory = options.state_dir
    if directory is None:
        directory = _named(options.config)
    elif not directory.is_dir():
        raise ConfigError(f"--state-dir: {directory} is not a directory")
    if not _holds_state(directory):
        print(f"nothing to restore: {directory} holds no state")
        return 0
    only_expired = options.when_expired
    if options.after_stop and not _stopped_cleanly():
        only_expired = True
        if "SERVICE_RESULT" not in os.environ:
            print("SERVICE_RESULT is not set: not taken for a clean stop, so leases are kept")
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
    for sentence in await equipment.open_each():
        print(f"out of reach: {sentence}")
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
        cast("GpuDriver", _driver("gpu", tables["gpu"][0], build_gpu)),
        [cast("JobsDriver", _driver("jobs", table, build_jobs)) for table in tables["jobs"]],
        GpuSumMeter(GpuSumMeter.Settings(kind="gpu-sum", base_load_w=0.0, pue=1.0)),
        Policy(max_import_w=float("inf")),
    )


def _driver(
    folder: str, table: Mapping[str, Any], build: Callable[[DriverSettings], object]
) -> object:
    try:
        return build(parse_settings(folder, table))
    except ValidationError as error:
        why = "; ".join(faults_of(error))
    except (DriverError, ImportError) as error:
        why = str(error)
    return _Unusable(f"the {folder} driver {table.get('kind')!r} cannot be used: {why}")


class _Unusable:
    """Stands for a driver that is not here any more: the others are to be used all the same."""

    def __init__(self, why: str) -> None:
        self._why = why

    async def open(self) -> None:
        """Say so."""
        raise SettingsError(self._why)

    async def close(self) -> None:
        """Nothing to let go of."""


def _named(config: Path) -> Path:
    """The state directory that the configuration names; if that cannot be told and the service manager
    names one with state in it (systemd.exec(5)), that one. Raises `ConfigError`.
    """
    try:
        return _configured(config)
    except ConfigError as error:
        given = os.environ.get("STATE_DIRECTORY")
        if given is None or not _holds_state(Path(given)):
            raise
        print(f"flexload: {error}; taking {given}", file=sys.stderr)
        return Path(given)


def _configured(config: Path) -> Path:
    """`site.state_dir` of the configuration, whatever else is in it; the default without a file."""
    try:
        tables = tomllib.loads(config.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return DEFAULT_STATE
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{config} cannot be read, so say --state-dir: {why}") from error
    site = tables.get("site", {})
    directory = site.get("state_dir", str(DEFAULT_STATE)) if isinstance(site, dict) else None
    if not isinstance(directory, str):
        raise ConfigError(f"{config}: site.state_dir is no path, so say --state-dir")
    return Path(directory)


def _holds_state(directory: Path) -> bool:
    """Raises `StoreError` when that cannot be seen."""
    try:
        (directory / "state.db").stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise StoreError(f"{directory}: {error.strerror}") from error
    return True


def _stopped_cleanly() -> bool:
    """Whether the service was meant to end for good, as the service manager says (systemd.exec(5)):
    also when the agent could not undo everything before it ended.
    """
    if os.environ.get("EXIT_STATUS") == str(STILL_HELD_STATUS):
        return True
    return os.environ.get("SERVICE_RESULT") == "success"
