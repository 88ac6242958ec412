"""What a configuration may say and yet is seldom meant: notes of `check-config` and of a start."""

from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from agent.config import Config, ProgramTable, WorkloadTable
from agent.core.program import DropTo
from agent.core.site import WorkloadClass
from agent.openadr.v20a.settings import Ven20aSettings
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
    for level, ask in program.levels.items():
        if level > HIGHEST_SIMPLE:
            yield (
                f"{name}: SIMPLE has no level {level}, only 1, 2 and 3: "
                "LOAD_DISPATCH level and x-loadControlLevelOffset alone can ask for it"
            )
        if isinstance(ask, DropTo) and ask.limit_w >= config.site.max_import:
            limit, most = format_power(ask.limit_w), format_power(config.site.max_import)
            yield f"{name}: level {level}, drop to {limit}, sheds nothing: site.max_import is {most}"
    context = program.market_context
    if program.telemetry is not None:
        for ven in config.ven:
            listed = not ven.market_contexts or context in ("*", *ven.market_contexts)
            mute = isinstance(ven, Ven20aSettings) and program.ven in (None, ven.name)
            if mute and listed:
                yield f"{name} wants telemetry, and VEN {ven.name} has none: OpenADR 2.0a has no reports"
    listened = [ven.market_contexts for ven in config.ven]
    if listened and context != "*" and all(some and context not in some for some in listened):
        yield f"{name}: no [[ven]] takes events of its market context {context}"


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
