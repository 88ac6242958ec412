"""Reporting what was asked for with events, and, where the site opts out, that it does.

What is due is worked out afresh each time from the event, the samples on disk and how far the VTN has
confirmed: reports that could not be sent are so made again, and a restart needs no path of its own.

An interval without any usable sample is named as missing (DATA_QUALITY), never invented.
"""

import asyncio
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import islice

from agent.clock import Clock
from agent.core.event import SILENT, EventRecord, Opt
from agent.core.program import Program, program_for
from agent.core.sample import Sample
from agent.core.site import MeterQuality
from agent.openadr.v3.client import Client
from agent.openadr.v3.dialect import Report, ReportInterval
from agent.openadr.v3.events import ListReceiver, ReportAsk
from agent.openadr.v3.http import StatusError
from agent.openadr.v3.schedule import Due, Grid, Slot, due_reports
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
_MAKES = {"USAGE": "KWH", "DEMAND": "KW", "READING": "KW", "OPERATING_STATE": ""}
"""The payload types that are reported on, with their unit."""
CHUNK = timedelta(hours=1)
"""Samples that are read at a time."""
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
    ) -> None:
        self._programs = programs
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
        if job.ask.grid is None or not _is_made(job.descriptor):
            return iter(())
        return due_reports(job.ask.grid, job.descriptor, job.request.sent_through)

    def _ready(self, job: _Job, now: datetime) -> Iterator[Due]:
        for due in islice(self._due(job), MOST_AT_ONCE):
            if due.at + SETTLE > now:
                return
            yield due

    def _make(self, job: _Job, due: Due) -> Report:
        """One report, from the samples on disk. Runs in a thread."""
        kind = job.descriptor.payload_type
        intervals = tuple(self._interval(job, slot) for slot in due.slots)
        reading = job.descriptor.reading_type if kind in ("DEMAND", "READING", "USAGE") else ""
        reading = reading or {"DEMAND": "MEAN", "READING": "DIRECT_READ"}.get(kind, "")
        resource = AGGREGATED if job.descriptor.aggregate else self._settings.resource
        return Report(
            name=f"{kind} {due.at:%Y-%m-%dT%H:%M:%SZ} {self._settings.label}"[:128],
            program_id=job.ask.program_id,
            event_id=job.ask.event_id,
            resource=resource,
            descriptors=((kind, reading, _MAKES[kind]),),
            intervals=intervals,
        )

    def _interval(self, job: _Job, slot: Slot) -> ReportInterval:
        reading = _Reading()
        start = slot.start
        while start < slot.end:
            end = min(slot.end, start + CHUNK)
            for sample in self._history.between(start, end):
                reading.add(sample)
            start = end
        length = slot.end - slot.start
        payloads = reading.payloads(job.descriptor, length)
        return ReportInterval(slot.interval_id, slot.start, length, tuple(payloads))

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
                if not _is_made(descriptor) and what not in self._unserved:
                    self._unserved.add(what)
                    said = "VEN %s: event %s asks for reports of %s, which are not made here"
                    log.warning(said, self._settings.name, *map(quote, what))


class _Reading:
    """What the samples of one interval come to."""

    def __init__(self) -> None:
        self._sum_w, self._count, self._peak_w, self._last_w = 0.0, 0, -math.inf, 0.0
        self._estimated = self._left = self._restrained = False

    def add(self, sample: Sample) -> None:
        """One more, in order."""
        self._left |= sample.override
        self._restrained |= sample.restrained
        power_w = sample.power_w
        if power_w is None or not math.isfinite(power_w) or sample.quality is MeterQuality.BAD:
            return
        self._sum_w += power_w
        self._count += 1
        self._peak_w = max(self._peak_w, power_w)
        self._last_w = power_w
        self._estimated |= sample.quality is MeterQuality.ESTIMATED

    def payloads(
        self, descriptor: WireReportDescriptor, length: timedelta
    ) -> Iterator[tuple[str, float | str]]:
        """The value, in kWh or kW to the watt, and what is to be said of it."""
        kind = descriptor.payload_type
        if kind == "OPERATING_STATE":
            yield kind, self._state()
            return
        if self._count == 0:
            yield "DATA_QUALITY", "MISSING"
            return
        mean_w = self._sum_w / self._count
        value = {
            "USAGE": mean_w * (length / timedelta(hours=1)),
            "DEMAND": self._peak_w if descriptor.reading_type.upper() == "PEAK" else mean_w,
            "READING": self._last_w,
        }[kind]
        yield kind, round(value / 1000, 6)
        if self._estimated:
            yield "DATA_QUALITY", "ESTIMATED"

    def _state(self) -> str:
        if self._left:
            return "RUNNING_OPTED_OUT"
        if self._restrained:
            return "RUNNING_CURTAILED"
        return "RUNNING_NORMAL" if self._count else "ERROR"


def _first(
    request_id: str, ask: ReportAsk, descriptor: WireReportDescriptor, now: datetime
) -> ReportRequest:
    """A request as it is first heard of: of what was due before, only the last is sent (User Guide 7.5)."""
    through = now
    if ask.grid is not None and _is_made(descriptor):
        for due in islice(
            due_reports(ask.grid, descriptor, now - _back(ask.grid, descriptor)), MOST
        ):
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


def _is_made(descriptor: WireReportDescriptor) -> bool:
    units = descriptor.units.upper()
    made = _MAKES.get(descriptor.payload_type)
    return made is not None and descriptor.historical and (not units or not made or units == made)
