"""TLS: who is trusted, and one plain sentence on each way in which it fails."""

import datetime as dt
import re
import ssl
import warnings

import pytest
from aiohttp import web

from agent.errors import ConfigError, UnreachableError
from agent.openadr.credentials import Credentials
from agent.openadr.http import HttpTransport
from agent.openadr.standing import LinkKeeper
from agent.tls import expiry_of, fingerprint_of
from tests.clock import FakeClock
from tests.openadr.bare import BluntServer, Client, Server, server_tls, settings_for
from tests.openadr.pki import DAY, KINDS, Authority
from tests.openadr.vtn import PREFIX

pytestmark = pytest.mark.openadr2


async def answer(request):
    return web.Response(body=b"<y/>")


@pytest.fixture
def vtn_pair(authority):
    return authority.issue("localhost")


@pytest.fixture
def ven(authority):
    return authority.issue("ven")


@pytest.fixture(scope="session")
def stranger(tmp_path_factory):
    """A CA that nobody here knows."""
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


async def refused(server: Client, why: str, host: str = "localhost", **changes) -> None:
    with pytest.raises(UnreachableError) as caught:
        await server.post(host=host, **changes)
    assert re.fullmatch(rf"https://\S+: {why}", str(caught.value)), caught.value


async def test_a_private_ca_needs_no_certificate_of_ours(authority, vtn_pair):
    async with Server(answer, server_tls(vtn_pair, None)) as server:
        assert await server.post(host="localhost", ca=authority.ca) == b"<y/>"


@pytest.mark.parametrize("tls_1_2", [True, False])
async def test_a_vtn_that_is_not_trusted_is_one_sentence(
    authority, stranger, vtn_pair, ven, tls_1_2
):
    ciphers = "ECDHE+AESGCM" if tls_1_2 else ""
    files = {"ca": authority.ca, **ven.files}
    async with Server(answer, server_tls(vtn_pair, authority, ciphers)) as server:
        assert await server.post(host="localhost", **files) == b"<y/>"
        said = "the VTN's certificate is not from a CA in"
        await refused(server, f"{said} {stranger.ca}", **(files | {"ca": stranger.ca}))
        await refused(server, f"{said} the system list", **ven.files)
        await refused(server, "the VTN's certificate is not for 127.0.0.1", "127.0.0.1", **files)
    for terms, why in (
        ({"expires": -DAY / 2}, "has expired"),
        ({"begins": DAY / 2}, "is not valid yet: is this host's clock right\\?"),
    ):
        odd = authority.issue("localhost", **terms)
        async with Server(answer, server_tls(odd, authority, ciphers)) as server:
            await refused(server, f"the VTN's certificate {why}", **files)


async def test_the_name_on_the_certificate_may_be_another_than_the_urls(authority, vtn_pair):
    """It is checked either way: there is no switching that off."""
    async with Server(answer, server_tls(vtn_pair, None)) as server:
        named = {"ca": authority.ca, "vtn_host": "localhost"}
        assert await server.post(host="127.0.0.1", **named) == b"<y/>"
        named["vtn_host"] = "vtn.example"
        await refused(server, "the VTN's certificate is not for vtn.example", **named)


@pytest.mark.parametrize("tls_1_2", [True, False])
async def test_a_vtn_that_does_not_trust_us_is_one_sentence(
    authority, stranger, vtn_pair, ven, tls_1_2
):
    foreign, old = stranger.issue("ven"), authority.issue("ven", expires=-DAY / 2)
    with BluntServer(server_tls(vtn_pair, authority, "ECDHE+AESGCM" if tls_1_2 else "")) as server:
        assert await server.post(host="localhost", ca=authority.ca, **ven.files) == b"<y/>"
        wanted = "the VTN demands a client certificate"
        if tls_1_2:
            wanted = (
                "the VTN ends the handshake: it wants another certificate, cipher suite or version "
                "of TLS"
            )
        await refused(server, wanted, ca=authority.ca)
        unknown = "the VTN does not know the CA of our certificate"
        await refused(server, unknown, ca=authority.ca, **foreign.files)
        expired = "the VTN says that our certificate has expired"
        await refused(server, expired, ca=authority.ca, **old.files)


@pytest.mark.parametrize("ciphers", ["ECDHE+AESGCM", ""])
async def test_a_vtn_that_says_nothing_and_hangs_up_is_one_sentence(
    authority, stranger, vtn_pair, ciphers
):
    """So do servers of asyncio, openleadr's for one."""
    why = "the VTN cut the connection without an answer, as some do that refuse, or miss, a client's .*"
    async with Server(answer, server_tls(vtn_pair, authority, ciphers)) as server:
        await refused(server, why, ca=authority.ca)
        await refused(server, why, ca=authority.ca, **stranger.issue("ven").files)


async def test_what_does_not_speak_tls_1_2_is_one_sentence(authority, vtn_pair):
    async with Server(answer) as server:
        plain = Client()
        plain.port, plain.tls = server.port, server_tls(vtn_pair, None)
        await refused(plain, "what answers there does not speak TLS", ca=authority.ca)
    old = server_tls(vtn_pair, None, "ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with BluntServer(old) as server:
        await refused(server, "the VTN does not speak TLS 1.2 or later", ca=authority.ca)


def test_unusable_tls_files_are_a_fault_of_the_configuration(tmp_path, ven):
    empty = tmp_path / "empty.pem"
    empty.touch()
    https = "https://vtn.example/b"
    with pytest.raises(ConfigError, match=r"ven ven: ca .*empty\.pem is unusable"):
        HttpTransport(settings_for(https, ca=empty), FakeClock())
    with pytest.raises(ConfigError, match="ven ven: cert"):
        HttpTransport(settings_for(https, cert=ven.cert, key=tmp_path / "none"), FakeClock())


async def test_files_that_change_are_read_anew_and_faulty_ones_are_not_used(
    tmp_path, authority, vtn_pair, stranger
):
    """Each connection shows what the files hold at its beginning, or held when they last made sense."""
    shown = []

    async def handler(request):
        shown.append(request.transport.get_extra_info("peercert")["serialNumber"])
        return web.Response(body=b"<y/>")

    first, second = authority.issue("ven"), authority.issue("ven-2")
    cert, key = tmp_path / "ven.crt", tmp_path / "ven.key"
    cert.write_bytes(first.cert.read_bytes())
    key.write_bytes(first.key.read_bytes())
    async with Server(handler, server_tls(vtn_pair, authority)) as server:
        url = f"https://localhost:{server.port}{PREFIX}"
        clock = FakeClock()
        link = LinkKeeper("ven", url, clock)
        transport = HttpTransport(
            settings_for(url, ca=authority.ca, cert=cert, key=key), clock, link
        )

        async def shows(pair) -> None:
            assert await transport.post("OadrPoll", b"<x/>") == b"<y/>"
            assert int(shown[-1], 16) == pair.certificate.serial_number
            assert link.link.certificate_expires == pair.certificate.not_valid_after_utc

        assert link.link.certificate_expires == first.certificate.not_valid_after_utc
        await shows(first)
        cert.write_bytes(second.cert.read_bytes())
        await shows(first)
        assert f"key {key} is not that of the certificate in {cert}" in link.link.trouble
        assert "what was read before stays in use" in link.link.trouble
        cert.write_bytes(second.cert.read_bytes()[:300])
        await shows(first)
        assert f"cert {cert} holds no certificate" in link.link.trouble
        cert.unlink()
        await shows(first)
        assert f"cert {cert} with key {key} cannot be read: No such file" in link.link.trouble
        cert.write_bytes(second.cert.read_bytes())
        key.write_bytes(second.key.read_bytes())
        await shows(second)
        assert link.link.trouble == ""
        await transport.close()


def test_files_that_could_not_be_read_are_tried_again_though_they_look_the_same(tmp_path):
    """As when the agent is granted the right to read them: neither time nor size tell."""
    file = tmp_path / "ven.key"
    file.write_text("old")
    readable = True

    def make() -> str:
        if not readable:
            raise ConfigError("key cannot be read: Permission denied")
        return file.read_text()

    link = LinkKeeper("ven", "https://vtn", FakeClock())
    credentials = Credentials("TLS certificate", [file], make, link)
    readable = False
    assert credentials.current() == "old"
    file.write_text("a new one")
    assert credentials.current() == "old"
    assert "Permission denied; what was read before stays in use" in link.link.trouble
    readable = True
    assert credentials.current() == "a new one"
    assert link.link.trouble == ""


@pytest.mark.parametrize("kind", KINDS)
def test_a_certificates_expiry_and_fingerprint_are_read_without_a_library(
    authority, kind, tmp_path
):
    for years in (1, 30):  # as UTCTime, and as GeneralizedTime from 2050 on
        pair = authority.issue("long", kind, expires=years * 365 * DAY)
        assert expiry_of(pair.cert) == pair.certificate.not_valid_after_utc
        der = ssl.PEM_cert_to_DER_cert(pair.cert.read_text())
        assert fingerprint_of(der).endswith(pair.fingerprint)
    soon = authority.issue("soon", kind, expires=DAY)
    chain = tmp_path / "chain.pem"
    chain.write_bytes(b"subject=long\n" + pair.cert.read_bytes() + soon.cert.read_bytes())
    assert expiry_of(chain) == soon.certificate.not_valid_after_utc
    for nonsense in (b"", b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"):
        chain.write_bytes(nonsense)
        assert expiry_of(chain) is None
    assert expiry_of(tmp_path / "none") is None
    assert isinstance(expiry_of(soon.cert), dt.datetime)
