"""Rules on how messages travel: pull, headers, and how often."""

import asyncio

import pytest
from aiohttp import web

from tests.openadr import wire
from tests.openadr.rig import Rig

pytestmark = pytest.mark.openadr2


async def test_rule_037_a_ven_pulls(vtn, running_rig):
    """Pulling is what every VEN can do: ours says so when it registers, and needs no way in."""
    message = vtn.of("oadrCreatePartyRegistration")[0]
    assert message.text("oadrHttpPullModel") == "true"
    assert message.text("oadrTransportName") == "simpleHttp"
    assert message.text("oadrTransportAddress") is None
    assert vtn.count("oadrPoll") == 1


async def test_rule_053_a_message_goes_by_http_with_the_headers_that_are_asked_for(
    vtn, running_rig
):
    """A message is a POST to its service with Host, Content-Length and a Content-Type of
    application/xml, and is not sent in chunks.
    """
    seen: list[web.Request] = []

    async def look(request: web.Request) -> web.Response:
        seen.append(request)
        return web.Response(body=wire.oadr_response(), content_type="application/xml")

    vtn.reply("oadrPoll", look)
    await running_rig.turn()
    (request,) = seen
    assert request.method == "POST"
    assert request.headers["Host"] == f"127.0.0.1:{vtn.port}"
    assert int(request.headers["Content-Length"]) == len(await request.read())
    assert request.headers["Content-Type"].partition(";")[0] == "application/xml"
    assert "Transfer-Encoding" not in request.headers


@pytest.mark.parametrize(
    ("asked", "ours_s", "period_s"),
    [("PT10S", None, 10), ("PT1M", None, 60), ("PT10S", 30.0, 30), (None, 15.0, 15)],
)
async def test_rule_054_polls_come_at_a_steady_period_that_can_be_set(
    vtn, tmp_path, asked, ours_s, period_s
):
    """How long an event may take to reach us is known: polls come one period apart, the VTN's or a
    longer one that is configured here, round after round.
    """
    vtn.reply("oadrCreatePartyRegistration", wire.created_party_registration(poll=asked))
    settings = {} if ours_s is None else {"poll_s": ours_s}
    async with Rig(tmp_path, vtn.url, **settings) as rig:
        for count in range(1, 4):
            await rig.rested(count)
            assert vtn.count("oadrPoll") == count
            assert rig.delay_s == pytest.approx(period_s)
            rig.clock.leap(period_s)


async def test_rule_055_polls_are_never_closer_than_agreed(vtn, running_rig):
    """On average and at the least, a VTN is polled no more often than agreed. (While it says that more
    is queued it is asked for that at once, as the 2.0b profile has it.)
    """
    for _ in range(3):
        polls = vtn.count("oadrPoll")
        await running_rig.clock.asleep()
        running_rig.clock.leap(9.9)
        await asyncio.sleep(0.02)
        assert vtn.count("oadrPoll") == polls
        await running_rig.turn(0.2)
        assert vtn.count("oadrPoll") == polls + 1
