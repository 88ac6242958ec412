"""What is to be written, kept in memory until it is."""

import logging
import sqlite3
import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from agent.store.database import Database

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True, eq=False)
class _Word(Generic[V]):
    """What was last said of one key; a later word is another one, also when it says the same."""

    value: V | None


class Pending(Generic[K, V]):
    """The last word on each key that is not on disk yet; None: the key is to be removed there.

    `hold` and `flush` may run in different threads, `flush` in several at once.
    """

    def __init__(
        self,
        database: Database,
        write: Callable[[sqlite3.Connection, Mapping[K, V | None]], None],
        most: int | None = None,
    ) -> None:
        """`write` brings words to disk, oldest first. Of more than `most` the oldest are given up."""
        self._database = database
        self._write = write
        self._most = most
        self._words: dict[K, _Word[V]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._words)

    @property
    def waiting(self) -> Mapping[K, V | None]:
        """What waits, oldest first."""
        with self._lock:
            return {key: word.value for key, word in self._words.items()}

    def hold(self, key: K, value: V | None) -> None:
        """Keep a word in memory, at once, in place of what was said of its key before."""
        with self._lock:
            self._words.pop(key, None)
            self._words[key] = _Word(value)
            while self._most is not None and len(self._words) > self._most:
                oldest = next(iter(self._words))
                del self._words[oldest]
                log.error("%s waited too long for room in the store and is lost", oldest)

    def flush(self) -> None:
        """Bring to disk what waits. Raises `StoreError` or one of its kinds, and then it goes on waiting."""
        if not self._words:
            return
        with self._database.transaction() as connection:
            # Taken only now: of two flushes, the one that waited must not write what it saw before.
            with self._lock:
                taken = dict(self._words)
            self._write(connection, {key: word.value for key, word in taken.items()})
        with self._lock:
            for key, word in taken.items():
                if self._words.get(key) is word:
                    del self._words[key]
