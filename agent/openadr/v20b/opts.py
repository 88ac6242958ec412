"""Opts: a change of mind on an event, and stretches in which the site takes part in nothing (EiOpt).

The first answer to an event is its oadrCreatedEvent. When the site decides otherwise afterwards, an
oadrCreateOpt overrides that answer, and an oadrCancelOpt takes the opt back. Blackouts are told
ahead of any event, each as an opt of its own. What is to be said is always found by comparing what
should stand at the VTN with what it has acknowledged; an opt is kept before it is sent, so that it
goes out under the same optID until there is an answer.

Not every VTN takes opts. One that does not learns of a change of mind by another oadrCreatedEvent,
and of blackouts when it sends an event.
"""

import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from agent.clock import Clock
from agent.core.event import BY_POLICY, EventRecord, Opt, OptDecision
from agent.core.policy import Blackout, Policy
from agent.errors import NotRegisteredError, UnreachableError, WireError, quote
from agent.openadr.http import BusyError, StatusError
from agent.openadr.standing import LinkKeeper, RegistrationKeeper
from agent.openadr.v20.messages import CanceledOpt, CreatedOpt, EventAnswer, OadrResponse, new_id
from agent.openadr.v20.vtn import Vtn
from agent.openadr.v20b import writer
from agent.openadr.v20b.settings import Ven20bSettings
from agent.store.registrations import Registration, SentOpt

log = logging.getLogger(__name__)

SERVICE = "EiOpt"
NO_SUCH_SERVICE = (404, 405, 501)
"""HTTP statuses by which a VTN says that it has no EiOpt (openleadr's server: 404)."""
RETRY = timedelta(minutes=15)
"""When an opt is tried again that the VTN answered with a fault of its own."""
MAX_LOST = 3
"""Requests in a row that EiOpt alone may leave unanswered before it counts as out of order."""
_FOREVER = datetime.max.replace(tzinfo=UTC)
_NAMED_REASON = re.compile(r"(economic|emergency|must-?run|outage)\s*(?::|$)", re.IGNORECASE)
_REASONS = {"economic": "economic", "emergency": "emergency", "outage": "outageRunStatus"}


@dataclass(frozen=True, slots=True)
class Step:
    """The next thing to say about opts."""

    opt: SentOpt
    """Without an id where it is new."""
    cancel: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a VTN did not take an opt."""

    why: str
    until: datetime
    """When it is worth another try under the same registration."""
    no_service: bool = False
    """Whether it takes no opts at all."""


class OptTeller:
    """Tells one VTN of changes of mind and of blackouts."""

    def __init__(
        self,
        settings: Ven20bSettings,
        vtn: Vtn,
        registration: RegistrationKeeper,
        policy: Callable[[], Policy],
        clock: Clock,
        link: LinkKeeper,
    ) -> None:
        self._link = link
        self._settings = settings
        self._vtn = vtn
        self._registration = registration
        self._policy = policy
        self._clock = clock
        self._declined: dict[SentOpt, datetime] = {}
        """Until when not to try what the VTN did not take. In memory only: a start tries once more."""
        self._no_service = False
        self._generation = registration.generation
        self._lost = 0

    def tells(self, registration: Registration, answer: EventAnswer) -> bool:
        """Whether an answer that changed goes out as an opt, rather than as an oadrCreatedEvent."""
        subject = _on_event(answer.event_id, answer.revision, answer.opt)
        told = any(
            known.event_id == answer.event_id and known.revision == answer.revision
            for known in registration.answers
        )
        return told and not self._no_service and subject not in self._shunned()

    async def tell(self, records: Mapping[str, EventRecord]) -> bool:
        """Say all there is to say; `records` are the events that may still be decided on, by id.

        Returns whether an event is to be answered otherwise now, since the VTN did not take its opt.
        Raises `UnreachableError` when no answer came, and `NotRegisteredError`.
        """
        self._start_over_after_registering()
        now = self._clock.now()
        await self._registration.update(
            lambda r: replace(r, opts=still_meant(r.opts, records, now))
        )
        fell_back = False
        while (held := self._registration.valid) is not None:
            if self._no_service:
                return await self._give_up(held) or fell_back
            step = next_step(held, records, self._policy().blackouts, now, self._shunned())
            if step is None:
                break
            if step.cancel:
                fell_back |= await self._cancel(step.opt, held)
            else:
                fell_back |= await self._create(step.opt, records, held)
        return fell_back

    async def _give_up(self, held: Registration) -> bool:
        """Drop all opts, as the VTN takes none; whether there was one on an event."""
        for opt in held.opts:
            await self._drop(opt, answer_anew=True)
        return any(opt.event_id for opt in held.opts)

    async def _drop(self, opt: SentOpt, *, answer_anew: bool) -> None:
        """Forget an opt; with `answer_anew` also what the VTN was told on its event, as nobody knows
        what it thinks now.
        """

        def without(registration: Registration) -> Registration:
            kept = registration.without_opt(opt)
            if not (answer_anew and opt.event_id):
                return kept
            others = tuple(a for a in kept.answers if a.event_id != opt.event_id)
            return replace(kept, answers=others)

        await self._registration.update(without)

    async def _create(
        self, opt: SentOpt, records: Mapping[str, EventRecord], held: Registration
    ) -> bool:
        """Tell one opt; whether the VTN did not take one on an event."""
        sent = opt if opt.opt_id else replace(opt, opt_id=new_id())
        await self._registration.update(lambda r: r.with_opt(sent))
        record = records.get(sent.event_id)
        reason = "x-schedule" if record is None else reason_of(record.opt)
        now = self._clock.now()
        body = writer.create_opt(held.ven_id, sent, reason, self._settings.resource, now)
        refusal = await self._ask(body, held)
        if refusal is None:
            said = replace(sent, acknowledged=True)
            await self._registration.update(lambda r: r.with_opt(said))
            log.info("VEN %s: told the VTN opt %s %s", self._settings.name, sent.opt, _what(sent))
            return False
        self._note(refusal, f"did not take opt {sent.opt} {_what(sent)}")
        self._declined[sent.subject] = refusal.until
        if sent.event_id or refusal.until == _FOREVER:
            await self._drop(sent, answer_anew=False)
        return bool(sent.event_id)

    async def _cancel(self, opt: SentOpt, held: Registration) -> bool:
        """Take one opt back; whether the VTN did not take that of one on an event."""
        refusal = await self._ask(writer.cancel_opt(held.ven_id, opt.opt_id), held)
        if refusal is None:
            await self._drop(opt, answer_anew=False)
            log.info("VEN %s: took back opt %s %s", self._settings.name, opt.opt, _what(opt))
            return False
        self._note(refusal, f"did not let opt {opt.opt} {_what(opt)} be taken back")
        if not opt.event_id and refusal.until != _FOREVER:
            self._declined[opt.subject] = refusal.until
            return False
        await self._drop(opt, answer_anew=True)
        return bool(opt.event_id)

    async def _ask(self, body: bytes, held: Registration) -> Refusal | None:
        """Send one message; None when the VTN took it."""
        try:
            answer = await self._vtn.ask(SERVICE, body, held.ven_id)
        except NotRegisteredError as error:
            if self._registration.believes(SERVICE):
                raise
            return Refusal(str(error), _FOREVER)
        except BusyError:
            raise
        except StatusError as error:
            if error.status in NO_SUCH_SERVICE:
                return Refusal(str(error), _FOREVER, no_service=True)
            return self._later(str(error))
        except UnreachableError as error:
            self._lost += 1
            if self._lost < MAX_LOST:
                raise
            return self._later(str(error))
        except WireError as error:
            return self._later(str(error))
        self._lost = 0
        response = answer.response if isinstance(answer, _ANSWERS) else None
        if response is None:
            return self._later("it answered with something else")
        return None if response.ok else Refusal(f"it answered {response}", _FOREVER)

    def _later(self, why: str) -> Refusal:
        self._lost = 0
        return Refusal(why, self._clock.now() + RETRY)

    def _note(self, refusal: Refusal, deed: str) -> None:
        """Say once what the VTN refuses."""
        sentence = f"the VTN {deed}: {refusal.why}"
        if refusal.no_service:
            self._no_service = True
            sentence = (
                f"the VTN takes no opts ({refusal.why}): a change of mind goes to it as "
                "oadrCreatedEvent, and it learns of blackouts when it sends an event"
            )
        self._link.say_once(sentence)

    def _shunned(self) -> Collection[SentOpt]:
        now = self._clock.now()
        return [opt for opt, until in self._declined.items() if now < until]

    def _start_over_after_registering(self) -> None:
        """A VTN that registered us anew may take what it did not."""
        if self._generation != self._registration.generation:
            self._generation = self._registration.generation
            self._declined.clear()
            self._no_service = False
            self._lost = 0


_ANSWERS = (CreatedOpt, CanceledOpt, OadrResponse)


def next_step(
    registration: Registration,
    records: Mapping[str, EventRecord],
    blackouts: Sequence[Blackout],
    now: datetime,
    shunned: Collection[SentOpt] = (),
) -> Step | None:
    """What to tell the VTN next; None when it knows all. `shunned`: what it did not take.

    An opt that says what is not so any more is taken back before a new one is told: a VTN that falls
    back to the answer it had never falls back to the wrong one then.
    """
    windows = _windows(blackouts, now)
    for opt in registration.opts:
        if opt.subject in shunned:
            continue
        if not _is_so(opt, records, windows):
            return Step(opt, cancel=True)
        if not opt.acknowledged:
            return Step(opt)
    said = {opt.subject for opt in registration.opts}
    for wanted in (*windows, *_changes(registration, records)):
        if wanted not in said and wanted not in shunned:
            return Step(wanted)
    return None


def still_meant(
    opts: Sequence[SentOpt], records: Mapping[str, EventRecord], now: datetime
) -> tuple[SentOpt, ...]:
    """The opts that still concern something: a stretch that is not over, an event as it is known.

    One on an event that was modified since is superseded by the answer to the modification.
    """

    def concerns(opt: SentOpt) -> bool:
        if opt.end is not None:
            return opt.end > now
        record = records.get(opt.event_id)
        return record is not None and record.event.revision == opt.revision

    return tuple(filter(concerns, opts))


def reason_of(decision: OptDecision) -> str:
    """A decision on an event as one of the profile's reasons for opting.

    An operator names one by beginning the reason with it: `emergency: fire in hall 2`. What policy
    decides otherwise after its answer is by the operator's local stop, or its end.
    """
    if decision.by == BY_POLICY:
        return "participating" if decision.opt is Opt.IN else "overrideStatus"
    named = _NAMED_REASON.match(decision.why)
    if named is not None:
        return _REASONS.get(named[1].lower(), "mustRun")
    return "participating" if decision.opt is Opt.IN else "notParticipating"


def _windows(blackouts: Sequence[Blackout], now: datetime) -> tuple[SentOpt, ...]:
    wanted = (SentOpt("", Opt.OUT, start=b.start, end=b.end) for b in blackouts if b.end > now)
    return tuple(dict.fromkeys(wanted))


def _changes(registration: Registration, records: Mapping[str, EventRecord]) -> Iterator[SentOpt]:
    """Opts on events whose acknowledged answer is not what is decided now."""
    overridden = {(opt.event_id, opt.revision) for opt in registration.opts}
    for answer in registration.answers:
        record = records.get(answer.event_id)
        if (
            record is not None
            and record.event.revision == answer.revision
            and record.opt.opt is not answer.opt
            and (answer.event_id, answer.revision) not in overridden
        ):
            yield _on_event(answer.event_id, answer.revision, record.opt.opt)


def _is_so(opt: SentOpt, records: Mapping[str, EventRecord], windows: Sequence[SentOpt]) -> bool:
    if opt.end is not None:
        return opt.subject in windows
    record = records.get(opt.event_id)
    return record is not None and record.opt.opt is opt.opt


def _on_event(event_id: str, revision: int, opt: Opt) -> SentOpt:
    return SentOpt("", opt, event_id, revision)


def _what(opt: SentOpt) -> str:
    if opt.start is not None and opt.end is not None:
        return f"from {opt.start:%Y-%m-%d %H:%M:%S%z} to {opt.end:%Y-%m-%d %H:%M:%S%z}"
    return f"on event {quote(opt.event_id)}"
