"""From a parsed message to values: the only place, with `event_reader`, that knows where things stand in the XML of 2.0.

Elements are found by local name, since senders differ in what namespaces they think right. A fault
in one event or report request rejects that one; only what makes the whole message meaningless
raises `WireError`.
"""

import re
from collections.abc import Callable, Mapping

from agent.errors import WireError
from agent.openadr.iso8601 import parse_duration
from agent.openadr.v20 import fields
from agent.openadr.v20.event_reader import read_event
from agent.openadr.v20.messages import (
    CanceledOpt,
    CanceledPartyRegistration,
    CancelPartyRegistration,
    CancelReport,
    CreatedOpt,
    CreatedPartyRegistration,
    CreateReport,
    DistributeEvent,
    FaultError,
    Message,
    OadrResponse,
    RegisteredReport,
    RegisterReport,
    RejectedRequest,
    RequestReregistration,
    Response,
    Unexpected,
    UpdatedReport,
    WireReportRequest,
)
from agent.openadr.v20.xml import Element, child, children, local_name, text


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
        events=tuple(read_event(element) for element in children(message, "oadrEvent")),
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
            (fields.word(profile, "oadrProfileName"), _transports(profile))
            for profile in children(child(message, "oadrProfiles"), "oadrProfile")
        ),
    )


def _transports(profile: Element) -> tuple[str, ...]:
    listed = children(child(profile, "oadrTransports"), "oadrTransport")
    return tuple(fields.word(transport, "oadrTransportName") for transport in listed)


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
            request_id=fields.required_text(element, "reportRequestID"),
            specifier_id=fields.required_text(specifier, "reportSpecifierID"),
            r_ids=tuple(
                text(payload, "rID") or "" for payload in children(specifier, "specifierPayload")
            ),
            granularity=fields.length(specifier, "granularity", "duration"),
            back_duration=fields.length(specifier, "reportBackDuration", "duration"),
            starts_at=fields.time(stretch, "dtstart", "date-time"),
            duration=fields.duration(stretch, "duration", "duration"),
        )
    except FaultError as fault:
        return RejectedRequest(request_id, fault.code, fault.why)
