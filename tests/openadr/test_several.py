"""A utility by 2.0b and an aggregator by 2.0a, on one site and at once: the whole agent between them."""

import asyncio
import contextlib
import json
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest

from agent.app import App
from agent.config import parse
from agent.core.event import Ending, Opt
from agent.core.timeline import SourceKind
from agent.demo.site import SPEC, configuration
from drivers.sim.site import SimSite
from tests.openadr import wire, wire20a
from tests.openadr.rig import until
from tests.openadr.test_polling import cut, fail, hang
from tests.openadr.vtn import OpenLeadrVtn, running
from tests.openadr.vtn20a import ScriptedVtn20a

pytestmark = pytest.mark.openadr2

AGGREGATOR = "http://aggregator.example/peak"
UTILITY_KEY, AGGREGATOR_KEY = ("utility", "ev-1"), ("aggregator", "ev-1")
PATIENCE_S = 20.0


class Site:
    """An agent on the demo's site, with a utility's openleadr VTN and an aggregator's scripted one."""

    def __init__(self, directory, utility, aggregator) -> None:
        SimSite.create(directory / "site.json", SPEC)
        document = configuration(directory, utility.url, "127.0.0.1:0")
        (ven,), (program,) = document["ven"], document["program"]
        document["ven"] = [
            {**ven, "name": "utility", "market_contexts": [wire.MARKET]},
            {
                "kind": "openadr-2.0a",
                "name": "aggregator",
                "vtn_url": aggregator.url,
                "ven_id": "ven-a",
                "poll_s": 0.2,
                "timeout_s": 1.0,
            },
        ]
        document["program"] = [
            {**program, "market_context": wire.MARKET, "ramp_up": "1 s"},
            {**program, "name": "peak", "market_context": "*", "ven": "aggregator"},
        ]
        self.directory = directory
        self.utility, self.aggregator = utility, aggregator
        self.app = App(parse(document))
        self.start = datetime.now(UTC).replace(microsecond=0)
        self.started = asyncio.Event()

    @property
    def records(self):
        return self.app.keeper.records

    @property
    def view(self):
        return self.app.view

    def link(self, ven):
        return next(link for link in self.app.links() if link.ven == ven)

    def call_both(self, setpoint_w: float, level: int) -> None:
        """Each calls an event `ev-1` of an hour, in force already."""
        begin = self.start - timedelta(minutes=1)
        self.utility.add_event("ev-1", begin, 3600.0, setpoint_w)
        self.aggregator.events = (wire20a.event(level=level, start=begin, market=AGGREGATOR),)

    async def both_answered(self) -> None:
        await until(lambda: self.utility.opts == [("ev-1", "optIn")], PATIENCE_S)
        answer = await self.aggregator.seen("oadrCreatedEvent", timeout_s=PATIENCE_S)
        assert answer.event_answers["ev-1"][:2] == (200, "optIn")

    async def bound_by(self, text: str) -> None:
        """Wait until the limit binds whose source reads so."""
        await until(lambda: str(self.app.picture.plan.ceiling.source) == text, PATIENCE_S)

    async def ask(self, **request):
        reader, writer = await asyncio.open_unix_connection(self.directory / "control.sock")
        writer.write(json.dumps(request).encode() + b"\n")
        reply = json.loads(await reader.readline())
        writer.close()
        await writer.wait_closed()
        return reply


@pytest.fixture
async def site(tmp_path):
    async with (
        running(OpenLeadrVtn(poll_s=1.0)) as utility,
        running(ScriptedVtn20a()) as aggregator,
    ):
        site = Site(tmp_path, utility, aggregator)
        task = asyncio.create_task(site.app.run(site.started))
        await utility.seen("oadrPoll", timeout_s=PATIENCE_S)
        await aggregator.seen("oadrRequestEvent", timeout_s=PATIENCE_S)
        await until(lambda: site.app.view is not None, PATIENCE_S)
        yield site
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_both_obligations_hold_and_the_lowest_binds_whatever_becomes_of_the_other(site):
    """Both events have the id `ev-1`: only the VEN tells them apart."""
    site.call_both(setpoint_w=20_000.0, level=3)
    await site.both_answered()
    await site.bound_by("event ev-1 (at most 18 kW, VEN aggregator)")
    obligations = site.app.picture.timeline.obligations
    limits_w = {
        o.source.ven: o.limit_at(site.app.picture.at)
        for o in obligations
        if o.source.kind is SourceKind.EVENT
    }
    assert limits_w == {"utility": 20_000.0, "aggregator": 18_000.0}
    shown = {e["ven"]: e["ambiguous"] for e in await site.app.events("ev-1")}
    assert shown == {"utility": True, "aggregator": True}

    site.aggregator.events = ()  # an implied cancel, of its own event alone
    await until(lambda: site.records[AGGREGATOR_KEY].ended_by is Ending.CANCELLED, PATIENCE_S)
    await site.bound_by("event ev-1 (at most 20 kW, VEN utility)")
    assert site.records[UTILITY_KEY].ended_by is None

    site.utility.server.cancel_event("ven-1", "ev-1")
    await until(lambda: site.records[UTILITY_KEY].ended_by is Ending.CANCELLED, PATIENCE_S)
    await until(lambda: site.utility.server.events["ven-1"] == [], PATIENCE_S)  # confirmed
    assert all(link.trouble == "" for link in site.app.links())


async def test_an_operator_names_the_ven_and_only_its_vtn_hears_of_it(site):
    site.call_both(setpoint_w=20_000.0, level=3)
    await site.both_answered()
    reply = await site.ask(command="opt-out", event="ev-1")
    assert "known to several VENs (aggregator, utility): name one with --ven" in reply["error"]
    told = site.utility.count("oadrCreatedEvent"), site.utility.count("oadrCreateOpt")
    reply = await site.ask(command="opt-out", event="ev-1", ven="aggregator", why="launch")
    assert reply["said"] == "opted out of event ev-1 of VEN aggregator"
    await until(
        lambda: (
            site.aggregator.of("oadrCreatedEvent")[-1].event_answers["ev-1"][:2] == (200, "optOut")
        ),
        PATIENCE_S,
    )
    assert site.records[UTILITY_KEY].opt.opt is Opt.IN
    assert (site.utility.count("oadrCreatedEvent"), site.utility.count("oadrCreateOpt")) == told
    (deed,) = (await site.ask(command="deeds"))["deeds"]
    assert deed["what"] == "opt out of event ev-1 of VEN aggregator"


@pytest.mark.parametrize("trouble", ["down", "hanging", "garbage", "failing", "cut off"])
async def test_a_vtn_in_trouble_neither_delays_nor_changes_the_other(site, trouble):
    site.call_both(setpoint_w=20_000.0, level=3)
    await site.both_answered()
    reply = {
        "hanging": hang,
        "garbage": b"<html>Login</html>",
        "failing": fail,
        "cut off": cut,
    }.get(trouble)
    if reply is None:
        await site.aggregator.stop()
    else:
        site.aggregator.reply("oadrRequestEvent", *[reply] * 1000)
    await until(lambda: site.link("aggregator").lost_since is not None, PATIENCE_S)
    polls = site.utility.count("oadrPoll")
    site.utility.modify("ev-1", 19_000.0)
    await until(lambda: site.records[UTILITY_KEY].event.revision == 1, PATIENCE_S)
    await site.utility.seen("oadrPoll", polls + 2, timeout_s=PATIENCE_S)
    assert site.link("utility").lost_since is None
    assert site.link("utility").trouble == ""
    assert site.records[AGGREGATOR_KEY].ended_by is None  # and goes on meanwhile
    await site.bound_by("event ev-1 (at most 18 kW, VEN aggregator)")


async def test_the_utility_lost_changes_nothing_for_the_aggregator(site):
    site.call_both(setpoint_w=20_000.0, level=3)
    await site.both_answered()
    await site.utility.stop()
    await until(lambda: site.link("utility").lost_since is not None, PATIENCE_S)
    polls = site.aggregator.count("oadrRequestEvent")
    site.aggregator.events = ()
    await until(lambda: site.records[AGGREGATOR_KEY].ended_by is Ending.CANCELLED, PATIENCE_S)
    assert site.aggregator.count("oadrRequestEvent") > polls
    assert site.link("aggregator").trouble == ""
    assert site.records[UTILITY_KEY].ended_by is None


async def test_an_event_of_the_other_ones_market_context_is_refused(site):
    site.aggregator.events = (
        wire20a.event("stray", market=wire.MARKET),
        wire20a.event("ours", market=AGGREGATOR),
    )
    answer = await site.aggregator.seen("oadrCreatedEvent", timeout_s=PATIENCE_S)
    assert {key: a[:2] for key, a in answer.event_answers.items()} == {
        "stray": (453, "optOut"),
        "ours": (200, "optIn"),
    }
    assert set(site.records) == {("aggregator", "ours")}


async def test_page_and_metrics_tell_the_two_apart(site):
    links = {link["ven"]: link for link in site.view["links"]}
    assert links["utility"]["profile"] == "OpenADR 2.0b"
    assert links["aggregator"]["profile"] == "OpenADR 2.0a"
    await site.aggregator.stop()
    await until(lambda: site.link("aggregator").lost_since is not None, PATIENCE_S)
    async with aiohttp.ClientSession() as session:

        async def metrics() -> str:
            async with session.get(f"{site.app.url}metrics") as response:
                return await response.text()

        async with asyncio.timeout(PATIENCE_S):
            while 'flexload_vtn_up{ven="aggregator"} 0.0' not in (text := await metrics()):
                await asyncio.sleep(0.1)
    assert 'flexload_vtn_up{ven="utility"} 1.0' in text
