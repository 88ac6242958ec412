"""XML signatures: what is read is exactly what the VTN signed, once, or nothing is."""

import datetime as dt
import subprocess
import sys

import pytest
from aiohttp import web
from cryptography.hazmat.primitives import hashes
from lxml import etree

from agent.errors import ConfigError, WireError
from agent.openadr.standing import LinkKeeper
from agent.openadr.v20.messages import DistributeEvent
from agent.openadr.v20.xml import check_outgoing
from agent.openadr.v20b import verification, writer
from agent.openadr.v20b.settings import Ven20bSettings
from agent.openadr.v20b.signing import read_seal
from agent.openadr.v20b.verification import Replays, Verifier
from tests.clock import NOON, FakeClock
from tests.openadr import wire, xmldsig
from tests.openadr.pki import KINDS, key_of
from tests.openadr.rig import Rig
from tests.openadr.xmldsig import DS, sign

pytestmark = pytest.mark.openadr2

SECOND = dt.timedelta(seconds=1)
EVENT = wire.distribute_event(wire.event("ev-1"))
FORGED = wire.distribute_event(wire.event("forged"))
LIVES = {"now": NOON}


@pytest.fixture(params=KINDS)
def vtn_pair(authority, request):
    return authority.issue("vtn", request.param, **LIVES)


@pytest.fixture
def pair(authority):
    return authority.issue("vtn", **LIVES)


def settings_for(pair, **changes) -> Ven20bSettings:
    fields = {"kind": "openadr-2.0b", "name": "ven", "vtn_url": "http://vtn.example/b"}
    return Ven20bSettings(**fields, **({"vtn_fingerprint": pair.fingerprint} | changes))


def verifier_for(pair, clock=None, **changes) -> Verifier:
    clock = clock or FakeClock()
    return Verifier(settings_for(pair, **changes), clock, LinkKeeper("ven", "http://vtn", clock))


def read_signed(body: bytes, pair, clock=None, **changes):
    return verifier_for(pair, clock, **changes).read(body, 1_000_000)


def events_in(message) -> list[str]:
    assert isinstance(message, DistributeEvent)
    return [event.event_id for event in message.events]


@pytest.mark.parametrize("c14n", [xmldsig.C14N, xmldsig.EXCLUSIVE])
def test_what_the_vtn_signed_is_read(vtn_pair, c14n):
    assert events_in(read_signed(sign(EVENT, vtn_pair, c14n=c14n), vtn_pair)) == ["ev-1"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_we_sign_is_valid_and_verifies_and_names_the_time(authority, kind):
    ven = authority.issue("ven", kind, **LIVES)
    seal = read_seal(settings_for(ven, sign=True, **ven.files))
    body = seal.sign(writer.register_report("ven-1", []), NOON)
    check_outgoing(body)
    assert b"<dsp:timestamp>2026-07-01T12:00:00Z</dsp:timestamp>" in body
    read_signed(body, ven)
    assert seal.sign(writer.poll("ven-1"), NOON) != seal.sign(writer.poll("ven-1"), NOON)


def test_a_fingerprint_may_be_the_whole_one_and_one_of_several(authority, pair):
    other = authority.issue("other", **LIVES)
    whole = pair.certificate.fingerprint(hashes.SHA256()).hex(":")
    printed = f"sha256 Fingerprint={whole.upper()}\n"  # by openssl x509 -fingerprint
    bare = pair.fingerprint.replace(":", "").lower()
    for trusted in (whole, printed, [other.fingerprint, pair.fingerprint], bare):
        message = read_signed(sign(EVENT, pair), pair, vtn_fingerprint=trusted)
        assert events_in(message) == ["ev-1"]


@pytest.mark.parametrize("wrong", ["", "00:11", "AB" * 9, "AB" * 20, "XY" * 10])
def test_what_is_no_fingerprint_is_refused_in_words(pair, wrong):
    with pytest.raises(ValueError, match="is no fingerprint: the last 10 bytes of the cert"):
        read_signed(sign(EVENT, pair), pair, vtn_fingerprint=wrong)


def refused(body: bytes, pair, why: str, clock=None) -> None:
    with pytest.raises(WireError, match=why) as caught:
        read_signed(body, pair, clock)
    assert "\n" not in str(caught.value)


def test_an_unsigned_message_is_refused(pair):
    refused(EVENT, pair, "the message is not signed")


def test_another_signer_is_refused_by_name(authority, pair):
    other = authority.issue("other", **LIVES)
    refused(sign(EVENT, other), pair, f"of fingerprint {other.fingerprint}, not {pair.fingerprint}")
    # Showing the right certificate is not enough.
    refused(sign(EVENT, other, shown=pair), pair, "signature is not valid")
    # Nor is a second key beside it.
    numbers = key_of("rsa", "other").public_key().public_numbers()
    modulus, exponent = (
        xmldsig._base64(n.to_bytes((n.bit_length() + 7) // 8, "big"))
        for n in (numbers.n, numbers.e)
    )
    key_value = (
        f"<ds:KeyValue><ds:RSAKeyValue><ds:Modulus>{modulus}</ds:Modulus>"
        f"<ds:Exponent>{exponent}</ds:Exponent></ds:RSAKeyValue></ds:KeyValue>"
    )
    forged = sign(EVENT, other, shown=pair, key_info=key_value)
    refused(forged, pair, "signature is not valid")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"ev-1", b"ev-2"),
        (b"nonce-1", b"nonce-2"),
        (b"<ds:SignatureValue>", b"<ds:SignatureValue>AAAA"),
        (b"<ds:DigestValue>", b"<ds:DigestValue>AAAA"),
        (b"</ds:SignatureValue>", b"</ds:SignatureValue><ds:Bogus/>"),
    ],
)
def test_a_message_that_was_changed_is_refused(pair, before, after):
    body = sign(EVENT, pair)
    assert before in body
    refused(body.replace(before, after), pair, "signature is not valid")


def wrapped(body: bytes, where: str) -> bytes:
    """A signed message with its signed object moved away and a forged one in its place."""
    root = etree.fromstring(body)
    forged = etree.fromstring(FORGED)[0]
    original = root[1]
    if where == "after":
        root.insert(1, forged)
    elif where == "before":
        root.append(forged)
    else:
        holder = {
            "object": root[0].find(f"{{{DS}}}Object"),
            "new object": etree.SubElement(root[0], f"{{{DS}}}Object"),
            "forged": forged[0],
            "wrapper": etree.SubElement(root, "wrapper"),
        }[where]
        if where != "new object":
            for empty in root[0].findall(f"{{{DS}}}Object")[1:]:
                root[0].remove(empty)
        if where != "wrapper":
            root.remove(root.find("wrapper"))
        holder.append(original)
        root.insert(1, forged)
    return etree.tostring(root)


@pytest.mark.parametrize("same_id", [True, False])
@pytest.mark.parametrize("where", ["after", "before", "object", "new object", "forged", "wrapper"])
def test_a_signed_object_that_was_moved_is_refused(pair, where, same_id, monkeypatch):
    """Signature wrapping: the signature still holds, of something that nobody would read."""
    body = wrapped(sign(EVENT, pair), where)
    if not same_id:
        forged = body.rindex(b'Id="oadrSignedObject"', 0, body.index(b"forged"))
        body = body[:forged] + b'Id="x' + body[forged + 4 :]
    refused(body, pair, "not one signature followed by one oadrSignedObject")
    # Even without that look at its shape, nothing forged would be read.
    monkeypatch.setattr(verification, "_signature_of", lambda payload: payload[0])
    try:
        found = read_signed(body, pair)
    except WireError:
        return
    assert events_in(found) == ["ev-1"]


def test_an_id_that_stands_twice_is_refused(pair):
    body = sign(EVENT, pair).replace(
        b"<oadr:oadrDistributeEvent", b'<oadr:oadrDistributeEvent Id="oadrSignedObject"'
    )
    refused(body, pair, "signature is not valid: Ambiguous reference")


def test_a_signature_of_something_else_is_refused(pair):
    inner = EVENT.replace(b"<oadr:oadrDistributeEvent", b'<oadr:oadrDistributeEvent Id="inner"')
    refused(
        sign(inner, pair, references=("#inner", xmldsig.PROTECT)), pair, "not cover its oadrSigned"
    )
    refused(sign(EVENT, pair, references=("", xmldsig.PROTECT)), pair, "signature is not valid")
    refused(sign(EVENT, pair, references=(xmldsig.OBJECT,)), pair, "signature is not valid")
    three = (xmldsig.OBJECT, xmldsig.PROTECT, xmldsig.PROTECT)
    refused(sign(EVENT, pair, references=three), pair, "signature is not valid")
    twice = (xmldsig.OBJECT, xmldsig.OBJECT)
    refused(sign(EVENT, pair, references=twice), pair, "does not cover its oadrSignedObject")


@pytest.mark.parametrize(
    "transform",
    [
        "http://www.w3.org/TR/1999/REC-xpath-19991116",
        "http://www.w3.org/TR/1999/REC-xslt-19991116",
        "http://www.w3.org/2002/06/xmldsig-filter2",
        "http://www.w3.org/2000/09/xmldsig#base64",
        "http://www.w3.org/2000/09/xmldsig#enveloped-signature",
        "",
    ],
)
def test_a_transform_that_we_do_not_know_is_refused(pair, transform):
    body = sign(EVENT, pair, transforms=(transform, xmldsig.C14N))
    refused(body, pair, "which is not supported")


def test_a_public_key_is_no_hmac_secret(pair):
    refused(sign(EVENT, pair, method=xmldsig.HMAC_SHA256), pair, "HMAC_SHA256 forbidden")


def test_sha_1_is_refused(pair):
    refused(sign(EVENT, pair, method=xmldsig.RSA_SHA1), pair, "RSA_SHA1 forbidden")
    refused(sign(EVENT, pair, digest=xmldsig.SHA1), pair, "SHA1 forbidden")


def test_a_certificate_that_ran_out_is_refused(authority):
    old = authority.issue("old", expires=-SECOND, **LIVES)
    refused(sign(EVENT, old), old, "a certificate that is valid from 2026-06-30 to 2026-07-01 only")
    young = authority.issue("young", begins=SECOND, **LIVES)
    refused(sign(EVENT, young), young, "valid from 2026-07-01 to 2027-07-01 only")


def test_a_key_that_is_too_short_is_refused(authority):
    """2.0b rule 68."""
    weak = authority.issue("weak", "rsa-1024", **LIVES)
    refused(sign(EVENT, weak), weak, "too short a key: RSA needs 2048 bits, ECC 224")


def test_a_message_without_replay_protection_is_refused(pair):
    bare = '<ds:Object Id="protect"><ds:SignatureProperties/></ds:Object>'
    valid = '<ds:Object Id="protect"/>'
    beside = valid + xmldsig.protection().replace('Id="protect"', 'Id="other"')
    refused(sign(EVENT, pair, objects=bare), pair, "signature is not valid")
    refused(sign(EVENT, pair, objects=valid), pair, "not cover one ReplayProtect")
    refused(sign(EVENT, pair, objects=beside), pair, "not cover one ReplayProtect")
    refused(sign(EVENT, pair, nonce=""), pair, "no usable nonce")
    refused(sign(EVENT, pair, nonce="n" * 201), pair, "no usable nonce")
    odd = xmldsig.protection().replace("2026-07-01T12:00:00Z", "noon")
    refused(sign(EVENT, pair, objects=odd), pair, "its timestamp 'noon' is not")


def test_a_replay_is_refused_and_its_neighbour_is_not(pair):
    clock = FakeClock()
    verifier = verifier_for(pair, clock)
    body = sign(EVENT, pair)
    assert events_in(verifier.read(body, 1_000_000)) == ["ev-1"]
    with pytest.raises(WireError, match="taken before: it is a replay"):
        verifier.read(body, 1_000_000)
    verifier.read(sign(EVENT, pair, nonce="nonce-2"), 1_000_000)
    clock.leap(61)
    with pytest.raises(WireError, match="signed 61 s behind our clock"):
        verifier.read(body, 1_000_000)


@pytest.mark.parametrize(
    ("off_s", "why"),
    [
        (-60, None),
        (60, None),
        (-61, "signed 61 s behind our clock, which is more than the 60 s allowed"),
        (61, "signed 61 s ahead of our clock"),
        (3600, "signed 60 min ahead of our clock"),
        (-7200, "signed 2 h behind our clock"),
    ],
)
def test_the_window_lies_on_both_sides_of_the_clock_and_says_how_far_off(pair, off_s, why):
    body = sign(EVENT, pair, at=NOON + off_s * SECOND)
    if why is None:
        assert events_in(read_signed(body, pair)) == ["ev-1"]
    else:
        refused(body, pair, why)


def test_what_is_remembered_against_replay_is_bounded_and_forgets_nothing_that_counts(monkeypatch):
    monkeypatch.setattr(verification, "MAX_NONCES", 3)
    replays = Replays(60 * SECOND)
    for n in range(3):
        replays.take(NOON, f"n-{n}", NOON)
    with pytest.raises(WireError, match="signed more than 3 messages within 60 s"):
        replays.take(NOON, "n-3", NOON)
    with pytest.raises(WireError, match="replay"):
        replays.take(NOON, "n-0", NOON)
    later = NOON + 61 * SECOND
    replays.take(later, "n-3", later)
    assert len(replays._seen) == 1


def test_a_ven_without_signatures_does_not_load_what_they_need():
    """It would cost 9 MB."""
    code = "import sys, agent.openadr.v20b.ven; print({'signxml', 'cryptography'} & {*sys.modules})"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "set()\n"


async def test_a_wrongly_signed_event_changes_nothing_and_is_counted(tmp_path, vtn, pair):
    """The good ones before and after it are taken."""
    number = iter(range(1000))

    def signed(body: bytes) -> bytes:
        return sign(body, pair, nonce=f"n-{next(number)}", at=rig.clock.now())

    async def answer(request):
        received = vtn.received[-1]
        return web.Response(body=signed(vtn._default(received)))

    rig = Rig(tmp_path, vtn.url, vtn_fingerprint=pair.fingerprint)
    for kind in ("oadrCreatePartyRegistration", "oadrRegisterReport", "oadrRequestEvent"):
        vtn.reply(kind, *[answer] * 20)
    for kind in ("oadrQueryRegistration", "oadrCreatedEvent"):
        vtn.reply(kind, *[answer] * 20)
    good = wire.distribute_event(wire.event("ev-1"))
    worse = wire.distribute_event(wire.event("ev-1", revision=1, status="cancelled"))

    async def first(request):
        return web.Response(body=signed(good))

    async def second(request):
        return web.Response(body=signed(worse).replace(b"ev-1", b"ev-1 "))

    vtn.reply("oadrPoll", first, answer, second, *[answer] * 20)
    async with rig:
        await rig.rested()
        assert rig.ven.link().registered
        held = rig.record("ev-1")
        assert rig.ven.link().rejected == 0
        await rig.turn()
        assert rig.record("ev-1") == held
        assert rig.ven.link().rejected == 1
        assert "signature is not valid" in rig.ven.link().trouble
        await rig.turn()
        assert rig.ven.link().lost_since is None
        assert rig.record("ev-1") == held
        assert rig.ven.link().vtn_certificate_expires == pair.certificate.not_valid_after_utc


def test_keys_that_cannot_sign_are_a_fault_of_the_configuration(authority, tmp_path):
    ven, other = authority.issue("ven"), authority.issue("other")
    empty = tmp_path / "empty.pem"
    empty.touch()
    weak = authority.issue("weak", "rsa-1024")
    odd = tmp_path / "odd.pem"
    odd.write_bytes(ven.of_unknown_kind)
    for files, why in (
        ({"cert": odd, "key": ven.key}, "holds no certificate \\(PEM\\) that can be used"),
        ({"cert": empty, "key": ven.key}, "holds no certificate"),
        ({"cert": tmp_path / "none", "key": ven.key}, "cannot be read: No such file"),
        ({"cert": ven.cert, "key": empty}, "holds no private key that can be used"),
        ({"cert": ven.cert, "key": tmp_path / "none"}, "cannot be read: No such file"),
        ({"cert": ven.cert, "key": other.key}, "is not that of the certificate"),
        (weak.files, "too short a key: RSA needs 2048 bits, ECC 224"),
    ):
        with pytest.raises(ConfigError, match=f"^ven ven: .*{why}"):
            read_seal(settings_for(ven, sign=True, **files))
