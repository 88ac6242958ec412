"""Leaving a program as the operator does: by the command line, the running agent and its VTN."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from agent import cli
from agent.app import App
from agent.config import parse
from agent.demo.site import SPEC, configuration
from drivers.sim.site import SimSite
from tests.openadr.rig import until
from tests.openadr.vtn import ScriptedVtn

pytestmark = pytest.mark.openadr2


@contextlib.asynccontextmanager
async def agent(directory: Path, vtn: ScriptedVtn):
    """An agent as `flexload run` has it, on the system's clock."""
    app = App(parse(configuration(directory, vtn.url, "127.0.0.1:0")))
    running = asyncio.create_task(app.run())
    try:
        await until(lambda: (directory / "control.sock").exists() and app.view is not None)
        yield app
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def flexload(directory: Path, *arguments: str) -> int:
    told = (*arguments, "--socket", str(directory / "control.sock"))
    return await asyncio.to_thread(cli.main, told)


async def test_an_operator_leaves_and_comes_back(vtn, tmp_path, capsys):
    SimSite.create(tmp_path / "site.json", SPEC)
    why = ("--reason", "moving out")
    async with agent(tmp_path, vtn):
        await vtn.seen("oadrPoll", timeout_s=20.0)
        assert await flexload(tmp_path, "deregister", "demo-ven", *why) == 0
        assert "takes it back" in capsys.readouterr().out
        await vtn.seen("oadrCancelPartyRegistration", timeout_s=20.0)
        assert await flexload(tmp_path, "deregister", "demo-ven", *why) == 1
        assert "has left already" in capsys.readouterr().err
    said = len(vtn.received)
    async with agent(tmp_path, vtn) as app:
        await until(lambda: app.links()[0].left is not None)
        assert await flexload(tmp_path, "status") == 0
        assert ": moving out)" in capsys.readouterr().out
        assert len(vtn.received) == said  # a restart does not register again
        assert await flexload(tmp_path, "register", "demo-ven") == 0
        await vtn.seen("oadrCreatePartyRegistration", 2, timeout_s=20.0)
        await until(lambda: app.links()[0].registered, timeout_s=20.0)
