"""What a configuration may say and yet is seldom meant: notes of `check-config` and of a start."""

from collections.abc import Iterator
from ipaddress import ip_address
from itertools import pairwise
from urllib.parse import urlsplit

from agent.config import Config, ProgramTable, WorkloadTable
from agent.configured import may_come
from agent.core.program import Ask, DropBy, DropByShare, DropTo
from agent.core.site import WorkloadClass
from agent.openadr.v3.settings import Ven3Settings
from agent.openadr.v20a.settings import Ven20aSettings
from agent.openadr.v20b.settings import Ven20bSettings
from agent.units import format_power

COLLECTIVE_S = 480.0
"""Work of several ranks does not outlive being frozen for longer: NCCL's clock, 10 minutes, runs on,
and resuming takes its time."""
HIGHEST_SIMPLE = 3


def remarks(config: Config) -> Iterator[str]:
    """A sentence each."""
    if not config.ven:
        yield "no [[ven]]: nobody can ask this site for anything"
    if config.ven and not config.program:
        yield "no [[program]]: every event will be opted out of"
    for ven in config.ven:
        if ven.vtn_url.startswith("http:") and not _is_loopback(ven.vtn_url):
            yield f"ven {ven.name}: {ven.vtn_url} is not encrypted, and anybody in between can command"
    for program in config.program:
        yield from _of_program(program, config)
    if not config.workload and config.policy.default_tier == 0:
        yield "no [[workload]] and policy.default_tier is 0: nothing may be touched"
    for workload in config.workload:
        yield from _of_workload(workload)
    if not config.jobs:
        yield "no [[jobs]]: nothing can be paused, and no GPU is known to belong to a job"


def _of_program(program: ProgramTable, config: Config) -> Iterator[str]:
    name = f"program {program.name}"
    if not program.levels:
        yield f"{name} has no levels: SIMPLE events of it will shed nothing"
    for level in program.levels:
        if level > HIGHEST_SIMPLE:
            yield (
                f"{name}: SIMPLE has no level {level}, only 1, 2 and 3: "
                "LOAD_DISPATCH level and x-loadControlLevelOffset alone can ask for it"
            )
    asks: dict[str, Ask] = {f"level {level}": program.levels[level] for level in program.levels}
    if program.emergency is not None:
        asks["emergency"] = program.emergency
    for what, ask in asks.items():
        yield from (f"{name}: {what}, {remark}" for remark in _of_ask(ask, config))
    for lower, higher in pairwise(sorted(program.levels)):
        if _is_less(program.levels[higher], program.levels[lower]):
            yield f"{name}: level {higher} asks for less than level {lower}"
    if config.ven and not any(may_come(program, ven, config) for ven in config.ven):
        yield f"{name}: no [[ven]] takes events of its market context {program.market_context}"
    if program.telemetry is not None:
        yield from _of_telemetry(program, program.telemetry, config)
    if "change" not in program.model_fields_set:
        yield from _of_change(program, config)


def _of_change(program: ProgramTable, config: Config) -> Iterator[str]:
    """OpenADR 3.1.0 has DISPATCH_SETPOINT_RELATIVE begin at 0: it can hardly mean a change with its sign."""
    for ven in config.ven:
        newest = isinstance(ven, Ven3Settings) and ven.version == "3.1.0"
        if newest and may_come(program, ven, config):
            yield (
                f"program {program.name}: say what the sign of a DISPATCH_SETPOINT_RELATIVE means; "
                'without change = "reduction", one that is not negative sheds nothing'
            )
            return


def _of_ask(ask: Ask, config: Config) -> Iterator[str]:
    """What the site's own limits leave of an ask."""
    if not isinstance(ask, DropTo):
        return
    site, limit = config.site, f"drop to {format_power(ask.limit_w)}"
    if ask.limit_w >= site.max_import:
        yield f"{limit}, sheds nothing: site.max_import is {format_power(site.max_import)}"
    if ask.limit_w < site.min_import:
        least = format_power(site.min_import)
        yield f"{limit}, is not gone down to: site.min_import is {least}"


def _is_less(ask: Ask, other: Ask) -> bool:
    """Whether one ask sheds less than another, where that is so at any baseline."""
    match ask, other:
        case DropTo(limit_w), DropTo(other_w):
            return limit_w > other_w
        case DropBy(reduction_w), DropBy(other_w):
            return reduction_w < other_w
        case DropByShare(share), DropByShare(other_share):
            return share < other_share
        case _:
            return False


def _of_telemetry(program: ProgramTable, period_s: float, config: Config) -> Iterator[str]:
    """Telemetry that a program wants and a VEN does not offer."""
    name = f"program {program.name} wants telemetry"
    for ven in config.ven:
        if not may_come(program, ven, config):
            continue
        if isinstance(ven, Ven20aSettings):
            yield f"{name}, and VEN {ven.name} has none: OpenADR 2.0a has no reports"
        if isinstance(ven, Ven20bSettings) and not ven.report_min_s <= period_s <= ven.report_max_s:
            yield (
                f"{name} every {period_s:g} s, and VEN {ven.name} offers "
                f"{ven.report_min_s:g} s to {ven.report_max_s:g} s (report_min_s, report_max_s)"
            )


def _of_workload(workload: WorkloadTable) -> Iterator[str]:
    name = f"workload {workload.name}"
    if workload.tier == 0 and workload.may_pause:
        yield f"{name}: tier 0 with may_pause: it is never capped, but it may be paused"
    longest_s = float("inf") if workload.max_pause is None else workload.max_pause
    if (
        workload.class_ is WorkloadClass.TRAINING
        and workload.may_pause
        and longest_s >= COLLECTIVE_S
    ):
        yield (
            f"{name}: training that is paused for 8 min or more may not survive (NCCL's clock runs "
            'on meanwhile): set max_pause = "7 min" or less'
        )


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
