"""What a certificate says, as utilities and operators need it."""

import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from agent.enrolment.key import read_key
from agent.errors import CommandError
from agent.tls import fingerprint_of

FINGERPRINT_LENGTH = len("00:11:22:33:44:55:66:77:88:99")
"""Of the end of the SHA-256: what OpenADR 2.0 identifies a certificate by."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """One X.509 certificate."""

    subject: str
    issuer: str
    begins: datetime
    ends: datetime
    names: tuple[str, ...]
    """Hosts that it is for; empty where it names none."""
    fingerprint: str
    """OpenADR's: the last ten bytes of the SHA-256 of its DER form, colons between."""
    sha256: str
    """The whole of it, likewise."""
    key: bytes
    """The public key, DER."""


def parse_certificate(der: bytes) -> Certificate:
    """What a DER certificate says. Raises `ValueError`."""
    parsed = x509.load_der_x509_certificate(der)
    try:
        public = parsed.public_key()
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from error
    sha256 = fingerprint_of(der)
    return Certificate(
        subject=_name(parsed.subject),
        issuer=_name(parsed.issuer),
        begins=parsed.not_valid_before_utc,
        ends=parsed.not_valid_after_utc,
        names=_hosts(parsed),
        fingerprint=sha256[-FINGERPRINT_LENGTH:],
        sha256=sha256,
        key=public.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
    )


def read_certificate(file: Path) -> Certificate:
    """The first certificate of a PEM file, which is the owner's. Raises `CommandError`."""
    try:
        text = file.read_bytes()
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}") from error
    begin, end = ssl.PEM_HEADER.encode(), ssl.PEM_FOOTER.encode()
    first = text[text.find(begin) : text.find(end) + len(end)]
    try:
        return parse_certificate(ssl.PEM_cert_to_DER_cert(first.decode("ascii")))
    except ValueError as error:
        raise CommandError(f"{file} holds no certificate (PEM) that can be used") from error


def certifies(certificate: Certificate, key: Path) -> bool:
    """Whether a certificate is for a private key. Raises `CommandError`."""
    public = read_key(key).public_key()
    der = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return der == certificate.key


def _name(name: x509.Name) -> str:
    """The common name, or where there is none the whole."""
    common = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    said = str(common[0].value) if common else name.rfc4514_string()
    return "".join(filter(str.isprintable, said))[:80]


def _hosts(parsed: x509.Certificate) -> tuple[str, ...]:
    try:
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    hosts = [*names.get_values_for_type(x509.DNSName)]
    hosts += [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return tuple("".join(filter(str.isprintable, host))[:80] for host in hosts[:8])
