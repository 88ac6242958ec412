"""Who did what, when and why: evidence, kept apart from logs that rotate."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from agent.store.database import Database

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One deed."""

    at: datetime
    who: str
    what: str
    why: str


class Audit:
    """An append-only list of deeds."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, line: AuditLine) -> None:
        """Append one line. Raises `StoreError` or one of its kinds."""
        row = (microseconds(line.at), line.who, line.what, line.why)
        with self._database.transaction() as connection:
            connection.execute("INSERT INTO audit (at_us, who, what, why) VALUES (?, ?, ?, ?)", row)

    def last(self, count: int) -> tuple[AuditLine, ...]:
        """The latest `count` lines, newest first."""
        rows = self._database.query(
            "SELECT at_us, who, what, why FROM audit ORDER BY number DESC LIMIT ?", (count,)
        )
        return tuple(
            AuditLine(from_microseconds(r["at_us"]), r["who"], r["what"], r["why"]) for r in rows
        )


def microseconds(at: datetime) -> int:
    """An aware time as UTC microseconds since 1970."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def from_microseconds(at_us: int) -> datetime:
    """The inverse of `microseconds`, aware UTC."""
    return _EPOCH + timedelta(microseconds=at_us)
