"""The client against a scripted VTN of either version; every request is held against the document."""

import asyncio
import itertools
import ssl
from datetime import UTC, datetime, timedelta
from inspect import iscoroutinefunction

import pytest
from aiohttp import web

from agent.errors import ConfigError, UnreachableError, WireError
from agent.openadr.http import BusyError, StatusError
from agent.openadr.standing import LinkKeeper
from agent.openadr.v3.client import Client
from agent.openadr.v3.dialect import Report, ReportInterval
from agent.openadr.v3.settings import Ven3Settings
from tests.clock import NOON, FakeClock
from tests.openadr.pki import Authority
from tests.openadr3.vtn import ScriptedVtn3, serving

pytestmark = pytest.mark.openadr3

VERSIONS = ("3.0.1", "3.1.0")
OURS = ("client", "the secret")


class Bench:
    """A client with its clock and its link."""

    def __init__(self, vtn, tmp_path, **settings):
        if vtn.client is not None:
            secret = tmp_path / "secret"
            secret.write_text(f"{OURS[1]}\n")
            settings = {"client_id": OURS[0], "client_secret": secret, **settings}
        self.settings = Ven3Settings(
            kind="openadr-3",
            name="ven",
            **{"vtn_url": vtn.url, "version": vtn.version, "timeout_s": 2.0, **settings},
        )
        self.clock = FakeClock()
        self.link = LinkKeeper("ven", vtn.url, self.clock, "OpenADR 3")
        self.client = Client(self.settings, self.clock, self.link)

    async def __aenter__(self):
        return self.client

    async def __aexit__(self, *_):
        await self.client.close()


@pytest.fixture(params=VERSIONS)
async def vtn(request):
    async with serving(ScriptedVtn3(request.param)) as scripted:
        yield scripted


@pytest.fixture(params=VERSIONS)
async def guarded(request):
    async with serving(ScriptedVtn3(request.param, client=OURS)) as scripted:
        yield scripted


async def test_an_empty_list_is_a_list(vtn, tmp_path):
    async with Bench(vtn, tmp_path) as client:
        assert await client.events() == []
        assert await client.programs() == []


@pytest.mark.parametrize("page", [50, 20, 1])
async def test_all_pages_are_read_whatever_the_servers_own_pages_are(vtn, tmp_path, page):
    vtn.page = page
    for n in range(55):
        vtn.event(f"ev-{n}", intervals=[])
    async with Bench(vtn, tmp_path) as client:
        assert [e["id"] for e in await client.events()] == [f"ev-{n}" for n in range(55)]


@pytest.mark.parametrize(
    ("page", "why"),
    [
        (lambda n: "[" + ",".join(map(str, range(100_001))) + "]", "has no end"),
        (lambda n: f'[{{"id": "{n}", "x": "{"x" * 9_000}"}}]', "more than 40000 bytes"),
    ],
)
async def test_a_list_that_would_fill_the_memory_is_none(vtn, tmp_path, page, why):
    asked = itertools.count()

    async def more(request):
        return web.Response(text=page(next(asked)), content_type="application/json")

    vtn.replies["events"], vtn.sloppy = more, True
    most = 10_000 if "bytes" in why else 1_000_000
    async with Bench(vtn, tmp_path, max_bytes=most) as client:
        with pytest.raises(WireError, match=why):
            await client.events()
    assert next(asked) < 10


@pytest.mark.parametrize("title", ["no", "x" * 100_000])
async def test_a_refusal_is_one_short_sentence(vtn, tmp_path, title):
    async def refuse(request):
        return web.json_response({"title": title, "detail": "d" * 1000}, status=400)

    vtn.replies["events"], vtn.sloppy = refuse, True
    async with Bench(vtn, tmp_path) as client:
        with pytest.raises(StatusError) as refused:
            await client.events()
    assert len(str(refused.value)) < 400


async def test_a_server_that_knows_no_paging_is_no_endless_list(vtn, tmp_path):
    listed = [{"id": "a"}, {"id": 2}, {"noid": 1}, {"id": ""}, {"id": "", "priority": 1}]

    async def all_of_them(request):
        return web.json_response(listed)

    vtn.replies["events"] = all_of_them
    async with Bench(vtn, tmp_path) as client:
        assert await client.events() == listed


@pytest.mark.parametrize("trouble", [500, 404, "cut", "object", "half"])
async def test_a_page_that_fails_is_no_shorter_list(vtn, tmp_path, trouble):
    for n in range(55):
        vtn.event(f"ev-{n}", intervals=[])

    async def second_fails(request):
        if request.query["skip"] == "0":
            return None
        match trouble:
            case "cut":
                request.transport.close()
                return web.Response()
            case "object":
                return web.json_response({"items": []})
            case "half":
                return web.Response(text='[{"id": "ev-50"', content_type="application/json")
        return web.json_response({"title": "oh"}, status=trouble)

    vtn.replies["events"] = second_fails
    async with Bench(vtn, tmp_path) as client:
        with pytest.raises(WireError):
            await client.events()


async def test_one_event_is_there_or_not(vtn, tmp_path):
    vtn.event("ev-1", intervals=[])
    async with Bench(vtn, tmp_path) as client:
        assert (await client.event("ev-1"))["id"] == "ev-1"
        assert await client.event("ev-2") is None


async def test_a_problem_is_one_sentence(vtn, tmp_path):
    async def refuse(request):
        words = {"title": "Bad\x1b[2J Request", "detail": "no such\nprogram", "status": 400}
        return web.json_response(words, status=400, content_type="application/problem+json")

    vtn.replies["events"] = refuse
    async with Bench(vtn, tmp_path) as client:
        with pytest.raises(StatusError) as raised:
            await client.events()
    said = str(raised.value)
    assert (
        said
        == f"GET {vtn.url}/events answered HTTP 400 Bad Request: Bad[2J Request: no suchprogram"
    )


async def test_a_vtn_that_asks_for_patience_gets_it(vtn, tmp_path):
    async def busy(request):
        return web.Response(status=503, headers={"Retry-After": "17"})

    vtn.replies["events"] = busy
    async with Bench(vtn, tmp_path) as client:
        with pytest.raises(BusyError) as raised:
            await client.events()
    assert raised.value.retry_after_s == 17


async def test_a_vtn_that_trickles_is_given_up_as_a_whole(vtn, tmp_path):
    async def trickle(request):
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(1000):
            await response.write(b" ")
            await asyncio.sleep(0.02)
        return response

    vtn.replies["events"] = trickle
    async with Bench(vtn, tmp_path, timeout_s=0.3) as client:
        with pytest.raises(UnreachableError, match=r"no whole answer within 0\.3 s"):
            await client.events()


async def test_an_answer_without_end_is_cut_off(vtn, tmp_path):
    async def flood(request):
        return web.Response(body=b"[" + b" " * 50_000)

    vtn.replies["events"] = flood
    async with Bench(vtn, tmp_path, max_bytes=10_000) as client:
        with pytest.raises(WireError, match="more than 10000 bytes"):
            await client.events()


@pytest.mark.parametrize("body", [b"<html>", b"\xff\xfe", b"[" * 100_000, b"[1, 2", b"nan"])
async def test_what_is_no_json_is_said(vtn, tmp_path, body):
    async def odd(request):
        return web.Response(body=body)

    vtn.replies["events"] = odd
    async with Bench(vtn, tmp_path) as client:
        with pytest.raises(WireError):
            await client.events()


async def test_ven_and_resource_are_enrolled_once(vtn, tmp_path):
    async with Bench(vtn, tmp_path, ven_name="site-a", resource="hall-1") as client:
        ven_id = await client.enrol_ven()
        resource_id = await client.enrol_resource(ven_id)
        assert await client.enrol_ven() == ven_id
        assert await client.enrol_resource(ven_id) == resource_id
    assert [v["venName"] for v in vtn.objects["vens"].values()] == ["site-a"]
    [resource] = vtn.objects["resources"].values()
    assert (resource["resourceName"], resource["venID"]) == ("hall-1", ven_id)


async def test_whoever_enrolled_us_meanwhile_counts(vtn, tmp_path):
    lists = 0

    async def late(request):
        nonlocal lists
        lists += request.method == "GET"
        return web.json_response([]) if lists == 1 and request.method == "GET" else None

    vtn.replies["vens"] = late
    vtn.sloppy = True  # 3.1.0 has no 409 here, and VTNs send it.
    vtn._put("vens", "VEN", "v9", {"venName": "ven", "clientID": "client"})
    async with Bench(vtn, tmp_path) as client:
        assert await client.enrol_ven() == "v9"


async def test_a_name_that_is_somebody_elses_is_said(vtn, tmp_path):
    async def hidden(request):
        return web.json_response([]) if request.method == "GET" else None

    vtn.replies["vens"] = hidden
    vtn.sloppy = True
    vtn._put("vens", "VEN", "v9", {"venName": "ven"})
    async with Bench(vtn, tmp_path) as client:
        with pytest.raises(WireError, match="'ven' is somebody else's"):
            await client.enrol_ven()


async def test_a_report_is_created(vtn, tmp_path):
    vtn.event("ev-1", intervals=[])
    vtn.program()
    interval = ReportInterval(
        0, NOON, timedelta(minutes=15), (("USAGE", 12.5), ("DATA_QUALITY", "OK"))
    )
    report = Report("used", "p", "ev-1", "site", (("USAGE", "DIRECT_READ", "KWH"),), (interval,))
    async with Bench(vtn, tmp_path) as client:
        await client.send(report)
    [stored] = vtn.objects["reports"].values()
    assert stored["resources"][0]["intervals"][0]["payloads"][0] == {
        "type": "USAGE",
        "values": [12.5],
    }


async def test_a_report_taken_without_a_word_is_taken(vtn, tmp_path):
    async def silent(request):
        return web.Response(status=201)

    vtn.replies["reports"] = silent
    async with Bench(vtn, tmp_path) as client:
        await client.send(Report("used", "p", "ev-1", "site", (), ()))


async def test_a_report_of_megabytes_arrives(vtn, tmp_path):
    long = "x" * 2_000_000
    interval = ReportInterval(0, NOON, timedelta(minutes=15), (("OPERATING_STATE", long),))
    report = Report("used", "p", "ev-1", "site", (), (interval,))
    async with Bench(vtn, tmp_path) as client:
        await client.send(report)
    [stored] = vtn.objects["reports"].values()
    assert stored["resources"][0]["intervals"][0]["payloads"][0]["values"] == [long]


COMMON = (
    "POST /auth/token",
    "GET /programs",
    "GET /events",
    "GET /events/{eventID}",
    "GET /vens",
    "POST /vens",
    "POST /reports",
    "GET /subscriptions",
    "POST /subscriptions",
    "PUT /subscriptions/{subscriptionID}",
    "DELETE /subscriptions/{subscriptionID}",
)
RESOURCES_301 = "/vens/{venID}/resources"
REQUESTS = {
    "3.0.1": {*COMMON, f"GET {RESOURCES_301}", f"POST {RESOURCES_301}"},
    "3.1.0": {
        *COMMON,
        "GET /resources",
        "POST /resources",
        "GET /auth/server",
        "GET /notifiers",
        *(
            f"GET /notifiers/mqtt/topics/{kind}"
            for kind in (
                "programs",
                "programs/{programID}/events",
                "vens/{venID}/events",
                "vens/{venID}/programs",
            )
        ),
    },
}


async def test_every_request_there_is_keeps_to_the_document(guarded, tmp_path):
    """That it does is seen to wherever a test's VTN closes; this sees that none is left out."""
    guarded.event("ev-1", intervals=[])
    guarded.program()
    interval = ReportInterval(0, NOON, timedelta(minutes=5), (("USAGE", 12.5),))
    report = Report("used", "p", "ev-1", "site", (("USAGE", "DIRECT_READ", "KWH"),), (interval,))
    client = Bench(guarded, tmp_path, targets=("north",), scope="read_targets")
    asked = []
    async with client as ours:

        async def ask(method, *arguments):
            asked.append(method.__name__)
            return await method(*arguments)

        await ask(ours.programs)
        await ask(ours.events)
        await ask(ours.event, "ev-1")
        await ask(ours.enrol_resource, await ask(ours.enrol_ven))
        await ask(ours.send, report)
        await ask(ours.subscriptions)
        url = "https://localhost:9443/grid"
        made = await ask(ours.subscribe, "p", url, "token", None)
        await ask(ours.subscribe, "p", url, "token", made)
        await ask(ours.unsubscribe, made)
        await ask(ours.token)
        if guarded.version == "3.1.0":
            await ask(ours.unsubscribe, await ask(ours.subscribe, "", url, "token", None))
            await ask(ours.mqtt)
            for path in ("programs", "programs/p/events", "vens/v1/events", "vens/v1/programs"):
                await ask(ours.topics, path)
    every = {n for n, m in vars(Client).items() if iscoroutinefunction(m) and not n.startswith("_")}
    unasked = {"3.0.1": {"mqtt", "topics"}, "3.1.0": set()}[guarded.version]
    assert set(asked) == every - {"close"} - unasked
    made = {guarded.contract.operation(a.method, a.path) for a in guarded.asked}
    assert made == REQUESTS[guarded.version]


async def test_targets_are_asked_for_as_the_version_has_it(vtn, tmp_path):
    async with Bench(vtn, tmp_path, targets=("north", "feeder-12")) as client:
        await client.events()
    names = {name for name, _ in vtn.asked[0].query}
    assert names == {"skip", "limit"} | (
        {"targets"} if vtn.version == "3.1.0" else {"targetType", "targetValues"}
    )


async def test_nobody_is_asked_for_a_token_without_a_client(vtn, tmp_path):
    async with Bench(vtn, tmp_path) as client:
        await client.events()
    assert {asked.token for asked in vtn.asked} == {None}


async def test_a_token_is_fetched_once_and_shown_each_time(guarded, tmp_path):
    async with Bench(guarded, tmp_path) as client:
        await asyncio.gather(client.events(), client.programs())
        await client.events()
    assert len(guarded.bodies("auth/token")) == 1
    assert ("auth/server" in guarded.paths()) == (guarded.version == "3.1.0")


async def test_a_token_is_renewed_before_it_runs_out(guarded, tmp_path):
    guarded.token_lasts_s = 100
    bench = Bench(guarded, tmp_path)
    async with bench as client:
        for passed_s, tokens in ((0, 1), (89, 1), (2, 2)):
            bench.clock.leap(passed_s)
            await client.events()
            assert len(guarded.tokens) == tokens


async def test_a_token_that_does_not_say_how_long_it_lasts_lasts_an_hour(guarded, tmp_path):
    guarded.token_lasts_s = None
    bench = Bench(guarded, tmp_path)
    async with bench as client:
        for passed_s, tokens in ((0, 1), (3500, 1), (100, 2)):
            bench.clock.leap(passed_s)
            await client.events()
            assert len(guarded.tokens) == tokens


async def test_a_vtn_that_forgot_its_tokens_is_asked_again_once(guarded, tmp_path):
    async with Bench(guarded, tmp_path) as client:
        await client.events()
        guarded.tokens.clear()
        assert await client.events() == []
        assert len(guarded.bodies("auth/token")) == 2


async def test_a_vtn_that_never_has_us_is_asked_twice_and_no_more(guarded, tmp_path):
    async def never(request):
        return web.json_response({"title": "Forbidden"}, status=403)

    guarded.replies["events"] = never
    async with Bench(guarded, tmp_path) as client:
        with pytest.raises(StatusError, match="403"):
            await client.events()
    assert guarded.paths().count("events") == 2


async def test_a_wrong_secret_is_said_and_not_shown(guarded, tmp_path):
    secret = tmp_path / "wrong"
    secret.write_text("hunter2")
    async with Bench(guarded, tmp_path, client_secret=secret) as client:
        with pytest.raises(WireError, match="invalid_client: nobody we know") as raised:
            await client.events()
    assert "hunter2" not in str(raised.value)


async def test_scope_and_token_url_are_as_configured(guarded, tmp_path):
    url = f"{guarded.url}/auth/token"
    async with Bench(guarded, tmp_path, token_url=url, scope="read_all") as client:
        await client.events()
    assert "auth/server" not in guarded.paths()
    assert guarded.bodies("auth/token")[0]["scope"] == "read_all"


@pytest.mark.parametrize("answer", [{}, {"tokenURL": ""}, [], None, {"tokenURL": "http://[::1"}])
async def test_a_server_that_cannot_say_where_tokens_are_is_said(tmp_path, answer):
    async def odd(request):
        return web.json_response(answer)

    async with serving(ScriptedVtn3(client=OURS)) as vtn:
        vtn.replies["auth/server"] = odd
        async with Bench(vtn, tmp_path) as client:
            with pytest.raises(WireError):
                await client.events()


@pytest.mark.parametrize("answer", [{}, {"access_token": ""}, [], {"token": "x"}])
async def test_an_answer_without_a_token_is_said(guarded, tmp_path, answer):
    async def odd(request):
        return web.json_response(answer)

    guarded.replies["auth/token"] = odd
    async with Bench(guarded, tmp_path) as client:
        with pytest.raises(WireError, match="without a token"):
            await client.events()


@pytest.mark.parametrize(
    ("content", "why"), [(None, "cannot be read"), ("  \n", "is empty"), (b"\xff", "UTF-8")]
)
def test_an_unusable_secret_is_said_before_anything_is_sent(tmp_path, content, why):
    secret = tmp_path / "secret"
    if content is not None:
        secret.write_bytes(content if isinstance(content, bytes) else content.encode())
    settings = Ven3Settings(
        kind="openadr-3",
        name="ven",
        vtn_url="http://vtn.example",
        client_id="c",
        client_secret=secret,
    )
    clock = FakeClock()
    with pytest.raises(ConfigError, match=why):
        Client(settings, clock, LinkKeeper("ven", "", clock))


async def test_another_name_of_the_vtn_is_not_that_of_whoever_gives_tokens(tmp_path):
    authority = Authority(tmp_path)

    def tls(name):
        pair = authority.issue(name)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.cert, pair.key)
        return context

    async with (
        serving(ScriptedVtn3(client=OURS), tls("localhost")) as giver,
        serving(ScriptedVtn3(client=OURS), tls("vtn.example")) as vtn,
    ):
        vtn.tokens = giver.tokens
        url = giver.url.replace("127.0.0.1", "localhost") + "/auth/token"
        settings = {"ca": authority.ca, "vtn_host": "vtn.example", "token_url": url}
        async with Bench(vtn, tmp_path, **settings) as client:
            assert await client.events() == []


async def test_a_private_ca_is_trusted_and_a_stranger_is_not(tmp_path):
    ours, theirs = Authority(tmp_path), Authority(tmp_path, "other")
    pair = ours.issue("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    async with serving(ScriptedVtn3(), context) as vtn:
        async with Bench(vtn, tmp_path, ca=ours.ca) as client:
            assert await client.events() == []
        async with Bench(vtn, tmp_path, ca=theirs.ca) as client:
            with pytest.raises(UnreachableError, match="is not from a CA in"):
                await client.events()


async def test_a_secret_never_goes_unencrypted_where_the_vtn_is_encrypted(tmp_path):
    ours = Authority(tmp_path)
    pair = ours.issue("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    async with serving(ScriptedVtn3(client=OURS), context) as vtn:

        async def plain(request):
            return web.json_response({"tokenURL": "http://127.0.0.1:9/token"})

        vtn.replies["auth/server"] = plain
        async with Bench(vtn, tmp_path, ca=ours.ca) as client:
            with pytest.raises(WireError, match="unencrypted"):
                await client.events()


async def test_a_proxy_is_gone_through(vtn, tmp_path):
    seen = []

    async def proxy(request):
        seen.append(str(request.url))
        return web.json_response([])

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", proxy)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        url = "http://vtn.invalid/openadr3"
        async with Bench(vtn, tmp_path, vtn_url=url, proxy=f"http://{host}:{port}") as client:
            assert await client.events() == []
    finally:
        await runner.cleanup()
    assert seen[0].startswith("http://vtn.invalid/openadr3/events")


async def test_the_vtn_witnesses_the_time(vtn, tmp_path):
    bench = Bench(vtn, tmp_path)
    async with bench as client:
        await client.events()
    assert bench.clock.witnessed
    assert abs(bench.clock.witnessed[0] - datetime.now(UTC)) < timedelta(minutes=5)


async def test_one_huge_number_is_no_reason_to_lose_a_page(vtn, tmp_path):
    async def huge(request):
        return web.Response(body=b'[{"id": "a", "priority": ' + b"9" * 6000 + b'}, {"id": "b"}]')

    vtn.replies["events"] = huge
    async with Bench(vtn, tmp_path) as client:
        assert [e["id"] for e in await client.events()] == ["a", "b"]
