"""`flexload opt-out EVENT`: leave an event."""

import argparse

from agent.commands.control_socket import as_called, ask, reason


def run(options: argparse.Namespace) -> int:
    """Tell the agent; it tells the VTN."""
    reply = ask(options, "opt-out", event=options.event, ven=options.ven, why=reason(options))
    print(as_called(reply["said"], options))
    return 0
