"""A utility to try enrolling with, on this machine: `flexload demo --utility DIR`.

Its server is openleadr's with mutual TLS; it signs the requests that are put on its desk, and calls
events of whoever registers. Beside it lies a simulated site with everything but the enrolment.
"""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from agent.demo.authority import Authority
from agent.demo.site import MARKET_CONTEXT, SPEC
from agent.demo.utility import Utility, running
from agent.errors import FlexloadError
from agent.units import format_duration
from drivers.sim.site import SimSite

Say = Callable[[str], None]

PORT = 8443
LOOK_S = 0.5
"""How often the desk is looked at."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Where everything is."""

    folder: Path

    @property
    def utility(self) -> Path:
        """The utility's own files."""
        return self.folder / "utility"

    @property
    def desk(self) -> Path:
        """Where requests are put, and signed."""
        return self.folder / "desk"

    @property
    def config(self) -> Path:
        """The site's configuration."""
        return self.folder / "site" / "agent.toml"


async def serve(
    folder: Path, port: int, event: tuple[float, float, float], command: str, say: Say
) -> None:
    """Be the utility until cancelled. `event`: share, hold and ramp (s) of those it calls.

    `folder` is absolute. Raises `FlexloadError` when it cannot be used.
    """
    trial = Trial(folder)
    authority = Authority(trial.utility)
    async with running(*event, once=False, port=port, tls=trial.utility) as utility:
        _lay_out(trial, utility.url)
        _explain(trial, utility, command, say)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_keep_desk(trial.desk, authority, say))
            tasks.create_task(_pass_on(utility, say))


def _lay_out(trial: Trial, url: str) -> None:
    """Make what is not there yet: what somebody has begun to enrol with is left as it is."""
    try:
        trial.desk.mkdir(exist_ok=True)
        trial.config.parent.mkdir(exist_ok=True)
        site = trial.config.parent / "site.json"
        if not site.exists():
            SimSite.create(site, SPEC)
        if not trial.config.exists():
            template = Template(files("agent.demo").joinpath("trial.toml").read_text("utf-8"))
            text = template.substitute(
                folder=trial.folder, vtn_url=url, market_context=MARKET_CONTEXT
            )
            trial.config.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FlexloadError(f"{trial.folder} cannot be used for a trial: {error}") from error


def _explain(trial: Trial, utility: Utility, command: str, say: Say) -> None:
    site, desk, config = (
        os.path.relpath(path) for path in (trial.config.parent, trial.desk, trial.config)
    )
    say(f"utility   {utility.url}, for VENs with a certificate of its CA")
    say(f"desk      {desk}: a signing request (.csr) put there becomes a certificate (.crt)")
    say(f"site      {config}, simulated, to be enrolled")
    if utility.url not in trial.config.read_text(encoding="utf-8"):
        say(f"note      {config} is older and names another address: remove it, or mend it")
    say("\nin another terminal, one after the other:\n")
    say(f"  {command} enroll --config {config}")
    say(f"  cp {site}/ven.csr {desk}/")
    say(f"  cp {desk}/ven.crt {site}/")
    say(f"  {command} enroll --config {config}")
    say(f"  {command} run --config {config}")
    say("\nwhat happens here:\n")


async def _keep_desk(desk: Path, authority: Authority, say: Say) -> None:
    """Sign every request once."""
    seen: set[tuple[Path, int]] = set()
    while True:
        for file, changed_ns in await asyncio.to_thread(_requests, desk):
            if (file, changed_ns) not in seen:
                seen.add((file, changed_ns))
                say(_signed(file, authority))
        await asyncio.sleep(LOOK_S)


def _requests(desk: Path) -> list[tuple[Path, int]]:
    return [(file, file.stat().st_mtime_ns) for file in sorted(desk.glob("*.csr"))]


def _signed(file: Path, authority: Authority) -> str:
    """Sign a request; one sentence on it."""
    now = f"{datetime.now().astimezone():%H:%M:%S}"
    try:
        name, certificate = authority.sign(file.read_bytes())
        file.with_suffix(".crt").write_bytes(certificate)
    except (OSError, ValueError) as error:
        return f"{now}  {file.name} is not signed: {error}"
    return f"{now}  signed {file.name} for {name}: the certificate is {file.stem}.crt"


async def _pass_on(utility: Utility, say: Say) -> None:
    """Say what the VTN tells, until it ends."""
    async for told in utility.news():
        sentence = _sentence(told, utility)
        if sentence:
            say(f"{datetime.fromtimestamp(told['at'], UTC).astimezone():%H:%M:%S}  {sentence}")
    raise FlexloadError("the VTN ended")


def _sentence(told: dict[str, Any], utility: Utility) -> str:
    match told["what"]:
        case "registered":
            wait = format_duration(timedelta(seconds=told["calls_in_s"]))
            return f"registered {told['ven_id']}; calls an event in {wait}"
        case "called":
            start = datetime.fromtimestamp(told["starts_at"], UTC).astimezone()
            return f"calls event {told['event_id']}, from {start:%H:%M:%S} on"
        case "answered":
            return f"the site answers {told['opt']} to event {told['event_id']}"
        case "report" if utility.reports == 1:
            return "the first telemetry has come"
        case _:
            return ""
