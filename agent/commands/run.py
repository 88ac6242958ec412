"""`flexload run`: the agent in the foreground."""

import argparse
import logging

from agent.config import load
from agent.remarks import remarks
from agent.telemetry.logs import set_up
from drivers.errors import DriverError

log = logging.getLogger(__name__)


def run(options: argparse.Namespace) -> int:
    """Run until a signal ends it."""
    config = load(options.config)
    set_up(config.log.format, config.log.level)
    from agent.app import serve
    from agent.errors import FlexloadError

    for remark in remarks(config):
        log.info("note: %s", remark)
    try:
        return serve(config)
    except DriverError as error:
        raise FlexloadError(f"a driver cannot be used: {error}") from error
