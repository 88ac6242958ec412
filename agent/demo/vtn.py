"""The utility's side of the demo: openleadr's own OpenADR 2.0b server, in a process of its own.

Tells its parent what happens in JSON lines on standard output, and ends when its standard input does.
"""

import argparse
import asyncio
import json
import logging
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from openleadr import OpenADRServer

from agent.demo.site import MARKET_CONTEXT

VTN_ID = "demo-vtn"
NOTICE = timedelta(seconds=5)
"""Between the call and the beginning of the ramp."""
FORGET_AFTER_S = 1.0
"""After an event's own time is over: it is listed no more."""
SAMPLING, REPORTING = timedelta(seconds=2), timedelta(seconds=10)


def main() -> None:
    """Serve until the parent goes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tls", type=Path, help="folder with server.crt, server.key and ca.crt")
    parser.add_argument("--poll-s", type=float, default=2.0)
    parser.add_argument("--call-after-s", type=float, default=12.0)
    parser.add_argument("--every-s", type=float, default=0.0, help="0: one event only")
    parser.add_argument("--hold-s", type=float, default=120.0)
    parser.add_argument("--ramp-s", type=float, default=20.0)
    parser.add_argument("--multiplier", type=float, default=0.75)
    logging.disable(logging.WARNING)
    # Ctrl-C goes to the whole terminal; the parent closes our input once it has said goodbye to us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(_serve(parser.parse_args()))


async def _serve(options: argparse.Namespace) -> None:
    utility = Utility(options)
    await utility.start()
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, sys.stdin.read)
    await utility.stop()


class Utility:
    """A VTN that registers whoever comes, asks for telemetry, and calls events."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        tls: Path | None = options.tls
        self._server = OpenADRServer(
            vtn_id=VTN_ID,
            http_host="127.0.0.1",
            http_port=options.port,
            requested_poll_freq=timedelta(seconds=options.poll_s),
            ven_lookup=self._look_up,
            http_cert=tls and tls / "server.crt",
            http_key=tls and tls / "server.key",
            http_ca_file=tls and tls / "ca.crt",
            # By their fingerprints alone, which over TLS it compares for each message.
            verify_message_signatures=False,
        )
        self._vens: dict[str, dict[str, str]] = {}
        self._calling: asyncio.Task[None] | None = None
        self._called = 0

    async def start(self) -> None:
        """Listen and say where."""
        server = self._server
        server.add_handler("on_create_party_registration", self._register)
        server.add_handler("on_register_report", self._request_report)
        await server.run()
        port = server.app_runner.addresses[0][1]
        base = f"https://localhost:{port}" if self._options.tls else f"http://127.0.0.1:{port}"
        _tell("listening", url=f"{base}/OpenADR2/Simple/2.0b")

    async def stop(self) -> None:
        """Stop calling events and close the server."""
        if self._calling is not None:
            self._calling.cancel()
        await self._server.stop()

    async def _look_up(self, ven_id: str) -> dict[str, str] | None:
        return self._vens.get(ven_id)

    async def _register(self, info: dict[str, Any]) -> tuple[str, str]:
        name = str(info["ven_name"])
        ven_id, registration_id = f"ven-{name}", f"registration-{name}"
        self._vens[ven_id] = {
            "ven_id": ven_id,
            "ven_name": name,
            "registration_id": registration_id,
            "fingerprint": str(info.get("fingerprint") or ""),
        }
        _tell("registered", ven_id=ven_id, calls_in_s=self._options.call_after_s)
        if self._calling is None:
            self._calling = asyncio.create_task(self._call_events(ven_id))
        return ven_id, registration_id

    async def _request_report(
        self,
        ven_id: str,
        resource_id: str,
        measurement: str,
        unit: str,
        scale: str,
        min_sampling_interval: timedelta,
        max_sampling_interval: timedelta,
    ) -> tuple[Callable[..., None], timedelta, timedelta] | None:
        if measurement == "Status":  # openleadr's server cannot read what its clients must send
            return None
        return partial(_count_report, measurement), SAMPLING, REPORTING

    async def _call_events(self, ven_id: str) -> None:
        await asyncio.sleep(self._options.call_after_s)
        while True:
            lasts_s = self._call_event(ven_id)
            await asyncio.sleep(lasts_s)
            # openleadr would list it once more, ask for an answer to it again, and then trip over that
            # answer (EventService.created_event), which costs the next event its own.
            self._server.events[ven_id].clear()
            if not self._options.every_s:
                return
            await asyncio.sleep(max(0.0, self._options.every_s - lasts_s))

    def _call_event(self, ven_id: str) -> float:
        """Call one event; for how long it is not over, s."""
        options = self._options
        ramp = timedelta(seconds=options.ramp_s)
        start = datetime.now(UTC) + NOTICE + ramp
        self._called += 1
        event_id = f"demo-{self._called}"
        self._server.add_event(
            ven_id=ven_id,
            event_id=event_id,
            signal_name="LOAD_DISPATCH",
            signal_type="multiplier",
            intervals=[
                {
                    "dtstart": start,
                    "duration": timedelta(seconds=options.hold_s),
                    "signal_payload": options.multiplier,
                }
            ],
            market_context=MARKET_CONTEXT,
            callback=_answered,
        )
        # openleadr drops the ramps that add_event takes: set them on the event before it is sent.
        period = self._server.events[ven_id][-1].active_period
        period.update(ramp_up_period=ramp, recovery_period=ramp)
        every_s = options.every_s
        next_at = time.time() + every_s if every_s else None
        _tell("called", event_id=event_id, starts_at=start.timestamp(), next_at=next_at)
        return float((NOTICE + ramp).total_seconds() + options.hold_s + FORGET_AFTER_S)


def _answered(ven_id: str, event_id: str, opt_type: str) -> None:
    _tell("answered", event_id=event_id, opt=opt_type)


def _count_report(measurement: str, values: list[Any]) -> None:
    _tell("report", measurement=measurement, values=len(values))


def _tell(what: str, **facts: object) -> None:
    sys.stdout.write(json.dumps({"what": what, "at": time.time(), **facts}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
