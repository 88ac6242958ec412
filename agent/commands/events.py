"""`flexload events`: the events the agent knows, and what was delivered; or what operators did."""

import argparse
import json
from typing import Any

from agent.commands.control_socket import ask
from agent.units import format_power

_HEAD = ("event", "phase", "opt", "from", "until", "asked", "delivered", "compliant")


def run(options: argparse.Namespace) -> int:
    """Print a line an event or deed, newest first."""
    if options.deeds:
        deeds = ask(options, "deeds")["deeds"]
        print(json.dumps(deeds) if options.json else "\n".join(map(_line, deeds)) or "no deeds")
        return 0
    events = ask(options, "events")["events"]
    if options.json:
        print(json.dumps(events))
        return 0
    if not events:
        print("no events are known")
        return 0
    rows = [_HEAD, *(_row(event) for event in events)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    return 0


def _line(deed: dict[str, Any]) -> str:
    return f"{_time(deed['at'])}  {deed['who']}: {deed['what']} ({deed['why']})"


def _row(event: dict[str, Any]) -> tuple[str, ...]:
    figures = event["performance"]
    asked = delivered = compliant = "-"
    if figures is not None:
        asked = format_power(figures["committed_w"])
        delivered = format_power(figures["delivered_w"])
        compliant = f"{figures['compliant_share']:.1%}"
    opt = event["opt"] if event["opt"] == "in" else f"out ({event['opt_why']})"
    name = event["event_id"] + (f" of {event['ven']}" if event["ambiguous"] else "")
    name += " (test)" if event["test"] else ""
    return (
        name,
        event["phase"] or "-",
        opt,
        _time(event["hold_from"]),
        _time(event["hold_until"]),
        asked,
        delivered,
        compliant,
    )


def _time(at: str | None) -> str:
    return "open" if at is None else at[:19].replace("T", " ") + "Z"
