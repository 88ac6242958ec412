"""Against a VTN that is not ours: openleadr's server, as it is installed."""

from datetime import UTC, datetime, timedelta

import pytest

from agent.core.event import Ending, Opt, OptDecision
from agent.core.lifecycle import opted_out
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
    async with Rig(tmp_path, vtn.url, at=now) as rig:
        await rig.rested()
        await vtn.seen("oadrCreatedReport")
        yield rig


def power_at(rig: Rig, event_id: str = "ev-1") -> float:
    return rig.record(event_id).event.signals[0].intervals[0].value


async def test_register_poll_event_modify_cancel(vtn, rig, now):
    assert rig.ven.link().poll_s == 10
    vtn.add_event("ev-1", now + timedelta(seconds=HOUR_S), HOUR_S, 500_000.0)
    await rig.turn()
    assert vtn.opts == [("ev-1", "optIn")]
    assert power_at(rig, "ev-1") == 500_000.0
    vtn.modify("ev-1", 400_000.0)
    await rig.turn()
    assert power_at(rig, "ev-1") == 400_000.0
    assert rig.record("ev-1").event.revision == 1
    assert vtn.opts == [("ev-1", "optIn")] * 2
    vtn.server.cancel_event("ven-1", "ev-1")
    await rig.turn()
    assert rig.record("ev-1").ended_by is Ending.CANCELLED
    await until(lambda: vtn.server.events["ven-1"] == [])  # it had our confirmation
    assert rig.ven.link().rejected == 0


async def test_several_events_and_priorities(vtn, rig, now):
    for number in range(3):
        start = now + timedelta(hours=number + 1)
        vtn.add_event(f"ev-{number}", start, 1800, 1000.0 * number)
    await rig.turn()
    assert sorted(vtn.opts) == [("ev-0", "optIn"), ("ev-1", "optIn"), ("ev-2", "optIn")]
    assert all(record.event.priority is None for record in rig.book.records.values())


async def test_response_never_is_taken_without_an_answer(vtn, rig, now):
    vtn.add_event("quiet", now, HOUR_S, 1000.0, response_required="never")
    await rig.turn()
    assert rig.record("quiet").opt.opt is Opt.IN
    assert vtn.count("oadrCreatedEvent") == 0


async def test_an_operators_opt_out_reaches_the_vtn(vtn, rig, now):
    vtn.add_event("ev-1", now, HOUR_S, 1000.0)
    await rig.turn()
    decision = OptDecision(Opt.OUT, "operator kim", rig.clock.now(), "maintenance")
    record = rig.record()
    record = opted_out(type(record)(record.event, record.received_at, decision), rig.clock.now())
    rig.book.put(record)
    rig.ven.tell(record)
    answer = await vtn.seen("oadrCreatedEvent", 2)
    assert answer.event_answers["ev-1"][:2] == (200, "optOut")


async def test_telemetry_arrives_in_order_each_interval_once(vtn, rig, now):
    rig.samples(now, 200)
    await rig.pass_time(62)
    assert len(vtn.values) >= 55
    expected = [("RealPower", now + timedelta(seconds=n), 1000.0 + n) for n in range(100)]
    first = next(n for n in range(5) if expected[n][1] == vtn.values[0][1])
    assert vtn.values == expected[first : first + len(vtn.values)]


async def pass_outage(vtn: OpenLeadrVtn, rig: Rig, seconds: float) -> None:
    await vtn.stop()
    await rig.pass_time(seconds, 5)


@pytest.mark.parametrize("known", [True, False])
async def test_v2_v3_a_vtn_that_restarts_loses_nothing_of_ours(vtn, rig, now, known):
    """It has forgotten events and report requests in either case, and us in the second.

    openleadr's VTN answers reports it does not know as if it did (issue 186), so only the VEN it has
    forgotten gets to offer its reports again.
    """
    vtn.add_event("before", now, HOUR_S, 1000.0)
    rig.samples(now - timedelta(seconds=10), 500)
    await rig.pass_time(22)
    await until(lambda: len(vtn.values) >= 15)
    assert vtn.opts == [("before", "optIn")]
    await pass_outage(vtn, rig, 100)
    assert rig.ven.link().lost_since is not None
    await vtn.restart(known=known)
    vtn.add_event("after", now + timedelta(hours=1), HOUR_S, 2000.0)
    await rig.pass_time(90)
    await until(lambda: ("after", "optIn") in vtn.opts)
    assert rig.record("after").opt.opt is Opt.IN
    registrations = vtn.count("oadrCreatePartyRegistration")
    assert registrations == (1 if known else 2)
    requests = {m.text("oadrReport", "reportRequestID") for m in vtn.of("oadrUpdateReport")}
    assert len(requests) == (1 if known else 2)
    if known:
        sent = [start for m in vtn.of("oadrUpdateReport") for _, start, _, _ in m.report_data]
        times = [datetime.fromisoformat(start) for start in sent]
    else:
        times = [at for _, at, _ in vtn.values]
    assert times == sorted(set(times))
    assert (times[-1] - times[0]).total_seconds() == len(times) - 1  # no gap
    assert times[-1] > now + timedelta(seconds=190)
