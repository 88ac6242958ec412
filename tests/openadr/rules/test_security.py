"""2.0b's rules on security: cipher suites, certificates and keys."""

import pytest
from aiohttp import web

from agent.errors import ConfigError, UnreachableError
from agent.openadr.http import HttpTransport
from tests.clock import FakeClock
from tests.openadr.bare import BluntServer, Server, server_tls, settings_for
from tests.openadr.pki import KINDS

pytestmark = pytest.mark.openadr2


@pytest.mark.parametrize(
    ("suite", "kind"),
    [
        ("AES128-SHA256", "rsa"),  # TLS_RSA_WITH_AES_128_CBC_SHA256
        ("ECDHE-ECDSA-AES128-SHA256", "ecc"),  # TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256
    ],
)
async def test_rule_067_either_mandated_suite_will_do(authority, suite, kind):
    """Both sides speak TLS 1.2 with the two suites that the profile names: a VTN that offers only one
    of them is reached, and so is one with either where our certificate is of the other kind.
    """
    used = []

    async def handler(request):
        used.append(request.transport.get_extra_info("cipher")[0])
        return web.Response(body=b"<y/>")

    vtn = authority.issue("localhost", kind)
    async with Server(handler, server_tls(vtn, authority, suite)) as server:
        for ven in (authority.issue("ven", kind) for kind in KINDS):
            files = {"ca": authority.ca, **ven.files}
            assert await server.post(host="localhost", **files) == b"<y/>"
    assert used == [suite, suite]


@pytest.mark.parametrize("kind", KINDS)
async def test_rule_068_both_sides_show_certificates(authority, kind):
    """VEN and VTN know each other by X.509 certificates, RSA or ECC."""
    peers = []

    async def handler(request):
        peers.append(int(request.transport.get_extra_info("peercert")["serialNumber"], 16))
        return web.Response(body=b"<y/>")

    vtn, ven = authority.issue("localhost", kind), authority.issue("ven", kind)
    async with Server(handler, server_tls(vtn, authority)) as server:
        await server.post(host="localhost", ca=authority.ca, **ven.files)
    assert peers == [ven.certificate.serial_number]


@pytest.mark.parametrize("weak", ["rsa-1024", "ecc-192"])
async def test_a_key_that_is_too_short_is_refused(authority, weak):
    """Keys have at least 2048 bits (RSA) or 224 (ECC), the VTN's as well as ours."""
    short = authority.issue("localhost", weak)
    why = "has too short a key: RSA needs 2048 bits, ECC 224"
    with pytest.raises(ConfigError, match=f"^ven ven: cert {short.cert} {why}"):
        HttpTransport(settings_for("https://localhost/b", **short.files), FakeClock())

    tls = server_tls(authority.issue("localhost"), None, "ALL:@SECLEVEL=0")
    tls.load_cert_chain(short.cert, short.key)
    suite = "AES128-SHA256" if weak.startswith("rsa") else "ECDHE-ECDSA-AES128-SHA256"
    tls.set_ciphers(f"{suite}:@SECLEVEL=0")
    # A curve that we do not even offer never comes as far as a certificate.
    said = (
        f"the VTN's certificate {why}" if weak.startswith("rsa") else "the VTN ends the handshake"
    )
    with BluntServer(tls) as server, pytest.raises(UnreachableError, match=said):
        await server.post(host="localhost", ca=authority.ca)
