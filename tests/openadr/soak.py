"""A year of a VEN's life in minutes: `python -m tests.openadr.soak URL POLLS` prints what memory it holds.

A process of its own, so that nothing but the VEN is in it. It polls every half hour, so that the 35
days for which events are kept are over before a tenth of the polls is: what the site keeps on
purpose has then reached its size, and whatever still grows is a leak.
"""

import asyncio
import gc
import json
import logging
import os
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

from agent.control.keeper import KEEP_EVENTS
from agent.core.sample import Sample
from agent.core.site import MeterQuality
from agent.store.history import KEEP
from tests.openadr.rig import Rig

POLL_S = 1800.0
CHECKPOINTS = 10
SAMPLES = 6
"""A sample every five minutes."""
DAY = 48
"""Polls."""


async def live(url: str, polls: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        rig = Rig(Path(directory), url)
        rig.on_intake = lambda intakes: None
        rig.clock.witness = lambda at: None
        async with rig:
            await rig.rested()
            for number in range(1, polls + 1):
                _sample(rig)
                await rig.turn(POLL_S)
                if number % DAY == 0:
                    _forget(rig)
                if number % (polls // CHECKPOINTS) == 0:
                    await rig.quiet()
                    print(json.dumps(_standing(rig, number)), flush=True)


def _sample(rig: Rig) -> None:
    start = rig.clock.now()
    step = timedelta(seconds=POLL_S / SAMPLES)
    rig.history.add(
        Sample(start + n * step, 1000.0 + n, MeterQuality.GOOD) for n in range(1, SAMPLES + 1)
    )


def _forget(rig: Rig) -> None:
    """What the agent's keeper does once a day."""
    now = rig.clock.now()
    rig.book.forget(rig.book.older_than(now - KEEP_EVENTS))
    rig.book.flush()
    rig.history.forget_before(now - KEEP)


def _standing(rig: Rig, polls: int) -> dict[str, object]:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    link = rig.ven.link()
    return {
        "polls": polls,
        "resident": pages * os.sysconf("SC_PAGE_SIZE"),
        "events": len(rig.book.records),
        "answers": len(rig.registration.answers),
        "requests": len(rig.registration.requests),
        "waiting": link.reports_waiting,
        "registered": link.registered,
    }


if __name__ == "__main__":
    logging.basicConfig(handlers=[logging.NullHandler()], level=logging.INFO)
    asyncio.run(live(sys.argv[1], int(sys.argv[2])))
