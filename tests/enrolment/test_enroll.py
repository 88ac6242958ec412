"""`flexload enroll`: what it does, says and returns, each time it is run."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from agent.cli import main
from agent.demo.site import SPEC, configuration
from agent.store.database import peek
from agent.store.facts import Facts
from agent.store.registrations import Registration, Registrations, registration_in
from agent.store.state import open_state
from drivers.sim.site import SimSite
from tests.cli.test_cli import run, toml
from tests.openadr.pki import DAY, Authority
from tests.openadr.vtn import free_port

pytestmark = pytest.mark.openadr2

URL = "https://localhost:9/OpenADR2/Simple/2.0b"


@pytest.fixture
def site(tmp_path):
    """A configuration of a simulated site whose VEN has its files still to come."""
    folder = tmp_path / "site"
    folder.mkdir()
    SimSite.create(folder / "site.json", SPEC)
    return folder


def config(site: Path, *, url: str = URL, tls: bool = True, **changes) -> Path:
    document = configuration(site, url, "127.0.0.1:0")
    document["ven"][0]["ven_name"] = "hall"
    if tls:
        files = {"key": str(site / "ven.key"), "cert": str(site / "ven.crt")}
        document["ven"][0].update(files)
    document["ven"][0].update(changes)
    path = site / "agent.toml"
    path.write_text(toml(document))
    return path


def certify(site: Path, authority: Authority, **terms) -> None:
    """The utility's part: sign the request."""
    request = x509.load_pem_x509_csr((site / "ven.csr").read_bytes())
    certificate = authority.certify(request.subject, request.public_key(), **terms)
    (site / "ven.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def enroll(path: Path, capsys, *more: object) -> tuple[int, str]:
    """The exit status, and what it says, without the breaks of long lines."""
    status = run("enroll", "--config", path, *more)
    return status, capsys.readouterr().out.replace("\n" + " " * 21, " ")


def last_words(said: str) -> str:
    return said[said.rindex("\n\n") :].strip()


def test_each_run_does_what_is_left_and_says_what_is_next(site, tmp_path, capsys):
    path = config(site)
    status, said = enroll(path, capsys, "--offline")
    assert status == 1
    assert "ven.key, ECC P-256, made just now" in said
    assert "ven.csr, for hall, made just now" in said
    assert last_words(said).splitlines() == [
        f"next    send {site}/ven.csr and the sheet to the utility;",
        f"        put the certificate that it returns at {site}/ven.crt,",
        "        and run this command again",
    ]
    key = (site / "ven.key").read_bytes()
    status, again = enroll(path, capsys, "--offline")
    assert status == 1
    assert "made just now" not in again
    certify(site, Authority(tmp_path))
    status, said = enroll(path, capsys, "--offline")
    assert status == 0
    assert re.search(r"ok    fingerprint  ([0-9A-F]{2}:){9}[0-9A-F]{2}\n", said)
    assert '"hall" by "test ca"' in said
    assert last_words(said) == "next    this command without --offline, to try the connection"
    assert (site / "ven.key").read_bytes() == key


def test_where_nothing_is_configured_it_says_which_two_lines_to_add(site, capsys):
    path = config(site, tls=False)
    status, said = enroll(path, capsys, "--offline")
    assert status == 1
    assert 'cert = "/etc/flexload/ven.crt"\n        key = "/etc/flexload/ven.key"' in said
    path = config(site, tls=False, url="http://127.0.0.1:9/x")
    status, said = enroll(path, capsys, "--offline")
    assert status == 0
    assert "none is needed: vtn_url is http://" in said


def test_a_certificate_for_another_key_or_out_of_time(site, tmp_path, capsys):
    path, authority = config(site), Authority(tmp_path)
    enroll(path, capsys, "--offline")
    for terms, expected in (
        ({"begins": -9 * DAY, "expires": -DAY}, "FAIL  valid        it expired on 20"),
        ({"begins": DAY}, "FAIL  valid        not before 20"),
    ):
        certify(site, authority, **terms)
        assert expected in enroll(path, capsys, "--offline")[1]
    (site / "ven.crt").write_bytes(authority.issue("other").cert.read_bytes())
    status, said = enroll(path, capsys, "--offline")
    assert status == 1
    assert f"{site}/ven.crt is for another key than {site}/ven.key" in said
    (site / "ven.crt").write_text("nonsense")
    assert "ven.crt holds no certificate" in enroll(path, capsys, "--offline")[1]


@pytest.mark.parametrize("expires", [-DAY, 9 * DAY])
def test_the_request_for_the_next_certificate_is_made_in_time(site, tmp_path, capsys, expires):
    path = config(site)
    enroll(path, capsys, "--offline")
    certify(site, Authority(tmp_path), begins=-99 * DAY, expires=expires)
    (site / "ven.csr").unlink()
    _, said = enroll(path, capsys, "--offline")
    words = " ".join(said.split())
    assert f"send {site}/ven.csr to the utility again" in words
    assert f"put what it returns in place of {site}/ven.crt" in words
    certify(site, Authority(tmp_path))
    assert "again" not in enroll(path, capsys, "--offline")[1]


def test_rsa_where_a_utility_wants_it(site, capsys):
    _, said = enroll(config(site), capsys, "--offline", "--key-type", "rsa")
    assert "RSA 2048, made just now" in said


def test_systemds_credentials_are_made_where_they_are_kept(site, tmp_path, capsys):
    shown = "/run/credentials/flexload.service"
    path = config(site, key=f"{shown}/ven.key", cert=f"{shown}/ven.crt")
    status, said = enroll(path, capsys, "--offline")
    assert status == 1
    assert "--credentials /etc/flexload/credentials" in said
    kept = tmp_path / "kept"
    kept.mkdir()
    _, said = enroll(path, capsys, "--offline", "--credentials", kept)
    assert (kept / "ven.key").exists()
    assert f"put the certificate that it returns at {kept}/ven.crt" in said


def test_several_vens_are_told_apart(site, capsys):
    path = config(site)
    path.write_text(
        path.read_text() + '[[ven]]\nkind = "openadr-2.0b"\nname = "second"\n'
        'vtn_url = "http://127.0.0.1:9/x"\n'
    )
    assert run("enroll", "--config", path, "--offline") == 2
    assert "say which with --ven, one of demo-ven, second" in capsys.readouterr().err
    assert run("enroll", "--config", path, "--offline", "--ven", "third") == 2
    assert "there is no VEN 'third', only demo-ven, second" in capsys.readouterr().err
    assert run("enroll", "--config", path, "--offline", "--ven", "second") == 0


def test_openadr_3_has_nothing_to_enrol(site, capsys):
    path = config(site)
    path.write_text(
        path.read_text() + '[[ven]]\nkind = "openadr-3"\nname = "third"\n'
        'vtn_url = "http://127.0.0.1:9/x"\n'
    )
    assert run("enroll", "--config", path, "--offline", "--ven", "third") == 2
    assert "VEN third speaks OpenADR 3" in capsys.readouterr().err
    assert enroll(path, capsys, "--offline")[1].startswith("VEN demo-ven")


def test_a_configuration_without_a_ven(site, capsys):
    path = config(site)
    text = path.read_text()
    path.write_text(text[: text.index("[[ven]]")] + text[text.index("[[program]]") :])
    assert run("enroll", "--config", path) == 2
    assert "no [[ven]]" in capsys.readouterr().err


def test_the_sheet_is_measured_and_written_for_people(site, capsys):
    path = config(site, ven_id="ven-0815")
    enroll(path, capsys, "--offline")
    _, said = enroll(path, capsys, "--sheet", site / "sheet.md")
    assert "connection" in said
    assert "# demo: enrolment sheet" not in said
    sheet = (site / "sheet.md").read_text()
    assert sheet.startswith("# demo: enrolment sheet\n")
    for expected in (
        "- VEN name:        hall",
        "- venID:           ven-0815",
        "- profile:         OpenADR 2.0b, HTTP pull (simpleHttp)",
        "| 0    | as it is         | chat ",
        "## Program fast-dr",
        "- SIMPLE 3:       at most 18 kW",
        "| TELEMETRY_USAGE  | usage, Mean      | W     | 1 s to 24 h | site-power, gpus-power ",
        "| TELEMETRY_STATUS | x-resourceStatus | state | 1 s to 24 h | site-status, gpus-status ",
    ):
        assert expected in sheet
    assert re.search(r"[0-9.]+ kW of [0-9.]+ kW could be shed at this moment\.", sheet)
    assert max(map(len, sheet.splitlines())) <= 120
    for table in re.findall(r"(?:^\|.*\n)+", sheet, re.MULTILINE):
        assert len({len(line) for line in table.splitlines()}) == 1, "aligned"


def test_the_sheet_as_json_is_all_that_standard_output_gets(site, capsys):
    path = config(site)
    run("enroll", "--config", path, "--json")
    captured = capsys.readouterr()
    sheet = json.loads(captured.out)
    assert "key and certificate" in captured.err
    assert sheet["ven_name"] == "hall"
    assert sheet["fingerprint"] == ""
    tiers = {tier["tier"]: tier for tier in sheet["tiers"]}
    assert tiers[0]["caps_w"] == tiers[0]["pauses_w"] == 0
    assert 0 < tiers[3]["caps_w"] < tiers[3]["pauses_w"]
    assert tiers[1]["caps_w"] == tiers[1]["pauses_w"]
    total = sum(tier["pauses_w"] for tier in tiers.values())
    assert total == pytest.approx(sheet["shed_w"], rel=0.02)
    assert {point["r_id"] for point in sheet["telemetry"]} >= {"site-power", "site-energy"}


def test_the_sheet_has_each_programs_own_notice_and_telemetry(site, capsys):
    path = config(site)
    text = path.read_text().replace("[policy]", '[policy]\nmin_notice = "5 min"')
    path.write_text(text)
    _, said = enroll(path, capsys, "--offline")
    assert "- notice:         5 min" in said
    assert "- telemetry:" not in said
    own = '[[program]]\nmin_notice = "30 min"\ntelemetry = "15 min"'
    path.write_text(text.replace("[[program]]", own))
    _, said = enroll(path, capsys, "--offline")
    assert "- notice:         30 min" in said
    assert "- telemetry:      every 15 min, as the program wants it" in said


def test_offline_reaches_no_driver_and_says_so(site, capsys):
    path = config(site)
    (site / "site.json").unlink()
    _, said = enroll(path, capsys, "--offline")
    assert "Not measured: not asked for (--offline)." in said
    assert "| 3    | 50 % slower      | embed " in said
    _, said = enroll(path, capsys)
    assert "Not measured: drivers: " in said


def test_the_connection_is_tried_as_far_as_there_is_something_to_show(site, tmp_path, capsys):
    path = config(site, url=f"https://localhost:{free_port()}/x", ca=str(site / "ca.crt"))
    _, said = enroll(path, capsys)
    assert f"todo  CA           {site}/ca.crt is not there yet" in said
    (site / "ca.crt").write_bytes(Authority(tmp_path).ca.read_bytes())
    status, said = enroll(path, capsys)
    assert status == 1
    assert "FAIL  TCP          127.0.0.1:" in said


def test_a_sheet_that_cannot_be_written_is_one_sentence(site, capsys):
    path = config(site)
    assert run("enroll", "--config", path, "--offline", "--sheet", site) == 1
    assert (
        capsys.readouterr().err == f"flexload: --sheet: {site} cannot be written: Is a directory\n"
    )


def test_what_it_prints_is_plain_and_fits(site):
    path = config(site)
    done = subprocess.run(
        [sys.executable, "-m", "agent", "enroll", "--config", path, "--sheet", site / "sheet.md"],
        capture_output=True,
        text=True,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "200"},
    )
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    lines = done.stdout.replace(str(site), "/etc/flexload").splitlines()
    assert max(map(len, lines)) <= 100


def registered(site: Path, url: str) -> None:
    database = open_state(site)
    Registrations(database).put(
        Registration("demo-ven", "ven-7", "reg-7", "vtn-7", 30.0, vtn_url=url)
    )
    database.close()


def test_a_registration_is_seen_beside_the_agent_without_touching_anything(site, capsys):
    path = config(site)
    registered(site, URL)
    before = {file.name: file.stat().st_mtime_ns for file in site.iterdir()}
    assert registration_in(site / "state.db", "demo-ven").ven_id == "ven-7"
    assert registration_in(site / "state.db", "other") is None
    assert registration_in(site / "none.db", "demo-ven") is None
    assert {file.name: file.stat().st_mtime_ns for file in site.iterdir()} == before
    _, said = enroll(path, capsys, "--offline")
    assert "ok    registered   as 'ven-7', with VTN 'vtn-7'" in said
    assert "venID:           ven-7" in said
    assert "30 s, or what the VTN asks for" in said


def test_a_running_agents_latest_word_counts(site):
    registered(site, URL)
    database = open_state(site)
    try:
        Registrations(database).put(
            Registration("demo-ven", "ven-8", "reg-8", "vtn", 30.0, vtn_url=URL)
        )
        assert (site / "state.db-wal").exists()
        assert registration_in(site / "state.db", "demo-ven").ven_id == "ven-8"
        assert peek(site / "state.db", "SELECT count(*) FROM registrations")[0][0] == 1
    finally:
        database.close()


def test_a_registration_elsewhere_or_a_broken_store_do_not_count(site, capsys):
    path = config(site)
    registered(site, "https://elsewhere.example/x")
    assert "not yet: the agent does that" in enroll(path, capsys, "--offline")[1]
    (site / "state.db").write_text("nonsense" * 100)
    _, said = enroll(path, capsys, "--offline")
    assert "note  registered   cannot be told: " in said


def test_a_ven_that_was_taken_out_of_its_program_is_not_said_to_be_in_it(site, capsys):
    url = "http://127.0.0.1:9/x"
    path = config(site, tls=False, url=url)
    registered(site, url)
    database = open_state(site)
    left = '{"since": "2026-07-01T12:00:00Z", "by": "kim", "why": "moving out"}'
    Facts(database).put({"left demo-ven": left})
    database.close()
    _, said = enroll(path, capsys, "--offline")
    assert "registered   no: kim took it out of its program (moving out)" in said
    assert "`flexload register demo-ven` brings it back" in said


def test_check_config_points_to_it_where_a_key_is_missing(site, capsys):
    assert main(["check-config", "--config", str(config(site))]) == 2
    error = capsys.readouterr().err
    assert "ven[0].key: " in error
    assert "`flexload enroll` makes it" in error
