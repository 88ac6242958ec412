"""The one view of a cycle: what page, API, command line and status line show.

Built from the picture alone, so that all of them agree; plain values, ready for JSON (watts, seconds,
ISO 8601 UTC).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from agent import __version__
from agent.core.ledger import Entry, Lever
from agent.core.link import Link
from agent.core.picture import Key, Picture, current_event, limit_in_force, program_of
from agent.core.program import describe_ask
from agent.core.settlement import Performance
from agent.core.site import Gpu, Workload
from agent.core.timeline import SourceKind, Timeline, steps_of, window_of
from agent.telemetry.sentence import sentence_of

View = dict[str, Any]

INSTANT = timedelta(milliseconds=1)
MOST_CORNERS = 200
"""Corners of the ceiling's line that are shown at most: an event may have thousands."""


@dataclass(frozen=True, slots=True)
class About:
    """What a view says of the agent itself."""

    site: str
    started_at: datetime
    demo: bool = False
    socket: str | None = None
    """The control socket, where the command line would not find it by itself."""
    version: str = field(default=__version__)


def view_of(picture: Picture, about: About) -> View:
    """Everything there is to see of one cycle."""
    entries = {(entry.lever, entry.key): entry for entry in picture.ledger}
    events = [_event(key, picture) for key in picture.records]
    events.sort(key=lambda event: event["starts_at"] or "", reverse=True)
    current = current_event(picture)
    return {
        "at": _iso(picture.at),
        "site": {
            "name": about.site,
            "version": about.version,
            "demo": about.demo,
            "socket": about.socket,
        },
        "started_at": _iso(about.started_at),
        "sentence": sentence_of(picture),
        "power": _power(picture, current),
        "event": None if current is None else _event(current, picture),
        "events": events,
        "gpus": [_gpu(gpu, entries, picture) for gpu in picture.snapshot.gpus],
        "workloads": [_workload(w, entries, picture) for w in picture.snapshot.workloads],
        "links": [_link(link) for link in picture.links],
        "problems": [
            {
                "key": key,
                "severity": raised.problem.severity.value,
                "text": raised.problem.text,
                "since": _iso(raised.since),
            }
            for key, raised in sorted(picture.problems.items())
        ],
        "stop": None
        if picture.stop is None
        else {"since": _iso(picture.stop.since), "by": picture.stop.by, "why": picture.stop.why},
        "setpoints": len(picture.ledger),
        "cycle_s": round(picture.cycle_s, 4),
    }


def _power(picture: Picture, current: Key | None) -> View:
    ceiling = picture.timeline.ceiling_at(picture.at)
    record = None if current is None else picture.records[current]
    baseline = None if record is None else record.baseline
    plan = picture.plan
    return {
        "now_w": _watts(picture.power_w),
        "quality": picture.snapshot.meter.quality.value,
        "ceiling_w": None if ceiling is None else _watts(ceiling.limit_w),
        "ceiling_source": None if ceiling is None else str(ceiling.source),
        "binding": limit_in_force(picture) is not None,
        "ahead": list(_ahead(picture.timeline, picture.at)),
        "goal_w": _watts(plan.goal_w),
        "expected_w": _watts(picture.expected_w),
        "baseline_w": None if baseline is None else _watts(baseline.power_w),
        "baseline_method": None if baseline is None else baseline.method,
        "shortfall_w": _watts(plan.shortfall_w),
        "short_because": list(plan.short_because),
        "governor": picture.governor_note,
    }


def _ahead(timeline: Timeline, at: datetime) -> Iterator[View]:
    """The ceiling to come as corner points of its line, two where it jumps; null where there is none."""
    bends = sorted({bend for o in timeline.obligations for bend in o.bends() if bend > at})
    points = [at, *(point for bend in bends for point in (bend - INSTANT, bend))]
    for point in points[:MOST_CORNERS]:
        ceiling = timeline.ceiling_at(point)
        free = ceiling is None or ceiling.source.kind is SourceKind.SITE
        limit_w = None if ceiling is None or free else _watts(ceiling.limit_w)
        yield {"at": _iso(point), "limit_w": limit_w}


def _event(key: Key, picture: Picture) -> View:
    record = picture.records[key]
    event = record.event
    program = program_of(record, picture.programs)
    window = window_of(record, program)
    figures = picture.performances.get(key)
    phase = picture.phases.get(key)
    return {
        "event_id": event.event_id,
        "ven": event.ven,
        "program": program.name,
        "revision": event.revision,
        "phase": None if phase is None else phase.value,
        "test": event.test,
        "asks": [
            {"from": _iso(step.at), "text": " and ".join(map(describe_ask, step.asks)) or "normal"}
            for step in steps_of(record, program, picture.max_import_w)
        ],
        "signals": [
            {"name": s.name, "unit": s.unit, "values": [i.value for i in s.intervals]}
            for s in event.signals
        ],
        "received_at": _iso(record.received_at),
        "starts_at": _iso(event.starts_at + record.start_shift),
        "ramp_from": _iso(window.ramp_from),
        "hold_from": _iso(window.hold_from),
        "hold_until": _iso(window.hold_until),
        "done_at": _iso(window.done_at),
        "opt": record.opt.opt.value,
        "opt_by": record.opt.by,
        "opt_why": record.opt.why,
        "baseline_w": None if record.baseline is None else _watts(record.baseline.power_w),
        "comment": event.comment,
        "performance": None if figures is None else performance_view(figures),
    }


def performance_view(figures: Performance) -> View:
    """One event's figures."""
    return {
        "baseline_w": _watts(figures.baseline_w),
        "committed_w": _watts(figures.committed_w),
        "delivered_w": _watts(figures.delivered_w),
        "compliant_share": round(figures.compliant_share, 4),
        "worst_over_w": _watts(figures.worst_over_w),
        "energy_shed_wh": round(figures.energy_shed_wh, 1),
        "held_s": round(figures.held.total_seconds()),
    }


def _gpu(gpu: Gpu, entries: Mapping[tuple[Lever, str], Entry], picture: Picture) -> View:
    entry = entries.get((Lever.CAP, gpu.uuid))
    owner = next((w for w in picture.snapshot.workloads if gpu.uuid in w.gpus), None)
    return {
        "uuid": gpu.uuid,
        "host": gpu.host,
        "index": gpu.index,
        "name": gpu.name,
        "power_w": _watts(gpu.power_w),
        "limit_w": _watts(gpu.limit_w),
        "enforced_w": _watts(gpu.enforced_w),
        "max_limit_w": _watts(gpu.max_limit_w),
        "cap_w": None if entry is None else _watts(entry.setpoint_w),
        "original_w": None if entry is None else _watts(entry.original_w),
        "reason": "" if entry is None else entry.reason,
        "health": gpu.health.value,
        "detail": gpu.detail,
        "workload": None if owner is None else owner.name,
    }


def _workload(
    workload: Workload, entries: Mapping[tuple[Lever, str], Entry], picture: Picture
) -> View:
    entry = entries.get((Lever.PAUSE, workload.workload_id))
    draws = [g.power_w for g in picture.snapshot.gpus if g.uuid in workload.gpus and g.power_w]
    caps = [e for uuid in workload.gpus if (e := entries.get((Lever.CAP, uuid))) is not None]
    reason = entry.reason if entry else caps[0].reason if caps else ""
    if not reason and workload.terms.tier == 0 and not workload.terms.may_pause:
        reason = "protected"
    return {
        "id": workload.workload_id,
        "name": workload.name,
        "class": workload.kind.value,
        "tier": workload.terms.tier,
        "may_pause": workload.terms.may_pause,
        "state": workload.state.value,
        "paused_by_us": entry is not None,
        "since": _iso(entry.written.at if entry else workload.since),
        "gpus": len(workload.gpus),
        "power_w": _watts(sum(draws)) if workload.gpus else None,
        "cap_w": _watts(min((e.setpoint_w or 0.0 for e in caps), default=None)),
        "reason": reason,
    }


def _link(link: Link) -> View:
    return {
        "ven": link.ven,
        "url": link.url,
        "profile": link.profile,
        "registered": link.registered,
        "ven_id": link.ven_id,
        "poll_s": link.poll_s,
        "last_contact": _iso(link.last_contact),
        "lost_since": _iso(link.lost_since),
        "trouble": link.trouble,
        "rejected": link.rejected,
        "reports_waiting": link.reports_waiting,
    }


def _watts(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
