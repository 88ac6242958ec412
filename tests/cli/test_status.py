"""`flexload status`: the view as text, for a terminal and for a pipe."""

import sys
from argparse import Namespace
from dataclasses import replace
from types import SimpleNamespace

import pytest

from agent.commands import status
from agent.core.picture import Stop
from tests.core.build import NOON
from tests.web import pictures


def test_every_job_is_shown_with_its_state_and_why():
    text = status.render(pictures.shown(pictures.holding()))
    for workload in pictures.shown(pictures.holding())["workloads"]:
        [line] = [line for line in text.splitlines() if line.startswith(f"  {workload['name']} ")]
        assert workload["reason"]
        assert line.endswith(f": {workload['reason']}")


def test_a_local_stop_is_said_to_suspend_the_sites_own_limit():
    stopped = replace(pictures.normal(), stop=Stop(NOON, "ann", "drill"))
    text = status.render(pictures.shown(stopped))
    assert "limit      none: the local stop suspends the site's own limit, too" in text


@pytest.fixture
def twice(monkeypatch):
    """An agent that is stopped and asked twice, then interrupted."""
    view = pictures.shown(replace(pictures.normal(), stop=Stop(NOON, "ann", "drill")))
    monkeypatch.setattr(status, "ask", lambda options, command: {"view": view})
    naps = iter([None])
    monkeypatch.setattr(status, "time", SimpleNamespace(sleep=lambda _: next(naps)))
    return Namespace(socket="/tmp/my agent.sock", config=None, json=False, watch=True)


def watch(options):
    with pytest.raises(StopIteration):
        status.run(options)


def test_watching_into_a_pipe_sends_no_terminal_codes(twice, capsys):
    watch(twice)
    text = capsys.readouterr().out
    assert text.count("Stopped by ann") == 2
    assert "\x1b" not in text


def test_watching_on_a_terminal_clears_it(twice, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    watch(twice)
    assert capsys.readouterr().out.count(status.CLEAR) == 2


def test_hints_reach_the_same_agent(twice, capsys):
    watch(twice)
    assert "`flexload resume --socket '/tmp/my agent.sock'`" in capsys.readouterr().out
