"""Hand-made pictures of a cycle: what the view, the sentence and the page are tested with."""

import re
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from agent.core.event import EventRecord, Opt, OptDecision, Signal, SignalKind
from agent.core.ledger import Entry, Lever
from agent.core.lifecycle import phase_of
from agent.core.link import Link
from agent.core.picture import Picture
from agent.core.plan import Plan
from agent.core.settlement import Performance
from agent.core.site import MeterQuality, MeterSample, Snapshot, WorkloadClass, WorkloadState
from agent.core.timeline import Timeline, obligations_of, standing_limit
from agent.telemetry.event_view import EventViews
from agent.telemetry.view import About, View, view_of
from tests.core.build import PROGRAM, at, event, gpu, instant, record, s, snapshot, workload

LARGEST_W = 100_000.0
GUARD_S = 3600.0
LINK = Link(
    "utility",
    "https://vtn.example/OpenADR2/Simple/2.0b",
    "OpenADR 2.0b",
    registered=True,
    ven_id="ven-1",
    poll_s=10.0,
    last_contact=at(0),
)


def site(seconds: float = 0.0, hosts: int = 2, each: int = 4, **changes: object) -> Snapshot:
    """Hosts of GPUs at 600 W; the first job has the first host, `serve` all the rest."""
    gpus = [gpu(i, host=f"h{i // each + 1}", index=i % each) for i in range(hosts * each)]
    jobs = [
        workload("train", range(each), may_pause=True),
        workload("serve", range(each, hosts * each), tier=0, kind=WorkloadClass.REAL_TIME),
    ]
    return snapshot(gpus, jobs, when=at(seconds), **changes)


def picture(
    seconds: float = 0.0, *records: EventRecord, snapshot: Snapshot | None = None, **changes: object
) -> Picture:
    """A picture `seconds` after noon with the obligations and phases that its events have by then."""
    now = at(seconds)
    seen = site(seconds) if snapshot is None else snapshot
    known = {one.key: one for one in records}
    asked = [
        obligation
        for one in records
        for obligation in obligations_of(one, PROGRAM, LARGEST_W, 40_000.0, GUARD_S)
    ]
    limit = standing_limit("largest import", LARGEST_W)
    fields: dict[str, object] = {
        "at": now,
        "snapshot": seen,
        "programs": (PROGRAM,),
        "max_import_w": LARGEST_W,
        "timeline": Timeline((*asked, limit)),
        "expected_w": 40_000.0,
        "power_w": seen.meter.power_w,
        "records": known,
        "phases": {
            key: phase_of(one, PROGRAM, now, timedelta(minutes=10)) for key, one in known.items()
        },
        "cycle_s": 0.012,
    }
    return Picture(**{**fields, **changes})  # type: ignore[arg-type]


def cap(number: int, setpoint_w: float = 400.0) -> Entry:
    """A cap in force on one GPU."""
    return Entry(
        Lever.CAP,
        f"GPU-{number}",
        setpoint_w,
        setpoint_w,
        700.0,
        600.0,
        "event ev-1",
        f"event ev-1 (25 % below baseline): train gives {700 - setpoint_w:.0f} W of 700 W",
        instant(0),
        instant(600),
    )


def pause(name: str) -> Entry:
    """A pause in force on one workload."""
    because = f"event ev-1 (25 % below baseline): {name} may be paused, caps alone fall short"
    return Entry(
        Lever.PAUSE,
        name,
        None,
        None,
        None,
        2400.0,
        "event ev-1",
        because,
        instant(0),
        instant(600),
    )


def figures(event_id: str = "ev-1", share: float = 0.9996) -> Performance:
    """What an event came to."""
    return Performance(event_id, 40_000.0, 10_000.0, 10_400.0, share, -120.0, 1733.3, s(600), 600)


def normal(seconds: float = 0.0) -> Picture:
    """Nothing asked."""
    return picture(seconds)


def pending(seconds: float = 0.0) -> Picture:
    """An event begins in five minutes."""
    return picture(seconds, record(event(start=300.0), baseline_w=None))


def holding(seconds: float = 60.0) -> Picture:
    """In the middle of an event: the first host's GPUs capped, its prices known too."""
    ask = event(event_id="ev-1")
    price = Signal(SignalKind.OTHER, "ELECTRICITY_PRICE price", "EUR/MWh", ask.signals[0].intervals)
    ask = event(event_id="ev-1", signals=(*ask.signals, price))
    held = [gpu(i, 395.0, host="h1", index=i, limit_w=400.0) for i in range(4)]
    free = [gpu(i, host="h2", index=i - 4) for i in range(4, 8)]
    jobs = site().workloads
    return picture(
        seconds,
        record(ask),
        snapshot=snapshot([*held, *free], jobs, other_w=25_500.0, when=at(seconds)),
        ledger=tuple(cap(i) for i in range(4)),
        plan=Plan(goal_w=29_700.0),
        performances={("ven", "ev-1"): figures()},
    )


def completed(seconds: float = 700.0) -> Picture:
    """After that event, another one of yesterday in the book and one left by the operator."""
    left = OptDecision(Opt.OUT, "operator ann", at(-80_000), "maintenance")
    return picture(
        seconds,
        record(event(event_id="ev-1")),
        record(event(event_id="ev-0", start=-86_400.0)),
        record(event(event_id="ev-test", start=-80_000.0, test=True), opt=left),
        performances={("ven", "ev-1"): figures(), ("ven", "ev-0"): figures("ev-0", 1.0)},
    )


def blind(seconds: float = 0.0) -> Picture:
    """Nothing can be read."""
    gpus = [gpu(i, None, limit_w=None) for i in range(4)]
    meter = MeterSample(at(seconds), None, MeterQuality.BAD, "no answer")
    seen = snapshot(gpus, [], when=at(seconds), meter=meter)
    return picture(seconds, snapshot=seen, power_w=None, expected_w=None, timeline=Timeline())


def paused(state: WorkloadState) -> Picture:
    """A job was told to pause, and is seen in some state."""
    jobs = [workload("train", range(4), state=state, may_pause=True)]
    seen = snapshot([gpu(i) for i in range(4)], jobs, when=at(60))
    return picture(60, record(), snapshot=seen, ledger=(pause("train"),))


def shown(of: Picture, *links: Link, site_name: str = "hall 3", demo: bool = False) -> View:
    """The view of a picture."""
    about = About(site_name, at(-3600), demo, version="0.1.0")
    return view_of(replace(of, links=links), about, EventViews())


_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")


def moved(value: Any, by: timedelta) -> Any:
    """A view with all its times moved: a browser's clock cannot be told to be at noon."""
    match value:
        case dict():
            return {key: moved(inner, by) for key, inner in value.items()}
        case list():
            return [moved(inner, by) for inner in value]
        case str() if _TIME.fullmatch(value):
            later = datetime.fromisoformat(value) + by
            return later.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case _:
            return value
