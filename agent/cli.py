"""The command line: what there is, and which file in `agent.commands` does it.

Sub-commands import what they need when they run, so that `flexload restore` starts fast and works
when much else does not.
"""

import argparse
import io
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from agent import __version__
from agent.errors import ConfigError, FlexloadError
from agent.places import DEFAULT_CONFIG

OK, FAILURE, USAGE = 0, 1, 2

_COMMANDS = {
    "run": "run the agent in the foreground",
    "check-config": "check a configuration, and with --online everything it names",
    "config": "print an example configuration, a ready program for it, or its schema",
    "enroll": "make key and request, check certificate and connection, write the utility's sheet",
    "status": "show what the agent does now",
    "events": "list events and what was delivered",
    "opt-out": "leave an event",
    "opt-in": "take an event up again",
    "pause": "local stop: let everything go and act on nothing",
    "resume": "lift the local stop",
    "deregister": "leave a program: end a VEN's registration and its events",
    "register": "come back into a program, or register now",
    "restore": "undo every cap and pause without the agent",
    "simulate": "play an event against a simulated site, without touching anything",
    "doctor": "look for what would keep the agent from doing its work here",
    "demo": "watch it work: a real VTN, a simulated site, the page",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status: 0 done, 1 failed, 2 wrong usage or configuration."""
    parser = _parser()
    options = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may not know every character
            stream.reconfigure(errors="replace")
    try:
        module = import_module(f"agent.commands.{options.command.replace('-', '_')}")
        return int(module.run(options))
    except ConfigError as error:
        for problem in error.problems:
            print(f"flexload: {problem}", file=sys.stderr)
        return USAGE
    except FlexloadError as error:
        print(f"flexload: {error}", file=sys.stderr)
        return FAILURE
    except KeyboardInterrupt:
        return FAILURE
    except BrokenPipeError:
        sys.stderr.close()
        return FAILURE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="flexload",
        description="Makes a GPU data center a dispatchable grid resource.",
        epilog="Exit status: 0 done, 1 failed, 2 wrong usage or configuration.",
    )
    parser.add_argument("--version", action="version", version=f"flexload {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in _COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        _ARGUMENTS[name](command)
    return parser


def _config(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--config",
        type=Path,
        default=DEFAULT_CONFIG,
        metavar="FILE",
        help=f"default {DEFAULT_CONFIG}",
    )


def _check_config(command: argparse.ArgumentParser) -> None:
    _config(command)
    command.add_argument(
        "--online", action="store_true", help="also reach the VTN and every driver"
    )


def _example(command: argparse.ArgumentParser) -> None:
    command.add_argument("what", choices=["example", "program", "schema"])
    command.add_argument(
        "name", nargs="?", metavar="NAME", help="of a ready program; none: list them"
    )


def _enroll(command: argparse.ArgumentParser) -> None:
    _config(command)
    command.add_argument("--ven", metavar="NAME", help="which VEN, where there are several")
    command.add_argument(
        "--key-type",
        choices=["ecc", "rsa", "rsa-3072"],
        default="ecc",
        help="of a key that is still to be made: ECC P-256 (the default), RSA of 2048 or 3072 bits",
    )
    command.add_argument(
        "--credentials",
        type=Path,
        metavar="DIR",
        help="where the files named by cert and key really are, with systemd's LoadCredential=",
    )
    command.add_argument(
        "--sheet",
        metavar="FILE",
        help="write the utility's sheet there; -: to standard output, and all else to the other",
    )
    command.add_argument(
        "--json",
        action="store_true",
        help="write the sheet as JSON; without --sheet like --sheet -",
    )
    command.add_argument(
        "--offline", action="store_true", help="reach neither the VTN nor a driver"
    )


def _socket(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help=f"look there for the agent's control socket; default {DEFAULT_CONFIG}",
    )
    command.add_argument("--socket", type=Path, metavar="PATH", help="the agent's control socket")


def _status(command: argparse.ArgumentParser) -> None:
    _socket(command)
    command.add_argument("--json", action="store_true", help="print the whole view as JSON")
    command.add_argument("--watch", action="store_true", help="print again every second")


def _events(command: argparse.ArgumentParser) -> None:
    _socket(command)
    command.add_argument("--json", action="store_true", help="print them as JSON")
    command.add_argument(
        "--deeds", action="store_true", help="list what operators did instead: who, when and why"
    )


def _opt(command: argparse.ArgumentParser) -> None:
    _socket(command)
    command.add_argument("event", help="the event's id")
    command.add_argument("--ven", help="which VEN's, where several know the id")
    _reason(command)


def _member(command: argparse.ArgumentParser) -> None:
    _socket(command)
    command.add_argument("ven", help="the VEN's name in the configuration")
    _reason(command)


def _stop(command: argparse.ArgumentParser) -> None:
    _socket(command)
    _reason(command)


def _reason(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--reason",
        default="",
        metavar="TEXT",
        help="recorded with who and when; opt-out, pause and deregister demand it",
    )


def _restore(command: argparse.ArgumentParser) -> None:
    _config(command)
    command.add_argument(
        "--state-dir", type=Path, metavar="DIR", help="instead of the configuration's"
    )
    command.add_argument(
        "--at-once", action="store_true", help="do not spread the return over seconds"
    )
    when = command.add_mutually_exclusive_group()
    when.add_argument(
        "--after-stop",
        action="store_true",
        help="for ExecStopPost=: all after a clean stop, else only what has outlived its lease; "
        "$SERVICE_RESULT and $EXIT_STATUS, which systemd sets, tell which it was, and without the "
        "first it counts as not clean",
    )
    when.add_argument(
        "--when-expired",
        action="store_true",
        help="for OnFailure=: wait until every lease has run out, restoring as they do",
    )


def _simulate(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "event",
        type=Path,
        help="an event as JSON: docs/simulate.md lists its keys and units, "
        "docs/examples/quarter-less.json is one",
    )
    command.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="play on a twin of the site that this names; "
        f"default {DEFAULT_CONFIG} where it exists, else the demo's site",
    )
    command.add_argument("--json", action="store_true", help="print the result as JSON")
    command.set_defaults(default_config=DEFAULT_CONFIG)


def _demo(command: argparse.ArgumentParser) -> None:
    command.add_argument("--once", action="store_true", help="stop after the first event")
    command.add_argument(
        "--json", action="store_true", help="print only figures: one line of JSON for each event"
    )
    command.add_argument(
        "--listen",
        metavar="HOST:PORT",
        help="where the page is; port 0: any free one; default 127.0.0.1:9430, "
        "or any free port where that is taken",
    )
    for name, default, form, text in (
        ("--reduce", "25 %", "SHARE", "what the VTN asks for, below baseline"),
        ("--hold", "2 min", "TIME", "how long it is to be held"),
        ("--ramp", "20 s", "TIME", "how long the ramps down and up last"),
        ("--after", "0 s", "TIME", "with --once, keep running this long after the event"),
    ):
        command.add_argument(
            name,
            default=default,
            metavar=form,
            help=f'{text}; like "{default}", which is the default'.replace("%", "%%"),
        )
    command.add_argument(
        "--state-dir",
        type=Path,
        metavar="DIR",
        help="keep the demo's state there; default: a temporary directory, removed at the end",
    )
    command.add_argument(
        "--utility",
        type=Path,
        metavar="DIR",
        help="only be a utility to try `flexload enroll` with: an OpenADR server with mutual TLS on "
        "127.0.0.1:8443 (or --listen), whose files, and a simulated site's, are in DIR",
    )
    command.add_argument(
        "--make-site",
        type=Path,
        metavar="FILE",
        help='only write the demo\'s site there, for drivers of kind = "sim" (docs/drivers.md)',
    )


_ARGUMENTS = {
    "run": _config,
    "check-config": _check_config,
    "config": _example,
    "enroll": _enroll,
    "status": _status,
    "events": _events,
    "opt-out": _opt,
    "opt-in": _opt,
    "pause": _stop,
    "resume": _stop,
    "deregister": _member,
    "register": _member,
    "restore": _restore,
    "simulate": _simulate,
    "doctor": _config,
    "demo": _demo,
}
