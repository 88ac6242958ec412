"""The HTTP server: page, read-only API, server-sent events, metrics, health. It changes nothing."""

import asyncio
import base64
import binascii
import hmac
import ipaddress
import json
import os
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.registry import Collector

from agent.core.sample import Sample
from agent.errors import ConfigError
from agent.fields import split_address
from agent.telemetry.plain import View
from agent.web import assets
from agent.web.credentials import read_token, server_tls
from agent.web.settings import WebSettings

Events = Callable[[str | None], Awaitable[list[View]]]
Samples = Callable[[datetime, datetime], Awaitable[tuple[Sample, ...]]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

ALIVE_FOR = timedelta(seconds=30)
"""A control loop that has completed no cycle for this long is not alive. As long as the service's
watchdog waits, and longer than a driver that does not answer makes a cycle last."""
MOST_CONNECTIONS = 128
"""At a time: far fewer than there are file descriptors, which the rest of the agent needs."""
HANDSHAKE_S = 10.0
CHART_POINTS = 3600
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class WebServer:
    """Serves the last view that was shown to it."""

    def __init__(
        self,
        settings: WebSettings,
        metrics: Collector,
        events: Events,
        samples: Samples,
        now: Callable[[], datetime],
    ) -> None:
        """`events` gives all events, or those with one id; `samples` the kept ones of a stretch.

        Raises `ConfigError` when the token or the certificate cannot be used.
        """
        self._settings = settings
        self._events_of = events
        self._samples = samples
        self._now = now
        self._registry = CollectorRegistry()
        self._registry.register(metrics)
        self._view: View | None = None
        self._shown_at = datetime.min.replace(tzinfo=UTC)
        self._document = b""
        self._shown = asyncio.Condition()
        self._closing = False
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None
        self._token, self._tls = read_token(settings), server_tls(settings)
        self._host, self._port = split_address(settings.listen)

    @property
    def url(self) -> str:
        """Where the page is, once started."""
        scheme = "https" if self._settings.cert else "http"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{scheme}://{host}:{self._port}/"

    async def start(self) -> None:
        """Listen. Raises `ConfigError` when the address cannot be used."""
        app = web.Application(middlewares=[self._guard])
        app.on_response_prepare.append(_harden)
        app.add_routes(
            [
                web.get("/", assets.serve_page),
                web.get("/static/{name}", assets.serve_static),
                web.get("/api/v1/state", self._state),
                web.get("/api/v1/events", self._events),
                web.get("/api/v1/history", self._history),
                web.get("/api/v1/stream", self._stream),
                web.get("/metrics", self._metrics),
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            self._listener = await asyncio.get_running_loop().create_server(
                self._welcome,
                self._host,
                self._port,
                ssl=self._tls,
                ssl_handshake_timeout=HANDSHAKE_S if self._tls else None,
            )
        except OSError as error:
            await self._runner.cleanup()
            why = str(error) if isinstance(error, ssl.SSLError) else os.strerror(error.errno or 0)
            raise ConfigError(
                f"web.listen: cannot listen on {self._settings.listen}: {why.lower()}"
            ) from error
        self._port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close every connection."""
        self._closing = True
        async with self._shown:
            self._shown.notify_all()
        if self._listener is not None:
            self._listener.close()
        if self._runner is not None:
            await self._runner.cleanup()

    def _welcome(self) -> asyncio.BaseProtocol:
        """Let one more connection in; of too many those that are open longest have to go."""
        assert self._runner is not None
        assert self._runner.server is not None
        visitors = self._runner.server.connections
        for visitor in visitors[: max(0, len(visitors) - MOST_CONNECTIONS + 1)]:
            if isinstance(visitor.transport, asyncio.Transport):
                visitor.transport.abort()
        return self._runner.server()

    async def show(self, view: View) -> None:
        """Make a view the one that is served, and push it to whoever watches."""
        self._view, self._shown_at = view, self._now()
        self._document = json.dumps(view, separators=(",", ":")).encode()
        async with self._shown:
            self._shown.notify_all()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Who may read: the token's holder; without a token, requests to a loopback name only.

        The name check stops a web page elsewhere from reading us through a name of its own that it
        points at this machine.
        """
        if request.path in ("/healthz", "/readyz"):
            return await handler(request)
        if self._token is not None:
            if not _carries(request, self._token):
                realm = {"WWW-Authenticate": 'Basic realm="flexload"'}
                return web.Response(status=401, text="token needed\n", headers=realm)
        elif not _is_loopback_name(request.host):
            return web.Response(status=403, text="only by a loopback name\n")
        return await handler(request)

    async def _state(self, request: web.Request) -> web.Response:
        if self._view is None:
            raise web.HTTPServiceUnavailable(text="no cycle has been completed yet\n")
        return web.Response(body=self._document, content_type="application/json")

    async def _events(self, request: web.Request) -> web.Response:
        """Every event, or with `?event_id=` those with that id, with all signals and intervals."""
        events = await self._events_of(request.query.get("event_id"))
        document = await asyncio.to_thread(json.dumps, {"events": events}, separators=(",", ":"))
        return web.Response(text=document, content_type="application/json")

    async def _history(self, request: web.Request) -> web.Response:
        try:
            minutes = min(1440.0, max(1.0, float(request.query.get("minutes", "30"))))
        except ValueError:
            raise web.HTTPBadRequest(text="minutes must be a number\n") from None
        now = self._now()
        samples = await self._samples(now - timedelta(minutes=minutes), now)
        step = -(-len(samples) // CHART_POINTS) or 1
        # Of each stretch the highest: a spike over the ceiling must not vanish from the long view.
        stretches = (samples[i : i + step] for i in range(0, len(samples), step))
        chosen = [max(stretch, key=lambda s: s.power_w or 0.0) for stretch in stretches]
        return web.json_response(
            {
                "at": [s.at.timestamp() for s in chosen],
                "power_w": [s.power_w for s in chosen],
                "ceiling_w": [s.ceiling_w for s in chosen],
            }
        )

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events: the whole view, once now and again with every cycle."""
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
        )
        await response.prepare(request)
        sent: View | None = None
        with suppress(ConnectionResetError):
            while not self._closing:
                async with self._shown:
                    # Looks before it waits: a view may have come while the last one was written.
                    while self._view is sent and not self._closing:
                        await self._shown.wait()
                if self._view is not sent:
                    sent = self._view
                    await response.write(b"event: state\ndata: " + self._document + b"\n\n")
        return response

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(self._registry), headers={"Content-Type": METRICS_TYPE}
        )

    async def _healthz(self, request: web.Request) -> web.Response:
        """Whether the control loop turns. Looks at nothing else: a restart would help nothing else."""
        alive = self._turns()
        return web.Response(status=200 if alive else 503, text="ok\n" if alive else "stalled\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        """Whether it can do its work. A lost VTN is a problem to show, not one a restart mends."""
        checks = self._checks()
        status = 200 if all(checks.values()) else 503
        if "verbose" in request.query:
            return web.json_response(checks, status=status)
        return web.Response(status=status, text="ready\n" if status == 200 else "not ready\n")

    def _checks(self) -> dict[str, bool]:
        view = self._view
        keys = [] if view is None else [problem["key"] for problem in view["problems"]]
        return {
            "cycle": self._turns(),
            "drivers": not any(key.startswith("blind/") for key in keys),
            "store": not any(key == "ledger" or key.startswith("store/") for key in keys),
        }

    def _turns(self) -> bool:
        """Whether a cycle was completed lately, whatever time it shows: seeing may have taken long."""
        return self._view is not None and self._now() - self._shown_at <= ALIVE_FOR


async def _harden(request: web.Request, response: web.StreamResponse) -> None:
    """Put the security headers on every answer, errors and streams included."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)


def _carries(request: web.Request, token: str) -> bool:
    """Whether a request carries the token, as a bearer or as a browser's password."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            _, _, value = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return False
    elif scheme.lower() != "bearer":
        return False
    # Headers may hold surrogates for what is no UTF-8.
    said = value.strip().encode(errors="surrogateescape")
    return hmac.compare_digest(said, token.encode())


def _is_loopback_name(host: str) -> bool:
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    name = name.strip("[]")
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
