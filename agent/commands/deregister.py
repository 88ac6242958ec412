"""`flexload deregister VEN`: take a VEN out of its program, until `flexload register`."""

import argparse

from agent.commands.control_socket import as_called, ask, reason


def run(options: argparse.Namespace) -> int:
    """Tell the agent; it tells the VTN."""
    reply = ask(options, "deregister", ven=options.ven, why=reason(options))
    print(as_called(reply["said"], options))
    return 0
