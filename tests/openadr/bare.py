"""Servers that know no OpenADR: one answers as a handler says, one says why it ends a handshake."""

import contextlib
import socket
import ssl
import threading

from aiohttp import web

from agent.openadr.http import HttpTransport
from agent.openadr.v20b.settings import Ven20bSettings
from tests.clock import FakeClock
from tests.openadr.pki import Authority, Pair
from tests.openadr.vtn import PREFIX, free_port


def settings_for(url: str, **changes) -> Ven20bSettings:
    return Ven20bSettings(kind="openadr-2.0b", name="ven", vtn_url=url, **changes)


class Client:
    """Posts to a server as a VEN would."""

    port: int
    tls: ssl.SSLContext | None = None

    async def post(self, clock=None, body=b"<x/>", host="127.0.0.1", **changes):
        scheme = "https" if self.tls else "http"
        url = f"{scheme}://{host}:{self.port}{PREFIX}/"
        transport = HttpTransport(settings_for(url, **changes), clock or FakeClock())
        try:
            return await transport.post("OadrPoll", body)
        finally:
            await transport.close()


class Server(Client):
    def __init__(self, handler, tls=None):
        self.handler, self.tls, self.port = handler, tls, free_port()

    async def __aenter__(self):
        app = web.Application()
        app.router.add_post(f"{PREFIX}/{{service}}", self.handler)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", self.port, ssl_context=self.tls).start()
        return self

    async def __aexit__(self, *_):
        await self.runner.cleanup()


def server_tls(pair: Pair, authority: Authority | None, ciphers: str = "") -> ssl.SSLContext:
    """With an authority, it demands a certificate of it from clients; with ciphers, no more than
    TLS 1.2, which knows them.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if ciphers:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(ciphers)
    context.load_cert_chain(pair.cert, pair.key)
    if authority is not None:
        context.load_verify_locations(authority.ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class BluntServer(Client):
    """Unlike asyncio's, it tells the client why it ends a TLS handshake, as other servers do."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self.tls = tls
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._talk(self._socket.accept()[0])

    def _talk(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        with (
            contextlib.suppress(OSError),
            self.tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            ) as secured,
        ):
            try:
                secured.do_handshake()
                secured.recv(65_536)
                secured.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n<y/>")
            except ssl.SSLError:
                # Hear the client out: what is left unread would take the reason with it.
                secured.shutdown(socket.SHUT_WR)
                while secured.recv(4096):
                    pass
