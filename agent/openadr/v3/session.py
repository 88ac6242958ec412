"""One connection to an MQTT broker, bounded where its client bounds nothing.

aiomqtt reads whatever a broker sends, as fast and as much as that may be, and leaves its socket open
where a connection fails half-way; both are seen to here.
"""

import asyncio
import contextlib
import logging
import ssl
import tempfile
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import aiomqtt
from aiomqtt.exceptions import MqttConnectError

from agent.clock import Clock
from agent.openadr.tls import tls_context, why_refused
from agent.openadr.v3.settings import Ven3Settings
from agent.openadr.v3.wire import WireMqtt

TIMEOUT_S = 10.0
KEEP_ALIVE_S = 30
WINDOW_S = 600.0
"""A broker may send so many bytes at once, and as many again within this time."""
LEAST_COST = 1000
"""What each read counts for at least, so that many small messages come to much, too."""
_PORTS = {"mqtt": 1883, "tcp": 1883, "mqtts": 8883, "ssl": 8883, "tls": 8883}
_ENCRYPTED = ("mqtts", "ssl", "tls")
_REFUSED = 0x80
_UNAUTHORISED = (134, 135)
"""Bad user name or password, not authorised: reason codes of MQTT 5, to which those of 3.1.1 are mapped."""
_silent = logging.getLogger(__name__)
_silent.disabled = True


class BrokerError(Exception):
    """A broker is of no use; the text is one sentence that names it."""

    unauthorised = False


@dataclass(frozen=True, slots=True)
class Access:
    """How to connect to a broker."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    ca: Path | None = None
    username: str | None = None
    token: str | None = None


async def access_to(
    binding: WireMqtt,
    attempt: int,
    settings: Ven3Settings,
    token: Callable[[], Awaitable[str | None]],
) -> Access:
    """What a VTN says of its broker as a way to it; further attempts take further addresses in turn.

    Raises `BrokerError` where that is of no use to us, `WireError` where no token is to be had.
    """
    url = binding.urls[attempt % len(binding.urls)]
    scheme, host, port = _parts_of(url)
    encrypted = scheme in _ENCRYPTED
    context = await asyncio.to_thread(_context, binding, settings) if encrypted else None
    if binding.method != "OAUTH2BEARERTOKEN":
        return Access(host, port, context, settings.ca)
    if not encrypted and settings.vtn_url.startswith("https:"):
        raise BrokerError(f"the broker {host} wants our token sent unencrypted: it is not")
    username = (binding.username or "{clientID}").replace("{clientID}", settings.client_id or "")
    return Access(host, port, context, settings.ca, username, await token())


def _parts_of(url: str) -> tuple[str, str, int]:
    """Scheme, host and port."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS[parts.scheme]
        if parts.hostname:
            return parts.scheme, parts.hostname, port
    except (ValueError, KeyError):
        pass
    raise BrokerError(f"the broker's address {url[:100]!r} is of no kind that we know")


def _context(binding: WireMqtt, settings: Ven3Settings) -> ssl.SSLContext:
    """Runs in a thread."""
    context = tls_context(settings)
    if binding.method != "CERTIFICATE":
        return context
    try:
        if binding.ca:
            context.load_verify_locations(cadata=binding.ca)
        # OpenSSL takes these from files only.
        with tempfile.TemporaryDirectory() as directory:
            cert, key = Path(directory, "cert.pem"), Path(directory, "key.pem")
            cert.write_text(binding.cert)
            key.touch(0o600)
            key.write_text(binding.key)
            context.load_cert_chain(cert, key, password="")
    except (OSError, ssl.SSLError, ValueError) as error:
        raise BrokerError(
            f"the certificate that the VTN gave us for its broker is unusable: {error}"
        ) from error
    return context


@contextlib.asynccontextmanager
async def listening(
    access: Access, topics: Sequence[str], most_bytes: int, clock: Clock
) -> AsyncIterator[AsyncIterator[aiomqtt.Message]]:
    """Connect, subscribe, and give what comes. Raises `BrokerError`, also while that is awaited."""
    client = _BoundedClient(access, most_bytes, clock)
    try:
        await client.open()
        codes = await client.subscribe([(topic, 1) for topic in topics])
        if all(_code(code) >= _REFUSED for code in codes):
            raise BrokerError(f"the broker {access.host} lets us subscribe to nothing")
        yield client.messages.__aiter__()
    except (aiomqtt.MqttError, OSError, ValueError) as error:
        raise client.fault(error) from error
    finally:
        client.shut()


class _BoundedClient(aiomqtt.Client):
    def __init__(self, access: Access, most_bytes: int, clock: Clock) -> None:
        super().__init__(
            access.host,
            access.port,
            username=access.username,
            password=access.token,
            tls_context=access.tls,
            timeout=TIMEOUT_S,
            keepalive=KEEP_ALIVE_S,
            logger=_silent,
            # One that waits says as much as a thousand; those behind it are dropped.
            max_queued_incoming_messages=1,
        )
        self._access = access
        self._clock = clock
        self._excess = ""
        self._most_bytes = self._left_bytes = float(most_bytes)
        self._read_at_s = clock.instant().boot_s
        self._recv = self._client._sock_recv
        self._client._sock_recv = self._receive  # type: ignore[method-assign,assignment]

    async def open(self) -> None:
        """Connect. Also when cancelled, what was begun in a thread is ended."""
        entering = asyncio.ensure_future(self.__aenter__())
        try:
            await asyncio.shield(entering)
        except asyncio.CancelledError:
            await asyncio.wait([entering])
            raise

    def shut(self) -> None:
        """Take leave and close the socket, however far the connection came."""
        self._client.disconnect()
        for future in (self._connected, self._disconnected):
            if future.done() and not future.cancelled():
                future.exception()  # Somebody looked: asyncio need not complain.

    def fault(self, error: Exception) -> BrokerError:
        """What went wrong, in a sentence."""
        host = self._access.host
        # aiomqtt gives the text of what happened at best, and that there was something.
        cause = error.__context__ or error
        traceback.clear_frames(cause.__traceback__)  # They hold the socket of a failed handshake.
        refused = why_refused(cause, host, self._access.ca) if self._access.tls else None
        why = refused or self._excess or " ".join(str(cause).split()) or type(cause).__name__
        fault = BrokerError(f"the broker {host}: {why.replace('the VTN', 'the broker')}")
        if isinstance(error, MqttConnectError):
            fault.unauthorised = _code(error.rc) in _UNAUTHORISED
        return fault

    def _receive(self, size: int) -> bytes:
        """What was read from the socket; an `OSError`, upon which it is closed, when it becomes too much."""
        received = self._recv(min(size, 65_536))
        now_s = self._clock.instant().boot_s
        refill = self._most_bytes * (now_s - self._read_at_s) / WINDOW_S
        self._read_at_s = now_s
        self._left_bytes = min(self._most_bytes, self._left_bytes + refill)
        self._left_bytes -= max(len(received), LEAST_COST)
        if self._left_bytes < 0:
            self._excess = f"it sends more than {self._most_bytes:.0f} bytes"
            raise ConnectionError(self._excess)
        return received


def _code(reason: object) -> int:
    """A reason code as a number, whichever way aiomqtt has it."""
    return int(getattr(reason, "value", reason))  # type: ignore[call-overload,no-any-return]
