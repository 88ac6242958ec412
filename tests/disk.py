"""A real disk that is small enough to be filled."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.requirement import missing


class Disk:
    """A mounted file system of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "somebody-elses"

    def fill(self) -> None:
        """Leave no room at all."""
        with self._filler.open("ab", buffering=0) as file, suppress(OSError):
            for size in (1 << 16, 1 << 10, 1):
                with suppress(OSError):
                    while True:
                        file.write(bytes(size))

    def empty(self) -> None:
        """Make room again."""
        self._filler.unlink()


@contextmanager
def small_disk(path: Path) -> Iterator[Disk]:
    """A disk of six megabytes at `path`. Skips the test where none can be mounted."""
    path.mkdir()
    if os.geteuid() != 0:
        missing("tmpfs", "only root can mount a file system")
    command = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(path)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        missing("tmpfs", mounted.stderr.strip())
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
