"""`flexload run`: the agent in the foreground."""

import argparse

from agent.config import load
from agent.telemetry.logs import set_up
from drivers.errors import DriverError


def run(options: argparse.Namespace) -> int:
    """Run until a signal ends it."""
    config = load(options.config)
    set_up(config.log.format, config.log.level)
    from agent.app import serve
    from agent.errors import FlexloadError

    try:
        return serve(config)
    except DriverError as error:
        raise FlexloadError(f"a driver cannot be used: {error}") from error
