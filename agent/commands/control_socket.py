"""Talking to the running agent over its control socket."""

import argparse
import json
import re
import shlex
import socket
import tomllib
from pathlib import Path
from typing import Any

from agent.errors import CommandError, ConfigError
from agent.places import DEFAULT_CONFIG, DEFAULT_SOCKET

TIMEOUT_S = 10.0
_HINT = re.compile(r"`flexload ([a-z-]+)")


def ask(options: argparse.Namespace, command: str, **arguments: object) -> dict[str, Any]:
    """Send one command; the agent's reply. Raises `CommandError` with what the agent answered, or
    with why it could not be asked, and `ConfigError` when it cannot be told where.
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
        raise CommandError(_unanswered(path, error)) from error
    if not line:
        raise CommandError(f"the agent on {path} closed the connection without an answer")
    reply: dict[str, Any] = json.loads(line)
    if not reply.get("ok"):
        raise CommandError(as_called(str(reply.get("error")), options))
    return reply


def _unanswered(path: Path, error: OSError) -> str:
    said = f"no agent answers on {path}: {error.strerror or error}"
    if isinstance(error, PermissionError):
        return f"{said}; only root, the agent's user and members of its group may ask it"
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        return f"{said}; does it run, and with this configuration?"
    return said


def as_called(text: str, options: argparse.Namespace) -> str:
    """What the agent says, with the commands that it names reaching it as this one did."""
    named = [name for name in ("socket", "config") if getattr(options, name) is not None]
    if not named:
        return text
    reached = f"--{named[0]} {shlex.quote(str(getattr(options, named[0])))}"
    return _HINT.sub(lambda hint: f"{hint[0]} {reached}", text)


def reason(options: argparse.Namespace) -> str:
    """Why the operator does it. Raises `ConfigError` when that is not said: it is always recorded."""
    if not options.reason.strip():
        raise ConfigError('say why, with --reason "TEXT": it is recorded')
    return str(options.reason)


def _path(options: argparse.Namespace) -> Path:
    """Where the agent listens. Of a configuration only that is looked at: the files that it names may
    be readable for the agent alone.
    """
    if options.socket is not None:
        return Path(options.socket)
    if options.config is None:
        try:
            return _configured(DEFAULT_CONFIG)
        except ConfigError:
            return DEFAULT_SOCKET
    return _configured(options.config)


def _configured(config: Path) -> Path:
    """`site.control_socket` of a configuration, whatever else is in it. Raises `ConfigError`."""
    try:
        site = tomllib.loads(config.read_text(encoding="utf-8")).get("site", {})
    except OSError as error:
        raise ConfigError(f"{config}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{config}: not TOML: {error}") from error
    path = site.get("control_socket", str(DEFAULT_SOCKET)) if isinstance(site, dict) else None
    if not isinstance(path, str) or not Path(path).is_absolute():
        raise ConfigError(f"{config}: site.control_socket is no absolute path, so say --socket")
    return Path(path)
