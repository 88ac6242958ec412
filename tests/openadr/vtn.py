"""VTNs to test against: one that follows a script, and openleadr's own server."""

import asyncio
import contextlib
import socket
import ssl
import sys
import warnings
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from aiohttp import web
from lxml import etree

from agent.errors import WireError
from agent.openadr.v20.xml import check_outgoing, child, children, local_name, text
from tests.openadr import wire
from tests.openadr.pki import Pair

PREFIX = "/OpenADR2/Simple/2.0b"
Reply = bytes | Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Received:
    """One message of the VEN's, known to be valid against the profile's schema."""

    service: str
    kind: str
    tree: Any

    def text(self, *path: str) -> str | None:
        return text(self.tree, *path)

    @property
    def event_answers(self) -> dict[str, tuple[int, str, str]]:
        """By event id: code, opt and requestID."""
        responses = child(self.tree, "eiCreatedEvent", "eventResponses")
        return {
            text(r, "qualifiedEventID", "eventID") or "": (
                int(text(r, "responseCode") or 0),
                text(r, "optType") or "",
                text(r, "requestID") or "",
            )
            for r in children(responses, "eventResponse")
        }

    @property
    def report_data(self) -> list[tuple[str, str, str, str]]:
        """Of an oadrUpdateReport: (rID, start, value, quality)."""
        data = []
        intervals = child(self.tree, "oadrReport", "intervals")
        for interval in children(intervals, "interval"):
            payload = child(interval, "oadrReportPayload")
            status = child(payload, "oadrPayloadResourceStatus")
            value = text(payload, "payloadFloat", "value")
            if status is not None:
                value = f"{text(status, 'oadrOnline')} {text(status, 'oadrManualOverride')}"
            data.append(
                (
                    text(payload, "rID") or "",
                    text(interval, "dtstart", "date-time") or "",
                    value or "",
                    text(payload, "oadrDataQuality") or "",
                )
            )
        return data

    @property
    def pending(self) -> list[str]:
        found = children(child(self.tree, "oadrPendingReports"), "reportRequestID")
        return [element.text for element in found]


class Recorder:
    """Keeps what a VEN sent, and whatever of it was not valid."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.faults: list[str] = []
        self._news = asyncio.Event()

    def take(self, service: str, body: bytes) -> Received:
        try:
            self._check(body)
        except WireError as error:
            self.faults.append(f"{error}: {body[:2000]!r}")
        message = self._message(body)
        received = Received(service, local_name(message), message)
        self.received.append(received)
        self._news.set()
        return received

    def _check(self, body: bytes) -> None:
        check_outgoing(body)

    def _message(self, body: bytes) -> Any:
        return child(etree.fromstring(body), "oadrSignedObject")[0]

    def of(self, kind: str) -> list[Received]:
        return [message for message in self.received if message.kind == kind]

    def count(self, kind: str) -> int:
        return len(self.of(kind))

    async def seen(self, kind: str, count: int = 1, timeout_s: float = 20.0) -> Received:
        """Wait until so many messages of a kind have come; the last of those."""
        try:
            async with asyncio.timeout(timeout_s):
                while self.count(kind) < count:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            kinds = [message.kind for message in self.received]
            raise AssertionError(f"no {kind} number {count} among {kinds}") from None
        return self.of(kind)[count - 1]


@dataclass
class ScriptedVtn(Recorder):
    """Answers as scripted, and sensibly where nothing is scripted."""

    port: int = 0
    script: dict[str, deque[Reply]] = field(default_factory=dict)
    """By the kind of message it answers: replies to give, once each."""
    events: tuple[str, ...] = ()
    """What an oadrRequestEvent is answered with."""
    report_requests: tuple[str, ...] = ()
    """What an oadrRegisterReport is answered with."""
    headers: dict[str, str] = field(default_factory=dict)
    prefix: str = PREFIX
    tls: ssl.SSLContext | None = None
    _runner: web.AppRunner | None = None

    def __post_init__(self) -> None:
        super().__init__()

    @property
    def url(self) -> str:
        base = "http://127.0.0.1" if self.tls is None else "https://localhost"
        return f"{base}:{self.port}{self.prefix}"

    def reply(self, kind: str, *replies: Reply) -> None:
        """Answer the next messages of a kind with these."""
        self.script.setdefault(kind, deque()).extend(replies)

    async def start(self) -> None:
        self.port = self.port or free_port()
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post(f"{self.prefix}/{{service}}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self.tls).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        received = self.take(request.match_info["service"], await request.read())
        queue = self.script.get(received.kind)
        reply = queue.popleft() if queue else self._default(received)
        if callable(reply):
            return await reply(request)
        return web.Response(body=reply, content_type="application/xml", headers=self.headers)

    def _default(self, received: Received) -> bytes:
        match received.kind:
            case "oadrCreatePartyRegistration":
                return wire.created_party_registration()
            case "oadrRegisterReport":
                return wire.registered_report(*self.report_requests)
            case "oadrUpdateReport":
                return wire.updated_report()
            case "oadrCreateOpt":
                return wire.created_opt(received.text("optID") or "")
            case "oadrCancelOpt":
                return wire.canceled_opt(received.text("optID") or "")
            case "oadrCancelPartyRegistration":
                return wire.canceled_party_registration()
            case "oadrQueryRegistration":
                return wire.created_party_registration(ven_id="", registration_id="")
            case "oadrRequestEvent":
                return wire.distribute_event(*self.events, request_id="list-1")
            case _:
                return wire.oadr_response()


class OpenLeadrVtn(Recorder):
    """openleadr's server, kept honest: it keeps its settings in class attributes."""

    def __init__(
        self,
        poll_s: float = 10.0,
        requests: dict[str, tuple[float, float]] | None = None,
        *,
        tls: Pair | None = None,
        ca: Path | None = None,
        signer: Pair | None = None,
        fingerprint: str = "",
        verify: bool = False,
    ):
        """`requests`: by measurement, sampling and reporting interval to ask for, s.

        With `tls` and `ca` it demands a certificate of that CA, the one with `fingerprint` from a
        registered VEN. It signs with `signer`, and with `verify` wants signatures by that VEN, too.
        """
        super().__init__()
        self.port = free_port()
        self.tls, self.ca, self.signer = tls, ca, signer
        self.fingerprint = fingerprint
        self.verify = verify
        self.seen_fingerprints: list[str | None] = []
        """Those of the certificates with which VENs registered."""
        self.poll_s = poll_s
        self.requests = requests or {}
        self.known = True
        """Whether it remembers VENs; one that does not asks them to register again."""
        self.values: list[tuple[str, Any, float]] = []
        """Telemetry: measurement, time and value, as delivered."""
        self.opts: list[tuple[str, str]] = []
        self.server: Any = None

    @property
    def url(self) -> str:
        base = "http://127.0.0.1" if self.tls is None else "https://localhost"
        return f"{base}:{self.port}{PREFIX}"

    async def start(self) -> None:
        from openleadr import OpenADRServer

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # aiohttp would have it use an AppKey
            self.server = OpenADRServer(
                vtn_id="myvtn",
                http_port=self.port,
                requested_poll_freq=timedelta(seconds=self.poll_s),
                ven_lookup=self._lookup,
                http_cert=self.tls and self.tls.cert,
                http_key=self.tls and self.tls.key,
                http_ca_file=self.ca,
                cert=self.signer and self.signer.cert,
                key=self.signer and self.signer.key,
                show_fingerprint=False,
                verify_message_signatures=self.verify,
            )
        self.server.add_handler("on_create_party_registration", self._register)
        self.server.add_handler("on_register_report", self._register_report)
        self.server.app.middlewares.append(self._record)
        await self.server.run()

    async def stop(self) -> None:
        from openleadr.service import VTNService

        if self.server is not None:
            await self.server.stop()
            self.server = None
        for name in ("ven_lookup", "fingerprint_lookup", "_create_message"):
            if name in vars(VTNService):
                delattr(VTNService, name)
        VTNService.verify_message_signatures = True
        if messaging := sys.modules.get("openleadr.messaging"):
            messaging.NONCE_CACHE.clear()

    async def restart(self, *, known: bool = True) -> None:
        """Come back without any memory of events and reports, perhaps not of VENs either."""
        await self.stop()
        self.known = known
        await self.start()

    def add_event(self, event_id: str, start: Any, duration_s: float, value: float, **more: Any):
        fields = {
            "ven_id": "ven-1",
            "event_id": event_id,
            "signal_name": "LOAD_DISPATCH",
            "signal_type": "setpoint",
            "market_context": wire.MARKET,
            "intervals": [
                {
                    "dtstart": start,
                    "duration": timedelta(seconds=duration_s),
                    "signal_payload": value,
                }
            ],
            "callback": self._opted,
        }
        self.server.add_event(**(fields | more))

    def modify(self, event_id: str, value: float) -> None:
        """Change an event's value; the server cannot do so itself."""
        event = next(
            e for e in self.server.events["ven-1"] if e.event_descriptor.event_id == event_id
        )
        event.event_signals[0].intervals[0]["signal_payload"] = value
        event.event_descriptor.modification_number += 1
        self.server.event_callbacks[event_id] = (event, self._opted)
        self.server.events_updated["ven-1"] = True

    async def _opted(self, ven_id: str, event_id: str, opt_type: str) -> None:
        self.opts.append((event_id, opt_type))

    async def _lookup(self, ven_id: str) -> dict[str, str] | None:
        known = {"ven_id": ven_id, "registration_id": "reg-1", "fingerprint": self.fingerprint}
        return known if self.known else None

    async def _register(self, payload: dict[str, Any]) -> tuple[str, str]:
        self.known = True
        self.seen_fingerprints.append(payload.get("fingerprint"))
        return "ven-1", "reg-1"

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
        if measurement not in self.requests:
            return None
        sampling_s, reporting_s = self.requests[measurement]

        async def deliver(data: Any) -> None:
            self.values += [(measurement, at, value) for at, value in data]

        return deliver, timedelta(seconds=sampling_s), timedelta(seconds=reporting_s)

    @web.middleware
    async def _record(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.take(request.path.rpartition("/")[2], await request.read())
        return await handler(request)


def free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def running(vtn: Any) -> AsyncIterator[Any]:
    """A VTN for the length of a test, which fails if the VEN sent it anything invalid."""
    await vtn.start()
    try:
        yield vtn
    finally:
        await vtn.stop()
    assert vtn.faults == []
