"""`flexload opt-in EVENT`: take an event up again."""

import argparse

from agent.commands.control_socket import ask


def run(options: argparse.Namespace) -> int:
    """Tell the agent; it tells the VTN."""
    print(ask(options, "opt-in", event=options.event, ven=options.ven, why=options.reason)["said"])
    return 0
