"""`CgroupJobs`: what is particular to the freezer, to process groups and to /proc."""

import asyncio
import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.errors import SettingsError, UnavailableError
from drivers.jobs import cgroup, halt, proc
from drivers.jobs.base import JobState
from drivers.jobs.cgroup import CgroupJobs
from drivers.jobs.proc import Processes, Stat, parse_stat
from drivers.outcome import Result
from drivers.registry import build_jobs, parse_settings
from tests.drivers.job_rigs import (
    Workload,
    cgroup_tree,
    frozen_rig,
    readable_directory,
    wait_until,
)
from tests.requirement import missing


async def opened(**table) -> CgroupJobs:
    driver = CgroupJobs(CgroupJobs.Settings(**table))
    await driver.open()
    return driver


async def state(driver):
    [job] = await driver.list()
    return job.state


async def pause(driver, job_id="cgroup:a"):
    [outcome] = await driver.pause([job_id])
    return outcome


async def resume(driver, job_id="cgroup:a"):
    [outcome] = await driver.resume([job_id])
    return outcome


# Settings


def test_the_registry_builds_it():
    table = {"kind": "cgroup", "job": [{"name": "a", "cgroup": "system.slice/a.service"}]}
    settings = parse_settings("jobs", table)
    assert settings.root == Path("/sys/fs/cgroup")
    assert isinstance(build_jobs(settings), CgroupJobs)


@pytest.mark.parametrize(
    "job",
    [
        {"name": "a"},
        {"name": "a", "cgroup": "x", "pid_file": "/run/x.pid"},
        {"name": "a", "cgroup": ""},
        {"name": "a", "cgroup": "."},
        {"name": "a", "cgroup": "/system.slice"},
        {"name": "a", "cgroup": "x/../.."},
        {"name": "", "cgroup": "x"},
        {"name": "a b", "cgroup": "x"},
        {"name": "a", "cgroup": "x", "tier": "flex"},
    ],
)
def test_a_job_that_cannot_work_is_an_error(job):
    with pytest.raises(ValidationError):
        CgroupJobs.Settings(job=[job])


def test_names_must_differ():
    jobs = [{"name": "a", "cgroup": "x"}, {"name": "a", "cgroup": "y"}]
    with pytest.raises(ValidationError, match="job names must differ: a"):
        CgroupJobs.Settings(job=jobs)


async def test_a_root_that_is_no_cgroup_tree_is_a_settings_error(tmp_path):
    with pytest.raises(SettingsError, match="is no cgroup version 2 tree"):
        await opened(root=tmp_path, job=[{"name": "a", "cgroup": "x"}])


async def test_pid_files_need_no_cgroup_tree(tmp_path):
    table = {"name": "a", "pid_file": tmp_path / "a.pid"}
    driver = await opened(root=tmp_path, job=[table])
    assert await state(driver) is JobState.ENDED


async def test_gpus_and_labels_are_listed(tmp_path):
    labels = {"tier": "flex"}
    table = {"name": "a", "pid_file": tmp_path / "a.pid", "gpus": ["GPU-1"], "labels": labels}
    [job] = await (await opened(job=[table])).list()
    assert (job.job_id, job.name, job.gpus, job.labels) == ("cgroup:a", "a", ("GPU-1",), labels)


# The freezer of the kernel


@pytest.mark.cgroup
async def test_a_frozen_job_is_told_by_its_cgroup_not_by_its_processes():
    async with frozen_rig() as rig:
        target, *_ = rig.job_ids
        await rig.driver.pause([target])
        assert (rig.cgroups[target] / "cgroup.freeze").read_text() == "1\n"
        threads = Processes().threads(rig.workloads[target].pid)
        assert len(threads) == 4
        assert not any(thread.stopped for thread in threads)
        [listed] = [job for job in await rig.driver.list() if job.job_id == target]
        assert listed.state is JobState.PAUSED


@pytest.mark.cgroup
async def test_a_job_under_a_frozen_ancestor_is_paused_and_cannot_be_resumed():
    async with frozen_rig(timeout_s=0.2) as rig:
        target, *_ = rig.job_ids
        ancestor = rig.cgroups[target].parent
        (ancestor / "cgroup.freeze").write_text("1")
        wait_until(lambda: "frozen 1" in (rig.cgroups[target] / "cgroup.events").read_text())
        assert (await rig.driver.list())[0].state is JobState.PAUSED
        outcome = await resume(rig.driver, target)
        assert outcome.result is Result.REFUSED
        assert f"stays frozen because an ancestor is frozen: {ancestor}" in outcome.detail

        assert (await pause(rig.driver, target)).result is Result.APPLIED
        (ancestor / "cgroup.freeze").write_text("0")
        wait_until(lambda: "frozen 0" in (ancestor / "cgroup.events").read_text())
        assert (await rig.driver.list())[0].state is JobState.PAUSED
        assert (await resume(rig.driver, target)).result is Result.APPLIED


@pytest.mark.cgroup
def test_the_job_that_holds_flexload_itself_is_not_paused():
    script = """
import asyncio, sys
from drivers.jobs.cgroup import CgroupJobs

async def main(root, cgroup):
    driver = CgroupJobs(CgroupJobs.Settings(root=root, job=[{"name": "a", "cgroup": cgroup}]))
    await driver.open()
    [outcome] = await driver.pause(["cgroup:a"])
    print(outcome.result, outcome.detail)

asyncio.run(main(*sys.argv[1:]))
"""
    with cgroup_tree() as tree:
        inner = tree / "inner"
        inner.mkdir()
        enter = f'echo $$ > {inner}/cgroup.procs && exec "$@"'
        arguments = [sys.executable, "-c", script, str(tree.parent), tree.name]
        run = subprocess.run(
            ["sh", "-c", enter, "sh", *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert "refused" in run.stdout, run.stderr
        assert "would halt flexload itself" in run.stdout


@pytest.mark.cgroup
async def test_an_empty_cgroup_has_ended_and_is_not_frozen_for_whoever_comes_next():
    with cgroup_tree() as tree:
        table = {"name": "a", "cgroup": tree.name}
        driver = await opened(root=tree.parent, job=[table])
        assert await state(driver) is JobState.ENDED
        assert (await pause(driver)).result is Result.LOST
        assert (tree / "cgroup.freeze").read_text() == "0\n"
        (tree / "cgroup.freeze").write_text("1")
        assert (await resume(driver)).result is Result.APPLIED
        assert (tree / "cgroup.freeze").read_text() == "0\n"


@pytest.mark.cgroup
async def test_a_cgroup_that_comes_back_is_the_job_again():
    with cgroup_tree() as tree, readable_directory() as directory:
        table = {"name": "a", "cgroup": f"{tree.name}/a"}
        driver = await opened(root=tree.parent, job=[table])
        assert await state(driver) is JobState.ENDED
        (tree / "a").mkdir()
        workload = Workload(directory, tree / "a")
        try:
            assert await state(driver) is JobState.RUNNING
            assert (await pause(driver)).result is Result.APPLIED
        finally:
            workload.kill()


@pytest.mark.cgroup
async def test_since_when_is_known_for_what_was_done_from_here():
    async with frozen_rig() as rig:
        target, *_ = rig.job_ids

        async def since():
            [job] = [job for job in await rig.driver.list() if job.job_id == target]
            return job.since

        assert await since() is None
        await rig.driver.pause([target])
        paused_at = await since()
        assert paused_at is not None
        await rig.driver.pause([target])
        assert await since() == paused_at
        await rig.driver.resume([target])
        assert await since() > paused_at
        rig.end(target)
        assert await since() is None


# A freezer of plain files, for what the kernel does not do on demand


@pytest.fixture
def files(tmp_path):
    """The files of a job's cgroup that never changes by itself."""
    (tmp_path / "cgroup.controllers").touch()
    cgroup = tmp_path / "above" / "a"
    cgroup.mkdir(parents=True)
    (cgroup / "cgroup.events").write_text("populated 1\nfrozen 0\n")
    (cgroup / "cgroup.freeze").write_text("0\n")
    return cgroup


async def over(files, timeout_s=0.1):
    root = files.parents[1]
    table = {"name": "a", "cgroup": str(files.relative_to(root))}
    return await opened(root=root, timeout_s=timeout_s, job=[table])


async def test_a_freeze_that_is_not_confirmed_in_time_is_lost_and_stays_ordered(files):
    driver = await over(files, timeout_s=0.3)
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.005)

    ticking = asyncio.create_task(tick())
    outcome = await pause(driver)
    ticking.cancel()
    assert outcome.result is Result.LOST
    assert outcome.detail == f"cgroup {files} is not reported frozen yet"
    assert (files / "cgroup.freeze").read_text().startswith("1")
    assert await state(driver) is JobState.RUNNING
    assert ticks > 10


async def test_a_cgroup_without_a_freezer_is_unsupported(files):
    (files / "cgroup.freeze").unlink()
    outcome = await pause(await over(files))
    assert outcome.result is Result.UNSUPPORTED
    assert "Linux 5.2" in outcome.detail


async def test_of_a_cgroup_that_goes_away_nothing_is_left_to_pause_or_resume(files):
    driver = await over(files)
    for file in files.iterdir():
        file.unlink()
    files.rmdir()
    assert await state(driver) is JobState.ENDED
    outcome = await pause(driver)
    assert outcome.result is Result.LOST
    assert str(files) in outcome.detail
    outcome = await resume(driver)
    assert (outcome.result, outcome.detail) == (Result.APPLIED, "")


async def test_an_ended_job_that_may_not_be_thawed_is_refused_not_resumed(files, monkeypatch):
    (files / "cgroup.events").write_text("populated 0\nfrozen 1\n")
    driver = await over(files)

    def forbidden(path, flags):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(halt.os, "open", forbidden)
    outcome = await resume(driver)
    assert outcome.result is Result.REFUSED
    assert outcome.detail == f"cannot write {files}/cgroup.freeze: Permission denied"


async def test_an_ancestor_outside_the_tree_may_hold_a_job_frozen(files):
    (files / "cgroup.events").write_text("populated 1\nfrozen 1\n")
    outcome = await resume(await over(files))
    assert outcome.result is Result.REFUSED
    assert outcome.detail.endswith("because an ancestor is frozen: one outside of it")


async def test_a_job_that_somebody_freezes_again_is_refused(files, monkeypatch):
    (files / "cgroup.events").write_text("populated 1\nfrozen 1\n")
    driver = await over(files)
    write = os.write
    monkeypatch.setattr(halt.os, "write", lambda file, _: write(file, b"1"))
    outcome = await resume(driver)
    assert outcome.result is Result.REFUSED
    assert "was frozen again by somebody else" in outcome.detail


# Process groups


@pytest.fixture
def signals(monkeypatch):
    """Records the signals to groups instead of sending them."""
    sent = []
    monkeypatch.setattr(halt.os, "killpg", lambda *signal: sent.append(signal))
    return sent


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A /proc of our own: `machine(pid, state, ...)` puts a process there."""
    root = tmp_path / "proc"
    root.mkdir()
    monkeypatch.setattr(proc, "PROC", root)
    monkeypatch.setattr(halt, "PROC", root)

    def group_of(pid):
        return parse_stat((root / str(pid) / "stat").read_text()).group

    monkeypatch.setattr(proc.os, "getpgid", group_of)

    def put(pid, state="S", group=100, started=5000, threads=()):
        def line(tid, state):
            fields = [state, "1", str(group), *["0"] * 16, str(started), *["0"] * 30]
            return f"{tid} (a) b) R (c) {' '.join(fields)}\n"

        for tid, each in [(pid, state), *threads]:
            task = root / str(pid) / "task" / str(tid)
            task.mkdir(parents=True, exist_ok=True)
            (task / "stat").write_text(line(tid, each))
        (root / str(pid) / "stat").write_text(line(pid, state))

    return put


async def with_pid_file(tmp_path, text, timeout_s=0.1):
    (tmp_path / "a.pid").write_text(text)
    return await opened(timeout_s=timeout_s, job=[{"name": "a", "pid_file": tmp_path / "a.pid"}])


@pytest.mark.parametrize("text", ["", "\n", "no pid", "-1", "4194304000", "12 13"])
async def test_a_pid_file_without_a_living_process_has_ended(tmp_path, signals, text):
    driver = await with_pid_file(tmp_path, text)
    assert await state(driver) is JobState.ENDED
    assert (await pause(driver)).result is Result.LOST
    assert signals == []


async def test_a_pid_file_that_cannot_be_read_is_refused_and_named(tmp_path, signals):
    (tmp_path / "a.pid").mkdir()
    driver = await opened(job=[{"name": "a", "pid_file": tmp_path / "a.pid"}])
    assert await state(driver) is JobState.RUNNING
    outcome = await pause(driver)
    assert outcome.result is Result.REFUSED
    assert outcome.detail == f"cannot read {tmp_path}/a.pid: Is a directory"
    assert signals == []


@pytest.mark.parametrize("group", [0, 1, os.getpgrp()])
async def test_no_group_is_signalled_that_is_not_a_jobs(tmp_path, machine, signals, group):
    machine(100, group=group)
    driver = await with_pid_file(tmp_path, "100")
    for command in (pause, resume):
        outcome = await command(driver)
        assert outcome.result is Result.REFUSED
        assert f"process group {group} of {tmp_path}/a.pid" in outcome.detail
    assert signals == []


async def test_a_pid_used_again_is_not_the_job(tmp_path, machine, signals):
    machine(100, started=5000)
    driver = await with_pid_file(tmp_path, "100")
    assert await state(driver) is JobState.RUNNING
    machine(100, started=9000)
    assert await state(driver) is JobState.ENDED
    assert (await pause(driver)).result is Result.LOST
    assert (await resume(driver)).result is Result.APPLIED
    assert signals == []


async def test_a_group_whose_number_another_job_took_over_is_not_woken(tmp_path, machine, signals):
    machine(100, "T", started=5000)
    machine(101, "T", started=5001)
    driver = await with_pid_file(tmp_path, "100")
    assert (await pause(driver)).result is Result.APPLIED
    machine(100, "T", started=9000)
    machine(101, "T", started=9001)
    assert (await resume(driver)).result is Result.APPLIED
    assert signals == [(100, signal.SIGSTOP)]


async def test_what_a_dead_leader_left_stopped_is_woken_under_its_successor(
    tmp_path, machine, signals
):
    machine(100, "T")
    machine(101, "T")
    driver = await with_pid_file(tmp_path, "100")
    assert (await pause(driver)).result is Result.APPLIED
    machine(100, "Z")
    machine(200, "S", group=200)
    (tmp_path / "a.pid").write_text("200")
    assert (await resume(driver)).result is Result.APPLIED
    assert sorted(signals[1:]) == [(100, signal.SIGCONT), (200, signal.SIGCONT)]


async def test_of_a_job_that_runs_only_its_leader_is_looked_at(tmp_path, machine, monkeypatch):
    machine(100)
    machine(101)
    driver = await with_pid_file(tmp_path, "100")
    looks = []
    monkeypatch.setattr(Processes, "threads", lambda self, group: looks.append(group) or [])
    assert await state(driver) is JobState.RUNNING
    assert looks == []


async def test_others_processes_that_proc_hides_look_as_if_they_had_ended(
    tmp_path, machine, monkeypatch
):
    """As under the mount option hidepid=1, which lists them and lets nobody look."""
    machine(100)
    driver = await with_pid_file(tmp_path, "100")

    def hidden(path):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "read_bytes", hidden)
    assert await state(driver) is JobState.ENDED
    assert (await pause(driver)).result is Result.LOST


async def test_a_look_that_fails_for_another_reason_does_not_end_a_job(
    tmp_path, machine, monkeypatch
):
    machine(100)
    driver = await with_pid_file(tmp_path, "100")

    def exhausted(path):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Path, "read_bytes", exhausted)
    assert await state(driver) is JobState.RUNNING
    for command in (pause, resume):
        outcome = await command(driver)
        assert outcome.result is Result.REFUSED
        assert "Too many open files" in outcome.detail


async def test_a_host_that_does_not_answer_costs_one_thread_however_often_it_is_asked(
    tmp_path, machine, signals, monkeypatch
):
    machine(100)
    driver = await with_pid_file(tmp_path, "100")
    monkeypatch.setattr(cgroup, "KERNEL_S", 0.02)
    mended = threading.Event()
    read = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path: mended.wait() and read(path))
    before = threading.active_count()
    try:
        for _ in range(20):
            with pytest.raises(UnavailableError, match="told nothing of its jobs"):
                await driver.list()
            for command in (pause, resume):
                outcome = await command(driver)
                assert outcome.result is Result.LOST
                assert "told nothing of its jobs" in outcome.detail
        assert threading.active_count() == before
    finally:
        mended.set()
    monkeypatch.setattr(cgroup, "KERNEL_S", 5.0)
    async with asyncio.timeout(10):
        while await listed_or_none(driver) is None:
            await asyncio.sleep(0)
    assert signals == [], "what nobody waited for any more was not done late"


async def listed_or_none(driver):
    try:
        return await driver.list()
    except UnavailableError:
        return None


async def test_another_pid_in_the_file_is_the_job_anew(tmp_path, machine, signals):
    machine(100)
    machine(200, group=200, started=9000)
    driver = await with_pid_file(tmp_path, "100")
    (tmp_path / "a.pid").write_text("200")
    assert await state(driver) is JobState.RUNNING
    await pause(driver)
    assert signals == [(200, signal.SIGSTOP)]


async def test_paused_means_every_thread_of_the_group_is_stopped(tmp_path, machine):
    machine(100, "T", threads=[(101, "R")])
    machine(102, "Z")
    driver = await with_pid_file(tmp_path, "100")
    assert await state(driver) is JobState.RUNNING
    machine(100, "T", threads=[(101, "t")])
    assert await state(driver) is JobState.PAUSED
    machine(103, "D")
    assert await state(driver) is JobState.RUNNING
    machine(103, "D", group=300)
    assert await state(driver) is JobState.PAUSED
    machine(100, "Z")
    assert await state(driver) is JobState.ENDED


async def test_a_group_that_does_not_stop_in_time_is_lost(tmp_path, machine, signals):
    machine(100, "T")
    machine(101, "D")
    driver = await with_pid_file(tmp_path, "100")
    outcome = await pause(driver)
    assert outcome.result is Result.LOST
    assert outcome.detail == (
        f"the process group of {tmp_path}/a.pid does not stop: process 101 is in state D"
    )
    machine(101, "T")
    outcome = await resume(driver)
    assert outcome.result is Result.LOST
    assert "does not run again: process 10" in outcome.detail
    assert signals == [(100, signal.SIGSTOP), (100, signal.SIGCONT)]


VFORK = "#include <unistd.h>\nint main(void) { if (!vfork()) { sleep(600); _exit(0); } }"


def compiled(source, path):
    if shutil.which("gcc") is None:
        missing("gcc", "this test needs a program of its own")
    command = ["gcc", "-w", "-x", "c", "-", "-o", str(path)]
    subprocess.run(command, input=source, text=True, check=True)
    return str(path)


def leader(command):
    """A process that leads a group of its own."""
    return subprocess.Popen(command, start_new_session=True)


@pytest.mark.gcc
async def test_a_process_in_the_kernels_hands_stops_when_they_let_go(tmp_path):
    """A parent in vfork() is in state D until its child ends, which is stopped as well."""
    process = leader([compiled(VFORK, tmp_path / "vfork")])
    try:
        wait_until(lambda: len(Processes().threads(process.pid)) == 2)
        driver = await with_pid_file(tmp_path, str(process.pid))
        outcome = await pause(driver)
        assert outcome.result is Result.LOST
        assert outcome.detail.endswith(f"process {process.pid} is in state D")
        assert await state(driver) is JobState.RUNNING
        assert (await resume(driver)).result is Result.APPLIED
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


async def test_what_a_dead_leader_left_stopped_is_woken(tmp_path):
    # The shell is the leader and the sleep its child, which outlives it.
    process = leader(["sh", "-c", "sleep 600 & wait"])
    try:
        wait_until(lambda: len(Processes().threads(process.pid)) == 2)
        driver = await with_pid_file(tmp_path, str(process.pid), timeout_s=5)
        assert (await pause(driver)).result is Result.APPLIED
        process.kill()
        process.wait()
        [left] = Processes().threads(process.pid)
        assert left.stopped
        outcome = await resume(driver)
        assert (outcome.result, outcome.detail) == (Result.APPLIED, "")
        wait_until(lambda: not Processes().threads(process.pid)[0].stopped)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


# /proc


NAMES = st.text(st.characters(exclude_characters="\0"), max_size=15) | st.sampled_from(
    ["a b", ") R 1 2 3", "((", "))", "", ") T 1 99 99", "a\nb"]
)


@given(
    pid=st.integers(1, 2**22),
    name=NAMES,
    state=st.sampled_from("RSDTtZXxIPKW"),
    parent=st.integers(0, 2**22),
    group=st.integers(0, 2**22),
    started=st.integers(0, 2**64 - 1),
    others=st.lists(st.integers(-(2**31), 2**64 - 1), min_size=46, max_size=46),
)
def test_a_stat_line_is_parsed_whatever_the_command_is_called(
    pid, name, state, parent, group, started, others
):
    middle = " ".join(map(str, others[:16]))
    rest = " ".join(map(str, others[16:]))
    line = f"{pid} ({name}) {state} {parent} {group} {middle} {started} {rest}\n"
    assert parse_stat(line) == Stat(pid, state, parent, name, group, started)


@given(st.text())
def test_anything_else_is_a_value_error(line):
    with pytest.raises(ValueError, match=r"."):
        parse_stat(line)


def test_our_own_threads_are_found():
    threads = Processes().threads(os.getpgrp())
    assert os.getpid() in {thread.pid for thread in threads}
    assert Processes().threads(2**30) == []
