"""Everything that one cycle saw, decided and did: the one picture that all views render.

Metrics, page, command line, reports and the service's status line agree because none of them looks
anywhere else.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from agent.core.event import EventRecord, Key
from agent.core.ledger import Entry
from agent.core.lifecycle import Phase
from agent.core.link import Link
from agent.core.plan import NO_PLAN, Plan
from agent.core.problems import Raised
from agent.core.program import Program
from agent.core.settlement import Performance
from agent.core.site import Snapshot
from agent.core.timeline import Ceiling, Obligation, SourceKind, Timeline


@dataclass(frozen=True, slots=True)
class Stop:
    """The operator's local stop: the agent reports, and acts on nothing."""

    since: datetime
    by: str
    why: str


@dataclass(frozen=True, slots=True)
class Counters:
    """What only ever grows, since the agent started."""

    cycles: int = 0
    late_cycles: int = 0
    """Cycles that took longer than their period."""
    commands: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Commands to devices and jobs, by lever and result."""
    curtailed_s: float = 0.0
    """Time with any event limiting the site."""
    shed_j: float = 0.0
    """Energy not drawn against the baseline while an event limited the site."""
    drifts: int = 0
    """Setpoints set again because somebody else had moved them."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One cycle."""

    at: datetime
    snapshot: Snapshot
    programs: tuple[Program, ...]
    max_import_w: float
    timeline: Timeline = field(default_factory=Timeline)
    plan: Plan = NO_PLAN
    governor_note: str = ""
    expected_w: float | None = None
    """What the site would draw with nothing restrained, W."""
    power_w: float | None = None
    """The site's import, metered or else estimated, W."""
    records: Mapping[Key, EventRecord] = field(default_factory=dict)
    phases: Mapping[Key, Phase] = field(default_factory=dict)
    performances: Mapping[Key, Performance] = field(default_factory=dict)
    ledger: tuple[Entry, ...] = ()
    problems: Mapping[str, Raised] = field(default_factory=dict)
    links: tuple[Link, ...] = ()
    """How each VEN stood with its VTN as the cycle began."""
    stop: Stop | None = None
    counters: Counters = field(default_factory=Counters)
    cycle_s: float = 0.0
    """How long the cycle took."""


_SHOWN_FIRST = (
    Phase.HOLDING,
    Phase.RAMPING_DOWN,
    Phase.RAMPING_UP,
    Phase.PENDING,
    Phase.NOTIFIED,
)


def current_event(picture: Picture) -> Key | None:
    """The event to speak of first: the one whose limit binds, else one acting, else the next to come.

    Events that ask something of the site come before those that do not (prices, tests, level 0).
    """
    asking = asking_events(picture)
    ceiling = picture.timeline.ceiling_at(picture.at)
    binding = None if ceiling is None else ceiling.source
    live = [
        key
        for key, phase in picture.phases.items()
        if phase in _SHOWN_FIRST
        and key in picture.records
        and not picture.records[key].event.standing
    ]
    return min(
        live,
        key=lambda key: (
            key not in asking,
            binding is None
            or binding.kind is not SourceKind.EVENT
            or key != (binding.ven, binding.name),
            _SHOWN_FIRST.index(picture.phases[key]),
            picture.records[key].event.starts_at,
            key,
        ),
        default=None,
    )


def asking_events(picture: Picture) -> frozenset[Key]:
    """Events that limit the site at some time."""
    return frozenset((o.source.ven, o.source.name) for o in _of_events(picture))


def limiting_events(picture: Picture) -> frozenset[Key]:
    """Events that limit the site now, whether or not they are the ones that bind."""
    return frozenset(
        (o.source.ven, o.source.name)
        for o in _of_events(picture)
        if o.limit_at(picture.at) is not None
    )


def limit_in_force(picture: Picture) -> Ceiling | None:
    """The ceiling, while it asks something of the site: an event's, or one that setpoints hold."""
    ceiling = picture.timeline.ceiling_at(picture.at)
    if ceiling is None or picture.stop is not None:
        return None
    return ceiling if ceiling.source.kind is SourceKind.EVENT or picture.ledger else None


def _of_events(picture: Picture) -> Iterator[Obligation]:
    return (o for o in picture.timeline.obligations if o.source.kind is SourceKind.EVENT)
