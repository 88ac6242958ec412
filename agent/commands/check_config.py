"""`flexload check-config [--online]`: find every fault before the agent does."""

import argparse
import asyncio

from agent.config import load
from agent.inspection import inspect
from agent.remarks import remarks


def run(options: argparse.Namespace) -> int:
    """Print what was found; 0 when the agent could start."""
    config = load(options.config)
    print(f"ok    {options.config} is well formed")
    for remark in remarks(config):
        print(f"note  {remark}")
    if not options.online:
        return 0
    findings = asyncio.run(inspect(config))
    for finding in findings:
        print(finding)
    return 0 if all(finding.good for finding in findings) else 1
