"""The demo's VTN, with a real VEN, for longer than one event."""

import argparse
import logging
from datetime import UTC, datetime, timedelta

import pytest

from agent.core.program import Program
from agent.demo import vtn
from agent.demo.site import MARKET_CONTEXT
from tests.openadr.rig import Rig, until

pytestmark = [pytest.mark.openadr2, pytest.mark.filterwarnings("ignore::Warning")]


async def test_every_event_of_a_demo_that_goes_on_is_answered_in_peace(
    tmp_path, monkeypatch, caplog
):
    """openleadr trips over an answer to a completed event, which it asks for by listing it again."""
    called: list[object] = []
    answered: list[object] = []
    urls: list[str] = []

    def tell(what: str, **facts: object) -> None:
        if what == "listening":
            urls.append(str(facts["url"]))
        elif what in ("called", "answered"):
            (called if what == "called" else answered).append(facts["event_id"])

    monkeypatch.setattr(vtn, "_tell", tell)
    monkeypatch.setattr(vtn, "NOTICE", timedelta(seconds=0.05))
    monkeypatch.setattr(vtn, "FORGET_AFTER_S", 0.05)
    times = {"poll_s": 10.0, "call_after_s": 0.0, "every_s": 2.0, "hold_s": 1.5, "ramp_s": 0.0}
    utility = vtn.Utility(argparse.Namespace(port=0, tls=None, multiplier=0.75, **times))
    await utility.start()
    programs = (Program("fast-dr", MARKET_CONTEXT),)
    try:
        async with Rig(tmp_path, urls[0], at=datetime.now(UTC), programs=programs) as rig:
            for number in range(1, 4):
                await until(lambda number=number: len(called) >= number)
                await rig.turn()
                await until(lambda: answered == called)
        assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == []
        assert answered[:3] == ["demo-1", "demo-2", "demo-3"]
    finally:
        await utility.stop()
