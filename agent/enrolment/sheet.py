"""The sheet: what a utility asks of a site that enrols, gathered from its configuration."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from agent.config import Config
from agent.configured import may_come, policy_of, programs_of
from agent.core.policy import TIER_SLOWDOWN, least_notice_s
from agent.core.program import describe_ask
from agent.enrolment.capacity import Capacity
from agent.enrolment.certificate import Certificate
from agent.enrolment.question import Ven20Settings
from agent.openadr.v20b.offers import metadata_of
from agent.openadr.v20b.registration import DEFAULT_POLL_S
from agent.openadr.v20b.settings import Ven20bSettings
from agent.store.registrations import Registration
from agent.units import format_duration, format_power

PROFILES = {
    "openadr-2.0a": "OpenADR 2.0a, HTTP pull (simpleHttp)",
    "openadr-2.0b": "OpenADR 2.0b, HTTP pull (simpleHttp)",
}
SIMPLE = "SIMPLE level"
SIGNALS = (
    SIMPLE,
    "LOAD_DISPATCH level, setpoint, delta, multiplier",
    "LOAD_CONTROL x-loadControlCapacity, x-loadControlLevelOffset, x-loadControlPercentOffset, "
    "x-loadControlSetpoint",
)
"""Which of the profile's signals shed load here (`agent.openadr.v20.translate`)."""


@dataclass(frozen=True, slots=True)
class Point:
    """One data point that the site offers to report."""

    report: str
    r_id: str
    type: str
    reading: str
    unit: str
    """Empty for a state."""
    shortest_s: float
    longest_s: float


@dataclass(frozen=True, slots=True)
class Part:
    """One program as the site takes part in it."""

    name: str
    market_context: str
    levels: dict[int, str]
    """By level of SIMPLE: what is done."""
    notice_s: float
    """Shortest notice of an event that is taken."""
    ramp_down_s: float
    ramp_up_s: float
    telemetry_s: float | None
    """How often it wants the site's power; None where it does not say."""


@dataclass(frozen=True, slots=True)
class Give:
    """What the work of one tier gives, W; None where it was not measured."""

    tier: int
    slowdown: float
    workloads: tuple[str, ...]
    caps_w: float | None
    pauses_w: float | None


@dataclass(frozen=True, slots=True)
class Sheet:
    """Everything on it. Absent knowledge is None or empty."""

    at: datetime
    site: str
    max_import_w: float
    min_import_w: float
    contact: dict[str, str]
    ven_name: str
    ven_id: str
    profile: str
    vtn_url: str
    poll_s: float
    fingerprint: str
    sha256: str
    subject: str
    valid_until: datetime | None
    resources: tuple[str, ...]
    """By the names that targets and reports call them."""
    now_w: float | None
    shed_w: float | None
    tiers: tuple[Give, ...]
    unmeasured: str
    """Why there is no measured capacity; empty when there is."""
    programs: tuple[Part, ...]
    signals: tuple[str, ...]
    telemetry: tuple[Point, ...]


def sheet_of(
    config: Config,
    ven: Ven20Settings,
    certificate: Certificate | None,
    registration: Registration | None,
    capacity: Capacity | str,
    now: datetime,
) -> Sheet:
    """The sheet of one VEN. `capacity`: what could be shed now, or why that is not known."""
    site = config.site
    measured = None if isinstance(capacity, str) else capacity
    agreed_s = 0.0 if registration is None else registration.poll_s
    contact = site.contact.model_dump()
    return Sheet(
        at=now,
        site=site.name,
        max_import_w=site.max_import,
        min_import_w=site.min_import,
        contact={key: said for key, said in contact.items() if said},
        ven_name=ven.label,
        ven_id=(registration.ven_id if registration else "") or ven.ven_id or "",
        profile=PROFILES[ven.kind],
        vtn_url=ven.vtn_url,
        poll_s=max(agreed_s, ven.poll_s or 0.0) or DEFAULT_POLL_S,
        fingerprint=certificate.fingerprint if certificate else "",
        sha256=certificate.sha256 if certificate else "",
        subject=certificate.subject if certificate else "",
        valid_until=certificate.ends if certificate else None,
        resources=_resources(ven),
        now_w=measured.now_w if measured else None,
        shed_w=measured.shed_w if measured else None,
        tiers=_tiers(config, measured),
        unmeasured=capacity if isinstance(capacity, str) else "",
        programs=_programs(config, ven),
        signals=SIGNALS if isinstance(ven, Ven20bSettings) else (SIMPLE,),
        telemetry=tuple(_telemetry(ven, now)) if isinstance(ven, Ven20bSettings) else (),
    )


def document(sheet: Sheet) -> dict[str, Any]:
    """The sheet for machines: SI units, times in ISO 8601."""
    return {
        key: value.isoformat() if isinstance(value, datetime) else value
        for key, value in asdict(sheet).items()
    }


def markdown(sheet: Sheet) -> str:
    """The sheet for people, and for whatever renders Markdown."""
    parts = [
        f"# {sheet.site}: enrolment sheet",
        f"Made by flexload on {sheet.at:%Y-%m-%d} at {sheet.at:%H:%M} UTC.",
        _list(_identity(sheet)),
        "## Capacity",
        *_capacity(sheet),
        *[part for program in sheet.programs for part in _program(program)],
        "## Signals that shed load",
        "\n".join(f"- {signal}" for signal in sheet.signals),
        "## Telemetry offered",
        *(_table(_telemetry_rows(sheet)) if sheet.telemetry else ["None: OpenADR 2.0a has none."]),
    ]
    if sheet.contact:
        parts += ["## Contact", _list([(key, said) for key, said in sheet.contact.items()])]
    return "\n\n".join(parts) + "\n"


def _tiers(config: Config, capacity: Capacity | None) -> tuple[Give, ...]:
    if capacity is not None:
        return tuple(
            Give(t.tier, t.slowdown, t.workloads, t.caps_w, t.pauses_w) for t in capacity.tiers
        )
    return tuple(
        Give(tier, slowdown, tuple(w.name for w in config.workload if w.tier == tier), None, None)
        for tier, slowdown in TIER_SLOWDOWN.items()
    )


def _programs(config: Config, ven: Ven20Settings) -> tuple[Part, ...]:
    policy = policy_of(config)
    return tuple(
        Part(
            name=program.name,
            market_context=program.market_context,
            levels={level: describe_ask(ask) for level, ask in program.levels.items()},
            notice_s=least_notice_s(program, policy),
            ramp_down_s=program.ramp_down_s,
            ramp_up_s=program.ramp_up_s,
            telemetry_s=table.telemetry,
        )
        for table, program in zip(config.program, programs_of(config), strict=True)
        if may_come(table, ven, config)
    )


def _resources(ven: Ven20Settings) -> tuple[str, ...]:
    gpus = ven.gpus_resource if isinstance(ven, Ven20bSettings) else ""
    return tuple(name for name in (ven.resource, gpus) if name)


def _telemetry(ven: Ven20bSettings, now: datetime) -> list[Point]:
    """From the very metadata that the VEN registers."""
    points = []
    for report in metadata_of(ven, now):
        for described in report["report_descriptions"]:
            measured, rate = described["measurement"], described["sampling_rate"]
            points.append(
                Point(
                    report=str(report["report_name"]).removeprefix("METADATA_"),
                    r_id=described["r_id"],
                    type=described["report_type"],
                    reading=described["reading_type"],
                    unit="" if measured is None else measured["unit"],
                    shortest_s=rate["min_period"].total_seconds(),
                    longest_s=rate["max_period"].total_seconds(),
                )
            )
    return points


def _identity(sheet: Sheet) -> list[tuple[str, str]]:
    ends = sheet.valid_until
    rows = [
        ("VEN name", sheet.ven_name),
        ("venID", sheet.ven_id or "none yet: the VTN gives one at registration"),
        ("profile", sheet.profile),
        ("poll period", _polls(sheet)),
        ("VTN", sheet.vtn_url),
        ("fingerprint", sheet.fingerprint or "none yet: the certificate is still to be signed"),
    ]
    if ends is not None:
        rows += [
            ("SHA-256", sheet.sha256),
            ("certificate", f"{sheet.subject}, until {ends:%Y-%m-%d}"),
        ]
    return [
        *rows,
        ("resources", ", ".join(sheet.resources) or "none"),
        ("largest import", format_power(sheet.max_import_w)),
        ("smallest import", format_power(sheet.min_import_w)),
    ]


def _polls(sheet: Sheet) -> str:
    asks = sheet.profile != PROFILES["openadr-2.0a"]
    longer = ", or what the VTN asks for if that is longer" if asks else ""
    return f"{_period(sheet.poll_s)}{longer}"


def _capacity(sheet: Sheet) -> list[str]:
    head = ("tier", "its work may run", "work", "by caps", "and by pauses")
    rows = [head, *map(_tier_row, sheet.tiers)]
    if sheet.now_w is None or sheet.shed_w is None:
        return [f"Not measured: {sheet.unmeasured}.", *_table(rows)]
    now, shed = format_power(sheet.now_w), format_power(sheet.shed_w)
    return [f"{shed} of {now} could be shed at this moment.", *_table(rows)]


def _tier_row(give: Give) -> tuple[str, ...]:
    return (
        str(give.tier),
        f"{give.slowdown * 100:.0f} % slower" if give.slowdown else "as it is",
        ", ".join(give.workloads) or "none",
        "?" if give.caps_w is None else format_power(give.caps_w),
        "?" if give.pauses_w is None else format_power(give.pauses_w),
    )


def _program(part: Part) -> list[str]:
    anything = part.market_context == "*"
    rows = [
        ("market context", "any that no other program has" if anything else part.market_context)
    ]
    rows += [(f"SIMPLE {level}", ask) for level, ask in sorted(part.levels.items())]
    rows += [
        ("notice", _period(part.notice_s) if part.notice_s else "none needed"),
        ("ramp down", _period(part.ramp_down_s)),
        ("ramp up", _period(part.ramp_up_s)),
    ]
    if part.telemetry_s is not None:
        rows.append(("telemetry", f"every {_period(part.telemetry_s)}, as the program wants it"))
    return [f"## Program {part.name}", _list(rows)]


def _telemetry_rows(sheet: Sheet) -> list[tuple[str, ...]]:
    """A row for the data points that differ by name only."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for point in sheet.telemetry:
        what = f"{point.type}, {point.reading}".removesuffix(", x-notApplicable")
        span = f"{_period(point.shortest_s)} to {_period(point.longest_s)}"
        alike.setdefault((point.report, what, point.unit or "state", span), []).append(point.r_id)
    rows = [(*of, ", ".join(r_ids)) for of, r_ids in alike.items()]
    return [("report", "what", "unit", "intervals", "rIDs"), *rows]


def _period(seconds: float) -> str:
    return format_duration(timedelta(seconds=seconds))


def _list(rows: Sequence[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in rows) + 1
    return "\n".join(f"- {name + ':':{width}} {said}" for name, said in rows)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """One paragraph: a Markdown table that is aligned as it stands."""
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*escaped, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = (f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True))
        return f"| {' | '.join(padded)} |"

    rule = line(["-" * width for width in widths])
    return ["\n".join((line(escaped[0]), rule, *map(line, escaped[1:])))]
