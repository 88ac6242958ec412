"""XML signatures made by hand, so that they can also be made wrongly; nothing of signxml in them."""

from base64 import b64encode
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from lxml import etree

from tests.clock import NOON
from tests.openadr.pki import Pair
from tests.openadr.wire import time

DS = "http://www.w3.org/2000/09/xmldsig#"
DSP = "http://openadr.org/oadr-2.0b/2012/07/xmldsig-properties"
C14N = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
SHA1 = "http://www.w3.org/2000/09/xmldsig#sha1"
SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"
RSA_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
RSA_SHA1 = "http://www.w3.org/2000/09/xmldsig#rsa-sha1"
ECDSA_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"
HMAC_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256"
OBJECT, PROTECT = "#oadrSignedObject", "#protect"


def protection(at: datetime = NOON, nonce: str = "nonce-1") -> str:
    return (
        f'<ds:Object Id="protect"><ds:SignatureProperties><ds:SignatureProperty Target="#it">'
        f'<dsp:ReplayProtect xmlns:dsp="{DSP}"><dsp:timestamp>{time(at)}</dsp:timestamp>'
        f"<dsp:nonce>{nonce}</dsp:nonce></dsp:ReplayProtect></ds:SignatureProperty>"
        "</ds:SignatureProperties></ds:Object>"
    )


def sign(
    body: bytes,
    pair: Pair,
    *,
    at: datetime = NOON,
    nonce: str = "nonce-1",
    references: tuple[str, ...] = (OBJECT, PROTECT),
    method: str | None = None,
    digest: str = SHA256,
    c14n: str = C14N,
    transforms: tuple[str, ...] | None = None,
    objects: str | None = None,
    shown: Pair | None = None,
    key_info: str = "",
    key: Any = None,
) -> bytes:
    """A message with a signature by a pair; anything of it can be had otherwise."""
    key = key or serialization.load_pem_private_key(pair.key.read_bytes(), None)
    method = method or (RSA_SHA256 if isinstance(key, rsa.RSAPrivateKey) else ECDSA_SHA256)
    der = (shown or pair).certificate.public_bytes(serialization.Encoding.DER)
    steps = "".join(f'<ds:Transform Algorithm="{t}"/>' for t in transforms or (c14n,))
    info = "".join(
        f'<ds:Reference URI="{uri}"><ds:Transforms>{steps}</ds:Transforms>'
        f'<ds:DigestMethod Algorithm="{digest}"/><ds:DigestValue/></ds:Reference>'
        for uri in references
    )
    signature = (
        f'<ds:Signature xmlns:ds="{DS}"><ds:SignedInfo>'
        f'<ds:CanonicalizationMethod Algorithm="{c14n}"/><ds:SignatureMethod Algorithm="{method}"/>'
        f"{info}</ds:SignedInfo><ds:SignatureValue/><ds:KeyInfo>{key_info}<ds:X509Data>"
        f"<ds:X509Certificate>{b64encode(der).decode()}</ds:X509Certificate></ds:X509Data>"
        f"</ds:KeyInfo>{protection(at, nonce) if objects is None else objects}</ds:Signature>"
    )
    root = etree.fromstring(body)
    root.insert(0, etree.fromstring(signature))
    root = etree.fromstring(etree.tostring(root))
    for reference in root.iter(f"{{{DS}}}Reference"):
        uri = reference.get("URI")
        found = root.xpath("//*[@*[local-name()='Id']=$uri]", uri=uri[1:])[0] if uri else root
        reference.find(f"{{{DS}}}DigestValue").text = _base64(_digest(_c14n(found, c14n), digest))
    data = _c14n(root.find(f".//{{{DS}}}SignedInfo"), c14n)
    root.find(f".//{{{DS}}}SignatureValue").text = _base64(_signed(data, key, method, pair))
    return etree.tostring(root)


def _signed(data: bytes, key: Any, method: str, pair: Pair) -> bytes:
    if method == HMAC_SHA256:
        # What everybody can do: take the public key for the secret.
        mac = hmac.HMAC(
            pair.certificate.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            ),
            hashes.SHA256(),
        )
        mac.update(data)
        return mac.finalize()
    if isinstance(key, ec.EllipticCurvePrivateKey):
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
        length = (key.key_size + 7) // 8
        return r.to_bytes(length, "big") + s.to_bytes(length, "big")
    kind = hashes.SHA1() if method == RSA_SHA1 else hashes.SHA256()
    return key.sign(data, padding.PKCS1v15(), kind)


def _c14n(node: Any, method: str) -> bytes:
    alone = etree.fromstring(etree.tostring(node, with_tail=False))
    return etree.tostring(alone, method="c14n", exclusive=method == EXCLUSIVE)


def _digest(data: bytes, method: str) -> bytes:
    hasher = hashes.Hash(hashes.SHA1() if method == SHA1 else hashes.SHA256())
    hasher.update(data)
    return hasher.finalize()


def _base64(data: bytes) -> str:
    return b64encode(data).decode()
