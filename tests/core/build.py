"""Short ways to write down events, sites and policies in tests."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from agent.core.event import (
    Baseline,
    Event,
    EventRecord,
    Interval,
    Opt,
    OptDecision,
    Signal,
    SignalKind,
)
from agent.core.ledger import Instant
from agent.core.policy import Policy
from agent.core.program import DropBy, DropByShare, DropTo, Program
from agent.core.site import (
    Gpu,
    Health,
    MeterQuality,
    MeterSample,
    Snapshot,
    Terms,
    Workload,
    WorkloadClass,
    WorkloadState,
)

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
MARKET = "http://utility.example/fast-dr"

PROGRAM = Program(
    "fast-dr",
    MARKET,
    levels={1: DropByShare(0.10), 2: DropByShare(0.25), 3: DropTo(12_000.0), 4: DropBy(5_000.0)},
    margin=0.01,
    baseline_window_s=60.0,
)
POLICY = Policy(max_import_w=100_000.0)


def s(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def at(seconds: float) -> datetime:
    return NOON + s(seconds)


def instant(seconds: float = 0.0, boot_id: str = "boot") -> Instant:
    return Instant(at(seconds), boot_id, 10_000.0 + seconds)


def event(
    *pieces: tuple[float, float],
    start: float = 0.0,
    kind: SignalKind = SignalKind.LEVEL,
    event_id: str = "ev-1",
    revision: int = 0,
    **changes: object,
) -> Event:
    """An event of (length in s, value) pieces; a length of 0 lasts until cancelled."""
    intervals, begin, open_ended = [], at(start), False
    for length, value in pieces or ((600.0, 2.0),):
        open_ended = length == 0
        end = None if open_ended else begin + s(length)
        intervals.append(Interval(begin, end, value))
        begin = begin if end is None else end
    fields: dict[str, object] = {
        "event_id": event_id,
        "ven": "ven",
        "program": MARKET,
        "revision": revision,
        "created_at": NOON,
        "starts_at": at(start),
        "duration": None if open_ended else begin - at(start),
        "signals": (Signal(kind, str(kind), "1", tuple(intervals)),),
    }
    return Event(**{**fields, **changes})  # type: ignore[arg-type]


def record(
    of: Event | None = None,
    baseline_w: float | None = 40_000.0,
    peak_w: float | None = None,
    **changes: object,
) -> EventRecord:
    of = event() if of is None else of
    baseline = None
    if baseline_w is not None:
        baseline = Baseline(baseline_w, baseline_w if peak_w is None else peak_w, "test", NOON)
    fields: dict[str, object] = {
        "event": of,
        "received_at": NOON,
        "opt": OptDecision(Opt.IN, "policy", NOON, "enrolled"),
        "baseline": baseline,
    }
    return EventRecord(**{**fields, **changes})  # type: ignore[arg-type]


def gpu(number: int = 0, power_w: float | None = 600.0, **changes: object) -> Gpu:
    fields: dict[str, object] = {
        "uuid": f"GPU-{number}",
        "host": "h1",
        "index": number,
        "name": "H100",
        "min_limit_w": 200.0,
        "max_limit_w": 700.0,
        "default_limit_w": 700.0,
        "power_w": power_w,
        "limit_w": 700.0,
        "enforced_w": changes.get("limit_w", 700.0),
        "health": Health.OK,
    }
    return Gpu(**{**fields, **changes})  # type: ignore[arg-type]


def workload(
    name: str,
    gpus: Iterable[int],
    tier: int = 2,
    kind: WorkloadClass = WorkloadClass.TRAINING,
    state: WorkloadState = WorkloadState.RUNNING,
    **terms: object,
) -> Workload:
    members = tuple(f"GPU-{number}" for number in gpus)
    return Workload(name, name, kind, Terms(tier, **terms), members, state)  # type: ignore[arg-type]


def snapshot(
    gpus: Sequence[Gpu],
    workloads: Sequence[Workload] = (),
    other_w: float = 1_000.0,
    when: datetime = NOON,
    gain: float = 1.0,
    **changes: object,
) -> Snapshot:
    """A snapshot whose meter reads what the GPUs and `other_w` come to."""
    metered_w = other_w + gain * sum(g.power_w or 0.0 for g in gpus)
    meter = MeterSample(when, metered_w, MeterQuality.GOOD)
    fields: dict[str, object] = {
        "at": when,
        "gpus": tuple(gpus),
        "workloads": tuple(workloads),
        "meter": meter,
        "watts_per_gpu_watt": gain,
    }
    return Snapshot(**{**fields, **changes})  # type: ignore[arg-type]
