"""What an agent in the foreground says of itself: at start, when it is told to end, and at its end."""

import asyncio
import logging
import os
import signal
from types import SimpleNamespace

import pytest

from agent import app as module
from agent.app import RESTART_STATUS, App, _serve
from agent.clock import SystemClock
from agent.config import parse
from agent.control.restorer import STILL_HELD_STATUS
from agent.core.picture import Stop
from agent.demo.site import SPEC, configuration
from drivers.sim.site import SimSite


@pytest.fixture
def config(tmp_path):
    SimSite.create(tmp_path / "site.json", SPEC)
    return parse({**configuration(tmp_path, "http://127.0.0.1:9/none", "127.0.0.1:0"), "ven": []})


async def until_said(caplog, text):
    async with asyncio.timeout(10):
        while text not in caplog.text:
            await asyncio.sleep(0.01)


async def end(config, caplog, *numbers):
    """Run it, send signals once it runs, and wait for its end; the exit status."""
    serving = asyncio.create_task(_serve(config))
    await until_said(caplog, "page on")
    for number in numbers:
        os.kill(os.getpid(), number)
    return await serving


@pytest.fixture(autouse=True)
def everything_is_logged(caplog):
    caplog.set_level(logging.INFO, "agent")


async def test_a_stop_says_what_it_undoes_and_that_nothing_is_held(config, caplog):
    assert await end(config, caplog, signal.SIGTERM) == 0
    assert "SIGTERM: stopping: 0 setpoints to undo" in caplog.messages
    assert caplog.messages[-1] == "stopped, nothing held"


async def test_a_fresh_start_says_what_stays_held(config, caplog):
    assert await end(config, caplog, signal.SIGHUP) == RESTART_STATUS
    assert caplog.messages[-1] == "SIGHUP: ends to start afresh; 0 setpoints stay held"


async def test_what_could_not_be_undone_is_named_at_the_end(config, caplog, monkeypatch):
    held = (SimpleNamespace(lever="cap", key="GPU-1"), SimpleNamespace(lever="pause", key="sim:a"))
    monkeypatch.setattr(App, "held", held)
    monkeypatch.setattr(App, "still_held", True)
    assert await end(config, caplog, signal.SIGINT) == STILL_HELD_STATUS
    assert f"SIGINT: stopping: 2 setpoints to undo; {module.UNDOING}" in caplog.messages
    assert caplog.messages[-1] == "stopped; still held: cap of GPU-1, pause of sim:a"


async def test_a_start_under_a_local_stop_says_so(config, caplog):
    agent = App(config)
    with agent._held:
        await agent.keeper.put_stop(Stop(SystemClock().now(), "ann", "drill"))
    await end(config, caplog, signal.SIGTERM)
    [said] = [message for message in caplog.messages if message.startswith("stopped by ann since ")]
    assert said.endswith("(drill): acting on nothing until `flexload resume`")
