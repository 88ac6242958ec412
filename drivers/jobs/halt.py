"""The two ways to halt the processes of a job on this host: the cgroup freezer and SIGSTOP.

Freezing is the better one: the kernel holds every process of the cgroup, new ones too, nobody's
SIGCONT undoes it, and the processes do not notice. SIGSTOP needs no cgroup of the job's own, but
reaches only the process group, and shows to the processes' parents.
"""

import errno
import os
import signal
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Protocol

from drivers.jobs.base import JobState
from drivers.jobs.proc import PROC, Processes, Stat, read_stat
from drivers.outcome import Result


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a job was not paused or resumed."""

    result: Result
    detail: str
    """One sentence for an operator."""


class Halt(Protocol):
    """One way to halt one job. Every method may block on the kernel, on a sick host for long."""

    def state(self, processes: Processes) -> JobState:
        """What the job is seen to do; running when it cannot be seen whether it is halted."""

    def order(self, paused: bool) -> Rejection | None:
        """Ask for the job to be halted or let go; None when the kernel took the order.

        One that has ended can be let go: what halted it, if anything still does, is taken away.
        """

    def excuse(self, paused: bool) -> Rejection:
        """Why an order that was taken is not seen to be carried out."""


class Freezer:
    """Halts a cgroup (version 2) through its `cgroup.freeze`.

    A frozen process still shows as sleeping in /proc, so only `cgroup.events` tells. That says
    `frozen 1` also when an ancestor is what is frozen.
    """

    def __init__(self, root: Path, cgroup: PurePosixPath) -> None:
        self._root = root
        self._directory = root / cgroup
        self._freeze = self._directory / "cgroup.freeze"

    def state(self, processes: Processes) -> JobState:
        """Ended when the cgroup is gone or has no process."""
        try:
            events = (self._directory / "cgroup.events").read_text().splitlines()
        except OSError as error:
            return JobState.ENDED if _is_gone(error) else JobState.RUNNING
        if "populated 0" in events:
            return JobState.ENDED
        return JobState.PAUSED if "frozen 1" in events else JobState.RUNNING

    def order(self, paused: bool) -> Rejection | None:
        """Write `cgroup.freeze`. An ended job is not frozen: whatever starts there next would be.

        Letting go of an ended job thaws its cgroup for the same reason.
        """
        if paused and self._holds_this_process():
            detail = f"pausing cgroup {self._directory} would halt flexload itself"
            return Rejection(Result.REFUSED, detail)
        if paused and self.state(Processes()) is JobState.ENDED:
            return Rejection(Result.LOST, f"cgroup {self._directory} is gone or has no process")
        try:
            file = os.open(self._freeze, os.O_WRONLY)
            try:
                os.write(file, b"1" if paused else b"0")
            finally:
                os.close(file)
        except OSError as error:
            return self._rejection(error, paused)
        return None

    def excuse(self, paused: bool) -> Rejection:
        """An ancestor that is frozen keeps this one frozen, and is not ours to thaw."""
        if paused:
            return Rejection(Result.LOST, f"cgroup {self._directory} is not reported frozen yet")
        if _reads_one(self._freeze):
            detail = f"cgroup {self._directory} was frozen again by somebody else"
            return Rejection(Result.REFUSED, detail)
        above = takewhile(lambda parent: parent != self._root, self._directory.parents)
        frozen = (str(parent) for parent in above if _reads_one(parent / "cgroup.freeze"))
        holder = next(frozen, "one outside of it")
        return Rejection(
            Result.REFUSED,
            f"cgroup {self._directory} stays frozen because an ancestor is frozen: {holder}",
        )

    def _rejection(self, error: OSError, paused: bool) -> Rejection | None:
        if not _is_gone(error):
            return Rejection(Result.REFUSED, f"cannot write {self._freeze}: {error.strerror}")
        if self._directory.is_dir():
            detail = f"{self._freeze} does not exist: freezing needs Linux 5.2 and cgroup version 2"
            return Rejection(Result.UNSUPPORTED, detail)
        return Rejection(Result.LOST, f"cgroup {self._directory} is gone") if paused else None

    def _holds_this_process(self) -> bool:
        lines = (PROC / "self" / "cgroup").read_text().splitlines()
        own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), None)
        return own is not None and (self._root / own).is_relative_to(self._directory)


class ProcessGroup:
    """Halts the process group of the process named in a pid file, by SIGSTOP and SIGCONT.

    A process that left the group (a daemon, a shell's background job with job control) is not
    reached. The processes must be visible in /proc: under `hidepid` or systemd's `ProtectProc` those
    of others look as if they had ended. Pids recur: a process counts as the job only while it started
    when it did when it was first seen under that pid.
    """

    def __init__(self, pid_file: Path) -> None:
        self._pid_file = pid_file
        self._first_seen: Stat | None = None
        self._stopped_group = 0
        self._stopped: frozenset[tuple[int, int]] = frozenset()
        """Who was stopped from here and not yet let go, by pid and start."""

    def state(self, processes: Processes) -> JobState:
        """Paused when every thread of every process of the group is stopped.

        A leader that runs is proof enough that the job does: the others need no look then.
        """
        try:
            leader = self._leader()
        except OSError:
            return JobState.RUNNING
        if leader is None:
            return JobState.ENDED
        if not leader.stopped:
            return JobState.RUNNING
        threads = processes.threads(leader.group)
        if not threads:
            return JobState.ENDED
        halted = all(thread.stopped for thread in threads)
        return JobState.PAUSED if halted else JobState.RUNNING

    def order(self, paused: bool) -> Rejection | None:
        """Signal the group, unless it is flexload's own or not one at all."""
        try:
            leader = self._leader()
        except OSError as error:
            detail = f"cannot read {self._pid_file}: {error.strerror}"
            return Rejection(Result.REFUSED, detail)
        if leader is not None and (leader.group <= 1 or leader.group == os.getpgrp()):
            detail = f"process group {leader.group} of {self._pid_file} is not one to signal"
            return Rejection(Result.REFUSED, detail)
        return self._stop(leader) if paused else self._let_go(leader)

    def excuse(self, paused: bool) -> Rejection:
        """Name one process that does not obey; one in state D does when the kernel lets it."""
        seen = self._first_seen
        threads = [] if seen is None else Processes().threads(seen.group)
        other = next((thread for thread in threads if thread.stopped is not paused), None)
        which = "" if other is None else f": process {other.pid} is in state {other.state}"
        verb = "stop" if paused else "run again"
        detail = f"the process group of {self._pid_file} does not {verb}{which}"
        return Rejection(Result.LOST, detail)

    def _leader(self) -> Stat | None:
        """The process of the pid file; None when it ended or its pid now belongs to another."""
        try:
            pid = int(self._pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        stat = read_stat(PROC / str(pid))
        if stat is None or stat.dead:
            return None
        if self._first_seen is None or self._first_seen.pid != pid:
            self._first_seen = stat
        return stat if stat.started == self._first_seen.started else None

    def _stop(self, leader: Stat | None) -> Rejection | None:
        ended = Rejection(Result.LOST, f"the process of {self._pid_file} has ended")
        if leader is None:
            return ended
        try:
            os.killpg(leader.group, signal.SIGSTOP)
        except ProcessLookupError:
            return ended
        except PermissionError:
            return self._forbidden(leader.group)
        self._stopped_group, self._stopped = leader.group, _identities(leader.group)
        return None

    def _let_go(self, leader: Stat | None) -> Rejection | None:
        """Continue the job, and what a leader that died left stopped: nobody else would."""
        groups = set() if leader is None else {leader.group}
        # One of those stopped must still be there: a group's number recurs once all of it has ended.
        if self._stopped and not self._stopped.isdisjoint(_identities(self._stopped_group)):
            groups.add(self._stopped_group)
        for group in groups:
            try:
                os.killpg(group, signal.SIGCONT)
            except ProcessLookupError:
                continue
            except PermissionError:
                return self._forbidden(group)
        self._stopped = frozenset()
        return None

    def _forbidden(self, group: int) -> Rejection:
        detail = f"no permission to signal process group {group} of {self._pid_file}"
        return Rejection(Result.REFUSED, detail)


def _identities(group: int) -> frozenset[tuple[int, int]]:
    return frozenset((thread.pid, thread.started) for thread in Processes().threads(group))


def _is_gone(error: OSError) -> bool:
    return error.errno in (errno.ENOENT, errno.ENODEV)


def _reads_one(path: Path) -> bool:
    try:
        return path.read_text().strip() == "1"
    except OSError:
        return False
