"""What the agent costs when nothing is asked of it: 1 Hz, 8 GPUs on the NVML stub, polling a VTN."""

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.vtn import RawVtn
from tests.drivers.gpu_rigs import nvml_stub

SETTLE_S, MEASURE_S = 8.0, 30.0


def figures() -> Iterator[dict[str, object]]:
    with tempfile.TemporaryDirectory(prefix="flexload-bench-") as directory:
        share, resident = asyncio.run(_measure(Path(directory)))
    name = "idle agent at 1 Hz with 8 GPUs"
    yield {"bench": f"{name}, share of a core", "value": round(100 * share, 2), "unit": "%"}
    yield {"bench": f"{name}, resident memory", "value": round(resident / 1e6, 1), "unit": "MB"}


async def _measure(directory: Path) -> tuple[float, float]:
    vtn = RawVtn(poll_s=10.0)
    await vtn.start()
    config = directory / "agent.toml"
    config.write_text(_toml(directory, vtn.url, nvml_stub().path))
    environment = {**os.environ, "NVML_STUB_GPUS": "8"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "agent",
        "run",
        f"--config={config}",
        stderr=asyncio.subprocess.DEVNULL,
        env=environment,
    )
    try:
        await asyncio.wait_for(vtn.registered.wait(), 20)
        await asyncio.sleep(SETTLE_S)
        before_s, begun = _cpu_s(process.pid), time.monotonic()
        await asyncio.sleep(MEASURE_S)
        share = (_cpu_s(process.pid) - before_s) / (time.monotonic() - begun)
        return share, _resident(process.pid)
    finally:
        process.terminate()
        await process.wait()
        await vtn.stop()


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024.0 * int(next(line.split()[1] for line in status.splitlines() if "VmRSS" in line))


def _toml(directory: Path, url: str, library: Path) -> str:
    return f"""
[site]
name = "bench"
state_dir = {json.dumps(str(directory))}
control_socket = {json.dumps(str(directory / "control.sock"))}
max_import = "50 kW"
[gpu]
kind = "nvml"
library = {json.dumps(str(library))}
[meter]
kind = "gpu-sum"
base_load_w = 1000.0
[[ven]]
kind = "openadr-2.0b"
name = "bench"
vtn_url = {json.dumps(url)}
[[program]]
name = "bench"
[web]
listen = "127.0.0.1:0"
"""
