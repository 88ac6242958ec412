"""The connection check: each way it can go, against servers that do so."""

import asyncio
import contextlib
import datetime as dt
import socket
import ssl
import threading
from email.utils import format_datetime

import pytest
from aiohttp import web

from agent.enrolment.check import check_connection
from agent.enrolment.step import State, Step
from agent.openadr.v20a.settings import Ven20aSettings
from tests.openadr import wire
from tests.openadr.bare import Server, settings_for
from tests.openadr.pki import Authority
from tests.openadr.vtn import PREFIX, OpenLeadrVtn, free_port, running
from tests.openadr.vtn20a import ScriptedVtn20a

pytestmark = pytest.mark.openadr2

PATH = PREFIX
GOOD = wire.created_party_registration(ven_id="", registration_id="")


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def ven(authority):
    return authority.issue("ven", "ecc")


async def check(url: str, **settings) -> list[Step]:
    fields = {"timeout_s": 5.0, **settings}
    return [step async for step in check_connection(settings_for(url, **fields))]


async def last(url: str, **settings) -> str:
    """The one step that failed, after good ones only: its name and all it says."""
    *before, step = await check(url, **settings)
    assert all(each.good for each in before)
    assert step.state is State.FAIL
    assert step.remedy
    return f"{step.name}: {step.text} ({step.remedy})"


def saying(body: bytes = GOOD, **response):
    async def handler(_):
        return web.Response(body=body, **response)

    return handler


def server_context(pair, ca=None, version=None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    if version is not None:
        context.maximum_version = context.minimum_version = version
    if ca is not None:
        context.load_verify_locations(ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def https(port: int) -> str:
    return f"https://localhost:{port}{PATH}"


def http(port: int) -> str:
    return f"http://127.0.0.1:{port}{PATH}"


async def test_all_is_well_with_openleadrs_server_and_mutual_tls(authority, ven):
    vtn = OpenLeadrVtn(tls=authority.issue("localhost"), ca=authority.ca)
    async with running(vtn):
        steps = await check(vtn.url, ca=authority.ca, **ven.files)
    assert [step.state for step in steps] == [State.OK] * len(steps)
    said = {step.name: step.text for step in steps}
    assert list(said) == [
        "address", "name", "TCP", "TLS", "server", "certificate", "HTTP", "OpenADR", "clock",
    ]  # fmt: skip
    assert said["TLS"].startswith("TLSv1.3 with TLS_")
    assert '"localhost" by "test ca", until 20' in said["server"]
    assert said["OpenADR"] == "VTN 'myvtn' offers 2.0b over simpleHttp, polls every 10 s"
    assert {message.kind for message in vtn.received} == {"oadrQueryRegistration"}


async def test_nothing_is_registered_and_the_check_may_be_left_at_any_step(authority, ven):
    vtn = OpenLeadrVtn(tls=authority.issue("localhost"), ca=authority.ca)
    async with running(vtn):
        async for step in check_connection(settings_for(vtn.url, ca=authority.ca, **ven.files)):
            if step.name == "TLS":
                break
    assert vtn.received == []


async def test_a_port_where_nothing_listens():
    said = await last(http(free_port()))
    assert "TCP: 127.0.0.1:" in said
    assert "Connection refused" in said
    assert "check the port in vtn_url" in said


async def test_a_host_that_does_not_exist():
    said = await last(f"https://no.such.host.invalid{PATH}")
    assert said.startswith("name: no.such.host.invalid: ")
    assert "typing error" in said


async def test_a_server_that_takes_the_connection_and_is_silent_in_tls():
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        said = await last(https(deaf.getsockname()[1]), timeout_s=0.3)
    assert said.startswith("TLS: no end of the handshake within 0.3 s")


async def test_a_server_that_takes_the_question_and_is_silent(authority, ven):
    async def handler(_):
        await asyncio.sleep(30)

    async with Server(handler) as server:
        said = await last(http(server.port), timeout_s=0.3)
        assert said.startswith("HTTP: ")
        assert "no whole answer within 0.3 s" in said
        assert "is stuck" in said
    tls = server_context(authority.issue("localhost"), authority.ca)
    async with Server(handler, tls) as server:
        said = await last(https(server.port), timeout_s=2.0, ca=authority.ca, **ven.files)
        assert said.startswith("HTTP: ")


async def test_a_server_whose_ca_is_not_ours(authority, tmp_path):
    tls = server_context(authority.issue("localhost"))
    other = Authority(tmp_path, "other")
    async with Server(saying(), tls) as server:
        said = await last(https(server.port), ca=other.ca)
        assert 'certificate ("localhost", by "test ca") is signed by nobody in ca' in said
        assert f"in place of {other.ca}" in said
        said = await last(https(server.port))
        assert "by nobody this system trusts" in said
        assert 'ca = "..."' in said


async def test_a_server_whose_time_is_over_or_has_not_come(authority):
    for terms, expected in (
        ({"begins": dt.timedelta(-9), "expires": dt.timedelta(-2)}, "expired on 20"),
        ({"begins": dt.timedelta(2)}, "is not valid before 20"),
    ):
        tls = server_context(authority.issue("localhost", **terms))
        async with Server(saying(), tls) as server:
            said = await last(https(server.port), ca=authority.ca)
        assert expected in said
        assert f"here it is {dt.datetime.now(dt.UTC):%Y-%m-%d}" in said


async def test_a_server_by_another_name(authority):
    tls = server_context(authority.issue("vtn.example"))
    async with Server(saying(), tls) as server:
        said = await last(https(server.port), ca=authority.ca)
    assert "is for vtn.example, not for localhost" in said


class Guard(threading.Thread):
    """A server of OpenSSL's own manners: it says why it refuses a certificate, and closes."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(daemon=True)
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with contextlib.suppress(OSError), connection:
                    connection.settimeout(5)
                    self._context.wrap_socket(connection, server_side=True).recv(1)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.join(10)


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_server_that_refuses_our_certificate_says_so_or_not(
    authority, ven, tmp_path, version
):
    """In TLS 1.3 only after the handshake, as the first answer; asyncio's server without a word."""
    strangers = Authority(tmp_path, "strangers")
    tls = server_context(authority.issue("localhost"), strangers.ca, version)
    with Guard(tls) as guard:
        said = await last(https(guard.port), ca=authority.ca, **ven.files)
    assert "the VTN refuses this certificate (the server said: unknown ca)" in said
    assert "signed by the utility's authority" in said
    assert said.startswith("certificate: " if version is VERSIONS[1] else "TLS: ")
    async with Server(saying(), tls) as server:
        said = await last(https(server.port), ca=authority.ca, **ven.files)
    assert "without a word" in said


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_server_that_wants_a_certificate_where_there_is_none_yet(authority, version):
    tls = server_context(authority.issue("localhost"), authority.ca, version)
    with Guard(tls) as guard:
        *before, step = await check(https(guard.port), ca=authority.ca)
    assert all(each.good for each in before)
    assert step.state is State.MISSING
    assert "client certificate" in step.text


async def test_an_expired_certificate_of_ours(authority):
    old = authority.issue("ven", begins=dt.timedelta(-9), expires=dt.timedelta(-2))
    with Guard(server_context(authority.issue("localhost"), authority.ca)) as guard:
        said = await last(https(guard.port), ca=authority.ca, **old.files)
    assert "certificate expired" in said
    assert "have it renewed" in said


async def test_a_server_that_does_not_look_at_certificates(authority, ven):
    async with Server(saying(), server_context(authority.issue("localhost"))) as server:
        with_ours = await check(https(server.port), ca=authority.ca, **ven.files)
        without = await check(https(server.port), ca=authority.ca)
    said = {step.name: step for step in with_ours}
    assert said["certificate"].state is State.NOTE
    assert "does not look at this VEN's" in said["certificate"].text
    assert said["OpenADR"].state is State.OK
    assert "does not ask for one" in {step.name: step.text for step in without}["certificate"]


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (400, "try https://"),
        (403, "has the utility registered its fingerprint?"),
        (404, f"the path in vtn_url is wrong: most end in {PATH}"),
        (307, "it points elsewhere"),
        (503, "trouble of its own"),
    ],
)
async def test_an_http_status_that_is_none_of_ours(status, remedy):
    async with Server(saying(status=status)) as server:
        said = await last(http(server.port))
    assert f"answered HTTP {status}" in said
    assert remedy in said


async def test_a_wrong_path_is_noted_before_it_fails():
    async with Server(saying()) as server:
        steps = await check(f"http://127.0.0.1:{server.port}/oadr")
    assert steps[0].state is State.NOTE
    assert f"does not end in {PATH}" in steps[0].text
    assert "HTTP 404" in steps[-1].text


async def test_plain_http_where_tls_is_expected_and_the_reverse(authority):
    async with Server(saying()) as server:
        said = await last(https(server.port))
    assert "TLS: whoever answers there does not speak TLS" in said
    async with Server(saying(), server_context(authority.issue("localhost"))) as server:
        said = await last(http(server.port))
    assert "HTTP: the server speaks TLS there (write https://" in said


def offering(*profiles: tuple[str, str]) -> bytes:
    name = "<oadr:oadrProfileName>2.0b</oadr:oadrProfileName>"
    transport = "<oadr:oadrTransportName>simpleHttp</oadr:oadrTransportName>"
    text = GOOD.decode()
    start, end = text.index("<oadr:oadrProfile>"), text.index("</oadr:oadrProfiles>")
    each = text[start:end]
    offers = (
        each.replace(name, name.replace("2.0b", p)).replace(
            transport, transport.replace("simpleHttp", t)
        )
        for p, t in profiles
    )
    return (text[:start] + "".join(offers) + text[end:]).encode()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"<!DOCTYPE html><html>log in</html>", "the answer is a web page"),
        (b"{}", "the answer is of no use: "),
        (b"", "the answer is of no use: the message is empty"),
        (wire.oadr_response(463), "the VTN answers 463"),
        (wire.created_party_registration(code=451), "the VTN answers 451"),
        (wire.oadr_response(), "the VTN answers 200"),
        (offering(("2.0a", "simpleHttp")), "offers 2.0a over simpleHttp only"),
        (offering(("2.0b", "xmpp")), "this VEN needs 2.0b over simpleHttp"),
    ],
)
async def test_an_answer_that_is_not_the_one(body, expected):
    async with Server(saying(body)) as server:
        said = await last(http(server.port))
    assert said.startswith("OpenADR: ")
    assert expected in said


async def test_an_answer_by_another_signer_says_what_to_compare():
    """Not "is it an OpenADR server?": it is one."""
    good = wire.created_party_registration()
    async with Server(saying(good)) as server:
        steps = await check(http(server.port), vtn_fingerprint=":".join(["AB"] * 10))
    assert steps[-1].text == "the answer is not taken: the message is not signed"
    assert "compare vtn_fingerprint with what the utility says" in steps[-1].remedy


@pytest.mark.parametrize(
    ("body", "state", "expected"),
    [
        (None, State.OK, "VTN 'vtn' lists 0 events"),
        (b"<html>", State.FAIL, "the answer is a web page"),
        (GOOD, State.FAIL, "is it an OpenADR 2.0a server?"),
    ],
)
async def test_a_2_0a_vtn_is_asked_for_its_list(body, state, expected):
    """2.0a has nothing else to ask for; no event is answered."""
    async with running(ScriptedVtn20a()) as vtn:
        if body is not None:
            vtn.reply("oadrRequestEvent", body)
        settings = Ven20aSettings(
            kind="openadr-2.0a", name="ven", vtn_url=vtn.url, ven_id="ven-1", resource="site"
        )
        *_, step = [s async for s in check_connection(settings) if s.name == "OpenADR"]
    assert step.state is state
    assert expected in step.text + step.remedy
    assert {message.kind for message in vtn.received} == {"oadrRequestEvent"}


async def test_a_vtn_that_offers_several_profiles_or_does_not_say():
    async with Server(saying(offering(("2.0a", "simpleHttp"), ("2.0b", "simpleHttp")))) as server:
        steps = await check(http(server.port))
    assert [step.state for step in steps if step.name == "OpenADR"] == [State.OK]
    async with Server(saying(offering())) as server:
        steps = await check(http(server.port))
    assert [step.state for step in steps if step.name == "OpenADR"] == [State.NOTE]


@pytest.mark.parametrize(
    ("ahead_s", "state", "expected"),
    [(0, State.OK, "agrees to 1 s"), (90, State.FAIL, "ahead of"), (-90, State.FAIL, "behind")],
)
async def test_the_clocks_are_compared(ahead_s, state, expected):
    async def handler(_):
        at = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=ahead_s)
        return web.Response(body=GOOD, headers={"Date": format_datetime(at, usegmt=True)})

    async with Server(handler) as server:
        *_, step = await check(http(server.port))
    assert (step.name, step.state) == ("clock", state)
    assert expected in step.text
