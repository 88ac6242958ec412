"""A utility's certification authority, and what it issues: for tests of TLS and of signatures."""

import datetime as dt
import ipaddress
import ssl
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

KINDS = ("rsa", "ecc")
DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files and as what they hold."""

    cert: Path
    key: Path
    certificate: x509.Certificate

    @property
    def fingerprint(self) -> str:
        """As OpenADR has it: the last ten bytes of the certificate's SHA-256."""
        return self.certificate.fingerprint(hashes.SHA256())[-10:].hex(":").upper()

    @property
    def of_unknown_kind(self) -> bytes:
        """The certificate of an RSA key, saying that the key is of a kind that nobody knows."""
        rsa_oid = bytes.fromhex("06092a864886f70d010101")
        der = self.certificate.public_bytes(serialization.Encoding.DER)
        return ssl.DER_cert_to_PEM_cert(der.replace(rsa_oid, rsa_oid[:-1] + b"c")).encode()

    @property
    def files(self) -> dict[str, Path]:
        """As settings of a VEN."""
        return {"cert": self.cert, "key": self.key}


class Authority:
    """Issues certificates into a folder. Keys are made once a process: that is what takes time."""

    def __init__(self, folder: Path, name: str = "ca", kind: str = "rsa") -> None:
        """Its own certificate is in `ca`, which is what the others trust."""
        self.folder = folder
        self._issued = 0
        self._key = key_of(kind, name)
        self._subject = _subject(f"test {name}")
        self.certificate = self.certify(self._subject, self._key.public_key(), authority=True)
        self.ca = folder / f"{name}.pem"
        self.ca.write_bytes(_pem(self.certificate))

    def issue(self, name: str, kind: str = "rsa", **terms: Any) -> Pair:
        """A certificate for a host or a VEN; asked for again, another on the same key, in other files."""
        key = key_of(kind, name)
        certificate = self.certify(_subject(name), key.public_key(), host=name, **terms)
        self._issued += 1
        stem = self.folder / f"{name}-{kind}-{self._issued}"
        pair = Pair(stem.with_suffix(".pem"), stem.with_suffix(".key"), certificate)
        pair.cert.write_bytes(_pem(certificate))
        pair.key.write_bytes(key_pem(key))
        return pair

    def certify(
        self,
        subject: x509.Name,
        public_key: Any,
        *,
        host: str = "",
        authority: bool = False,
        begins: dt.timedelta = -DAY,
        expires: dt.timedelta = 365 * DAY,
        now: dt.datetime | None = None,
    ) -> x509.Certificate:
        """A certificate on somebody's public key, as from a signing request; times from now."""
        now = now or dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins)
            .not_valid_after(now + expires)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .add_extension(_usage(authority=authority), critical=True)
        )
        if host:
            names = x509.SubjectAlternativeName([_host(host)])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256())


@cache
def key_of(kind: str, name: str) -> Any:
    """The key of that name: `rsa`, `ecc`, or a weak one, `rsa-1024` or `ecc-192`."""
    match kind:
        case "rsa" | "rsa-1024":
            return rsa.generate_private_key(65537, 1024 if kind == "rsa-1024" else 2048)
        case "ecc":
            return ec.generate_private_key(ec.SECP256R1())
        case "ecc-192":
            return ec.generate_private_key(ec.SECP192R1())
    raise AssertionError(kind)


def key_pem(key: Any) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not authority,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
