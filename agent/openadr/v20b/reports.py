"""Reporting to a VTN: the offer, the requests, and the reports themselves."""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import NoReturn

from agent.clock import Clock
from agent.errors import NotRegisteredError, StoreError, UnreachableError, WireError, quote
from agent.openadr.pace import Alarm, Backoff
from agent.openadr.standing import LinkKeeper, RegistrationKeeper
from agent.openadr.v20.messages import (
    CancelReport,
    Code,
    CreateReport,
    OadrResponse,
    RegisteredReport,
    RejectedRequest,
    Response,
    UpdatedReport,
    WireReportRequest,
)
from agent.openadr.v20.vtn import Vtn, is_answer
from agent.openadr.v20b import compose, offers, requests, writer
from agent.openadr.v20b.settings import Ven20bSettings
from agent.store.history import KEEP, History
from agent.store.registrations import ReportRequest

log = logging.getLogger(__name__)

SERVICE = "EiReport"
_UNKNOWN = (Code.INVALID_ID, Code.NOT_RECOGNIZED, Code.REPORT_NOT_SUPPORTED)
PATIENCE = timedelta(minutes=15)
"""How long to wait for samples that are late, before what they would have covered counts as missing."""
RETRY_S = 1.0
"""How soon to look again for samples that are late."""
PACE_S = 1.0
"""How long to leave a VTN alone between the rounds of a catching-up: a message of each request."""


@dataclass(slots=True)
class _Refusal:
    """A request whose reports the VTN refuses: tried again ever more rarely, and by itself."""

    backoff: Backoff
    again_s: float = 0.0


class Reporter:
    """Offers reports, takes requests for them and sends what is due."""

    def __init__(
        self,
        settings: Ven20bSettings,
        vtn: Vtn,
        registration: RegistrationKeeper,
        history: History,
        clock: Clock,
        rng: random.Random,
        link: LinkKeeper,
    ) -> None:
        self._settings = settings
        self._vtn = vtn
        self._registration = registration
        self._history = history
        self._clock = clock
        self._rng = rng
        self._backoff = Backoff(rng)
        self._link = link
        self._alarm = Alarm(clock)
        self._metadata_asked = ""
        """The id of the request for our offer itself, while it is open."""
        self._failing_since: datetime | None = None
        self._refused: dict[str, _Refusal] = {}

    def wake(self) -> None:
        """Something changed: a registration, a request, or the VTN is back."""
        self._alarm.ring()

    def waiting(self) -> int:
        """How many data points are due and have not arrived."""
        held = self._registration.current
        now = self._clock.now()
        return 0 if held is None else sum(requests.waiting(r, now) for r in held.requests)

    async def run(self, on_unregistered: Callable[[str], None]) -> NoReturn:
        """Offer and report whenever registered, until cancelled. A VTN in trouble never ends it."""
        while True:
            delay_s: float | None = None
            if self._registration.valid is not None:
                generation = self._registration.generation
                try:
                    await self._offer()
                    delay_s = await self._send_due()
                except NotRegisteredError as error:
                    # An answer may come late, when there is a newer registration already.
                    if generation != self._registration.generation:
                        delay_s = RETRY_S
                    elif self._registration.believes(SERVICE):
                        on_unregistered(str(error))
                    else:
                        self._failed(error)
                        delay_s = self._backoff.after(error)
                except (WireError, StoreError) as error:
                    self._failed(error)
                    delay_s = self._backoff.after(error)
                else:
                    self._backoff.reset()
                    self._link.clear("reporting")
                    if not self._refused:
                        self._failing_since = None
                        self._link.clear("reports")
            await self._alarm.wait(delay_s)

    async def create(self, message: CreateReport) -> None:
        """Take requests that came with a poll, and say which reports are to come."""
        refusals = await self._take(message.requests)
        try:
            await self._confirm(message.request_id, refusals)
        finally:
            # Only now, so that a VTN hears that a report is to come before it comes.
            self.wake()

    async def cancel(self, message: CancelReport, *, answer: bool = True) -> None:
        """End reports; where the VTN wants one last report of each, after that.

        `answer` is False for a cancellation that came with the answer to a report.
        """
        now = self._clock.now()
        held = self._registration.valid
        known = () if held is None else requests.pending_ids(held.requests)
        unknown = [i for i in message.report_request_ids if i not in known]
        await self._registration.update(
            lambda r: requests.ended(
                r, message.report_request_ids, now if message.to_follow else None
            )
        )
        self.wake()
        if answer and held is not None:
            response = Response(Code.OK, "OK", message.request_id)
            if unknown:
                why = f"reportRequestID {quote(unknown[0])} is not known"
                response = Response(Code.INVALID_ID, why, message.request_id)
            pending = requests.pending_ids(self._requests())
            await self._vtn.ask(
                SERVICE, writer.canceled_report(held.ven_id, response, pending), held.ven_id
            )

    def _failed(self, error: Exception) -> None:
        """Name what keeps reports from arriving, unless the whole VTN is away: polling says that."""
        self._failing_since = self._failing_since or self._clock.now()
        contact = self._link.link.last_contact
        answers = contact is not None and contact > self._failing_since
        if answers or not isinstance(error, UnreachableError):
            self._link.trouble("reports", f"reports do not arrive: {error}")

    async def _offer(self) -> None:
        """Send METADATA where it is due: after registering, when it changed, when asked for."""
        held = self._registration.valid
        digest = offers.digest_of(self._settings)
        if held is None or held.offered == digest:
            return
        asked = self._metadata_asked
        reports = offers.metadata_of(self._settings, self._clock.now())
        body = writer.register_report(held.ven_id, reports, asked)
        answer = await self._vtn.ask(SERVICE, body, held.ven_id)
        if not isinstance(answer, RegisteredReport | OadrResponse):
            raise WireError(f"the VTN answered the offer of reports with {type(answer).__name__}")
        if not answer.response.ok:
            raise WireError(f"the VTN refused the offer of reports: {answer.response}")
        if self._metadata_asked == asked:
            self._metadata_asked = ""
            await self._registration.update(lambda r: requests.offered(r, digest, self._settings))
        wanted = answer.requests if isinstance(answer, RegisteredReport) else ()
        if wanted:
            refusals = await self._take([w for w in wanted if not _is_metadata(w)])
            await self._confirm("", refusals)

    async def _take(
        self, wanted: Sequence[WireReportRequest | RejectedRequest]
    ) -> tuple[RejectedRequest, ...]:
        """Hold the requests that can be served; the others are returned."""
        refusals = []
        for wire in wanted:
            if isinstance(wire, RejectedRequest):
                refusals.append(wire)
                continue
            if _is_metadata(wire):
                self._metadata_asked = wire.request_id
                await self._registration.update(lambda r: replace(r, offered=""))
                continue
            now = self._clock.now()
            request = requests.judge(wire, self._settings, now)
            if isinstance(request, RejectedRequest):
                refusals.append(request)
            elif self._is_full(request):
                why = f"more than {requests.MAX_REQUESTS} report requests"
                refusals.append(RejectedRequest(wire.request_id, Code.NOT_ALLOWED, why))
            else:
                await self._registration.update(partial(requests.adopt, request=request, now=now))
                log.info(
                    "VEN %s: reports %s every %s in intervals of %s",
                    self._settings.name,
                    request.specifier_id,
                    request.back_duration,
                    requests.grain_of(request),
                )
        for refusal in refusals:
            self._link.reject(refusal.why)
        return tuple(refusals)

    async def _confirm(self, request_id: str, refusals: Sequence[RejectedRequest]) -> None:
        held = self._registration.valid
        if held is None:
            return
        response = Response(Code.OK, "OK", request_id)
        if refusals:
            response = Response(refusals[0].code, refusals[0].why, request_id)
        pending = requests.pending_ids(held.requests)
        body = writer.created_report(held.ven_id, response, pending)
        await self._vtn.ask(SERVICE, body, held.ven_id)

    async def _send_due(self) -> float | None:
        """Send a message of each request that is due.

        Returns the seconds until more is; None when nothing is asked for. So no request waits for
        more than one message of each other one, however far that is behind. A report that the VTN
        refuses does not hold up the others.
        """
        now = self._clock.now()
        settled = await asyncio.to_thread(self._settled, now)
        failure: WireError | StoreError | None = None
        awake = self._awake()
        served = {request.request_id for request in awake}
        self._refused = {i: refusal for i, refusal in self._refused.items() if i in served}
        for request in awake:
            if requests.complete_at(request) > settled or self._rests(request):
                continue
            if request not in self._awake():
                continue  # cancelled or changed by a poll meanwhile: the next round knows
            try:
                await self._send(request, settled, now)
            except (WireError, StoreError) as error:
                if isinstance(error, WireError) and not is_answer(error):
                    raise
                failure = error
                self._refuse(request, error)
            else:
                self._refused.pop(request.request_id, None)
        held = self._registration.valid
        if failure is not None and held is not None and not held.offered:
            raise failure
        return self._until_due(settled)

    def _until_due(self, settled: datetime) -> float | None:
        """The seconds until a report is due, s; `settled` is what the last round went by."""
        boot_s, now = self._clock.instant().boot_s, self._clock.now()
        delays_s = []
        for request in self._awake():
            complete = requests.complete_at(request)
            if complete <= settled:
                delay_s = PACE_S
            else:
                delay_s = (complete + requests.SETTLE - now).total_seconds()
            refusal = self._refused.get(request.request_id)
            rest_s = 0.0 if refusal is None else refusal.again_s - boot_s
            delays_s.append(max(delay_s if delay_s > 0 else RETRY_S, rest_s))
        return min(delays_s, default=None)

    def _refuse(self, request: ReportRequest, error: WireError | StoreError) -> None:
        """The VTN will not have a report, or it cannot be made: let it rest, and name it."""
        refusal = self._refused.setdefault(request.request_id, _Refusal(Backoff(self._rng)))
        refusal.again_s = self._clock.instant().boot_s + refusal.backoff.after(error)
        self._failed(error)

    def _rests(self, request: ReportRequest) -> bool:
        refusal = self._refused.get(request.request_id)
        return refusal is not None and refusal.again_s > self._clock.instant().boot_s

    def _settled(self, now: datetime) -> datetime:
        """Until when samples are complete: the newest one there is, or as long ago as we wait for.

        While the disk is full samples are late, and must not be taken for missing. Runs in a thread.
        """
        newest = self._history.newest(now)
        return now - PATIENCE if newest is None else max(newest, now - PATIENCE)

    async def _send(self, request: ReportRequest, settled: datetime, now: datetime) -> None:
        """Send the next message of one request, and move its cursor once that has arrived."""
        held = self._registration.valid
        if held is None:
            raise NotRegisteredError("the registration ended")
        start, end = requests.chunk_of(request, settled, now - KEEP)
        body = await asyncio.to_thread(self._build, request, start, end, held.ven_id, now)
        if body is not None:
            await self._registration.update(lambda r: requests.begun(r, request.request_id, end))
            answer = await self._vtn.ask(SERVICE, body, held.ven_id)
            if not isinstance(answer, UpdatedReport | OadrResponse):
                raise WireError(f"the VTN answered a report with {type(answer).__name__}")
            if not answer.response.ok:
                await self._lost(request, answer.response)
            if isinstance(answer, UpdatedReport) and answer.cancel is not None:
                await self.cancel(answer.cancel, answer=False)
        await self._registration.update(lambda r: requests.advanced(r, request.request_id, end))

    async def _lost(self, request: ReportRequest, response: Response) -> None:
        """A VTN that does not know a request has lost it: offer our reports again, so that it asks."""
        if response.code in _UNKNOWN:
            await self._registration.update(lambda r: requests.forgotten(r, request.request_id))
        raise WireError(f"the VTN refused report {quote(request.request_id)}: {response}")

    def _build(
        self, request: ReportRequest, start: datetime, end: datetime, ven_id: str, now: datetime
    ) -> bytes | None:
        """One message of a request; None when there is nothing to say. Runs in a thread."""
        offer = offers.offer_for(request.specifier_id, self._settings)
        if offer is None:
            return None
        points = self._history.points(start, end, requests.grain_of(request))
        report = compose.report_of(request, offer, points, start, now)
        return None if report is None else writer.update_report(ven_id, report)

    def _is_full(self, request: ReportRequest) -> bool:
        served = requests.pending_ids(self._requests())
        return request.request_id not in served and len(served) >= requests.MAX_REQUESTS

    def _awake(self) -> list[ReportRequest]:
        """The requests that are being served."""
        return [request for request in self._requests() if not request.dormant]

    def _requests(self) -> tuple[ReportRequest, ...]:
        held = self._registration.valid
        return () if held is None else held.requests


def _is_metadata(wire: WireReportRequest | RejectedRequest) -> bool:
    return isinstance(wire, WireReportRequest) and wire.specifier_id == offers.METADATA
