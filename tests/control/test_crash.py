"""Rules 1, 2 and 3: a kill at every action boundary, with and without a restart.

A boundary is before and after each write to the ledger and each command to a device. The kill here is
an exception that nothing catches; the same with SIGKILL and real processes is in tests/e2e.
"""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from drivers.sim.physics import JobSpec
from tests.control.live import SMALL, Live, powers_w
from tests.core.build import NOON

HOLD_S, RAMP_S = 12, 5

SITE = replace(
    SMALL,
    hosts=("h1",),
    jobs=(
        JobSpec("sim:chat", "chat", {}, (0, 1), 520.0),
        JobSpec("sim:batch", "batch", {}, (2, 3), 640.0),
        JobSpec("sim:train", "train", {}, (4, 5, 6, 7), 660.0, 0.02),
    ),
)


class Killed(BaseException):
    """The process is gone: not an Exception, so that nothing recovers from it."""


class Tripwire:
    """Counts boundaries and kills at one of them."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.count = 0

    def step(self) -> None:
        if self.count == self.at:
            raise Killed
        self.count += 1

    def wrap(self, equipment, ledger) -> None:
        """Put boundaries around every write to the ledger and every command to a device."""
        for name in ("put", "drop"):
            setattr(ledger, name, self._around(getattr(ledger, name)))
        set_limits, pause, resume = equipment.set_limits, equipment.pause, equipment.resume

        async def set_one_by_one(limits):
            outcomes = []
            for uuid, limit in limits.items():
                self.step()
                outcomes += await set_limits({uuid: limit})
                self.step()
            return outcomes

        def one_by_one(command):
            async def carry_out(job_ids: Sequence[str]):
                outcomes = []
                for job_id in job_ids:
                    self.step()
                    outcomes += await command([job_id])
                    self.step()
                return outcomes

            return carry_out

        equipment.set_limits = set_one_by_one
        equipment.pause, equipment.resume = one_by_one(pause), one_by_one(resume)

    def _around(self, call):
        def guarded(items):
            batch = tuple(items)
            if not batch:
                return
            self.step()
            call(batch)
            self.step()

        return guarded


async def play(directory, wire: Tripwire, share: float = 0.35) -> Live:
    """A site with an event under way, up to the kill or, without one, to its end."""
    live = Live(directory, SITE)
    live.wrap = wire.wrap
    await live.start()
    await live.run(25)
    live.call(share, start_s=RAMP_S + 2, hold_s=HOLD_S, ramp_s=RAMP_S)
    await live.run(HOLD_S + 2 * RAMP_S + 12)
    return live


@pytest.fixture(scope="module")
def boundaries(tmp_path_factory) -> int:
    """How many boundaries a whole event has."""
    import asyncio

    wire = Tripwire()
    live = asyncio.run(play(tmp_path_factory.mktemp("whole"), wire))
    assert live.untouched
    live.close()
    return wire.count


async def killed_at(directory, boundary: int) -> Live:
    """The site just after the kill."""
    live = Live(directory, SITE)
    live.wrap = Tripwire(boundary).wrap
    await live.start()
    await live.run(25)
    live.call(0.35, start_s=RAMP_S + 2, hold_s=HOLD_S, ramp_s=RAMP_S)
    with pytest.raises(Killed):
        await live.run(200)
    live.wrap = lambda equipment, ledger: None
    return live


STRIDES = 8
PARTS = [pytest.param(part, marks=[pytest.mark.long] * (part % 4 > 0)) for part in range(STRIDES)]
"""Each kills at every eighth boundary; two of them will do while one works, all before a change lands."""


@pytest.mark.parametrize("part", PARTS)
async def test_killed_anywhere_and_restarted_it_goes_on_without_a_spike_and_ends_clean(
    tmp_path, boundaries, part
):
    assert boundaries > 80
    for boundary in range(part, boundaries, STRIDES):
        directory = tmp_path / str(boundary)
        directory.mkdir()
        live = await killed_at(directory, boundary)
        before_w = live.power_w()
        asked = live.book.records["ven", "ev-1"]
        await live.restart(after_s=3.0)
        pictures = await live.run(HOLD_S + 2 * RAMP_S + 15)
        assert live.untouched, f"boundary {boundary}"
        for picture in pictures:
            ceiling = picture.timeline.ceiling_at(picture.at)
            limit_w = max(before_w, ceiling.limit_w)
            assert picture.power_w <= limit_w * 1.02, f"boundary {boundary} at {picture.at}"
        figures = pictures[-1].performances[asked.key]
        assert figures.delivered_w > 0.9 * figures.committed_w, f"boundary {boundary}"
        live.close()


@pytest.mark.parametrize("part", PARTS)
async def test_killed_anywhere_and_never_restarted_restore_brings_all_back_within_the_lease(
    tmp_path, boundaries, part
):
    for boundary in range(part, boundaries, STRIDES):
        directory = tmp_path / str(boundary)
        directory.mkdir()
        live = await killed_at(directory, boundary)
        live.close()
        live._open()
        over_s = 2 + RAMP_S + HOLD_S + RAMP_S
        held = bool(live.ledger.entries)
        if held:
            kept = await live.restore(only_expired=True)
            begun_s = (live.clock.now() - NOON).total_seconds() - 25.0
            if begun_s < over_s:
                assert kept.undone == 0, "in the middle of the event nothing is undone"
        live.clock.leap(over_s + live.policy.lease_grace_s + 1)
        restored = await live.restore(only_expired=True)
        assert not restored.failed
        assert live.untouched, f"boundary {boundary}"
        live.close()


async def test_a_restart_while_holding_changes_the_power_by_no_more_than_noise(tmp_path):
    live = await Live(tmp_path).start()
    await live.run(30)
    live.call(0.35, hold_s=120)
    held = powers_w(await live.run(60))[-20:]
    await live.restart(after_s=2.0)
    again = powers_w(await live.run(20))
    assert max(again) <= max(held) * 1.01
    assert min(again) >= min(held) * 0.97
    live.close()


async def test_a_crash_that_outlasts_the_event_leaves_nothing_behind_after_a_restart(tmp_path):
    live = await Live(tmp_path).start()
    await live.run(30)
    live.call(0.35, hold_s=60)
    await live.run(40)
    assert live.ledger.entries
    await live.restart(after_s=3600.0)
    await live.run(15)
    assert live.untouched
    live.close()
