"""The VTN's XML signature on what we take (2.0b security level High), and against replay.

What is handed on is what the signature vouches for, as the verification found it: nobody looks into
the message again. Imported only for a VEN that verifies, since signxml and cryptography cost 9 MB.
"""

import threading
from base64 import b64decode
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from lxml import etree
from signxml.algorithms import DigestAlgorithm, SignatureMethod
from signxml.exceptions import SignXMLException
from signxml.verifier import SignatureConfiguration, XMLVerifier

from agent.clock import Clock
from agent.errors import WireError, quote
from agent.openadr.iso8601 import parse_time
from agent.openadr.standing import LinkKeeper
from agent.openadr.v20.messages import Message
from agent.openadr.v20.xml import PAYLOAD, Element
from agent.openadr.v20b.reader import read
from agent.openadr.v20b.settings import Ven20bSettings
from agent.tls import fingerprint_of, is_weak, weak_key
from agent.units import format_duration

MAX_NONCES = 10_000
"""Messages remembered against replay: a VTN that signs more within the window has the rest refused."""
MAX_NONCE_LENGTH = 200

_SIGNED_OBJECT = f"{{{PAYLOAD.namespace}}}oadrSignedObject"
_DS = "http://www.w3.org/2000/09/xmldsig#"
_PROTECT = "{http://openadr.org/oadr-2.0b/2012/07/xmldsig-properties}"
_TRANSFORMS = (
    "http://www.w3.org/TR/2001/REC-xml-c14n-20010315",
    "http://www.w3.org/2006/12/xml-c14n11",
    "http://www.w3.org/2001/10/xml-exc-c14n#",
)
_EXPECTED = SignatureConfiguration(
    location="./",
    expect_references=2,
    signature_methods=frozenset(
        method
        for method in SignatureMethod
        if method.name
        in {f"{key}_SHA{bits}" for key in ("RSA", "ECDSA") for bits in (256, 384, 512)}
    ),
    digest_algorithms=frozenset(
        {DigestAlgorithm.SHA256, DigestAlgorithm.SHA384, DigestAlgorithm.SHA512}
    ),
)
_NONSENSE = (
    SignXMLException,
    UnsupportedAlgorithm,
    etree.LxmlError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    NotImplementedError,
)
"""What signxml raises when a signature is wrong, or makes no sense."""


class Verifier:
    """Finds in messages what one of the trusted certificates has signed, once each."""

    def __init__(self, settings: Ven20bSettings, clock: Clock, link: LinkKeeper) -> None:
        """`link` is told when the certificate expires that messages are signed with."""
        self._trusted = settings.vtn_fingerprint
        self._replays = Replays(timedelta(seconds=settings.replay_window_s))
        self._clock = clock
        self._link = link
        self._lock = threading.Lock()

    def read(self, body: bytes, max_bytes: int) -> Message:
        """`reader.read` for signed messages, in any thread. Raises `WireError` saying what is wrong."""
        return read(body, max_bytes, self._open)

    def _open(self, payload: Element) -> Element:
        """The oadrSignedObject as it was signed."""
        now = self._clock.now()
        signature = _signature_of(payload)
        _check_transforms(signature)
        certificate = self._certificate(signature, now)
        with self._lock:
            parts = _verified(payload, certificate)
            objects = [part for part in parts if part.tag == _SIGNED_OBJECT]
            if len(objects) != 1:
                raise WireError("the message's signature does not cover its oadrSignedObject")
            rest = [part for part in parts if part is not objects[0]]
            self._replays.take(*_replay_protection(rest), now)
        self._link.vtn_certificate("signing", certificate.not_valid_after_utc)
        return objects[0]

    def _certificate(self, signature: Element, now: datetime) -> x509.Certificate:
        """The one that it was signed with, if that is to be trusted."""
        found = [
            node.text or ""
            for node in signature.iterfind(f"./{{{_DS}}}KeyInfo//{{{_DS}}}X509Certificate")
        ]
        try:
            shown = [b64decode(text) for text in found]
        except ValueError:
            raise WireError(
                "the message's signature has a certificate that cannot be read"
            ) from None
        for der in shown:
            if any(fingerprint_of(der).endswith(trusted) for trusted in self._trusted):
                return _usable(der, now)
        if not shown:
            raise WireError("the message's signature comes without its certificate")
        said = fingerprint_of(shown[0])[-29:]
        raise WireError(
            f"the message is signed with a certificate of fingerprint {said}, "
            f"not {' or '.join(self._trusted)}"
        )


class Replays:
    """Takes every signed message once, while its time is within a window around ours."""

    def __init__(self, window: timedelta) -> None:
        self._window = window
        self._seen: dict[tuple[datetime, str], None] = {}

    def take(self, at: datetime, nonce: str, now: datetime) -> None:
        """Raises `WireError` for a message that was taken before, or whose time is too far off."""
        off = at - now
        if abs(off) > self._window:
            said = "behind" if off < timedelta(0) else "ahead of"
            raise WireError(
                f"the message was signed {format_duration(abs(off))} {said} our clock, which is more "
                f"than the {format_duration(self._window)} allowed: one of the two clocks is wrong"
            )
        if (at, nonce) in self._seen:
            raise WireError("the message was taken before: it is a replay")
        self._seen = {key: None for key in self._seen if abs(key[0] - now) <= self._window}
        if len(self._seen) >= MAX_NONCES:
            raise WireError(
                f"the VTN signed more than {MAX_NONCES} messages within {format_duration(self._window)}"
            )
        self._seen[at, nonce] = None


def _signature_of(payload: Element) -> Element:
    """The only signature, in the only place for it, before the only signed object."""
    kinds = [str(node.tag) for node in payload]
    if f"{{{_DS}}}Signature" not in kinds:
        raise WireError("the message is not signed")
    signatures = sum(1 for _ in payload.iter(f"{{{_DS}}}Signature"))
    objects = sum(1 for _ in payload.iter(_SIGNED_OBJECT))
    if kinds != [f"{{{_DS}}}Signature", _SIGNED_OBJECT] or signatures != 1 or objects != 1:
        raise WireError("the message is not one signature followed by one oadrSignedObject")
    return payload[0]


def _check_transforms(signature: Element) -> None:
    """Signxml passes over transforms that it does not know; what they leave out would be trusted."""
    for name in ("CanonicalizationMethod", "Transform"):
        for node in signature.iter(f"{{{_DS}}}{name}"):
            algorithm = node.get("Algorithm") or ""
            if algorithm not in _TRANSFORMS:
                raise WireError(
                    f"the message's signature uses {quote(algorithm)}, which is not supported"
                )


def _usable(der: bytes, now: datetime) -> x509.Certificate:
    """A trusted certificate, unless it has run out or its key is too short."""
    try:
        certificate, key = _read(der)
    except (ValueError, UnsupportedAlgorithm):
        raise WireError("the message is signed with a certificate that cannot be read") from None
    expires = certificate.not_valid_after_utc
    if not certificate.not_valid_before_utc <= now <= expires:
        raise WireError(
            "the message is signed with a certificate that is valid from "
            f"{certificate.not_valid_before_utc:%Y-%m-%d} to {expires:%Y-%m-%d} only"
        )
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise WireError("the message is signed with a key that is neither RSA nor ECC")
    if is_weak(key.key_size, rsa=isinstance(key, rsa.RSAPublicKey)):
        raise WireError(f"the message is signed with a certificate that {weak_key()}")
    return certificate


@lru_cache(maxsize=4)
def _read(der: bytes) -> tuple[x509.Certificate, object]:
    certificate = x509.load_der_x509_certificate(der)
    return certificate, certificate.public_key()


def _verified(payload: Element, certificate: x509.Certificate) -> Sequence[Element]:
    """What the signature vouches for: copies made of exactly the bytes that its digests are of."""
    try:
        results = XMLVerifier().verify(
            payload, x509_cert=certificate, id_attribute="Id", expect_config=_EXPECTED
        )
    except _NONSENSE as error:
        what = " ".join(str(error).split())[:200] or type(error).__name__
        raise WireError(f"the message's signature is not valid: {what}") from None
    assert isinstance(results, list), "as it is for two references"
    parts = [result.signed_xml for result in results]
    if any(part is None for part in parts):
        raise WireError("the message's signature vouches for something that is no XML")
    return parts


def _replay_protection(parts: Sequence[Element]) -> tuple[datetime, str]:
    """When the message was signed, and its nonce."""
    found = [node for part in parts for node in part.iter(f"{_PROTECT}ReplayProtect")]
    if len(found) != 1:
        raise WireError("the message's signature does not cover one ReplayProtect")
    nonce = (found[0].findtext(f"{_PROTECT}nonce") or "").strip()
    try:
        at = parse_time(found[0].findtext(f"{_PROTECT}timestamp") or "")
    except ValueError as error:
        raise WireError(f"the message's ReplayProtect: its timestamp {error}") from None
    if not 0 < len(nonce) <= MAX_NONCE_LENGTH:
        raise WireError("the message's ReplayProtect has no usable nonce")
    return at, nonce
