"""The VEN against the real openleadr-rs over OAuth: what it does there, and what the VTN's troubles cost."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agent.core.capacity import connections_of
from agent.core.event import Baseline, Ending, Opt, OptDecision
from agent.core.lifecycle import opted_out
from agent.core.link import Departure
from agent.core.outlook import Outlook
from agent.core.timeline import Timeline
from agent.openadr.iso8601 import format_time
from agent.openadr.v3.settings import WebhookSettings
from tests.openadr.rig import PROGRAM, until
from tests.openadr.vtn import free_port
from tests.openadr3.elaad import Utility
from tests.openadr3.mosquitto import Mosquitto
from tests.openadr3.openleadr import BL_SCOPES, OpenleadrRs, Postgres, needed
from tests.openadr3.rig import Rig3

pytestmark = [pytest.mark.openadr3, pytest.mark.interop, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def postgres():
    _, programs = needed()
    cluster = Postgres(programs)
    yield cluster
    cluster.remove()


@pytest.fixture
async def vtn(postgres, request):
    program, _ = needed()
    url = None
    if "broker" in request.fixturenames:
        url = f"mqtt://127.0.0.1:{request.getfixturevalue('broker').port}"
    server = OpenleadrRs(program, postgres, url)
    await server.start()
    yield server
    server.stop()


@pytest.fixture
async def rig(vtn, tmp_path, request):
    """A VEN with a name and a program of its own, admitted to the VTN."""
    name = request.node.name[:100]
    vtn.client_id = name
    await vtn.admit()
    secret = tmp_path / "secret"
    secret.write_text(vtn.secret)
    rig = Rig3(
        tmp_path,
        vtn.url,
        at=datetime.now(UTC),
        programs=(replace(PROGRAM, market_context=name),),
        market_contexts=(name,),
        ven_name=name,
        client_id=name,
        client_secret=secret,
        timeout_s=20.0,
    )
    made = await vtn.ask("POST", "programs", {"programName": name})
    rig.program_id = made["id"]
    yield rig
    await rig.stop()


@pytest.fixture
async def broker(tmp_path):
    """The broker that the VTN publishes to, where it comes first among what a test asks for."""
    mosquitto = Mosquitto(tmp_path)
    await mosquitto.start()
    yield mosquitto
    mosquitto.kill()


def event(rig, kind="SIMPLE", values=(2,), start_s=0, duration="PT1H", **fields):
    start = format_time(rig.clock.now().replace(microsecond=0) + timedelta(seconds=start_s))
    return {
        "programID": rig.program_id,
        "intervalPeriod": {"start": start, "duration": duration},
        "intervals": [
            {"id": n, "payloads": [{"type": kind, "values": [value]}]}
            for n, value in enumerate(values)
        ],
        **fields,
    }


def values(rig, event_id):
    return [i.value for s in rig.record(event_id).event.signals for i in s.intervals]


async def test_an_event_comes_is_changed_and_is_deleted_under_way(rig, vtn):
    sent = event(rig, eventName="peak", priority=0)
    made = await vtn.ask("POST", "events", sent)
    async with rig:
        await rig.rested()
        link = rig.ven.link()
        assert (link.registered, link.trouble, link.rejected) == (True, "", 0)
        record = rig.record(made["id"])
        assert (record.event.priority, record.opt.opt, values(rig, made["id"])) == (0, Opt.IN, [2])
        await vtn.ask("PUT", f"events/{made['id']}", {**sent, **event(rig, values=(3, 1))})
        await rig.turn()
        assert values(rig, made["id"]) == [3, 1]
        await vtn.ask("DELETE", f"events/{made['id']}")
        await rig.turn()
        assert rig.record(made["id"]).ended_by is Ending.CANCELLED
    vens = await vtn.ask("GET", "vens", query={"venName": rig.settings.ven_name})
    resources = await vtn.ask("GET", "resources", query={"venID": vens[0]["id"]})
    assert [r["resourceName"] for r in resources] == ["site"]


async def test_a_schedule_of_limits_in_two_pages_of_events_is_lived_under(rig, vtn):
    for n in range(60):
        body = event(rig, "IMPORT_CAPACITY_LIMIT", (500 + n,), start_s=n * 900, duration="PT15M")
        await vtn.ask("POST", "events", body)
    async with rig:
        await rig.rested()
        connection = connections_of(rig.book.records.values())["ven"]
        begun = rig.clock.now().replace(microsecond=0)
        for n in (0, 30, 59):
            at = begun + timedelta(seconds=n * 900 + 60)
            assert connection.limit_at(at)[0] == (500 + n) * 1000


async def test_targeted_events_come_to_whom_they_are_granted(rig, vtn):
    async with rig:
        await rig.rested()
        [ven] = await vtn.ask("GET", "vens", query={"venName": rig.settings.ven_name})
        granted = {
            "objectType": "BL_VEN_REQUEST",
            "clientID": ven["clientID"],
            "venName": ven["venName"],
            "targets": ["feeder-12"],
        }
        await vtn.ask("PUT", f"vens/{ven['id']}", granted)
        ours = await vtn.ask("POST", "events", event(rig, targets=["feeder-12"]))
        theirs = await vtn.ask("POST", "events", event(rig, targets=["feeder-13"]))
        await rig.turn()
        keys = {event_id for _, event_id in rig.book.records}
        assert (ours["id"] in keys, theirs["id"] in keys) == (True, False)


async def test_usage_and_an_opt_out_are_read_back_at_the_vtn(rig, vtn):
    wanted = {"payloadType": "USAGE", "startInterval": 0, "numIntervals": 1, "repeat": -1}
    made = await vtn.ask(
        "POST", "events", event(rig, values=(1, 2), duration="PT1M", reportDescriptors=[wanted])
    )
    rig.samples(rig.clock.now().replace(microsecond=0), 130, 6_000.0)
    async with rig:
        await rig.rested()
        await rig.pass_time(66, 3)
        record = rig.record(made["id"])
        out = OptDecision(Opt.OUT, "operator ann", rig.clock.now(), "launch")
        left = opted_out(replace(record, opt=out), rig.clock.now())
        rig.book.put(left)
        rig.ven.tell(left)
        await rig.quiet()
        assert rig.ven.link().trouble == ""
    reports = await vtn.ask("GET", "reports", query={"eventID": made["id"]})
    told = {
        payload["type"]: payload["values"][0]
        for report in reports
        for resource in report["resources"]
        for interval in resource["intervals"]
        for payload in interval["payloads"]
    }
    assert told == {"USAGE": pytest.approx(0.1, abs=0.002), "OPERATING_STATE": "RUNNING_OPTED_OUT"}


async def test_a_foreign_utility_announces_events_and_reads_our_reports(rig, vtn):
    utility = Utility(vtn.url, vtn.secret)
    await vtn.admit(utility.client_id, BL_SCOPES)
    program = f"{rig.settings.ven_name} of the foreign utility"
    start = rig.clock.now().replace(microsecond=0)
    ids = await utility.ask("announce", program, start.isoformat())
    rig.programs = (replace(PROGRAM, market_context=program),)
    rig.outlook = Outlook(start, 20_000.0, 8_000.0, Timeline())
    rig.samples(start, 130, 6_000.0, ceiling_w=6_750.0, restrained=True)
    await rig.restart(market_contexts=(program,))
    await rig.rested()
    assert values(rig, ids["peak"]) == [2, 1]
    frozen = Baseline(9_000.0, 9_000.0, "mean of the 15 min before", start)
    rig.book.put(replace(rig.record(ids["peak"]), baseline=frozen))
    await rig.pass_time(126, 3)
    [demand, *told] = sorted(
        await utility.ask("reports", ids["peak"]), key=lambda r: (r["resource"], r["type"])
    )
    assert (demand["type"], demand["units"]) == ("DEMAND", "KW")
    assert [interval for interval, _, _ in demand["intervals"]] == [0, 1]
    assert {report["type"]: report["intervals"] for report in told} == {
        kind: [[0, start.isoformat(), {kind: value}]]
        for kind, value in {
            "BASELINE": 9.0,
            "DATA_QUALITY": "OK",
            "DEMAND": pytest.approx(6.0, abs=0.1),
            "OPERATING_STATE": "RUNNING_CURTAILED",
            "READING": pytest.approx(6.0, abs=0.1),
            "SETPOINT": 6.75,
            "SIMPLE_LEVEL": 2,
            "USAGE": pytest.approx(0.1, abs=0.002),
        }.items()
    }
    assert {
        report["type"]: [list(payloads.values()) for _, _, payloads in report["intervals"]]
        for report in await utility.ask("reports", ids["outlook"])
    } == {
        "USAGE_FORECAST": [[pytest.approx(1 / 3, abs=1e-5)]] * 3,
        "LOAD_SHED_DELTA_AVAILABLE": [[12.0]] * 3,
    }


async def test_a_restart_with_other_keys_costs_one_round(rig, vtn):
    made = await vtn.ask("POST", "events", event(rig))
    async with rig:
        await rig.rested()
        vtn.stop()
        await rig.turn()
        assert rig.ven.link().lost_since is not None
        assert rig.record(made["id"]).ended_by is None
        await vtn.start()
        later = await vtn.ask("POST", "events", event(rig, values=(1,)))
        await rig.turn()
        assert rig.ven.link().lost_since is None
        assert values(rig, later["id"]) == [1]
        assert rig.record(made["id"]).ended_by is None


async def test_a_database_that_is_away_cancels_nothing(rig, vtn, postgres):
    made = await vtn.ask("POST", "events", event(rig))
    async with rig:
        await rig.rested()
        postgres.stop()
        try:
            await rig.turn()
            assert rig.ven.link().lost_since is not None
            assert rig.record(made["id"]).ended_by is None
        finally:
            postgres.start()
        await rig.turn(120)
        assert rig.ven.link().lost_since is None
        await vtn.ask("DELETE", f"events/{made['id']}")
        await rig.turn()
        assert rig.record(made["id"]).ended_by is Ending.CANCELLED


async def test_a_vtn_that_knows_no_subscriptions_is_told_so_and_polled(rig, vtn):
    port = free_port()
    hook = WebhookSettings(listen=f"127.0.0.1:{port}", url=f"https://localhost:{port}/")
    await rig.restart(webhook=hook)
    await until(lambda: "no notifications by webhook, polls go on" in rig.ven.link().trouble)
    made = await vtn.ask("POST", "events", event(rig))
    await rig.turn()
    assert values(rig, made["id"]) == [2]
    rig.departure = Departure(rig.clock.now(), "kim", "moving out")
    rig.ven.wake()
    await until(lambda: rig.ven.link().left)
    await rig.quiet()
    assert rig.ven.link().trouble == ""


async def test_what_changes_is_heard_by_mqtt_and_by_polls_when_the_broker_is_killed(
    broker, rig, vtn
):
    rig.settings = rig.settings.model_copy(update={"mqtt": True})
    await rig.restart()
    await rig.rested(2)

    async def heard(condition):
        rig.clock.leap(1)  # Until the next notification may count.
        await until(condition)

    made = await vtn.ask("POST", "events", sent := event(rig))
    await heard(lambda: ("ven", made["id"]) in rig.book.records)
    await vtn.ask("PUT", f"events/{made['id']}", {**sent, **event(rig, values=(3, 1))})
    await heard(lambda: values(rig, made["id"]) == [3, 1])
    await vtn.ask("DELETE", f"events/{made['id']}")
    await heard(lambda: rig.record(made["id"]).ended_by is Ending.CANCELLED)
    broker.kill()
    await until(lambda: "MQTT" in rig.ven.link().trouble)
    made = await vtn.ask("POST", "events", event(rig))
    await rig.turn()
    assert values(rig, made["id"]) == [2]
