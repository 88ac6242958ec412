"""What openleadr's client does wrong with its registration, against openleadr's own server."""

from datetime import UTC, datetime, timedelta

import pytest

from agent.core.event import Ending, Opt
from agent.core.link import Departure
from tests.openadr.rig import Rig, until
from tests.openadr.vtn import OpenLeadrVtn, running

pytestmark = pytest.mark.openadr2

HOUR_S = 3600.0


@pytest.fixture
def now() -> datetime:
    """openleadr's server reads the real clock."""
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
async def vtn():
    async with running(OpenLeadrVtn(requests={"RealPower": (1, 5)})) as server:
        yield server


@pytest.fixture
async def rig(vtn, tmp_path, now):
    """A VEN registered with it, reporting a value each second."""
    async with Rig(tmp_path, vtn.url, at=now) as rig:
        await rig.rested()
        await vtn.seen("oadrCreatedReport")
        rig.samples(now - timedelta(seconds=10), 2000)
        yield rig


def request_ids(vtn: OpenLeadrVtn, since: int = 0) -> set[str]:
    """Under which request ids reports came."""
    sent = vtn.of("oadrUpdateReport")[since:]
    return {message.text("oadrReport", "reportRequestID") for message in sent}


def expect_each_second_once(vtn: OpenLeadrVtn) -> None:
    times = [at for _, at, _ in vtn.values]
    assert times == sorted(set(times))
    assert (times[-1] - times[0]).total_seconds() == len(times) - 1


async def test_v01_a_vtn_that_comes_up_after_us(tmp_path, now, caplog):
    """openleadr's client gives up for good when its VTN is down as it starts."""
    caplog.set_level("INFO", "agent")
    server = OpenLeadrVtn()
    async with Rig(tmp_path, server.url, at=now) as rig:
        for _ in range(10):
            await rig.turn()
        async with running(server):
            await rig.turn()
            await until(lambda: rig.ven.link().registered)
            server.add_event("ev-1", now, HOUR_S, 1000.0)
            await rig.turn()
            assert server.opts == [("ev-1", "optIn")]
    said = [record.message for record in caplog.records if record.name.startswith("agent")]
    assert sum("lost its VTN" in line for line in said) == 1
    assert sum("is back after" in line for line in said) == 1


async def test_v03_a_vtn_that_forgets_us_again_and_again_has_each_report_once(vtn, rig, now):
    """openleadr's client keeps the old report jobs at each re-registration, and reports in multiples."""
    await rig.pass_time(12)
    for _ in range(3):
        vtn.known = False
        await rig.pass_time(22)
        await until(lambda: rig.ven.link().registered)
    await rig.pass_time(12)
    await until(lambda: vtn.values and vtn.values[-1][1] >= now + timedelta(seconds=80))
    assert vtn.count("oadrCreatePartyRegistration") == 4
    assert vtn.count("oadrRegisterReport") == 4
    expect_each_second_once(vtn)
    sent = vtn.count("oadrUpdateReport")
    await rig.pass_time(20)
    assert len(request_ids(vtn, sent)) == 1
    assert vtn.count("oadrUpdateReport") - sent in (3, 4, 5)
    assert len([r for r in rig.registration.requests if not r.dormant]) == 1


async def test_v04_a_vtn_that_answers_463_is_registered_with_again(vtn, rig, now):
    """openleadr's client warns of 463 in answer to a poll, and polls on unregistered for good."""
    from openleadr.errors import NotRegisteredOrAuthorizedError

    refusals = [NotRegisteredOrAuthorizedError()]

    def on_poll(ven_id):
        if refusals:
            raise refusals.pop()

    vtn.server.add_handler("on_poll", on_poll)
    await rig.turn()
    assert not rig.ven.link().registered
    await rig.turn()
    again = await vtn.seen("oadrCreatePartyRegistration", 2)
    assert again.text("registrationID") == "reg-1"
    await until(lambda: rig.ven.link().registered)
    await rig.pass_time(30)
    assert vtn.count("oadrCreatePartyRegistration") == 2
    expect_each_second_once(vtn)


async def test_v05_our_restart_in_an_event(vtn, rig, now):
    """openleadr's client keeps nothing over a restart: no registration, event, opt or report request."""
    vtn.add_event("ev-1", now, HOUR_S, 1000.0)
    await rig.pass_time(22)
    registered = vtn.count("oadrCreatePartyRegistration")
    await rig.restart()
    assert rig.record().opt.opt is Opt.IN
    vtn.modify("ev-1", 900.0)
    await rig.pass_time(30)
    assert rig.record().event.signals[0].intervals[0].value == 900.0
    assert vtn.count("oadrCreatePartyRegistration") == registered
    expect_each_second_once(vtn)


async def test_v28_leaving_and_coming_back(vtn, rig, now):
    """openleadr's client cannot run again once it has cancelled its registration: a TypeError."""
    vtn.add_event("ev-1", now, HOUR_S, 1000.0)
    await rig.pass_time(22)
    rig.departure = Departure(rig.clock.now(), "kim", "moving out")
    rig.ven.wake()
    told = await vtn.seen("oadrCancelPartyRegistration")
    assert (told.text("venID"), told.text("registrationID")) == ("ven-1", "reg-1")
    await until(lambda: rig.registration.registration_id == "")
    await rig.quiet()
    said = len(vtn.received)
    await rig.restart()
    await rig.pass_time(100, 10)
    assert len(vtn.received) == said  # no poll, no report, no registration
    values = len(vtn.values)
    rig.departure = None
    rig.ven.wake()
    await vtn.seen("oadrCreatePartyRegistration", 2)
    await vtn.seen("oadrCreatedReport", 2)
    back_at = rig.clock.now()
    await rig.pass_time(22)
    await until(lambda: len(vtn.values) > values + 5)
    assert vtn.values[values][1] >= back_at - timedelta(seconds=5)  # nothing of the time away
    assert len(request_ids(vtn, -2)) == 1
    assert rig.record().ended_by is not Ending.OPTED_OUT


async def test_v28_a_vtn_that_ends_the_registration_is_registered_with_later(vtn, rig, now):
    """openleadr's client takes the end of its registration for the end of everything."""
    orders = [
        (
            "oadrCancelPartyRegistration",
            {"request_id": "end-1", "registration_id": "reg-1", "ven_id": "ven-1"},
        )
    ]
    vtn.server.add_handler("on_poll", lambda ven_id: orders.pop() if orders else None)
    await rig.turn()
    confirmed = await vtn.seen("oadrCanceledPartyRegistration")
    assert confirmed.text("eiResponse", "responseCode") == "200"
    polls = vtn.count("oadrPoll")
    while vtn.count("oadrCreatePartyRegistration") < 2:
        await rig.turn()
    assert vtn.count("oadrPoll") == polls + 1  # the first under the new one
    await until(lambda: rig.ven.link().registered)
    assert rig.clock.now() - now > timedelta(minutes=2)
