"""A VTN that answers without thinking, and notes when it did."""

import asyncio
import time
from collections import deque
from datetime import datetime, timedelta

from aiohttp import web

from tests.openadr import wire


class RawVtn:
    """Registers whoever comes and hands out the events it is given."""

    def __init__(self, poll_s: float = 0.1) -> None:
        self.registered = asyncio.Event()
        self._poll_s = poll_s
        self._queue: deque[tuple[bytes, asyncio.Future[float]]] = deque()
        self._events: dict[str, str] = {}
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> None:
        app = web.Application()
        app.add_routes([web.post("/{service}", self._answer)])
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def send_event(self, event_id: str, start: datetime, length: timedelta) -> float:
        """Hand out a SIMPLE event of level 2; when its answer left, on time.perf_counter."""
        return await self._send(self._event(event_id, 0, "active", start, length))

    async def cancel_event(self, event_id: str) -> None:
        start, length = datetime.fromisoformat("2026-01-01T00:00:00+00:00"), timedelta(hours=1)
        await self._send(self._event(event_id, 1, "cancelled", start, length))

    def _event(
        self, event_id: str, revision: int, status: str, start: datetime, length: timedelta
    ) -> str:
        duration = f"PT{int(length.total_seconds())}S"
        return wire.event(
            event_id,
            revision,
            status,
            start,
            duration,
            [wire.simple(2, duration)],
            ramp_up="PT0S",
            recovery="PT0S",
        )

    async def _send(self, event: str) -> float:
        left: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._queue.append((wire.distribute_event(event), left))
        return await left

    async def _answer(self, request: web.Request) -> web.Response:
        service, body = request.match_info["service"], await request.read()
        if service == "EiRegisterParty":
            self.registered.set()
            answer = wire.created_party_registration(poll=f"PT{self._poll_s}S")
        elif service == "EiReport" and b"RegisterReport" in body:
            answer = wire.registered_report()
        elif service == "OadrPoll" and self._queue:
            answer, left = self._queue.popleft()
            left.set_result(time.perf_counter())
        else:
            answer = wire.oadr_response()
        return web.Response(body=answer, content_type="application/xml")
