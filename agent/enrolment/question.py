"""The one question that a connection is tried with, and what to make of the answer.

In 2.0b it is what the VTN offers (oadrQueryRegistration), which it tells anybody; 2.0a has no such
thing, so there it is the list of events.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar
from urllib.parse import urlsplit

from agent.clock import Clock
from agent.enrolment.step import State, Step
from agent.errors import WireError, quote
from agent.openadr.http import HttpTransport, Transport
from agent.openadr.settings import VenSettings
from agent.openadr.standing import LinkKeeper
from agent.openadr.v20.messages import CreatedPartyRegistration, OadrResponse
from agent.openadr.v20.vtn import Reading
from agent.openadr.v20a import reader as reader20a
from agent.openadr.v20a import settings as settings20a
from agent.openadr.v20a import writer as writer20a
from agent.openadr.v20a.ven import list_in
from agent.openadr.v20b import reader, registration, writer
from agent.openadr.v20b.settings import Ven20bSettings
from agent.openadr.v20b.vtn import means_of

AnyVen = TypeVar("AnyVen", bound=VenSettings)
Ven20Settings = Ven20bSettings | settings20a.Ven20aSettings
"""Those of VENs that enrol with a certificate; OpenADR 3 has client ids and secrets instead."""

PROFILE, TRANSPORT = "2.0b", "simpleHttp"
NAME = "OpenADR"
DISTRUST = (
    "compare vtn_fingerprint with what the utility says its signatures are made with;\n"
    "leave it out if the utility does not sign"
)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, of which service, over what, and how the answer is judged."""

    service: str
    body: bytes
    transport: Transport
    judge: Callable[[bytes], Step]
    """For an answer with status 200."""


def usual_path(settings: VenSettings) -> str:
    """Where a profile's simple HTTP is on a server (2.0b rule 511); some have more before it."""
    return urlsplit(settings.example_url()).path


def question_of(settings: VenSettings, clock: Clock) -> Question:
    """The question for a VEN's profile, put and read as its agent would.

    Raises `ConfigError` for certificates and keys that cannot be used.
    """
    link = LinkKeeper(settings.name, settings.vtn_url, clock)
    if isinstance(settings, Ven20bSettings):
        transport, reading = means_of(settings, clock, link)
        body, judge = writer.query_registration(), partial(_offer, reading, settings)
        return Question(registration.SERVICE, body, transport, judge)
    transport = HttpTransport(settings, clock, link)
    body = writer20a.request_event(settings.ven_id or "")
    judge = partial(_list, settings.max_bytes)
    return Question(settings20a.SERVICE, body, transport, judge)


def without_certificate(settings: AnyVen) -> AnyVen:
    """The settings of a VEN that has nothing to show or to sign with."""
    changes: dict[str, object] = {"cert": None, "key": None}
    if isinstance(settings, Ven20bSettings) and settings.sign_cert is None:
        changes["sign"] = False
    return settings.model_copy(update=changes)


def _offer(reading: Reading, settings: Ven20bSettings, body: bytes) -> Step:
    """Whether the VTN offers what we speak."""
    if page := _page(body):
        return page
    try:
        message = reading(body, settings.max_bytes)
    except WireError as error:
        if settings.vtn_fingerprint and _is_readable(body, settings.max_bytes):
            return Step(NAME, State.FAIL, f"the answer is not taken: {error}", DISTRUST)
        return _stranger("2.0b", error)
    if not isinstance(message, CreatedPartyRegistration | OadrResponse):
        text = f"the VTN answers a query for what it offers with {type(message).__name__}"
        return Step(NAME, State.FAIL, text, "ask the utility")
    if not message.response.ok or isinstance(message, OadrResponse):
        remedy = "ask the utility whether it expects this VEN"
        return Step(NAME, State.FAIL, f"the VTN answers {message.response}", remedy)
    offers = dict(message.profiles)
    vtn = f"VTN {quote(message.vtn_id)}"
    said = "; ".join(f"{quote(p)[1:-1]} over {_names(ts)}" for p, ts in offers.items())
    if not offers:
        return Step(NAME, State.NOTE, f"{vtn} does not say which profiles it offers")
    if TRANSPORT not in offers.get(PROFILE, ()):
        remedy = f"this VEN needs {PROFILE} over {TRANSPORT}: ask the utility"
        if "2.0a" in offers:
            remedy += '; with kind = "openadr-2.0a" it speaks that'
        return Step(NAME, State.FAIL, f"{vtn} offers {said} only", remedy)
    poll = "" if message.poll is None else f", polls every {message.poll.total_seconds():g} s"
    return Step(NAME, State.OK, f"{vtn} offers {said}{poll}")


def _is_readable(body: bytes, max_bytes: int) -> bool:
    """Whether a message is one but for its signature."""
    try:
        reader.read(body, max_bytes)
    except WireError:
        return False
    return True


def _list(max_bytes: int, body: bytes) -> Step:
    """Whether a 2.0a VTN lists its events."""
    if page := _page(body):
        return page
    try:
        events = list_in(reader20a.read(body, max_bytes))
    except WireError as error:
        return _stranger("2.0a", error)
    if events is None:
        return Step(NAME, State.OK, "the VTN answers, and has no events")
    count = len(events.events)
    text = f"VTN {quote(events.vtn_id)} lists {count} event{'' if count == 1 else 's'}"
    return Step(NAME, State.OK, text)


def _page(body: bytes) -> Step | None:
    if not body.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
        return None
    remedy = "a portal or proxy is there, not the VTN: check host and path in vtn_url"
    return Step(NAME, State.FAIL, "the answer is a web page", remedy)


def _stranger(profile: str, error: WireError) -> Step:
    remedy = f"is it an OpenADR {profile} server? Check host and path in vtn_url, ask the utility"
    return Step(NAME, State.FAIL, f"the answer is of no use: {error}", remedy)


def _names(transports: tuple[str, ...]) -> str:
    return ", ".join(quote(transport)[1:-1] for transport in transports) or "nothing"
