"""Notifications by MQTT: through a real mosquitto, and from brokers that are none."""

import asyncio
import json
import logging
import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from agent.core.link import Departure
from agent.openadr.iso8601 import format_time
from agent.openadr.v3 import session
from agent.openadr.v3.broker import ASK_AGAIN_S
from agent.openadr.v3.session import BrokerError, access_to
from agent.openadr.v3.wire import WireMqtt
from tests.clock import NOON, FakeClock
from tests.openadr.pki import Authority
from tests.openadr.rig import PROGRAM, until
from tests.openadr3.conftest import CLIENT
from tests.openadr3.mosquitto import Mosquitto
from tests.openadr3.rig import Rig3
from tests.openadr3.vtn import ScriptedVtn3, serving
from tests.requirement import missing

pytestmark = [pytest.mark.openadr3, pytest.mark.interop]
EVENTS = "vens/v2/events/create"


@pytest.fixture
async def vtn():
    async with serving(ScriptedVtn3(client=CLIENT)) as scripted:
        scripted.program()
        yield scripted


@pytest.fixture
async def broker(tmp_path, vtn):
    mosquitto = Mosquitto(tmp_path)
    await mosquitto.start()
    vtn.mqtt = mosquitto.binding()
    yield mosquitto
    mosquitto.kill()


@pytest.fixture
async def rig(vtn, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text(CLIENT[1])
    rig = Rig3(
        tmp_path,
        vtn.url,
        programs=(replace(PROGRAM, market_context="fast-dr"),),
        client_id=CLIENT[0],
        client_secret=secret,
        mqtt="auto",
    )
    yield rig
    await rig.stop()


def create(vtn, event_id="ev-1"):
    return vtn.event(
        event_id,
        intervalPeriod={"start": format_time(NOON), "duration": "PT1H"},
        intervals=[{"id": 0, "payloads": [{"type": "SIMPLE", "values": [2]}]}],
    )


def notification(document, operation="CREATE"):
    return {"objectType": "EVENT", "operation": operation, "object": document}


async def listens(rig, rounds=2):
    """Until it listens, which has it poll once more, and would take the next notification at once."""
    await rig.rested(rounds)
    rig.clock.leap(1)
    await rig.quiet()


async def passes(rig, delay_s):
    """Let so much time pass, whatever sleeps, and the VEN do what there then is to do."""
    await rig.quiet()
    rig.clock.leap(delay_s)
    await rig.quiet()


def said_of_mqtt(caplog):
    return [r.message for r in caplog.records if "MQTT" in r.message]


@pytest.mark.parametrize(
    "body",
    [
        notification,
        lambda event: notification(event, "POST"),
        lambda event: notification(event, "no operation at all"),
        lambda event: json.dumps(notification(event)),
        lambda event: notification({**event, "createdDateTime": "2027-03-04 11:00:00"}),
        lambda event: b"\xff\x00 rubbish",
        lambda event: b"",
    ],
    ids=["plain", "3.0.1", "unknown", "double-encoded", "spaced", "rubbish", "empty"],
)
async def test_a_notification_brings_the_event_at_once_whatever_it_says(rig, vtn, broker, body):
    async with rig:
        await listens(rig)
        event = create(vtn)
        await broker.publish(EVENTS, body(event))
        await until(lambda: ("ven", "ev-1") in rig.book.records)
        assert rig.ven.link().trouble == ""
        assert rig.ven.link().notifications == 1


async def test_all_topics_that_concern_us_are_listened_to(rig, vtn, broker):
    async with rig:
        await listens(rig)
        rounds = rig.rounds
        for topic in ("vens/v2/programs/update", "programs/create", "programs/p/events/delete"):
            await broker.publish(topic, {})
            rounds += 1
            await rig.rested(rounds)
            await passes(rig, 1)
        await broker.publish("programs/q/events/create", {})
        await asyncio.sleep(0.2)
        assert rig.rounds == rounds


async def test_the_events_of_a_new_program_are_listened_to_as_soon_as_it_is_known(rig, vtn, broker):
    async with rig:
        await listens(rig)
        vtn.program("q", programName="slow-dr")
        await rig.turn()
        await until(lambda: "notifiers/mqtt/topics/programs/q/events" in vtn.paths())
        await rig.turn(1)
        rounds = rig.rounds
        await passes(rig, 1)
        await broker.publish("programs/q/events/create", {})
        await rig.rested(rounds + 1)


async def test_a_flood_of_notifications_is_a_round_now_and_then(rig, vtn, broker):
    async with rig:
        await listens(rig)
        rounds = rig.rounds
        for _ in range(50):
            await broker.publish(EVENTS, {})
        await rig.rested(rounds + 1)
        await asyncio.sleep(0.1)
        assert rig.rounds == rounds + 1
        rig.clock.leap(1)
        await rig.rested(rounds + 2)
        assert rig.rounds == rounds + 2


async def test_a_broker_that_is_killed_is_said_once_and_polls_go_on(rig, vtn, broker, caplog):
    caplog.set_level(logging.INFO)
    async with rig:
        await listens(rig)
        broker.kill()
        await until(lambda: "MQTT" in rig.ven.link().trouble)
        for n in range(5):
            create(vtn, f"polled-{n}")
            await rig.turn()
            assert ("ven", f"polled-{n}") in rig.book.records
        assert len(said_of_mqtt(caplog)) == 1
        create(vtn, "missed")
        await broker.start()

        async def hears():
            while rig.ven.link().trouble:
                await asyncio.sleep(0.05)
                rig.clock.leap(5)

        await asyncio.wait_for(hears(), 20)
        await until(lambda: ("ven", "missed") in rig.book.records)
        assert len(said_of_mqtt(caplog)) == 2


@pytest.mark.long
async def test_a_broker_that_falls_silent_is_noticed_and_polls_go_on(rig, vtn, broker, monkeypatch):
    monkeypatch.setattr(session, "KEEP_ALIVE_S", 1)
    async with rig:
        await listens(rig)
        broker.freeze()
        create(vtn)
        await rig.turn()
        assert ("ven", "ev-1") in rig.book.records
        await until(lambda: "MQTT" in rig.ven.link().trouble)


# As openleadr-rs writes it, and as the document does.
@pytest.mark.parametrize("method", ["OAUTH2BEARERTOKEN", "OAUTH2_BEARER_TOKEN"])
async def test_a_token_that_the_broker_refuses_is_renewed(rig, vtn, tmp_path, method):
    passwd = shutil.which("mosquitto_passwd") or missing("mosquitto", "no mosquitto_passwd")
    passwords = tmp_path / "passwords"
    passwords.touch()
    # The VTN's first is token-1, then it numbers our ven and resource objects.
    admit = [passwd, "-b", str(passwords), CLIENT[0], "token-4"]
    await asyncio.to_thread(subprocess.run, admit, check=True)
    broker = Mosquitto(tmp_path, "allow_anonymous false", f"password_file {passwords}")
    await broker.start()
    vtn.mqtt = broker.binding(method, username="{clientID}")
    vtn.sloppy = method == "OAUTH2BEARERTOKEN"
    try:
        async with rig:
            await until(lambda: "the broker localhost" in rig.ven.link().trouble)
            assert "Not authorized" in rig.ven.link().trouble
            await passes(rig, 2)
            await until(lambda: not rig.ven.link().trouble)
            assert list(vtn.tokens) == ["token-1", "token-4"]
    finally:
        broker.kill()


async def test_it_listens_over_tls_with_the_certificate_that_the_vtn_gives(rig, vtn, tmp_path):
    authority = Authority(tmp_path)
    server, client = authority.issue("localhost"), authority.issue("ven")
    broker = Mosquitto(
        tmp_path,
        f"cafile {authority.ca}",
        f"certfile {server.cert}",
        f"keyfile {server.key}",
        "require_certificate true",
        "use_identity_as_username true",
    )
    await broker.start()
    texts = {
        "caCert": authority.ca.read_text(),
        "clientCert": client.cert.read_text(),
        "clientKey": client.key.read_text(),
    }
    vtn.mqtt = broker.binding("CERTIFICATE", "mqtts", **texts)
    try:
        async with rig:
            await listens(rig)
            assert rig.ven.link().trouble == ""
    finally:
        broker.kill()


# paho-mqtt closes no socket whose handshake failed.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
async def test_a_broker_whose_certificate_is_not_to_be_trusted_is_left(rig, vtn, tmp_path):
    server = Authority(tmp_path).issue("localhost")
    broker = Mosquitto(
        tmp_path, "allow_anonymous true", f"certfile {server.cert}", f"keyfile {server.key}"
    )
    await broker.start()
    vtn.mqtt = broker.binding(scheme="mqtts")
    try:
        async with rig:
            await until(lambda: rig.ven.link().trouble)
            assert "the broker's certificate is not from a CA in the system list" in (
                rig.ven.link().trouble
            )
    finally:
        broker.kill()


async def test_no_token_goes_over_an_open_line(rig):
    binding = WireMqtt.model_validate(
        {"URIS": ["mqtt://broker"], "authentication": {"method": "OAUTH2_BEARER_TOKEN"}}
    )
    settings = rig.settings.model_copy(update={"vtn_url": "https://vtn.example.com"})

    async def token():
        raise AssertionError

    with pytest.raises(BrokerError, match="unencrypted"):
        await access_to(binding, 0, settings, token)


@pytest.mark.parametrize("wanted", ["auto", True])
async def test_a_vtn_without_a_broker_is_trouble_only_where_one_was_wanted(rig, vtn, wanted):
    await rig.restart(mqtt=wanted)
    await rig.rested()
    await until(lambda: "notifiers" in vtn.paths())
    await passes(rig, 10)
    assert ("the VTN has no broker" in rig.ven.link().trouble) == (wanted is True)
    await passes(rig, 60)
    assert vtn.paths().count("notifiers") == 1
    await passes(rig, ASK_AGAIN_S)
    await until(lambda: vtn.paths().count("notifiers") == 2)


async def test_3_0_1_is_asked_for_none(tmp_path):
    async with serving(ScriptedVtn3("3.0.1")) as vtn:
        async with Rig3(tmp_path, vtn.url, version="3.0.1", mqtt="auto") as rig:
            await rig.turn()
        assert "notifiers" not in vtn.paths()


CONNACK, SUBACK = b"\x20\x02\x00\x00", b"\x90\x07\x00\x01\x01\x01\x01\x01\x01"


def said(size):
    """The head of a notification of so many bytes."""
    lengths = []
    while size:
        size, digit = divmod(size, 128)
        lengths.append(digit | (128 if size else 0))
    return b"\x30" + bytes(lengths)


class FalseBroker:
    """Says what a test has it say, to whoever connects, for as long as that is taken."""

    def __init__(self, *chunks, again=b""):
        self.chunks, self.again = chunks, again
        self.sent = self.met = self.open = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.binding = {
            "URIS": [f"tcp://127.0.0.1:{port}"],
            "serialization": "JSON",
            "authentication": {"method": "ANONYMOUS"},
        }
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _answer(self, reader, writer):
        self.met += 1
        self.open += 1
        try:
            for chunk in self.chunks:
                await reader.read(1000)
                writer.write(chunk)
            while self.again:
                writer.write(self.again)
                self.sent += len(self.again)
                await writer.drain()
            await reader.read()
        except OSError:
            pass
        finally:
            self.open -= 1
            writer.close()


RUBBISH = {
    "rubbish at once": FalseBroker(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 50),
    "rubbish later": FalseBroker(CONNACK, b"\xf7\xff\xff\xff\xff\xff\xff"),
    "a broken message": FalseBroker(CONNACK, SUBACK + b"\x30\x02\xff\xff"),
    "no text for a topic": FalseBroker(CONNACK, SUBACK + b"\x30\x04\x00\x02\xff\xfe"),
    "nothing granted": FalseBroker(CONNACK, b"\x90\x07\x00\x01\x80\x80\x80\x80\x80"),
    "one without end": FalseBroker(CONNACK, SUBACK + said(250_000_000), again=b"x" * 65_536),
    "a flood": FalseBroker(CONNACK, SUBACK, again=(said(7) + b"\x00\x01t1234") * 5_000),
}

WHY = {
    "nothing granted": "the broker 127.0.0.1 lets us subscribe to nothing",
    "one without end": "the broker 127.0.0.1: it sends more than 1000000 bytes",
    "a flood": "the broker 127.0.0.1: it sends more than 1000000 bytes",
}


@pytest.mark.parametrize("what", RUBBISH)
async def test_a_hostile_broker_costs_nothing(rig, vtn, what, monkeypatch):
    monkeypatch.setattr(session, "TIMEOUT_S", 1.0 if what in WHY else 0.2)
    broker = RUBBISH[what]
    async with broker, rig:
        await rig.rested()
        vtn.mqtt = broker.binding
        vtn.objects["programs"]["q"] = {**vtn.objects["programs"]["p"], "id": "q"}
        await rig.restart(max_bytes=1_000_000)
        await until(lambda: broker.met and "MQTT" in rig.ven.link().trouble)
        await until(lambda: not broker.open)
        assert broker.sent < 8_000_000
        assert re.search(WHY.get(what, "the broker 127.0.0.1"), rig.ven.link().trouble)
        create(vtn)
        await rig.turn()
        assert ("ven", "ev-1") in rig.book.records


async def test_a_broker_that_never_answers_is_let_go(rig, vtn, monkeypatch):
    monkeypatch.setattr(session, "TIMEOUT_S", 0.3)
    async with FalseBroker() as broker:
        vtn.mqtt = broker.binding
        async with rig:
            await until(lambda: "MQTT" in rig.ven.link().trouble)
            await until(lambda: not broker.open)


async def test_who_leaves_listens_no_longer_and_who_returns_does_again(rig, vtn):
    async with FalseBroker(CONNACK, SUBACK) as broker:
        vtn.mqtt = broker.binding
        async with rig:
            await until(lambda: broker.open)
            rig.departure = Departure(rig.clock.now(), "kim", "moving out")
            rig.ven.wake()
            await until(lambda: not broker.open)
            asked = len(vtn.asked)
            await passes(rig, 2 * ASK_AGAIN_S)
            assert (len(vtn.asked), broker.open) == (asked, 0)
            rig.departure = None
            rig.ven.wake()
            await until(lambda: broker.open)


async def test_a_session_ends_with_the_ven(rig, vtn, broker):
    async with rig:
        await listens(rig)
    tasks = [t for t in asyncio.all_tasks() if "misc" in repr(t) or "listen" in repr(t)]
    await until(lambda: all(t.done() for t in tasks))


def test_the_bound_holds_for_the_client_that_is_installed():
    """It stands on names that are the client's own."""

    async def look():
        client = session._BoundedClient(session.Access("localhost", 1), 1000, FakeClock())
        assert client._client._sock_recv == client._receive
        client.shut()

    asyncio.run(look())
