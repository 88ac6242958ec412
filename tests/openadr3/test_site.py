"""The whole agent with an OpenADR 3 VEN: from its configuration to the ceiling and the page."""

import asyncio

import pytest

from agent.app import App
from agent.config import parse
from agent.core.timeline import SourceKind
from agent.demo.site import SPEC, configuration
from agent.errors import ConfigError
from agent.inspection import inspect
from agent.openadr.iso8601 import format_time
from drivers.sim.site import SimSite
from tests.openadr.rig import until
from tests.openadr3.vtn import ScriptedVtn3, serving

pytestmark = pytest.mark.openadr3

GRID = {"kind": "openadr-3", "name": "grid", "vtn_url": "https://vtn.grid.example/openadr3"}


def configured(tmp_path, **ven):
    whole = configuration(tmp_path, "", "127.0.0.1:0")
    program = {**whole["program"][0], "market_context": "*"}
    return {**whole, "ven": [{**GRID, **ven}], "program": [program]}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("version", "3.2.0", "ven[0].version: must be '3.0.1' or '3.1.0'"),
        ("client_id", "c", "ven[0]: client_id and client_secret go together"),
        ("proxy", "proxy:3128", "ven[0].proxy: must be like http://proxy.example:3128"),
        ("proxy", "http://proxy:x", "ven[0].proxy: must be like http://proxy.example:3128"),
        ("token_url", "login", "ven[0].token_url: must be like https://login.example.com/token"),
        (
            "token_url",
            "http://login.example/token",
            "ven[0]: token_url must be https where vtn_url is: the secret goes there",
        ),
        ("vtn_url", "vtn", "ven[0].vtn_url: must be like https://vtn.example.com/openadr3/3.1.0"),
        ("poll", 3.0, "ven[0].poll: unknown key; did you mean ven[0].poll_s?"),
        ("targets", [""], "ven[0].targets[0]: must not be empty"),
    ],
)
def test_a_fault_in_the_configuration_is_told_plainly(tmp_path, key, value, expected):
    with pytest.raises(ConfigError) as caught:
        parse(configured(tmp_path, **{key: value}))
    assert str(caught.value) == expected


def test_a_secret_that_is_not_there_is_a_fault_before_a_start(tmp_path):
    with pytest.raises(ConfigError, match="client_secret /nowhere cannot be read"):
        parse(configured(tmp_path, client_id="c", client_secret="/nowhere"))


async def test_the_connection_can_be_tried_without_enrolling(tmp_path):
    async with serving(ScriptedVtn3()) as vtn:
        config = parse(configured(tmp_path, vtn_url=vtn.url))
        SimSite.create(tmp_path / "site.json", SPEC)
        found = [str(f) for f in await inspect(config) if "VTN" in f.text]
        assert found == [f"ok    VTN of grid answers on {vtn.url}"]
        assert not vtn.objects["vens"]
    found = [str(f) for f in await inspect(config) if "VTN" in f.text]
    assert found[0].startswith("FAIL  VTN of grid: ")


async def test_a_standing_limit_and_an_event_hold_the_site_together(tmp_path):
    """A subscription holds at once, an emergency below it, and then the subscription again."""
    async with serving(ScriptedVtn3()) as vtn:
        vtn.program(programName="flexible-connection")
        vtn.event(
            "subscribed",
            intervalPeriod={"start": "2020-01-01T00:00:00Z", "duration": "P9999Y"},
            intervals=[
                {"id": 0, "payloads": [{"type": "IMPORT_CAPACITY_SUBSCRIPTION", "values": [25]}]}
            ],
        )
        SimSite.create(tmp_path / "site.json", SPEC)
        app = App(parse(configured(tmp_path, vtn_url=vtn.url, poll_s=0.2)))
        running = asyncio.create_task(app.run())

        def ceiling():
            picture = app.picture
            return None if picture is None else picture.timeline.ceiling_at(picture.at)

        def is_limited(kind, limit_w):
            found = ceiling()
            return found is not None and found.source.kind is kind and found.limit_w == limit_w

        try:
            await until(lambda: is_limited(SourceKind.CAPACITY, 25_000), 30)
            await until(lambda: "subscribed" in str(app.view["power"]["ceiling_source"]), 30)
            now = format_time(app.picture.at)
            vtn.event(
                "less",
                intervalPeriod={"start": now, "duration": "PT1H"},
                intervals=[{"id": 0, "payloads": [{"type": "SIMPLE", "values": [3]}]}],
            )
            await until(lambda: is_limited(SourceKind.EVENT, 18_000), 30)
            vtn.gone("less")
            await until(lambda: is_limited(SourceKind.CAPACITY, 25_000), 30)
            [link] = app.links()
            assert (link.registered, link.rejected) == (True, 0)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
