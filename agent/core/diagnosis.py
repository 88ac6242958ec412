"""What is wrong, read off one cycle: the core's share of the problems."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from agent.core.agenda import Inputs
from agent.core.decide import Decision
from agent.core.ledger import Lever
from agent.core.link import Link
from agent.core.policy import Policy
from agent.core.problems import Problem, Severity
from agent.core.site import Gpu, Health, MeterQuality

OUR_NOTICE = (
    (timedelta(days=7), Severity.CRITICAL),
    (timedelta(days=30), Severity.WARNING),
    (timedelta(days=60), Severity.INFO),
)
"""How long before our certificate expires that is said: a utility may take weeks to sign another."""
VTN_NOTICE = ((timedelta(days=7), Severity.WARNING),)
"""The same for the VTN's, whose renewal is not ours to see to."""


def problems_of(decision: Decision, inputs: Inputs, policy: Policy) -> Iterator[Problem]:
    """Everything that this cycle shows to be wrong with the site or the plan."""
    snapshot, plan = inputs.snapshot, decision.plan
    if snapshot.meter.quality is MeterQuality.BAD:
        text = f"the meter cannot be read ({snapshot.meter.detail}): what is held stays held"
        yield Problem("meter", Severity.CRITICAL, text)
    for sentence in snapshot.blind:
        yield Problem(f"blind/{sentence.split(':')[0]}", Severity.CRITICAL, sentence)
    for gpu in snapshot.gpus:
        yield from _gpu_problems(gpu, decision)
    for key, block in decision.memory.blocks.items():
        if block.failures > 1:
            text = f"{_named(key, decision)}: {block.detail} (tried {block.failures} times)"
            yield Problem(f"refused/{key}", Severity.WARNING, text)
    for key, count in decision.memory.reasserts.items():
        gave_up = count > policy.max_reasserts
        action = "we stopped setting it again" if gave_up else f"set again {count} times"
        severity = Severity.CRITICAL if gave_up else Severity.WARNING
        text = f"{_named(key, decision)}: somebody else moves what we set; {action}"
        yield Problem(f"drift/{key}", severity, text)
    for entry in inputs.ledger:
        if entry.lever is Lever.CAP and entry.key not in decision.observed.gpus:
            text = (
                f"GPU {entry.key} holds a limit of ours but is not listed: restart flexload once it "
                "answers again"
            )
            yield Problem(f"unlisted/{entry.key}", Severity.WARNING, text)
        elif (
            entry.lever is Lever.PAUSE
            and inputs.jobs_listed
            and entry.key not in decision.observed.workloads
        ):
            text = f"{entry.key} is paused by us but no longer listed: put it back into [[jobs]]"
            yield Problem(f"unlisted/{entry.key}", Severity.WARNING, text)
    yield from _void_limits(inputs)
    if plan.shortfall_w > 0 and plan.ceiling is not None:
        why = "; ".join(plan.short_because)
        text = f"{plan.shortfall_w / 1000:.3g} kW short of {plan.ceiling.source}: {why}"
        yield Problem("shortfall", Severity.CRITICAL, text)
    if decision.memory.governor.note:
        yield Problem(
            "governor", Severity.WARNING, f"local governor: {decision.memory.governor.note}"
        )


def _void_limits(inputs: Inputs) -> Iterator[Problem]:
    """That limits we know of do not count."""
    at = inputs.now.at
    for ven in inputs.limits_void:
        if any(
            key[0] == ven
            and record.event.limits
            and record.ended_at is None
            and not record.is_past(at)
            for key, record in inputs.records.items()
        ):
            text = (
                f"the host has started anew, after a power outage for all we know: the import limits of "
                f"VEN {ven} give way to its subscription until its VTN lists them again"
            )
            yield Problem(f"limits/{ven}", Severity.WARNING, text)


def link_problems(links: tuple[Link, ...], now: datetime) -> Iterator[Problem]:
    """What is wrong on the way to the grid's servers, or soon will be."""
    for link in links:
        ours, theirs = link.certificate_expires, link.vtn_certificate_expires
        text = f"the certificate of VEN {link.ven}"
        yield from _expiry(f"certificate/{link.ven}", text, ours, OUR_NOTICE, now)
        text = f"the certificate of VTN {link.url}"
        yield from _expiry(f"vtn-certificate/{link.ven}", text, theirs, VTN_NOTICE, now)
        if link.lost_since is not None:
            text = f"VTN {link.url} does not answer: {link.trouble or 'no reason known'}"
            yield Problem(f"vtn/{link.ven}", Severity.WARNING, text)
        elif link.trouble:
            yield Problem(f"vtn/{link.ven}", Severity.WARNING, f"VTN {link.url}: {link.trouble}")


def _expiry(
    key: str,
    whose: str,
    expires: datetime | None,
    notice: Sequence[tuple[timedelta, Severity]],
    now: datetime,
) -> Iterator[Problem]:
    """That a certificate runs out soon, or has."""
    left = timedelta.max if expires is None else expires - now
    severity = next((severity for ahead, severity in notice if left <= ahead), None)
    if expires is None or severity is None:
        return
    when = f"expires in {_days(left)}" if left > timedelta(0) else "has expired"
    yield Problem(key, severity, f"{whose} {when}, on {expires:%Y-%m-%d %H:%M} UTC: renew it")


def _days(left: timedelta) -> str:
    return f"{left.days} days" if left >= timedelta(days=2) else f"{left // timedelta(hours=1)} h"


def _gpu_problems(gpu: Gpu, decision: Decision) -> Iterator[Problem]:
    name = f"GPU {gpu.host}/{gpu.index}"
    if gpu.health is not Health.OK:
        text = gpu.detail or f"{name} does not answer"
        yield Problem(f"gpu/{gpu.uuid}", Severity.WARNING, text)
    elif gpu.persistence is False and gpu.uuid in decision.plan.caps:
        text = f"{name}: persistence mode is off, so its driver may unload and forget the limit"
        yield Problem(f"persistence/{gpu.uuid}", Severity.WARNING, text)


def _named(key: str, decision: Decision) -> str:
    gpu = decision.observed.gpus.get(key)
    return key if gpu is None else f"GPU {gpu.host}/{gpu.index}"
