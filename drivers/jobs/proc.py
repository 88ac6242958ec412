"""What /proc says about processes and their groups, as proc(5) describes it."""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PROC = Path("/proc")

_DEAD = "ZXx"
_HIDDEN = (FileNotFoundError, ProcessLookupError, PermissionError)
"""What shows of a process that has ended, or that the mount option `hidepid` hides. Any other error
tells nothing of the process."""


@dataclass(frozen=True, slots=True)
class Stat:
    """One process or thread."""

    pid: int
    state: str
    """One letter: R running, S sleeping, D uninterruptible, T stopped, t traced, Z zombie, X dead."""
    parent: int
    name: str
    """Of the program, cut at 15 characters."""
    group: int
    started: int
    """Clock ticks from boot to its start: with the pid it names a process for good, as pids recur."""

    @property
    def dead(self) -> bool:
        """Whether nothing of it will ever run again."""
        return self.state in _DEAD

    @property
    def stopped(self) -> bool:
        """Whether it is stopped by a signal or held by a debugger."""
        return self.state in "Tt"


def parse_stat(line: str) -> Stat:
    """Parse a line of /proc/PID/stat. Raises `ValueError` for anything else.

    The command name stands in parentheses and may itself contain spaces, parentheses and newlines,
    so the fields are counted from the last closing parenthesis.
    """
    head, opening, rest = line.partition("(")
    name_end = rest.rfind(")")
    fields = rest[name_end + 1 :].split()
    if not opening or name_end < 0 or len(fields) < 20:
        raise ValueError(f"not a stat line: {line!r}")
    return Stat(
        pid=int(head),
        state=fields[0],
        parent=int(fields[1]),
        name=rest[:name_end],
        group=int(fields[2]),
        started=int(fields[19]),
    )


def read_stat(directory: Path) -> Stat | None:
    """The process or thread whose /proc directory this is; None when it is gone or hidden."""
    try:
        return parse_stat((directory / "stat").read_bytes().decode(errors="replace"))
    except _HIDDEN:
        return None


class Processes:
    """The processes of this machine at one instant: looked at once, when first asked for."""

    @cached_property
    def all(self) -> Mapping[int, Stat]:
        """Every process, by pid; one of which nothing runs any more, too, until its parent has noticed."""
        stats = (read_stat(PROC / name) for name in os.listdir(PROC) if name.isdecimal())  # noqa: PTH208
        return {stat.pid: stat for stat in stats if stat is not None}

    def threads(self, group: int) -> Sequence[Stat]:
        """All living threads of a process group's processes.

        Threads and not processes: a process whose first thread has ended shows as a zombie while
        the others run on.
        """
        return [
            thread for pid in self._pids_by_group.get(group, ()) for thread in living_threads(pid)
        ]

    @cached_property
    def _pids_by_group(self) -> Mapping[int, Sequence[int]]:
        found = defaultdict[int, list[int]](list)
        for name in os.listdir(PROC):  # noqa: PTH208 (a path object a process costs more than asking)
            if name.isdecimal():
                with suppress(*_HIDDEN):
                    found[os.getpgid(int(name))].append(int(name))
        return found


def living_threads(pid: int) -> Sequence[Stat]:
    """The threads of a process that have not ended."""
    return [thread for thread in _stats(PROC / str(pid) / "task") if not thread.dead]


def _stats(directory: Path) -> Iterator[Stat]:
    try:
        entries = [entry for entry in directory.iterdir() if entry.name.isdecimal()]
    except _HIDDEN:
        return
    for entry in entries:
        if (stat := read_stat(entry)) is not None:
            yield stat
