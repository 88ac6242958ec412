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


def said(count, every_s, text="VEN %s: it is back", name="openadr", ven="ven"):
    """What is written of so many lines."""
    restraint = logs.Restraint()
    lines = []
    for n in range(count):
        record = logging.LogRecord(name, logging.INFO, "", 0, text, (ven,), None)
        record.created = 1000.0 + n * every_s
        if restraint.filter(record):
            lines.append(record.getMessage())
    return lines


def test_no_speaker_fills_the_log():
    flood = said(30_000, every_s=0.0)
    assert len(flood) == 2000
    assert set(flood[:-1]) == {"VEN ven: it is back"}
    assert flood[-1].endswith("(from here on only one line of VEN ven in 60 s)")
    # Two lines for each of a day's polls.
    day = said(2 * 8640, every_s=5.0)
    assert 3300 < len(day) < 3500
    assert day[-1].endswith("(11 lines left out)")


def test_a_speaker_who_says_little_is_always_heard():
    assert len(said(3000, every_s=60.0)) == 3000


def test_one_speaker_costs_no_other_a_line():
    restraint = logs.Restraint()

    def passes(name, text, *args):
        return restraint.filter(logging.LogRecord(name, 20, "", 0, text, args, None))

    while passes("agent.openadr.standing", "VEN %s: lost its VTN", "one"):
        pass
    while passes("asyncio", "socket.accept() out of system resource"):
        pass
    assert passes("agent.openadr.standing", "VEN %s: lost its VTN", "two")
    assert passes("agent.control.controller", "problem: %s", "one")
