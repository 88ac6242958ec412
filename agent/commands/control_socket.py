"""Talking to the running agent over its control socket."""

import argparse
import json
import socket
from pathlib import Path
from typing import Any

from agent.config import DEFAULT_SOCKET, load
from agent.errors import CommandError, ConfigError

TIMEOUT_S = 10.0


def ask(options: argparse.Namespace, command: str, **arguments: object) -> dict[str, Any]:
    """Send one command; the agent's reply. Raises `CommandError` with what the agent answered, or
    with why it could not be asked.
    """
    path = _path(options)
    request = json.dumps({"command": command, **arguments}).encode() + b"\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(str(path))
            connection.sendall(request)
            with connection.makefile("rb") as answers:
                line = answers.readline()
    except OSError as error:
        raise CommandError(f"no agent answers on {path}: {error.strerror or error}") from error
    if not line:
        raise CommandError(f"the agent on {path} closed the connection without an answer")
    reply: dict[str, Any] = json.loads(line)
    if not reply.get("ok"):
        raise CommandError(str(reply.get("error")))
    return reply


def _path(options: argparse.Namespace) -> Path:
    if options.socket is not None:
        return Path(options.socket)
    try:
        return load(options.config).site.control_socket
    except ConfigError:
        return DEFAULT_SOCKET
