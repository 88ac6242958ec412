"""What Slurm prints, in the shapes of its releases, and `SlurmJobs` over programs that print it."""

import asyncio
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from drivers.errors import SettingsError, UnavailableError
from drivers.jobs.base import JobState
from drivers.jobs.slurm import gpus as slurm_gpus
from drivers.jobs.slurm.driver import SlurmJobs
from drivers.jobs.slurm.processes import Standstill
from drivers.jobs.slurm.queue import expand_nodes, parse_partitions, parse_queue
from drivers.outcome import Result

STARTED = 1_795_289_479

OLD = {
    "job_id": 3,
    "array_job_id": 2,
    "array_task_id": 0,
    "het_job_id": 0,
    "het_job_offset": 0,
    "name": "sweep",
    "job_state": "RUNNING",
    "state_reason": "None",
    "priority": 4294901759,
    "nodes": "gpu01",
    "gres_detail": ["gpu:2(IDX:0-1)"],
    "partition": "batch",
    "qos": "",
    "account": "research",
    "user_name": "ada",
    "comment": "dr:class=training",
    "start_time": STARTED,
    "suspend_time": 0,
}
"""As 22.05 prints it; what is not read is left out."""


def number(value, known=True):
    return {"set": known, "infinite": False, "number": value}


NEW = OLD | {
    "array_job_id": number(2),
    "array_task_id": number(0),
    "het_job_id": number(0),
    "het_job_offset": number(0),
    "job_state": ["RUNNING"],
    "priority": number(4294901759),
    "start_time": number(STARTED),
    "suspend_time": number(0),
}
"""The same job as 24.11 prints it."""

SINGLE = {
    "22.05": OLD | {"array_job_id": 0, "array_task_id": None},
    "24.11": NEW | {"array_job_id": number(0), "array_task_id": number(0, known=False)},
}


def queue(*jobs, errors=()):
    return json.dumps({"meta": {}, "errors": list(errors), "jobs": list(jobs)})


@pytest.mark.parametrize("raw", [OLD, NEW], ids=["22.05", "24.11"])
def test_a_job_reads_the_same_in_every_shape(raw):
    [job] = parse_queue(queue(raw))
    assert (job.number, job.name_id, job.name) == (3, "2_0", "sweep")
    assert (job.is_running, job.is_suspended, job.heterogeneous) == (True, False, False)
    assert (job.priority, job.nodes, job.gpus) == (4294901759, ["gpu01"], {"gpu01": [0, 1]})
    assert job.labels == {
        "partition": "batch", "account": "research", "user": "ada", "comment": "dr:class=training"
    }  # fmt: skip
    assert (job.started, job.suspended) == (datetime.fromtimestamp(STARTED, UTC), None)


@pytest.mark.parametrize("raw", SINGLE.values(), ids=SINGLE)
def test_a_job_of_no_array_is_named_by_its_number(raw):
    [job] = parse_queue(queue(raw))
    assert job.name_id == "3"


@pytest.mark.parametrize(
    ("state", "running", "suspended", "ended"),
    [
        ("SUSPENDED", False, True, False),
        ("COMPLETING", False, False, False),
        ("PENDING", False, False, False),
        ("COMPLETED", False, False, True),
        ("STOPPED", True, False, False),
        (["RUNNING", "STOPPED"], True, False, False),
        (["CANCELLED", "COMPLETING"], False, False, False),
        (["NODE_FAIL"], False, False, True),
    ],
)
def test_states_and_their_flags(state, running, suspended, ended):
    [job] = parse_queue(queue(OLD | {"job_state": state}))
    assert (job.is_running, job.is_suspended, job.has_ended) == (running, suspended, ended)


def test_gpus_of_several_nodes_and_of_several_kinds():
    raw = NEW | {
        "nodes": "gpu[08-09],big1",
        "gres_detail": ["gpu:a100:3(IDX:0-1,7)", "gpu:h200:1(IDX:4),shard:2(IDX:0)", "(null)"],
    }
    [job] = parse_queue(queue(raw))
    assert job.gpus == {"gpu08": [0, 1, 7], "gpu09": [4], "big1": []}


def test_a_job_that_cannot_be_understood_costs_no_other():
    jobs = parse_queue(queue({"job_id": "x"}, None, OLD, {}))
    assert [job.number for job in jobs] == [3]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "printed no list"),
        ("[]", "printed no list"),
        ('{"jobs": 3}', "printed no list"),
        (queue(errors=[{"error": "Unable to contact slurm controller"}]), "Unable to contact"),
        (queue(errors=["no"]), "no"),
    ],
)
def test_without_a_list_there_is_no_answer(text, why):
    """squeue --json ends well, with an empty list, when slurmctld is away."""
    with pytest.raises(UnavailableError, match=why):
        parse_queue(text)


@pytest.mark.parametrize(
    ("expression", "nodes"),
    [
        ("gpu01", ["gpu01"]),
        ("gpu[01-03,07],login", ["gpu01", "gpu02", "gpu03", "gpu07", "login"]),
        ("r[1-2]n[08-10]x", [f"r{r}n{n}x" for r in (1, 2) for n in ("08", "09", "10")]),
        ("(null)", []),
        ("", []),
    ],
)
def test_nodes_are_written_out(expression, nodes):
    assert expand_nodes(expression) == nodes


def test_partitions_are_read():
    text = (
        "PartitionName=batch AllowGroups=ALL Default=YES Nodes=gpu[01-02] State=UP TotalCPUs=512\n"
        "PartitionName=empty AllowGroups=ALL Nodes=(null) State=DRAIN TotalCPUs=0\n\n"
    )
    batch, empty = parse_partitions(text).values()
    assert (batch.name, batch.state, batch.nodes) == ("batch", "UP", {"gpu01", "gpu02"})
    assert (empty.name, empty.state, empty.nodes) == ("empty", "DRAIN", frozenset())


def test_jobs_on_other_hosts_stand_once_slurms_word_has_stood_a_while_longer_in_a_crowd():
    [job] = parse_queue(queue(OLD))
    few, many = {"j": job}, {f"j{i}": job for i in range(65)}
    standstill = Standstill(settle_s=3.0)
    assert [standstill.judge(few, {}, at_s) for at_s in (10.0, 12.9, 13.0)] == [set(), set(), {"j"}]
    assert [len(standstill.judge(many, {}, at_s)) for at_s in (20.0, 34.9, 35.0)] == [0, 0, 65]


def test_what_is_seen_here_counts_more_than_slurms_word():
    [here] = parse_queue(queue(OLD))
    [spread] = parse_queue(queue(OLD | {"nodes": "gpu[01-02]"}))
    standstill = Standstill(settle_s=3.0)
    for at_s in (10.0, 100.0):
        assert standstill.judge({"j": here}, {3: True}, at_s) == set()
    standstill = Standstill(settle_s=3.0)
    assert standstill.judge({"j": here}, {3: False}, 10.0) == {"j"}
    standstill = Standstill(settle_s=3.0)
    assert standstill.judge({"j": spread}, {3: False}, 10.0) == set()
    assert standstill.judge({"j": spread}, {3: False}, 13.0) == {"j"}


def test_this_hosts_gpus_stand_in_the_order_of_their_device_files(tmp_path, monkeypatch):
    for bus, minor in (("0000:17:00.0", 1), ("0000:65:00.0", 0)):
        (tmp_path / bus).mkdir()
        text = f"Model: \t\t NVIDIA H200\nGPU UUID: \t GPU-{minor}\nDevice Minor: \t {minor}\n"
        (tmp_path / bus / "information").write_text(text)
    monkeypatch.setattr(slurm_gpus, "NVIDIA", tmp_path)
    monkeypatch.setattr(slurm_gpus.socket, "gethostname", lambda: "gpu01.site.example")
    assert slurm_gpus.gpus_of_this_host() == {"gpu01": ["GPU-0", "GPU-1"]}
    (tmp_path / "0000:65:00.0" / "information").unlink()
    assert slurm_gpus.gpus_of_this_host() == {}


class Programs:
    """squeue and scontrol, scripted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("squeue", f"cat {folder}/queue.json")
        self.write("scontrol", f'echo "$@" >> {folder}/told')
        (folder / "told").write_text("")
        self.queue(OLD)

    def write(self, name: str, line: str) -> None:
        (self.folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (self.folder / name).chmod(0o755)

    def queue(self, *jobs) -> None:
        (self.folder / "queue.json").write_text(queue(*jobs))

    def partitions(self, **states: str) -> None:
        """All of the node that the job is on. `batch` can be closed, `training` cannot."""
        partitions = self.folder / "partitions"
        lines = (f"PartitionName={name} Nodes=gpu01 State={states[name]}\n" for name in states)
        partitions.write_text("".join(lines))
        script = (
            f'[ "$2" = partition ] && exec cat {partitions}',
            f'echo "$@" >> {self.folder}/told',
            f'case "$*" in *=batch*DOWN) exec sed -i s/State=UP/State=DOWN/ {partitions};;',
            '*=training*) echo "Invalid user id" >&2; exit 1;; esac',
        )
        self.write("scontrol", "\n".join(script))

    @property
    def told(self) -> list[str]:
        lines = (self.folder / "told").read_text().splitlines()
        return [line for line in lines if not line.startswith("show")]

    async def driver(self, **options) -> SlurmJobs:
        settings = {"bin": self.folder, "state_file": self.folder / "slurm.json", "poll_s": 0.0}
        driver = SlurmJobs(SlurmJobs.Settings(**settings | options))
        await driver.open()
        await driver.list()
        return driver


@pytest.fixture
def programs(tmp_path):
    return Programs(tmp_path)


async def test_slurm_is_asked_for_its_jobs_no_more_often_than_it_should_be(programs):
    asked = programs.folder / "asked"
    programs.write("squeue", f"echo >> {asked}; cat {programs.folder}/queue.json")
    driver = await programs.driver(poll_s=1000.0)
    assert await driver.list() == await driver.list() != []
    assert asked.read_text() == "\n"
    programs.queue()
    await driver.pause(["slurm:2_0"])
    assert {job.state for job in await driver.list()} == {JobState.ENDED}
    assert asked.read_text() == "\n\n"
    await driver.close()


async def test_parts_of_a_heterogeneous_job_are_listed_and_cannot_be_paused(programs):
    programs.queue(SINGLE["22.05"] | {"job_id": 4, "het_job_id": 3, "het_job_offset": 1})
    driver = await programs.driver()
    [job] = await driver.list()
    assert job.job_id == "slurm:3+1"
    [outcome] = await driver.pause([job.job_id])
    assert outcome.result is Result.UNSUPPORTED
    assert programs.told == []
    await driver.close()


async def test_a_job_that_ended_before_it_was_paused_is_listed_as_ended_until_it_is_let_go(
    programs,
):
    """Else its entry in the ledger would stand until a reboot, also for an agent that is restarted."""
    driver = await programs.driver()
    programs.queue()
    [outcome] = await driver.pause(["slurm:2_0"])
    assert outcome.result is Result.LOST
    await driver.close()
    driver = await programs.driver()
    [job] = await driver.list()
    assert (job.job_id, job.name, job.state) == ("slurm:2_0", "sweep", JobState.ENDED)
    assert [o.result for o in await driver.resume(["slurm:2_0"])] == [Result.APPLIED]
    assert await driver.list() == []
    await driver.close()


async def test_the_queue_is_closed_before_anything_is_suspended(programs):
    programs.partitions(batch="UP", night="DOWN")
    driver = await programs.driver(timeout_s=0.1)
    [outcome] = await driver.pause(["slurm:2_0"])
    assert (outcome.result, outcome.detail) == (
        Result.LOST,
        "job slurm:2_0 is not suspended yet",
    )
    assert programs.told == ["update partitionname=batch state=DOWN", "suspend 2_0"]
    await driver.close()


async def test_where_one_queue_cannot_be_closed_nothing_is_suspended_and_the_others_open(programs):
    programs.partitions(batch="UP", training="DRAIN", night="DOWN")
    driver = await programs.driver()
    await driver.list()
    [outcome] = await driver.pause(["slurm:2_0"])
    assert outcome.result is Result.REFUSED
    assert outcome.detail == "partition training cannot be set INACTIVE: Invalid user id"
    assert programs.told == [
        "update partitionname=batch state=DOWN",
        "update partitionname=training state=INACTIVE",
        "update partitionname=batch state=UP",
    ]
    await driver.close()


async def test_a_program_that_hangs_is_ended(programs):
    driver = await programs.driver(command_timeout_s=0.1)
    programs.write("squeue", f"echo $$ > {programs.folder}/pid; sleep 100; true")
    begun = time.monotonic()
    with pytest.raises(UnavailableError, match=r"squeue gave no answer within 0\.1 s"):
        await driver.list()
    assert time.monotonic() - begun < 10
    pid = (programs.folder / "pid").read_text().strip()
    assert not Path(f"/proc/{pid}").exists()
    await driver.close()


async def test_a_call_that_is_cancelled_ends_its_program(programs):
    driver = await programs.driver()
    programs.write("squeue", f"echo $$ > {programs.folder}/pid; exec sleep 100")
    call = asyncio.create_task(driver.list())
    while not (programs.folder / "pid").exists() or not (programs.folder / "pid").read_text():
        await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    pid = (programs.folder / "pid").read_text().strip()
    assert not Path(f"/proc/{pid}").exists()
    await driver.close()


async def test_nothing_is_changed_that_cannot_be_written_down(programs):
    driver = await programs.driver()
    (programs.folder / "slurm.json.new").mkdir()
    [outcome] = await driver.pause(["slurm:2_0"])
    assert (outcome.result, "cannot write" in outcome.detail) == (Result.REFUSED, True)
    assert programs.told == []
    await driver.close()


async def test_a_state_file_that_cannot_be_kept_up_is_a_fault_of_the_settings(programs):
    (programs.folder / "slurm.json").write_text("{")
    with pytest.raises(SettingsError, match="cannot be understood"):
        await programs.driver()
    with pytest.raises(SettingsError, match="cannot be written"):
        await programs.driver(state_file=Path("/nowhere/slurm.json"))


async def test_without_the_programs_it_says_which_is_missing(programs):
    (programs.folder / "scontrol").unlink()
    with pytest.raises(SettingsError, match=f"bin: Slurm's scontrol is not in {programs.folder}"):
        await programs.driver()


async def test_a_slurm_that_is_away_keeps_no_agent_from_starting(programs):
    programs.write("squeue", "echo 'Unable to contact slurm controller' >&2; exit 1")
    settings = {"bin": programs.folder, "state_file": programs.folder / "slurm.json"}
    driver = SlurmJobs(SlurmJobs.Settings(**settings))
    await driver.open()
    with pytest.raises(UnavailableError, match="does not list its jobs: Unable to contact"):
        await driver.list()
    await driver.close()
