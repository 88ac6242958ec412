"""The one view of a cycle: what page, API, command line and status line show.

Built from the picture alone, so that all of them agree; plain values, ready for JSON (watts, seconds,
ISO 8601 UTC).
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from heapq import merge
from itertools import groupby, islice

from agent import __version__
from agent.core.event import Key
from agent.core.ledger import Entry, Lever
from agent.core.link import Link
from agent.core.picture import Picture, current_event, limit_in_force
from agent.core.site import Gpu, Workload
from agent.core.timeline import Obligation, SourceKind, Timeline
from agent.telemetry.event_view import EventViews
from agent.telemetry.plain import View, iso, watts
from agent.telemetry.sentence import sentence_of

Entries = Mapping[tuple[Lever, str], Entry]

LATEST = datetime.max.replace(tzinfo=UTC)
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


def view_of(picture: Picture, about: About, events: EventViews) -> View:
    """Everything there is to see of one cycle; of the events the latest ones, in brief.

    `events` remembers what it made from one view to the next.
    """
    entries = {(entry.lever, entry.key): entry for entry in picture.ledger}
    current = current_event(picture)
    return {
        "at": iso(picture.at),
        "site": {
            "name": about.site,
            "version": about.version,
            "demo": about.demo,
            "socket": about.socket,
        },
        "started_at": iso(about.started_at),
        "sentence": sentence_of(picture),
        "power": _power(picture, current),
        **events.of(picture, current),
        "gpus": list(_gpus(picture, entries)),
        "workloads": list(_workloads(picture, entries)),
        "links": [_link(link) for link in picture.links],
        "problems": [
            {
                "key": key,
                "severity": raised.problem.severity.value,
                "text": raised.problem.text,
                "since": iso(raised.since),
            }
            for key, raised in sorted(picture.problems.items())
        ],
        "stop": None
        if picture.stop is None
        else {"since": iso(picture.stop.since), "by": picture.stop.by, "why": picture.stop.why},
        "setpoints": len(picture.ledger),
        "cycle_s": round(picture.cycle_s, 4),
    }


def _power(picture: Picture, current: Key | None) -> View:
    ceiling = picture.timeline.ceiling_at(picture.at)
    record = None if current is None else picture.records[current]
    baseline = None if record is None else record.baseline
    plan = picture.plan
    return {
        "now_w": watts(picture.power_w),
        "quality": picture.snapshot.meter.quality.value,
        "ceiling_w": None if ceiling is None else watts(ceiling.limit_w),
        "ceiling_source": None if ceiling is None else str(ceiling.source),
        "binding": limit_in_force(picture) is not None,
        "ahead": list(_ahead(picture.timeline, picture.at)),
        "goal_w": watts(plan.goal_w),
        "expected_w": watts(picture.expected_w),
        "baseline_w": None if baseline is None else watts(baseline.power_w),
        "baseline_method": None if baseline is None else baseline.method,
        "shortfall_w": watts(plan.shortfall_w),
        "short_because": list(plan.short_because),
        "governor": picture.governor_note,
    }


def _ahead(timeline: Timeline, at: datetime) -> Iterator[View]:
    """The ceiling to come as corner points of its line, two where it jumps; null where there is none."""
    ahead = [o for o in timeline.obligations if o.segments and (o.until() or LATEST) > at]
    bends = groupby(merge(*(_bends_after(at, obligation) for obligation in ahead)))
    nearest = [bend for bend, _ in islice(bends, MOST_CORNERS // 2)]
    points = [at, *(point for bend in nearest for point in (bend - INSTANT, bend))][:MOST_CORNERS]
    near = Timeline(tuple(o for o in ahead if o.segments[0].start <= points[-1]))
    for point in points:
        ceiling = near.ceiling_at(point)
        free = ceiling is None or ceiling.source.kind is SourceKind.SITE
        limit_w = None if ceiling is None or free else watts(ceiling.limit_w)
        yield {"at": iso(point), "limit_w": limit_w}


def _bends_after(at: datetime, obligation: Obligation) -> Iterator[datetime]:
    passed = bisect_right(obligation.segments, at, key=lambda segment: segment.start)
    rest = replace(obligation, segments=obligation.segments[max(0, passed - 1) :])
    return (bend for bend in rest.bends() if bend > at)


def _gpus(picture: Picture, entries: Entries) -> Iterator[View]:
    # The first of several owners is shown.
    owners = {uuid: w.name for w in reversed(picture.snapshot.workloads) for uuid in w.gpus}
    for gpu in picture.snapshot.gpus:
        entry = entries.get((Lever.CAP, gpu.uuid))
        yield _gpu(gpu, entry, owners.get(gpu.uuid), picture.at)


def _gpu(gpu: Gpu, entry: Entry | None, owner: str | None, at: datetime) -> View:
    return {
        "uuid": gpu.uuid,
        "host": gpu.host,
        "index": gpu.index,
        "name": gpu.name,
        "power_w": watts(gpu.power_w),
        "limit_w": watts(gpu.limit_w),
        "enforced_w": watts(gpu.enforced_w),
        "max_limit_w": watts(gpu.max_limit_w),
        "cap_w": None if entry is None else watts(entry.setpoint_w),
        "cap_taken": None if entry is None else _taken(gpu, entry, at),
        "original_w": None if entry is None else watts(entry.original_w),
        "reason": "" if entry is None else entry.reason,
        "health": gpu.health.value,
        "detail": gpu.detail,
        "workload": owner,
    }


def _taken(gpu: Gpu, entry: Entry, at: datetime) -> bool:
    """Whether a GPU holds its cap. One set in the cycle of `at` was read back since the GPU was seen."""
    read_back = entry.confirmed_w == entry.setpoint_w
    return read_back and (
        entry.written.at == at or gpu.limit_w is None or entry.is_ours(gpu.limit_w)
    )


def _workloads(picture: Picture, entries: Entries) -> Iterator[View]:
    draws_w = {gpu.uuid: gpu.power_w or 0.0 for gpu in picture.snapshot.gpus}
    for workload in picture.snapshot.workloads:
        yield _workload(workload, entries, sum(draws_w.get(uuid, 0.0) for uuid in workload.gpus))


def _workload(workload: Workload, entries: Entries, power_w: float) -> View:
    entry = entries.get((Lever.PAUSE, workload.workload_id))
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
        "since": iso(entry.written.at if entry else workload.since),
        "gpus": len(workload.gpus),
        "power_w": watts(power_w) if workload.gpus else None,
        "cap_w": watts(min((e.setpoint_w or 0.0 for e in caps), default=None)),
        "reason": reason,
    }


def _link(link: Link) -> View:
    return {
        "ven": link.ven,
        "url": link.url,
        "profile": link.profile,
        "registered": link.registered,
        "left": None
        if link.left is None
        else {"since": iso(link.left.since), "by": link.left.by, "why": link.left.why},
        "ven_id": link.ven_id,
        "poll_s": link.poll_s,
        "last_contact": iso(link.last_contact),
        "lost_since": iso(link.lost_since),
        "trouble": link.trouble,
        "rejected": link.rejected,
        "notifications": link.notifications,
        "reports_waiting": link.reports_waiting,
        "certificate_expires": iso(link.certificate_expires),
        "vtn_certificate_expires": iso(link.vtn_certificate_expires),
    }
