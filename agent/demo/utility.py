"""The demo's utility as its teller sees it: a process with a VTN in it, and what that tells."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.errors import FlexloadError

EVERY_S = 300.0
"""Between the end of one event and the call of the next, in a demo that goes on."""


@dataclass(slots=True)
class Utility:
    """A VTN that is running, and what it last told."""

    url: str
    process: asyncio.subprocess.Process
    called: str | None = None
    """The event that it called last."""
    called_at: float | None = None
    """Unix seconds."""
    next_at: float | None = None
    """When it calls the next one, Unix seconds; None: never."""
    reports: int = 0
    """How many it has received."""

    async def news(self) -> AsyncIterator[dict[str, Any]]:
        """What it tells, noted here as it comes, until it ends."""
        async for told in _told(self.process):
            match told["what"]:
                case "called":
                    self.called, self.called_at = told["event_id"], told["at"]
                    self.next_at = told["next_at"]
                case "report":
                    self.reports += 1
                case _:
                    pass
            yield told


@asynccontextmanager
async def running(
    share: float,
    hold_s: float,
    ramp_s: float,
    *,
    once: bool,
    port: int = 0,
    tls: Path | None = None,
) -> AsyncIterator[Utility]:
    """A utility that calls an event for `share` less, once or again and again.

    `tls`: folder with its certificate and CA; it then demands certificates of that CA.
    """
    every_s = 0.0 if once else EVERY_S + hold_s + 2 * ramp_s
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "agent.demo.vtn",
        f"--hold-s={hold_s}",
        f"--ramp-s={ramp_s}",
        f"--multiplier={1 - share}",
        f"--every-s={every_s}",
        f"--port={port}",
        *([] if tls is None else [f"--tls={tls}", "--call-after-s=5"]),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        # Ctrl-C in a terminal is for its parent, which ends it by closing its input.
        start_new_session=True,
    )
    try:
        async for told in _told(process):
            if told["what"] == "listening":
                yield Utility(str(told["url"]), process)
                return
        raise FlexloadError("the demo's VTN did not start")
    finally:
        await _stop(process)


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(5.0):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _told(process: asyncio.subprocess.Process) -> AsyncIterator[dict[str, Any]]:
    assert process.stdout is not None
    async for line in process.stdout:
        if line.startswith(b"{"):
            yield json.loads(line)
