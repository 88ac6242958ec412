"""`SlurmJobs` under the contract: three jobs of a real Slurm."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

import pytest

from drivers.jobs.slurm.driver import SlurmJobs
from tests.drivers.job_rigs import NOBODY, become_root, wait_until
from tests.drivers.slurm_cluster import PATIENCE_S, SlurmCluster, slurm_cluster


def settings_for(cluster: SlurmCluster, **options) -> SlurmJobs.Settings:
    folder = cluster.directory / "flexload"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    options = {"poll_s": 0.0, "state_file": folder / "slurm.json"} | options
    return SlurmJobs.Settings(conf=cluster.conf, **options)


class SlurmRig:
    """One driver over three jobs in `batch`."""

    def __init__(self, cluster: SlurmCluster, driver: SlurmJobs, stack: ExitStack) -> None:
        self.cluster = cluster
        self.driver = driver
        self.job_ids = sorted(f"slurm:{cluster.submit(name)}" for name in "abc")
        self._stack = stack
        for job_id in self.job_ids:
            cluster.works(number(job_id))

    def work(self, job_id: str) -> int:
        return self.cluster.work(number(job_id))

    def end(self, job_id: str) -> None:
        self.cluster.cancel(number(job_id))

    def die(self, job_id: str) -> None:
        self.cluster.run("scontrol", "requeue", number(job_id))
        self._wait_for(job_id, "PENDING")

    def start(self, job_id: str) -> None:
        self.cluster.run("scontrol", "update", f"jobid={number(job_id)}", "starttime=now")
        self._wait_for(job_id, "RUNNING")
        self.cluster.works(number(job_id))

    def forbid(self) -> None:
        os.setresuid(NOBODY, NOBODY, 0)
        self._stack.callback(become_root)

    async def pass_time(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def _wait_for(self, job_id: str, state: str) -> None:
        jobs = self.cluster.jobs
        wait_until(lambda: jobs().get(number(job_id), ("",))[0] == state, PATIENCE_S)


def number(job_id: str) -> str:
    return job_id.removeprefix("slurm:")


@asynccontextmanager
async def slurm_rig() -> AsyncIterator[SlurmRig]:
    with ExitStack() as stack:
        cluster = stack.enter_context(slurm_cluster())
        driver = SlurmJobs(settings_for(cluster))
        rig = SlurmRig(cluster, driver, stack)
        await driver.open()
        await driver.list()
        yield rig
        await driver.close()


MARKS = [pytest.mark.slurm, pytest.mark.interop, pytest.mark.long, pytest.mark.timeout(180)]
"""Each starts a Slurm, and Slurm takes its time."""

SLURM_RIG = pytest.param(slurm_rig, id="slurm", marks=MARKS)
