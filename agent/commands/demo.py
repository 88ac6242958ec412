"""`flexload demo`: watch it work, with nothing but this machine."""

import argparse
import asyncio
import contextlib
import errno
import json
import shlex
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Coroutine, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agent.demo.outcome import Outcome
from agent.demo.site import SPEC
from agent.demo.story import Script, tell
from agent.errors import CommandError, ConfigError
from agent.fields import split_address
from agent.telemetry.logs import set_up
from agent.units import parse_duration, parse_share
from drivers.sim.site import SimSite

LISTEN = "127.0.0.1:9430"


def run(options: argparse.Namespace) -> int:
    """Run the demo; 0 when its last event was met and everything is back as it was."""
    if options.make_site is not None:
        return _make_site(options.make_site)
    set_up("auto", "warning")
    if options.utility is not None:
        return _be_utility(options)
    say = _quiet if options.json else _say
    script = _script(options, _listen(options.listen))
    if options.listen is None and script.listen != LISTEN:
        say(f"page      {LISTEN} is in use, so the page is on a free port")
    with _directory(options.state_dir) as directory:
        story = tell(directory, script, say, _print_json if options.json else _summarise)
        try:
            outcome = asyncio.run(_until_ended(story))
        except asyncio.CancelledError:
            say("\nstopped")
            return 0
    if outcome is None:
        say("no event was completed")
        return 1
    return 0 if outcome.met else 1


def _make_site(path: Path) -> int:
    if path.exists():
        raise CommandError(f"{path} is there already: it is left as it is")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        SimSite.create(path, SPEC)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from error
    print(f'{path} is a simulated site; drivers of kind = "sim" name it as their site')
    return 0


def _be_utility(options: argparse.Namespace) -> int:
    from agent.demo.trial import PORT, serve

    script = _script(options, _listen(options.listen or f"127.0.0.1:{PORT}"))
    host, port = split_address(script.listen)
    if host != "127.0.0.1":
        raise ConfigError(f"--listen: the trial's utility serves 127.0.0.1 only, not {host}")
    event = (script.share, script.hold_s, script.ramp_s)
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(
            _until_ended(serve(options.utility.absolute(), port, event, script.command, _say))
        )
    print("\nstopped")
    return 0


async def _until_ended(story: Coroutine[Any, Any, Outcome | None]) -> Outcome | None:
    """Tell it until Ctrl-C, a closed terminal, or SIGTERM, which a container's stop sends."""
    telling = asyncio.create_task(story)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, telling.cancel)
    return await telling


def _script(options: argparse.Namespace, listen: str) -> Script:
    parsed = {}
    for key, parse in (
        ("reduce", parse_share),
        ("hold", parse_duration),
        ("ramp", parse_duration),
        ("after", parse_duration),
    ):
        try:
            parsed[key] = parse(getattr(options, key))
        except ValueError as error:
            raise ConfigError(f"--{key}: {error}") from None
    return Script(
        share=parsed["reduce"],
        hold_s=parsed["hold"],
        ramp_s=parsed["ramp"],
        after_s=parsed["after"],
        once=options.once,
        listen=listen,
        command=_as_typed(),
    )


def _listen(chosen: str | None) -> str:
    """Where the page is to be: as chosen, or the default, or a free port where that is taken."""
    listen = chosen or LISTEN
    try:
        host, port = split_address(listen)
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((host, port))
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"--listen: {error}") from None
    except OSError as error:
        if chosen is None and error.errno == errno.EADDRINUSE:
            return "127.0.0.1:0"
        raise ConfigError(f"--listen: {listen}: {(error.strerror or str(error)).lower()}") from None
    return listen


def _as_typed() -> str:
    """How this command was called, so that what is printed can be pasted into the same shell."""
    called = sys.argv[0]
    if Path(called).name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m agent"
    found = shutil.which(Path(called).name)
    return Path(called).name if found == called else shlex.quote(called)


@contextlib.contextmanager
def _directory(chosen: Path | None) -> Iterator[Path]:
    if chosen is not None:
        chosen.mkdir(parents=True, exist_ok=True)
        if any(chosen.iterdir()):
            raise ConfigError(f"--state-dir: {chosen} is not empty: every demo starts from nothing")
        yield chosen
    else:
        with tempfile.TemporaryDirectory(prefix="flexload-demo-") as name:
            yield Path(name)


def _summarise(outcome: Outcome) -> None:
    over = max(0.0, outcome.worst_kw_over_ceiling)
    response = "never on target for 3 s in a row"
    if outcome.response_s is not None:
        response = f"on target {outcome.response_s:.0f} s after the call"
    print(
        f"""
event {outcome.event_id}: {"met" if outcome.met else "NOT met"}
  asked       {outcome.committed_kw:.2f} kW below a baseline of {outcome.baseline_kw:.2f} kW
  delivered   {outcome.delivered_kw:.2f} kW in the mean, {response}
  compliant   {outcome.compliant_fraction:.1%} of the seconds, at worst {over:.2f} kW over (10 s mean)
  GPUs        {outcome.gpus_capped} capped, {outcome.gpus_restored} of them back as they were
  jobs        {outcome.jobs_paused} paused, {outcome.jobs_resumed} of them running again
  reports     {outcome.reports_received_by_vtn} received by the utility""",
        flush=True,
    )


def _print_json(outcome: Outcome) -> None:
    print(json.dumps(asdict(outcome)), flush=True)


def _say(text: str) -> None:
    print(text, flush=True)


def _quiet(text: str) -> None:
    """With --json only the figures are printed."""
