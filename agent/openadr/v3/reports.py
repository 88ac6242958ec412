"""Reporting what was asked for with events, and, where the site opts out, that it does.

What is due is worked out afresh each time from the event, the samples on disk and how far the VTN has
confirmed: reports that could not be sent are so made again, and a restart needs no path of its own. Of
forecasts that could not be sent only the last is, for the others are of no use any more.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import islice

from agent.clock import Clock
from agent.core.event import SILENT, EventRecord, Opt
from agent.core.outlook import Outlook
from agent.core.program import Program, program_for
from agent.openadr.v3.client import Client
from agent.openadr.v3.dialect import Report, ReportInterval
from agent.openadr.v3.events import ListReceiver, ReportAsk
from agent.openadr.v3.http import StatusError
from agent.openadr.v3.payloads import (
    Reading,
    forecast,
    is_made,
    level_of,
    looks_ahead,
    meant_by,
)
from agent.openadr.v3.schedule import Due, Grid, due_reports
from agent.openadr.v3.settings import Ven3Settings
from agent.openadr.v3.wire import WireReportDescriptor
from agent.openadr.v20b.messages import quote
from agent.openadr.v20b.standing import RegistrationKeeper
from agent.store.history import KEEP, History
from agent.store.registrations import Answer, Registration, ReportRequest

log = logging.getLogger(__name__)

AGGREGATED = "AGGREGATED_REPORT"
SETTLE = timedelta(seconds=2)
"""How long after an interval its last samples may still be written."""
MOST = 100_000
"""Reports looked through for the one that was due last."""
MOST_AT_ONCE = 20
"""Reports sent for one request in one round."""
CHUNK = timedelta(hours=1)
"""Samples that are read at a time."""
STALE = timedelta(minutes=1)
"""An outlook from longer ago tells nothing."""
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class _Job:
    """One descriptor of one event, with how far it has been served."""

    ask: ReportAsk
    descriptor: WireReportDescriptor
    request: ReportRequest


class EventReporter:
    """Sends the reports that events ask for, and the site's opts."""

    def __init__(
        self,
        settings: Ven3Settings,
        client: Client,
        registration: RegistrationKeeper,
        events: ListReceiver,
        history: History,
        programs: tuple[Program, ...],
        clock: Clock,
        outlook: Callable[[datetime], Outlook | None],
    ) -> None:
        """`outlook` gives what the site is expected to draw until then; None where that is not known. It is called in a thread."""
        self._programs = programs
        self._outlook = outlook
        self._settings = settings
        self._client = client
        self._registration = registration
        self._events = events
        self._history = history
        self._clock = clock
        self._unserved: set[tuple[str, str]] = set()
        self.waiting = 0
        """How many reports are due and have not arrived."""

    def next_due(self) -> datetime | None:
        """When the next report can be made, as things stand; None: none is asked for."""
        dues = [next(self._due(job), None) for job in self._jobs(self._clock.now())]
        return min((due.at + SETTLE for due in dues if due is not None), default=None)

    async def send_due(self) -> None:
        """Send every report that is due, oldest first. Raises `WireError` where one must be tried again."""
        now = self._clock.now()
        self._say_unserved()
        jobs = tuple(self._jobs(now))
        await self._registration.update(
            lambda r: replace(r, requests=tuple(job.request for job in jobs))
        )
        ready = [(due, job) for job in jobs for due in self._ready(job, now)]
        ready.sort(key=lambda one: one[0].at)
        self.waiting = len(ready)
        for due, job in ready:
            await self._send(await asyncio.to_thread(self._make, job, due))
            served = replace(job.request, sent_through=due.at)
            await self._registration.update(partial(Registration.with_request, request=served))
            self.waiting -= 1

    async def tell_opts(self) -> None:
        """Say where the site opts out of what it is asked, and where it came back. Raises `WireError`."""
        held = self._registration.current
        told = {} if held is None else {answer.event_id: answer.opt for answer in held.answers}
        for event_id, record in self._events.answerable().items():
            opt = record.opt.opt
            if opt is told.get(event_id, Opt.IN) or not self._counts(record):
                continue
            await self._send(self._opt_report(record))
            answer = Answer(event_id, record.event.revision, opt)
            await self._registration.update(partial(self._with_answer, answer=answer))

    def _with_answer(self, registration: Registration, answer: Answer) -> Registration:
        """The registration once an opt was told; forgets those on events that are gone."""
        answers = {a.event_id: a for a in (*registration.answers, answer)}
        known = self._events.answerable()
        return replace(
            registration, answers=tuple(a for a in answers.values() if a.event_id in known)
        )

    async def _send(self, report: Report) -> None:
        """Send one report. What the VTN refuses for good is named and given up: it would refuse it again."""
        try:
            await self._client.send(report)
        except StatusError as error:
            if error.status == 409:
                return  # It came through once already, and only its answer was lost.
            if error.status >= 500 or error.status in (401, 403, 408, 429):
                raise
            log.warning("VEN %s: report %s: %s", self._settings.name, report.name, error)

    def _jobs(self, now: datetime) -> Iterator[_Job]:
        held = self._registration.current
        known = {} if held is None else {r.request_id: r for r in held.requests}
        for ask in self._events.asks:
            for number, descriptor in enumerate(ask.descriptors):
                request_id = f"{ask.event_id}#{number}"
                request = known.get(request_id)
                if request is None or request.specifier_id != descriptor.payload_type:
                    request = _first(request_id, ask, descriptor, now)
                yield _Job(ask, descriptor, request)

    def _due(self, job: _Job) -> Iterator[Due]:
        if not self._serves(job.descriptor):
            return iter(())
        return _due_since(job.ask, job.descriptor, job.request.sent_through)

    def _serves(self, descriptor: WireReportDescriptor) -> bool:
        """Whether it is of a type that is made here, and asks (also) this site."""
        asked = descriptor.targets_of
        vens, resources, names = asked("VEN_NAME"), asked("RESOURCE_NAME"), asked("")
        settings = self._settings
        ours = {settings.label, settings.resource, *settings.targets}
        return (
            is_made(descriptor)
            and (not vens or settings.label in vens)
            and (not resources or settings.resource in resources)
            # Where the VTN tells who sees what, every name that we see is ours.
            and (not names or not settings.targets or not ours.isdisjoint(names))
        )

    def _ready(self, job: _Job, now: datetime) -> Iterator[Due]:
        last: Due | None = None
        for due in islice(self._due(job), MOST_AT_ONCE):
            if due.at + SETTLE > now:
                break
            if not looks_ahead(job.descriptor):
                yield due
            last = due
        if last is not None and looks_ahead(job.descriptor):
            yield last

    def _make(self, job: _Job, due: Due) -> Report:
        """One report, from the samples on disk or the outlook. Runs in a thread."""
        kind = job.descriptor.payload_type
        ahead = looks_ahead(job.descriptor)
        intervals = self._forecasts(job, due) if ahead else self._readings(job, due)
        resource = AGGREGATED if job.descriptor.aggregate else self._settings.resource
        name = f"{kind} {due.at:%Y-%m-%dT%H:%M:%SZ} {self._settings.label}"
        return Report(
            name=f"FORECAST {name}"[:128] if ahead else name[:128],
            program_id=job.ask.program_id,
            event_id=job.ask.event_id,
            resource=resource,
            descriptors=((kind, *meant_by(job.descriptor)),),
            intervals=tuple(intervals),
        )

    def _forecasts(self, job: _Job, due: Due) -> Iterator[ReportInterval]:
        outlook = self._outlook(max(slot.end for slot in due.slots))
        if outlook is not None and self._clock.now() - outlook.at > STALE:
            outlook = None
        for slot in due.slots:
            payloads = tuple(forecast(job.descriptor, slot, outlook))
            yield ReportInterval(slot.interval_id, slot.start, slot.end - slot.start, payloads)

    def _readings(self, job: _Job, due: Due) -> Iterator[ReportInterval]:
        records = self._events.records()
        own = next((r for r in records if r.event.event_id == job.ask.event_id), None)
        baseline = None if own is None else own.baseline
        for slot in due.slots:
            level = level_of(records, slot.start + (slot.end - slot.start) / 2)
            reading = Reading(slot, baseline, level)
            start = slot.start
            while start < slot.end:
                end = min(slot.end, start + CHUNK)
                for sample in self._history.between(start, end):
                    reading.add(sample)
                start = end
            payloads = tuple(reading.payloads(job.descriptor))
            yield ReportInterval(slot.interval_id, slot.start, slot.end - slot.start, payloads)

    def _counts(self, record: EventRecord) -> bool:
        """Whether the VTN may count on us: not where it only informs, nor in a program that we are not in."""
        asks = any(signal.kind not in SILENT for signal in record.event.signals)
        return asks and program_for(record.event, self._programs) is not None

    def _opt_report(self, record: EventRecord) -> Report:
        out = record.opt.opt is Opt.OUT
        now = self._clock.now()
        state = "RUNNING_OPTED_OUT" if out else "RUNNING_NORMAL"
        interval = ReportInterval(0, now, timedelta(0), (("OPERATING_STATE", state),))
        return Report(
            name=f"OPERATING_STATE {now:%Y-%m-%dT%H:%M:%S.%fZ} {self._settings.label}"[:128],
            program_id=self._events.program_id_of(record.event),
            event_id=record.event.event_id,
            resource=self._settings.resource,
            descriptors=(("OPERATING_STATE", "", ""),),
            intervals=(interval,),
        )

    def _say_unserved(self) -> None:
        """Name each request for reports that this agent does not make, once."""
        for ask in self._events.asks:
            for descriptor in ask.descriptors:
                what = (ask.event_id, descriptor.payload_type)
                if not is_made(descriptor) and what not in self._unserved:
                    self._unserved.add(what)
                    said = "VEN %s: event %s asks for reports of %s, which are not made here"
                    log.warning(said, self._settings.name, *map(quote, what))


def _due_since(ask: ReportAsk, descriptor: WireReportDescriptor, since: datetime) -> Iterator[Due]:
    if ask.grid is None or not is_made(descriptor):
        return iter(())
    return due_reports(ask.grid, descriptor, since, ahead=looks_ahead(descriptor))


def _first(
    request_id: str, ask: ReportAsk, descriptor: WireReportDescriptor, now: datetime
) -> ReportRequest:
    """A request as it is first heard of: of what was due before, only the last is sent (User Guide 7.5)."""
    through = now
    if ask.grid is not None:
        since = now - _back(ask.grid, descriptor)
        for due in islice(_due_since(ask, descriptor, since), MOST):
            if due.at > now:
                break
            through = due.at - _TICK
    return ReportRequest(
        request_id, descriptor.payload_type, (), timedelta(0), timedelta(0), through
    )


def _back(grid: Grid, descriptor: WireReportDescriptor) -> timedelta:
    """How long ago the last report may have been due, as far as there are samples."""
    if grid.loop is None:
        return KEEP
    turns = 2 + max(1, descriptor.num_intervals, descriptor.frequency)
    return min(KEEP, grid.loop * min(turns, 100_000))
