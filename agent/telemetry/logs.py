"""Logs: text on a terminal, JSON lines elsewhere, priorities under journald; and never without end."""

import json
import logging
import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

Format = Literal["auto", "text", "json", "journal"]

_PRIORITY = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}
"""syslog(3) levels, as journald takes them in a `<n>` prefix (sd-daemon(3))."""


def set_up(log_format: Format, level: str) -> None:
    """Send all logs to standard error in one format, at `level` and above."""
    chosen = _detect() if log_format == "auto" else log_format
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_FORMATTERS[chosen]())
    handler.addFilter(Restraint())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)


class Restraint(logging.Filter):
    """Lets each speaker, a VEN or else a logger, say a lot at once and little in the long run.

    Each line may be worth saying, and yet others decide how many there are: a VTN that is lost and found
    at every poll, or calls another event each time.
    """

    MOST = 2_000
    """Lines at once."""
    EVERY_S = 60.0
    """One more for each so long."""

    def __init__(self) -> None:
        super().__init__()
        self._spoken: dict[str, _Spoken] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is to be written; where some are not, the lines around them say so."""
        speaker = _speaker_of(record)
        spoken = self._spoken.setdefault(speaker, _Spoken(record.created))
        passed_s = max(0.0, record.created - spoken.at)
        spoken.lines = max(0.0, spoken.lines - passed_s / self.EVERY_S)
        spoken.at = record.created
        if spoken.lines > self.MOST - 1:
            spoken.left_out += 1
            return False
        spoken.lines += 1
        if spoken.left_out:
            record.msg, record.args = (
                f"{record.getMessage()} ({spoken.left_out} lines left out)",
                (),
            )
        elif spoken.lines > self.MOST - 1:
            said = f"from here on only one line of {speaker} in {self.EVERY_S:g} s"
            record.msg, record.args = f"{record.getMessage()} ({said})", ()
        spoken.left_out = 0
        return True


@dataclass(slots=True)
class _Spoken:
    at: float
    lines: float = 0.0
    left_out: int = 0


def _speaker_of(record: logging.LogRecord) -> str:
    if isinstance(record.args, tuple) and record.args and str(record.msg).startswith("VEN %s"):
        return f"VEN {record.args[0]}"
    return record.name


class TextFormatter(logging.Formatter):
    """`12:03:04 WARNING control.controller: text`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")


class JournalFormatter(logging.Formatter):
    """`<4>text`: the journal adds time and unit itself. Every line of it carries the priority."""

    def format(self, record: logging.LogRecord) -> str:
        prefix = f"<{_PRIORITY.get(record.levelno, 6)}>"
        return "\n".join(prefix + line for line in super().format(record).splitlines())


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


_FORMATTERS = {"text": TextFormatter, "json": JsonFormatter, "journal": JournalFormatter}


def _detect() -> Literal["text", "json", "journal"]:
    if "JOURNAL_STREAM" in os.environ:
        return "journal"
    return "text" if sys.stderr.isatty() else "json"
