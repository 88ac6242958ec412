"""`flexload simulate`: what it plays on, what it understands, and what it says of it."""

import io
import json
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from agent import cli
from agent.config import parse
from agent.configured import programs_of
from agent.core.program import DropBy, Percent, Program
from agent.demo import event_file
from agent.demo.site import MARKET_CONTEXT
from agent.errors import ConfigError
from tests.cli.test_cli import EXAMPLES, config, run  # noqa: F401 - a fixture
from tests.clock import NOON

QUARTER = EXAMPLES / "quarter-less.json"
ROOT = EXAMPLES.parents[1]


@pytest.fixture
def unconfigured(tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "DEFAULT_CONFIG", tmp_path / "none.toml")


def event(path: Path, signal: str, *values: object, **more: object) -> Path:
    intervals = [{"duration": "10 s", "value": value} for value in values]
    path.write_text(json.dumps({"signal": signal, "intervals": intervals, **more}))
    return path


def test_without_a_configuration_it_says_that_it_plays_on_the_demos_site(unconfigured, capsys):
    assert run("simulate", QUARTER) == 0
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == "no configuration: plays on the demo's site"
    expected = "LOAD_DISPATCH multiplier, program fast-dr: 25 % below baseline for 2 min"
    assert second == f"event      {expected}"


def test_the_usual_configuration_is_taken_and_its_site_named(config, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setattr(cli, "DEFAULT_CONFIG", config)
    assert run("simulate", QUARTER) == 0
    assert capsys.readouterr().out.startswith(f"plays on a twin of demo ({config})\n")
    assert run("simulate", QUARTER, "--json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["site"] == f"plays on a twin of demo ({config})"
    assert said.err.startswith("plays on a twin of demo")


def test_a_broken_usual_configuration_is_an_error(tmp_path, monkeypatch, capsys):
    (tmp_path / "agent.toml").write_text("[site]\n")
    monkeypatch.setattr(cli, "DEFAULT_CONFIG", tmp_path / "agent.toml")
    assert run("simulate", QUARTER) == 2
    assert "is required" in capsys.readouterr().err


def test_the_documented_event_suits_the_example_configuration():
    import tomllib

    example = tomllib.loads(files("agent").joinpath("example.toml").read_text())
    programs = programs_of(parse(example))
    file = event_file.read(QUARTER)
    assert event_file.program_named(file.program, programs).name == "fast-dr"


A, B = Program("fast", "http://x/fast"), Program("slow", "http://x/slow")


@pytest.mark.parametrize("name", ["slow", "http://x/slow"])
def test_a_program_is_named_by_its_name_or_its_market_context(name):
    assert event_file.program_named(name, (A, B)) is B
    assert event_file.program_named(None, (B,)) is B


@pytest.mark.parametrize("name", [None, "quick"])
def test_a_program_that_is_not_clear_is_an_error_with_those_there_are(name):
    with pytest.raises(ConfigError, match=r"configured: fast \(http://x/fast\), slow \(http"):
        event_file.program_named(name, (A, B))


@pytest.mark.parametrize(
    ("signal", "value", "expected"),
    [
        ("LOAD_DISPATCH setpoint", 20, 'a power with its unit, like "20 kW", not 20'),
        ("LOAD_DISPATCH setpoint", "-20 kW", "a power with its unit"),
        ("LOAD_DISPATCH delta", -20, 'like "-20 kW", not -20'),
        ("LOAD_DISPATCH multiplier", -0.5, "a factor from 0 on"),
        ("LOAD_CONTROL x-loadControlCapacity", 60, "from 0 to 1"),
        ("SIMPLE level", -1, "a level of the program"),
        ("SIMPLE level", 1.5, "a level of the program"),
        ("SIMPLE level", "2 kW", "a level of the program"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused(signal, value, expected, tmp_path, capsys):
    assert run("simulate", event(tmp_path / "event.json", signal, value)) == 2
    error = capsys.readouterr().err
    assert "intervals.0.value: must be" in error
    assert expected in error


@pytest.mark.parametrize(
    ("signal", "value", "expected"),
    [
        ("LOAD_DISPATCH setpoint", "20 kW", 20_000.0),
        ("LOAD_DISPATCH delta", "-20 kW", -20_000.0),
        ("LOAD_DISPATCH multiplier", "75 %", 0.75),
        ("LOAD_CONTROL x-loadControlCapacity", "60 %", 0.6),
        ("LOAD_CONTROL x-loadControlLevelOffset", -1, -1.0),
        ("LOAD_CONTROL x-loadControlPercentOffset", "-25 %", -25.0),
    ],
)
def test_a_value_carries_its_unit(signal, value, expected):
    kind = event_file.KINDS[signal]
    assert event_file.value_of(kind, value, Percent.PERCENT) == pytest.approx(expected)


def test_a_percentage_means_the_same_whatever_the_program_counts_in():
    kind = event_file.KINDS["LOAD_CONTROL x-loadControlPercentOffset"]
    assert event_file.value_of(kind, "-25 %", Percent.FRACTION) == pytest.approx(-0.25)


def test_a_level_that_the_program_lacks_is_said(unconfigured, tmp_path, capsys):
    path = event(tmp_path / "event.json", "SIMPLE level", 7, program=MARKET_CONTEXT)
    assert run("simulate", path) == 1
    text = capsys.readouterr().out
    assert "nothing (program fast-dr has no level 7, its levels: 1, 2, 3)" in text
    assert event_file.understood(
        event_file.event_of(
            event_file.EventFile.model_validate_json(
                '{"signal": "SIMPLE level", "intervals": [{"duration": "1 min", "value": 0}]}'
            ),
            Program("p", "p", {1: DropBy(1.0)}),
            NOON,
        ),
        Program("p", "p", {1: DropBy(1.0)}),
        1.0,
    ) == ["nothing for 60 s"]


def test_a_long_event_says_how_far_it_is_and_no_problem_of_the_twins(
    unconfigured, tmp_path, capsys
):
    path = event(tmp_path / "event.json", "LOAD_DISPATCH multiplier", 0.2, starts_in="10 min")
    assert run("simulate", path) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "UTC  Event what-if" in lines[0]


def test_the_manual_lists_every_key_and_signal():
    manual = (ROOT / "docs" / "simulate.md").read_text()
    keys = [*event_file.EventFile.model_fields, *event_file.IntervalFile.model_fields]
    missing = [name for name in (*keys, *event_file.KINDS) if name not in manual]
    assert missing == []


def test_a_terminal_that_knows_few_characters_gets_the_rest_replaced(
    config,  # noqa: F811
    monkeypatch,
):
    config.write_text(config.read_text().replace('"name" = "demo"', '"name" = "Süd"', 1))
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert run("simulate", QUARTER, "--config", config) == 0
    terminal.flush()
    assert terminal.buffer.getvalue().startswith(b"plays on a twin of S?d")
