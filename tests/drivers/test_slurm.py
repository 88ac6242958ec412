"""`SlurmJobs` on a real Slurm: what suspending does to the queue, and that all comes back as it was."""

import asyncio
import contextlib
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from drivers.errors import UnavailableError
from drivers.jobs.base import JobState
from drivers.jobs.slurm.driver import SlurmJobs
from drivers.jobs.slurm.processes import jobs_at_work
from drivers.outcome import Result
from tests.drivers.job_rigs import wait_until
from tests.drivers.slurm_cluster import CPUS, PATIENCE_S, SlurmCluster, slurm_cluster
from tests.drivers.slurm_rig import MARKS, settings_for

pytestmark = MARKS

RUN = "import sys; from agent.cli import main; sys.exit(main())"
PARTITIONS = ("batch", "training", "realtime")


@pytest.fixture(scope="module")
def daemons():
    with slurm_cluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(daemons: SlurmCluster):
    yield daemons
    daemons.cancel_all()
    for name in PARTITIONS:
        daemons.run("scontrol", "update", f"partitionname={name}", "state=UP")
    settings_for(daemons).state_file.unlink(missing_ok=True)


@contextlib.asynccontextmanager
async def driving(cluster: SlurmCluster, **options):
    driver = SlurmJobs(settings_for(cluster, **options))
    await driver.open()
    await driver.list()
    yield driver
    await driver.close()


def running(cluster: SlurmCluster, *names: str, options=(), deaf=False) -> list[str]:
    """Submit jobs and wait until they work; their numbers."""
    numbers = [cluster.submit(name, *options, deaf=deaf) for name in names]
    for number in numbers:
        cluster.works(number)
    return numbers


def ids(numbers) -> list[str]:
    return [f"slurm:{number}" for number in numbers]


def held(cluster: SlurmCluster) -> tuple[dict, dict]:
    document = json.loads(settings_for(cluster).state_file.read_text())
    return document["partitions"], document["jobs"]


def partition_states(cluster: SlurmCluster) -> dict[str, str]:
    return {name: cluster.show("partition", name)["State"] for name in PARTITIONS}


def priorities(cluster: SlurmCluster, numbers) -> dict[str, str]:
    return {number: cluster.show("job", number)["Priority"] for number in numbers}


async def paused(driver: SlurmJobs, job_ids, limit_s: float = 120.0) -> None:
    """Pause jobs as the agent does: what takes longer than a call is seen in the list."""
    end = time.monotonic() + limit_s
    await driver.pause(job_ids)
    while True:
        states = {job.job_id: job.state for job in await driver.list()}
        if all(states[job_id] is JobState.PAUSED for job_id in job_ids):
            return
        assert time.monotonic() < end, "not paused in time"
        await asyncio.sleep(0.1)


async def resumed(driver: SlurmJobs, job_ids) -> None:
    left = list(job_ids)
    end = time.monotonic() + 60
    while left:
        left = [outcome.key for outcome in await driver.resume(left) if not outcome.ok]
        assert time.monotonic() < end, "not resumed in time"


@pytest.mark.timeout(400)
@pytest.mark.parametrize("count", [1, 8, 64, 200])
async def test_the_queue_starts_nothing_on_freed_cpus_and_all_comes_back_exactly(
    cluster, count, capsys
):
    numbers = running(cluster, *(f"j{i}" for i in range(count)))
    cluster.run("scontrol", "update", "partitionname=training", "state=DRAIN")
    cluster.run("scontrol", "update", "partitionname=realtime", "state=INACTIVE")
    before = (cluster.jobs(), partition_states(cluster), priorities(cluster, numbers))
    # It fits as soon as one CPU is given up.
    waiting = cluster.submit("waiting", "-n", str(CPUS - count + 1))
    async with driving(cluster) as driver:
        begun = time.monotonic()
        await paused(driver, ids(numbers))
        stop_s = time.monotonic() - begun
        assert not any(jobs_at_work().get(int(number), True) for number in numbers)
        assert partition_states(cluster) == {
            "batch": "DOWN", "training": "INACTIVE", "realtime": "INACTIVE"
        }  # fmt: skip
        work = [cluster.work(number) for number in numbers]
        await asyncio.sleep(5)
        assert cluster.jobs()[waiting][0] == "PENDING"
        assert [cluster.work(number) for number in numbers] == work
        begun = time.monotonic()
        await resumed(driver, ids(numbers))
        back_s = time.monotonic() - begun
    for number in numbers:
        cluster.works(number)
    assert cluster.jobs().pop(waiting)[0] == "PENDING"
    after = {number: state for number, state in cluster.jobs().items() if number != waiting}
    assert (after, partition_states(cluster), priorities(cluster, numbers)) == before
    assert held(cluster) == ({}, {})
    with capsys.disabled():
        print(f"\n{count} jobs: confirmed stopped after {stop_s:.2f} s, back after {back_s:.2f} s")


async def test_a_job_that_slurm_calls_suspended_runs_until_its_processes_are_stopped(cluster):
    (number,) = running(cluster, "deaf", deaf=True)
    async with driving(cluster, timeout_s=0.5) as driver:
        [outcome] = await driver.pause(ids([number]))
        assert cluster.jobs()[number][0] == "SUSPENDED"
        assert (outcome.result, [job.state for job in await driver.list()]) == (
            Result.LOST,
            [JobState.RUNNING],
        )
        assert "not all of its processes" in outcome.detail
        await paused(driver, ids([number]))
        work = cluster.work(number)
        await asyncio.sleep(0.2)
        assert cluster.work(number) == work
        await resumed(driver, ids([number]))


async def test_an_arrays_last_task_is_paused_alone_though_it_has_the_arrays_number(cluster):
    number = cluster.submit("array", "--array=0-2")
    tasks = [f"{number}_{i}" for i in range(3)]
    wait_until(lambda: [cluster.jobs().get(t, ("",))[0] for t in tasks] == ["RUNNING"] * 3, 30)
    last = next(t for t in tasks if cluster.show("job", t)["JobId"] == number)
    async with driving(cluster) as driver:
        assert [job.job_id for job in await driver.list()] == ids(tasks)
        assert [o.result for o in await driver.pause(ids([last]))] == [Result.APPLIED]
        states = {task: state for task, (state, _) in cluster.jobs().items()}
        assert states == dict.fromkeys(tasks, "RUNNING") | {last: "SUSPENDED"}
        await resumed(driver, ids([last]))


async def test_a_partition_stays_closed_until_the_last_job_on_its_nodes_is_back(cluster):
    first, second = running(cluster, "a", "b")
    async with driving(cluster, keep_open=("realtime",)) as driver:
        await paused(driver, ids([first]))
        await paused(driver, ids([second]))
        for number, state in ((first, "DOWN"), (second, "UP")):
            await resumed(driver, ids([number]))
            assert partition_states(cluster) == {
                "batch": state, "training": state, "realtime": "UP"
            }  # fmt: skip


async def test_what_an_administrator_set_meanwhile_is_left_alone(cluster):
    (number,) = running(cluster, "a")
    async with driving(cluster) as driver:
        await paused(driver, ids([number]))
        cluster.run("scontrol", "update", "partitionname=training", "state=DRAIN")
        await resumed(driver, ids([number]))
    assert partition_states(cluster) == {"batch": "UP", "training": "DRAIN", "realtime": "UP"}


async def test_a_queue_that_a_reconfiguration_opened_is_closed_again(cluster):
    (number,) = running(cluster, "a")
    async with driving(cluster) as driver:
        await paused(driver, ids([number]))
        cluster.run("scontrol", "reconfigure")
        wait_until(lambda: partition_states(cluster)["batch"] == "UP")
        await driver.list()
        assert set(partition_states(cluster).values()) == {"DOWN"}
        await resumed(driver, ids([number]))
    assert set(partition_states(cluster).values()) == {"UP"}


async def test_without_slurmctld_nothing_hangs_and_nothing_is_forgotten(cluster):
    (number,) = running(cluster, "a")
    async with driving(cluster, command_timeout_s=1.0) as driver:
        await paused(driver, ids([number]))
        cluster.stop_controller()
        begun = time.monotonic()
        for call in (driver.list, lambda: driver.resume(ids([number]))):
            with pytest.raises(UnavailableError, match="squeue gave no answer within 1 s"):
                await call()
        assert time.monotonic() - begun < 10
        cluster.start_controller()
        wait_until(lambda: number in _patient(cluster), PATIENCE_S)
        await resumed(driver, ids([number]))
    cluster.works(number)
    assert set(partition_states(cluster).values()) == {"UP"}
    assert held(cluster) == ({}, {})


def _patient(cluster: SlurmCluster) -> dict:
    with contextlib.suppress(subprocess.SubprocessError):
        return cluster.jobs()
    return {}


async def test_a_jobs_gpus_and_labels_are_told(cluster):
    options = ("--gres=gpu:2", "-p", "training", "--comment=dr:class=x")
    running(cluster, "one", options=("--gres=gpu:1",))
    (number,) = running(cluster, "two", options=options)
    uuids = tuple(f"GPU-{i}" for i in range(8))
    async with driving(cluster, gpus={"gpu01": uuids}) as driver:
        job = next(job for job in await driver.list() if job.job_id == f"slurm:{number}")
    assert (job.name, list(job.gpus)) == ("two", ["GPU-1", "GPU-2"])
    assert job.labels == {"partition": "training", "user": "root", "comment": "dr:class=x"}


@pytest.mark.timeout(600)
def test_killed_between_any_two_commands_restore_alone_brings_all_back(cluster, tmp_path):
    """Also in the midst of a command, and with the command still carried out."""
    numbers = running(cluster, "a", "b", "c")
    cluster.run("scontrol", "update", "partitionname=training", "state=DRAIN")
    cluster.run("scontrol", "update", "partitionname=realtime", "state=INACTIVE")
    before = (cluster.jobs(), partition_states(cluster), priorities(cluster, numbers))
    waiting = cluster.submit("waiting", "-n", str(CPUS - 2))
    for at in itertools.count(1):
        for when in ("before", "after"):
            folder = tmp_path / f"{when}-{at}"
            folder.mkdir()
            lived = live_and_die(cluster, folder, when, at)
            restore = [sys.executable, "-c", RUN, "restore", "--at-once"]
            done = subprocess.run(
                [*restore, "--state-dir", str(folder)], capture_output=True, text=True, timeout=60
            )
            assert done.returncode == 0, done.stdout + done.stderr
            for number in numbers:
                cluster.works(number)
            jobs = cluster.jobs()
            assert jobs.pop(waiting)[0] == "PENDING"
            found = (jobs, partition_states(cluster), priorities(cluster, numbers))
            assert found == before, (when, at, done.stdout)
            if (folder / "slurm.json").exists():
                assert json.loads((folder / "slurm.json").read_text()) == {
                    "partitions": {}, "jobs": {}
                }  # fmt: skip
        if lived and int((folder / "count").read_text()) < at:
            break
    assert (
        at > 6
    )  # three jobs suspended and resumed at the least; lives differ in what else they take


def live_and_die(cluster: SlurmCluster, folder: Path, when: str, at: int) -> bool:
    """An agent pauses and resumes all jobs, and is killed at its command number `at`; whether it lived."""
    scontrol = folder / "scontrol"
    real = subprocess.run(
        ["which", "scontrol", "squeue"], capture_output=True, text=True, check=True
    )
    real_scontrol, real_squeue = real.stdout.split()
    kill = '[ $n = "$FLEXLOAD_KILL_AT" ] && [ "$FLEXLOAD_KILL_WHEN" = {} ] && kill -9 $PPID'
    lines = (
        "#!/bin/sh",
        # Several may be under way.
        f"exec 9>{folder}/counting; flock 9",
        f"n=$(($(cat {folder}/count) + 1)); echo $n > {folder}/count",
        "exec 9>&-",
        kill.format("before"),
        f'{real_scontrol} "$@"',
        "status=$?",
        kill.format("after"),
        "exit $status",
    )
    scontrol.write_text("\n".join(lines))
    scontrol.chmod(0o755)
    (folder / "squeue").symlink_to(real_squeue)
    (folder / "count").write_text("0\n")
    settings = SlurmJobs.Settings(
        conf=cluster.conf, bin=folder, state_file=folder / "slurm.json", settle_s=0.5
    )
    environment = {**os.environ, "FLEXLOAD_KILL_AT": str(at), "FLEXLOAD_KILL_WHEN": when}
    victim = [
        sys.executable,
        "-m",
        "tests.drivers.slurm_victim",
        folder,
        settings.model_dump_json(),
    ]
    done = subprocess.run(victim, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, -9), done.stderr
    # A command that was under way goes on though who gave it is dead.
    wait_until(lambda: not _runs(str(scontrol)))
    return done.returncode == 0


def _runs(program: str) -> bool:
    lines = (file.read_bytes() for file in Path("/proc").glob("[0-9]*/cmdline") if file.exists())
    with contextlib.suppress(OSError):
        return any(program.encode() in line for line in lines)
    return False
