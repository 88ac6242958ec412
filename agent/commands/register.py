"""`flexload register VEN`: bring a VEN back into its program, or have one that waits register now."""

import argparse

from agent.commands.control_socket import as_called, ask


def run(options: argparse.Namespace) -> int:
    """Tell the agent; it tells the VTN."""
    reply = ask(options, "register", ven=options.ven, why=options.reason)
    print(as_called(reply["said"], options))
    return 0
