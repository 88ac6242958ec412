"""The messages we send, as XML that is valid against the profile's schema.

The templates are openleadr's, read from where it is installed, with a few of our own before them;
the package itself is never imported. Everything that goes into a template is escaped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from agent.core.event import Opt
from agent.errors import WireError
from agent.openadr.iso8601 import format_duration, format_time
from agent.openadr.v20.messages import EventAnswer, Response, new_id
from agent.openadr.v20.xml import check_outgoing, openleadr_folder
from agent.store.registrations import SentOpt

_OPT_TYPES = {Opt.IN: "optIn", Opt.OUT: "optOut"}
_WHOLE = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Status:
    """The state of a resource at one interval of TELEMETRY_STATUS."""

    online: bool
    override: bool


@dataclass(frozen=True, slots=True)
class Datum:
    """One data point of one interval of a report."""

    start: datetime
    duration: timedelta | None
    """None where the profile cannot write it: its schema knows no fractions of a second."""
    r_id: str
    quality: str
    """One of the profile's data qualities."""
    value: str = "0"
    status: Status | None = None
    """Stands in for the value in a report on status."""


@dataclass(frozen=True, slots=True)
class Report:
    """One report as it is sent."""

    report_id: str
    report_request_id: str
    report_specifier_id: str
    report_name: str
    created_at: datetime
    intervals: Sequence[Datum]

    @property
    def start(self) -> datetime:
        """Start of its first interval."""
        return self.intervals[0].start


@lru_cache(maxsize=16)
def poll(ven_id: str) -> bytes:
    """An oadrPoll: the one message that is sent again and again and never differs."""
    return _render("oadrPoll", ven_id=ven_id)


def response(ven_id: str, answer: Response) -> bytes:
    """An oadrResponse."""
    return _render("oadrResponse", ven_id=ven_id, response=_fields(answer))


def query_registration() -> bytes:
    """An oadrQueryRegistration: what the VTN offers, without registering."""
    return _render("oadrQueryRegistration", request_id=new_id())


def create_party_registration(
    ven_name: str, ven_id: str, registration_id: str, *, signed: bool = False
) -> bytes:
    """An oadrCreatePartyRegistration; with the ids of an earlier registration, to renew it."""
    return _render(
        "oadrCreatePartyRegistration",
        request_id=new_id(),
        ven_name=ven_name,
        ven_id=ven_id,
        registration_id=registration_id,
        xml_signature=signed,
    )


def cancel_party_registration(ven_id: str, registration_id: str) -> bytes:
    """An oadrCancelPartyRegistration: we leave."""
    return _render(
        "oadrCancelPartyRegistration",
        request_id=new_id(),
        registration_id=registration_id,
        ven_id=ven_id,
    )


def canceled_party_registration(ven_id: str, registration_id: str, answer: Response) -> bytes:
    """An oadrCanceledPartyRegistration."""
    return _render(
        "oadrCanceledPartyRegistration",
        response=_fields(answer),
        registration_id=registration_id,
        ven_id=ven_id,
    )


def request_event(ven_id: str) -> bytes:
    """An oadrRequestEvent for all events: a limited answer could not imply that others are gone."""
    return _render("oadrRequestEvent", request_id=new_id(), ven_id=ven_id)


def created_event(
    ven_id: str, request_id: str, answers: Sequence[EventAnswer], fault: Response | None = None
) -> bytes:
    """An oadrCreatedEvent answering each event; `request_id` is the oadrDistributeEvent's (rule 42).

    `fault` speaks for events that could not even be named.
    """
    events = [
        {
            "response_code": answer.code.value,
            "response_description": answer.description,
            "request_id": request_id,
            "event_id": answer.event_id,
            "modification_number": answer.revision,
            "opt_type": _OPT_TYPES[answer.opt],
        }
        for answer in answers
    ]
    whole = fault or Response(200, "OK", request_id)
    return _render(
        "oadrCreatedEvent", response=_fields(whole), event_responses=events or None, ven_id=ven_id
    )


def create_opt(
    ven_id: str, opt: SentOpt, reason: str, resource: str, created_at: datetime
) -> bytes:
    """An oadrCreateOpt for one resource: on an event, or for a stretch of time (vavailability).

    A stretch is widened to whole seconds, which is all that the schema knows.
    """
    vavailability = None
    if opt.start is not None and opt.end is not None:
        start = opt.start.replace(microsecond=0)
        length = -(-(opt.end - start) // _WHOLE) * _WHOLE
        vavailability = {"components": [{"dtstart": start, "duration": length}]}
    return _render(
        "oadrCreateOpt",
        request_id=new_id(),
        ven_id=ven_id,
        opt_id=opt.opt_id,
        opt_type=_OPT_TYPES[opt.opt],
        opt_reason=reason,
        vavailability=vavailability,
        created_date_time=created_at,
        event_id=opt.event_id or None,
        modification_number=opt.revision,
        targets=[{"resource_id": resource}],
    )


def cancel_opt(ven_id: str, opt_id: str) -> bytes:
    """An oadrCancelOpt."""
    return _render("oadrCancelOpt", request_id=new_id(), ven_id=ven_id, opt_id=opt_id)


def register_report(
    ven_id: str, reports: Sequence[Mapping[str, Any]], report_request_id: str = ""
) -> bytes:
    """An oadrRegisterReport (METADATA); `report_request_id` where the VTN asked for it."""
    return _render(
        "oadrRegisterReport",
        request_id=new_id(),
        reports=reports,
        ven_id=ven_id,
        report_request_id=report_request_id,
    )


def registered_report(ven_id: str, request_id: str) -> bytes:
    """An oadrRegisteredReport asking for none of what the VTN offered."""
    answer = _fields(Response(200, "OK", request_id))
    return _render("oadrRegisteredReport", response=answer, report_requests=[], ven_id=ven_id)


def created_report(ven_id: str, answer: Response, pending: Sequence[str]) -> bytes:
    """An oadrCreatedReport with the ids of all reports that are still to come."""
    return _pending("oadrCreatedReport", ven_id, answer, pending)


def canceled_report(ven_id: str, answer: Response, pending: Sequence[str]) -> bytes:
    """An oadrCanceledReport with the ids of all reports that are still to come."""
    return _pending("oadrCanceledReport", ven_id, answer, pending)


def update_report(ven_id: str, report: Report) -> bytes:
    """An oadrUpdateReport with one report of at least one interval."""
    return _render("oadrUpdateReport", request_id=new_id(), report=report, ven_id=ven_id)


def _pending(message: str, ven_id: str, answer: Response, pending: Sequence[str]) -> bytes:
    reports = [{"report_request_id": request_id} for request_id in pending]
    return _render(message, response=_fields(answer), pending_reports=reports, ven_id=ven_id)


def _fields(answer: Response) -> Mapping[str, Any]:
    return {
        "response_code": answer.code,
        "response_description": answer.description,
        "request_id": answer.request_id,
    }


def _render(message: str, **fields: Any) -> bytes:
    signed_object = _templates().get_template(f"{message}.xml").render(fields)
    body = (
        _templates()
        .get_template("oadrPayload.xml")
        .render(signature=None, signed_object=signed_object)
    )
    try:
        encoded = body.encode()
    except UnicodeEncodeError as error:
        raise WireError(f"a message of ours is no text at character {error.start}") from error
    check_outgoing(encoded)
    return encoded


def _escaped(value: object) -> Markup:
    """Text for a template. A carriage return, written as it is, would arrive as a line feed."""
    return escape(value).replace("\r", Markup("&#13;"))


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=ChoiceLoader(
            [
                FileSystemLoader(Path(__file__).parent / "templates"),
                FileSystemLoader(openleadr_folder() / "templates"),
            ]
        ),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        auto_reload=False,
        finalize=_escaped,
    )
    environment.filters["datetimeformat"] = format_time
    environment.filters["timedeltaformat"] = format_duration
    environment.filters["booleanformat"] = lambda value: "true" if value else "false"
    return environment
