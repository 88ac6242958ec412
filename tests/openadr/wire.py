"""What a VTN says, written out by hand so that it can also be written wrongly."""

from collections.abc import Iterable
from datetime import datetime
from xml.sax.saxutils import escape

from tests.clock import NOON

MARKET = "http://utility.example/fast-dr"
_NAMESPACES = (
    'xmlns:oadr="http://openadr.org/oadr-2.0b/2012/07"'
    ' xmlns:ei="http://docs.oasis-open.org/ns/energyinterop/201110"'
    ' xmlns:pyld="http://docs.oasis-open.org/ns/energyinterop/201110/payloads"'
    ' xmlns:emix="http://docs.oasis-open.org/ns/emix/2011/06"'
    ' xmlns:power="http://docs.oasis-open.org/ns/emix/2011/06/power"'
    ' xmlns:scale="http://docs.oasis-open.org/ns/emix/2011/06/siscale"'
    ' xmlns:xcal="urn:ietf:params:xml:ns:icalendar-2.0"'
    ' xmlns:strm="urn:ietf:params:xml:ns:icalendar-2.0:stream"'
)


def payload(inner: str) -> bytes:
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<oadr:oadrPayload {_NAMESPACES}>'
        f'<oadr:oadrSignedObject oadr:Id="oadrSignedObject">{inner}</oadr:oadrSignedObject>'
        "</oadr:oadrPayload>"
    ).encode()


def ei_response(code: int = 200, description: str = "OK", request_id: str = "") -> str:
    return (
        f"<ei:eiResponse><ei:responseCode>{code}</ei:responseCode>"
        f"<ei:responseDescription>{escape(description)}</ei:responseDescription>"
        f"<pyld:requestID>{escape(request_id)}</pyld:requestID></ei:eiResponse>"
    )


def oadr_response(code: int = 200, description: str = "OK") -> bytes:
    return payload(
        f"<oadr:oadrResponse ei:schemaVersion='2.0b'>{ei_response(code, description)}"
        "<ei:venID>ven-1</ei:venID></oadr:oadrResponse>"
    )


def created_party_registration(
    ven_id: str = "ven-1",
    registration_id: str = "reg-1",
    vtn_id: str = "vtn",
    poll: str | None = "PT10S",
    code: int = 200,
) -> bytes:
    ids = f"<ei:registrationID>{registration_id}</ei:registrationID>" if registration_id else ""
    ids += f"<ei:venID>{ven_id}</ei:venID>" if ven_id else ""
    frequency = (
        f"<oadr:oadrRequestedOadrPollFreq><xcal:duration>{poll}</xcal:duration>"
        "</oadr:oadrRequestedOadrPollFreq>"
        if poll is not None
        else ""
    )
    return payload(
        f"<oadr:oadrCreatedPartyRegistration>{ei_response(code)}{ids}<ei:vtnID>{vtn_id}</ei:vtnID>"
        "<oadr:oadrProfiles><oadr:oadrProfile><oadr:oadrProfileName>2.0b</oadr:oadrProfileName>"
        "<oadr:oadrTransports><oadr:oadrTransport><oadr:oadrTransportName>simpleHttp"
        "</oadr:oadrTransportName></oadr:oadrTransport></oadr:oadrTransports></oadr:oadrProfile>"
        f"</oadr:oadrProfiles>{frequency}</oadr:oadrCreatedPartyRegistration>"
    )


def request_reregistration(ven_id: str = "ven-1") -> bytes:
    return payload(
        "<oadr:oadrRequestReregistration>"
        f"<ei:venID>{ven_id}</ei:venID></oadr:oadrRequestReregistration>"
    )


def cancel_party_registration(registration_id: str = "reg-1", ven_id: str = "ven-1") -> bytes:
    return payload(
        "<oadr:oadrCancelPartyRegistration><pyld:requestID>cancel-1</pyld:requestID>"
        f"<ei:registrationID>{registration_id}</ei:registrationID><ei:venID>{ven_id}</ei:venID>"
        "</oadr:oadrCancelPartyRegistration>"
    )


def canceled_party_registration(code: int = 200) -> bytes:
    return payload(
        f"<oadr:oadrCanceledPartyRegistration>{ei_response(code)}"
        "<ei:registrationID>reg-1</ei:registrationID><ei:venID>ven-1</ei:venID>"
        "</oadr:oadrCanceledPartyRegistration>"
    )


def created_opt(opt_id: str, code: int = 200) -> bytes:
    return payload(
        f"<oadr:oadrCreatedOpt>{ei_response(code)}<ei:optID>{opt_id}</ei:optID></oadr:oadrCreatedOpt>"
    )


def canceled_opt(opt_id: str, code: int = 200) -> bytes:
    return payload(
        f"<oadr:oadrCanceledOpt>{ei_response(code)}<ei:optID>{opt_id}</ei:optID>"
        "</oadr:oadrCanceledOpt>"
    )


def interval(
    value: object = 100.0,
    duration: str | None = "PT1H",
    start: str | None = None,
    uid: int = 0,
    payload_xml: str | None = None,
) -> str:
    begin = (
        f"<xcal:dtstart><xcal:date-time>{start}</xcal:date-time></xcal:dtstart>" if start else ""
    )
    length = (
        f"<xcal:duration><xcal:duration>{duration}</xcal:duration></xcal:duration>"
        if duration is not None
        else ""
    )
    value_xml = (
        f"<ei:signalPayload><ei:payloadFloat><ei:value>{value}</ei:value></ei:payloadFloat>"
        "</ei:signalPayload>"
    )
    return (
        f"<ei:interval>{begin}{length}<xcal:uid><xcal:text>{uid}</xcal:text></xcal:uid>"
        f"{value_xml if payload_xml is None else payload_xml}</ei:interval>"
    )


def power_real(scale: str = "none", unit: str = "W") -> str:
    return (
        "<power:powerReal><power:itemDescription>RealPower</power:itemDescription>"
        f"<power:itemUnits>{unit}</power:itemUnits><scale:siScaleCode>{scale}</scale:siScaleCode>"
        "<power:powerAttributes><power:hertz>50</power:hertz><power:voltage>230</power:voltage>"
        "<power:ac>true</power:ac></power:powerAttributes></power:powerReal>"
    )


def signal(
    name: str = "LOAD_DISPATCH",
    kind: str = "setpoint",
    intervals: Iterable[str] | None = None,
    item: str = "",
) -> str:
    pieces = [interval()] if intervals is None else intervals
    return (
        f"<ei:eiEventSignal><strm:intervals>{''.join(pieces)}</strm:intervals>"
        f"<ei:signalName>{name}</ei:signalName><ei:signalType>{kind}</ei:signalType>"
        f"<ei:signalID>s-1</ei:signalID>{item}</ei:eiEventSignal>"
    )


def simple(level: object = 1, duration: str = "PT1H") -> str:
    return signal("SIMPLE", "level", [interval(level, duration)])


def time(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def event(
    event_id: str = "ev-1",
    revision: object = 0,
    status: str = "far",
    start: datetime | str = NOON,
    duration: str | None = "PT1H",
    signals: Iterable[str] | None = None,
    priority: object | None = 0,
    market: str = MARKET,
    test: str | None = None,
    comment: str | None = None,
    start_after: str | None = None,
    notification: str | None = None,
    ramp_up: str | None = None,
    recovery: str | None = None,
    target: str = "",
    response: str = "always",
    created: str | None = "2026-07-01T11:00:00Z",
) -> str:
    begin = start if isinstance(start, str) else time(start)
    pieces = [signal()] if signals is None else signals
    descriptor = (
        f"<ei:eventID>{event_id}</ei:eventID>"
        f"<ei:modificationNumber>{revision}</ei:modificationNumber>"
        + ("" if priority is None else f"<ei:priority>{priority}</ei:priority>")
        + f"<ei:eiMarketContext><emix:marketContext>{market}</emix:marketContext></ei:eiMarketContext>"
        + ("" if created is None else f"<ei:createdDateTime>{created}</ei:createdDateTime>")
        + f"<ei:eventStatus>{status}</ei:eventStatus>"
        + ("" if test is None else f"<ei:testEvent>{test}</ei:testEvent>")
        + ("" if comment is None else f"<ei:vtnComment>{comment}</ei:vtnComment>")
    )
    period = f"<xcal:dtstart><xcal:date-time>{begin}</xcal:date-time></xcal:dtstart>"
    if duration is not None:
        period += _lasting("xcal:duration", duration)
    if start_after is not None:
        period += (
            "<xcal:tolerance><xcal:tolerate><xcal:startafter>"
            f"{start_after}</xcal:startafter></xcal:tolerate></xcal:tolerance>"
        )
    for tag, length in (
        ("ei:x-eiNotification", notification),
        ("ei:x-eiRampUp", ramp_up),
        ("ei:x-eiRecovery", recovery),
    ):
        period += "" if length is None else _lasting(tag, length)
    return (
        f"<oadr:oadrEvent><ei:eiEvent><ei:eventDescriptor>{descriptor}</ei:eventDescriptor>"
        f"<ei:eiActivePeriod><xcal:properties>{period}</xcal:properties><xcal:components/>"
        f"</ei:eiActivePeriod><ei:eiEventSignals>{''.join(pieces)}</ei:eiEventSignals>"
        f"<ei:eiTarget>{target}</ei:eiTarget></ei:eiEvent>"
        f"<oadr:oadrResponseRequired>{response}</oadr:oadrResponseRequired></oadr:oadrEvent>"
    )


def distribute_event(
    *events: str, vtn_id: str = "vtn", request_id: str = "dist-1", response: str = ""
) -> bytes:
    return payload(
        f"<oadr:oadrDistributeEvent>{response}<pyld:requestID>{request_id}</pyld:requestID>"
        f"<ei:vtnID>{vtn_id}</ei:vtnID>{''.join(events)}</oadr:oadrDistributeEvent>"
    )


def report_request(
    request_id: str = "rr-1",
    specifier: str = "usage",
    r_ids: Iterable[str] = ("site-power", "site-energy"),
    granularity: str = "PT1S",
    back: str = "PT10S",
    start: str | None = None,
    duration: str = "PT0S",
) -> str:
    stretch = (
        "<ei:reportInterval><xcal:properties><xcal:dtstart><xcal:date-time>"
        f"{start}</xcal:date-time></xcal:dtstart>{_lasting('xcal:duration', duration)}"
        "</xcal:properties></ei:reportInterval>"
        if start is not None
        else ""
    )
    payloads = "".join(
        f"<ei:specifierPayload><ei:rID>{r_id}</ei:rID><ei:readingType>Mean</ei:readingType>"
        "</ei:specifierPayload>"
        for r_id in r_ids
    )
    return (
        f"<oadr:oadrReportRequest><ei:reportRequestID>{request_id}</ei:reportRequestID>"
        f"<ei:reportSpecifier><ei:reportSpecifierID>{specifier}</ei:reportSpecifierID>"
        f"{_lasting('xcal:granularity', granularity)}{_lasting('ei:reportBackDuration', back)}"
        f"{stretch}{payloads}</ei:reportSpecifier></oadr:oadrReportRequest>"
    )


def registered_report(*requests: str, code: int = 200) -> bytes:
    return payload(
        f"<oadr:oadrRegisteredReport>{ei_response(code)}{''.join(requests)}"
        "</oadr:oadrRegisteredReport>"
    )


def create_report(*requests: str) -> bytes:
    return payload(
        "<oadr:oadrCreateReport><pyld:requestID>create-1</pyld:requestID>"
        f"{''.join(requests)}<ei:venID>ven-1</ei:venID></oadr:oadrCreateReport>"
    )


def register_report() -> bytes:
    return payload(
        "<oadr:oadrRegisterReport><pyld:requestID>offer-1</pyld:requestID></oadr:oadrRegisterReport>"
    )


def cancel_report(*request_ids: str, follow: bool = False) -> bytes:
    return payload(_cancel(request_ids, follow))


def updated_report(code: int = 200, cancel: Iterable[str] = (), follow: bool = False) -> bytes:
    inner = _cancel(cancel, follow) if cancel else ""
    return payload(f"<oadr:oadrUpdatedReport>{ei_response(code)}{inner}</oadr:oadrUpdatedReport>")


def _cancel(request_ids: Iterable[str], follow: bool) -> str:
    ids = "".join(f"<ei:reportRequestID>{i}</ei:reportRequestID>" for i in request_ids)
    return (
        f"<oadr:oadrCancelReport><pyld:requestID>cancel-2</pyld:requestID>{ids}"
        f"<pyld:reportToFollow>{str(follow).lower()}</pyld:reportToFollow></oadr:oadrCancelReport>"
    )


def _lasting(tag: str, length: str) -> str:
    return f"<{tag}><xcal:duration>{length}</xcal:duration></{tag}>"
