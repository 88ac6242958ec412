"""`flexload opt-out EVENT`: leave an event."""

import argparse

from agent.commands.control_socket import ask


def run(options: argparse.Namespace) -> int:
    """Tell the agent; it tells the VTN."""
    print(ask(options, "opt-out", event=options.event, ven=options.ven, why=options.reason)["said"])
    return 0
