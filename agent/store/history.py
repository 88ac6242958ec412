"""The samples: what was metered, second by second, for baselines, reports and proof."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from agent.core.sample import Sample
from agent.core.site import MeterQuality
from agent.store.audit import from_microseconds, microseconds
from agent.store.database import Database

MIGRATIONS = (
    """
    CREATE TABLE samples (
        at_us INTEGER NOT NULL PRIMARY KEY,
        power_w REAL,
        quality TEXT NOT NULL,
        ceiling_w REAL,
        gpus_w REAL,
        override INTEGER NOT NULL,
        restrained INTEGER NOT NULL
    ) STRICT
    """,
)

KEEP = timedelta(days=7)
"""How long single samples are kept."""


class History:
    """Samples by time. A crash of the process loses none; a loss of power may lose the last ones."""

    def __init__(self, directory: Path) -> None:
        self._database = Database(directory / "history.db", MIGRATIONS, durable=False)
        self.salvaged = self._database.salvaged

    def add(self, samples: Iterable[Sample]) -> None:
        """Keep samples. Raises `StoreError` or one of its kinds."""
        rows = [
            (
                microseconds(s.at),
                s.power_w,
                s.quality.value,
                s.ceiling_w,
                s.gpus_w,
                int(s.override),
                int(s.restrained),
            )
            for s in samples
        ]
        with self._database.transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO samples VALUES (?, ?, ?, ?, ?, ?, ?)", rows
            )

    def between(
        self, start: datetime, end: datetime, most: int | None = None
    ) -> tuple[Sample, ...]:
        """Samples with start <= at < end, in order; of more than `most` the first ones."""
        rows = self._database.query(
            "SELECT * FROM samples WHERE at_us >= ? AND at_us < ? ORDER BY at_us LIMIT ?",
            (microseconds(start), microseconds(end), -1 if most is None else most),
        )
        return tuple(
            Sample(
                at=from_microseconds(row["at_us"]),
                power_w=row["power_w"],
                quality=MeterQuality(row["quality"]),
                ceiling_w=row["ceiling_w"],
                gpus_w=row["gpus_w"],
                override=bool(row["override"]),
                restrained=bool(row["restrained"]),
            )
            for row in rows
        )

    def forget_before(self, at: datetime) -> None:
        """Remove samples older than `at`."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM samples WHERE at_us < ?", (microseconds(at),))

    def close(self) -> None:
        """Close the file."""
        self._database.close()
