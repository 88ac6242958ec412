"""`flexload doctor`: look for what would keep the agent from doing its work here."""

import argparse
import asyncio
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from agent import __version__
from agent.config import load
from agent.errors import ConfigError
from agent.inspection import Finding, inspect
from agent.remarks import remarks

_CAP_SYS_ADMIN = 21
"""Bit of the capability that NVIDIA's driver asks for before it sets a power limit."""


def run(options: argparse.Namespace) -> int:
    """Print every finding, good and bad; 0 when nothing stands in the way."""
    print(f"flexload {__version__}, Python {platform.python_version()}, {platform.platform()}")
    findings = list(_host())
    try:
        config = load(options.config)
    except ConfigError as error:
        findings += [Finding(good=False, text=problem) for problem in error.problems]
    else:
        findings += [Finding(good=True, text=f"note: {remark}") for remark in remarks(config)]
        findings += asyncio.run(inspect(config))
    for finding in findings:
        print(finding)
    return 0 if all(finding.good for finding in findings) else 1


def _host() -> Iterator[Finding]:
    if sys.prefix == sys.base_prefix:
        text = "not in a virtual environment: the packages `agent` and `drivers` may collide with others"
        yield Finding(good=True, text=f"note: {text}")
    if _has_capability(_CAP_SYS_ADMIN):
        yield Finding(good=True, text="may set GPU power limits (CAP_SYS_ADMIN)")
    else:
        text = (
            "no CAP_SYS_ADMIN here: GPU power limits cannot be set by this user (the unit has it)"
        )
        yield Finding(good=True, text=f"note: {text}")


def _has_capability(bit: int) -> bool:
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return False
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> bit & 1)
