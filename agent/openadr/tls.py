"""TLS towards a VTN as the profile demands, and in plain words why it failed."""

import ssl
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from agent.errors import ConfigError
from agent.openadr.credentials import Credentials
from agent.openadr.settings import VenSettings
from agent.openadr.standing import LinkKeeper
from agent.tls import expiry_of, load_chain, weak_key

CIPHERS = (
    "@SECLEVEL=2:AES128-SHA256:ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256"
    ":ECDHE+AESGCM:ECDHE+CHACHA20"
)
"""The two suites 2.0b requires (rule 67), of which Python refuses the first by default, and today's.

The security level refuses keys shorter than rule 68 allows, ours and the VTN's.
"""

EXPIRED, NOT_YET_VALID = 10, 9
UNTRUSTED = (2, 18, 19, 20, 21, 24, 26)
WRONG_NAME = (62, 64)
WEAK = (66, 67)
"""What is wrong with a server's certificate, after X509_verify_cert_error_string(3); `UNTRUSTED` has no way
from it to an authority that is trusted."""

_ALERTS = {
    "UNKNOWN_CA": "the VTN does not know the CA of our certificate",
    "CERTIFICATE_EXPIRED": "the VTN says that our certificate has expired",
    "CERTIFICATE_REVOKED": "the VTN says that our certificate was revoked",
    "CERTIFICATE_REQUIRED": "the VTN demands a client certificate",
    "BAD_CERTIFICATE": "the VTN refuses our certificate",
    "UNSUPPORTED_CERTIFICATE": "the VTN refuses our certificate",
    "CERTIFICATE_UNKNOWN": "the VTN refuses our certificate",
    "ACCESS_DENIED": "the VTN refuses our certificate",
    "HANDSHAKE_FAILURE": (
        "the VTN ends the handshake: it wants another certificate, cipher suite or version of TLS"
    ),
    "PROTOCOL_VERSION": "the VTN does not speak TLS 1.2 or later",
    "UNSUPPORTED_PROTOCOL": "the VTN does not speak TLS 1.2 or later",
    "WRONG_VERSION_NUMBER": "what answers there does not speak TLS",
    "DH_KEY_TOO_SMALL": "the VTN offers too weak a key exchange",
}
_CUT = (
    "the VTN cut the connection without an answer, as some do that refuse, or miss, a client's "
    "certificate"
)


def watched_context(settings: VenSettings, link: LinkKeeper) -> Credentials[ssl.SSLContext]:
    """The TLS context, made anew when certificate, key or CA change. Raises `ConfigError`."""

    def make() -> ssl.SSLContext:
        context = tls_context(settings, partial(link.vtn_certificate, "TLS"))
        if settings.cert is not None:
            link.certificate("TLS", expiry_of(settings.cert))
        return context

    files = [file for file in (settings.cert, settings.key, settings.ca) if file is not None]
    return Credentials("TLS certificate", files, make, link)


def tls_context(
    settings: VenSettings, met: Callable[[datetime], object] | None = None
) -> ssl.SSLContext:
    """TLS 1.2 or later with mutual authentication. Raises `ConfigError` for unusable files.

    `met` is told when the VTN's certificate expires, once for each connection.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    try:
        if settings.ca is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(settings.ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"ven {settings.name}: ca {settings.ca} is unusable: {error}") from error
    if settings.cert is not None:
        load_chain(context, settings.cert, settings.key, f"ven {settings.name}: ")
    if met is not None:
        context.sslobject_class = _meeting(met)
    return context


def why_refused(error: BaseException, host: str, ca: Path | None) -> str | None:
    """One sentence on a failure over TLS; None when the error has nothing to do with that."""
    failure = _cause(error)
    if isinstance(failure, ssl.SSLCertVerificationError):
        return f"the VTN's certificate {_fault(failure, host, ca)}"
    if isinstance(failure, ConnectionResetError | aiohttp.ServerDisconnectedError):
        return _CUT
    if not isinstance(failure, ssl.SSLError):
        return None
    reason = failure.reason or ""
    plain = next((text for end, text in _ALERTS.items() if reason.endswith(end)), None)
    return plain or f"TLS fails: {reason.replace('_', ' ').lower() or failure}"


def _fault(failure: ssl.SSLCertVerificationError, host: str, ca: Path | None) -> str:
    code = failure.verify_code
    if code == EXPIRED:
        return "has expired"
    if code == NOT_YET_VALID:
        return "is not valid yet: is this host's clock right?"
    if code in UNTRUSTED:
        return f"is not from a CA in {ca or 'the system list'}"
    if code in WRONG_NAME:
        return f"is not for {host}"
    if code in WEAK:
        return f"{weak_key()} (2.0b rule 68)"
    return f"cannot be trusted: {failure.verify_message}"


def _cause(error: BaseException) -> BaseException:
    """What aiohttp's errors were made of."""
    while isinstance(error, aiohttp.ClientError) and (
        cause := error.__cause__ or error.__context__
    ):
        error = cause
    return error


def _meeting(met: Callable[[datetime], object]) -> type[ssl.SSLObject]:
    class Meeting(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            said: Mapping[str, Any] = self.getpeercert() or {}
            if "notAfter" in said:
                met(datetime.fromtimestamp(ssl.cert_time_to_seconds(said["notAfter"]), UTC))

    return Meeting
