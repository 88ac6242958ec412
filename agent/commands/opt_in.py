"""`flexload opt-in EVENT`: take an event up again."""

import argparse

from agent.commands.control_socket import as_called, ask


def run(options: argparse.Namespace) -> int:
    """Tell the agent; it tells the VTN."""
    reply = ask(options, "opt-in", event=options.event, ven=options.ven, why=options.reason)
    print(as_called(reply["said"], options))
    return 0
