"""What the site lives under while its VTN is out of reach, and after the power was (User Guide 8.10.1)."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from agent.demo.site import SPEC
from agent.openadr.iso8601 import format_time
from agent.store.registrations import Registrations
from agent.store.state import open_state
from drivers.sim.site import SimSite
from tests.cli.test_cli import toml
from tests.clock import NOON
from tests.openadr3.test_site import configured
from tests.openadr3.vtn import ScriptedVtn3, problem, serving

pytestmark = pytest.mark.openadr3


def limited(vtn, kind, limit_kw, start=NOON, duration="P1D"):
    """A standing limit or subscription, in kW."""
    return vtn.event(
        kind,
        intervalPeriod={"start": format_time(start), "duration": duration},
        intervals=[
            {"id": 0, "payloads": [{"type": f"IMPORT_CAPACITY_{kind}", "values": [limit_kw]}]}
        ],
    )


async def test_only_another_boot_of_the_host_voids_the_limits(rig, vtn):
    limited(vtn, "LIMIT", 22)
    async with rig:
        await rig.rested()
        assert not rig.ven.link().limits_void
        await rig.restart()
        assert not rig.ven.link().limits_void
        rig.clock.boot_id = "after the outage"
        await rig.restart()
        assert rig.ven.link().limits_void
        await rig.rested()
        assert not rig.ven.link().limits_void
        await rig.restart()
        assert not rig.ven.link().limits_void


async def test_a_host_that_does_not_say_when_it_booted_voids_nothing(rig, vtn):
    limited(vtn, "LIMIT", 22)
    async with rig:
        await rig.rested()
        rig.clock.boot_id = ""
        await rig.restart()
        assert not rig.ven.link().limits_void


async def test_limits_stay_void_until_the_whole_list_has_come(rig, vtn):
    limited(vtn, "LIMIT", 22)
    async with rig:
        await rig.rested()

        async def fails(request):
            return web.json_response(problem("no"), status=500)

        vtn.replies["events"] = fails
        rig.clock.boot_id = "after the outage"
        await rig.restart()
        await rig.turn()
        assert rig.ven.link().limits_void
        await rig.restart()
        await rig.turn()
        assert rig.ven.link().limits_void
        del vtn.replies["events"]
        await rig.turn()
        assert not rig.ven.link().limits_void


class Network:
    """What lies between site and VTN: while it drops, nothing comes through and nothing is refused."""

    def __init__(self, url: str) -> None:
        self.dropping = False
        self._to = urlsplit(url)
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def carrying(self) -> AsyncIterator[str]:
        """Yields the VTN's URL through it."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        try:
            port = server.sockets[0].getsockname()[1]
            yield f"http://127.0.0.1:{port}{self._to.path}"
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, onward = await asyncio.open_connection(self._to.hostname, self._to.port)
        for source, sink in ((reader, onward), (there, writer)):
            task = asyncio.create_task(self._pass_on(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                if not self.dropping:
                    sink.write(data)
                    await sink.drain()
        sink.close()


class Site:
    """`flexload run` in its own process, maybe `within` a network namespace."""

    def __init__(self, directory, url: str, within: tuple[str, ...] = (), **ven: str) -> None:
        self.directory = directory
        self._within = within
        self._config = directory / "agent.toml"
        settings = configured(directory, vtn_url=url, poll_s=0.3, timeout_s=1.0, **ven)
        self._config.write_text(toml(settings))
        SimSite.create(directory / "site.json", SPEC)
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with (self.directory / "agent.log").open("ab") as log:
            self._process = await self._flexload("run", stdout=log, stderr=log)

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def shows(self, ceiling_w: float, *, lost: bool, void: bool = False) -> None:
        """Wait until it shows this."""
        wanted = (ceiling_w, lost, void)
        await self._until(lambda seen: seen == wanted, f"not {wanted}")

    async def found_again(self) -> float:
        """The ceiling as it first shows its VTN not to be lost any more, W."""
        ceiling_w, _, _ = await self._until(lambda seen: not seen[1], "its VTN is lost")
        return ceiling_w

    async def _until(self, condition, failed: str):
        seen = None
        try:
            async with asyncio.timeout(90):
                while True:
                    view = await self._view()
                    seen = seen if view is None else _seen(view)
                    if view is not None and condition(seen):
                        return seen
                    await asyncio.sleep(0.1)
        except TimeoutError:
            log = (self.directory / "agent.log").read_text()[-2000:]
            pytest.fail(f"{failed}: {seen}\n{log}")

    async def _view(self):
        process = await self._flexload(
            "status", "--json", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        out, _ = await process.communicate()
        return json.loads(out) if process.returncode == 0 else None

    async def _flexload(self, *arguments: str, **streams) -> asyncio.subprocess.Process:
        command = [
            *self._within,
            sys.executable,
            "-m",
            "agent",
            *arguments,
            "--config",
            str(self._config),
        ]
        return await asyncio.create_subprocess_exec(*command, **streams)


def _seen(view):
    """Its ceiling in W, whether its VTN is lost, and whether limits are void."""
    problems = {one["key"] for one in view["problems"]}
    return view["power"]["ceiling_w"], "vtn/grid" in problems, "limits/grid" in problems


@contextlib.asynccontextmanager
async def held(tmp_path, vtn):
    """A site under a VTN's limits, and the network between them."""
    vtn.program(programName="flexible-connection")
    limited(vtn, "SUBSCRIPTION", 25, duration="P9999Y")
    network = Network(vtn.url)
    async with network.carrying() as url:
        site = Site(tmp_path, url)
        try:
            await site.start()
            await site.shows(25_000, lost=False)
            yield site, network
        finally:
            await site.kill()


@pytest.mark.long
@pytest.mark.timeout(180)
async def test_after_a_power_outage_the_subscription_holds_until_limits_are_listed(tmp_path):
    async with serving(ScriptedVtn3()) as vtn, held(tmp_path, vtn) as (site, network):
        limited(vtn, "LIMIT", 22, start=datetime.now(UTC) - timedelta(hours=1))
        await site.shows(22_000, lost=False)
        network.dropping = True
        await site.kill()
        await site.start()
        await site.shows(22_000, lost=True)
        await site.kill()
        _say_that_the_host_has_booted(tmp_path)
        await site.start()
        await site.shows(25_000, lost=True, void=True)
        network.dropping = False
        await site.shows(22_000, lost=False)


def _say_that_the_host_has_booted(directory) -> None:
    """What was listed was listed in another boot than this: a test cannot have its host start anew."""
    database = open_state(directory)
    try:
        registrations = Registrations(database)
        known = registrations.get("grid")
        assert known is not None
        assert known.listed_boot
        registrations.put(replace(known, listed_boot="the boot before"))
    finally:
        database.close()
