"""`flexload demo`: watch it work, with nothing but this machine."""

import argparse
import asyncio
import contextlib
import signal
import tempfile
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

from agent.demo.story import Outcome, Script, as_json, tell
from agent.errors import ConfigError
from agent.telemetry.logs import set_up
from agent.units import parse_duration, parse_share


def run(options: argparse.Namespace) -> int:
    """Run the demo; 0 when its event was met and everything is back as it was."""
    set_up("auto", "warning")
    script = _script(options)
    say = _quiet if options.json else _say
    with _directory(options.state_dir) as directory:
        try:
            outcome = asyncio.run(_until_ended(tell(directory, script, say)))
        except asyncio.CancelledError:
            say("\nstopped")
            return 0
    if outcome is None:
        say("no event was completed")
        return 1
    if options.json:
        print(as_json(outcome), flush=True)
    else:
        _summarise(outcome)
    return 0 if outcome.met else 1


async def _until_ended(story: Coroutine[Any, Any, Outcome | None]) -> Outcome | None:
    """Tell it until Ctrl-C, or SIGTERM, which a container's stop sends."""
    telling = asyncio.create_task(story)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, telling.cancel)
    return await telling


def _script(options: argparse.Namespace) -> Script:
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
        listen=options.listen,
    )


@contextlib.contextmanager
def _directory(chosen: Path | None) -> Iterator[Path]:
    if chosen is not None:
        chosen.mkdir(parents=True, exist_ok=True)
        yield chosen
    else:
        with tempfile.TemporaryDirectory(prefix="flexload-demo-") as name:
            yield Path(name)


def _summarise(outcome: Outcome) -> None:
    over = max(0.0, outcome.worst_kw_over_ceiling)
    response = "never" if outcome.response_s is None else f"after {outcome.response_s:.0f} s"
    print(
        f"""
event {outcome.event_id}: {"met" if outcome.met else "NOT met"}
  asked       {outcome.committed_kw:.2f} kW below a baseline of {outcome.baseline_kw:.2f} kW
  delivered   {outcome.delivered_kw:.2f} kW in the mean, on target {response} from the call
  compliant   {outcome.compliant_fraction:.1%} of the seconds, at worst {over:.2f} kW over (10 s mean)
  GPUs        {outcome.gpus_capped} capped, {outcome.gpus_restored} of them back as they were
  jobs        {outcome.jobs_paused} paused, {outcome.jobs_resumed} of them running again
  reports     {outcome.reports_received_by_vtn} received by the utility"""
    )


def _say(text: str) -> None:
    print(text, flush=True)


def _quiet(text: str) -> None:
    """With --json only the figures are printed."""
