"""JSON over HTTP: every exchange bounded in time and length, every refusal one sentence."""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from pydantic import ValidationError

from agent.clock import Clock
from agent.errors import UnreachableError, WireError
from agent.openadr.http import HttpTransport, open_session, reason_of
from agent.openadr.standing import LinkKeeper
from agent.openadr.tls import why_refused
from agent.openadr.v3.bulk import uncollected
from agent.openadr.v3.settings import Ven3Settings
from agent.openadr.v3.wire import WireProblem

Query = Sequence[tuple[str, str]]
MOST_WORDS = 200
MOST_REASON = 65_536
"""Bytes of a refusal beyond which it gives no reason."""
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class Http(HttpTransport):
    """Asks one server for JSON."""

    def __init__(self, settings: Ven3Settings, clock: Clock, link: LinkKeeper) -> None:
        """Read the TLS files; raises `ConfigError` when they cannot be used. Connects to nothing."""
        super().__init__(settings, clock, link)
        self._proxy = settings.proxy
        self.received_bytes = 0
        """Of all answers so far."""

    async def ask(
        self,
        method: str,
        url: str,
        *,
        query: Query = (),
        body: object = None,
        form: Mapping[str, str] | None = None,
        token: str | None = None,
    ) -> Any:
        """The JSON that is answered; None for an empty answer.

        Raises `StatusError` when the server refuses, `UnreachableError` when no whole answer came in
        time, and `WireError` when it is none.
        """
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        data: Any = form
        if body is not None:
            headers["Content-Type"] = "application/json"
            # Not as bytes: a report of thousands of intervals is to be sent in portions.
            data = BytesIO(json.dumps(body, allow_nan=False).encode())
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                received = await self._ask(method, url, query, data, headers)
        except TimeoutError:
            raise UnreachableError(
                f"{url} gave no whole answer within {self._settings.timeout_s:g} s"
            ) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            host = self._name_at(url) or urlsplit(url).hostname or ""
            refused = why_refused(error, host, self._settings.ca)
            raise UnreachableError(f"{url}: {refused or reason_of(error)}") from error
        return await asyncio.to_thread(_parse, url, received) if received else None

    def _name_at(self, url: str) -> str | None:
        """The name that whoever is there must have, where it is not the URL's host: tokens may be somebody
        else's to give.
        """
        at_vtn = urlsplit(url).hostname == urlsplit(self._settings.vtn_url).hostname
        return (self._settings.vtn_host or None) if at_vtn else None

    async def _ask(
        self, method: str, url: str, query: Query, data: Any, headers: Mapping[str, str]
    ) -> bytes:
        if self._session is None:
            self._session = open_session()
        async with self._session.request(
            method,
            url,
            params=list(query) or None,
            data=data,
            headers=headers,
            allow_redirects=False,
            proxy=self._proxy,
            ssl=True if self._tls is None else self._tls.current(),
            server_hostname=self._name_at(url),
        ) as response:
            self._witness(response.headers.get("Date"))
            if response.headers.get("Content-Encoding", "identity") != "identity":
                response.close()
                raise WireError(f"{url} answered compressed, which was not asked for")
            received = await self._read(url, response)
            self.received_bytes += len(received)
            if not 200 <= response.status < 300:
                refusal = self._refusal(f"{method} {url}", response)
                refusal.args = (f"{refusal}{_problem_in(received)}",)
                raise refusal
            return received


def _parse(url: str, received: bytes) -> Any:
    """Runs in a thread."""
    with uncollected():
        try:
            return _read(received.decode("utf-8-sig", "replace"))
        except (ValueError, RecursionError) as error:
            said = " ".join(str(error).split())[:MOST_WORDS]
            raise WireError(f"{url} answered with what is no JSON: {said}") from None


def _read(text: str) -> Any:
    document = json.loads(text, parse_int=_whole)
    if _SURROGATE.search(text) is None:
        return document
    # Halves of characters can neither be stored nor sent. They come as escapes only, and seldom alone.
    whole = json.dumps(document, ensure_ascii=False).encode(errors="replace")
    return json.loads(whole, parse_int=_whole)


def _whole(digits: str) -> int | float:
    """A whole number; one of thousands of digits is beyond any, and no reason to lose a page."""
    return int(digits) if len(digits) < 100 else float(digits)


def _problem_in(received: bytes) -> str:
    """What a refusal says of its reasons (RFC 7807, or RFC 6749 for tokens); empty when nothing usable."""
    if len(received) > MOST_REASON:
        return ""
    try:
        problem = WireProblem.model_validate_json(received)
    except ValidationError:
        return ""
    said = dict.fromkeys(
        text for text in (problem.title, problem.detail, problem.error, problem.description) if text
    )
    # A stranger's words: nothing that a terminal obeys, and no novel.
    text = "".join(filter(str.isprintable, ": ".join(said)))[:MOST_WORDS]
    return f": {text}" if text else ""
