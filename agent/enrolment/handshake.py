"""TLS with a VTN, looked at by itself: what the server shows, and why it comes to nothing.

With TLS 1.2 a server refuses a client's certificate in the handshake. With TLS 1.3 the handshake is
over by then, and the refusal comes in place of the first answer: `alert_of` finds it there, too.
"""

import asyncio
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import aiohttp

from agent.enrolment.certificate import Certificate, parse_certificate
from agent.enrolment.step import State
from agent.openadr.settings import VenSettings
from agent.openadr.tls import EXPIRED, NOT_YET_VALID, UNTRUSTED, WEAK, WRONG_NAME, tls_context
from agent.tls import weak_key

NO_TLS = (
    "WRONG_VERSION_NUMBER",
    "RECORD_LAYER_FAILURE",
    "PACKET_LENGTH_TOO_LONG",
    "HTTP_REQUEST",
    "UNKNOWN_PROTOCOL",
)
"""What OpenSSL says of an answer that is none, by its versions."""
OVERHEAR_S = 3.0
_DROPPED = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError)

_ALERT = re.compile(r"\[SSL: (?:TLSV1|TLSV13|SSLV3)_ALERT_(\w+)\]")


@dataclass(frozen=True, slots=True)
class Handshake:
    """One that was completed."""

    version: str
    cipher: str
    server: Certificate | None
    """None where it cannot be read."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why there is no TLS with a server: what is wrong, and what to do about it."""

    text: str
    remedy: str
    state: State = State.FAIL


async def shake_hands(
    settings: VenSettings, host: str, address: str, port: int, now: datetime
) -> Handshake | Fault:
    """Agree on TLS as the agent does. Raises `ConfigError` for files that cannot be used."""
    context = tls_context(settings)
    try:
        return await _connect(context, host, address, port, settings.timeout_s)
    except ssl.SSLCertVerificationError as error:
        shown = await _shown(settings, host, address, port)
        return _untrusted(error, settings, host, shown, now)
    except TimeoutError:
        text = f"no end of the handshake within {settings.timeout_s:g} s"
        return Fault(text, "ask the utility; a firewall in between may swallow it")
    except OSError as error:
        return _failed(error, settings)


async def speaks_tls(settings: VenSettings, host: str, address: str, port: int) -> bool:
    """Whether a server speaks TLS, whoever it is."""
    return await _shown(settings, host, address, port) is not None


def alert_of(error: BaseException | None) -> str:
    """What a server said when it ended TLS, in OpenSSL's words; empty where it said nothing."""
    found = (_ALERT.search(str(each)) for each in _causes(error))
    match = next(filter(None, found), None)
    return match[1].lower().replace("_", " ") if match else ""


def was_dropped(error: BaseException | None) -> bool:
    """Whether the server let a connection go in place of an answer."""
    return any(isinstance(each, _DROPPED) for each in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def refusal(alert: str, *, shown: bool) -> Fault:
    """What to make of a server that ends TLS for the sake of our certificate."""
    said = (
        f"the server said: {alert}" if alert else "the server closed the connection without a word"
    )
    if not shown:
        text = f"the VTN wants a client certificate, and there is none to show ({said})"
        return Fault(text, "", State.MISSING)
    if "expired" in alert:
        remedy = "have it renewed: `flexload enroll` makes the request for it"
    elif "unknown ca" in alert:
        remedy = (
            "cert must be signed by the utility's authority; if it has intermediates, append them"
        )
    else:
        remedy = "send the utility the fingerprint above, and ask whether it has registered it"
    return Fault(f"the VTN refuses this certificate ({said})", remedy)


async def overhear(settings: VenSettings, host: str, address: str, port: int) -> str:
    """What a server says of our certificate when it is asked nothing; empty where it says nothing.

    A server that ends TLS while a question is on its way may have its last words lost to a reset.
    """
    try:
        async with asyncio.timeout(min(settings.timeout_s, OVERHEAR_S)):
            reader, writer = await asyncio.open_connection(
                address, port, ssl=tls_context(settings), server_hostname=host
            )
            try:
                await reader.read(1)
            finally:
                writer.transport.abort()
    except (OSError, TimeoutError) as error:
        return alert_of(error)
    return ""


async def _connect(
    context: ssl.SSLContext, host: str, address: str, port: int, timeout_s: float
) -> Handshake:
    async with asyncio.timeout(timeout_s):
        _, writer = await asyncio.open_connection(address, port, ssl=context, server_hostname=host)
    try:
        tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
        cipher, der = tls.cipher(), tls.getpeercert(binary_form=True)
        return Handshake(tls.version() or "", cipher[0] if cipher else "", _parsed(der))
    finally:
        writer.transport.abort()


async def _shown(settings: VenSettings, host: str, address: str, port: int) -> Handshake | None:
    """A handshake with whomever, to see what is shown; nothing is sent over it. None: no TLS."""
    context = tls_context(settings)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        return await _connect(context, host, address, port, settings.timeout_s)
    except (OSError, TimeoutError):
        return None


def _parsed(der: bytes | None) -> Certificate | None:
    try:
        return None if der is None else parse_certificate(der)
    except ValueError:
        return None


def _untrusted(
    error: ssl.SSLCertVerificationError,
    settings: VenSettings,
    host: str,
    shown: Handshake | None,
    now: datetime,
) -> Fault:
    server = None if shown is None else shown.server
    name = "the server's certificate"
    if server is not None:
        name += f' ("{server.subject}", by "{server.issuer}")'
    code = error.verify_code
    today = f"; here it is {now:%Y-%m-%d %H:%M} UTC"
    if code in WRONG_NAME:
        names = ", ".join(server.names) if server and server.names else "other names"
        return Fault(
            f"{name} is for {names}, not for {host}",
            "write the VTN's name in vtn_url as the utility gave it; its certificate's, where that "
            "is another, in vtn_host",
        )
    if code == EXPIRED:
        ended = f" on {server.ends:%Y-%m-%d %H:%M} UTC" if server else ""
        return Fault(f"{name} expired{ended}{today}", "tell the utility, or mend the clock here")
    if code == NOT_YET_VALID:
        begins = f" before {server.begins:%Y-%m-%d %H:%M} UTC" if server else ""
        return Fault(f"{name} is not valid{begins}{today}", "mend the clock here (NTP)")
    if code in UNTRUSTED:
        if settings.ca is None:
            remedy = 'get the CA that signed it from the utility, and name its file: ca = "..."'
            return Fault(f"{name} is signed by nobody this system trusts", remedy)
        remedy = f"put the CA that the utility gave you there, PEM, in place of {settings.ca}"
        return Fault(f"{name} is signed by nobody in ca {settings.ca}", remedy)
    if code in WEAK:
        return Fault(f"{name} {weak_key()} (2.0b rule 68)", "the utility must mend that")
    return Fault(f"{name} is refused: {error.verify_message}", "ask the utility")


def _failed(error: OSError, settings: VenSettings) -> Fault:
    reason = str(getattr(error, "reason", "") or "")
    if reason in NO_TLS:
        return Fault(
            "whoever answers there does not speak TLS",
            "check the port in vtn_url; write http:// only if the utility says so",
        )
    alert = alert_of(error)
    if "certificate" in alert or "unknown ca" in alert:
        return refusal(alert, shown=settings.cert is not None)
    text = "the server ended the TLS handshake without a word"
    if alert or reason:
        text = f"the server would not agree on TLS: {alert or reason.lower().replace('_', ' ')}"
    remedy = (
        "check the port in vtn_url, and ask the utility which TLS versions and suites it speaks"
    )
    if settings.cert is None:
        return Fault(
            f"{text}; it may want a client certificate, which is missing", "", State.MISSING
        )
    return Fault(text, f"it may refuse this certificate: {remedy}")
