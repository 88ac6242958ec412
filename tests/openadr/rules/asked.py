"""What the events that a VEN holds ask of the site, as the control cycle works it out."""

from dataclasses import replace
from datetime import datetime

from agent.core.agenda import Agenda, Inputs, agenda_of
from agent.core.event import Baseline
from agent.core.ledger import Instant
from agent.core.timeline import Ceiling, SourceKind
from tests.core.build import gpu, snapshot
from tests.openadr.rig import Rig

DRAWN_W = 80_000.0
"""What the site draws when nothing is asked."""


def agenda(rig: Rig, at: datetime) -> Agenda:
    inputs = Inputs(
        now=Instant(at, "boot", 1.0),
        snapshot=snapshot([gpu(0)]),
        records=rig.book.records,
        ledger=(),
        samples=(),
        contacts={"ven": at},
    )
    return agenda_of(inputs, rig.programs, rig.policy, DRAWN_W)


def ceiling(rig: Rig, at: datetime) -> Ceiling | None:
    """The limit in force at `at` where an event makes it."""
    found = agenda(rig, at).timeline.ceiling_at(at)
    return found if found is not None and found.source.kind is SourceKind.EVENT else None


def limits_w(rig: Rig, *times: datetime) -> list[int | None]:
    """That limit in whole watts at each of some times; None where no event limits the site."""
    found = [ceiling(rig, at) for at in times]
    return [None if one is None else round(one.limit_w) for one in found]


def begin(rig: Rig, event_id: str = "ev-1") -> None:
    """The event begins to act: its baseline is frozen."""
    baseline = Baseline(DRAWN_W, DRAWN_W, "mean of the 15 min before", rig.clock.now())
    rig.book.put(replace(rig.record(event_id), baseline=baseline))
