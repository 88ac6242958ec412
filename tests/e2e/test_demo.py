"""The demo, as a user runs it: over the real wire, on the simulated site, to the end."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from agent.core.site import MeterQuality
from agent.store.history import History

KEYS = {
    "event_id",
    "baseline_kw",
    "committed_kw",
    "delivered_kw",
    "worst_kw_over_ceiling",
    "compliant_fraction",
    "response_s",
    "gpus_capped",
    "jobs_paused",
    "gpus_restored",
    "jobs_resumed",
    "reports_received_by_vtn",
}


def demo(directory, *options: str, timeout_s: float) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "agent", "demo", "--once", "--json", "--listen", "127.0.0.1:0"]
    return subprocess.run(
        [*command, "--state-dir", str(directory), *options],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def check(done: subprocess.CompletedProcess) -> dict:
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert set(figures) == KEYS
    assert figures["delivered_kw"] > 0
    assert figures["jobs_paused"] >= 1
    assert figures["gpus_restored"] == figures["gpus_capped"] > 0
    assert figures["jobs_resumed"] == figures["jobs_paused"]
    assert figures["reports_received_by_vtn"] > 0
    return figures


def check_exactness(figures: dict) -> None:
    limit_kw = figures["baseline_kw"] - figures["committed_kw"]
    assert figures["compliant_fraction"] >= 0.99
    assert figures["worst_kw_over_ceiling"] <= 0.015 * limit_kw
    over = (figures["delivered_kw"] - figures["committed_kw"]) / figures["baseline_kw"]
    assert 0 <= over <= 0.02


def ten_second_means(samples):
    values = [s.power_w for s in samples if s.quality is MeterQuality.GOOD]
    return [sum(values[i : i + 10]) / 10 for i in range(len(values) - 9)]


@pytest.mark.timeout(120)
def test_a_short_demo(tmp_path):
    """How exact it is shows over minutes, on a machine that is not busy with other tests."""
    check(demo(tmp_path, "--hold", "15 s", "--ramp", "4 s", timeout_s=100))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_without_a_word_of_complaint(number):
    """A terminal sends Ctrl-C to the whole group of processes, and closes on all of them."""
    assert until_said("Normal operation", number).splitlines()[-1] == "stopped"


@pytest.mark.long
@pytest.mark.timeout(100)
def test_it_shows_how_to_reach_it_and_every_verdict_and_says_when_the_next_event_comes():
    short = ("--hold", "5 s", "--ramp", "2 s")
    said = until_said("calls the next event in 5 min", signal.SIGINT, *short)
    assert f"-m agent status --watch --socket {tempfile.gettempdir()}/flexload-test-" in said
    assert "\nevent demo-1: " in said
    assert "in force: " not in said


@pytest.mark.timeout(100)
def test_stopped_in_an_event_it_says_what_becomes_of_what_is_held():
    said = until_said("holding", signal.SIGINT, "--ramp", "2 s")
    assert "GPU caps, 1 pauses; they end with the simulated site" in said
    assert "\nin force: " in said


def until_said(sentence: str, number: signal.Signals, *options: str) -> str:
    """All that a demo says that is sent a signal once it has said something; it must not complain."""
    # A socket's path has no room for pytest's own directories.
    directory = Path(tempfile.mkdtemp(prefix="flexload-test-"))
    process = subprocess.Popen(
        [sys.executable, "-m", "agent", "demo", "--listen", "127.0.0.1:0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(directory)},
        start_new_session=True,
    )
    assert process.stdout is not None
    said = ""
    while sentence not in said:
        assert process.poll() is None
        said += process.stdout.readline()
    os.killpg(process.pid, number)
    rest, complained = process.communicate(timeout=20)
    assert (process.returncode, complained) == (0, "")
    directory.rmdir()
    return said + rest


@pytest.mark.long
@pytest.mark.timeout(420)
def test_the_demo_as_it_is_and_no_rebound_in_the_two_minutes_after(tmp_path):
    """Under a third of a minute from the start the VTN calls; -25 % for two minutes, 20 s ramps."""
    from datetime import UTC, datetime, timedelta

    check_exactness(check(demo(tmp_path, "--after", "2 min", timeout_s=400)))
    history = History(tmp_path)
    samples = history.between(datetime.now(UTC) - timedelta(minutes=10), datetime.now(UTC))
    history.close()
    acting = [i for i, s in enumerate(samples) if s.restrained]
    before, after = samples[: acting[0]], samples[acting[-1] + 1 :]
    assert (after[-1].at - after[0].at).total_seconds() > 100
    assert max(ten_second_means(after)) <= max(ten_second_means(before)) * 1.01
