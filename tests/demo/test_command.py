"""`flexload demo`: where its page is, what it prints, and the site it makes for others."""

import re
import socket
import sys

import pytest

from agent.commands import demo
from agent.demo.outcome import Outcome
from tests.cli.test_cli import EXAMPLES, run


@pytest.fixture
def taken():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield f"127.0.0.1:{other.getsockname()[1]}"


def outcome(**changes: object) -> Outcome:
    figures: dict[str, object] = {
        "event_id": "demo-1",
        "baseline_kw": 28.0,
        "committed_kw": 7.0,
        "delivered_kw": 7.2,
        "worst_kw_over_ceiling": -0.1,
        "compliant_fraction": 1.0,
        "response_s": 24.6,
        "gpus_capped": 20,
        "jobs_paused": 1,
        "gpus_restored": 20,
        "jobs_resumed": 1,
        "reports_received_by_vtn": 12,
    }
    return Outcome(**{**figures, **changes})  # type: ignore[arg-type]


def test_where_the_usual_port_is_taken_the_page_goes_to_a_free_one(taken, monkeypatch):
    monkeypatch.setattr(demo, "LISTEN", taken)
    assert demo._listen(None) == "127.0.0.1:0"


def test_a_chosen_port_that_is_taken_is_one_short_sentence(taken, capsys):
    assert run("demo", "--listen", taken) == 2
    assert capsys.readouterr().err == f"flexload: --listen: {taken}: address already in use\n"


@pytest.mark.parametrize("listen", ["here", "127.0.0.1:99999", "127.0.0.1"])
def test_an_address_that_is_none_is_refused(listen, capsys):
    assert run("demo", "--listen", listen) == 2
    assert capsys.readouterr().err.startswith("flexload: --listen: ")


def test_the_verdict_fits_an_ordinary_terminal_and_does_not_contradict_itself(capsys):
    demo._summarise(outcome())
    good = capsys.readouterr().out
    assert "demo-1: met" in good
    assert "on target 25 s after the call" in good
    demo._summarise(outcome(response_s=None, compliant_fraction=0.0, delivered_kw=5.0))
    bad = capsys.readouterr().out
    assert "demo-1: NOT met" in bad
    assert "5.00 kW in the mean, never on target for 3 s in a row" in bad
    assert max(map(len, (good + bad).splitlines())) <= 80


def test_commands_to_paste_are_written_as_the_demo_was_called(monkeypatch):
    monkeypatch.setattr(sys, "argv", [".venv/bin/flexload"])
    assert demo._as_typed() == ".venv/bin/flexload"
    monkeypatch.setattr(sys, "argv", ["/somewhere/my agent/__main__.py"])
    assert demo._as_typed().endswith(" -m agent")


def test_the_documented_configuration_without_gpus_works(tmp_path, monkeypatch, capsys):
    manual = (EXAMPLES.parent / "drivers.md").read_text()
    (text,) = re.findall(r"```toml\n(\[site\].*?)```", manual, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    text = text.replace("/tmp/flexload-sim", str(tmp_path / "new"))
    # Whoever tests may have an agent or a demo running, on the usual port.
    (tmp_path / "agent.toml").write_text(f'{text}\n[web]\nlisten = "127.0.0.1:0"\n')
    assert run("demo", "--make-site", tmp_path / "new" / "site.json") == 0
    assert run("check-config", "--online", "--config", "agent.toml") == 0
    said = capsys.readouterr().out
    assert "32 of 32 GPUs answer" in said
    assert "could shed" in said
    assert run("simulate", EXAMPLES / "quarter-less.json", "--config", "agent.toml") == 0


def test_a_site_that_is_there_is_not_made_again(tmp_path, capsys):
    (tmp_path / "site.json").write_text("mine")
    assert run("demo", "--make-site", tmp_path / "site.json") == 1
    assert "is left as it is" in capsys.readouterr().err
    assert (tmp_path / "site.json").read_text() == "mine"


def test_a_state_directory_with_an_earlier_demo_in_it_is_refused(tmp_path, capsys):
    """The utility would call its events by the names of the earlier ones, which are over."""
    (tmp_path / "state.db").write_text("")
    assert run("demo", "--once", "--state-dir", tmp_path) == 2
    assert "every demo starts from nothing" in capsys.readouterr().err
