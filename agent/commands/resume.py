"""`flexload resume`: lift the local stop."""

import argparse

from agent.commands.control_socket import ask


def run(options: argparse.Namespace) -> int:
    """Tell the agent."""
    print(ask(options, "resume", why=options.reason)["said"])
    return 0
