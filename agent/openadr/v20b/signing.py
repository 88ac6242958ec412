"""XML signatures on what we send (2.0b security level High).

Imported only for a VEN that signs, since signxml and cryptography cost 9 MB.
"""

import asyncio
import uuid
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from lxml import etree
from signxml.algorithms import SignatureConstructionMethod
from signxml.signer import XMLSigner

from agent.clock import Clock
from agent.errors import ConfigError
from agent.openadr.credentials import Credentials
from agent.openadr.http import Transport
from agent.openadr.iso8601 import format_time
from agent.openadr.standing import LinkKeeper
from agent.openadr.v20.xml import PAYLOAD, Element
from agent.openadr.v20b.settings import Ven20bSettings
from agent.tls import is_weak, weak_key

DSP = "http://openadr.org/oadr-2.0b/2012/07/xmldsig-properties"
C14N = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"


@dataclass(frozen=True, slots=True)
class Seal:
    """What messages are signed with."""

    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...]

    def sign(self, body: bytes, now: datetime) -> bytes:
        """A message of ours with its signature, which covers the time and a nonce as well."""
        root = etree.fromstring(body)
        signed_object = root[-1]
        kind = "rsa-sha256" if isinstance(self.key, rsa.RSAPrivateKey) else "ecdsa-sha256"
        signer = XMLSigner(SignatureConstructionMethod.detached, kind, c14n_algorithm=C14N)
        # It is computed before it stands in the message, where these prefixes are in force for it.
        signer.namespaces.update(root.nsmap)
        signature = signer.sign(
            signed_object,
            key=self.key,
            cert=list(self.chain),
            reference_uri=f"#{signed_object.get(f'{{{PAYLOAD.namespace}}}Id')}",
            signature_properties=_replay_protect(now),
        )
        root.insert(0, signature)
        return bytes(etree.tostring(root, xml_declaration=True, encoding="utf-8"))


class Signer:
    """A transport that signs what goes through it, with the key that its files hold now."""

    def __init__(
        self, transport: Transport, settings: Ven20bSettings, clock: Clock, link: LinkKeeper
    ) -> None:
        """Read the key; raises `ConfigError` when it cannot be used."""
        self._transport = transport
        self._clock = clock

        def make() -> Seal:
            seal = read_seal(settings)
            link.certificate("signing", min(c.not_valid_after_utc for c in seal.chain))
            return seal

        self._seal = Credentials("signing certificate", signing_files(settings), make, link)

    async def post(self, service: str, body: bytes) -> bytes:
        """Sign a message, send it, and give back the answer."""
        seal, now = self._seal.current(), self._clock.now()
        return await self._transport.post(service, await asyncio.to_thread(seal.sign, body, now))

    async def close(self) -> None:
        """Let go of connections."""
        await self._transport.close()


def signing_files(settings: Ven20bSettings) -> tuple[Path, Path]:
    """The files to sign with: those for TLS where there are none of their own."""
    cert, key = settings.sign_cert or settings.cert, settings.sign_key or settings.key
    assert cert is not None
    assert key is not None, "as the settings make sure"
    return cert, key


def read_seal(settings: Ven20bSettings) -> Seal:
    """What is in those files. Raises `ConfigError` with the file at fault."""
    cert, key = signing_files(settings)
    whose = f"ven {settings.name}: "
    try:
        chain = tuple(x509.load_pem_x509_certificates(cert.read_bytes()))
        public = chain[0].public_key()
    except OSError as error:
        raise ConfigError(f"{whose}cert {cert} cannot be read: {error.strerror}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        said = "holds no certificate (PEM) that can be used"
        raise ConfigError(f"{whose}cert {cert} {said}") from error
    try:
        private = load_pem_private_key(key.read_bytes(), None)
    except OSError as error:
        raise ConfigError(f"{whose}key {key} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        said = "holds no private key that can be used (PEM, not encrypted)"
        raise ConfigError(f"{whose}key {key} {said}") from error
    if private.public_key() != public:
        raise ConfigError(f"{whose}key {key} is not that of the certificate in {cert}")
    if not isinstance(private, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{whose}key {key} is neither an RSA nor an ECC key, as signatures need")
    if is_weak(private.key_size, rsa=isinstance(private, rsa.RSAPrivateKey)):
        raise ConfigError(f"{whose}cert {cert} {weak_key()}")
    return Seal(private, chain)


def _replay_protect(now: datetime) -> Element:
    protect = etree.Element(f"{{{DSP}}}ReplayProtect", nsmap={"dsp": DSP})
    etree.SubElement(protect, f"{{{DSP}}}timestamp").text = format_time(now)
    etree.SubElement(protect, f"{{{DSP}}}nonce").text = uuid.uuid4().hex
    return protect
