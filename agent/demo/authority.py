"""The certification authority of the utility that one can try to enrol with: `flexload demo --utility`.

A real utility looks at who asks before it signs; this one signs whatever is put on its desk.
"""

import ipaddress
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import NameOID

from agent.errors import FlexloadError

NAME = "flexload trial utility"
HOSTS = ("localhost", "127.0.0.1", "::1")
VALID = timedelta(days=365)
_PEM = serialization.Encoding.PEM


class Authority:
    """Issues certificates from a folder: its own in `ca.crt`, its server's in `server.crt`."""

    def __init__(self, folder: Path) -> None:
        """Take up what is in the folder, or begin it. Raises `FlexloadError` when it cannot be used."""
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._key = self._kept_key("ca")
            if not self.ca.exists():
                name = _common_name(NAME)
                own = self._certify(name, self._key.public_key(), VALID * 10, authority=True)
                self.ca.write_bytes(own.public_bytes(_PEM))
            self._issuer = x509.load_pem_x509_certificate(self.ca.read_bytes()).subject
            key = self._kept_key("server").public_key()
            server = self._certify(_common_name(HOSTS[0]), key, VALID, hosts=HOSTS)
            (folder / "server.crt").write_bytes(server.public_bytes(_PEM))
        except (OSError, ValueError) as error:
            raise FlexloadError(f"{folder} cannot be used for a trial: {error}") from error

    @property
    def ca(self) -> Path:
        """Its own certificate, which whoever enrols is to trust."""
        return self._folder / "ca.crt"

    def sign(self, request: bytes) -> tuple[str, bytes]:
        """The name in a signing request, and the certificate for it, PEM. Raises `ValueError`."""
        parsed = x509.load_pem_x509_csr(request)
        if not parsed.is_signature_valid:
            raise ValueError("its signature is not that of its key")
        names = parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        if not names:
            raise ValueError("it has no common name")
        certificate = self._certify(parsed.subject, parsed.public_key(), VALID)
        return str(names[0].value), certificate.public_bytes(_PEM)

    def _kept_key(self, name: str) -> ec.EllipticCurvePrivateKey:
        file = self._folder / f"{name}.key"
        if not file.exists():
            text = ec.generate_private_key(ec.SECP256R1()).private_bytes(
                _PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as new:
                new.write(text)
        key = serialization.load_pem_private_key(file.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{file.name} is no ECC key")  # noqa: TRY004 - a file's fault, no caller's
        return key

    def _certify(
        self,
        subject: x509.Name,
        key: CertificatePublicKeyTypes,
        valid: timedelta,
        *,
        hosts: tuple[str, ...] = (),
        authority: bool = False,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if authority else self._issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + valid)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if hosts:
            names = x509.SubjectAlternativeName([_host(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
