"""SIGKILL of a real process at every action boundary of an event; what is on disk must be enough."""

import asyncio
import signal
import subprocess
import sys
from datetime import datetime, timedelta

import pytest

from tests.control.live import Live
from tests.control.test_crash import HOLD_S, RAMP_S, SITE, Tripwire, play

PARTS = 8

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def boundaries(tmp_path_factory) -> int:
    wire = Tripwire()
    live = asyncio.run(play(tmp_path_factory.mktemp("whole"), wire))
    live.close()
    return wire.count


def survivor(directory, boundary) -> Live:
    """The site as the kill left it, taken up three seconds later."""
    directory.mkdir()
    command = [sys.executable, "-m", "tests.e2e.victim", str(directory), str(boundary)]
    killed = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    last = datetime.fromisoformat((directory / "time").read_text())
    return Live(directory, SITE, since=last + timedelta(seconds=1 + 3))


@pytest.mark.parametrize("part", range(PARTS))
async def test_restarted_it_goes_on_without_a_spike_and_ends_clean(tmp_path, boundaries, part):
    for boundary in range(part, boundaries, PARTS):
        live = survivor(tmp_path / str(boundary), boundary)
        before_w = live.power_w()
        await live.start()
        for picture in await live.run(HOLD_S + 2 * RAMP_S + 15):
            limit_w = max(before_w, picture.timeline.ceiling_at(picture.at).limit_w)
            assert picture.power_w <= limit_w * 1.02, f"boundary {boundary} at {picture.at}"
        assert live.untouched, f"boundary {boundary}"
        live.close()


@pytest.mark.parametrize("part", range(PARTS))
async def test_never_restarted_restore_brings_all_back_within_the_lease(tmp_path, boundaries, part):
    for boundary in range(part, boundaries, PARTS):
        live = survivor(tmp_path / str(boundary), boundary)
        live.clock.leap(HOLD_S + 2 * RAMP_S + 2 + live.policy.lease_grace_s + 1)
        restored = await live.restore(only_expired=True)
        assert not restored.failed
        assert live.untouched, f"boundary {boundary}"
        live.close()
