"""What is made of a VEN's certificate and key files, made anew when they change."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from agent.errors import ConfigError
from agent.openadr.standing import LinkKeeper

log = logging.getLogger(__name__)

Made = TypeVar("Made")


class Credentials(Generic[Made]):
    """Something made of files. While they cannot be used, it stays as it was, and the link says so."""

    def __init__(
        self, name: str, files: Sequence[Path], make: Callable[[], Made], link: LinkKeeper
    ) -> None:
        """Make it for the first time; what `make` raises then, `ConfigError`, is raised."""
        self._name = name
        self._files = tuple(files)
        self._make = make
        self._link = link
        # Looked at before they are read: what changes meanwhile is read again.
        self._seen: object = self._look()
        self._made = make()

    def current(self) -> Made:
        """As the files are now, or as they last could be used."""
        seen = self._look()
        if seen != self._seen:
            try:
                self._made = self._make()
            except ConfigError as error:
                # Tried each time: a right that is granted to read a file does not show on its times.
                self._seen = None
                self._link.trouble(self._name, f"{error}; what was read before stays in use")
            else:
                self._seen = seen
                self._link.clear(self._name)
                log.info("VEN %s: read its %s anew", self._link.link.ven, self._name)
        return self._made

    def _look(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(map(_look, self._files))


def _look(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
