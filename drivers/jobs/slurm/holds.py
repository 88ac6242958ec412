"""What the Slurm driver changed and what it was before, on disk before anything is changed."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from drivers.errors import SettingsError


class JobHold(BaseModel):
    """One job that was asked to pause, until it is asked to resume."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    priority: int
    """What it had: a suspended job has 0, and a resumed one is given another."""
    partitions: tuple[str, ...]
    """Which partitions stay closed for it: the nodes it runs on are theirs, too."""


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    partitions: Mapping[str, str] = {}
    jobs: Mapping[str, JobHold] = {}


class Holds:
    """The jobs asked to pause, by the id that Slurm's commands take, and the partitions closed for them,
    each with the state it had.

    In memory what was asked for last; on disk since the last `save`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.partitions: dict[str, str] = {}
        self.jobs: dict[str, JobHold] = {}

    def load(self) -> None:
        """Read what an earlier run left. Raises `SettingsError` when it cannot be read or kept up."""
        try:
            document = _Document.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            document = _Document()
        except OSError as error:
            raise SettingsError(
                f"state_file: cannot read {self._path}: {error.strerror}"
            ) from error
        except ValidationError as error:
            raise SettingsError(
                f"state_file: {self._path} cannot be understood; once no job is suspended and no partition "
                "is down by flexload, remove it"
            ) from error
        if not os.access(self._path.parent, os.W_OK | os.X_OK):
            raise SettingsError(f"state_file: {self._path.parent} cannot be written")
        self.partitions, self.jobs = dict(document.partitions), dict(document.jobs)

    def save(self) -> None:
        """Bring it to disk, whole or not at all. Raises `OSError`."""
        document = _Document(partitions=self.partitions, jobs=self.jobs)
        beside = self._path.with_name(self._path.name + ".new")
        with beside.open("w", encoding="utf-8") as file:
            file.write(document.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def keep_closed_for(self, jobs: Mapping[str, JobHold]) -> None:
        """Add jobs. What is known of one already stands: its priority was read before it was paused."""
        for job, hold in jobs.items():
            known = self.jobs.get(job, hold)
            names = tuple(dict.fromkeys((*known.partitions, *hold.partitions)))
            self.jobs[job] = known.model_copy(update={"partitions": names})

    def need_no_partition(self, jobs: Iterable[str]) -> None:
        """These have their CPUs, or need none any more."""
        for job in jobs:
            if job in self.jobs:
                self.jobs[job] = self.jobs[job].model_copy(update={"partitions": ()})

    @property
    def unneeded(self) -> Sequence[str]:
        """Closed partitions that no job needs closed any more."""
        needed = {name for hold in self.jobs.values() for name in hold.partitions}
        return [name for name in self.partitions if name not in needed]
