"""Event created at openleadr-rs -> last of 8 GPUs capped: by MQTT through mosquitto, and by polls alone.

The clock starts before the event is sent to the VTN, and stops when the last limit has been read back
through the real NVML binding, whose stub takes 2 ms a call. Polls are waited for: events come at any
time between two of them.
"""

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.app import App
from agent.config import parse
from agent.openadr.iso8601 import format_time
from tests.bench.response import CALL_S, GPUS, configuration, watch
from tests.drivers.gpu_rigs import nvml_stub
from tests.openadr3.mosquitto import Mosquitto
from tests.openadr3.openleadr import OpenleadrRs, Postgres, needed

WAYS = (
    ("MQTT", True, 10.0, 200),
    ("polls each 1 s", False, 1.0, 12),
    ("polls each 10 s", False, 10.0, 3),
)
"""What each is called, whether by MQTT, the time between polls, and how many events."""


def figures() -> Iterator[dict[str, object]]:
    try:
        program, programs = needed()
        with tempfile.TemporaryDirectory(prefix="flexload-bench-") as directory:
            postgres = Postgres(programs)
            try:
                yield from asyncio.run(_figures(Path(directory), program, postgres))
            finally:
                postgres.remove()
    except pytest.skip.Exception as missing:
        yield {"bench": "event created to GPUs capped", "value": None, "unit": str(missing)}


async def _figures(directory: Path, program: Path, postgres: Postgres) -> list[dict[str, object]]:
    broker = Mosquitto(directory)
    await broker.start()
    vtn = OpenleadrRs(program, postgres, f"mqtt://127.0.0.1:{broker.port}")
    await vtn.start()
    await vtn.admit()
    made = await vtn.ask("POST", "programs", {"programName": "bench"})
    (directory / "secret").write_text(vtn.secret)
    found: list[dict[str, object]] = []
    try:
        for number, (name, mqtt, poll_s, events) in enumerate(WAYS):
            state = directory / str(number)
            state.mkdir()
            ven = {
                "kind": "openadr-3",
                "name": "bench",
                "vtn_url": vtn.url,
                "client_id": vtn.client_id,
                "client_secret": str(directory / "secret"),
                "mqtt": mqtt,
                "poll_s": poll_s,
            }
            took_ms = sorted(await _measure(state, ven, vtn, made["id"], events))
            found += _summary(name, took_ms)
    finally:
        vtn.stop()
        broker.kill()
    return found


def _summary(name: str, took_ms: list[float]) -> Iterator[dict[str, object]]:
    figures = [("median", statistics.median(took_ms)), ("worst", took_ms[-1])]
    if len(took_ms) >= 100:
        figures.insert(1, ("p99", took_ms[int(0.99 * len(took_ms))]))
    for which, value in figures:
        what = f"event created at openleadr-rs to last of {GPUS} GPUs capped by {name}"
        yield {
            "bench": f"{what}, {which} of {len(took_ms)}",
            "value": round(value, 1),
            "unit": "ms",
        }


async def _measure(
    directory: Path, ven: dict[str, Any], vtn: OpenleadrRs, program_id: str, events: int
) -> list[float]:
    stub = nvml_stub()
    stub.reset(GPUS, CALL_S)
    for uuid in stub.uuids:
        stub.set_demand(uuid, 600.0)
    app = App(parse(configuration(directory, ven, stub.path)))
    capped = asyncio.Event()
    watch(app, capped)
    started = asyncio.Event()
    running = asyncio.create_task(app.run(started))
    await started.wait()
    while not app._vens[0].link().registered:
        await asyncio.sleep(0.05)
    await asyncio.sleep(1.0)  # It listens by now.
    took_ms = []
    try:
        for _ in range(events):
            capped.clear()
            # Between notifications, or at any time between two polls.
            await asyncio.sleep(
                random.uniform(0.1, 0.2) if ven["mqtt"] else random.uniform(0.0, ven["poll_s"])
            )
            begun = time.perf_counter()
            made = await vtn.ask("POST", "events", _event(program_id))
            await asyncio.wait_for(capped.wait(), 30)
            took_ms.append((time.perf_counter() - begun) * 1000)
            await vtn.ask("DELETE", f"events/{made['id']}")
            app._vens[0].wake()
            while app.keeper.entries:
                await asyncio.sleep(0.02)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        stub.forget()
    return took_ms


def _event(program_id: str) -> dict[str, Any]:
    return {
        "programID": program_id,
        "intervalPeriod": {"start": format_time(datetime.now(UTC)), "duration": "PT1H"},
        "intervals": [{"id": 0, "payloads": [{"type": "SIMPLE", "values": [2]}]}],
    }
