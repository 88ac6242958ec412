"""Jobs drivers under the contract: each with hands on real work behind it.

Another driver joins the suite by a rig in `RIGS`: an async context that yields the opened driver
over three running jobs.
"""

import asyncio
import contextlib
import mmap
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from drivers.jobs.base import JobsDriver
from drivers.jobs.cgroup import CgroupJobs
from drivers.jobs.proc import Processes
from drivers.jobs.sim import SimJobs
from drivers.sim.physics import JobSpec, SiteSpec
from drivers.sim.site import SimSite
from tests.drivers.sim_clock import SimClock
from tests.requirement import missing

NOBODY = 65534

WORK = """
import mmap, os, sys, threading, time
file = open(sys.argv[1], "r+b")
counters = memoryview(mmap.mmap(file.fileno(), 0)).cast("Q")
parent = os.getppid()
def work(slot):
    while os.getppid() == parent:
        counters[slot] += sum(range(100)) > 0
        time.sleep(0.001)
slot = 0
if os.fork() == 0:
    slot, parent = 2, os.getppid()
threading.Thread(target=work, args=(slot + 1,)).start()
work(slot)
"""
"""Two processes of two threads, each of which counts in a slot of a shared file. All end when the
test's process does."""


class JobRig(Protocol):
    """What the contract's tests do to a driver's jobs behind its back."""

    driver: JobsDriver
    job_ids: Sequence[str]

    def work(self, job_id: str) -> int:
        """How much work the job has done: grows while it runs and only then."""

    def end(self, job_id: str) -> None:
        """The job ends, and is gone when this returns."""

    def die(self, job_id: str) -> None:
        """The job's work dies where it stands; the place where it ran is left as it is."""

    def start(self, job_id: str) -> None:
        """New work starts where the job's died, and is at work when this returns."""

    def forbid(self) -> None:
        """This process loses the right to pause and resume."""

    async def pass_time(self, seconds: float) -> None:
        """Let the jobs live for a while."""


class Workload:
    """Real processes in a process group of their own, at work when this returns."""

    def __init__(self, directory: Path, cgroup: Path | None = None) -> None:
        counters = directory / f"counters-{uuid.uuid4().hex}"
        counters.write_bytes(bytes(4 * 8))
        with counters.open("r+b") as file:
            self._counters = memoryview(mmap.mmap(file.fileno(), 0)).cast("Q")
        command = [sys.executable, "-I", "-S", "-c", WORK, str(counters)]
        if cgroup is not None:
            enter = f'echo $$ > {cgroup}/cgroup.procs && exec "$@"'
            command = ["sh", "-c", enter, "sh", *command]
        self._process = subprocess.Popen(command, start_new_session=True)
        self.pid = self._process.pid
        try:
            wait_until(lambda: all(self._counters))
        except AssertionError:
            self.kill()
            raise

    @property
    def work(self) -> int:
        return sum(self._counters)

    def kill(self) -> None:
        """Kill all of it, stopped and frozen too, and wait until it is dead."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(timeout=10)
        # Its zombies stay until init gets to them.
        wait_until(lambda: not Processes().threads(self.pid))


def wait_until(condition: Callable[[], bool], deadline_s: float = 10.0) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.002)


@contextlib.contextmanager
def cgroup_tree():
    """A writable cgroup of version 2 for this test alone; what is left in it is killed."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    root = next((Path(mount[1]) for mount in mounts if mount[2] == "cgroup2"), None)
    if root is None:
        missing("cgroup", "no cgroup version 2 tree is mounted")
    tree = root / f"flexload-test-{uuid.uuid4().hex}"
    try:
        tree.mkdir()
    except OSError as error:
        missing("cgroup", f"{root} is not writable: {error.strerror}")
    try:
        yield tree
    finally:
        remove_cgroup(tree)


def remove_cgroup(cgroup: Path) -> None:
    for child in cgroup.iterdir():
        if child.is_dir():
            remove_cgroup(child)
    (cgroup / "cgroup.freeze").write_text("0")
    for pid in (cgroup / "cgroup.procs").read_text().split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    wait_until(lambda: "populated 0" in (cgroup / "cgroup.events").read_text())
    cgroup.rmdir()


@contextlib.contextmanager
def readable_directory():
    """A temporary directory that other users may read, unlike pytest's."""
    directory = Path(tempfile.mkdtemp(prefix="flexload-jobs-"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


class CgroupRig:
    """`CgroupJobs` over three workloads."""

    def __init__(
        self,
        driver: CgroupJobs,
        workloads: dict[str, Workload],
        cgroups: Mapping[str, Path],
        stack: ExitStack,
        directory: Path,
    ) -> None:
        self.driver = driver
        self.workloads = workloads
        self.cgroups = cgroups
        self._directory = directory
        self.job_ids = sorted(workloads)
        self._stack = stack

    def work(self, job_id: str) -> int:
        return self.workloads[job_id].work

    def end(self, job_id: str) -> None:
        self.workloads[job_id].kill()
        if job_id in self.cgroups:
            remove_cgroup(self.cgroups[job_id])

    def die(self, job_id: str) -> None:
        self.workloads[job_id].kill()

    def start(self, job_id: str) -> None:
        workload = Workload(self._directory, self.cgroups.get(job_id))
        self._stack.callback(workload.kill)
        self.workloads[job_id] = workload
        if job_id not in self.cgroups:
            pid_file_of(self._directory, job_id).write_text(f"{workload.pid}\n")

    def forbid(self) -> None:
        if os.geteuid() != 0:
            missing("root", "only root can become somebody who may not")
        # The saved user stays root, for the way back; the real one must go too, as it may signal.
        os.setresuid(NOBODY, NOBODY, 0)
        self._stack.callback(become_root)

    async def pass_time(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def pid_file_of(directory: Path, job_id: str) -> Path:
    return directory / f"{job_id.removeprefix('cgroup:')}.pid"


def become_root() -> None:
    os.seteuid(0)
    os.setresuid(0, 0, 0)


@asynccontextmanager
async def frozen_rig(timeout_s: float = 5.0) -> AsyncIterator[CgroupRig]:
    """Jobs with a cgroup each."""
    with ExitStack() as stack:
        tree = stack.enter_context(cgroup_tree())
        directory = stack.enter_context(readable_directory())
        workloads, cgroups, tables = {}, {}, []
        for name in ("b", "a", "c"):
            cgroup = tree / name
            cgroup.mkdir()
            workload = Workload(directory, cgroup)
            stack.callback(workload.kill)
            workloads[f"cgroup:{name}"], cgroups[f"cgroup:{name}"] = workload, cgroup
            relative = str(cgroup.relative_to(tree.parent))
            tables.append({"name": name, "cgroup": relative, "gpus": [f"GPU-{name}"]})
        settings = CgroupJobs.Settings(root=tree.parent, timeout_s=timeout_s, job=tables)
        driver = CgroupJobs(settings)
        await driver.open()
        yield CgroupRig(driver, workloads, cgroups, stack, directory)
        await driver.close()


@asynccontextmanager
async def stopped_rig(timeout_s: float = 5.0) -> AsyncIterator[CgroupRig]:
    """Jobs with a pid file each."""
    with ExitStack() as stack:
        directory = stack.enter_context(readable_directory())
        workloads, tables = {}, []
        for name in ("b", "a", "c"):
            workload = Workload(directory)
            stack.callback(workload.kill)
            workloads[f"cgroup:{name}"] = workload
            pid_file = pid_file_of(directory, name)
            pid_file.write_text(f"{workload.pid}\n")
            tables.append({"name": name, "pid_file": pid_file, "labels": {"tier": "flex"}})
        driver = CgroupJobs(CgroupJobs.Settings(timeout_s=timeout_s, job=tables))
        await driver.open()
        yield CgroupRig(driver, workloads, {}, stack, directory)
        await driver.close()


class SimRig:
    """`SimJobs` over a simulated site, on a clock that the test moves."""

    job_ids = ("sim:a", "sim:b", "sim:c")

    def __init__(self, site: SimSite, driver: SimJobs, clock: SimClock) -> None:
        self.site = site
        self.driver = driver
        self.clock = clock
        self._ended: dict[str, JobSpec] = {}

    def work(self, job_id: str) -> int:
        _, state = self.site.read()
        return int(state.paused_at.get(job_id, self.clock()) * 1000)

    def end(self, job_id: str) -> None:
        def without(spec: SiteSpec) -> SiteSpec:
            return replace(spec, jobs=tuple(job for job in spec.jobs if job.job_id != job_id))

        self._ended[job_id] = next(j for j in self.site.read()[0].jobs if j.job_id == job_id)
        self.site.rebuild(without)

    def die(self, job_id: str) -> None:
        self.end(job_id)

    def start(self, job_id: str) -> None:
        job = self._ended.pop(job_id)
        self.site.rebuild(lambda spec: replace(spec, jobs=(*spec.jobs, job)))

    def forbid(self) -> None:
        self.site.break_jobs("denied")

    async def pass_time(self, seconds: float) -> None:
        self.clock.forward_s += seconds


@asynccontextmanager
async def sim_rig() -> AsyncIterator[SimRig]:
    clock = SimClock()
    jobs = tuple(JobSpec(f"sim:{n}", n, {}, (i,), 500.0) for i, n in enumerate("abc"))
    with tempfile.TemporaryDirectory(prefix="sim-site-") as directory:
        path = Path(directory) / "site.json"
        site = SimSite.create(path, SiteSpec("rig", ("a",), 4, jobs=jobs), clock)
        driver = SimJobs(SimJobs.Settings(site=path), clock)
        await driver.open()
        yield SimRig(site, driver, clock)
        await driver.close()


RIGS = [
    pytest.param(sim_rig, id="sim"),
    pytest.param(frozen_rig, id="cgroup", marks=pytest.mark.cgroup),
    pytest.param(stopped_rig, id="pid_file"),
]
