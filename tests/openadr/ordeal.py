"""A VEN that holds something worth losing, and the messages that it is put through."""

import asyncio
import logging
import tempfile
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from lxml import etree

from agent.core.event import Opt
from agent.store.registrations import Registration
from tests.openadr import wire
from tests.openadr.odd import Draw, Element, messages
from tests.openadr.rig import Rig
from tests.openadr.spoil import spoil, spoil_bytes
from tests.openadr.vtn import ScriptedVtn

HELD = wire.event("held", 3, "active", wire.NOON, "P30D", start_after="PT10M")
"""The event that the VEN takes part in throughout."""
SOUND = wire.event("sound", 0, "far", "2026-07-20T12:00:00Z", "PT1H", [wire.simple(1)])
"""The event that comes along with an odd one, and must not suffer for it."""
REPORTED_S = 1500.0
"""After so long a report is due, though there is no sample to wait for."""
REQUEST = wire.report_request("rr-held", "status", ("site-status",), "PT1M", "PT5M")


@dataclass(frozen=True)
class Case:
    """One message, and what the VEN is bound to in spite of it."""

    body: bytes
    answers: str = "oadrPoll"
    """The kind of the VEN's message that it is the answer to."""
    brings_sound: bool = False
    """Whether the sound event is in it as it should be."""
    keeps_held: bool = True
    """Whether the held event must be untouched after it."""
    keeps_registration: bool = True
    """Whether the VEN must be registered as it was after it."""

    def __repr__(self) -> str:
        body = self.body if len(self.body) < 6_000 else self.body[:6_000] + b"..."
        return f"Case(answers={self.answers!r}, sound={self.brings_sound}, body={body!r})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """As Hypothesis prints it, which warns of more than 30,000 characters."""
        printer.text(repr(self))


class Ordeal:
    """Feeds one VEN message after message over HTTP, and checks it after each."""

    def __init__(self) -> None:
        self._vtn = ScriptedVtn(report_requests=(REQUEST,))
        self._rig: Rig | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._faults = _Faults()

    async def begin(self) -> None:
        await self._vtn.start()
        logging.getLogger("agent").addHandler(self._faults)

    async def end(self) -> None:
        logging.getLogger("agent").removeHandler(self._faults)
        await self._drop()
        await self._vtn.stop()

    async def feed(self, case: Case) -> None:
        """Have the VEN receive a message, and see that nothing is lost by it."""
        rig = self._rig or await self._ven()
        try:
            async with asyncio.timeout(20):
                await self._feed(rig, case)
        except BaseException:
            await self._drop()
            raise

    async def _ven(self) -> Rig:
        """A VEN with an active event, opted in and with its start drawn, and a report to make."""
        self._folder = tempfile.TemporaryDirectory()
        self._vtn.script.clear()
        self._vtn.events = (HELD,)
        self._rig = rig = Rig(Path(self._folder.name), self._vtn.url, report_min_s=60)
        rig.start()
        await rig.rested()
        await rig.turn()
        await rig.quiet()
        assert rig.record("held").start_shift
        assert [r.request_id for r in rig.registration.requests] == ["rr-held"]
        return rig

    async def _drop(self) -> None:
        if self._rig is not None and self._folder is not None:
            await self._rig.stop()
            self._folder.cleanup()
        self._rig = self._folder = None
        self._vtn.faults.clear()
        self._faults.found.clear()

    async def _feed(self, rig: Rig, case: Case) -> None:
        held, registration = rig.record("held"), rig.registration
        self._vtn.received.clear()
        self._trigger(rig, case)
        self._vtn.reply(case.answers, case.body)
        await rig.turn()
        for _ in range(8):
            await rig.quiet()
            if not self._vtn.script.get(case.answers) and self._is_well(rig):
                break
            if "vtnID" in rig.ven.link().trouble:  # until our VTN sends events
                self._vtn.reply("oadrPoll", wire.distribute_event(HELD))
            await rig.turn()
        assert not self._vtn.script[case.answers], "the message was never asked for"
        assert self._faults.found == []
        assert self._vtn.faults == []
        if case.keeps_held:
            assert rig.record("held") == held
        if case.keeps_registration:
            assert self._is_well(rig), rig.ven.link()
            self._check_registration(registration, rig.registration, rig.clock.now())
        if case.brings_sound:
            assert rig.record("sound").opt.opt is Opt.IN
            told = {a.event_id: a.opt for a in rig.registration.answers}
            assert (told["held"], told["sound"]) == (Opt.IN, Opt.IN)
        await self._restore(rig, case)

    def _check_registration(self, before: Registration, after: Registration, now: datetime) -> None:
        """The same, but for what went on meanwhile: reports, answers, other requests."""
        assert (after.ven_id, after.registration_id) == (before.ven_id, before.registration_id)
        assert (after.vtn_id, after.poll_s) == (before.vtn_id, before.poll_s)
        (held,) = before.requests
        (request,) = (r for r in after.requests if r.request_id == "rr-held")
        assert replace(request, sent_through=held.sent_through) == held
        assert held.sent_through <= request.sent_through <= now

    def _is_well(self, rig: Rig) -> bool:
        link = rig.ven.link()
        return link.registered and link.lost_since is None and not link.trouble

    def _trigger(self, rig: Rig, case: Case) -> None:
        """Have the VEN send what is to be answered."""
        match case.answers:
            case "oadrCreatedEvent":
                self._vtn.reply("oadrPoll", wire.distribute_event(HELD, SOUND))
            case "oadrRequestEvent":
                self._vtn.reply("oadrPoll", b"")
            case "oadrCreatePartyRegistration":
                self._vtn.reply("oadrPoll", wire.request_reregistration())
            case "oadrUpdateReport":
                rig.clock.leap(REPORTED_S)
            case "oadrRegisterReport":
                request = wire.report_request("rr-metadata", "METADATA", ())
                self._vtn.reply("oadrPoll", wire.create_report(request))

    async def _restore(self, rig: Rig, case: Case) -> None:
        """As it was before, for the next message."""
        if not (case.keeps_held and case.keeps_registration):
            await self._drop()
            return
        rig.book.forget(tuple(key for key in rig.book.records if key[1] != "held"))
        await rig.ven._registration.update(
            lambda r: replace(r, requests=tuple(q for q in r.requests if q.request_id == "rr-held"))
        )


class _Faults(logging.Handler):
    """Catches what the agent logs with a traceback: faults of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.found.append(f"{record.getMessage()}: {record.exc_info[1]!r}")


def whole(*messages: Element) -> bytes:
    """A message's element (or several, as there should not be) as it is sent."""
    root = etree.fromstring(wire.payload(""))
    root[0].extend(messages)
    return etree.tostring(root)


def is_list_without_held(body: bytes) -> bool:
    """Whether a message may rightly change the held event: a list that lacks it, or has another of it."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True)
    try:
        root = etree.fromstring(body, parser)
    except etree.XMLSyntaxError:
        return False
    if root.find(".//{*}oadrDistributeEvent") is None:
        return False
    intact = _canonical(etree.fromstring(wire.distribute_event(HELD)).find(".//{*}oadrEvent"))
    return not any(_canonical(event) == intact for event in root.iter("{*}oadrEvent"))


def _canonical(event: Element) -> bytes | None:
    """None where there is no such form, as with a namespace that is no whole URI."""
    try:
        return etree.tostring(event, method="c14n", exclusive=True, with_tail=False)
    except etree.C14NError:
        return None


@st.composite
def lists(draw: Draw) -> Case:
    """The held and a sound event in company of odd ones, which may be spoilt."""
    pen = etree.Element("pen")
    oddity = draw(st.sampled_from((0, 10, 40)))
    pen.extend(draw(messages("oadrDistributeEvent", oddity)).findall("{*}oadrEvent"))
    spoil(draw, pen, least=0 if oddity else 1)
    root = etree.fromstring(wire.distribute_event(HELD, SOUND))
    message = root[0][0]
    events = [*message.findall("{*}oadrEvent"), *pen]
    message[:] = [*message[:2], *draw(st.permutations(events))]
    return Case(etree.tostring(root), brings_sound=True)


@st.composite
def others(draw: Draw, kind: str, answers: str = "oadrPoll") -> Case:
    """A message of any other kind, perhaps spoilt."""
    pen = etree.Element("pen")
    oddity = draw(st.sampled_from((0, 5, 20)))
    pen.append(draw(messages(kind, oddity)))
    spoil(draw, pen, least=0 if oddity else 1)
    body = whole(*pen)
    return Case(
        body,
        answers,
        keeps_held=not is_list_without_held(body),
        keeps_registration=answers != "oadrCreatePartyRegistration",
    )


@st.composite
def wrecks(draw: Draw, kind: str, answers: str = "oadrPoll") -> Case:
    """A message whose bytes are spoilt."""
    if kind == "oadrDistributeEvent":
        sound = wire.distribute_event(HELD, SOUND)
    else:
        sound = whole(draw(messages(kind, 0)))
    body = spoil_bytes(draw, sound[sound.index(b"<oadr:oadrPayload") :])
    return Case(body, answers, keeps_held=not is_list_without_held(body))
