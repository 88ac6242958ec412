"""`flexload pause`: let everything go and act on nothing, until `flexload resume`."""

import argparse

from agent.commands.control_socket import as_called, ask, reason


def run(options: argparse.Namespace) -> int:
    """Tell the agent."""
    reply = ask(options, "pause", why=reason(options))
    print(as_called(reply["said"], options))
    return 0
