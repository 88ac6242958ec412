"""Certificates and keys from files, with a sentence that names the one that is wrong."""

import hashlib
import re
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from agent.errors import ConfigError

LEAST_RSA_BITS = 2048
LEAST_ECC_BITS = 224
"""Shorter keys are refused on either side (2.0b rule 68)."""

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_VERSION_TAG = 0xA0
_UTC_TIME_TAG = 0x17


def load_chain(context: ssl.SSLContext, cert: Path, key: Path | None, whose: str) -> None:
    """Make a context show a certificate. Raises `ConfigError` with the file at fault: after `whose`, like
    `web.` or `ven utility: `, comes `cert` or `key`.
    """
    try:
        # An encrypted key must fail here, not ask whoever has a terminal.
        context.load_cert_chain(cert, key, password=lambda: b"")
    except ssl.SSLError as error:
        # The second is what OpenSSL says where not even the kinds of key are alike.
        if error.reason in ("KEY_VALUES_MISMATCH", "NO_CERTIFICATE_ASSIGNED"):
            raise ConfigError(
                f"{whose}key {key} is not that of the certificate in {cert}"
            ) from error
        if error.reason in ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL"):
            raise ConfigError(f"{whose}cert {cert} {weak_key()}") from error
        if _holds_certificate(cert):
            said = "holds no private key that can be used (PEM, not encrypted)"
            raise ConfigError(f"{whose}key {key or cert} {said}") from error
        raise ConfigError(f"{whose}cert {cert} holds no certificate (PEM)") from error
    except OSError as error:
        said = f"cert {cert} with key {key} cannot be read: {error.strerror}"
        raise ConfigError(f"{whose}{said}") from error


def server_context(cert: Path, key: Path, whose: str) -> ssl.SSLContext:
    """How a server of ours speaks TLS. Raises `ConfigError` as `load_chain` does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_chain(context, cert, key, whose)
    return context


def is_weak(bits: int, *, rsa: bool) -> bool:
    """Whether a key is shorter than is allowed."""
    return bits < (LEAST_RSA_BITS if rsa else LEAST_ECC_BITS)


def weak_key() -> str:
    """What is wrong with a certificate whose key is too short."""
    return f"has too short a key: RSA needs {LEAST_RSA_BITS} bits, ECC {LEAST_ECC_BITS}"


def fingerprint_of(der: bytes) -> str:
    """A certificate's SHA-256, `00:11:AA:...`; OpenADR's fingerprint is the last ten bytes of it."""
    return hashlib.sha256(der).digest().hex(":").upper()


def expiry_of(cert: Path) -> datetime | None:
    """When the first of the certificates in a PEM file expires; None when that cannot be read."""
    try:
        blocks = _CERTIFICATE.findall(cert.read_text(encoding="latin-1"))
        return min(map(_not_after, map(ssl.PEM_cert_to_DER_cert, blocks)), default=None)
    except (OSError, ValueError, LookupError, OverflowError):
        return None


def _not_after(der: bytes) -> datetime:
    """The end of a certificate's validity (RFC 5280, 4.1): read here, for a parser would cost 8 MB."""
    certificate = next(_fields(der))[1]
    fields = _fields(next(_fields(certificate))[1])
    tag, _ = next(fields)
    if tag == _VERSION_TAG:
        next(fields)  # the serial number
    next(fields)  # the signature's algorithm
    next(fields)  # the issuer
    _, validity = next(fields)
    _, (tag, text) = _fields(validity)
    said = text.decode("ascii")
    if tag == _UTC_TIME_TAG:
        said = ("19" if said >= "50" else "20") + said
    return datetime.strptime(said, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _fields(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each element in a row of them (X.690, 8.1)."""
    at = 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length > 127:
            octets = length - 128
            length, at = int.from_bytes(der[at : at + octets], "big"), at + octets
        yield tag, der[at : at + length]
        at += length


def _holds_certificate(cert: Path) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cert)
    except (OSError, ssl.SSLError):
        return False
    return True
