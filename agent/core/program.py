"""Programs: what a utility's signals mean at this site, as data.

An ask is what one value of one signal comes to. There are three, because the same site can hold a
firm service level (drop-to) and a reduction from baseline (drop-by) at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from agent.core.event import Event, SignalKind


@dataclass(frozen=True, slots=True)
class DropTo:
    """Import no more than `limit_w`."""

    limit_w: float


@dataclass(frozen=True, slots=True)
class DropBy:
    """Import `reduction_w` less than the baseline."""

    reduction_w: float


@dataclass(frozen=True, slots=True)
class DropByShare:
    """Import this share of the baseline less (0.25 is a quarter less)."""

    share: float


Ask = DropTo | DropBy | DropByShare
HOLD = DropByShare(0.0)
"""Import no more than before."""


class BlindRule(StrEnum):
    """What becomes of an open-ended ask when its VTN has been out of reach for too long."""

    LIMIT = "limit"
    """Hold until told otherwise: for grid-security limits."""
    NORMAL = "normal"
    """Return to normal, within the ramp: for market programs."""


class Change(StrEnum):
    """What the sign of a CHANGE or SHARE_CHANGE signal means."""

    SIGNED = "signed"
    """Negative is less import, as the 2.0b schema words it; positive asks for nothing we shed."""
    REDUCTION = "reduction"
    """The value is how much less; its sign is ignored."""


class Percent(StrEnum):
    """What unit a PERCENT_OFFSET signal comes in."""

    PERCENT = "percent"
    FRACTION = "fraction"


@dataclass(frozen=True, slots=True)
class Program:
    """One program the site is enrolled in."""

    name: str
    market_context: str
    """The market context or program id its events carry; `*` matches any."""
    levels: Mapping[int, Ask] = field(default_factory=dict)
    """What each level of SIMPLE, LOAD_DISPATCH level and x-loadControlLevelOffset comes to."""
    emergency: Ask | None = None
    """What an emergency of the grid asks for; None: what the highest level does."""
    change: Change = Change.SIGNED
    percent: Percent = Percent.PERCENT
    ramp_down_s: float = 0.0
    """How long after the start full delivery is due, when the event does not say."""
    ramp_up_s: float = 0.0
    """How long the return takes after the end, when the event does not say."""
    margin: float = 0.01
    """Share of the limit to stay below it, against noise: compliance is one-sided."""
    firm: bool = False
    """True: the caps themselves must add up to the limit. False: the expected draw must."""
    min_notice_s: float | None = None
    """Events of it with less notice are opted out of; None: as the site's policy has it."""
    shed_on_test: bool = False
    """Whether a test event sheds for real."""
    baseline_window_s: float = 900.0
    """How far back the meter-before baseline looks."""
    when_blind: BlindRule = BlindRule.LIMIT
    blind_after_s: float = 3600.0
    """How long the VTN may be out of reach before `when_blind` applies to open-ended events."""
    ven: str | None = None
    """The VEN of ours that its events come to; None: any. Two grids may use the same market context."""


def ask_of(kind: SignalKind, value: float, program: Program, max_import_w: float) -> Ask | None:
    """What one value of one signal asks for, or None when it asks for nothing.

    Sources: signal meanings of the OpenADR 2.0b schema (oadr_ei_20b.xsd, signalTypeEnumeratedType).
    """
    match kind:
        case SignalKind.LEVEL | SignalKind.LEVEL_OFFSET:
            return program.levels.get(abs(round(value)))
        case SignalKind.SETPOINT | SignalKind.LIMIT | SignalKind.SUBSCRIPTION:
            return DropTo(max(0.0, value))
        case SignalKind.CHANGE:
            reduction_w = abs(value) if program.change is Change.REDUCTION else -value
            return DropBy(reduction_w) if reduction_w > 0 else None
        case SignalKind.MULTIPLIER:
            return _share_or_none(1 - value)
        case SignalKind.CAPACITY:
            return DropTo(max(0.0, value) * max_import_w) if value < 1 else None
        case SignalKind.PERCENT_OFFSET:
            return _share_or_none(-value / (100 if program.percent is Percent.PERCENT else 1))
        case SignalKind.SHARE_CHANGE:
            return _share_or_none(abs(value) if program.change is Change.REDUCTION else -value)
        case SignalKind.EMERGENCY:
            return _emergency(program) if value else None
        case SignalKind.BLACK_START:
            return (_emergency(program) or HOLD) if value else None
        case SignalKind.RESERVATION | SignalKind.PRICE | SignalKind.INFORMATION | SignalKind.OTHER:
            return None


def limit_of(ask: Ask, baseline_w: float) -> float:
    """The import limit an ask comes to against a baseline, W; never negative."""
    match ask:
        case DropTo(limit_w):
            return limit_w
        case DropBy(reduction_w):
            return max(0.0, baseline_w - reduction_w)
        case DropByShare(share):
            return max(0.0, baseline_w * (1 - share))


def describe_ask(ask: Ask) -> str:
    """An ask in words: `25 % below baseline`."""
    if ask == HOLD:
        return "no more than before"
    match ask:
        case DropTo(limit_w):
            return f"at most {limit_w / 1000:.4g} kW"
        case DropBy(reduction_w):
            return f"{reduction_w / 1000:.4g} kW below baseline"
        case DropByShare(share):
            return f"{share * 100:.4g} % below baseline"


def program_for(event: Event, programs: tuple[Program, ...]) -> Program | None:
    """The program an event belongs to: exact market context first, then the catch-all; of either, the
    VEN's own first, then any VEN's.
    """
    for context in (event.program, "*"):
        for ven in (event.ven, None):
            for program in programs:
                if program.market_context == context and program.ven == ven:
                    return program
    return None


def program_of(event: Event, programs: tuple[Program, ...]) -> Program:
    """The event's program; one that sheds nothing for an event that belongs to none."""
    return program_for(event, programs) or Program("none", event.program)


def _emergency(program: Program) -> Ask | None:
    if program.emergency is not None:
        return program.emergency
    return program.levels[max(program.levels)] if program.levels else None


def _share_or_none(share: float) -> Ask | None:
    return DropByShare(min(1.0, share)) if share > 0 else None
