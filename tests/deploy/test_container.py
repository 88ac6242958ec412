"""The container and the compose file: linted by the tools for it, and held to our own rules."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from agent import __version__
from agent.cli import _parser
from tests.requirement import missing

pytestmark = pytest.mark.container

ROOT = Path(__file__).parents[2]
CONTAINER = ROOT / "deploy/container"
DOCKERFILE = (CONTAINER / "Dockerfile").read_text()
COMPOSE = ROOT / "deploy/compose/compose.yaml"

OURS = {
    "required": ["services"],
    "properties": {
        "services": {
            "required": ["demo", "agent", "prometheus", "grafana"],
            "properties": {
                "demo": {"not": {"anyOf": [{"required": ["cap_add"]}, {"required": ["user"]}]}},
                "agent": {
                    "required": ["profiles", "restart"],
                    "properties": {
                        "cap_add": {"const": ["SYS_ADMIN"]},
                        "user": {"const": "0:0"},
                        "restart": {"const": "on-failure"},
                    },
                },
                "prometheus": {
                    "properties": {
                        "command": {"contains": {"pattern": "web.listen-address=127[.]0[.]0[.]1:"}}
                    }
                },
                "grafana": {
                    "properties": {
                        "environment": {
                            "properties": {"GF_SERVER_HTTP_ADDR": {"const": "127.0.0.1"}}
                        }
                    }
                },
            },
            "patternProperties": {
                ".*": {
                    "required": ["network_mode", "cap_drop", "read_only", "security_opt"],
                    "properties": {
                        "network_mode": {"const": "host"},
                        "cap_drop": {"const": ["ALL"]},
                        "read_only": {"const": True},
                        "security_opt": {"const": ["no-new-privileges:true"]},
                        "privileged": False,
                        "ports": {"items": {"pattern": "^127[.]0[.]0[.]1:"}},
                    },
                }
            },
        }
    },
}
"""What the compose file must keep to, whatever is added: nothing beyond loopback, nothing but the one
capability, and that for the one service that sets limits."""


def content(*command: object) -> str:
    """What a tool says, after it was content."""
    tool = str(command[0])
    if shutil.which(tool) is None:
        missing("container", f"{tool} is not installed (pip install -r requirements-ci.txt)")
    result = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    said = result.stdout + result.stderr
    assert result.returncode == 0, said
    return said


def test_the_dockerfile_is_clean():
    assert content("hadolint", CONTAINER / "Dockerfile") == ""


def test_everything_that_is_downloaded_is_pinned():
    installs = re.findall(r"pip install (.*)", DOCKERFILE)
    assert len(installs) == 3
    assert all("--require-hashes" in line or "--no-index" in line for line in installs)
    assert "--no-build-isolation" in DOCKERFILE
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) == {"${PYTHON}"}
    assert "\nARG PYTHON=python:3.12-slim\n" in DOCKERFILE


def test_it_carries_the_version_of_the_package():
    assert f"ARG VERSION={__version__}\n" in DOCKERFILE
    assert f"image: flexload:{__version__}\n" in COMPOSE.read_text()


def test_it_runs_without_rights_unless_told_otherwise():
    users = re.findall(r"^USER (.*)", DOCKERFILE, re.MULTILINE)
    assert users == ["10001:10001"]


def test_the_build_takes_nothing_but_what_it_copies():
    lines = (CONTAINER / "Dockerfile.dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    taken = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
    assert taken == {name for line in copied for name in line.split()}
    assert all((ROOT / name).exists() for name in taken)


def test_the_compose_file_is_one():
    content("check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)


def test_the_compose_file_opens_nothing_and_grants_nothing(tmp_path):
    schema = tmp_path / "ours.json"
    schema.write_text(json.dumps(OURS))
    content("check-jsonschema", "--schemafile", schema, COMPOSE)


def test_a_port_open_to_the_network_would_be_found(tmp_path):
    schema = tmp_path / "ours.json"
    schema.write_text(json.dumps(OURS))
    changed = tmp_path / "compose.yaml"
    text = COMPOSE.read_text()
    changed.write_text(text.replace("  demo:\n", '  demo:\n    ports: ["9430:9430"]\n'))
    with pytest.raises(AssertionError, match="9430"):
        content("check-jsonschema", "--schemafile", schema, changed)


def test_every_flexload_command_in_them_is_one_that_it_takes():
    commands = re.findall(r"flexload ((?:demo|run|restore)[^;\"`]*)", COMPOSE.read_text())
    listed = re.search(r'command: (\["demo".*\])', COMPOSE.read_text())
    assert listed
    commands.append(" ".join(json.loads(listed[1])))
    commands += [
        " ".join(json.loads(words)) for words in re.findall(r"^CMD (.*)", DOCKERFILE, re.MULTILINE)
    ]
    assert len(commands) >= 4
    for command in commands:
        _parser().parse_args(command.split())


def test_what_compose_mounts_is_there():
    for path in re.findall(r"- (\.\S*?):/", COMPOSE.read_text()):
        assert (COMPOSE.parent / path).exists(), path
