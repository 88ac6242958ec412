"""From a parsed message to values: the only place that knows where things stand in 2.0b's XML.

Elements are found by local name, since senders differ in what namespaces they think right. A fault
in one event or report request rejects that one; only what makes the whole message meaningless
raises `WireError`.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from operator import itemgetter

from agent.errors import WireError
from agent.openadr.iso8601 import parse_duration, parse_time
from agent.openadr.v20b.messages import (
    CanceledOpt,
    CanceledPartyRegistration,
    CancelPartyRegistration,
    CancelReport,
    Code,
    CreatedOpt,
    CreatedPartyRegistration,
    CreateReport,
    DistributeEvent,
    FaultError,
    Message,
    OadrResponse,
    RegisteredReport,
    RegisterReport,
    RejectedEvent,
    RejectedRequest,
    RequestReregistration,
    Response,
    Targets,
    Unexpected,
    UpdatedReport,
    WireEvent,
    WireInterval,
    WireReportRequest,
    WireSignal,
    quote,
)
from agent.openadr.v20b.xml import Element, child, children, local_name, parse, text

MAX_INTERVALS = 1500
"""Intervals one event may have: a day of minutes. Far more would only keep the control cycle busy."""

MAX_COUNT = 4_294_967_295
"""The schema's unsignedInt: an answer that repeats a larger number would be no valid message, and be lost
with all others that go with it."""

_COUNT = re.compile(r"[0-9]{1,10}")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_STATUSES = ("none", "far", "near", "active", "completed", "cancelled", "canceled")
_TARGET_KINDS = ("venID", "resourceID", "groupID", "partyID")


Opener = Callable[[Element], Element | None]
"""Gives the oadrSignedObject of a payload that is to be read, or raises `WireError`."""


def unsigned(payload: Element) -> Element | None:
    """The oadrSignedObject, whoever it is from."""
    return child(payload, "oadrSignedObject")


def read(body: bytes, max_bytes: int, opener: Opener = unsigned) -> Message:
    """One message from its bytes. Raises `WireError`, and nothing else.

    Nothing is read but what `opener` gives.
    """
    signed = opener(parse(body, max_bytes))
    message = None if signed is None else next(iter(signed), None)
    if message is None:
        raise WireError("the message has no content in its oadrSignedObject")
    return understand(message)


def understand(message: Element) -> Message:
    """What one message element says. Raises `WireError` where it says nothing that can be used."""
    reader = _READERS.get(local_name(message))
    return Unexpected(local_name(message)[:80]) if reader is None else reader(message)


def _response(message: Element) -> Response:
    """The eiResponse of an answer; one without is as good as none (2.0b requires it)."""
    response = _response_or_none(message)
    if response is None:
        raise WireError(f"the {local_name(message)} has no usable eiResponse")
    return response


def _response_or_none(message: Element) -> Response | None:
    element = child(message, "eiResponse")
    code = (text(element, "responseCode") or "").strip()
    if not re.fullmatch("[0-9]{3}", code):
        return None
    return Response(
        int(code), text(element, "responseDescription") or "", text(element, "requestID") or ""
    )


def _oadr_response(message: Element) -> Message:
    return OadrResponse(_response(message))


def _distribute_event(message: Element) -> Message:
    return DistributeEvent(
        response=_response_or_none(message),
        request_id=text(message, "requestID") or "",
        vtn_id=(text(message, "vtnID") or "").strip(),
        events=tuple(_event(element) for element in children(message, "oadrEvent")),
    )


def _created_party_registration(message: Element) -> Message:
    period = text(message, "oadrRequestedOadrPollFreq", "duration")
    try:
        poll = None if period is None else parse_duration(period)
    except ValueError:
        poll = None
    return CreatedPartyRegistration(
        response=_response(message),
        registration_id=text(message, "registrationID") or "",
        ven_id=text(message, "venID") or "",
        vtn_id=(text(message, "vtnID") or "").strip(),
        poll=poll,
        profiles=tuple(
            (_word(profile, "oadrProfileName"), _transports(profile))
            for profile in children(child(message, "oadrProfiles"), "oadrProfile")
        ),
    )


def _transports(profile: Element) -> tuple[str, ...]:
    listed = children(child(profile, "oadrTransports"), "oadrTransport")
    return tuple(_word(transport, "oadrTransportName") for transport in listed)


def _request_reregistration(message: Element) -> Message:
    return RequestReregistration(text(message, "venID") or "")


def _cancel_party_registration(message: Element) -> Message:
    return CancelPartyRegistration(
        text(message, "requestID") or "",
        text(message, "registrationID") or "",
        text(message, "venID") or "",
    )


def _canceled_party_registration(message: Element) -> Message:
    return CanceledPartyRegistration(_response(message))


def _created_opt(message: Element) -> Message:
    return CreatedOpt(_response(message))


def _canceled_opt(message: Element) -> Message:
    return CanceledOpt(_response(message))


def _create_report(message: Element) -> Message:
    return CreateReport(text(message, "requestID") or "", _report_requests(message))


def _registered_report(message: Element) -> Message:
    return RegisteredReport(_response(message), _report_requests(message))


def _register_report(message: Element) -> Message:
    return RegisterReport(text(message, "requestID") or "")


def _cancel_report(message: Element) -> CancelReport:
    return CancelReport(
        request_id=text(message, "requestID") or "",
        report_request_ids=tuple(e.text or "" for e in children(message, "reportRequestID")),
        to_follow=(text(message, "reportToFollow") or "").strip() in ("true", "1"),
    )


def _updated_report(message: Element) -> Message:
    cancel = child(message, "oadrCancelReport")
    return UpdatedReport(_response(message), None if cancel is None else _cancel_report(cancel))


_READERS: Mapping[str, Callable[[Element], Message]] = {
    "oadrResponse": _oadr_response,
    "oadrDistributeEvent": _distribute_event,
    "oadrCreatedPartyRegistration": _created_party_registration,
    "oadrRequestReregistration": _request_reregistration,
    "oadrCancelPartyRegistration": _cancel_party_registration,
    "oadrCanceledPartyRegistration": _canceled_party_registration,
    "oadrCreatedOpt": _created_opt,
    "oadrCanceledOpt": _canceled_opt,
    "oadrCreateReport": _create_report,
    "oadrRegisteredReport": _registered_report,
    "oadrRegisterReport": _register_report,
    "oadrCancelReport": _cancel_report,
    "oadrUpdatedReport": _updated_report,
}


def _event(element: Element) -> WireEvent | RejectedEvent:
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
            event_id=event_id if event_id.strip() else "",
            revision=int(revision) if _is_count(revision) else None,
            cancelled=status in ("cancelled", "canceled"),
            response_required=required,
            code=fault.code,
            why=f"event {quote(event_id)}: {fault.why}",
        )


def _whole_event(
    event: Element | None, descriptor: Element | None, status: str, required: bool
) -> WireEvent:
    period = child(event, "eiActivePeriod", "properties")
    event_id = _required_text(descriptor, "eventID")
    if status not in _STATUSES:
        raise FaultError(
            Code.INVALID_DATA, f"eventStatus is {quote(status)}, which is no event status"
        )
    duration = _duration(period, "duration", "duration")
    if duration is None:
        raise FaultError(Code.INVALID_DATA, "its active period has no duration")
    return WireEvent(
        event_id=event_id,
        revision=_count(descriptor, "modificationNumber"),
        priority=_count(descriptor, "priority", default=0),
        market_context=(text(descriptor, "eiMarketContext", "marketContext") or "").strip(),
        created_at=_time(descriptor, "createdDateTime"),
        cancelled=status in ("cancelled", "canceled"),
        test=_is_test(text(descriptor, "testEvent")),
        comment=text(descriptor, "vtnComment") or "",
        starts_at=_required_time(period, "dtstart", "date-time"),
        duration=duration,
        start_after=_duration(period, "tolerance", "tolerate", "startafter") or timedelta(0),
        notification=_duration(period, "x-eiNotification", "duration"),
        ramp_up=_duration(period, "x-eiRampUp", "duration"),
        recovery=_duration(period, "x-eiRecovery", "duration"),
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
    name = (text(element, "signalName") or "").strip()
    kind = (text(element, "signalType") or "").strip()
    where = f"signal {quote(name)} {quote(kind)}"
    item = next((node for node in element if child(node, "itemUnits") is not None), None)
    numbered = enumerate(_in_order(child(element, "intervals")), start=1)
    return WireSignal(
        name=name,
        type=kind,
        item="" if item is None else local_name(item),
        unit=(text(item, "itemUnits") or "").strip(),
        scale=(text(item, "siScaleCode") or "none").strip(),
        intervals=tuple(_interval(node, f"interval {n} of {where}") for n, node in numbered),
    )


def _in_order(intervals: Element | None) -> Sequence[Element]:
    """A signal's intervals as their uids number them (2.0b rule 2), from whatever number on; as they
    stand where those are no numbers, or the same twice.
    """
    found = list(children(intervals, "interval"))
    uids = [(text(node, "uid", "text") or "").strip() for node in found]
    if not all(_COUNT.fullmatch(uid) for uid in uids) or len(set(map(int, uids))) < len(uids):
        return found
    return [node for _, node in sorted(zip(map(int, uids), found, strict=True), key=itemgetter(0))]


def _interval(element: Element, where: str) -> WireInterval:
    payload = child(element, "signalPayload")
    number = None if payload is None else next(iter(payload), None)
    value = (text(number, "value") or "").strip()
    try:
        return WireInterval(
            start=_time(element, "dtstart", "date-time"),
            duration=_duration(element, "duration", "duration"),
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


def _report_requests(
    message: Element,
) -> tuple[WireReportRequest | RejectedRequest, ...]:
    return tuple(_report_request(element) for element in children(message, "oadrReportRequest"))


def _report_request(element: Element) -> WireReportRequest | RejectedRequest:
    request_id = text(element, "reportRequestID") or ""
    specifier = child(element, "reportSpecifier")
    stretch = child(specifier, "reportInterval", "properties")
    try:
        return WireReportRequest(
            request_id=_required_text(element, "reportRequestID"),
            specifier_id=_required_text(specifier, "reportSpecifierID"),
            r_ids=tuple(
                text(payload, "rID") or "" for payload in children(specifier, "specifierPayload")
            ),
            granularity=_length(specifier, "granularity", "duration"),
            back_duration=_length(specifier, "reportBackDuration", "duration"),
            starts_at=_time(stretch, "dtstart", "date-time"),
            duration=_duration(stretch, "duration", "duration"),
        )
    except FaultError as fault:
        return RejectedRequest(request_id, fault.code, fault.why)


def _word(element: Element, name: str) -> str:
    return (text(element, name) or "").strip()


def _required_text(element: Element | None, name: str) -> str:
    found = text(element, name)
    if not found or not found.strip():
        raise FaultError(Code.INVALID_ID, f"it has no {name}")
    return found


def _count(element: Element | None, name: str, default: int | None = None) -> int:
    found = text(element, name)
    if found is None and default is not None:
        return default
    if not _is_count((found or "").strip()):
        raise FaultError(
            Code.INVALID_DATA,
            f"its {name} is {quote(found or '')}, not a whole number up to {MAX_COUNT}",
        )
    return int((found or "").strip())


def _is_count(said: str) -> bool:
    return _COUNT.fullmatch(said) is not None and int(said) <= MAX_COUNT


def _time(element: Element | None, *path: str) -> datetime | None:
    found = text(element, *path)
    try:
        return None if found is None else parse_time(found)
    except ValueError as error:
        raise FaultError(Code.INVALID_DATA, f"its {path[0]} {error}") from None


def _required_time(element: Element | None, *path: str) -> datetime:
    found = _time(element, *path)
    if found is None:
        raise FaultError(Code.INVALID_DATA, f"it has no {path[0]}")
    return found


def _duration(element: Element | None, *path: str) -> timedelta | None:
    found = text(element, *path)
    try:
        return None if found is None else parse_duration(found)
    except ValueError as error:
        raise FaultError(Code.INVALID_DATA, f"its {path[0]} {error}") from None


def _length(element: Element | None, *path: str) -> timedelta:
    """A duration that cannot be negative; zero where it is missing."""
    found = _duration(element, *path) or timedelta(0)
    if found < timedelta(0):
        raise FaultError(Code.INVALID_DATA, f"its {path[0]} is negative")
    return found
