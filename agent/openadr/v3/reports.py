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
from zlib import crc32

from agent.clock import Clock
from agent.core.event import SILENT, EventRecord, Opt
from agent.core.outlook import Outlook
from agent.core.program import Program, program_for
from agent.errors import quote
from agent.openadr.http import BusyError, StatusError
from agent.openadr.standing import RegistrationKeeper
from agent.openadr.v3.client import Client
from agent.openadr.v3.dialect import Report, ReportInterval
from agent.openadr.v3.events import ListReceiver, ReportAsk
from agent.openadr.v3.payloads import (
    Reading,
    forecast,
    is_made,
    level_of,
    looks_ahead,
    meant_by,
    named,
)
from agent.openadr.v3.schedule import Due, Schedule, schedule_of
from agent.openadr.v3.settings import Ven3Settings
from agent.openadr.v3.wire import WireReportDescriptor
from agent.store.history import KEEP, History
from agent.store.registrations import Answer, Registration, ReportRequest

log = logging.getLogger(__name__)

AGGREGATED = "AGGREGATED_REPORT"
SETTLE = timedelta(seconds=2)
"""How long after an interval its last samples may still be written."""
MOST_AT_ONCE = 20
"""Reports sent for one request in one round."""
CHUNK = timedelta(hours=1)
"""Samples that are read at a time."""
MOST_FAILURES = 2
"""Reports that the VTN may fail at before the others wait, too."""
MOST_NAMED = 200
"""Kinds of reports that are named as not made."""
STALE = timedelta(minutes=1)
"""An outlook from longer ago tells nothing."""
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class _Job:
    """One descriptor of one event, with how far it has been served."""

    ask: ReportAsk
    descriptor: WireReportDescriptor
    request: ReportRequest
    schedule: Schedule | None
    """None where there is nothing to send."""

    def next_due(self) -> Due | None:
        """The next report; None where there is none any more."""
        since = self.request.sent_through
        return None if self.schedule is None else next(self.schedule.due_after(since), None)


class _Failures:
    """What the VTN fails at in one round: a report that it cannot take holds up no other, many do."""

    def __init__(self) -> None:
        self.of: dict[str, StatusError] = {}
        """By event or request: its reports wait."""

    def note(self, whose: str, error: StatusError) -> None:
        """Raises `error` where there is no use in going on."""
        if isinstance(error, BusyError) or error.status < 500 or len(self.of) == MOST_FAILURES:
            raise error
        self.of[whose] = error

    def tell(self) -> None:
        """Raises one of them, if there are any."""
        for error in self.of.values():
            raise error


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
        """`outlook` gives what the site is expected to draw until then; None where that is not known. It is
        called in a thread.
        """
        self._programs = programs
        self._outlook = outlook
        self._settings = settings
        self._client = client
        self._registration = registration
        self._events = events
        self._history = history
        self._clock = clock
        self._unserved: set[str] = set()
        self.waiting = 0
        """How many reports are due and have not arrived."""

    def next_due(self) -> datetime | None:
        """When the next report can be made, as things stand; None: none is asked for."""
        dues = [job.next_due() for job in self._jobs(self._clock.now())]
        return min((due.at + SETTLE for due in dues if due is not None), default=None)

    async def send_open(self) -> None:
        """Say where the site opts out of what it is asked, and where it came back; send every report that is
        due, oldest first. Raises `WireError` where something must be tried again.
        """
        failures = _Failures()
        await self._tell_opts(failures)
        await self._send_due(failures)
        failures.tell()

    async def _send_due(self, failures: "_Failures") -> None:
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
            if job.request.request_id in failures.of:
                continue
            try:
                await self._send(await asyncio.to_thread(self._make, job, due))
            except StatusError as error:
                failures.note(job.request.request_id, error)
                continue
            served = replace(job.request, sent_through=due.at)
            await self._registration.update(partial(Registration.with_request, request=served))
            self.waiting -= 1

    async def _tell_opts(self, failures: "_Failures") -> None:
        held = self._registration.current
        told = {} if held is None else {answer.event_id: answer.opt for answer in held.answers}
        for event_id, record in self._events.answerable().items():
            opt = record.opt.opt
            if opt is told.get(event_id, Opt.IN) or not self._counts(record):
                continue
            try:
                await self._send(self._opt_report(record))
            except StatusError as error:
                failures.note(event_id, error)
                continue
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
                schedule = _schedule(ask, descriptor) if self._is_asked(descriptor) else None
                yield _Job(ask, descriptor, request, schedule)

    def _is_asked(self, descriptor: WireReportDescriptor) -> bool:
        """Whether it asks (also) this site."""
        asked = descriptor.targets_of
        vens, resources, names = asked("VEN_NAME"), asked("RESOURCE_NAME"), asked("")
        settings = self._settings
        ours = {settings.label, settings.resource, *settings.targets}
        return (
            (not vens or settings.label in vens)
            and (not resources or settings.resource in resources)
            # Where the VTN tells who sees what, every name that we see is ours.
            and (not names or not settings.targets or not ours.isdisjoint(names))
        )

    def _ready(self, job: _Job, now: datetime) -> Iterator[Due]:
        since, schedule = job.request.sent_through, job.schedule
        if schedule is None:
            return
        if schedule.ahead:
            last = schedule.due_last(now - SETTLE)
            yield from () if last is None or last.at <= since else (last,)
            return
        for due in islice(schedule.due_after(since), MOST_AT_ONCE):
            if due.at + SETTLE > now:
                return
            yield due

    def _make(self, job: _Job, due: Due) -> Report:
        """One report, from the samples on disk or the outlook. Runs in a thread."""
        kind = job.descriptor.payload_type
        of = self._forecasts if looks_ahead(job.descriptor) else self._readings
        resource = AGGREGATED if job.descriptor.aggregate else self._settings.resource
        # Some VTNs hold no two reports of one name, and others' reports may be due at the same time.
        ours = f"{crc32(job.request.request_id.encode()):08x} {self._settings.label}"
        return Report(
            name=f"{kind} {due.at:%Y-%m-%dT%H:%M:%SZ} {ours}"[:128],
            program_id=job.ask.program_id,
            event_id=job.ask.event_id,
            resource=resource,
            descriptors=((kind, *meant_by(job.descriptor)),),
            intervals=tuple(of(job, due)),
        )

    def _forecasts(self, job: _Job, due: Due) -> Iterator[ReportInterval]:
        slots = tuple(due.slots)
        outlook = self._outlook(max(slot.end for slot in slots))
        if outlook is not None and self._clock.now() - outlook.at > STALE:
            outlook = None
        for slot in slots:
            payloads = tuple(forecast(job.descriptor, slot, outlook))
            yield ReportInterval(slot.interval_id, slot.start, slot.end - slot.start, payloads)

    def _readings(self, job: _Job, due: Due) -> Iterator[ReportInterval]:
        records = self._events.records()
        own = next((r for r in records if r.event.event_id == job.ask.event_id), None)
        baseline = None if own is None else own.baseline
        for slot in due.slots:
            level = 0
            if job.descriptor.payload_type == "SIMPLE_LEVEL":
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
        """Name each kind of report that is asked for and not made here, and each request that cannot be
        read, once.
        """
        for ask in self._events.asks:
            unmade = [named(each) for each in ask.descriptors if not is_made(each)]
            for what in (*map(str, ask.unreadable), *unmade):
                if what not in self._unserved and len(self._unserved) < MOST_NAMED:
                    self._unserved.add(what)
                    said = "VEN %s: event %s asks for reports that are not made here: %s"
                    log.warning(said, self._settings.name, quote(ask.event_id), what)


def _schedule(ask: ReportAsk, descriptor: WireReportDescriptor) -> Schedule | None:
    if ask.grid is None or not is_made(descriptor):
        return None
    return schedule_of(ask.grid, descriptor, ahead=looks_ahead(descriptor))


def _first(
    request_id: str, ask: ReportAsk, descriptor: WireReportDescriptor, now: datetime
) -> ReportRequest:
    """A request as it is first heard of: of what was due before, only the last is sent (User Guide 7.5),
    as far as there are samples.
    """
    schedule = _schedule(ask, descriptor)
    last = None if schedule is None else schedule.due_last(now)
    through = now if last is None or last.at <= now - KEEP else last.at - _TICK
    return ReportRequest(
        request_id, descriptor.payload_type, (), timedelta(0), timedelta(0), through
    )
