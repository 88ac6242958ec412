"""The samples: what was metered, second by second, for baselines, reports and proof."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

from agent.core.sample import Point, Sample, Sums, point_of
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

KEEP = timedelta(days=35)
"""How long samples are kept, every one of them: 3 million rows, some 130 MB."""
HOLD = timedelta(seconds=2)
"""How long a sample stands in for one that does not come: they are a second apart, or a bit more."""
MOST_FORGOTTEN = 7200
"""Samples removed at a time, some 10 ms of work: after a long standstill it takes several times."""

_PIECE = timedelta(hours=3)
"""Samples of so long are added up at a time, some 20 ms, for as long as nothing else is written."""
_SUMS = """
    SELECT
        (at_us - :origin_us) / :grain_us AS slot,
        count(*) FILTER (WHERE quality <> 'bad' AND abs(power_w) < 1e300) AS usable,
        total(power_w) FILTER (WHERE quality <> 'bad' AND abs(power_w) < 1e300) AS sum_w,
        max(quality = 'estimated' AND abs(power_w) < 1e300) AS estimated,
        count(*) FILTER (WHERE abs(gpus_w) < 1e300) AS gpus_usable,
        total(gpus_w) FILTER (WHERE abs(gpus_w) < 1e300) AS gpus_sum_w,
        max(override) AS override
    FROM samples
    WHERE at_us >= :start_us AND at_us < :end_us
    GROUP BY slot
    ORDER BY slot
"""


class History:
    """Samples by time. A crash of the process loses none; a loss of power may lose the last ones."""

    def __init__(self, directory: Path) -> None:
        self._database = Database(directory / "history.db", MIGRATIONS, durable=False)

    @property
    def salvaged(self) -> str:
        """One sentence when the file was damaged and moved aside, before or in use; else empty."""
        return self._database.salvaged

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

    def points(self, start: datetime, end: datetime, granularity: timedelta) -> tuple[Point, ...]:
        """Intervals of `granularity` from `start` to `end`, each averaged; the last may be shorter.

        In intervals shorter than `HOLD` there need not be a sample: then the one before holds.
        """
        found: dict[int, Sums] = {}
        piece = start
        while piece < end:
            until = min(piece + _PIECE, end)
            for slot, sums in self._sums(piece, until, start, granularity):
                found[slot] = found[slot] + sums if slot in found else sums
            piece = until
        points = []
        for slot in range(-((start - end) // granularity)):
            begin = start + slot * granularity
            own, stand_in = found.get(slot), None
            if own is None and granularity < HOLD:
                stand_in = self._last_before(begin)
            sums = own or stand_in or Sums()
            duration = min(granularity, end - begin)
            points.append(point_of(sums, begin, duration, held=stand_in is not None))
        return tuple(points)

    def newest(self, until: datetime) -> datetime | None:
        """When the last sample up to `until` was taken; None when there is none."""
        (row,) = self._database.query(
            "SELECT max(at_us) AS at_us FROM samples WHERE at_us <= ?", (microseconds(until),)
        )
        return None if row["at_us"] is None else from_microseconds(row["at_us"])

    def forget_before(self, at: datetime) -> None:
        """Remove samples older than `at`, the oldest first and not too many at once."""
        with self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM samples WHERE at_us IN "
                "(SELECT at_us FROM samples WHERE at_us < ? ORDER BY at_us LIMIT ?)",
                (microseconds(at), MOST_FORGOTTEN),
            )

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _last_before(self, at: datetime) -> Sums | None:
        """The last sample before `at`, unless it is too old to stand in for one."""
        each = timedelta(microseconds=1)
        found = list(self._sums(at - HOLD, at, at - HOLD, each))
        return found[-1][1] if found else None

    def _sums(
        self, start: datetime, end: datetime, origin: datetime, granularity: timedelta
    ) -> Iterator[tuple[int, Sums]]:
        """What the samples of a stretch add up to, by interval counted from `origin`, in order."""
        rows = self._database.query(
            _SUMS,
            {
                "start_us": microseconds(start),
                "end_us": microseconds(end),
                "origin_us": microseconds(origin),
                "grain_us": granularity // timedelta(microseconds=1),
            },
        )
        for row in rows:
            yield (
                row["slot"],
                Sums(
                    row["usable"],
                    row["sum_w"],
                    bool(row["estimated"]),
                    row["gpus_usable"],
                    row["gpus_sum_w"],
                    bool(row["override"]),
                ),
            )
