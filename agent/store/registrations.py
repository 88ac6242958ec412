"""How each VEN is registered with its VTN, and which reports were asked of it."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from agent.core.event import Opt
from agent.store.database import Database, failures, peek


@dataclass(frozen=True, slots=True)
class ReportRequest:
    """One report that a VTN asked for and has not cancelled."""

    request_id: str
    specifier_id: str
    r_ids: tuple[str, ...]
    granularity: timedelta
    """Length of one interval; zero: one value a report."""
    back_duration: timedelta
    """How often to report; zero: once."""
    sent_through: datetime
    """Everything before this instant has arrived at the VTN."""
    ends_at: datetime | None = None
    """Nothing after this instant is asked for; None: until cancelled."""
    sending_through: datetime | None = None
    """Up to where what was sent last may have arrived, too; None: nothing is on its way."""
    dormant: bool = False
    """Asked for under an earlier registration: silent, until the VTN asks anew and the new request
    goes on from `sent_through`."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a VTN has acknowledged being told of one event."""

    event_id: str
    revision: int
    opt: Opt


@dataclass(frozen=True, slots=True)
class SentOpt:
    """One opt that a VTN was told, or may have been: on an event, or for a stretch of time."""

    opt_id: str
    opt: Opt
    event_id: str = ""
    """Empty for a stretch of time."""
    revision: int = 0
    start: datetime | None = None
    end: datetime | None = None
    acknowledged: bool = False

    @property
    def subject(self) -> "SentOpt":
        """What it says, whatever its id and however it fared."""
        return replace(self, opt_id="", acknowledged=False)


@dataclass(frozen=True, slots=True)
class Registration:
    """One VEN's standing with its VTN."""

    ven: str
    ven_id: str
    registration_id: str
    vtn_id: str
    poll_s: float
    """The period between polls that the VTN asked for, s; zero: it asked for none."""
    requests: tuple[ReportRequest, ...] = ()
    vtn_url: str = ""
    """Where it is registered."""
    offered: str = ""
    """A digest of the reports last offered under this registration; empty: none yet."""
    answers: tuple[Answer, ...] = ()
    """The last acknowledged answer on each event."""
    opts: tuple[SentOpt, ...] = ()
    """Opts that stand at the VTN, or are on their way there or back."""
    listed_boot: str = ""
    """In which boot of the host the VTN's events were last listed; empty: not known."""
    subscriptions: tuple[str, ...] = ()
    """Ids of ours at the VTN."""

    def with_request(self, request: ReportRequest) -> "Registration":
        """With one report request added, or replaced where its id is known."""
        others = tuple(r for r in self.requests if r.request_id != request.request_id)
        return replace(self, requests=(*others, request))

    def without_request(self, request_id: str) -> "Registration":
        """Without one report request."""
        return replace(self, requests=tuple(r for r in self.requests if r.request_id != request_id))

    def with_opt(self, opt: SentOpt) -> "Registration":
        """With one opt added, or replaced where its id is known."""
        return replace(self, opts=(*self.without_opt(opt).opts, opt))

    def without_opt(self, opt: SentOpt) -> "Registration":
        """Without one opt."""
        return replace(self, opts=tuple(o for o in self.opts if o.opt_id != opt.opt_id))


_REGISTRATION = TypeAdapter(Registration)
_OF_A_VEN = "SELECT registration FROM registrations WHERE ven = ?"


class Registrations:
    """Registrations by VEN. Every write is on disk when it returns, or has raised `StoreError`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, ven: str) -> Registration | None:
        """The registration of a VEN; None when it has none, or an unreadable one."""
        return _first(self._database.query(_OF_A_VEN, (ven,)))

    def put(self, registration: Registration) -> None:
        """Keep a registration."""
        document = _REGISTRATION.dump_json(registration).decode()
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO registrations VALUES (?, ?)", (registration.ven, document)
            )

    def drop(self, ven: str) -> None:
        """Forget a registration."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM registrations WHERE ven = ?", (ven,))


def registration_in(file: Path, ven: str) -> Registration | None:
    """The registration of a VEN in a database that may be another process's: nothing is changed.

    None also where there is no database yet. Raises `StoreError` or one of its kinds.
    """
    with failures(file):
        if not file.exists():
            return None
    return _first(peek(file, _OF_A_VEN, (ven,)))


def _first(rows: Sequence[sqlite3.Row]) -> Registration | None:
    try:
        return _REGISTRATION.validate_json(rows[0]["registration"]) if rows else None
    except ValidationError:
        return None
