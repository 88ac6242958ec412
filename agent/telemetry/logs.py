"""Log formats: text on a terminal, JSON lines elsewhere, priorities under journald."""

import json
import logging
import os
import sys
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
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)


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
