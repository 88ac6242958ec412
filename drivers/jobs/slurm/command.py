"""Slurm's own programs, run with a time limit: there is no other way to suspend a job."""

import asyncio
import os
import shutil
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from drivers.errors import UnavailableError

REAPING_S = 0.5
"""How long a killed program is waited for: one in a kernel in trouble may not end at all."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a program printed and how it ended."""

    status: int
    output: str
    errors: Sequence[str]
    """The lines of its standard error."""

    @property
    def ok(self) -> bool:
        """Whether it says that all went well."""
        return self.status == 0


class SlurmPrograms:
    """Runs squeue and scontrol. Never through a shell."""

    def __init__(self, folder: Path | None, conf: Path | None, timeout_s: float) -> None:
        """`folder`: where they are, if not on the PATH. `conf`: slurm.conf, if not the built-in place."""
        self._folder = folder
        self._timeout_s = timeout_s
        self._environment = _environment(conf)

    def missing(self) -> str:
        """Which of the programs is not there, in a sentence; empty when all are."""
        where = None if self._folder is None else str(self._folder)
        absent = (name for name in ("squeue", "scontrol") if shutil.which(name, path=where) is None)
        place = "on the PATH" if where is None else f"in {where}"
        return next((f"Slurm's {name} is not {place}" for name in absent), "")

    async def run(self, program: str, *arguments: str) -> Answer:
        """Run a program to its end. Raises `UnavailableError` when it cannot be run, or takes too long."""
        path = program if self._folder is None else str(self._folder / program)
        process = None
        try:
            async with asyncio.timeout(self._timeout_s):
                process = await asyncio.create_subprocess_exec(
                    path,
                    *arguments,
                    stdin=DEVNULL,
                    stdout=PIPE,
                    stderr=PIPE,
                    env=self._environment,
                    start_new_session=True,
                )
                output, errors = await process.communicate()
        except TimeoutError:
            limit = f"{self._timeout_s:g} s"
            raise UnavailableError(f"Slurm's {program} gave no answer within {limit}") from None
        except OSError as error:
            raise UnavailableError(f"cannot run {path}: {error.strerror}") from error
        finally:
            if process is not None and process.returncode is None:
                await _kill(process)
        lines = errors.decode(errors="replace").splitlines()
        return Answer(process.returncode or 0, output.decode(errors="replace"), lines)


async def _kill(process: Process) -> None:
    """End a program and what it started: a site may have put a script of its own in its place."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), REAPING_S)


def _environment(conf: Path | None) -> dict[str, str]:
    """Ours without what changes what Slurm's programs print, or as whom they speak."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SLURM", "SQUEUE", "SCONTROL")) or name == "SLURM_CONF"
    }
    kept["LC_ALL"] = "C"
    if conf is not None:
        kept["SLURM_CONF"] = str(conf)
    return kept
