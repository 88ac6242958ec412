"""What is noted of each of the demo's events as it goes, and how it went in the end."""

from dataclasses import dataclass, field
from datetime import datetime

from agent.core.event import Key
from agent.core.ledger import Lever
from agent.core.lifecycle import Phase
from agent.core.picture import Picture
from agent.core.timeline import SourceKind
from agent.demo.site import SPEC
from drivers.sim.physics import SiteState
from drivers.sim.site import uuids

ON_TARGET_CYCLES = 3
"""This many cycles in a row at or below the limit are on target."""
REQUIRED_COMPLIANCE = 0.99


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one of the demo's events went."""

    event_id: str
    baseline_kw: float
    committed_kw: float
    delivered_kw: float
    """Mean while holding."""
    worst_kw_over_ceiling: float
    """Highest ten-second mean above the ceiling; negative when always below."""
    compliant_fraction: float
    """Of the seconds while holding."""
    response_s: float | None
    """From the VTN's call until on target, ramp included."""
    gpus_capped: int
    jobs_paused: int
    gpus_restored: int
    jobs_resumed: int
    reports_received_by_vtn: int

    @property
    def met(self) -> bool:
        """Whether the event was met and every GPU and job is back as it was."""
        return (
            self.compliant_fraction >= REQUIRED_COMPLIANCE
            and self.delivered_kw >= self.committed_kw > 0
            and self.gpus_restored == self.gpus_capped > 0
            and self.jobs_resumed == self.jobs_paused
        )


@dataclass(slots=True)
class Notes:
    """What the teller noted of one event as it went."""

    key: Key | None = None
    """None until the agent knows the event."""
    on_target_at: float | None = None
    cycles_on_target: int = 0
    capped: set[str] = field(default_factory=set)
    paused: set[str] = field(default_factory=set)
    over_at: datetime | None = None
    """Since when everything is back as well."""


def note(picture: Picture, notes: Notes, event_id: str | None) -> None:
    """Note what one cycle shows of the event that the utility called last."""
    if notes.key is None:
        notes.key = next((key for key in picture.records if key[1] == event_id), None)
    if notes.key is None:
        return
    for entry in picture.ledger:
        (notes.capped if entry.lever is Lever.CAP else notes.paused).add(entry.key)
    if picture.phases[notes.key].over and not picture.ledger:
        notes.over_at = notes.over_at or picture.at
    if picture.power_w is None or notes.on_target_at is not None:
        return
    lowest_w = min(
        (
            segment.to_w
            for o in picture.timeline.obligations
            if o.source.kind is SourceKind.EVENT and o.source.name == event_id
            for segment in o.segments
        ),
        default=0.0,
    )
    acting = picture.phases[notes.key] in (Phase.RAMPING_DOWN, Phase.HOLDING)
    on_target = acting and picture.power_w <= lowest_w
    notes.cycles_on_target = notes.cycles_on_target + 1 if on_target else 0
    if notes.cycles_on_target == ON_TARGET_CYCLES:
        notes.on_target_at = picture.at.timestamp() - (ON_TARGET_CYCLES - 1)


def outcome_of(
    picture: Picture | None,
    notes: Notes,
    called_at: float | None,
    reports: int,
    before: SiteState,
    after: SiteState,
) -> Outcome | None:
    """How the noted event went; None when it never held."""
    figures = None if picture is None or notes.key is None else picture.performances.get(notes.key)
    if figures is None:
        return None
    names = uuids(SPEC)
    limits = {name: gpu.limit_w for name, gpu in zip(names, after.gpus, strict=True)}
    originals = {name: gpu.limit_w for name, gpu in zip(names, before.gpus, strict=True)}
    response_s = None
    if notes.on_target_at is not None and called_at is not None:
        response_s = round(notes.on_target_at - called_at, 1)
    return Outcome(
        event_id=figures.event_id,
        baseline_kw=round(figures.baseline_w / 1000, 3),
        committed_kw=round(figures.committed_w / 1000, 3),
        delivered_kw=round(figures.delivered_w / 1000, 3),
        worst_kw_over_ceiling=round(figures.worst_over_w / 1000, 3),
        compliant_fraction=round(figures.compliant_share, 4),
        response_s=response_s,
        gpus_capped=len(notes.capped),
        jobs_paused=len(notes.paused),
        gpus_restored=sum(limits[uuid] == originals[uuid] for uuid in notes.capped),
        jobs_resumed=sum(job_id not in after.paused_at for job_id in notes.paused),
        reports_received_by_vtn=reports,
    )
