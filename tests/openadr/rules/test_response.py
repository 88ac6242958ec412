"""Rules on what a VTN is answered, to which event, and when."""

from dataclasses import replace

import pytest
from aiohttp import web

from agent.core.event import Opt, OptDecision
from agent.core.lifecycle import opted_out
from tests.openadr import wire
from tests.openadr.rig import delivered

pytestmark = pytest.mark.openadr2


def leave(rig, event_id: str = "ev-1") -> None:
    """The operator leaves an event."""
    decision = OptDecision(Opt.OUT, "operator kim", rig.clock.now(), "maintenance")
    record = opted_out(replace(rig.record(event_id), opt=decision), rig.clock.now())
    rig.book.put(record)
    rig.ven.tell(record)


async def test_rule_012_an_event_is_answered_as_it_asks_to_be(vtn, running_rig):
    """An event that always wants an answer gets one each time that it comes, and one that never does
    gets none, though it is acted on alike.
    """
    sent = wire.event("quiet", response="never"), wire.event("loud")
    for _ in range(2):
        assert set(await delivered(vtn, running_rig, *sent)) == {"loud"}
    assert running_rig.record("quiet").opt.opt is Opt.IN
    assert await delivered(vtn, running_rig, sent[0]) == {}


async def test_rule_016_both_opts_are_said(vtn, running_rig):
    """A VTN knows optIn and optOut. We say either with the event, its number and a code of success:
    to leave is a decision and no error.
    """
    running_rig.policy = replace(running_rig.policy, min_notice_s=86_400.0)
    answers = await delivered(vtn, running_rig, wire.event("hasty"))
    assert answers["hasty"][:2] == (200, "optOut")
    running_rig.policy = replace(running_rig.policy, min_notice_s=0.0)
    answers = await delivered(vtn, running_rig, wire.event("hasty"), wire.event("welcome"))
    assert answers["welcome"][:2] == (200, "optIn")
    assert answers["hasty"][:2] == (200, "optOut"), "what was decided stands"


async def test_rule_017_an_event_can_be_left_after_it_was_acknowledged(vtn, running_rig):
    """A VTN takes an optOut that comes unasked for an event that was opted into. Ours is sent at once,
    without waiting for a poll, and once. (This VTN takes no EiOpt: the answer itself is changed.)
    """
    vtn.reply("oadrCreateOpt", *[wire.oadr_response(451, "no opts here")] * 5)
    await delivered(vtn, running_rig, wire.event())
    polls = vtn.count("oadrPoll")
    leave(running_rig)
    told = await vtn.seen("oadrCreatedEvent", 2)
    assert told.event_answers["ev-1"][:2] == (200, "optOut")
    assert vtn.count("oadrPoll") == polls
    await running_rig.turn()
    assert vtn.count("oadrCreatedEvent") == 2


async def test_rule_019_valid_events_are_taken_whatever_stands_beside_them(vtn, running_rig):
    """Of a list that mixes good events with faulty ones, each is judged and answered by itself."""
    answers = await delivered(
        vtn,
        running_rig,
        wire.event("good"),
        wire.event("nan", signals=[wire.signal(intervals=[wire.interval("NaN")])]),
        wire.event("alien", target="<ei:venID>somebody-else</ei:venID>"),
        wire.event("novel", signals=[wire.signal("x-coffee", "level")]),
        wire.event("huge", signals=[wire.signal(intervals=[wire.interval("1e30")])]),
        wire.event("undated", start="soon"),
        wire.event("uncounted", revision="?"),
        wire.event("also good", signals=[wire.simple(2)]),
    )
    assert {key: answer[:2] for key, answer in answers.items()} == {
        "good": (200, "optIn"),
        "nan": (454, "optOut"),
        "alien": (462, "optOut"),
        "novel": (460, "optOut"),
        "huge": (454, "optOut"),
        "undated": (454, "optOut"),
        "uncounted": (454, "optOut"),
        "also good": (200, "optIn"),
    }
    assert {key[1] for key in running_rig.book.records} == {"good", "novel", "also good"}
    assert running_rig.ven.link().rejected == 5


async def test_rule_025_faulty_events_do_not_make_the_message_a_failure(vtn, running_rig):
    """The answer as a whole succeeds where the list could be read, and tells each event's fault in that
    event's own part. It fails where an event could not even be named.
    """
    faulty = wire.event("bad", signals=[wire.simple(9)])
    await delivered(vtn, running_rig, wire.event("good"), faulty)
    answer = vtn.of("oadrCreatedEvent")[-1]
    assert answer.text("eiCreatedEvent", "eiResponse", "responseCode") == "200"
    assert {key: a[0] for key, a in answer.event_answers.items()} == {"good": 200, "bad": 454}
    await delivered(vtn, running_rig, wire.event("good"), wire.event(""))
    answer = vtn.of("oadrCreatedEvent")[-1]
    assert answer.text("eiCreatedEvent", "eiResponse", "responseCode") == "452"
    assert {key: a[0] for key, a in answer.event_answers.items()} == {"good": 200}


async def test_rule_035_answers_stand_in_the_message_unless_it_reports_an_error(vtn, running_rig):
    """An oadrCreatedEvent holds the answers on events, and may go without only where it tells an error
    as a whole. One with neither is not sent at all.
    """
    await delivered(vtn, running_rig, wire.event())
    await delivered(vtn, running_rig, wire.event(response="never"))
    await delivered(vtn, running_rig, wire.event(""))
    await delivered(vtn, running_rig)
    messages = vtn.of("oadrCreatedEvent")
    whole = [m.text("eiCreatedEvent", "eiResponse", "responseCode") for m in messages]
    assert [(code, set(m.event_answers)) for code, m in zip(whole, messages, strict=True)] == [
        ("200", {"ev-1"}),
        ("452", set()),
    ]


@pytest.mark.parametrize("way", ["oadrPoll", "oadrRequestEvent"])
async def test_rule_062_every_event_that_wants_an_answer_gets_one_however_it_came(
    vtn, running_rig, way
):
    """New, unchanged, modified, cancelled, unknown and faulty events are all answered if they want it,
    whether a poll brought them or a request for all events; and none is that does not want it.
    """

    async def list_of(*events: str) -> set[str]:
        if way == "oadrPoll":
            return set(await delivered(vtn, running_rig, *events))
        said = vtn.count("oadrCreatedEvent")
        vtn.events = events
        await running_rig.restart()
        await vtn.seen("oadrCreatedEvent", said + 1)
        await running_rig.rested(running_rig.rounds + 1)
        return {key for m in vtn.of("oadrCreatedEvent")[said:] for key in m.event_answers}

    def never(*args: object, **fields: object) -> str:
        return wire.event(*args, response="never", **fields)

    first = (wire.event("same"), wire.event("changed"), wire.event("ended"), never("quiet"))
    assert await list_of(*first) == {"same", "changed", "ended"}
    then = (
        wire.event("same"),
        wire.event("changed", 1, signals=[wire.simple(2)]),
        wire.event("ended", 1, "cancelled"),
        wire.event("unknown", 3, "cancelled"),
        wire.event("new"),
        wire.event("faulty", signals=[]),
        never("quiet", 1),
        never("quiet and ended", 1, "cancelled"),
        never("quiet and faulty", signals=[]),
    )
    assert await list_of(*then) == {"same", "changed", "ended", "unknown", "new", "faulty"}


async def test_rule_064_events_are_answered_before_the_next_poll(vtn, running_rig):
    """No poll comes between an event and its answer: neither where several are queued, nor where the
    first attempt at an answer does not get through.
    """

    async def broken(request: web.Request) -> web.Response:
        request.transport.close()
        return web.Response()

    before = len(vtn.received)
    vtn.reply(
        "oadrPoll",
        wire.distribute_event(wire.event("a")),
        wire.distribute_event(wire.event("a"), wire.event("b")),
    )
    await running_rig.turn()
    kinds = [m.kind for m in vtn.received[before:]]
    assert kinds == ["oadrPoll", "oadrCreatedEvent", "oadrPoll", "oadrCreatedEvent", "oadrPoll"]

    before = len(vtn.received)
    listed = (wire.event("a"), wire.event("b"), wire.event("c"))
    vtn.events = listed
    vtn.reply("oadrCreatedEvent", broken)
    vtn.reply("oadrPoll", wire.distribute_event(*listed), wire.oadr_response())
    await running_rig.turn()
    kinds = [m.kind for m in vtn.received[before:]]
    assert kinds == ["oadrPoll", "oadrCreatedEvent", "oadrRequestEvent", "oadrCreatedEvent"]
    assert set(vtn.received[-1].event_answers) == {"a", "b", "c"}
