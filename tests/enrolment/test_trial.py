"""An operator's whole way with the command line alone, as docs/enrolling.md goes it: from a
configuration to an answered event, at openleadr's server with mutual TLS.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from agent.demo.authority import Authority
from tests.cli.test_cli import run
from tests.openadr.vtn import free_port

pytestmark = [pytest.mark.openadr2, pytest.mark.timeout(120)]


class Told:
    """A flexload process, and what it has printed so far."""

    def __init__(self, *arguments: object) -> None:
        self.text = ""
        self._process = subprocess.Popen(
            [sys.executable, "-u", "-m", "agent", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def until(self, expected: str, timeout_s: float = 60.0) -> None:
        """Wait until it has printed this."""
        deadline_s = time.monotonic() + timeout_s
        while expected not in self.text:
            going_on = self._reader.is_alive() and time.monotonic() < deadline_s
            assert going_on, f"no {expected!r} in {self.text}"
            time.sleep(0.05)

    def stop(self) -> int:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        status = self._process.wait(30)
        self._reader.join(30)
        return status

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                self.text += line


@contextlib.contextmanager
def telling(*arguments: object):
    told = Told(*arguments)
    try:
        yield told
    finally:
        told.stop()


def enroll(config: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "agent", "enroll", "--config", config],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def elsewhere(config: Path) -> None:
    """The page on any free port: tests run side by side."""
    config.write_text(config.read_text() + '\n[web]\nlisten = "127.0.0.1:0"\n')


def test_from_a_configuration_to_an_answered_event(tmp_path):
    folder = tmp_path / "trial"
    config = folder / "site" / "agent.toml"
    listen = f"127.0.0.1:{free_port()}"
    trial = ("demo", "--utility", folder, "--listen", listen, "--hold", "5 s", "--ramp", "1 s")
    with telling(*trial) as utility:
        utility.until("what happens here:")
        assert f" enroll --config {os.path.relpath(config)}" in utility.text
        elsewhere(config)
        status, said = enroll(config)
        assert status == 1
        assert "ECC P-256, made just now" in said
        assert "todo  certificate  the VTN wants a client certificate" in said
        (folder / "desk" / "ven.csr").write_bytes((folder / "site" / "ven.csr").read_bytes())
        utility.until("signed ven.csr for trial-site: the certificate is ven.crt")
        (folder / "site" / "ven.crt").write_bytes((folder / "desk" / "ven.crt").read_bytes())
        status, said = enroll(config)
        assert status == 0
        assert "FAIL" not in said
        assert "todo" not in said
        assert "the VTN takes this VEN's, and answers nobody without one" in said
        assert "next    start the agent" in said
        assert "registered" not in utility.text, "a check registers nothing"
        with telling("run", "--config", config) as agent:
            utility.until("registered ven-trial-site")
            utility.until("the site answers optIn to event demo-1")
            status, said = enroll(config)
            assert status == 0
            assert "ok    registered   as 'ven-trial-site', with VTN 'demo-vtn'" in said
            assert said.endswith("enrolled: nothing is left to do\n")
            assert agent.stop() == 0
        assert utility.stop() == 0
    assert "Traceback" not in utility.text


def test_what_somebody_has_begun_to_enrol_with_outlives_the_utility(tmp_path):
    folder, listen = tmp_path / "trial", f"127.0.0.1:{free_port()}"
    with telling("demo", "--utility", folder, "--listen", listen) as utility:
        utility.until("what happens here:")
    config = folder / "site" / "agent.toml"
    elsewhere(config)
    kept = {file: file.read_bytes() for file in (config, folder / "utility" / "ca.crt")}
    with telling("demo", "--utility", folder, "--listen", f"127.0.0.1:{free_port()}") as utility:
        utility.until("what happens here:")
        assert "names another address" in utility.text
        (folder / "desk" / "odd.csr").write_text("nonsense")
        utility.until("odd.csr is not signed: ")
    assert {file: file.read_bytes() for file in kept} == kept


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "127.0.0.2:0"])
def test_the_trials_utility_is_for_this_machine_only(tmp_path, listen, capsys):
    assert run("demo", "--utility", tmp_path / "trial", "--listen", listen) == 2
    assert "the trial's utility serves 127.0.0.1 only" in capsys.readouterr().err
    assert not (tmp_path / "trial").exists()


def test_its_authoritys_keys_are_its_owners_alone(tmp_path):
    before = os.umask(0)
    try:
        Authority(tmp_path / "utility")
    finally:
        os.umask(before)
    keys = sorted((tmp_path / "utility").glob("*.key"))
    assert [file.name for file in keys] == ["ca.key", "server.key"]
    assert {file.stat().st_mode & 0o777 for file in keys} == {0o600}


def test_the_manual_and_the_readme_show_the_commands_that_the_trial_prints(tmp_path):
    listen = f"127.0.0.1:{free_port()}"
    with telling("demo", "--utility", tmp_path / "trial", "--listen", listen) as utility:
        utility.until("what happens here:")
    folder = os.path.relpath(tmp_path / "trial")
    printed = re.findall(rf"^  .*?(enroll|cp|run) (.*{folder}.*)$", utility.text, re.MULTILINE)
    assert len(printed) == 5
    root = Path(__file__).parents[2]
    for document in (root / "README.md", root / "docs" / "enrolling.md"):
        text = document.read_text()
        assert "flexload demo --utility trial" in text
        for command, rest in printed:
            assert f"{command} {rest}".replace(folder, "trial") in text
