"""The command line: what it prints, and its exit status (0 done, 1 failed, 2 usage or configuration)."""

import json
import re
import socket
from importlib.resources import files
from pathlib import Path

import pytest

from agent import __version__
from agent.cli import main
from agent.demo.site import SPEC, configuration
from drivers.sim.site import SimSite

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def toml(value) -> str:
    """A configuration as TOML, for what is in the demo's."""
    lines = []

    def table(name, content):
        plain = {k: v for k, v in content.items() if not isinstance(v, dict)}
        lines.append(f"[{name}]")
        lines.extend(f"{json.dumps(k)} = {json.dumps(v)}" for k, v in plain.items())
        for key, nested in content.items():
            if isinstance(nested, dict):
                table(f"{name}.{key}", nested)

    for name, content in value.items():
        if isinstance(content, dict):
            table(name, content)
        else:
            for each in content:
                plain = {k: v for k, v in each.items() if not isinstance(v, dict)}
                lines.append(f"[[{name}]]")
                lines.extend(f"{json.dumps(k)} = {json.dumps(v)}" for k, v in plain.items())
                for key, nested in each.items():
                    if isinstance(nested, dict):
                        lines.append(f"[{name}.{key}]")
                        lines.extend(
                            f"{json.dumps(k)} = {json.dumps(v)}" for k, v in nested.items()
                        )
    return "\n".join(lines) + "\n"


@pytest.fixture
def config(tmp_path) -> Path:
    """A configuration file for a simulated site, with a VTN that is not there."""
    SimSite.create(tmp_path / "site.json", SPEC)
    path = tmp_path / "agent.toml"
    path.write_text(toml(configuration(tmp_path, "http://127.0.0.1:9/none", "127.0.0.1:0")))
    return path


def run(*arguments: object) -> int:
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return int(stop.code or 0)


def test_version_and_help(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"flexload {__version__}\n"
    assert run("--help") == 0
    text = capsys.readouterr().out
    for command in ("run", "check-config", "status", "opt-out", "restore", "simulate", "demo"):
        assert f"\n    {command}" in text


def test_every_document_that_the_help_names_is_there():
    root = EXAMPLES.parents[1]
    named = set(re.findall(r"docs/[\w./-]*\w", (root / "agent" / "cli.py").read_text()))
    assert named
    assert [name for name in named if not (root / name).exists()] == []


@pytest.mark.parametrize("arguments", [(), ("launch",), ("status", "--lots"), ("opt-out",)])
def test_wrong_usage_is_2(arguments, capsys):
    assert run(*arguments) == 2
    assert "usage: flexload" in capsys.readouterr().err


def test_a_wrong_configuration_is_2_and_a_line_a_fault(tmp_path, capsys):
    path = tmp_path / "agent.toml"
    path.write_text('[site]\nname = "x"\nmax_import = "lots"\n[gpu]\nkind = "x"\n')
    assert run("check-config", "--config", path) == 2
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("flexload: ") for line in lines)
    assert any("site.max_import" in line for line in lines)
    assert any("gpu.kind" in line for line in lines)
    assert run("run", "--config", path) == 2


def test_a_missing_configuration_is_2(tmp_path, capsys):
    assert run("run", "--config", tmp_path / "none.toml") == 2
    assert "No such file" in capsys.readouterr().err


def test_a_ready_program_is_appended_to_the_configuration(tmp_path, capsys):
    assert run("config", "program") == 0
    listed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert len(listed) >= 6
    assert listed["us-ca-bip"].startswith("California, Base Interruptible Program")
    path = tmp_path / "agent.toml"
    run("config", "example")
    for name in listed:
        assert run("config", "program", name) == 0
    path.write_text(capsys.readouterr().out)
    assert run("check-config", "--config", path) == 0
    said = capsys.readouterr().out
    assert said.count("\nnote ") == said.count("no [[ven]] takes events of its market context")
    assert said.count("\nnote ") == len(listed)


def test_a_program_that_is_not_ready_is_2_and_names_those_that_are(capsys):
    assert run("config", "program", "us-ca-pib") == 2
    assert "no program 'us-ca-pib' is ready; there are: gb-" in capsys.readouterr().err
    assert run("config", "example", "us-ca-bip") == 2
    assert "takes no name" in capsys.readouterr().err


def test_the_example_passes_its_own_check(tmp_path, capsys):
    assert run("config", "example") == 0
    text = capsys.readouterr().out
    assert text == files("agent").joinpath("example.toml").read_text()
    path = tmp_path / "agent.toml"
    path.write_text(text)
    assert run("check-config", "--config", path) == 0
    assert "is well formed" in capsys.readouterr().out


def test_the_schema_describes_every_table(capsys):
    assert run("config", "schema") == 0
    schema = json.loads(capsys.readouterr().out)
    assert {"site", "gpu", "meter", "jobs", "ven", "program", "workload"} <= set(
        schema["properties"]
    )


def test_check_config_online_reaches_everything_and_says_what_could_be_shed(config, capsys):
    assert run("check-config", "--online", "--config", config) == 1, "the VTN is not there"
    text = capsys.readouterr().out
    assert "32 of 32 GPUs answer" in text
    assert "could shed" in text
    assert "FAIL  VTN of demo-ven" in text


def test_doctor_reports_good_and_bad(config, capsys):
    assert run("doctor", "--config", config) == 1
    text = capsys.readouterr().out
    assert "workload chat: real-time, tier 0" in text
    assert "meter reads" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("events",),
        ("opt-out", "ev-1", "--reason", "launch"),
        ("opt-in", "ev-1"),
        ("pause", "--reason", "drill"),
        ("resume",),
    ],
)
def test_without_an_agent_commands_fail_with_one_sentence(arguments, config, capsys):
    assert run(*arguments, "--config", config) == 1
    error = capsys.readouterr().err
    assert "no agent answers on" in error
    assert "does it run, and with this configuration?" in error
    assert error.count("\n") == 1


def test_restore_with_nothing_to_restore(config, tmp_path, capsys):
    assert run("restore", "--config", config) == 0
    assert "nothing to restore" in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    assert run("restore", "--state-dir", tmp_path / "empty") == 0


def test_restore_is_told_a_directory_that_is_there(tmp_path, capsys):
    assert run("restore", "--state-dir", tmp_path / "none") == 2
    assert capsys.readouterr().err == f"flexload: --state-dir: {tmp_path}/none is not a directory\n"


def test_simulate_plays_an_event_and_touches_nothing(capsys):
    assert run("simulate", EXAMPLES / "quarter-less.json") == 0
    text = capsys.readouterr().out
    assert "100.0% of the seconds compliant" in text
    assert "paused" in text
    assert "untouched (protected)" in text


def test_simulate_on_a_twin_of_the_configured_site(config, tmp_path, capsys):
    before = (tmp_path / "site.json").read_text()
    status = run("simulate", EXAMPLES / "quarter-less.json", "--config", config, "--json")
    document = json.loads(capsys.readouterr().out)
    assert status == 0
    assert document["performance"]["compliant_share"] >= 0.99
    assert all(cap["reason"] for cap in document["caps"].values())
    assert (tmp_path / "site.json").read_text() == before


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{}", "signal: is required"),
        (
            '{"signal": "PRICE", "intervals": [{"duration": "1 min", "value": 1}]}',
            "signal: must be 'SIMPLE level'",
        ),
        ('{"signal": "SIMPLE level", "intervals": []}', "intervals"),
        (
            '{"signal": "SIMPLE level", "intervals": [{"duration": "1", "value": 1}]}',
            "must be a duration",
        ),
        ("nonsense", "event.json: is not JSON: "),
        (
            '{"signal": "SIMPLE level", "intervals": [{"duration": "0 s", "value": 1}]}',
            "intervals[0].duration",
        ),
    ],
)
def test_simulate_names_what_is_wrong_with_the_event(content, expected, tmp_path, capsys):
    path = tmp_path / "event.json"
    path.write_text(content)
    assert run("simulate", path) == 2
    assert expected in capsys.readouterr().err


def test_an_event_that_cannot_be_met_makes_simulate_fail(tmp_path, capsys):
    path = tmp_path / "event.json"
    path.write_text(
        '{"signal": "LOAD_DISPATCH multiplier", "intervals": [{"duration": "1 min", "value": 0.2}]}'
    )
    assert run("simulate", path) == 1
    assert "SHORT" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--hold=2", "--ramp=soon", "--reduce=25", "--reduce=120 %"])
def test_the_demos_options_are_checked(option, capsys):
    assert run("demo", "--once", option) == 2
    assert option.split("=")[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [("opt-out", "ev-1"), ("pause",), ("pause", "--reason", " "), ("deregister", "utility")],
)
def test_leaving_and_stopping_ask_for_the_reason(command, config, capsys):
    assert run(*command, "--config", config) == 2
    assert capsys.readouterr().err == 'flexload: say why, with --reason "TEXT": it is recorded\n'


@pytest.mark.parametrize("command", [("status",), ("events",), ("resume",)])
def test_a_configuration_named_and_not_there_is_not_passed_over(command, tmp_path, capsys):
    assert run(*command, "--config", tmp_path / "none.toml") == 2
    assert capsys.readouterr().err == f"flexload: {tmp_path}/none.toml: No such file or directory\n"


def test_the_control_socket_is_found_though_the_agents_secrets_cannot_be_read(config, capsys):
    text = config.read_text().replace("[web]", '[web]\n"token_file" = "/nowhere/token"')
    config.write_text(text)
    assert run("status", "--config", config) == 1
    assert f"no agent answers on {config.parent}/control.sock" in capsys.readouterr().err


def changed(config: Path, key: str, value: object) -> Path:
    lines = config.read_text().splitlines()
    [at] = [i for i, line in enumerate(lines) if line.startswith(f'"{key}" = ')]
    lines[at] = f'"{key}" = {json.dumps(str(value))}'
    config.write_text("\n".join(lines))
    return config


def test_what_is_no_socket_is_left_alone(config, tmp_path, capsys):
    precious = tmp_path / "precious"
    precious.write_text("years of work")
    changed(config, "control_socket", precious)
    said = f"flexload: site.control_socket: {precious} exists and is not a socket\n"
    for command in ("check-config", "run"):
        assert run(command, "--config", config) == 2
        assert capsys.readouterr().err == said
    assert run("doctor", "--config", config) == 1
    assert f"FAIL  {said.removeprefix('flexload: ')}" in capsys.readouterr().out
    assert precious.read_text() == "years of work"


@pytest.mark.parametrize("place", ["state_dir", "control_socket"])
def test_doctor_tries_to_write_where_the_agent_will(place, config, capsys):
    changed(config, place, "/proc/flexload/x")
    assert run("doctor", "--config", config) == 1
    assert re.search(r"FAIL  /proc/flexload(/x)? cannot be used: No such", capsys.readouterr().out)


def test_doctor_leaves_nothing_behind(config, tmp_path, capsys):
    state = tmp_path / "deep" / "state"
    changed(config, "state_dir", state)
    run("doctor", "--config", config)
    assert f"ok    {state} is writable" in capsys.readouterr().out
    assert not state.parent.exists()


def test_doctor_says_that_the_pages_port_is_taken(config, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        changed(config, "listen", listen)
        run("doctor", "--config", config)
    said = f"FAIL  web.listen: cannot listen on {listen}: Address already in use"
    assert said in capsys.readouterr().out


def test_a_short_token_is_found_before_the_start(config, tmp_path, capsys):
    (tmp_path / "token").write_text("secret")
    config.write_text(
        config.read_text().replace("[web]", f'[web]\n"token_file" = "{tmp_path}/token"')
    )
    for command in ("check-config", "run"):
        assert run(command, "--config", config) == 2
        said = f"flexload: web.token_file: {tmp_path}/token holds fewer than 16 characters\n"
        assert capsys.readouterr().err == said
