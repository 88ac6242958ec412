"""Rules on the messages themselves: requestIDs, directions, optional elements, no schemaLocation."""

from dataclasses import replace
from datetime import timedelta
from itertools import permutations

import pytest

from agent.core.event import Opt, OptDecision
from agent.core.lifecycle import Phase, opted_out
from tests.clock import NOON
from tests.openadr import wire
from tests.openadr.rig import delivered
from tests.openadr.rules.asked import agenda

pytestmark = pytest.mark.openadr2

HOUR = timedelta(hours=1)
XSI = "http://www.w3.org/2001/XMLSchema-instance"


@pytest.mark.parametrize("order", [*permutations(("over", "urgent", "later"))])
async def test_rule_015_the_order_of_a_list_means_nothing(vtn, running_rig, order):
    """A VTN lists active events first, by their priority and then their start, then those to come, and
    completed ones last. A VEN takes each by what it says: any other order comes to the same.
    """
    events = {
        "over": wire.event("over", 0, "completed", NOON - 2 * HOUR, "PT1H"),
        "urgent": wire.event("urgent", 0, "active", NOON, "PT1H", priority=1),
        "later": wire.event("later", 0, "far", NOON + HOUR, "PT1H", priority=2),
    }
    await delivered(vtn, running_rig, *(events[name] for name in order))
    phases = agenda(running_rig, NOON).phases
    assert {name: phases["ven", name] for name in events} == {
        "over": Phase.COMPLETED,
        "urgent": Phase.HOLDING,
        "later": Phase.NOTIFIED,
    }
    assert [running_rig.record(name).event.priority for name in events] == [None, 1, 2]


async def test_rule_023_only_a_ven_asks_for_events(vtn, running_rig):
    """An oadrRequestEvent goes from VEN to VTN only. One that a VTN sends is passed over and counted,
    and the queue behind it is still read.
    """
    asked = wire.payload(
        "<oadr:oadrRequestEvent><pyld:eiRequestEvent><pyld:requestID>r</pyld:requestID>"
        "<ei:venID>ven-1</ei:venID></pyld:eiRequestEvent></oadr:oadrRequestEvent>"
    )
    assert vtn.count("oadrRequestEvent") == 1
    vtn.reply("oadrPoll", asked, wire.distribute_event(wire.event()))
    await running_rig.turn()
    assert running_rig.ven.link().rejected == 1
    assert set(running_rig.book.records) == {("ven", "ev-1")}


@pytest.mark.parametrize("way", ["oadrPoll", "oadrRequestEvent"])
async def test_rule_040_a_list_of_events_may_say_that_it_is_an_error(vtn, running_rig, way):
    """A list that answers a request says by its eiResponse whether that went well. One that reports an
    error is no list: it takes and implies nothing, and is asked for again. One without is a list.
    """
    await delivered(vtn, running_rig, wire.event("a"))
    failed = wire.distribute_event(wire.event("b"), response=wire.ei_response(454, "database down"))
    good = wire.distribute_event(wire.event("a"), wire.event("c"), response=wire.ei_response())
    vtn.events = (wire.event("a"),)
    if way == "oadrPoll":
        vtn.reply(way, failed)
        await running_rig.turn()
    else:
        vtn.reply(way, failed)
        await running_rig.restart()
        await running_rig.rested(running_rig.rounds + 1)
    assert set(running_rig.book.records) == {("ven", "a")}
    assert running_rig.record("a").ended_by is None
    vtn.reply("oadrPoll", good)
    await running_rig.turn()
    assert set(running_rig.book.records) == {("ven", "a"), ("ven", "c")}


@pytest.mark.parametrize("sent", ["", " ", "dist-7"])
async def test_rule_041_a_list_without_a_request_id_is_taken_all_the_same(vtn, running_rig, sent):
    """A VTN gives each list a requestID of the list's own. Where there is none the events still count,
    and are answered without.
    """
    answers = await delivered(vtn, running_rig, wire.event(), request_id=sent)
    assert answers["ev-1"] == (200, "optIn", sent)


async def test_rule_042_answers_carry_the_request_id_of_the_list_and_the_message_none(
    vtn, running_rig
):
    """Each answer on an event has the requestID of the list that named it, also one that changes our
    mind later. Beside answers, the message as a whole has an empty one.
    """
    vtn.reply("oadrCreateOpt", *[wire.oadr_response(451, "no opts here")] * 5)
    await delivered(vtn, running_rig, wire.event("a"), request_id="first")
    both = wire.event("a"), wire.event("b", signals=[wire.simple(9)])
    answers = await delivered(vtn, running_rig, *both, request_id="second")
    assert {answer[2] for answer in answers.values()} == {"second"}
    now = running_rig.clock.now()
    out = OptDecision(Opt.OUT, "operator kim", now, "maintenance")
    record = opted_out(replace(running_rig.record("a"), opt=out), now)
    running_rig.book.put(record)
    running_rig.ven.tell(record)
    told = await vtn.seen("oadrCreatedEvent", 3)
    assert told.event_answers == {"a": (200, "optOut", "second")}
    for message in vtn.of("oadrCreatedEvent"):
        assert message.text("eiCreatedEvent", "eiResponse", "requestID") == ""


async def test_rule_043_the_same_request_id_again_means_nothing(vtn, running_rig):
    """A VTN may use one requestID for all its lists: a list is never taken for a repetition by it."""
    await delivered(vtn, running_rig, wire.event("a"), request_id="same")
    answers = await delivered(vtn, running_rig, wire.event("b"), request_id="same")
    assert answers == {"b": (200, "optIn", "same")}
    assert running_rig.record("a").ended_at is not None, "not listed any more"


@pytest.mark.parametrize("request_id", ["", "somebody else's"])
async def test_rule_044_the_request_id_of_any_other_answer_is_ignored(vtn, running_rig, request_id):
    """In messages other than lists and their answers a requestID may be empty, and one that is there
    may be ignored: what answers us is what comes in answer.
    """
    response = wire.payload(
        "<oadr:oadrResponse ei:schemaVersion='2.0b'>"
        f"{wire.ei_response(request_id=request_id)}<ei:venID>ven-1</ei:venID></oadr:oadrResponse>"
    )
    vtn.reply("oadrCreatedEvent", response)
    vtn.reply("oadrPoll", wire.distribute_event(wire.event()), response)
    await running_rig.turn()
    assert running_rig.ven.link().trouble == ""
    assert running_rig.ven.link().rejected == 0
    assert [a.event_id for a in running_rig.registration.answers] == ["ev-1"]


async def test_rule_045_no_message_says_where_its_schema_is(vtn, running_rig):
    """Nothing that we send has a schemaLocation attribute. One in a VTN's message is not followed."""
    located = wire.distribute_event(wire.event("located")).replace(
        b"<oadr:oadrPayload ",
        f'<oadr:oadrPayload xmlns:xsi="{XSI}" '
        f'xsi:schemaLocation="http://openadr.org/oadr-2.0b/2012/07 {vtn.url}/oadr_20b.xsd" '.encode(),
    )
    vtn.reply(
        "oadrPoll",
        wire.create_report(wire.report_request()),
        located,
        wire.cancel_report("rr-1"),
        wire.cancel_party_registration(),
    )
    await running_rig.turn()
    await running_rig.turn()
    assert running_rig.record("located")
    kinds = {message.kind for message in vtn.received}
    assert len(kinds) >= 8
    for message in vtn.received:
        for element in message.tree.getroottree().iter():
            assert not [name for name in element.attrib if "schemaLocation" in name], message.kind


async def test_rule_046_optional_elements_may_be_missing_and_count_where_they_are_not(
    vtn, running_rig
):
    """An event needs no priority, comment, creation time, test mark, tolerance, notification, ramp or
    target; each that is there is understood.
    """
    least = wire.event("least", priority=None, created=None).replace(
        "<ei:eiTarget></ei:eiTarget>", ""
    )
    most = wire.event(
        "most",
        priority=2,
        comment="hot day",
        test="true",
        start_after="PT5M",
        notification="PT1H",
        ramp_up="PT2M",
        recovery="-PT3M",
        target="<ei:venID>ven-1</ei:venID>",
    )
    answers = await delivered(vtn, running_rig, least, most)
    assert {answer[:2] for answer in answers.values()} == {(200, "optIn")}
    event = running_rig.record("least").event
    assert (event.priority, event.comment, event.test, event.start_window) == (
        None,
        "",
        False,
        timedelta(0),
    )
    assert event.created_at == running_rig.clock.now()
    event, m = running_rig.record("most").event, timedelta(minutes=1)
    assert (event.priority, event.comment, event.test) == (2, "hot day", True)
    assert (event.start_window, event.notification) == (5 * m, 60 * m)
    assert (event.ramp_down, event.ramp_up) == (2 * m, -3 * m)
    assert event.starts_at == NOON
