"""Which reports the site offers, which of them a VTN may have, and when each is due.

Pure: `now` is an argument. Reports are cut from the history by a cursor for each request, so there
is no queue to lose: what has not arrived is simply still to be sent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from agent.openadr.iso8601 import format_duration
from agent.openadr.v20b.messages import Code, RejectedRequest, WireReportRequest, quote
from agent.openadr.v20b.settings import Ven20bSettings
from agent.store.history import KEEP
from agent.store.registrations import Registration, ReportRequest

METADATA = "METADATA"
"""The specifier under which a VTN asks for our offer itself."""
SETTLE = timedelta(seconds=1)
"""How long after an instant its sample is usually on disk."""
LATEST = timedelta(seconds=10)
"""What a report of one value averages over when nothing says."""
MAX_REQUESTS = 64
MAX_DATA = 600
"""Data points in one message."""
MAX_SPAN = timedelta(hours=6)
"""Samples read for one message span no more than this, or one interval if that is longer."""

_ORIGIN = datetime(1970, 1, 1, tzinfo=UTC)
_NOTHING = timedelta(0)


@dataclass(frozen=True, slots=True)
class Offer:
    """One report the site can make."""

    specifier_id: str
    name: str
    r_ids: tuple[str, ...]


def offers_of(settings: Ven20bSettings) -> tuple[Offer, ...]:
    """The profile's minimum (2.0b rule 510): usage and status of the site as one resource."""
    resource = settings.resource
    return (
        Offer("usage", "TELEMETRY_USAGE", (f"{resource}-power", f"{resource}-energy")),
        Offer("status", "TELEMETRY_STATUS", (f"{resource}-status",)),
    )


def metadata_of(settings: Ven20bSettings, now: datetime) -> tuple[Mapping[str, Any], ...]:
    """The offers as METADATA reports, in the templates' terms."""
    power = {
        **_measurement("powerReal", "RealPower", "W"),
        "power_attributes": {
            "hertz": settings.mains_hz,
            "voltage": settings.mains_v,
            "ac": True,
        },
    }
    energy = _measurement("energyReal", "RealEnergy", "Wh")
    usage, status = offers_of(settings)
    descriptions = {
        usage: (
            _description(settings, usage.r_ids[0], "usage", "Mean", power),
            _description(settings, usage.r_ids[1], "usage", "Net", energy),
        ),
        status: (
            _description(settings, status.r_ids[0], "x-resourceStatus", "x-notApplicable", None),
        ),
    }
    return tuple(
        {
            "duration": KEEP,
            "report_descriptions": described,
            "report_specifier_id": offer.specifier_id,
            "report_name": f"METADATA_{offer.name}",
            "created_date_time": now,
        }
        for offer, described in descriptions.items()
    )


def digest_of(settings: Ven20bSettings) -> str:
    """What the offer depends on: when it changes, the VTN must hear of it."""
    return (
        f"{settings.resource} {settings.report_min_s:g}-{settings.report_max_s:g} s "
        f"{settings.mains_hz} Hz {settings.mains_v} V"
    )


def judge(
    wire: WireReportRequest, settings: Ven20bSettings, now: datetime
) -> ReportRequest | RejectedRequest:
    """A request as it will be served, or why it cannot be."""
    offer = next((o for o in offers_of(settings) if o.specifier_id == wire.specifier_id), None)
    why = _objection(wire, offer, settings)
    if why or offer is None:
        text = f"report request {quote(wire.request_id)}: {why}"
        return RejectedRequest(wire.request_id, Code.REPORT_NOT_SUPPORTED, text)
    request = ReportRequest(
        request_id=wire.request_id,
        specifier_id=wire.specifier_id,
        r_ids=wire.r_ids or offer.r_ids,
        granularity=wire.granularity,
        back_duration=wire.back_duration,
        sent_through=now,
    )
    grain = grain_of(request)
    start, end = wire.starts_at, None
    if start is not None and wire.duration:
        end = start + wire.duration
    if not wire.back_duration and end is None:
        end = now
    if start is None:
        start = now - grain if end is not None else floor(now, grain)
    return replace(request, sent_through=start, ends_at=end)


def adopt(registration: Registration, request: ReportRequest, now: datetime) -> Registration:
    """The registration with a new request, which goes on where an earlier one of its kind got to.

    That is the same request sent again, or a dormant one for the same report. One that is to begin
    later begins then.
    """
    same = next((r for r in registration.requests if r.request_id == request.request_id), None)
    alike = [
        r for r in registration.requests if r.dormant and r.specifier_id == request.specifier_id
    ]
    alike.sort(key=lambda r: r.granularity != request.granularity)
    earlier = same or next(iter(alike), None)
    if earlier is None or not request.back_duration or request.sent_through > now:
        return registration.with_request(request)
    cursor = earlier.sent_through
    if earlier.granularity != request.granularity:
        cursor = floor(cursor, grain_of(request))
    adopted = replace(request, sent_through=cursor)
    return registration.without_request(earlier.request_id).with_request(adopted)


def grain_of(request: ReportRequest) -> timedelta:
    """The length of its intervals: zero granularity means one value a report."""
    return request.granularity or request.back_duration or LATEST


def complete_at(request: ReportRequest) -> datetime:
    """When its next report covers what it is to cover; one that is asked for once comes as a whole.

    Report periods keep to the clock as intervals do, so that a late report delays none after it.
    """
    if request.ends_at is not None and not request.back_duration:
        return request.ends_at
    full = _passed(request, request.sent_through) + _period_of(request)
    return full if request.ends_at is None else min(full, request.ends_at)


def chunk_of(
    request: ReportRequest, settled: datetime, kept_from: datetime
) -> tuple[datetime, datetime]:
    """The stretch that its next message covers: whole intervals, as many as go into one.

    Samples are complete before `settled` and forgotten before `kept_from`; what is forgotten is
    skipped. The rest of a report that ends counts whole.
    """
    grain = grain_of(request)
    start = request.sent_through
    if start < kept_from:
        start += -((start - kept_from) // grain) * grain
    ending = request.ends_at is not None and request.ends_at <= settled
    if request.ends_at is not None and ending:
        until = request.ends_at
        start = min(start, until)
    else:
        until = _passed(request, settled)
    most = min(MAX_DATA // len(request.r_ids), max(1, MAX_SPAN // grain))
    whole = max(0, (until - start) // grain)
    if ending and whole < most:
        return start, until
    return start, start + min(whole, most) * grain


def waiting(request: ReportRequest, now: datetime) -> int:
    """How many of its data points are due and have not arrived."""
    settled = now - SETTLE
    if request.dormant or settled < complete_at(request):
        return 0
    until = _passed(request, settled)
    if request.ends_at is not None and request.ends_at <= settled:
        until = request.ends_at
    return max(1, (until - request.sent_through) // grain_of(request)) * len(request.r_ids)


def floor(at: datetime, length: timedelta) -> datetime:
    """The last multiple of `length` since 1970 at or before `at`: intervals keep to the clock."""
    return _ORIGIN + (at - _ORIGIN) // length * length


def pending_ids(requests: Sequence[ReportRequest]) -> tuple[str, ...]:
    """The ids of all requests that are being served."""
    return tuple(r.request_id for r in requests if not r.dormant)


def is_offered(request: ReportRequest, settings: Ven20bSettings) -> bool:
    """Whether all of it is still offered."""
    return any(
        request.specifier_id == offer.specifier_id and set(request.r_ids) <= set(offer.r_ids)
        for offer in offers_of(settings)
    )


def offered(registration: Registration, digest: str, settings: Ven20bSettings) -> Registration:
    """The registration once our offer has arrived, without requests for what it does not hold."""
    held = tuple(r for r in registration.requests if is_offered(r, settings))
    return replace(registration, offered=digest, requests=held)


def advanced(registration: Registration, request_id: str, end: datetime) -> Registration:
    """The registration once everything of a request before `end` has arrived."""
    request = _live(registration, request_id)
    if request is None:
        return registration
    sent = replace(request, sent_through=max(request.sent_through, end))
    if sent.ends_at is not None and sent.sent_through >= sent.ends_at:
        return registration.without_request(request_id)
    return registration.with_request(sent)


def ended(
    registration: Registration, request_ids: Sequence[str], last: datetime | None
) -> Registration:
    """The registration without some requests, or with them ending at `last`."""
    for request_id in request_ids:
        request = _live(registration, request_id)
        if request is None or last is None:
            registration = registration.without_request(request_id)
        else:
            until = max(last, request.sent_through)
            registration = registration.with_request(replace(request, ends_at=until))
    return registration


def forgotten(registration: Registration, request_id: str) -> Registration:
    """The registration once the VTN turned out not to know a request: our offer is due again."""
    request = _live(registration, request_id)
    if request is not None:
        registration = registration.with_request(replace(request, dormant=True))
    return replace(registration, offered="")


def _live(registration: Registration, request_id: str) -> ReportRequest | None:
    return next(
        (r for r in registration.requests if r.request_id == request_id and not r.dormant), None
    )


def _period_of(request: ReportRequest) -> timedelta:
    """How often it is reported: whole intervals at a time."""
    grain = grain_of(request)
    return max(grain, request.back_duration // grain * grain)


def _passed(request: ReportRequest, at: datetime) -> datetime:
    """The last end of a report period at or before `at`, on the grid that its intervals lie on."""
    phase = (request.sent_through - _ORIGIN) % grain_of(request)
    return floor(at - phase, _period_of(request)) + phase


def _objection(wire: WireReportRequest, offer: Offer | None, settings: Ven20bSettings) -> str:
    """Why a request cannot be served; empty when it can."""
    if offer is None:
        return f"reportSpecifierID {quote(wire.specifier_id)} is not offered"
    unknown = [r_id for r_id in wire.r_ids if r_id not in offer.r_ids]
    if unknown:
        return f"rID {quote(unknown[0])} is not offered under {quote(offer.specifier_id)}"
    grain_s = (wire.granularity or wire.back_duration).total_seconds()
    if grain_s and not settings.report_min_s <= grain_s <= settings.report_max_s:
        return (
            f"its interval of {grain_s:g} s is not between the offered {settings.report_min_s:g} "
            f"and {settings.report_max_s:g} s"
        )
    if wire.back_duration > KEEP / 2:
        return f"reportBackDuration is longer than {format_duration(KEEP / 2)}"
    if wire.duration is not None and not _NOTHING <= wire.duration <= timedelta(days=36_500):
        return "its reportInterval has no sensible duration"
    if wire.starts_at is not None and not 1970 <= wire.starts_at.year < 3000:
        return f"its reportInterval begins in the year {wire.starts_at.year}"
    return ""


def _measurement(name: str, description: str, unit: str) -> dict[str, Any]:
    return {
        "ns": "power",
        "name": name,
        "description": description,
        "unit": unit,
        "scale": "none",
        "pulse_factor": None,
        "power_attributes": None,
    }


def _description(
    settings: Ven20bSettings,
    r_id: str,
    report_type: str,
    reading_type: str,
    measurement: Mapping[str, Any] | None,
) -> Mapping[str, Any]:
    whole_s = timedelta(seconds=1)
    return {
        "r_id": r_id,
        "report_subject": None,
        "report_data_source": {
            "emix_interfaces": None,
            "group_id": None,
            "group_name": None,
            "resource_id": settings.resource,
            "ven_id": None,
            "party_id": None,
        },
        "report_type": report_type,
        "reading_type": reading_type,
        "market_context": None,
        "measurement": measurement,
        "sampling_rate": {
            # The schema knows whole seconds only.
            "min_period": -(-timedelta(seconds=settings.report_min_s) // whole_s) * whole_s,
            "max_period": timedelta(seconds=settings.report_max_s) // whole_s * whole_s,
            "on_change": False,
        },
    }
