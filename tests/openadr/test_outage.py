"""A VTN that is away for a day: afterwards every report point has arrived exactly once."""

import asyncio
import gc
import tracemalloc
from array import array
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import accumulate

import pytest
from aiohttp import web

from agent.core.sample import Sample
from agent.core.site import MeterQuality
from tests.clock import NOON
from tests.openadr import wire
from tests.openadr.rig import Rig
from tests.openadr.vtn import Received, ScriptedVtn, running

pytestmark = pytest.mark.openadr2

DAY_S = 86_400
MIDNIGHT = NOON - timedelta(hours=12)
REQUESTS = {
    "2s": ("usage", ["site-power"], 2, 10),
    "10s": ("usage", ["site-power", "gpus-energy"], 10, 60),
    "7s": ("usage", ["site-energy"], 7, 7),
    "90s": ("usage", ["site-power"], 90, 60),
    "again": ("usage", ["site-power"], 90, 90),
    "15min": ("usage", ["site-power", "site-energy"], 900, 900),
    "day": ("usage", ["site-energy"], DAY_S, DAY_S),
    "status": ("status", ["site-status", "gpus-status"], 60, 300),
}
"""By id: specifier, rIDs, granularity and report-back duration, s."""
_POWER_W = [1000 + second % 977 for second in range(3 * DAY_S)]
_SUMS_W = [0, *accumulate(_POWER_W)]


def epoch_of(grain_s: int) -> datetime:
    """The grid that intervals lie on."""
    origin = datetime(1970, 1, 1, tzinfo=NOON.tzinfo)
    return origin + (MIDNIGHT - origin) // timedelta(seconds=grain_s) * timedelta(seconds=grain_s)


@dataclass
class CountingVtn(ScriptedVtn):
    """Counts each point that it acknowledged, and keeps nothing else: it must not grow, either."""

    counts: dict[tuple[str, str], array] = field(default_factory=dict)
    said: dict[str, int] = field(default_factory=dict)
    """By report id: a digest of what it said."""
    repeated: int = 0
    wrong: list[object] = field(default_factory=list)
    mute_on: str = ""
    """To which request reports are heard, and not answered."""
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        response = await super()._handle(request)
        messages, self.received = self.received, []
        for message in messages:
            if message.kind == "oadrUpdateReport":
                self._note(message)
                if message.text("oadrReport", "reportRequestID") == self.mute_on:
                    self.heard.set()
                    await asyncio.Event().wait()
                self._count(message)
        return response

    def _note(self, message: Received) -> None:
        report_id = message.text("oadrReport", "eiReportID")
        digest = hash(tuple(message.report_data))
        self.repeated += report_id in self.said
        if self.said.setdefault(report_id, digest) != digest:
            self.wrong.append((report_id, "said otherwise before"))

    def _count(self, message: Received) -> None:
        request_id = message.text("oadrReport", "reportRequestID")
        _, _, grain_s, _ = REQUESTS[request_id]
        origin = epoch_of(grain_s)
        for r_id, start, value, quality in message.report_data:
            begin_s = round((datetime.fromisoformat(start) - origin).total_seconds())
            slot, off = divmod(begin_s, grain_s)
            counts = self.counts.setdefault((request_id, r_id), array("B", bytes(80_000)))
            counts[slot] += 1
            offset_s = round((datetime.fromisoformat(start) - MIDNIGHT).total_seconds())
            expected = expected_of(r_id, offset_s, grain_s)
            if off or value != expected or "Good" not in quality:
                self.wrong.append((request_id, r_id, start, value, expected, quality))


def expected_of(r_id: str, offset_s: int, grain_s: int) -> str:
    begin_s = max(0, offset_s)
    count = offset_s + grain_s - begin_s
    mean_w = (_SUMS_W[begin_s + count] - _SUMS_W[begin_s]) / count
    if r_id.endswith("-status"):
        return "true false"
    if r_id.startswith("gpus"):
        mean_w /= 2
    return f"{mean_w * grain_s / 3600 if r_id.endswith('-energy') else mean_w:.9g}"


def advance(rig: Rig, seconds: int) -> None:
    """Time passes with a sample each second."""
    first = round((rig.clock.now() - MIDNIGHT).total_seconds()) + 1
    rig.clock.leap(seconds)
    rig.history.add(sample(n) for n in range(first, first + seconds))


def sample(second: int) -> Sample:
    power_w = float(_POWER_W[second])
    at = MIDNIGHT + timedelta(seconds=second)
    return Sample(at, power_w, MeterQuality.GOOD, gpus_w=power_w / 2)


async def pass_time(rig: Rig, seconds: int, step_s: int) -> None:
    """Let time pass in steps, the VEN doing at each what there is to do, also on a busy machine."""
    for _ in range(seconds // step_s):
        await rig.quiet(timeout_s=30)
        advance(rig, step_s)
    await rig.quiet(timeout_s=30)


async def caught_up(rig: Rig) -> None:
    """Let the VEN catch up."""
    async with asyncio.timeout(120):
        while rig.ven.link().reports_waiting:
            await pass_time(rig, 1, 1)


async def grown_over(seconds: int, rig: Rig) -> int:
    """How many bytes more are held after so long an outage."""
    tracemalloc.start()
    try:
        await pass_time(rig, 3600, 600)
        gc.collect()
        held_bytes, _ = tracemalloc.get_traced_memory()
        await pass_time(rig, seconds, 600)
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - held_bytes
    finally:
        tracemalloc.stop()


def assert_each_once(vtn: CountingVtn, rig: Rig, asked: list[str]) -> None:
    assert vtn.wrong == []
    assert set(vtn.counts) == {(name, r_id) for name in asked for r_id in REQUESTS[name][1]}
    for (name, _), counts in vtn.counts.items():
        _, _, grain_s, back_s = REQUESTS[name]
        intervals = counts.index(0)
        assert set(counts[:intervals]) == {1}
        assert not any(counts[intervals:])  # nothing after a gap
        until = epoch_of(grain_s) + timedelta(seconds=intervals * grain_s)
        assert rig.clock.now() - until < timedelta(seconds=grain_s + back_s + 2)


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "asked",
    [
        pytest.param([name for name in REQUESTS if name != "2s"], id="several"),
        pytest.param(list(REQUESTS), id="and the finest", marks=pytest.mark.long),
    ],
)
async def test_after_a_day_without_the_vtn_every_point_arrives_exactly_once(tmp_path, asked):
    """Though it goes with a report heard and not answered, and once more; and we are killed twice.

    A report whose answer was lost comes again: the same points under the same id.
    """
    requests = tuple(
        wire.report_request(name, specifier, r_ids, f"PT{grain_s}S", f"PT{back_s}S")
        for name, (specifier, r_ids, grain_s, back_s) in REQUESTS.items()
        if name in asked
    )
    vtn = CountingVtn(report_requests=requests)
    async with running(vtn), Rig(tmp_path, vtn.url, at=MIDNIGHT) as rig:
        rig.history.add([sample(0)])
        await rig.rested()
        await pass_time(rig, 600, 10)
        assert vtn.counts
        vtn.mute_on = "10s"
        advance(rig, 61)
        await vtn.heard.wait()
        await vtn.stop()
        await pass_time(rig, 3600, 600)
        assert await grown_over(7200, rig) < 100_000
        await rig.restart()
        await pass_time(rig, DAY_S - 14_400, 600)
        vtn.mute_on = "15min"
        vtn.heard.clear()
        await vtn.start()
        advance(rig, 61)
        await vtn.heard.wait()
        vtn.mute_on = ""
        await rig.stop()
        rig._open()
        advance(rig, 1800)  # there would be more to say now
        rig.start()
        await pass_time(rig, 5, 1)
        assert vtn.repeated == 2
        assert rig.ven.link().reports_waiting > 1000
        await vtn.stop()
        await pass_time(rig, 120, 10)
        await vtn.start()
        await pass_time(rig, 61, 1)
        await caught_up(rig)
        assert_each_once(vtn, rig, asked)
        assert vtn.repeated <= 3  # what the VTN's second going cut off, too
