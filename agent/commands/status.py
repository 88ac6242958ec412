"""`flexload status [--json|--watch]`: what the agent does now."""

import argparse
import json
import sys
import time
from typing import Any

from agent.commands.control_socket import as_called, ask
from agent.units import format_power

CLEAR = "\x1b[H\x1b[2J"


def run(options: argparse.Namespace) -> int:
    """Print the status once, or with --watch every second until interrupted."""
    while True:
        view = ask(options, "status")["view"]
        text = json.dumps(view) if options.json else as_called(render(view), options)
        clear = options.watch and not options.json and sys.stdout.isatty()
        print(f"{CLEAR if clear else ''}{text}", flush=True)
        if not options.watch:
            return 0
        time.sleep(1.0)


def render(view: dict[str, Any]) -> str:
    """The view as text for a terminal."""
    power = view["power"]
    lines = [view["sentence"], ""]
    lines.append(f"power      {_power(power['now_w'])} ({power['quality']})")
    if view["stop"] is not None:
        lines.append("limit      none: the local stop suspends the site's own limit, too")
    elif power["ceiling_w"] is not None:
        lines.append(f"limit      {_power(power['ceiling_w'])} by {power['ceiling_source']}")
    if power["baseline_w"] is not None:
        lines.append(f"baseline   {_power(power['baseline_w'])}, {power['baseline_method']}")
    capped = [gpu for gpu in view["gpus"] if gpu["cap_w"] is not None]
    lines.append(f"GPUs       {len(view['gpus'])}, {len(capped)} capped")
    for workload in view["workloads"]:
        state = "PAUSED" if workload["paused_by_us"] else workload["state"]
        cap = "" if workload["cap_w"] is None else f", capped at {workload['cap_w']:.0f} W"
        why = f": {workload['reason']}" if workload["reason"] else ""
        lines.append(f"  {workload['name']:<20} tier {workload['tier']}  {state}{cap}{why}")
    for link in view["links"]:
        state = "registered" if link["registered"] else "not registered"
        if link["left"] is not None:
            state = f"left by {link['left']['by']}: {link['left']['why']}"
        trouble = f": {link['trouble']}" if link["trouble"] else ""
        lines.append(f"VTN        {link['url']} ({link['ven']}, {state}){trouble}")
    for problem in view["problems"]:
        kind = "note" if problem["severity"] == "info" else "PROBLEM"
        lines.append(f"{kind:<10} {problem['text']} (since {problem['since']})")
    return "\n".join(lines)


def _power(watts: float | None) -> str:
    return "unknown" if watts is None else format_power(watts)
