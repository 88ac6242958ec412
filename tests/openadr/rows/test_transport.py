"""V6 to V9: bytes that are no answer, between openleadr's server and our VEN."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest
from aiohttp import web

from tests.openadr import wire
from tests.openadr.rig import Rig, until
from tests.openadr.test_xml import LAUGHS, SEGFAULT
from tests.openadr.vtn import OpenLeadrVtn, running

pytestmark = pytest.mark.openadr2

HOUR_S = 3600.0
TIMEOUT_S = 0.4
Meddling = Callable[[web.Request], Awaitable[web.StreamResponse]]


class MeddledVtn(OpenLeadrVtn):
    """openleadr's server behind something that spoils its answers to polls."""

    def __init__(self) -> None:
        super().__init__()
        self.meddling: deque[Meddling] = deque()
        """What happens to the next polls, one each, instead of reaching the server."""

    @web.middleware
    async def _record(self, request, handler):
        if request.path.endswith("/OadrPoll") and self.meddling:
            return await self.meddling.popleft()(request)
        return await super()._record(request, handler)


@pytest.fixture
def now() -> datetime:
    """openleadr's server reads the real clock."""
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
async def vtn():
    async with running(MeddledVtn()) as server:
        yield server


@pytest.fixture
async def rig(vtn, tmp_path, now):
    """A VEN that holds an active event."""
    async with Rig(tmp_path, vtn.url, at=now, timeout_s=TIMEOUT_S) as rig:
        await rig.rested()
        vtn.add_event("held", now, HOUR_S, 1000.0)
        await rig.turn()
        assert vtn.opts == [("held", "optIn")]
        yield rig


async def assert_outlived(vtn: MeddledVtn, rig: Rig, now: datetime, trouble: str) -> None:
    """The next round fails for one stated reason, and the one after it brings a new event."""
    held = rig.record("held")
    registrations = vtn.count("oadrCreatePartyRegistration")
    vtn.add_event("meanwhile", now, HOUR_S, 2000.0)
    before = time.monotonic()
    await rig.turn()
    assert time.monotonic() - before < TIMEOUT_S + 2
    assert not vtn.meddling
    link = rig.ven.link()
    assert link.lost_since == rig.clock.now()
    assert trouble in link.trouble
    assert rig.record("held") == held
    await rig.turn()
    assert (rig.ven.link().lost_since, rig.ven.link().trouble) == (None, "")
    await until(lambda: ("meanwhile", "optIn") in vtn.opts)
    assert rig.record("held") == held
    assert vtn.count("oadrCreatePartyRegistration") == registrations


def answering(body: bytes) -> Meddling:
    async def meddle(request):
        return web.Response(body=body, content_type="application/xml")

    return meddle


@pytest.mark.parametrize("body", [b"", b" \r\n"])
async def test_v06_an_empty_answer_to_a_poll(vtn, rig, now, body):
    """openleadr's client dies of a TypeError in its polling job, at each poll."""
    vtn.meddling.append(answering(body))
    await assert_outlived(vtn, rig, now, "empty")


async def test_v07_a_vtn_that_hangs(vtn, rig, now):
    """openleadr's client waits for ten seconds and skips the polls that were due meanwhile."""

    async def hang(request):
        # Until the VEN goes; openleadr's server waits for its handlers when it stops.
        await until(lambda: request.transport is None or request.transport.is_closing())
        return web.Response()

    vtn.meddling.append(hang)
    await assert_outlived(vtn, rig, now, f"no whole answer within {TIMEOUT_S:g} s")


@pytest.mark.parametrize("start", [b"", b"<?xml version='1.0'?>"])
async def test_v07_a_vtn_that_trickles(vtn, rig, now, start):
    """openleadr's client, having no limit on the whole, polls never again while bytes come.

    aiohttp's socket times are real: what must hold is that the whole exchange ends with our timeout
    although each read of it succeeds.
    """

    async def trickle(request):
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(start)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.01)

    vtn.meddling.append(trickle)
    await assert_outlived(vtn, rig, now, f"no whole answer within {TIMEOUT_S:g} s")


async def test_v07_headers_that_trickle(vtn, rig, now):
    """Nor does openleadr's client limit how long the head of an answer may take."""

    async def trickle(request):
        request.transport.write(b"HTTP/1.1 200 OK\r\n")
        while not request.transport.is_closing():
            request.transport.write(b"X-A: b\r\n")
            await asyncio.sleep(0.01)
        return web.Response()

    vtn.meddling.append(trickle)
    await assert_outlived(vtn, rig, now, "")


async def test_v08_sixty_megabytes(vtn, rig, now):
    """openleadr's client reads and parses whatever length it is sent."""
    sent = 0

    async def pour(request):
        nonlocal sent
        response = web.StreamResponse()
        response.content_length = 60_000_000
        await response.prepare(request)
        while sent < 60_000_000:
            await response.write(b"x" * 65_536)
            sent += 65_536
        return response

    vtn.meddling.append(pour)
    await assert_outlived(vtn, rig, now, "more than 2000000 bytes")
    assert sent < 20_000_000  # what the sockets had taken by then


async def test_v08_retry_after_is_obeyed(vtn, rig, now):
    """openleadr's client ignores a 503 and its Retry-After, and goes on at its usual pace."""

    async def busy(request):
        return web.Response(status=503, headers={"Retry-After": "300"})

    vtn.meddling.append(busy)
    await assert_outlived(vtn, rig, now, "HTTP 503")
    # `assert_outlived` let the time pass that the VEN wanted to wait.
    assert (rig.clock.now() - now).total_seconds() >= 300


async def test_v08_polls_of_a_vtn_that_fails_become_rarer(vtn, rig, now):
    """openleadr's client polls a VTN in trouble at its usual pace for ever."""

    async def fail(request):
        request.transport.close()
        return web.Response()

    vtn.meddling.extend([fail] * 12)
    waits = []
    while vtn.meddling:
        await rig.turn()
        waits.append(rig.delay_s)
    for wait, base in zip(waits, [1, 2, 4, 8, 16, 32] + [60] * 6, strict=True):
        assert base / 2 <= wait <= base
    await rig.turn()
    assert (rig.ven.link().lost_since, rig.ven.link().trouble) == (None, "")
    assert rig.record("held").ended_by is None


@pytest.mark.parametrize(
    "body",
    [
        SEGFAULT,
        LAUGHS,
        wire.oadr_response().replace(b"?>", b"?><!DOCTYPE x [<!ENTITY e 'v'>]>", 1),
        wire.oadr_response().replace(b"?>", b"?><!DOCTYPE x SYSTEM 'file:///etc/passwd'>", 1),
    ],
    ids=["entity", "laughs", "in a sound message", "external"],
)
async def test_v09_a_document_type_with_an_entity(vtn, rig, now, body):
    """openleadr's client hands it to a parser with a schema, which ends the whole process (SIGSEGV)."""
    vtn.meddling.append(answering(body))
    await assert_outlived(vtn, rig, now, "document type")
