"""`flexload pause`: let everything go and act on nothing, until `flexload resume`."""

import argparse

from agent.commands.control_socket import ask


def run(options: argparse.Namespace) -> int:
    """Tell the agent."""
    print(ask(options, "pause", why=options.reason)["said"])
    return 0
