"""The webhook: an HTTPS server where a VTN's notifications come in, and whatever else finds it.

Nothing that is posted is read: whoever knows our token has us poll. Everything is bounded before a word
is said: how many connect, and for how long, and how much they may send. Whoever takes all of that up
keeps notifications out, and no more: polls go on.
"""

import asyncio
import hmac
import logging
import os
import secrets
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import NoReturn

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from agent.clock import Clock
from agent.fields import split_address
from agent.openadr.credentials import Credentials
from agent.openadr.standing import LinkKeeper
from agent.openadr.v3.notices import Notices
from agent.openadr.v3.settings import Ven3Settings, WebhookSettings
from agent.tls import server_context

TROUBLE = "webhook"
AGAIN_S = 10.0
MOST_CONNECTIONS = 32
LONGEST_S = 20.0
"""No connection lasts longer; each is for one request."""
LEAST_GAP_S = 0.02
"""Between one connection and the next: a handshake costs some milliseconds of ours."""
LONGEST_ECHO = 1000
_silent = logging.getLogger(__name__)
_silent.disabled = True  # What strangers send is no news.


def webhook_tls(settings: Ven3Settings) -> ssl.SSLContext | None:
    """How the webhook speaks TLS; None: something before it does. Raises `ConfigError`."""
    hook = settings.webhook
    if hook is None or hook.cert is None or hook.key is None:
        return None
    return server_context(hook.cert, hook.key, f"ven {settings.name}: webhook.")


class Webhook:
    """Listens for the notifications of one VEN."""

    def __init__(
        self,
        settings: Ven3Settings,
        hook: WebhookSettings,
        link: LinkKeeper,
        clock: Clock,
        notices: Notices,
    ) -> None:
        """Raises `ConfigError` for unusable files. Listens to nothing yet."""
        self.token = secrets.token_urlsafe(32)
        """What a notification must carry; another each time the agent starts."""
        self.listens = asyncio.Event()
        self.port = 0
        """Where it listens, once it does."""
        self._hook = hook
        self._most_bytes = settings.max_bytes
        self._link = link
        self._clock = clock
        self._notices = notices
        files = [file for file in (hook.cert, hook.key) if file is not None]
        self._tls = Credentials("webhook certificate", files, lambda: webhook_tls(settings), link)

    async def run(self) -> NoReturn:
        """Listen until cancelled."""
        while True:
            try:
                listener = _listener(self._hook.listen)
            except OSError as error:
                why = os.strerror(error.errno or 0).lower()
                said = f"webhook.listen: cannot listen on {self._hook.listen}: {why}"
                self._link.trouble(TROUBLE, f"no notifications by webhook, polls go on: {said}")
                await self._clock.sleep(AGAIN_S)
                continue
            with listener:
                self.port = listener.getsockname()[1]
                self._link.clear(TROUBLE)
                await self._admit(listener)

    async def _admit(self, listener: socket.socket) -> NoReturn:
        server = _Server(self._answer)
        room = asyncio.Semaphore(MOST_CONNECTIONS)
        try:
            async with asyncio.TaskGroup() as visits:
                self.listens.set()
                while True:
                    await room.acquire()
                    try:
                        connection, _ = await asyncio.get_running_loop().sock_accept(listener)
                    except OSError:  # It is gone already, or there are no file descriptors left.
                        room.release()
                        await asyncio.sleep(1.0)
                        continue
                    visit = visits.create_task(self._receive(server, connection))
                    visit.add_done_callback(lambda _: room.release())
                    await asyncio.sleep(LEAST_GAP_S)
        finally:
            self.listens.clear()
            await server.shutdown(0)

    async def _receive(self, server: "_Server", connection: socket.socket) -> None:
        """Let one connection have its request and its time."""
        visitor = server()
        ended = server.ended[visitor] = asyncio.Event()
        try:
            async with asyncio.timeout(LONGEST_S):
                await asyncio.get_running_loop().connect_accepted_socket(
                    lambda: visitor, connection, ssl=self._tls.current()
                )
                await ended.wait()
        except OSError:  # A handshake that failed, or time that is up.
            pass
        finally:
            del server.ended[visitor]
            if isinstance(visitor.transport, asyncio.Transport):
                visitor.transport.abort()

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        response = await self._reply(request)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-store"
        response.force_close()
        return response

    async def _reply(self, request: web.BaseRequest) -> web.Response:
        echo = request.query.get("echo")
        if request.method == "GET" and echo is not None and len(echo) <= LONGEST_ECHO:
            return web.Response(text=echo)  # By which a VTN makes sure that the address is ours.
        if request.method != "POST":
            return web.Response(status=405, headers={"Allow": "POST"})
        if not _carries(request.headers.get("Authorization", ""), self.token):
            self._link.reject("a notification without our token")
            return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"})
        self._notices.hear()
        left_bytes = self._most_bytes
        async for part in request.content.iter_chunked(65_536):
            left_bytes -= len(part)
            if left_bytes < 0:
                return web.Response(status=413)
        return web.Response()


class _Server(web.Server):
    """aiohttp's, which says when a connection has ended."""

    def __init__(self, answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        super().__init__(
            answer, access_log=None, logger=_silent, auto_decompress=False, lingering_time=0.0
        )
        self.ended: dict[object, asyncio.Event] = {}

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        if handler in self.ended:
            self.ended[handler].set()


def _listener(listen: str) -> socket.socket:
    """Listen. Raises `OSError`."""
    host, port = split_address(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(MOST_CONNECTIONS)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _carries(authorization: str, token: str) -> bool:
    scheme, _, said = authorization.partition(" ")
    # Headers may hold surrogates for what is no UTF-8.
    same = hmac.compare_digest(said.strip().encode(errors="surrogateescape"), token.encode())
    return same and scheme.lower() == "bearer"
