"""From an event's XML to values. A fault in one event rejects that one."""

import math
import re
from collections.abc import Sequence
from datetime import timedelta
from operator import itemgetter

from agent.errors import quote
from agent.openadr.v20 import fields
from agent.openadr.v20.messages import (
    Code,
    FaultError,
    RejectedEvent,
    Targets,
    WireEvent,
    WireInterval,
    WireSignal,
)
from agent.openadr.v20.xml import Element, child, children, local_name, text

MAX_INTERVALS = 1500
"""Intervals one event may have: a day of minutes. Far more would only keep the control cycle busy."""

MOST_COMMENT = 1000
_UID = re.compile(r"[0-9]{1,10}")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_STATUSES = ("none", "far", "near", "active", "completed", "cancelled", "canceled")
_TARGET_KINDS = ("venID", "resourceID", "groupID", "partyID")


def read_event(element: Element) -> WireEvent | RejectedEvent:
    """One event, or why it cannot be used with whatever of it can be read."""
    event = child(element, "eiEvent")
    descriptor = child(event, "eventDescriptor")
    event_id = text(descriptor, "eventID") or ""
    revision = (text(descriptor, "modificationNumber") or "").strip()
    status = (text(descriptor, "eventStatus") or "").strip().lower()
    required = (text(element, "oadrResponseRequired") or "").strip().lower() != "never"
    try:
        return _whole_event(event, descriptor, status, required)
    except FaultError as fault:
        return RejectedEvent(
            event_id=event_id if 0 < len(event_id.strip()) <= fields.MOST_TEXT else "",
            revision=int(revision) if fields.is_count(revision) else None,
            cancelled=status in ("cancelled", "canceled"),
            response_required=required,
            code=fault.code,
            why=f"event {quote(event_id)}: {fault.why}",
        )


def _whole_event(
    event: Element | None, descriptor: Element | None, status: str, required: bool
) -> WireEvent:
    period = child(event, "eiActivePeriod", "properties")
    event_id = fields.required_text(descriptor, "eventID")
    market_context = text(descriptor, "eiMarketContext", "marketContext") or ""
    if status not in _STATUSES:
        raise FaultError(
            Code.INVALID_DATA, f"eventStatus is {quote(status)}, which is no event status"
        )
    duration = fields.duration(period, "duration", "duration")
    if duration is None:
        raise FaultError(Code.INVALID_DATA, "its active period has no duration")
    return WireEvent(
        event_id=event_id,
        revision=fields.count(descriptor, "modificationNumber"),
        priority=fields.count(descriptor, "priority", default=0),
        market_context=fields.short(market_context.strip(), "marketContext"),
        created_at=fields.time(descriptor, "createdDateTime"),
        cancelled=status in ("cancelled", "canceled"),
        test=_is_test(text(descriptor, "testEvent")),
        comment=(text(descriptor, "vtnComment") or "")[:MOST_COMMENT],
        starts_at=fields.required_time(period, "dtstart", "date-time"),
        duration=duration,
        start_after=fields.duration(period, "tolerance", "tolerate", "startafter") or timedelta(0),
        notification=fields.duration(period, "x-eiNotification", "duration"),
        ramp_up=fields.duration(period, "x-eiRampUp", "duration"),
        recovery=fields.duration(period, "x-eiRecovery", "duration"),
        signals=_signals(child(event, "eiEventSignals")),
        targets=_targets(child(event, "eiTarget")),
        response_required=required,
    )


def _is_test(said: str | None) -> bool:
    """Anything but "false" makes it a test (2.0b rule 6); an empty element says nothing."""
    return (said or "").strip().lower() not in ("", "false")


def _signals(element: Element | None) -> tuple[WireSignal, ...]:
    signals = tuple(_signal(signal) for signal in children(element, "eiEventSignal"))
    if sum(len(signal.intervals) for signal in signals) > MAX_INTERVALS:
        raise FaultError(Code.INVALID_DATA, f"it has more than {MAX_INTERVALS} intervals")
    return signals


def _signal(element: Element) -> WireSignal:
    name = fields.short((text(element, "signalName") or "").strip(), "signalName")
    kind = fields.short((text(element, "signalType") or "").strip(), "signalType")
    where = f"signal {quote(name)} {quote(kind)}"
    item = next((node for node in element if child(node, "itemUnits") is not None), None)
    numbered = enumerate(_in_order(child(element, "intervals")), start=1)
    return WireSignal(
        name=name,
        type=kind,
        item="" if item is None else local_name(item),
        unit=fields.short((text(item, "itemUnits") or "").strip(), "itemUnits"),
        scale=(text(item, "siScaleCode") or "none").strip(),
        intervals=tuple(_interval(node, f"interval {n} of {where}") for n, node in numbered),
    )


def _in_order(intervals: Element | None) -> Sequence[Element]:
    """A signal's intervals as their uids number them (2.0b rule 2), from whatever number on; as they
    stand where those are no numbers, or the same twice.
    """
    found = list(children(intervals, "interval"))
    uids = [(text(node, "uid", "text") or "").strip() for node in found]
    if not all(_UID.fullmatch(uid) for uid in uids) or len(set(map(int, uids))) < len(uids):
        return found
    return [node for _, node in sorted(zip(map(int, uids), found, strict=True), key=itemgetter(0))]


def _interval(element: Element, where: str) -> WireInterval:
    payload = child(element, "signalPayload")
    number = None if payload is None else next(iter(payload), None)
    value = (text(number, "value") or "").strip()
    try:
        return WireInterval(
            start=fields.time(element, "dtstart", "date-time"),
            duration=fields.duration(element, "duration", "duration"),
            value=_float(value),
        )
    except FaultError as fault:
        raise FaultError(fault.code, f"{where}: {fault.why}") from None


def _float(value: str) -> float:
    if not value:
        raise FaultError(Code.INVALID_DATA, "it has no value")
    number = float(value) if _FLOAT.fullmatch(value) else math.nan
    if not math.isfinite(number):
        raise FaultError(
            Code.INVALID_DATA, f"its value is {quote(value)}, which is no finite number"
        )
    return number


def _targets(element: Element | None) -> Targets:
    if element is None:
        return Targets()
    ids = {
        kind: tuple((node.text or "").strip() for node in children(element, kind))
        for kind in _TARGET_KINDS
    }
    return Targets(
        ven_ids=ids["venID"],
        resource_ids=ids["resourceID"],
        group_ids=ids["groupID"],
        party_ids=ids["partyID"],
        others=any(local_name(node) not in _TARGET_KINDS for node in element),
    )
