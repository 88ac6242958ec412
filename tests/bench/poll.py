"""What a poll costs this VEN beside openleadr's own client, of the same openleadr server.

The server has a process of its own: what it costs is neither's. openleadr's scheduler polls at most once a
second, so each client's poll is called in a row; taking turns, so that what else the machine does
falls on both.
"""

import asyncio
import contextlib
import io
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

from tests.openadr.rig import Rig
from tests.openadr.vtn import OpenLeadrVtn

ROUNDS, POLLS, WARM = 20, 100, 50


def figures() -> Iterator[dict[str, object]]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=_serve, args=(theirs,), daemon=True)
    server.start()
    try:
        costs = asyncio.run(_measure(ours.recv()))
    finally:
        ours.send(None)
        server.join()
    for index, which in enumerate(("CPU time", "wall time")):
        us, them = (statistics.median(r[index] for r in costs[name]) for name in ("us", "them"))
        ratio = statistics.median(
            u[index] / t[index] for u, t in zip(costs["us"], costs["them"], strict=True)
        )
        yield {
            "bench": f"one poll of openleadr's server, {which}, against openleadr's client",
            "value": round(us * 1000, 3),
            "unit": "ms",
            "against": round(them * 1000, 3),
            "ratio": round(ratio, 2),
        }


def _serve(pipe: Connection) -> None:
    """openleadr's server until told to end; it says where it is."""

    async def serve() -> None:
        vtn = OpenLeadrVtn()
        with contextlib.redirect_stdout(io.StringIO()):  # its banner
            await vtn.start()
        pipe.send(vtn.url)
        await asyncio.to_thread(pipe.recv)
        await vtn.stop()

    asyncio.run(serve())


async def _measure(url: str) -> dict[str, list[tuple[float, float]]]:
    """By client, a round each: the CPU and the wall time of one poll, s."""
    from openleadr import OpenADRClient

    client = OpenADRClient(ven_name="them", vtn_url=url)
    await client.create_party_registration()
    costs: dict[str, list[tuple[float, float]]] = {"us": [], "them": []}
    with tempfile.TemporaryDirectory(prefix="flexload-bench-") as directory:
        rig = Rig(Path(directory), url)
        try:
            await rig.ven._enrol()
            polls = {"us": rig.ven._drain, "them": client._poll}
            for poll in polls.values():
                await _cost(poll, WARM)
            for _ in range(ROUNDS):
                for name, poll in polls.items():
                    costs[name].append(await _cost(poll, POLLS))
        finally:
            await rig.ven._vtn.close()
            await rig.stop()
            await client.client_session.close()
    return costs


async def _cost(poll: Callable[[], Awaitable[None]], times: int) -> tuple[float, float]:
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    for _ in range(times):
        await poll()
    return (time.process_time() - cpu_s) / times, (time.perf_counter() - wall_s) / times
