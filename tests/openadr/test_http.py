"""The transport: everything bounded, every failure one sentence."""

import asyncio
import contextlib
import datetime as dt
import time

import pytest
from aiohttp import web
from pydantic import ValidationError

from agent.errors import UnreachableError, WireError
from agent.openadr.http import BusyError
from agent.openadr.v20b.settings import Ven20bSettings
from tests.clock import NOON, FakeClock
from tests.openadr.bare import Client, Server
from tests.openadr.vtn import PREFIX

pytestmark = pytest.mark.openadr2


async def test_a_message_is_posted_to_its_service_and_the_date_is_witnessed():
    """2.0b rules 53 and 511."""
    seen = {}

    async def handler(request):
        seen.update(request.headers, path=request.path, body=await request.read())
        return web.Response(body=b"<y/>", headers={"Date": "Wed, 01 Jul 2026 12:00:07 GMT"})

    clock = FakeClock()
    async with Server(handler) as server:
        assert await server.post(clock) == b"<y/>"
    assert seen["path"] == f"{PREFIX}/OadrPoll"
    assert seen["Content-Type"] == "application/xml"
    assert seen["Content-Length"] == "4"
    assert seen["body"] == b"<x/>"
    assert clock.witnessed == [NOON + dt.timedelta(seconds=7)]


@pytest.mark.parametrize(
    "said", ["Fri, 31 Dec 9999 23:59:59 -2359", "Fri, 31 Dec 99999 00:00:00 GMT", "yesterday", ""]
)
async def test_a_date_that_cannot_be_is_no_witness(said):
    async def handler(_):
        return web.Response(body=b"<y/>", headers={"Date": said})

    clock = FakeClock()
    async with Server(handler) as server:
        assert await server.post(clock) == b"<y/>"
    assert clock.witnessed == []


async def test_a_servers_words_reach_people_harmless_and_short():
    async def handler(_):
        return web.Response(status=500, reason="\x1b[31mno" + 5_000 * "!")

    async with Server(handler) as server:
        with pytest.raises(UnreachableError) as caught:
            await server.post()
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 200


async def test_v8_an_endless_answer_is_cut_off_at_the_limit():
    sent = 0

    async def handler(request):
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65_536)
            sent += 65_536

    async with Server(handler) as server:
        with pytest.raises(WireError, match="more than 20000 bytes"):
            await server.post(max_bytes=20_000)
    assert sent < 20_000_000


async def test_v7_a_trickle_is_cut_off_by_the_time_of_the_whole():
    async def handler(request):
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.01)

    async with Server(handler) as server:
        before = time.monotonic()
        with pytest.raises(UnreachableError, match=r"no whole answer within 0\.3 s"):
            await server.post(timeout_s=0.3)
        assert time.monotonic() - before < 2


async def test_v7_a_server_that_hangs_is_given_up():
    async def handler(request):
        await asyncio.sleep(30)

    async with Server(handler) as server:
        with pytest.raises(UnreachableError, match=r"no whole answer within 0\.2 s"):
            await server.post(timeout_s=0.2)


@pytest.mark.parametrize(
    ("said", "wait_s"),
    [
        ("7", 7),
        ("Wed, 01 Jul 2026 12:02:00 GMT", 120),
        ("99999999", 3600),
        ("-1", None),
        ("?", None),
    ],
)
async def test_v8_retry_after_is_heard(said, wait_s):
    async def handler(request):
        return web.Response(status=503, headers={"Retry-After": said})

    async with Server(handler) as server:
        with pytest.raises(UnreachableError, match="HTTP 503 Service Unavailable") as caught:
            await server.post()
    heard = caught.value.retry_after_s if isinstance(caught.value, BusyError) else None
    assert heard == wait_s


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 500, 502])
async def test_any_other_status_is_no_answer(status):
    async def handler(request):
        return web.Response(
            status=status, body=b"<x/>", headers={"Location": "http://evil.example/"}
        )

    async with Server(handler) as server:
        with pytest.raises(UnreachableError, match=f"HTTP {status}"):
            await server.post()


async def test_a_compressed_answer_is_refused():
    async def handler(request):
        return web.Response(body=b"\x1f\x8b" + bytes(100), headers={"Content-Encoding": "gzip"})

    async with Server(handler) as server:
        with pytest.raises(WireError, match="compressed"):
            await server.post()


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n<y/>",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<y/>",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n<y/>",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\nZ\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 4\r\n\r\n<y/>",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
        b"HTTP/1.1 999 \x1b[31mno\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000,
        b"HTTP/9.9 200 OK\r\n\r\n\x00\x00",
    ],
)
async def test_what_is_no_http_is_one_sentence(said):
    async def say(reader, writer):
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"<x/>")
            writer.write(said)
            await writer.drain()
        writer.close()

    client = Client()
    async with await asyncio.start_server(say, "127.0.0.1", 0) as server:
        client.port = server.sockets[0].getsockname()[1]
        with pytest.raises((UnreachableError, WireError)) as caught:
            await client.post(timeout_s=1.0)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


async def test_a_connection_that_is_cut_or_refused_is_one_sentence():
    async def handler(request):
        request.transport.close()

    async with Server(handler) as server:
        with pytest.raises(UnreachableError) as caught:
            await server.post()
        port = server.port
    assert str(port) in str(caught.value)
    with pytest.raises(UnreachableError, match=str(port)) as caught:
        await server.post()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"vtn_url": "vtn.example"}, "must be like https"),
        ({"vtn_url": "ftp://vtn.example"}, "must be like https"),
        ({"cert": "/a"}, "cert and key go together"),
        ({"sign_cert": "/a"}, "sign_cert and sign_key go together"),
        ({"sign": True}, "sign needs cert and key, or sign_cert and sign_key"),
        ({"vtn_fingerprint": "AA:BB"}, "is no fingerprint"),
        ({"vtn_fingerprint": 7}, "valid tuple"),
        ({"replay_window_s": 0}, "greater than 0"),
        ({"report_min_s": 60, "report_max_s": 30}, "must not exceed"),
        ({"colour": "blue"}, "Extra inputs"),
        ({"timeout_s": 0}, "greater than 0"),
        ({"kind": "openadr-3"}, "openadr-2.0b"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, why):
    fields = {"kind": "openadr-2.0b", "name": "ven", "vtn_url": "https://vtn.example/b/"}
    assert Ven20bSettings(**fields).vtn_url == "https://vtn.example/b"
    assert Ven20bSettings(**fields).label == "ven"
    assert Ven20bSettings(**fields, ven_name="GPU hall").label == "GPU hall"
    with pytest.raises(ValidationError, match=why):
        Ven20bSettings(**(fields | changes))
