"""Halting a job of 200 processes in a real cgroup, until the kernel confirms it, and waking it again."""

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from drivers.jobs.cgroup import CgroupJobs
from drivers.outcome import Result
from tests.drivers.job_rigs import cgroup_tree

PROCESSES, ROUNDS = 200, 50
AWAKE_S = 0.05
"""How long they work between two rounds."""

WORK = f"""
import os, sys, time
open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
any(os.fork() == 0 for _ in range({PROCESSES - 1}))
while True:
    sum(range(1_000))
    time.sleep(0.1)
"""
"""A process that becomes as many, which compute a little and sleep a little."""


def figures() -> Iterator[dict[str, object]]:
    with cgroup_tree() as tree:
        job = tree / "job"
        job.mkdir()
        with subprocess.Popen([sys.executable, "-c", WORK, str(job)]) as process:
            _wait_for(job)
            took_ms = asyncio.run(_rounds(tree, job))
            process.kill()
    for what, times in took_ms.items():
        times.sort()
        name = f"{what} of {PROCESSES} processes until confirmed, %s of {ROUNDS}"
        yield {"bench": name % "median", "value": round(statistics.median(times), 2), "unit": "ms"}
        yield {"bench": name % "worst", "value": round(times[-1], 2), "unit": "ms"}


def _wait_for(job: Path) -> None:
    deadline = time.monotonic() + 30
    while len((job / "cgroup.procs").read_text().split()) < PROCESSES:
        assert time.monotonic() < deadline
        time.sleep(0.05)


async def _rounds(tree: Path, job: Path) -> dict[str, list[float]]:
    jobs = [{"name": "job", "cgroup": job.name}]
    driver = CgroupJobs(CgroupJobs.Settings(root=tree, job=jobs))
    await driver.open()
    took_ms: dict[str, list[float]] = {"freeze": [], "thaw": []}
    for _ in range(ROUNDS):
        for what, order in (("freeze", driver.pause), ("thaw", driver.resume)):
            begun = time.perf_counter()
            (outcome,) = await order(["cgroup:job"])
            took_ms[what].append((time.perf_counter() - begun) * 1000)
            assert outcome.result is Result.APPLIED, outcome
        await asyncio.sleep(AWAKE_S)
    await driver.close()
    return took_ms
