"""How bytes reach a VTN and come back: simple HTTP, TLS as the profile demands, everything bounded.

`Transport` is the seam: whatever wraps the exchange (XML signatures, for one) stands between it and
`vtn.Vtn`, and sees exactly the bytes that travel.
"""

import asyncio
import os
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol
from urllib.parse import urlsplit

import aiohttp

from agent.clock import Clock
from agent.errors import UnreachableError, WireError
from agent.openadr.settings import VenSettings
from agent.openadr.standing import LinkKeeper
from agent.openadr.tls import watched_context, why_refused

MAX_RETRY_AFTER_S = 3600.0
"""No VTN can ask us to stay away for longer than this."""
KEEP_ALIVE_S = 1.5
"""How long an idle connection is kept: for bursts, and less than servers do, so that none closes it
under a message."""
_CHUNK_BYTES = 65_536


class StatusError(UnreachableError):
    """The VTN, or something before it, answered with an HTTP status that means no."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


class BusyError(StatusError):
    """The VTN asked for patience."""

    def __init__(self, sentence: str, status: int, retry_after_s: float) -> None:
        super().__init__(sentence, status)
        self.retry_after_s = retry_after_s


class Transport(Protocol):
    """Carries one message to one service of a VTN and its answer back."""

    async def post(self, service: str, body: bytes) -> bytes:
        """The body of the answer, possibly empty. Raises `UnreachableError` or `WireError`."""

    async def close(self) -> None:
        """Let go of connections."""


class HttpTransport:
    """HTTP with a limit on the time of each exchange as a whole and on the length of its answer."""

    def __init__(self, settings: VenSettings, clock: Clock, link: LinkKeeper | None = None) -> None:
        """Read the TLS files; raises `ConfigError` when they cannot be used. Connects to nothing.

        `link` is told of certificates: when they expire, and when new ones cannot be used.
        """
        self._settings = settings
        self._clock = clock
        url = urlsplit(settings.vtn_url)
        self._vtn_host = settings.vtn_host or url.hostname or ""
        link = link or LinkKeeper(settings.name, settings.vtn_url, clock)
        self._tls = watched_context(settings, link) if url.scheme == "https" else None
        self._session: aiohttp.ClientSession | None = None

    async def post(self, service: str, body: bytes) -> bytes:
        """Send to `<vtn_url>/<service>` (2.0b rule 511) and read the answer."""
        url = f"{self._settings.vtn_url}/{service}"
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                return await self._exchange(url, body)
        except TimeoutError:
            raise UnreachableError(
                f"{url} gave no whole answer within {self._settings.timeout_s:g} s"
            ) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            refused = self._tls and why_refused(error, self._vtn_host, self._settings.ca)
            raise UnreachableError(f"{url}: {refused or reason_of(error)}") from error

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _exchange(self, url: str, body: bytes) -> bytes:
        if self._session is None:
            self._session = open_session()
        headers = {"Content-Type": "application/xml", "Accept-Encoding": "identity"}
        # A connection is used again under the context it was made with only.
        tls = True if self._tls is None else self._tls.current()
        async with self._session.post(
            url,
            data=body,
            headers=headers,
            allow_redirects=False,
            ssl=tls,
            server_hostname=self._settings.vtn_host or None,
        ) as response:
            self._witness(response.headers.get("Date"))
            if response.status != 200:
                raise self._refusal(url, response)
            if response.headers.get("Content-Encoding", "identity") != "identity":
                response.close()
                raise WireError(f"{url} answered compressed, which was not asked for")
            return await self._read(url, response)

    async def _read(self, url: str, response: aiohttp.ClientResponse) -> bytes:
        received = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
            received += chunk
            if len(received) > self._settings.max_bytes:
                response.close()
                raise WireError(f"{url} answered with more than {self._settings.max_bytes} bytes")
        return bytes(received)

    def _refusal(self, url: str, response: aiohttp.ClientResponse) -> StatusError:
        # A stranger's words: nothing that a terminal obeys, and no novel.
        reason = "".join(filter(str.isprintable, response.reason or ""))[:60]
        sentence = f"{url} answered HTTP {response.status} {reason}".rstrip()
        wait_s = self._retry_after_s(response.headers.get("Retry-After"))
        if wait_s is None:
            return StatusError(sentence, response.status)
        return BusyError(sentence, response.status, wait_s)

    def _retry_after_s(self, said: str | None) -> float | None:
        if said is None:
            return None
        if said.strip().isdecimal():
            wait_s = float(said)
        else:
            until = _http_date(said)
            if until is None:
                return None
            wait_s = (until - self._clock.now()).total_seconds()
        return min(max(0.0, wait_s), MAX_RETRY_AFTER_S)

    def _witness(self, said: str | None) -> None:
        at = None if said is None else _http_date(said)
        if at is not None:
            self._clock.witness(at)


def open_session() -> aiohttp.ClientSession:
    """A session that keeps connections for bursts only, and neither cookies nor deadlines of its own."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(keepalive_timeout=KEEP_ALIVE_S),
        timeout=aiohttp.ClientTimeout(total=None),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    )


def reason_of(error: Exception) -> str:
    """Why an exchange failed, in the system's words where it has any."""
    # Only of the plain kind: the numbers of its TLS relatives are not the system's.
    if type(error) is aiohttp.ClientConnectorError and (number := error.os_error.errno) is not None:
        return f"cannot connect: {os.strerror(number)}"
    return " ".join(str(error).split()) or type(error).__name__


def _http_date(said: str) -> datetime | None:
    try:
        at = parsedate_to_datetime(said)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
