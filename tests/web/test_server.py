"""The HTTP server: what it answers, to whom, and with which headers."""

import asyncio
import base64
import http.client
import itertools
import json
import re
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError
from yarl import URL

from agent.core.link import Departure
from agent.core.problems import Problem, Raised, Severity
from agent.core.sample import Sample
from agent.core.site import MeterQuality
from agent.errors import ConfigError
from agent.fields import split_address
from agent.web import assets
from agent.web.credentials import server_tls
from agent.web.server import ALIVE_FOR, CHART_POINTS, HEADERS, MOST_CONNECTIONS
from agent.web.settings import WebSettings
from tests import requirement
from tests.core.build import NOON, at, event, record, s
from tests.web import pictures
from tests.web.pictures import picture, shown
from tests.web.serving import Site, samples, serving

TOKEN = "correct-horse-battery"
PATHS = ("/", "/static/main.js", "/api/v1/state", "/api/v1/events", "/api/v1/history", "/metrics")


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with serving(samples(-600, 0)) as started:
        yield started


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def token_file(tmp_path):
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    return file


async def status(client, url, **options) -> int:
    async with client.get(url, **options) as answer:
        return answer.status


def basic(user: str, password: str) -> dict[str, str]:
    """What a browser sends once its user has typed a name and a password."""
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


def raw(url: str, path: str, **headers: str) -> http.client.HTTPResponse:
    """Ask for exactly this path: other clients tidy `..` away before they send it."""
    where = URL(url)
    connection = http.client.HTTPConnection(where.host or "", where.port, timeout=5)
    connection.putrequest("GET", path, skip_host="host" in headers, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


# --- the view ------------------------------------------------------------------------------------


async def test_the_state_is_the_last_view_shown(site, client):
    view = await site.show(pictures.completed())
    async with client.get(f"{site.url}api/v1/state") as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        assert await answer.json() == view


async def test_events_are_those_of_the_view_and_all_others_whole(site, client):
    many = [record(event(event_id=f"ev-{i}", start=-3600.0 * i)) for i in range(30)]
    view = await site.show(picture(60, *many))
    async with client.get(f"{site.url}api/v1/events") as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        events = (await answer.json())["events"]
    assert [one["event_id"] for one in events] == [f"ev-{i}" for i in range(30)]
    assert all(one["signals"] and one["asks"] for one in events)
    for brief, whole in zip(view["events"], events, strict=False):
        assert brief.items() <= whole.items()


async def test_one_event_can_be_asked_for_by_its_id(site, client):
    odd = "ev 1&\u202e"
    await site.show(picture(60, record(), record(event(event_id=odd))))
    async with client.get(f"{site.url}api/v1/events", params={"event_id": odd}) as answer:
        assert [one["event_id"] for one in (await answer.json())["events"]] == [odd]
    async with client.get(f"{site.url}api/v1/events?event_id=none") as answer:
        assert (await answer.json())["events"] == []


async def test_before_the_first_cycle_there_is_no_state_and_there_are_no_events(site, client):
    async with client.get(f"{site.url}api/v1/state") as answer:
        assert answer.status == 503
        assert "no cycle" in await answer.text()
    async with client.get(f"{site.url}api/v1/events") as answer:
        assert (answer.status, await answer.json()) == (200, {"events": []})


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_nothing_can_be_changed_over_http(site, client, method):
    await site.show(pictures.holding())
    for path in PATHS:
        async with client.request(method, site.url.rstrip("/") + path) as answer:
            assert answer.status == 405


# --- headers and who may read --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        *((path, 200) for path in PATHS),
        ("/static/plotly.min.js", 200),
        ("/healthz", 200),
        ("/readyz", 200),
        ("/nowhere", 404),
        ("/static/nothing.js", 404),
        ("/api/v1/history?minutes=soon", 400),
    ],
)
async def test_every_answer_carries_the_security_headers(site, client, path, expected):
    await site.show(pictures.normal())
    async with client.get(site.url.rstrip("/") + path) as answer:
        assert answer.status == expected
        assert_hardened(answer)


async def test_the_stream_and_refusals_carry_them_too(site, client, token_file):
    async with client.get(f"{site.url}api/v1/stream") as answer:
        assert_hardened(answer)
    async with client.get(site.url, headers={"Host": "evil.example"}) as answer:
        assert answer.status == 403
        assert_hardened(answer)
    async with client.post(site.url) as answer:
        assert answer.status == 405
        assert_hardened(answer)
    async with serving(token_file=token_file) as guarded, client.get(guarded.url) as answer:
        assert answer.status == 401
        assert_hardened(answer)


async def test_an_answer_to_a_fault_of_ours_carries_them_too(site, client, monkeypatch):
    async def fail(*times):
        raise RuntimeError("made up")

    site.server._samples = fail
    async with client.get(f"{site.url}api/v1/history") as answer:
        assert answer.status == 500
        assert "made up" not in await answer.text()
        assert_hardened(answer)


def assert_hardened(answer: aiohttp.ClientResponse) -> None:
    for name, value in HEADERS.items():
        if name != "Cache-Control":
            assert answer.headers[name] == value
    assert answer.headers["Cache-Control"] in ("no-store", "no-cache")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:9430", "127.0.0.1:9430", "127.8.8.8", "[::1]", "[::1]:9430"]
)
async def test_loopback_names_are_answered(site, host):
    answer = await asyncio.to_thread(raw, site.url, "/metrics", host=host)
    assert answer.status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:9430", "127.0.0.1.evil.example", "10.0.0.1", "[fe80::1]:9430"],
)
async def test_other_names_are_refused_so_that_no_page_elsewhere_can_read_us(site, host):
    for path in PATHS:
        answer = await asyncio.to_thread(raw, site.url, path, host=host)
        assert answer.status == 403


async def test_a_token_is_taken_as_bearer_or_as_a_browsers_password(client, token_file):
    async with serving(token_file=token_file) as site:
        await site.show(pictures.normal())
        page = f"{site.url}api/v1/state"
        async with client.get(page) as answer:
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"].startswith("Basic ")
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        assert await status(client, page, headers=bearer) == 200
        assert await status(client, page, headers={**bearer, "Host": "site.example"}) == 200
        assert await status(client, page, headers=basic("anyone", TOKEN)) == 200
        for refused in (
            f"Bearer {TOKEN}x",
            "Bearer ",
            f"Digest {TOKEN}",
            "Basic !!!",
            "Basic /w==",
        ):
            assert await status(client, page, headers={"Authorization": refused}) == 401
        assert await status(client, page, headers=basic(TOKEN, "wrong")) == 401


async def test_health_needs_no_token_but_everything_else_does(client, token_file):
    async with serving(token_file=token_file) as site:
        await site.show(pictures.normal())
        for path in ("healthz", "readyz"):
            assert await status(client, site.url + path) == 200
        for path in (*PATHS, "/api/v1/stream"):
            assert await status(client, site.url.rstrip("/") + path) == 401


@pytest.mark.parametrize("listen", ["0.0.0.0:9430", "10.1.2.3:9430", "[::]:9430"])
def test_an_open_address_without_tls_and_token_is_a_configuration_error(listen, tmp_path):
    with pytest.raises(ValidationError, match="open to the network"):
        WebSettings(listen=listen)
    with pytest.raises(ValidationError, match="open to the network"):
        WebSettings(listen=listen, token_file=tmp_path)
    with pytest.raises(ValidationError, match="open to the network"):
        WebSettings(listen=listen, cert=tmp_path, key=tmp_path)
    WebSettings(listen=listen, cert=tmp_path, key=tmp_path, token_file=tmp_path)


def test_settings_that_make_no_sense_are_refused(tmp_path):
    with pytest.raises(ValidationError, match="go together"):
        WebSettings(cert=tmp_path)
    for listen in ("9430", "somewhere:9430", "127.0.0.1:http", "127.0.0.1:70000"):
        with pytest.raises(ValidationError, match="must be an IP address and a port, like"):
            WebSettings(listen=listen)


def test_localhost_is_loopback():
    assert split_address(WebSettings(listen="localhost:9430").listen) == ("127.0.0.1", 9430)


async def test_a_token_that_cannot_be_read_or_is_short_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigError, match=r"web\.token_file"):
        async with serving(token_file=tmp_path / "absent"):
            pass
    (tmp_path / "short").write_text("abc")
    with pytest.raises(ConfigError, match="fewer than 16"):
        async with serving(token_file=tmp_path / "short"):
            pass


async def test_an_address_in_use_is_a_configuration_error(site):
    with pytest.raises(ConfigError, match=r"web\.listen"):
        async with serving(listen=f"127.0.0.1:{URL(site.url).port}"):
            pass


@pytest.fixture
def certificate(tmp_path):
    """A certificate and its key."""
    if shutil.which("openssl") is None:
        requirement.missing("openssl", "openssl is not installed")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=site"
    subprocess.run(
        ["openssl", *command.split(), "-keyout", key, "-out", cert], check=True, capture_output=True
    )
    return cert, key


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("-----BEGIN CERTIFICATE-----", "holds no private key that can be used"),
        ("nonsense", "holds no private key that can be used"),
        ("another's", "is not that of the certificate in"),
    ],
)
def test_a_key_that_is_of_no_use_is_named(tmp_path, certificate, key, said):
    path = tmp_path / "other.pem"
    path.write_text(key)
    if key == "another's":
        command = "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out"
        subprocess.run(["openssl", *command.split(), path], check=True, capture_output=True)
    with pytest.raises(ConfigError, match=rf"^web\.key .*other\.pem {said}"):
        server_tls(WebSettings(cert=certificate[0], key=path))


def test_a_certificate_that_is_none_is_named(tmp_path, certificate):
    (tmp_path / "none.pem").write_text("nonsense")
    with pytest.raises(ConfigError, match=r"^web\.cert .*none\.pem holds no certificate"):
        server_tls(WebSettings(cert=tmp_path / "none.pem", key=certificate[1]))


async def test_a_certificate_makes_it_speak_tls(client, certificate):
    cert, key = certificate
    trust = ssl.create_default_context(cafile=cert)
    trust.check_hostname = False
    async with serving(cert=cert, key=key) as site:
        assert site.url.startswith("https://")
        await site.show(pictures.normal())
        assert await status(client, site.url, ssl=trust) == 200


# --- the page's files ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/static/main.js", "text/javascript"),
        ("/static/app.css", "text/css"),
        ("/static/favicon.svg", "image/svg+xml"),
        ("/static/plotly.min.js", "text/javascript"),
    ],
)
async def test_files_come_with_their_type_and_are_asked_for_once(site, client, path, kind):
    page = site.url.rstrip("/") + path
    async with client.get(page) as answer:
        assert (answer.status, answer.content_type, answer.charset) == (200, kind, "utf-8")
        tag = answer.headers["ETag"]
    async with client.get(page, headers={"If-None-Match": tag}) as answer:
        assert (answer.status, await answer.read()) == (304, b"")
        assert answer.headers["ETag"] == tag
    assert await status(client, page, headers={"If-None-Match": '"other"'}) == 200


@pytest.mark.parametrize(
    "path",
    [
        "/static/../server.py",
        "/static/..%2fserver.py",
        "/static/%2e%2e/server.py",
        "/static/%2e%2e%2fserver.py",
        "/static/..%5cserver.py",
        "/static/%2fetc%2fpasswd",
        "/static//etc/passwd",
        "/static/",
        "/static/.",
        "/static/..",
        "/static/index.html%00.js",
        "/../agent/web/server.py",
    ],
)
async def test_no_path_leads_out_of_the_pages_files(site, path):
    answer = await asyncio.to_thread(raw, site.url, path)
    assert answer.status in (400, 404)


async def test_without_the_chart_library_the_rest_is_served(site, client, monkeypatch):
    monkeypatch.setattr(assets, "plotly_script", lambda: None)
    assert await status(client, f"{site.url}static/plotly.min.js") == 404
    assert await status(client, site.url) == 200


def test_the_page_refers_to_nothing_but_its_own_files():
    page = (assets.STATIC / "index.html").read_text()
    for file in assets.STATIC.iterdir():
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text
        assert "https://" not in text
    assert " style=" not in page
    assert " onclick=" not in page


def test_the_marks_that_keep_the_chart_library_from_styling_the_page_fit_its_version():
    page = (assets.STATIC / "index.html").read_text()
    script = assets.plotly_script()
    assert script is not None
    library = script.read_text(encoding="utf-8")
    assert '"plotly.js-style-"+' in library
    assert ".no-inline-styles" in library
    assert 'id="plotly.js-style-global"' in page
    (mark,) = (word[4:-2] for word in page.split() if word.startswith('id="') and len(word) > 60)
    assert f'getElementById("{mark}")' in library


# --- history -------------------------------------------------------------------------------------


async def history(site, client, query):
    async with client.get(f"{site.url}api/v1/history{query}") as answer:
        assert answer.status == 200
        return await answer.json()


async def test_history_is_columns_of_the_stretch_asked_for(site, client):
    columns = await history(site, client, "?minutes=1")
    assert set(columns) == {"at", "power_w", "ceiling_w"}
    assert len(columns["at"]) == len(columns["power_w"]) == len(columns["ceiling_w"]) == 60
    assert columns["at"][0] == (NOON - s(60)).timestamp()
    assert columns["ceiling_w"][0] == 35_000.0
    assert len((await history(site, client, ""))["at"]) == 600


async def test_history_is_thinned_to_what_a_chart_can_show(client):
    async with serving(samples(-20_000, 0)) as site:
        columns = await history(site, client, "?minutes=360")
    assert CHART_POINTS / 2 < len(columns["at"]) <= CHART_POINTS
    steps = [later - one for one, later in itertools.pairwise(columns["at"])]
    widest = 2 * 20_000 / len(columns["at"])
    assert 0 < min(steps) <= max(steps) < widest


async def test_a_spike_of_one_second_survives_the_thinning(client):
    spike = Sample(at(-12_345), 99_000.0, MeterQuality.GOOD, 35_000.0)
    usual = [sample for sample in samples(-20_000, 0) if sample.at != spike.at]
    async with serving(sorted([*usual, spike], key=lambda sample: sample.at)) as site:
        columns = await history(site, client, "?minutes=360")
    assert columns["power_w"].count(99_000.0) == 1
    assert columns["at"][columns["power_w"].index(99_000.0)] == spike.at.timestamp()


@pytest.mark.parametrize("minutes", ["-5", "0", "1e9", "inf", "nan"])
async def test_history_over_odd_stretches_is_kept_within_bounds(site, client, minutes):
    columns = await history(site, client, f"?minutes={minutes}")
    assert 60 <= len(columns["at"]) <= 600


@pytest.mark.parametrize("minutes", ["soon", "", "1,5", "0x10"])
async def test_history_over_no_number_is_a_bad_request(site, client, minutes):
    assert await status(client, f"{site.url}api/v1/history?minutes={minutes}") == 400


# --- the stream ----------------------------------------------------------------------------------


async def next_view(answer: aiohttp.ClientResponse):
    """The next view on a stream; None when the stream has ended."""
    async with asyncio.timeout(5):
        lines = []
        while (line := await answer.content.readline()).strip():
            lines.append(line.decode().strip())
    if not lines:
        return None
    kind, data = lines
    assert kind == "event: state"
    return json.loads(data.removeprefix("data: "))


async def test_the_stream_gives_the_view_at_once_and_again_with_each_change(site, client):
    first = await site.show(pictures.normal())
    async with client.get(f"{site.url}api/v1/stream") as answer:
        assert answer.content_type == "text/event-stream"
        assert await next_view(answer) == first
        for seconds in (1, 2, 3):
            later = await site.show(pictures.normal(seconds))
            assert await next_view(answer) == later


async def test_a_stream_opened_before_the_first_cycle_opens_and_waits_for_it(site, client):
    async with client.get(f"{site.url}api/v1/stream") as answer:
        assert answer.status == 200
        view = await site.show(pictures.normal())
        assert await next_view(answer) == view


async def test_a_slow_reader_gets_the_newest_view_not_a_queue_of_old_ones(site, client):
    await site.show(pictures.normal())
    async with client.get(f"{site.url}api/v1/stream") as answer:
        await next_view(answer)
        for seconds in range(1, 50):
            last = await site.show(pictures.normal(seconds))
        seen = [await next_view(answer)]
        while seen[-1] != last:
            seen.append(await next_view(answer))
    assert len(seen) < 50


async def test_streams_end_when_the_server_stops(client):
    async with serving() as site:
        await site.show(pictures.normal())
        async with client.get(f"{site.url}api/v1/stream") as answer:
            await next_view(answer)
            begun = asyncio.get_running_loop().time()
            await site.server.stop()
            assert await next_view(answer) is None
            assert asyncio.get_running_loop().time() - begun < 1.0


async def test_readers_that_go_away_cost_nothing(site, client):
    await site.show(pictures.normal())
    for _ in range(5):
        async with client.get(f"{site.url}api/v1/stream") as answer:
            await next_view(answer)
    await site.show(pictures.normal(1))
    assert await status(client, site.url) == 200


# --- metrics and health --------------------------------------------------------------------------


async def scraped(site, client) -> str:
    async with client.get(f"{site.url}metrics") as answer:
        assert (answer.status, answer.content_type) == (200, "text/plain")
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return await answer.text()


async def test_metrics_parse_and_agree_with_the_view(site, client):
    view = await site.show(pictures.holding())
    families = {
        family.name: family
        for family in text_string_to_metric_families(await scraped(site, client))
    }
    assert all(name.startswith("flexload_") for name in families)
    value = {name: family.samples[0].value for name, family in families.items() if family.samples}
    assert value["flexload_site_power_watts"] == view["power"]["now_w"]
    assert value["flexload_site_power_target_watts"] == view["power"]["ceiling_w"]
    assert value["flexload_setpoints"] == view["setpoints"]
    assert len(families["flexload_gpu_power_watts"].samples) == len(view["gpus"])
    phases = {p.labels["phase"]: p.value for p in families["flexload_event_phase"].samples}
    assert [phase for phase, on in phases.items() if on] == [view["event"]["phase"]]


async def test_before_the_first_cycle_metrics_tell_of_the_agent_alone(site, client):
    text = await scraped(site, client)
    assert "flexload_build_info" in text
    assert "flexload_vtn_up" not in text
    assert "flexload_site_power_watts" not in text


async def test_metrics_and_view_show_the_links_of_one_cycle(site, client):
    view = await site.show(pictures.normal())
    (link,) = view["links"]
    families = text_string_to_metric_families(await scraped(site, client))
    value = {family.name: family.samples[0].value for family in families if family.samples}
    contact = datetime.fromisoformat(link["last_contact"])
    assert value["flexload_vtn_last_contact_timestamp_seconds"] == contact.timestamp()
    assert value["flexload_vtn_up"] == value["flexload_vtn_registered"] == 1


async def test_a_ven_that_left_is_shown_as_such_and_raises_no_alert(site, client):
    left = replace(pictures.LINK, registered=False, left=Departure(at(0), "kim", "moved"))
    view = await site.show(pictures.normal(), link=left)
    (link,) = view["links"]
    assert (link["left"]["by"], link["left"]["why"]) == ("kim", "moved")
    text = await scraped(site, client)
    assert "flexload_vtn_up{" not in text
    assert "flexload_vtn_registered{" not in text


async def test_metrics_pass_promtools_lint(site, client):
    promtool = shutil.which("promtool")
    if promtool is None:
        requirement.missing("promtool", "promtool is not installed")
    for of in (pictures.normal(), pictures.holding(), pictures.completed(), pictures.blind()):
        await site.show(of)
        text = await scraped(site, client)
        done = await asyncio.to_thread(
            subprocess.run, [promtool, "check", "metrics"], input=text.encode(), capture_output=True
        )
        assert (done.returncode, done.stdout + done.stderr) == (0, b"")


async def test_it_is_alive_while_the_control_loop_turns(site, client):
    page = f"{site.url}healthz"
    assert await status(client, page) == 503
    await site.show(pictures.normal())
    assert await status(client, page) == 200
    site.now = at(0) + ALIVE_FOR
    assert await status(client, page) == 200
    site.now += timedelta(milliseconds=1)
    async with client.get(page) as answer:
        assert (answer.status, await answer.text()) == (503, "stalled\n")


async def test_a_cycle_that_took_long_to_see_the_site_is_alive_once_it_is_through(site, client):
    view = shown(pictures.normal())
    site.now = at(0) + 2 * ALIVE_FOR
    await site.server.show(view)
    assert await status(client, f"{site.url}healthz") == 200
    assert await status(client, f"{site.url}readyz") == 200


async def test_it_is_not_ready_before_its_first_cycle(site, client):
    async with client.get(f"{site.url}readyz") as answer:
        assert (answer.status, await answer.text()) == (503, "not ready\n")


@pytest.mark.parametrize(
    ("key", "ready"),
    [
        ("vtn/utility", True),
        ("meter", True),
        ("gpu/GPU-1", True),
        ("blind/jobs", False),
        ("ledger", False),
        ("store/history", False),
    ],
)
async def test_what_a_restart_would_not_mend_does_not_make_it_unready(site, client, key, ready):
    raised = Raised(Problem(key, Severity.CRITICAL, "made up"), NOON)
    await site.show(replace(pictures.normal(), problems={key: raised}))
    assert await status(client, f"{site.url}readyz") == (200 if ready else 503)


async def test_readiness_lists_its_checks_when_asked(site, client):
    raised = Raised(Problem("store/history", Severity.CRITICAL, "disk full"), NOON)
    await site.show(replace(pictures.normal(), problems={raised.problem.key: raised}))
    async with client.get(f"{site.url}readyz?verbose") as answer:
        assert answer.status == 503
        assert await answer.json() == {"cycle": True, "drivers": True, "store": False}


def test_the_hand_made_site_is_what_the_tests_say():
    view = shown(pictures.holding())
    assert (len(view["gpus"]), len(view["workloads"]), view["setpoints"]) == (8, 2, 4)


async def test_the_manual_lists_every_path_and_no_other(site):
    manual = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
    chapter = manual.split("## The HTTP API")[1].split("\n## ")[0]
    listed = re.findall(r"^\| `(/[^`]*)` \|", chapter, re.MULTILINE)
    assert site.server._runner is not None
    routes = site.server._runner.app.router.resources()
    assert sorted(listed) == sorted(route.canonical for route in routes)


async def test_a_port_in_use_is_one_short_sentence(site, tmp_path):
    taken = site.url.removeprefix("http://").rstrip("/")
    with pytest.raises(ConfigError, match=f"cannot listen on {taken}: address already in use$"):
        async with serving(listen=taken):
            pass


async def test_no_flood_of_connections_keeps_others_out_or_uses_up_file_descriptors(site, client):
    host, port = URL(site.url).host, URL(site.url).port
    idle = [await asyncio.open_connection(host, port) for _ in range(2 * MOST_CONNECTIONS)]
    try:
        assert await status(client, f"{site.url}static/main.js") == 200
        ended = [await reader.read(1) for reader, _ in idle[:MOST_CONNECTIONS]]
        assert ended == [b""] * MOST_CONNECTIONS, "those that were open longest"
    finally:
        for _, writer in idle:
            writer.transport.abort()


async def test_a_token_that_is_no_text_is_refused_like_any_other(token_file, caplog):
    async with serving(samples(-60, 0), token_file=token_file) as guarded:
        reader, writer = await asyncio.open_connection("127.0.0.1", URL(guarded.url).port)
        writer.write(b"GET / HTTP/1.0\r\nAuthorization: Bearer \xff\xfe\r\n\r\n")
        answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.0 401")
    assert not caplog.records
