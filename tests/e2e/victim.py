"""A process that lives through an event on a leaping clock until SIGKILL finds it at a boundary."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from tests.control.live import Live
from tests.control.test_crash import HOLD_S, RAMP_S, SITE, Tripwire


class Deadly(Tripwire):
    """Kills the process for real."""

    def step(self) -> None:
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1


async def live(directory: Path, boundary: int) -> None:
    site = Live(directory, SITE)
    site.wrap = Deadly(boundary).wrap
    await site.start()
    await site.run(25)
    site.call(0.35, start_s=RAMP_S + 2, hold_s=HOLD_S, ramp_s=RAMP_S)
    while True:
        (directory / "time").write_text(site.clock.now().isoformat())
        await site.run(1)


if __name__ == "__main__":
    asyncio.run(live(Path(sys.argv[1]), int(sys.argv[2])))
