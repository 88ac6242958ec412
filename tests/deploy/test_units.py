"""The unit files: that systemd understands every line, how far they are exposed, that they fit the code."""

import os
import re
import shlex
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from agent.app import RESTART_STATUS
from agent.cli import DEFAULT_CONFIG, USAGE, _parser
from agent.commands.restore import DEFAULT_STATE
from agent.control.restorer import STILL_HELD_STATUS
from tests.requirement import missing

pytestmark = pytest.mark.systemd

ROOT = Path(__file__).parents[2]
SYSTEMD = ROOT / "systemd"
UNITS = ("flexload.service", "flexload-restore.service")
DROPINS = sorted(path.name for path in (SYSTEMD / "dropins").iterdir())
FOR_NEWER = {"restart-mode.conf.example": 254}
"""Drop-ins that systemd knows only from this version on."""
MOST_EXPOSED = 20
"""Tenths of systemd's exposure level."""


def run(*command: object, **options: object) -> subprocess.CompletedProcess[str]:
    tool = str(command[0])
    if shutil.which(tool) is None:
        missing("systemd", f"{tool} is not installed")
    return subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, **options
    )


def settings(unit: str) -> dict[str, list[str]]:
    """Every directive of a unit file with its values, in order."""
    found = defaultdict(list)
    for line in (SYSTEMD / unit).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found[name].append(value)
    return dict(found)


@pytest.fixture
def stage(tmp_path):
    """A root in which the units could start: systemd's own units, ours, and what they execute."""
    own = Path("/usr/lib/systemd/system")
    if not own.is_dir():
        missing("systemd", f"{own} is not there")
    shutil.copytree(own, tmp_path / "usr/lib/systemd/system", symlinks=True)
    etc = tmp_path / "etc/systemd/system"
    etc.mkdir(parents=True)
    for unit in UNITS:
        shutil.copy(SYSTEMD / unit, etc)
        for command in commands(unit):
            program = tmp_path / command[0].lstrip("/")
            program.parent.mkdir(parents=True, exist_ok=True)
            program.write_text("#!/bin/sh\n")
            program.chmod(0o755)
    return tmp_path


def commands(unit: str) -> list[list[str]]:
    found = settings(unit)
    lines = [line for name in found if name.startswith("Exec") for line in found[name]]
    return [shlex.split(line) for line in lines]


def verified(stage: Path) -> str:
    """What systemd has to say about the units; unknown keys leave its exit status at 0."""
    result = run("systemd-analyze", "verify", f"--root={stage}", "--man=no", *UNITS)
    return result.stdout + result.stderr + ("" if result.returncode == 0 else "failed")


def exposure(stage: Path, unit: str) -> str:
    """Empty when a unit is exposed no further than allowed, else what it says."""
    limit = f"--threshold={MOST_EXPOSED}"
    result = run("systemd-analyze", "security", "--offline=true", limit, f"--root={stage}", unit)
    return "" if result.returncode == 0 else result.stdout + result.stderr


def test_systemd_understands_every_line(stage):
    assert verified(stage) == ""


def test_a_misspelt_key_would_be_found(stage):
    unit = stage / "etc/systemd/system" / UNITS[0]
    unit.write_text(unit.read_text().replace("ProtectHome=", "ProtectHoem="))
    assert "ProtectHoem" in verified(stage)


@pytest.mark.parametrize("unit", UNITS)
def test_exposure_stays_within_its_limit(stage, unit):
    assert exposure(stage, unit) == ""


@pytest.mark.parametrize("dropin", DROPINS)
def test_every_drop_in_fits_and_stays_within_the_limit(stage, dropin):
    for unit in UNITS:
        if unit in (SYSTEMD / "dropins" / dropin).read_text():
            directory = stage / f"etc/systemd/system/{unit}.d"
            directory.mkdir()
            shutil.copy(SYSTEMD / "dropins" / dropin, directory / dropin.removesuffix(".example"))
    version = int(run("systemctl", "--version").stdout.split()[1])
    if FOR_NEWER.get(dropin, 0) > version:
        assert "Unknown key" in verified(stage)
    else:
        assert verified(stage) == ""
    assert exposure(stage, UNITS[0]) == ""


@pytest.mark.parametrize("dropin", DROPINS)
def test_every_drop_in_says_where_it_goes(dropin):
    path = f"/etc/systemd/system/flexload.service.d/{dropin.removesuffix('.example')}"
    assert path in (SYSTEMD / "dropins" / dropin).read_text()
    assert dropin.removesuffix(".conf.example") in (SYSTEMD / "README.md").read_text()


@pytest.mark.parametrize("unit", UNITS)
def test_every_command_line_is_one_that_flexload_takes(unit):
    ours = [words for words in commands(unit) if words[0].endswith("/flexload")]
    assert ours
    for words in ours:
        _parser().parse_args(words[1:])


def test_what_the_unit_grants_is_where_the_agent_writes():
    found = settings(UNITS[0])
    assert Path("/var/lib", *found["StateDirectory"]) == DEFAULT_STATE
    assert Path("/etc", *found["ConfigurationDirectory"]) == DEFAULT_CONFIG.parent


def test_exit_statuses_mean_to_the_unit_what_they_mean_to_the_agent():
    found = settings(UNITS[0])
    assert found["RestartPreventExitStatus"] == [f"{USAGE} {STILL_HELD_STATUS}"]
    assert found["RestartForceExitStatus"] == [str(RESTART_STATUS)]
    # A restart must not count as a success, or ExecStopPost= would undo what is to stay held.
    assert "SuccessExitStatus" not in found
    assert "RestartPreventExitStatus" not in settings(UNITS[1]), "it never gives up"


def test_both_units_are_confined_alike():
    agent, restore = (settings(unit) for unit in UNITS)
    hardening = re.compile(
        r"Ambient|Capability|NoNew|UMask|StateDir|Device|Protect|Private|Remove|Restrict|Keyring"
        r"|Lock|Memory|SystemCall|User|Group|LimitCORE"
    )
    differ = {
        name
        for name in {*agent, *restore}
        if hardening.match(name) and agent.get(name) != restore.get(name)
    }
    # The one that undoes needs no network.
    assert differ == {"PrivateNetwork", "RestrictAddressFamilies"}


def test_every_directive_is_explained_in_the_table():
    readme = (SYSTEMD / "README.md").read_text()
    # What a unit is and runs is told by its comments and the table of what happens when.
    plain = re.compile(
        r"Description|Type|Notify|Exec|Wants|WantedBy|OnFailure|StartLimit|RestartSec"
    )
    for name in settings(UNITS[0]):
        family = "ProtectKernel*" if name.startswith("ProtectKernel") else name
        assert plain.match(name) or f"`{family}=" in readme, name


def test_the_user_and_its_directories(tmp_path):
    if os.geteuid() != 0:
        missing("systemd", "only root can make users, even under a root of its own")
    (tmp_path / "etc").mkdir()
    users = run("systemd-sysusers", f"--root={tmp_path}", SYSTEMD / "flexload.sysusers")
    assert users.returncode == 0, users.stderr
    passwd = (tmp_path / "etc/passwd").read_text()
    assert re.search(
        r"^flexload:[^:]*:\d+:\d+:flexload agent:/var/lib/flexload:/usr/sbin/nologin$",
        passwd,
        re.MULTILINE,
    )
    files = run("systemd-tmpfiles", "--create", f"--root={tmp_path}", SYSTEMD / "flexload.tmpfiles")
    assert (files.returncode, files.stderr) == (0, "")
    modes = {
        path: oct((tmp_path / path).stat().st_mode & 0o777)
        for path in ("etc/flexload", "var/lib/flexload")
    }
    assert modes == {"etc/flexload": "0o750", "var/lib/flexload": "0o700"}
