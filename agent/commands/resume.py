"""`flexload resume`: lift the local stop."""

import argparse

from agent.commands.control_socket import as_called, ask


def run(options: argparse.Namespace) -> int:
    """Tell the agent."""
    reply = ask(options, "resume", why=options.reason)
    print(as_called(reply["said"], options))
    return 0
