"""Logs as text on a terminal, JSON lines elsewhere, priorities under journald."""

import json
import logging
import sys

import pytest

from agent.telemetry import logs


@pytest.fixture(autouse=True)
def restore_logging():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def test_the_journal_gets_priorities_on_every_line(capsys):
    logs.set_up("journal", "debug")
    logging.getLogger("x").warning("two\nlines")
    logging.getLogger("x").error("bad")
    logging.getLogger("x").debug("fine")
    assert capsys.readouterr().err == "<4>two\n<4>lines\n<3>bad\n<7>fine\n"


def test_json_lines_are_one_object_each_with_the_traceback_inside(capsys):
    logs.set_up("json", "info")
    try:
        raise ValueError("boom")
    except ValueError:
        logging.getLogger("x").exception("it broke: %s", "ü")
    (line,) = capsys.readouterr().err.splitlines()
    document = json.loads(line)
    assert document["message"] == "it broke: ü"
    assert document["level"] == "error"
    assert "ValueError: boom" in document["exception"]
    assert document["at"].endswith("+00:00")


@pytest.mark.parametrize(
    ("journal", "terminal", "expected"),
    [(True, True, "journal"), (False, True, "text"), (False, False, "json")],
)
def test_the_format_follows_where_the_logs_go(monkeypatch, journal, terminal, expected):
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    if journal:
        monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    assert logs._detect() == expected


def test_levels_below_are_left_out(capsys):
    logs.set_up("text", "warning")
    logging.getLogger("x").info("quiet")
    logging.getLogger("x").warning("loud")
    assert "quiet" not in (text := capsys.readouterr().err)
    assert "WARNING x: loud" in text
