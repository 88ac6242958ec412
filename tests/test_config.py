"""Every fault in a configuration is one line that names the key's path and what is allowed."""

import re
import tomllib
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from agent import units
from agent.config import Config, load, parse
from agent.configured import others_contexts, policy_of, programs_of
from agent.core.program import DropBy, DropByShare, DropTo
from agent.errors import ConfigError
from agent.openadr.v20a.settings import Ven20aSettings
from agent.remarks import remarks
from drivers.jobs.slurm.driver import SlurmJobs

EXAMPLE = tomllib.loads(files("agent").joinpath("example.toml").read_text())


def changed(path: str, value: object) -> dict:
    """The example with one key set: `site.max_import`, `workload.0.tier`; None removes it."""
    document = tomllib.loads(files("agent").joinpath("example.toml").read_text())
    *parents, last = path.split(".")
    table = document
    for part in parents:
        table = table[int(part)] if part.isdigit() else table.setdefault(part, {})
    if value is None:
        del table[last]
    else:
        table[last] = value
    return document


def faults(document: dict) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(document)
    return str(caught.value)


def test_the_example_is_valid_and_means_what_it_says():
    config = parse(EXAMPLE)
    policy, (program,) = policy_of(config), programs_of(config)
    assert policy.max_import_w == 400_000
    assert policy.slew_up_w_per_s == pytest.approx(200_000 / 60)
    assert program.levels == {1: DropByShare(0.1), 2: DropByShare(0.25), 3: DropTo(120_000.0)}
    assert [rule.terms.tier for rule in policy.rules] == [0, 3, 3]


def keys(model: type[BaseModel], path: str = "") -> set[str]:
    found = set()
    for name, field in model.model_fields.items():
        key = f"{path}{field.alias or name}"
        found.add(key)
        for inner in tables_in(field.annotation):
            found |= keys(inner, f"{key}.")
    return found


def tables_in(annotation: object) -> list[type[BaseModel]]:
    """The tables that a key may hold, one or several, of one kind or several."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [table for inner in get_args(annotation) for table in tables_in(inner)]


def test_the_example_shows_every_key():
    text = files("agent").joinpath("example.toml").read_text()
    for key in keys(Config):
        name = key.rsplit(".", 1)[-1]
        shown = (f"\n{name} =", f"\n# {name} =", f"[{key}]", f"[[{key}]]")
        assert any(each in text for each in shown), key


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("site.max_import", 400, 'site.max_import: must be a power with its unit, like "120 kW"'),
        ("site.max_import", "400", "site.max_import: must be a power with its unit"),
        ("site.max_import", "400 kV", "site.max_import: must be a power"),
        ("site.max_import", "0 kW", "site.max_import: must be more than 0"),
        ("site.max_import", None, "site.max_import: is required"),
        ("site.maximport", "1 kW", "site.maximport: unknown key; did you mean site.max_import?"),
        ("log.colour", "red", "log.colour: unknown key; allowed: format, level"),
        (
            "workload.0.klass",
            "batch",
            "workload[0].klass: unknown key; did you mean workload[0].class",
        ),
        (
            "jobs.0.job.0.gpu",
            [],
            "jobs[0].job[0].gpu: unknown key; did you mean jobs[0].job[0].gpus?",
        ),
        ("site.state_dir", "", "site.state_dir: must be an absolute path"),
        ("site.state_dir", "state", "site.state_dir: must be an absolute path"),
        (
            "site.state_dir",
            "/etc/passwd",
            "site.state_dir: /etc/passwd exists and is not a directory",
        ),
        ("site.control_socket", "x.sock", "site.control_socket: must be an absolute path"),
        ("site.control_socket", "/etc", "site.control_socket: /etc exists and is not a socket"),
        ("site.name", 3, "site.name: must be a text in quotes"),
        ("site.name", "", "site.name: must not be empty"),
        ("site", [{}], "site: there is one only: write [site], not [[site]]"),
        ("ven", {}, "ven: there may be several: write [[ven]], not [ven]"),
        ("jobs", {}, "jobs: there may be several: write [[jobs]], not [jobs]"),
        ("jobs.0.job", {}, "jobs[0].job: there may be several: write [[jobs.job]], not [jobs.job]"),
        ("ven.0.market_contexts", "x", 'ven[0].market_contexts: must be a list, like ["a", "b"]'),
        ("ven.0.poll_s", "10 s", "ven[0].poll_s: must be a number of seconds, without quotes"),
        ("ven.0.mains_hz", 50.5, "ven[0].mains_hz: must be a whole number of hertz"),
        ("ven.0.timeout_s", True, "ven[0].timeout_s: must be a number of seconds"),
        ("meter.base_load_w", "12 kW", "meter.base_load_w: must be a number of watts, without"),
        ("meter.pue", "1.2", "meter.pue: must be a number, without quotes"),
        ("workload.0.may_pause", "no", "workload[0].may_pause: must be true or false, without"),
        ("workload.0.name", None, "workload[0].name: is required"),
        ("workload.1.max_pause", "0 min", "workload[1].max_pause: must be more than 0; may_pause"),
        ("program.0.firm", "no", "program[0].firm: must be true or false, without quotes"),
        ("program.0.levels.high", "drop by 1 %", "program[0].levels.high: the key must be a whole"),
        ("program.0.levels.0", "drop by 1 %", "program[0].levels.0: levels count from 1"),
        ("program.0.levels.-1", "drop by 1 %", "program[0].levels.-1: levels count from 1"),
        ("blackout.0.start", "soon", "blackout[0].start: must be a date and time with an offset"),
        ("web.listen", "9430", "web.listen: must be an IP address and a port, like 127.0.0.1:9430"),
        ("web.listen", "host:1", "web.listen: must be an IP address and a port, like"),
        (
            "site.control_socket",
            "/run/" + 103 * "x",
            "site.control_socket: must be a path of at most",
        ),
        ("sight", {}, "sight: unknown key"),
        ("site.min_import", "500 kW", "site.min_import must not exceed site.max_import"),
        ("workload.0.tier", 4, "workload[0].tier: must be at most 3"),
        ("workload.1.class", "batsch", "workload[1].class: must be 'real-time'"),
        ("workload.1.max_pause", "8", "workload[1].max_pause: must be a duration with its unit"),
        ("workload.1.weight", float("nan"), "workload[1].weight"),
        ("program.0.levels.2", "less", "program[0].levels.2: must be like"),
        ("program.0.margin", "120 %", "program[0].margin: must be a share"),
        ("program.0.telemetry", "500 ms", "program[0].telemetry: must be 1 s or more"),
        ("governor.slew_up", "200 kW", "governor.slew_up: must be a power over a time"),
        ("gpu.kind", "nvmll", "gpu.kind 'nvmll' is not known; allowed: nvml, sim"),
        ("gpu.kind", None, "gpu.kind is missing; allowed"),
        ("gpu.timeout_s", -1, "gpu.timeout_s"),
        ("gpu.timout", 1, "gpu.timout: unknown key"),
        ("jobs.0.job.0.pid_file", "/run/x.pid", "jobs[0].job[0]"),
        ("meter.pue", 0.5, "meter.pue"),
        ("ven.0.vtn_url", "vtn.example", "ven[0].vtn_url: must be like"),
        ("ven.0.vtn_url", "https://vtn.example:84443/2.0b", "ven[0].vtn_url: must be like"),
        ("ven.0.vtn_url", "https://vtn.example:https/2.0b", "ven[0].vtn_url: must be like"),
        ("ven.0.cert", "/nowhere/ven.crt", "ven[0]"),
        ("web.listen", "0.0.0.0:9430", "web: listening on 0.0.0.0:9430 is open to the network"),
        ("web.listen", "localhost", "web.listen"),
        ("web.token_file", "/nowhere/token", "web.token_file: /nowhere/token cannot be read"),
        ("blackout.0.end", "2026-12-23T00:00:00Z", "blackout[0]: end must be after start"),
        ("log.level", "loud", "log.level"),
    ],
)
def test_a_fault_names_the_key_and_what_is_allowed(path, value, expected):
    assert expected in faults(changed(path, value))


def test_no_fault_speaks_the_validators_language():
    wrong = {"a": [1]}
    for path in keys(Config):
        table, _, rest = path.partition(".")
        place = f"{table}.0.{rest}" if table in ("ven", "program", "workload", "blackout") else path
        said = faults(changed(place, wrong))
        assert not re.search("Input|Field required|Extra inputs|Value error|unable", said), said


def test_all_faults_are_told_at_once_a_line_each():
    document = changed("site.max_import", "lots")
    document["gpu"]["kind"] = "x"
    document["workload"][0]["tier"] = 9
    lines = faults(document).splitlines()
    assert len(lines) == 3


def test_two_vens_of_one_name_are_a_fault():
    document = changed("site.name", "x")
    document["ven"].append(dict(document["ven"][0]))
    assert "ven.name: 'utility' is used twice" in faults(document)


def test_the_faults_of_a_webhook_say_which_of_its_keys():
    document = changed("site.name", "x")
    hook = {"listen": "0.0.0.0:9443", "url": "https://site.example.com/"}
    ven = {"kind": "openadr-3", "name": "grid", "vtn_url": "https://vtn.example.com/"}
    document["ven"].append({**ven, "webhook": hook})
    assert "ven[1].webhook: listening on 0.0.0.0:9443 needs cert and key" in faults(document)
    hook |= {"listen": "here", "url": "http://site.example.com/"}
    assert faults(document).splitlines() == [
        "ven[1].webhook.listen: must be an IP address and a port, like 127.0.0.1:9430",
        "ven[1].webhook.url: must be like https://site.example.com:9443/grid",
    ]


AGGREGATOR = {
    "kind": "openadr-2.0a",
    "name": "aggregator",
    "vtn_url": "https://vtn.aggregator.example/OpenADR2/Simple",
    "ven_id": "ven-0815",
}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("kind", "openadr-2.0", "ven[1].kind: must be one of 'openadr-2.0b', 'openadr-2.0a'"),
        ("kind", None, "ven[1].kind: is required"),
        ("kind", 3, "ven[1].kind: must be one of 'openadr-2.0b', 'openadr-2.0a'"),
        ("ven_id", None, "ven[1].ven_id: is required"),
        ("poll", 3.0, "ven[1].poll: unknown key; did you mean ven[1].poll_s?"),
        ("mains_hz", 50, "ven[1].mains_hz: unknown key; allowed: kind, name, vtn_url, ven_id"),
        ("poll_s", "1 min", "ven[1].poll_s: must be a number of seconds, without quotes"),
        ("vtn_url", "x", "ven[1].vtn_url: must be like https://vtn.example.com/OpenADR2/Simple"),
        ("name", "utility", "ven.name: 'utility' is used twice"),
        ("cert", "/etc/hostname", "ven[1]: cert and key go together"),
    ],
)
def test_a_fault_in_a_table_of_another_kind_is_told_alike(key, value, expected):
    table = {k: v for k, v in {**AGGREGATOR, key: value}.items() if v is not None}
    said = faults({**EXAMPLE, "ven": [*EXAMPLE["ven"], table]})
    assert expected in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("of_tls", [{"cert": "c", "key": "k"}, {"ca": "a"}, {"vtn_host": "h"}])
def test_what_is_meant_for_tls_is_a_fault_without_it(of_tls):
    """Else what was meant to be secret would go in the clear for want of one letter."""
    for table in ({**EXAMPLE["ven"][0], **of_tls}, {**AGGREGATOR, **of_tls}):
        plain = table["vtn_url"].replace("https:", "http:")
        said = faults({**EXAMPLE, "ven": [{**table, "vtn_url": plain}]})
        key = next(iter(of_tls))
        assert said.endswith(f"ven[0]: {key} is for TLS, for which vtn_url must begin with https:")


def test_the_examples_aggregator_is_valid():
    text = files("agent").joinpath("example.toml").read_text()
    block = text[text.index("# [[ven]]") :].split("\n\n")[0]
    keys = [line[2:] for line in block.splitlines() if re.match(r"# (\[\[ven|\w+ =)", line)]
    (table,) = tomllib.loads("\n".join(keys))["ven"]
    assert set(table) > set(AGGREGATOR)
    _, ven = parse({**EXAMPLE, "ven": [*EXAMPLE["ven"], table]}).ven
    assert isinstance(ven, Ven20aSettings)


def test_a_program_may_be_one_vens_alone_and_two_may_then_share_a_market_context():
    fast = EXAMPLE["program"][0]
    both = [{**fast, "ven": "utility"}, {**fast, "name": "other", "ven": "aggregator"}]
    document = {**EXAMPLE, "ven": [*EXAMPLE["ven"], AGGREGATOR], "program": both}
    assert [program.ven for program in programs_of(parse(document))] == ["utility", "aggregator"]
    both[1]["ven"] = "utility"
    assert "program.market_context: 'http://utility.example/fast-dr' is used twice" in faults(
        document
    )
    both[1]["ven"] = "agregator"
    assert "program[1].ven: no [[ven]] is called 'agregator'" in faults(document)


def test_a_market_context_that_only_another_ven_lists_is_not_ones_own():
    others = [{**AGGREGATOR, "name": "b", "market_contexts": ["x", "y"]}, {**AGGREGATOR}]
    config = parse({**EXAMPLE, "ven": [*EXAMPLE["ven"], *others]})
    utility = EXAMPLE["ven"][0]["market_contexts"]
    assert others_contexts(config, "aggregator") == {"x", "y", *utility}
    assert others_contexts(config, "b") == set(utility)
    assert others_contexts(config, "utility") == {"x", "y"}


def test_two_programs_of_one_market_context_are_a_fault():
    document = changed("site.name", "x")
    document["program"].append({**document["program"][0], "name": "other"})
    assert "program.market_context: 'http://utility.example/fast-dr' is used twice" in faults(
        document
    )


def test_a_job_of_two_engines_is_a_fault():
    document = changed("site.name", "x")
    document["jobs"].append({"kind": "cgroup", "job": [{"name": "sweep", "cgroup": "x"}]})
    assert "jobs[1]: job 'sweep' is in jobs[0], too" in faults(document)


def test_two_slurm_clusters_are_a_fault():
    """Their jobs have the same numbers."""
    document = changed("site.name", "x")
    document["jobs"] = [{"kind": "slurm"}, {"kind": "slurm", "state_file": "/x/slurm.json"}]
    assert "jobs[1]: jobs[0] is of kind 'slurm', too: one cluster at most" in faults(document)


def test_the_examples_slurm_is_valid_and_shows_every_key():
    text = files("agent").joinpath("example.toml").read_text()
    block = next(b for b in text.split("\n\n") if '# kind = "slurm"\n' in b)
    lines = [line.removeprefix("# ") for line in block.splitlines()]
    (table,) = tomllib.loads("\n".join(lines[lines.index("[[jobs]]") :]))["jobs"]
    assert set(table) == set(SlurmJobs.Settings.model_fields)
    parse({**EXAMPLE, "jobs": [table]})


def test_the_example_leaves_nothing_to_remark():
    assert list(remarks(parse(EXAMPLE))) == []


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (
            "ven.0.vtn_url",
            "http://vtn.example/x",
            "ven utility: http://vtn.example/x is not encrypted",
        ),
        (
            "ven.0.market_contexts",
            ["other"],
            "program fast-dr: no [[ven]] takes events of its market",
        ),
        ("program.0.levels.5", "drop by 1 %", "program fast-dr: SIMPLE has no level 5"),
        ("program.0.levels.1", "drop to 400 kW", "level 1, drop to 400 kW, sheds nothing"),
        ("program.0.emergency", "drop to 1 MW", "fast-dr: emergency, drop to 1 MW, sheds nothing"),
        ("site.min_import", "130 kW", "level 3, drop to 120 kW, is not gone down to: site.min_im"),
        ("program.0.levels.2", "drop by 5 %", "fast-dr: level 2 asks for less than level 1"),
        ("program.0.telemetry", "2 d", "telemetry every 172800 s, and VEN utility offers 1 s"),
        ("workload.1.tier", 0, "workload *: tier 0 with may_pause"),
        ("workload.2.class", "training", "workload nightly-*: training that is paused for 8 min"),
    ],
)
def test_what_is_seldom_meant_is_noted(path, value, expected):
    notes = list(remarks(parse(changed(path, value))))
    assert len(notes) == 1
    assert expected in notes[0]


def test_telemetry_that_a_ven_cannot_give_is_noted():
    document = changed("program.0.telemetry", "1 min")
    document["program"][0]["market_context"] = "*"
    document["ven"].append(AGGREGATOR)
    [note] = remarks(parse(document))
    assert "program fast-dr wants telemetry, and VEN aggregator has none" in note
    document["program"][0]["ven"] = "utility"
    assert list(remarks(parse(document))) == []


@pytest.mark.parametrize(("version", "notes"), [("3.0.1", 0), ("3.1.0", 1)])
def test_a_change_whose_sign_can_hardly_be_meant_is_noted(version, notes):
    """3.1.0's enumeration has DISPATCH_SETPOINT_RELATIVE begin at 0."""
    vtn = {"kind": "openadr-3", "name": "grid", "vtn_url": "https://vtn.example"}
    document = changed("ven", [{**vtn, "version": version}])
    del document["program"][0]["change"]
    said = [note for note in remarks(parse(document)) if "DISPATCH_SETPOINT_RELATIVE" in note]
    assert len(said) == notes
    document["program"][0]["change"] = "signed"
    assert not [note for note in remarks(parse(document)) if "DISPATCH_SETPOINT_RELATIVE" in note]


def test_a_program_of_a_ven_that_does_not_listen_for_it_is_noted():
    document = changed("program.0.ven", "utility")
    assert list(remarks(parse(document))) == []
    document["ven"].append({**AGGREGATOR, "market_contexts": ["http://elsewhere.example"]})
    document["program"][0]["ven"] = "aggregator"
    [note] = remarks(parse(document))
    assert "program fast-dr: no [[ven]] takes events of its market context http://ut" in note


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("ven.0.vtn_url", "http://localhost/x"),
        ("ven.0.vtn_url", "http://[::1]/x"),
        ("ven.0.market_contexts", []),
        ("program.0.market_context", "*"),
        ("workload.1.class", "training"),
    ],
)
def test_what_is_meant_is_not_noted(path, value):
    assert list(remarks(parse(changed(path, value)))) == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"[site\n", "not TOML"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_understood_is_one_sentence(tmp_path, content, expected):
    path = tmp_path / "agent.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=expected):
        load(path)


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"nowhere\.toml: No such file"):
        load(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(
    ("text", "watts"), [("120 kW", 120e3), ("1.5MW", 1.5e6), ("0 W", 0.0), ("750W", 750.0)]
)
def test_powers(text, watts):
    assert units.parse_power(text) == watts


@pytest.mark.parametrize(
    "text", ["", "12", "kW", "-5 kW", "1e3 kW", "nan kW", "inf kW", 5, None, "5 kw"]
)
def test_what_is_no_power(text):
    with pytest.raises(ValueError, match="must be a power"):
        units.parse_power(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90.0), ("15 min", 900.0), ("1.5 h", 5400.0), ("250 ms", 0.25)]
)
def test_durations(text, seconds):
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "ask"),
    [
        ("drop by 25 %", DropByShare(0.25)),
        ("Drop by 80 kW", DropBy(80_000.0)),
        ("drop to 300 kW", DropTo(300_000.0)),
    ],
)
def test_asks(text, ask):
    assert units.parse_ask(text) == ask


@given(st.text())
def test_no_text_breaks_a_parser(text):
    for parse_text in (
        units.parse_power,
        units.parse_duration,
        units.parse_share,
        units.parse_slew,
        units.parse_ask,
    ):
        with suppress(ValueError):
            parse_text(text)
