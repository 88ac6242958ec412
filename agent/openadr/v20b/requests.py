"""Which reports a VTN may have, when each is due and what its next message covers.

Pure: `now` is an argument. Reports are cut from the history by a cursor for each request, so there
is no queue to lose: what has not arrived is simply still to be sent. What a message covers is
written down before it is sent, so that after a crash, or an answer that got lost, the same report
is sent again under the same id, and a VTN can tell.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from agent.errors import quote
from agent.openadr.iso8601 import format_duration
from agent.openadr.v20.messages import Code, RejectedRequest, WireReportRequest
from agent.openadr.v20b.offers import HISTORY, Offer, offer_for, offers_of
from agent.openadr.v20b.settings import Ven20bSettings
from agent.store.history import KEEP
from agent.store.registrations import Registration, ReportRequest

SETTLE = timedelta(seconds=1)
"""How long after an instant its sample is usually on disk."""
LATEST = timedelta(seconds=10)
"""What a report of one value averages over when nothing says."""
SKEW = timedelta(minutes=1)
"""How much later than our clock says still is now, by a VTN's clock or by ours before it was set."""
MAX_REQUESTS = 64
MAX_DATA = 600
"""Data points in one message."""
MAX_SPAN = timedelta(days=1)
"""One message spans no more than this, or one interval: samples take time to add up."""

_ORIGIN = datetime(1970, 1, 1, tzinfo=UTC)
_NOTHING = timedelta(0)
_TICK = timedelta(microseconds=1)


def judge(
    wire: WireReportRequest, settings: Ven20bSettings, now: datetime
) -> ReportRequest | RejectedRequest:
    """A request as it will be served, or why it cannot be."""
    offer = offer_for(wire.specifier_id, settings)
    why = _objection(wire, offer, settings)
    if why or offer is None:
        text = f"report request {quote(wire.request_id)}: {why}"
        return RejectedRequest(wire.request_id, Code.REPORT_NOT_SUPPORTED, text)
    start, end, granularity = _stretch_of(wire, settings, now)
    if start is None and offer.name == HISTORY and end is not None:
        granularity = granularity or timedelta(seconds=settings.report_max_s)
        start = floor(end - KEEP, granularity) + granularity
    request = ReportRequest(
        request_id=wire.request_id,
        specifier_id=wire.specifier_id,
        r_ids=tuple(dict.fromkeys(wire.r_ids)) or offer.r_ids,
        granularity=granularity,
        back_duration=wire.back_duration,
        sent_through=now,
        ends_at=end,
    )
    if start is None:
        grain = grain_of(request)
        start = now - grain if end is not None else floor(now, grain)
    return replace(request, sent_through=start)


def adopt(registration: Registration, request: ReportRequest, now: datetime) -> Registration:
    """The registration with a new request, which goes on where an earlier one of its kind got to.

    That is the same request sent again, or a dormant one for the same report. One that is to begin
    later begins then. Where an earlier one has not begun, or got ahead of a clock that was set back
    since, there is nothing to go on from.
    """
    same = next((r for r in registration.requests if r.request_id == request.request_id), None)
    alike = [
        r for r in registration.requests if r.dormant and r.specifier_id == request.specifier_id
    ]
    alike.sort(key=lambda r: (r.granularity != request.granularity, not _asks_same(r, request)))
    earlier = same or next(iter(alike), None)
    if earlier is None or not request.back_duration or request.sent_through > now + SKEW:
        return registration.with_request(request)
    registration = registration.without_request(earlier.request_id)
    if earlier.sent_through > now + SKEW:
        return registration.with_request(request)
    if not earlier.dormant and _asks_same(earlier, request):
        return registration.with_request(replace(earlier, ends_at=request.ends_at))
    cursor, sending = earlier.sent_through, earlier.sending_through
    if earlier.granularity != request.granularity:
        cursor = floor(cursor, grain_of(request))
    # What may have arrived is repeated as it was: it may go out under the same id again.
    sending = sending if _asks_same(earlier, request) else None
    return registration.with_request(replace(request, sent_through=cursor, sending_through=sending))


def grain_of(request: ReportRequest) -> timedelta:
    """The length of its intervals: zero granularity means one value a report."""
    return request.granularity or request.back_duration or LATEST


def complete_at(request: ReportRequest) -> datetime:
    """When its next report covers what it is to cover; one that is asked for once comes as a whole.

    That is each time its report-back duration passes on the clock, once another interval is over:
    so a late report delays none after it, and the one need not be a multiple of the other.
    """
    if request.ends_at is not None and not request.back_duration:
        return request.ends_at
    first = request.sent_through + grain_of(request)
    full = _passed(request, first - _TICK) + _period_of(request)
    return full if request.ends_at is None else min(full, request.ends_at)


def chunk_of(
    request: ReportRequest, settled: datetime, kept_from: datetime
) -> tuple[datetime, datetime]:
    """The stretch that its next message covers: whole intervals, as many as go into one.

    Samples are complete before `settled` and forgotten before `kept_from`; what is forgotten is
    skipped. The rest of a report that ends counts whole. What may have arrived already is repeated
    as it was.
    """
    grain = grain_of(request)
    start = _kept(request, kept_from)
    if request.sending_through is not None and request.sending_through > start:
        return start, request.sending_through
    ending = request.ends_at is not None and request.ends_at <= settled
    if request.ends_at is not None and ending:
        until = request.ends_at
        start = min(start, until)
    else:
        until = _passed(request, settled)
    most = max(1, min(MAX_DATA // len(request.r_ids), MAX_SPAN // grain))
    whole = max(0, (until - start) // grain)
    if ending and whole < most:
        return start, until
    return start, start + min(whole, most) * grain


def waiting(request: ReportRequest, now: datetime) -> int:
    """How many of its data points are due and have not arrived, of those that still can."""
    settled = now - SETTLE
    if request.dormant or settled < complete_at(request):
        return 0
    until = _passed(request, settled)
    if request.ends_at is not None and request.ends_at <= settled:
        until = request.ends_at
    start = _kept(request, now - KEEP)
    return max(1, (until - start) // grain_of(request)) * len(request.r_ids)


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


def begun(registration: Registration, request_id: str, end: datetime) -> Registration:
    """The registration when the report of everything up to `end` is about to be sent."""
    request = _live(registration, request_id)
    if request is None:
        return registration
    return registration.with_request(replace(request, sending_through=end))


def advanced(registration: Registration, request_id: str, end: datetime) -> Registration:
    """The registration once everything of a request before `end` has arrived."""
    request = _live(registration, request_id)
    if request is None:
        return registration
    sent = replace(request, sent_through=max(request.sent_through, end), sending_through=None)
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
        asleep = dormant((request,))
        registration = registration.without_request(request_id)
        registration = replace(registration, requests=(*registration.requests, *asleep))
    return replace(registration, offered="")


def dormant(requests: Sequence[ReportRequest]) -> tuple[ReportRequest, ...]:
    """Report requests that nobody asks for any more, for new ones of their kind to go on from.

    Not those that end, which are asked for anew from their beginning, nor those that slept already
    when others of their kind were asked for: those stand for them now.
    """
    awake = {_kind(r) for r in requests if not r.dormant}
    kept = [
        replace(r, dormant=True)
        for r in sorted(requests, key=lambda r: r.sent_through)
        if r.ends_at is None and not (r.dormant and _kind(r) in awake)
    ]
    return tuple(kept[-MAX_REQUESTS:])


def _kind(request: ReportRequest) -> object:
    return request.specifier_id, request.granularity


def _asks_same(one: ReportRequest, other: ReportRequest) -> bool:
    """Whether two requests are for the same report, whatever their ids."""
    return (
        _kind(one) == _kind(other)
        and one.r_ids == other.r_ids
        and one.back_duration == other.back_duration
    )


def _live(registration: Registration, request_id: str) -> ReportRequest | None:
    return next(
        (r for r in registration.requests if r.request_id == request_id and not r.dormant), None
    )


def _period_of(request: ReportRequest) -> timedelta:
    """How often it is reported."""
    return request.back_duration or grain_of(request)


def _passed(request: ReportRequest, at: datetime) -> datetime:
    """When its report-back duration last passed at or before `at`, in phase with its intervals."""
    phase = (request.sent_through - _ORIGIN) % grain_of(request)
    return floor(at - phase, _period_of(request)) + phase


def _kept(request: ReportRequest, kept_from: datetime) -> datetime:
    """Where its next report begins: intervals that are partly forgotten are left out."""
    behind = max(_NOTHING, kept_from - request.sent_through)
    grain = grain_of(request)
    return request.sent_through - (-behind // grain) * grain


def _stretch_of(
    wire: WireReportRequest, settings: Ven20bSettings, now: datetime
) -> tuple[datetime | None, datetime | None, timedelta]:
    """Start, end and granularity of what is asked for.

    One report that is to come at once, as `dtstart` now without a duration says, is of what was last.
    A stretch of no granularity is averaged as a whole.
    """
    start, granularity = wire.starts_at, wire.granularity
    end = start + wire.duration if start is not None and wire.duration else None
    if wire.back_duration:
        return start, end, granularity
    if end is None:
        end = now if start is None else max(start, now)
        start = None if start is None else min(start, end - (granularity or LATEST))
    if start is not None and not granularity:
        granularity = min(end - start, timedelta(seconds=settings.report_max_s))
    return start, end, granularity


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
