"""Notifications by webhook: subscriptions at the VTN, and what comes in at the address they name."""

import asyncio
import contextlib
import gzip
import json
import logging
import socket
import ssl
from dataclasses import replace

import aiohttp
import pytest
from pydantic import ValidationError

from agent.core.link import Departure
from agent.credentials import credential_faults
from agent.openadr.iso8601 import format_time
from agent.openadr.v3 import webhook
from agent.openadr.v3.settings import Ven3Settings, WebhookSettings
from agent.openadr.v3.subscriptions import CHECK_S, REFUSED_S
from agent.web.settings import WebSettings
from tests.clock import NOON
from tests.openadr.pki import Authority
from tests.openadr.rig import PROGRAM, until
from tests.openadr.vtn import free_port
from tests.openadr3.conftest import CLIENT
from tests.openadr3.rig import Rig3

pytestmark = pytest.mark.openadr3
NEWEST = pytest.mark.parametrize("vtn", ["3.1.0"], indirect=True)


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
async def rig(vtn, tmp_path, authority):
    secret = tmp_path / "secret"
    secret.write_text(CLIENT[1])
    port = free_port()
    rig = Rig3(
        tmp_path,
        vtn.url,
        programs=(replace(PROGRAM, market_context="fast-dr"),),
        version=vtn.version,
        client_id=CLIENT[0],
        client_secret=secret,
        max_bytes=100_000,
        webhook=WebhookSettings(
            listen=f"127.0.0.1:{port}",
            url=f"https://localhost:{port}/grid",
            **authority.issue("localhost").files,
        ),
    )
    yield rig
    await rig.stop()


@pytest.fixture
async def visitor(authority):
    """A client that trusts our certificate."""
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=authority.ca))
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


def create(vtn, event_id="ev-1"):
    return vtn.event(
        event_id,
        intervalPeriod={"start": format_time(NOON), "duration": "PT1H"},
        intervals=[{"id": 0, "payloads": [{"type": "SIMPLE", "values": [2]}]}],
    )


def notification(document, operation="CREATE"):
    return {"objectType": "EVENT", "operation": operation, "object": document}


def subscriptions(vtn):
    return list(vtn.objects["subscriptions"].values())


def address_of(vtn):
    """Where the VTN is to post, and with which token."""
    operations = subscriptions(vtn)[0]["objectOperations"][0]
    return operations["callbackUrl"], operations["bearerToken"]


async def subscribed(rig, vtn):
    """Until there is a subscription, and the next notification would count at once."""
    await until(lambda: (held := rig.registrations.get("ven")) and held.subscriptions)
    await rig.rested()
    await passes(rig, 1)


async def passes(rig, delay_s):
    await rig.quiet()
    rig.clock.leap(delay_s)
    await rig.quiet()


async def comes(rig, delay_s, condition):
    """Until something is so, letting so much time pass again and again."""
    async with asyncio.timeout(20):
        while not condition():
            await passes(rig, delay_s)
            await asyncio.sleep(0.01)


async def post(visitor, vtn, data=b"{}", **headers):
    url, token = address_of(vtn)
    headers = {"Authorization": f"Bearer {token}", **headers}
    async with visitor.post(url, data=data, headers=headers) as response:
        await response.read()
        return response.status


@NEWEST
@pytest.mark.parametrize(
    "body",
    [
        lambda event: json.dumps(notification(event)),
        lambda event: json.dumps(notification(event, "POST")),
        lambda event: json.dumps(json.dumps(notification(event))),
        lambda event: json.dumps(notification({**event, "createdDateTime": "2027-03-04 11:00:00"})),
        lambda event: b"[" * 50_000,
        lambda event: b"\xff\x00 rubbish",
        lambda event: b"",
    ],
    ids=["plain", "3.0.1", "double-encoded", "spaced", "nested", "rubbish", "empty"],
)
async def test_a_notification_brings_the_event_at_once_whatever_it_says(rig, vtn, visitor, body):
    async with rig:
        await subscribed(rig, vtn)
        event = create(vtn)
        assert await post(visitor, vtn, body(event)) == 200
        await until(lambda: ("ven", "ev-1") in rig.book.records)
        assert (rig.ven.link().notifications, rig.ven.link().trouble) == (1, "")


async def test_what_a_notification_claims_is_not_believed(rig, vtn, visitor):
    async with rig:
        await subscribed(rig, vtn)
        forged = create(vtn)
        vtn.gone("ev-1")
        rounds = rig.rounds
        assert await post(visitor, vtn, json.dumps(notification(forged))) == 200
        await rig.rested(rounds + 1)
        assert not rig.book.records


async def test_a_restart_makes_no_second_subscription_and_gives_the_first_the_new_token(
    rig, vtn, visitor
):
    async with rig:
        await subscribed(rig, vtn)
        _, before = address_of(vtn)
        await rig.restart()
        await until(lambda: address_of(vtn)[1] != before)
        await subscribed(rig, vtn)
        assert len(subscriptions(vtn)) == 1
        assert await post(visitor, vtn, Authorization=f"Bearer {before}") == 401
        assert await post(visitor, vtn) == 200


@NEWEST
async def test_a_subscription_is_found_by_its_address_where_its_id_was_lost(rig, vtn):
    async with rig:
        await subscribed(rig, vtn)
        rig.registrations.put(replace(rig.registration, subscriptions=()))
        await rig.restart()
        await until(lambda: vtn.paths("PUT"))
        assert len(subscriptions(vtn)) == 1


async def test_who_leaves_is_subscribed_no_longer_and_who_returns_is_again(rig, vtn):
    async with rig:
        await subscribed(rig, vtn)
        rig.departure = Departure(rig.clock.now(), "kim", "moving out")
        rig.ven.wake()
        await until(lambda: not subscriptions(vtn))
        await rig.quiet()
        assert rig.registration.subscriptions == ()
        rig.departure = None
        rig.ven.wake()
        await until(lambda: subscriptions(vtn))


@NEWEST
async def test_who_left_and_whose_vtn_was_away_is_unsubscribed_when_it_is_back(rig, vtn):
    async def away(_):
        raise ConnectionResetError

    async with rig:
        await subscribed(rig, vtn)
        vtn.replies["subscriptions/*"] = away
        rig.departure = Departure(rig.clock.now(), "kim", "moving out")
        rig.ven.wake()
        await until(lambda: "does not know yet that we left" in rig.ven.link().trouble)
        vtn.replies.clear()
        await rig.turn()
        assert not subscriptions(vtn)


@NEWEST
async def test_a_webhook_that_is_not_configured_any_more_is_unsubscribed(rig, vtn):
    async with rig:
        await subscribed(rig, vtn)
        await rig.restart(webhook=None)
        await until(lambda: not subscriptions(vtn))


@NEWEST
async def test_a_subscription_to_an_address_of_before_is_replaced(rig, vtn):
    async with rig:
        await subscribed(rig, vtn)
        hook = rig.settings.webhook.model_copy(update={"url": "https://site.example.com/new"})
        await rig.restart(webhook=hook)
        await until(lambda: subscriptions(vtn) and address_of(vtn)[0] == hook.url)
        assert len(subscriptions(vtn)) == 1


@NEWEST
async def test_a_subscription_that_the_vtn_lost_is_made_anew(rig, vtn):
    async with rig:
        await subscribed(rig, vtn)
        vtn.objects["subscriptions"].clear()
        await comes(rig, CHECK_S, lambda: subscriptions(vtn))
        made = [s["id"] for s in subscriptions(vtn)]
        await until(lambda: list(rig.registration.subscriptions) == made)


@NEWEST
async def test_subscriptions_of_others_are_left_alone(rig, vtn):
    others = {"clientName": "ven", "objectOperations": []}
    vtn._put("subscriptions", "SUBSCRIPTION", "other", {**others, "clientID": "other"})
    async with rig:
        await subscribed(rig, vtn)
        assert len(subscriptions(vtn)) == 2
        await rig.restart(webhook=None)
        await until(lambda: len(subscriptions(vtn)) == 1)
        assert "other" in vtn.objects["subscriptions"]


@pytest.mark.parametrize("vtn", ["3.0.1"], indirect=True)
async def test_3_0_1_has_a_subscription_for_each_program(rig, vtn):
    async with rig:
        await subscribed(rig, vtn)
        vtn.program("q", programName="slow-dr")
        await rig.turn()
        await until(lambda: {s["programID"] for s in subscriptions(vtn)} == {"p", "q"})
        del vtn.objects["programs"]["q"]
        await rig.turn()
        await until(lambda: {s["programID"] for s in subscriptions(vtn)} == {"p"})


@NEWEST
@pytest.mark.parametrize("status", [403, 404, 501])
async def test_a_vtn_without_subscriptions_is_said_once_and_polls_go_on(rig, vtn, caplog, status):
    vtn.sloppy = True

    async def refuse(_):
        return aiohttp.web.json_response({"title": "No"}, status=status)

    vtn.replies["subscriptions"] = refuse
    async with rig:
        await until(lambda: "no notifications by webhook, polls go on" in rig.ven.link().trouble)
        for n in range(3):
            create(vtn, f"polled-{n}")
            await rig.turn()
            assert ("ven", f"polled-{n}") in rig.book.records
        await comes(rig, REFUSED_S, lambda: vtn.paths().count("subscriptions") > 1)
        assert sum("webhook" in r.message for r in caplog.records) == 1
        vtn.replies.clear()
        await comes(rig, REFUSED_S, lambda: not rig.ven.link().trouble)
        assert subscriptions(vtn)


@NEWEST
@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer wrong", "Basic {token}", "{token}", "Bearer {token}x"]
)
async def test_without_our_token_nothing_is_asked(rig, vtn, visitor, authorization, caplog):
    async with rig:
        await subscribed(rig, vtn)
        said = authorization.format(token=address_of(vtn)[1])
        rounds = rig.rounds
        for _ in range(2):
            assert await post(visitor, vtn, Authorization=said) == 401
        await passes(rig, 1)
        assert (rig.rounds, rig.ven.link().rejected) == (rounds, 2)
        assert sum("without our token" in r.message for r in caplog.records) == 1


@NEWEST
async def test_the_challenge_is_answered_and_nothing_else(rig, vtn, visitor):
    async with rig:
        await subscribed(rig, vtn)
        url, _ = address_of(vtn)
        for said in ("1234", "<script>", "ä %"):
            async with visitor.get(url, params={"echo": said}) as response:
                assert (response.status, await response.text()) == (200, said)
                assert response.content_type == "text/plain"
                assert response.headers["X-Content-Type-Options"] == "nosniff"
        for method, query in (("GET", {}), ("GET", {"echo": "x" * 2000}), ("PUT", {"echo": "x"})):
            async with visitor.request(method, url, params=query) as response:
                assert response.status == 405
        assert rig.ven.link().notifications == 0


@NEWEST
async def test_a_flood_is_a_round_now_and_then(rig, vtn, visitor):
    async with rig:
        await subscribed(rig, vtn)
        rounds = rig.rounds
        for _ in range(20):
            assert await post(visitor, vtn) == 200
        await rig.rested(rounds + 1)
        await asyncio.sleep(0.1)
        assert rig.rounds == rounds + 1
        rig.clock.leap(1)
        await rig.rested(rounds + 2)
        assert rig.rounds == rounds + 2


async def endless():
    while True:
        yield b"x" * 10_000
        await asyncio.sleep(0)


@NEWEST
@pytest.mark.parametrize("body", [lambda: b"x" * 200_000, endless], ids=["long", "endless"])
async def test_a_body_that_is_too_long_is_not_taken(rig, vtn, visitor, body):
    async with rig:
        await subscribed(rig, vtn)
        with contextlib.suppress(aiohttp.ClientError):  # Cut, while it was still talking.
            assert await post(visitor, vtn, body()) == 413
        assert await post(visitor, vtn) == 200


@NEWEST
async def test_a_body_is_not_unpacked(rig, vtn, visitor):
    packed = gzip.compress(bytes(50_000_000))
    async with rig:
        await subscribed(rig, vtn)
        assert await post(visitor, vtn, packed, **{"Content-Encoding": "gzip"}) == 200


HOSTILE = {
    "nothing": b"",
    "no TLS": b"POST / HTTP/1.1\r\n\r\n",
    "rubbish": b"\x16\x03\x01\xff\xff" + b"\xff" * 1000,
}


@NEWEST
@pytest.mark.parametrize("said", HOSTILE)
async def test_those_who_take_all_room_are_sent_away_in_time(
    rig, vtn, visitor, said, monkeypatch, caplog
):
    monkeypatch.setattr(webhook, "LONGEST_S", 0.5)
    caplog.set_level(logging.INFO)
    async with rig:
        await subscribed(rig, vtn)
        port = int(rig.settings.webhook.listen.rpartition(":")[2])
        caplog.clear()
        taken = [await asyncio.open_connection("127.0.0.1", port) for _ in range(40)]
        for _, writer in taken:
            writer.write(HOSTILE[said])
        create(vtn)
        await rig.turn()
        assert ("ven", "ev-1") in rig.book.records
        assert await post(visitor, vtn) == 200
        assert {r.name for r in caplog.records} <= {"aiohttp.access", "agent.openadr.events"}
        for _, writer in taken:
            writer.close()


@NEWEST
async def test_no_more_are_let_in_than_there_is_room_for(rig, vtn, visitor, monkeypatch):
    monkeypatch.setattr(webhook, "MOST_CONNECTIONS", 3)
    async with rig:
        await subscribed(rig, vtn)
        port = int(rig.settings.webhook.listen.rpartition(":")[2])
        taken = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await post(visitor, vtn)
        for _, writer in taken:
            writer.close()
        assert await post(visitor, vtn) == 200


@NEWEST
async def test_handshakes_are_begun_no_faster_than_they_can_be_afforded(rig, vtn, monkeypatch):
    monkeypatch.setattr(webhook, "LEAST_GAP_S", 0.1)
    begun_s = []

    async def visit(_, connection):
        begun_s.append(asyncio.get_running_loop().time())
        connection.close()

    async with rig:
        await subscribed(rig, vtn)
        monkeypatch.setattr(rig.ven._webhook, "_receive", visit)
        port = int(rig.settings.webhook.listen.rpartition(":")[2])
        taken = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
        await until(lambda: len(begun_s) == 5)
        assert begun_s[-1] - begun_s[0] >= 0.39
        for _, writer in taken:
            writer.close()


@NEWEST
async def test_what_is_no_http_is_cut_and_no_news(rig, vtn, visitor, authority, caplog):
    caplog.set_level(logging.INFO)
    async with rig:
        await subscribed(rig, vtn)
        port = int(rig.settings.webhook.listen.rpartition(":")[2])
        context = ssl.create_default_context(cafile=authority.ca)
        caplog.clear()
        for said in (b"\x00\xff\r\n\r\n", b"POST / HTTP/1.1\r\nA: " + b"x" * 100_000 + b"\r\n\r\n"):
            reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
            writer.write(said)
            assert b" 400 " in await reader.readline()
            writer.close()
        assert {r.name for r in caplog.records} <= {"aiohttp.access"}
        assert await post(visitor, vtn) == 200


@NEWEST
async def test_an_address_that_is_taken_is_said_and_tried_again(rig, vtn, visitor):
    host, _, port = rig.settings.webhook.listen.partition(":")
    with socket.create_server((host, int(port))):
        async with rig:
            await until(lambda: "address already in use" in rig.ven.link().trouble)
            assert "webhook.listen: cannot listen on 127.0.0.1:" in rig.ven.link().trouble
            create(vtn)
            await rig.turn()
            assert ("ven", "ev-1") in rig.book.records
            assert not subscriptions(vtn)
            await rig.stop()
    async with rig:
        await rig.restart()
        await subscribed(rig, vtn)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"listen": "0.0.0.0:9443"}, "needs cert and key; or listen on 127.0.0.1"),
        ({"listen": "here"}, "must be an IP address and a port"),
        ({"cert": "a.pem"}, "cert and key go together"),
        ({"url": "http://site.example.com/"}, "must be like https://site.example.com:9443/grid"),
        ({"url": "https://site.example.com:0/"}, "must be like https"),
        ({"url": "https://site.example.com/?a=b"}, "must be like https"),
        ({"port": 1}, "Extra inputs are not permitted"),
    ],
)
def test_settings_of_no_use_are_refused(fields, said):
    usable = {"listen": "127.0.0.1:9443", "url": "https://site.example.com/grid"}
    WebhookSettings(**usable)
    with pytest.raises(ValidationError, match=said):
        WebhookSettings(**{**usable, **fields})


def test_check_config_looks_at_its_certificate(tmp_path):
    hook = {
        "listen": "127.0.0.1:9443",
        "url": "https://site.example.com/grid",
        "cert": tmp_path / "cert.pem",
        "key": tmp_path / "key.pem",
    }
    ven = Ven3Settings(kind="openadr-3", name="grid", vtn_url="http://vtn/", webhook=hook)
    assert [f.partition(":")[0] for f in credential_faults([ven], WebSettings())] == [
        "ven[0].webhook.cert",
        "ven[0].webhook.key",
    ]
    for file in (hook["cert"], hook["key"]):
        file.write_text("none")
    assert list(credential_faults([ven], WebSettings())) == [
        f"ven grid: webhook.cert {hook['cert']} holds no certificate (PEM)"
    ]
