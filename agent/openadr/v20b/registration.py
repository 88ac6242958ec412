"""Registering with a VTN: the first time, again, and not at all any more."""

import logging
from dataclasses import replace

from agent.errors import NotRegisteredError, WireError, quote
from agent.openadr.http import StatusError
from agent.openadr.standing import LinkKeeper
from agent.openadr.v20.fields import MOST_TEXT
from agent.openadr.v20.messages import (
    CancelPartyRegistration,
    Code,
    CreatedPartyRegistration,
    OadrResponse,
    Response,
)
from agent.openadr.v20.vtn import Vtn
from agent.openadr.v20b import writer
from agent.openadr.v20b.requests import dormant
from agent.openadr.v20b.settings import Ven20bSettings
from agent.store.registrations import Registration, SentOpt

log = logging.getLogger(__name__)

SERVICE = "EiRegisterParty"
DEFAULT_POLL_S = 10.0
LEAST_POLL_S = 0.1
MOST_POLL_S = 86_400.0


async def enrol(
    vtn: Vtn, settings: Ven20bSettings, held: Registration | None, link: LinkKeeper
) -> Registration:
    """Register, renewing what is held if the VTN still knows it, else afresh.

    A first registration asks before what the VTN speaks, and goes on whatever the answer.

    Report requests of an earlier registration fall dormant: the VTN asks anew, and each new request
    goes on where the old one had got to. Raises `NotRegisteredError` when the VTN will not have us.
    """
    created = None
    if held is None or not held.registration_id:
        await _query(vtn, settings, link)
    else:
        created = await _register(vtn, settings, held.ven_id, held.registration_id)
        if isinstance(created, Response):
            link.say_once(f"the VTN does not renew its registration: {created}", logging.INFO)
    if not isinstance(created, CreatedPartyRegistration):
        created = await _register(vtn, settings, settings.ven_id or "", "")
    if isinstance(created, Response):
        raise NotRegisteredError(f"the VTN refuses to register VEN {settings.name}: {created}")
    log.info("VEN %s: registered as %s", settings.name, quote(created.ven_id))
    poll_s = 0.0 if created.poll is None else created.poll.total_seconds()
    return Registration(
        ven=settings.name,
        ven_id=created.ven_id,
        registration_id=created.registration_id,
        vtn_id=created.vtn_id,
        poll_s=min(max(0.0, poll_s), MOST_POLL_S),
        requests=() if held is None else dormant(held.requests),
        vtn_url=settings.vtn_url,
        answers=() if held is None else held.answers,
        opts=() if held is None else unsaid(held.opts),
    )


def poll_period_s(settings: Ven20bSettings, registration: Registration | None) -> float:
    """How long to wait between polls: what the VTN asks for at least, longer if we are set to."""
    asked_s = 0.0 if registration is None else registration.poll_s
    wanted_s = settings.poll_s or 0.0
    return max(asked_s, wanted_s, LEAST_POLL_S) if asked_s or wanted_s else DEFAULT_POLL_S


def refusal_of(message: CancelPartyRegistration, registration: Registration) -> str:
    """Why a cancellation of our registration is not for us; empty when it is."""
    if message.ven_id and message.ven_id.strip() != registration.ven_id.strip():
        return f"venID {quote(message.ven_id)} is not ours"
    if message.registration_id.strip() != registration.registration_id.strip():
        return f"registrationID {quote(message.registration_id)} is not ours"
    return ""


def cancelled(registration: Registration) -> Registration:
    """The registration once the VTN has ended it: what is to be remembered for the next one."""
    return replace(
        registration, registration_id="", offered="", requests=dormant(registration.requests)
    )


def unsaid(opts: tuple[SentOpt, ...]) -> tuple[SentOpt, ...]:
    """Opts that a VTN may have forgotten with the registration: they are told again."""
    return tuple(replace(opt, acknowledged=False) for opt in opts)


async def leave(vtn: Vtn, settings: Ven20bSettings, held: Registration) -> None:
    """End the registration. Raises `WireError` while the VTN may not know.

    One that answers knows as much as it ever will, also where it has no such registration.
    """
    body = writer.cancel_party_registration(held.ven_id, held.registration_id)
    try:
        answer = await vtn.ask(SERVICE, body, held.ven_id)
    except NotRegisteredError as error:
        said = str(error)
    except StatusError as error:
        if error.status >= 500:
            raise
        said = str(error)
    else:
        response = getattr(answer, "response", None)
        said = f"it answered {response}" if isinstance(response, Response) else "no answer to that"
    log.info("VEN %s: told the VTN that we leave: %s", settings.name, said)


def left(registration: Registration) -> Registration:
    """The registration once we have left: nothing is owed, and nothing is sent for the time away."""
    return replace(cancelled(registration), requests=(), answers=(), opts=())


async def _query(vtn: Vtn, settings: Ven20bSettings, link: LinkKeeper) -> None:
    """Ask what the VTN speaks. No answer, or one that makes no sense, is as good as any."""
    try:
        answer = await vtn.ask(SERVICE, writer.query_registration())
    except WireError as error:
        link.say_once(f"the VTN does not say what it speaks: {error}", logging.INFO)
        return
    if not isinstance(answer, CreatedPartyRegistration) or not answer.profiles:
        link.say_once("the VTN does not say what it speaks", logging.INFO)
        return
    offers = ", ".join(f"{name} over {' and '.join(over)}" for name, over in answer.profiles)
    link.say_once(f"the VTN speaks {quote(offers)}", logging.INFO)
    if any(name == "2.0b" and "simpleHttp" in over for name, over in answer.profiles):
        link.clear("profiles")
    else:
        link.trouble(
            "profiles", f"the VTN speaks {quote(offers)}, but we only 2.0b over simpleHttp"
        )


async def _register(
    vtn: Vtn, settings: Ven20bSettings, ven_id: str, registration_id: str
) -> CreatedPartyRegistration | Response:
    """The new registration, or what the VTN said instead."""
    body = writer.create_party_registration(
        settings.label, ven_id, registration_id, signed=settings.sign
    )
    try:
        answer = await vtn.ask(SERVICE, body, ven_id)
    except NotRegisteredError as error:
        return Response(Code.NOT_REGISTERED, str(error))
    if isinstance(answer, CreatedPartyRegistration):
        if not answer.response.ok:
            return answer.response
        if not answer.ven_id.strip() or not answer.registration_id.strip():
            return Response(Code.NOT_REGISTERED, "no venID or registrationID given")
        if max(map(len, (answer.ven_id, answer.registration_id, answer.vtn_id))) > MOST_TEXT:
            why = f"a venID, registrationID or vtnID of more than {MOST_TEXT} characters given"
            return Response(Code.NOT_REGISTERED, why)
        return answer
    if isinstance(answer, OadrResponse):
        return answer.response
    raise WireError(f"the VTN answered a registration with {type(answer).__name__}")
