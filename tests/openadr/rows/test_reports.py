"""V2 and V20 to V26: what openleadr's server asks to have reported, and what our VEN reports."""

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from agent.core.sample import Sample
from agent.core.site import MeterQuality
from agent.openadr.iso8601 import format_time
from tests.openadr import wire
from tests.openadr.rig import Rig
from tests.openadr.vtn import OpenLeadrVtn, running

pytestmark = pytest.mark.openadr2

GOOD = "Quality Good - Non Specific"
SITE_POWER = ("site", "RealPower")
GPUS_POWER = ("gpus", "RealPower")


def s(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


class ReportingVtn(OpenLeadrVtn):
    """openleadr's server, asking for what a test names: by resource and measurement."""

    def __init__(self, wanted: dict[tuple[str, str], tuple[float, float]]) -> None:
        super().__init__(poll_s=600)
        self.wanted = wanted
        self.delivered: dict[tuple[str, str], list[tuple[datetime, float]]] = {}
        self.said: list[tuple[str, dict]] = []
        """What it answers the next polls with."""
        self.cancelling = False
        """Whether its next answer to a report cancels that."""

        self.reads_status = False
        """Whether it takes what openleadr cannot read: a report on status."""

    async def start(self) -> None:
        await super().start()
        self.server.add_handler("on_poll", self._on_poll)

    async def _on_poll(self, ven_id):
        return self.said.pop(0) if self.said else None

    async def _register_report(
        self,
        ven_id,
        resource_id,
        measurement,
        unit,
        scale,
        min_sampling_interval,
        max_sampling_interval,
    ):
        cadence = self.wanted.get((resource_id, measurement))
        if cadence is None:
            return None

        def deliver(values):
            self.delivered.setdefault((resource_id, measurement), []).extend(values)

        return deliver, s(cadence[0]), s(cadence[1])

    @web.middleware
    async def _record(self, request, handler):
        if self.reads_status and b">status<" in await request.read():
            self.take("EiReport", await request.read())
            return web.Response(body=wire.updated_report(), content_type="application/xml")
        response = await super()._record(request, handler)
        report = self.received[-1]
        if self.cancelling and report.kind == "oadrUpdateReport":
            self.cancelling = False
            request_id = report.text("oadrReport", "reportRequestID")
            cancel = (
                '</ei:eiResponse><oadr:oadrCancelReport xmlns:p="http://docs.oasis-open.org/ns/'
                'energyinterop/201110/payloads"><p:requestID>cancel-1</p:requestID>'
                f"<ei:reportRequestID>{request_id}</ei:reportRequestID>"
                "<p:reportToFollow>false</p:reportToFollow></oadr:oadrCancelReport>"
            )
            text = response.text.replace("</ei:eiResponse>", cancel, 1)
            return web.Response(text=text, content_type="application/xml")
        return response

    def data(self, r_id: str) -> list[tuple[str, str, str]]:
        """Start, value and quality of every point of a kind that came, whoever could read it."""
        return [
            (start, value, quality)
            for message in self.of("oadrUpdateReport")
            for name, start, value, quality in message.report_data
            if name == r_id
        ]


@pytest.fixture
def now() -> datetime:
    """openleadr's server reads the real clock; ours begins at a full hour, so that grids are known."""
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


@contextlib.asynccontextmanager
async def reporting(
    directory: Path, now: datetime, wanted: dict[tuple[str, str], tuple[float, float]]
) -> AsyncIterator[tuple[ReportingVtn, Rig]]:
    """A server that asks for what is wanted, and a VEN that has said it will report it."""
    async with (
        running(ReportingVtn(wanted)) as vtn,
        Rig(directory, vtn.url, at=now) as rig,
    ):
        await rig.rested()
        await vtn.seen("oadrRegisterReport")
        if wanted:
            await vtn.seen("oadrCreatedReport")
        await rig.quiet()
        yield vtn, rig


def fill(rig: Rig, start: datetime, count: int, **more: Any) -> None:
    """A sample each second, 1 W more each; the GPUs take half."""
    rig.history.add(
        Sample(start + s(n), 1000.0 + n, MeterQuality.GOOD, gpus_w=500.0 + n / 2, **more)
        for n in range(count)
    )


def mean_w(begin_s: int, length_s: int) -> float:
    """Of what `fill` gives."""
    return 1000.0 + begin_s + (length_s - 1) / 2


async def test_v02_telemetry_of_an_outage_arrives_after_it(tmp_path, now):
    """openleadr's client samples into a queue that an outage empties, and never sends it again."""
    async with reporting(tmp_path, now, {SITE_POWER: (1, 10), GPUS_POWER: (1, 10)}) as (vtn, rig):
        fill(rig, now, 700)
        await rig.pass_time(22)
        callbacks = vtn.server.services["report_service"].report_callbacks
        await vtn.stop()
        await rig.pass_time(300, 5)
        assert rig.ven.link().reports_waiting > 0
        await vtn.start()
        # It forgets with its life what it asked for (issue 186), and answers 200 to what it drops.
        vtn.server.services["report_service"].report_callbacks = callbacks
        await rig.pass_time(120)
        assert rig.ven.link().reports_waiting == 0
        for key, first_w, step_w in ((SITE_POWER, 1000.0, 1.0), (GPUS_POWER, 500.0, 0.5)):
            values = vtn.delivered[key]
            assert values == [(now + s(n), first_w + step_w * n) for n in range(len(values))]
            assert len(values) >= 430


async def test_v20_two_specifiers_in_one_reply_are_kept_apart(tmp_path, now):
    """openleadr's client samples the one's rIDs for the other."""
    wanted = {SITE_POWER: (1, 5), GPUS_POWER: (1, 5), ("gpus", "Status"): (5, 5)}
    async with reporting(tmp_path, now, wanted) as (vtn, rig):
        assert len(vtn.of("oadrCreatedReport")[0].pending) == 2
        fill(rig, now, 60)
        await rig.pass_time(23)
        assert vtn.delivered[SITE_POWER] == [(now + s(n), 1000.0 + n) for n in range(20)]
        assert vtn.delivered[GPUS_POWER] == [(now + s(n), 500.0 + n / 2) for n in range(20)]
        named = {
            (m.text("oadrReport", "reportSpecifierID"), r_id)
            for m in vtn.of("oadrUpdateReport")
            for r_id, *_ in m.report_data
        }
        assert named == {
            ("usage", "site-power"),
            ("usage", "gpus-power"),
            ("status", "gpus-status"),
        }


async def test_v21_three_intervals_come_every_three_seconds_and_do_not_overlap(tmp_path, now):
    """openleadr's client sends three every second, two of them again."""
    async with reporting(tmp_path, now, {SITE_POWER: (1, 3)}) as (vtn, rig):
        fill(rig, now, 60)
        await rig.pass_time(31)
        messages = vtn.of("oadrUpdateReport")
        assert len(messages) == 10
        assert all(len(message.report_data) == 3 for message in messages)
        assert vtn.delivered[SITE_POWER] == [(now + s(n), 1000.0 + n) for n in range(30)]


async def test_v22_a_sensor_that_says_nothing_costs_its_own_values_only(tmp_path, now):
    """One sensor without a value costs openleadr's client the whole report."""
    async with reporting(tmp_path, now, {SITE_POWER: (1, 5), GPUS_POWER: (1, 5)}) as (vtn, rig):
        fill(rig, now, 60)
        dumb = [Sample(now + s(n), 1000.0 + n, MeterQuality.GOOD) for n in (3, 4, 7)]
        blind = [Sample(now + s(n), None, MeterQuality.BAD, gpus_w=500.0 + n / 2) for n in (8, 9)]
        rig.history.add([*dumb, *blind])
        await rig.pass_time(17)
        site = [n for n in range(15) if n not in (8, 9)]
        gpus = [n for n in range(15) if n not in (3, 4, 7)]
        assert vtn.delivered[SITE_POWER] == [(now + s(n), 1000.0 + n) for n in site]
        assert vtn.delivered[GPUS_POWER] == [(now + s(n), 500.0 + n / 2) for n in gpus]
        assert {quality for _, _, quality in vtn.data("site-power")} == {GOOD}


@pytest.mark.parametrize("cadence_s", [7, 45, 90, 5400])
async def test_v23_any_cadence_is_kept(tmp_path, now, cadence_s):
    """openleadr's client takes cron lines: 45 s comes at :00 and :45, 90 s each minute."""
    now = datetime.fromtimestamp(now.timestamp() // 5400 * 5400, UTC)
    async with reporting(tmp_path, now, {SITE_POWER: (cadence_s, cadence_s)}) as (vtn, rig):
        origin_s = round(now.timestamp()) % cadence_s
        fill(rig, now - s(origin_s), 5 * cadence_s + 400)
        await rig.pass_time(
            4 * cadence_s + 2 if cadence_s < 5400 else 22_200, 1 if cadence_s < 5400 else 300
        )
        assert vtn.delivered[SITE_POWER][:4] == [
            (now + s(n * cadence_s - origin_s), mean_w(n * cadence_s, cadence_s)) for n in range(4)
        ]


async def test_v24_status_comes_as_resource_status_whoever_can_read_it(tmp_path, now):
    """openleadr's client sends a number; its server reads nothing else and answers HTTP 500.

    What it cannot read does not hold up what it can, and waits.
    """
    wanted = {SITE_POWER: (5, 5), ("site", "Status"): (5, 5), ("gpus", "Status"): (5, 5)}
    async with reporting(tmp_path, now, wanted) as (vtn, rig):
        fill(rig, now, 10)
        fill(rig, now + s(10), 60, override=True)
        await rig.pass_time(42)
        assert len(vtn.delivered[SITE_POWER]) == 8  # each five seconds, none late
        assert {value for _, value, _ in vtn.data("gpus-status")} >= {"true false"}
        (first, *_) = vtn.data("site-status")
        assert first == (format_time(now), "true false", GOOD)
        assert "HTTP 500" in rig.ven.link().trouble
        assert rig.ven.link().reports_waiting == 16

        vtn.reads_status = True
        await rig.pass_time(90)
        assert rig.ven.link().trouble == ""
        said = {start: value for start, value, _ in vtn.data("site-status")}
        assert said[format_time(now + s(5))] == "true false"
        assert said[format_time(now + s(10))] == "true true"


async def test_v25_history_is_given_as_the_server_asks_for_it(tmp_path, now):
    """openleadr's client keeps none, and its server does not ask by itself."""
    async with reporting(tmp_path, now, {}) as (vtn, rig):
        day_ago = now - s(86_400)
        fill(rig, day_ago, 86_400)
        vtn.said = [
            (
                "oadrCreateReport",
                {"report_requests": [asked_for("past", day_ago, s(72_000), s(60))]},
            )
        ]
        await rig.turn()
        await vtn.seen("oadrCreatedReport")
        fill(rig, now, 700)
        await rig.pass_time(10)
        data = vtn.data("site-energy-history")
        assert [start for start, _, _ in data] == [
            format_time(day_ago + s(60 * n)) for n in range(1200)
        ]
        assert [float(value) for _, value, _ in data] == [
            pytest.approx(mean_w(60 * n, 60) / 60, rel=1e-8) for n in range(1200)
        ]
        messages = vtn.of("oadrUpdateReport")
        assert all(len(message.report_data) <= 600 for message in messages)
        assert {m.text("oadrReport", "reportName") for m in messages} == {"HISTORY_USAGE"}
        assert rig.registration.requests == ()  # once, and over


async def test_v26_a_cancellation_that_comes_with_an_answer_to_a_report_counts(tmp_path, now):
    """openleadr's client looks for it in the wrong place."""
    async with reporting(tmp_path, now, {SITE_POWER: (1, 5)}) as (vtn, rig):
        fill(rig, now, 60)
        await rig.pass_time(7)
        (request,) = rig.registration.requests
        vtn.cancelling = True
        await rig.pass_time(30)
        assert vtn.count("oadrUpdateReport") == 2
        assert vtn.of("oadrUpdateReport")[1].text("oadrReport", "reportRequestID") == (
            request.request_id
        )
        assert rig.registration.requests == ()
        assert rig.ven.link().reports_waiting == 0


def asked_for(request_id: str, start: datetime, length: timedelta, grain: timedelta) -> dict:
    """A one-shot request for a stretch of the past, in openleadr's terms."""
    return {
        "report_request_id": request_id,
        "report_specifier": {
            "report_specifier_id": "history",
            "granularity": grain,
            "report_back_duration": s(0),
            "report_interval": {"dtstart": start, "duration": length},
            "specifier_payloads": [{"r_id": "site-energy-history", "reading_type": "Net"}],
        },
    }
