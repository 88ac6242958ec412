"""Event received -> last of 8 GPUs capped: the whole way through VEN, store, cycle and NVML.

The VTN is a server of raw answers; NVML is the C stub with 2 ms a call, through the real binding. The
clock starts when the answer to the poll leaves the server, and stops when the last limit has been
read back; waiting for the poll is no part of it.
"""

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.app import App
from agent.config import parse
from drivers.outcome import Outcome
from tests.bench.vtn import RawVtn
from tests.drivers.gpu_rigs import nvml_stub

EVENTS, GPUS, CALL_S = 200, 8, 0.002


def figures() -> Iterator[dict[str, object]]:
    with tempfile.TemporaryDirectory(prefix="flexload-bench-") as directory:
        took_ms = sorted(asyncio.run(_measure(Path(directory))))
    for which, value in (
        ("median", statistics.median(took_ms)),
        ("p99", took_ms[int(0.99 * len(took_ms))]),
        ("worst", took_ms[-1]),
    ):
        name = f"event received to last of {GPUS} GPUs capped, {which} of {len(took_ms)}"
        yield {"bench": name, "value": round(value, 1), "unit": "ms"}


async def _measure(directory: Path) -> list[float]:
    stub = nvml_stub()
    stub.reset(GPUS, CALL_S)
    for uuid in stub.uuids:
        stub.set_demand(uuid, 600.0)
    vtn = RawVtn()
    await vtn.start()
    ven: dict[str, object] = {"kind": "openadr-2.0b", "name": "bench", "vtn_url": vtn.url}
    app = App(parse(configuration(directory, ven, stub.path)))
    capped = asyncio.Event()
    watch(app, capped)
    started = asyncio.Event()
    running = asyncio.create_task(app.run(started))
    await started.wait()
    await vtn.registered.wait()
    took_ms = []
    try:
        for number in range(EVENTS):
            await asyncio.sleep(random.uniform(0.05, 0.15))
            capped.clear()
            sent = await vtn.send_event(f"ev-{number}", datetime.now(UTC), timedelta(hours=1))
            await asyncio.wait_for(capped.wait(), 10)
            took_ms.append((time.perf_counter() - sent) * 1000)
            await vtn.cancel_event(f"ev-{number}")
            while app.keeper.entries:
                await asyncio.sleep(0.02)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await vtn.stop()
        stub.forget()
    return took_ms


def watch(app: App, capped: asyncio.Event) -> None:
    """Set `capped` when limits below the largest have been read back on all GPUs."""
    equipment = app._equipment
    set_limits = equipment.set_limits

    async def watched(limits: dict[str, tuple[float, float]]) -> list[Outcome]:
        outcomes = await set_limits(limits)
        lowered = all(limit_w < 700.0 for limit_w, _ in limits.values())
        if lowered and len(outcomes) == GPUS and all(o.ok for o in outcomes):
            capped.set()
        return outcomes

    equipment.set_limits = watched


def configuration(directory: Path, ven: dict[str, object], library: Path) -> dict[str, object]:
    return {
        "site": {
            "name": "bench",
            "state_dir": str(directory),
            "control_socket": str(directory / "control.sock"),
            "max_import": "50 kW",
        },
        "gpu": {"kind": "nvml", "library": str(library)},
        "meter": {"kind": "gpu-sum", "base_load_w": 1000.0},
        "ven": [ven],
        "program": [{"name": "bench", "levels": {"2": "drop to 4.5 kW"}}],
        "policy": {"default_tier": 2, "rebound_guard": "0 s"},
        "governor": {"dwell": "0 s", "max_turns_per_h": 100000},
        "web": {"listen": "127.0.0.1:0"},
    }
