"""A list of 1,000 OpenADR 3 events, 300 of them malformed, over 20 pages: from the poll to the book."""

import asyncio
import logging
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiohttp import web

from agent.openadr.iso8601 import format_time
from tests.clock import NOON
from tests.openadr.rig import PROGRAM
from tests.openadr3.rig import Rig3

EVENTS, MALFORMED_OF_TEN, CALLS = 1_000, 3, 5


def figures() -> Iterator[dict[str, object]]:
    logging.disable(logging.WARNING)  # 300 sentences each time.
    took_ms = [asyncio.run(_take_in_ms(seed)) for seed in range(CALLS)]
    logging.disable(logging.NOTSET)
    yield {
        "bench": f"{EVENTS} events over 20 pages, 300 malformed, taken in, median of {CALLS}",
        "value": round(statistics.median(took_ms), 1),
        "unit": "ms",
    }


async def _take_in_ms(seed: int) -> float:
    events = [_event(n) for n in range(EVENTS)]
    random.Random(seed).shuffle(events)
    with tempfile.TemporaryDirectory() as folder:
        async with _serving(events) as url:
            programs = (replace(PROGRAM, market_context="*"),)
            rig = Rig3(Path(folder), url, programs=programs, timeout_s=30.0)
            begun = time.perf_counter()
            async with rig:
                await rig.rested()
                took_s = time.perf_counter() - begun
                good, bad = len(rig.book.records), rig.ven.link().rejected
            assert (good, bad) == (700, 300), (good, bad)
    return took_s * 1000


def _event(n: int) -> dict[str, Any]:
    event: dict[str, Any] = {
        "id": f"ev-{n}",
        "programID": "p",
        "modificationDateTime": format_time(NOON),
        "intervalPeriod": {"start": format_time(NOON), "duration": "PT1H"},
        "intervals": [{"id": 0, "payloads": [{"type": "SIMPLE", "values": [n % 4]}]}],
    }
    if n % 10 < MALFORMED_OF_TEN:
        event.update(({"intervals": 3}, {"duration": "soon"}, {"payloadDescriptors": [n]})[n % 10])
    return event


@asynccontextmanager
async def _serving(events: list[dict[str, Any]]) -> Any:
    async def page(request: web.Request) -> web.Response:
        listed = events if request.path == "/events" else []
        skip, limit = int(request.query["skip"]), int(request.query["limit"])
        return web.json_response(listed[skip : skip + limit])

    app = web.Application()
    app.router.add_get("/{list}", page)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()
