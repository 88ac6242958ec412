"""Every fault in a configuration is one line that names the key's path and what is allowed."""

import tomllib
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from agent import units
from agent.config import Config, load, parse, policy_of, programs_of
from agent.core.program import DropBy, DropByShare, DropTo
from agent.errors import ConfigError

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
        annotation = field.annotation
        inner = getattr(annotation, "__args__", (annotation,))[-1]
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found |= keys(inner, f"{key}.")
    return found


def test_the_example_shows_every_key():
    text = files("agent").joinpath("example.toml").read_text()
    for key in keys(Config):
        name = key.rsplit(".", 1)[-1]
        assert f"\n{name} =" in text or f"\n# {name} =" in text or f"[{name}]" in text, key


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("site.max_import", 400, 'site.max_import: must be a power with its unit, like "120 kW"'),
        ("site.max_import", "400", "site.max_import: must be a power with its unit"),
        ("site.max_import", "400 kV", "site.max_import: must be a power"),
        ("site.max_import", "0 kW", "site.max_import: Input should be greater than 0"),
        ("site.max_import", None, "site.max_import: is required"),
        ("site.maximport", "1 kW", "site.maximport: unknown key"),
        (
            "site.control_socket",
            "/run/" + 103 * "x",
            "site.control_socket: must be a path of at most",
        ),
        ("sight", {}, "sight: unknown key"),
        ("site.min_import", "500 kW", "site.min_import must not exceed site.max_import"),
        ("workload.0.tier", 4, "workload[0].tier: Input should be less than or equal to 3"),
        ("workload.1.class", "batsch", "workload[1].class: Input should be 'real-time'"),
        ("workload.1.max_pause", "8", "workload[1].max_pause: must be a duration with its unit"),
        ("workload.1.weight", float("nan"), "workload[1].weight"),
        ("program.0.levels.2", "less", "program[0].levels.2: must be like"),
        ("program.0.margin", "120 %", "program[0].margin: must be a share"),
        ("governor.slew_up", "200 kW", "governor.slew_up: must be a power over a time"),
        ("gpu.kind", "nvmll", "gpu.kind 'nvmll' is not known; allowed: nvml, sim"),
        ("gpu.kind", None, "gpu.kind is missing; allowed"),
        ("gpu.timeout_s", -1, "gpu.timeout_s"),
        ("gpu.timout", 1, "gpu.timout: unknown key"),
        ("jobs.0.job.0.pid_file", "/run/x.pid", "jobs[0].job[0]"),
        ("meter.pue", 0.5, "meter.pue"),
        ("ven.0.vtn_url", "vtn.example", "ven[0].vtn_url: must be like"),
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
