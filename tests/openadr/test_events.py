"""What becomes of events, by the numbered rules of the profile."""

from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from aiohttp import web

from agent.core.event import Ending, EventRecord, Opt, OptDecision
from agent.core.intake import Verdict
from agent.core.lifecycle import opted_out
from agent.core.policy import Policy
from agent.core.program import Program
from agent.errors import StoreFullError
from agent.openadr.v20.xml import child, text
from tests.clock import NOON
from tests.openadr import wire
from tests.openadr.rig import PROGRAM, Rig, delivered, until

pytestmark = pytest.mark.openadr2

HOUR = timedelta(hours=1)


async def test_a_new_event_is_stored_announced_and_answered(vtn, running_rig):
    answers = await delivered(vtn, running_rig, wire.event("00123", start=NOON + HOUR))
    assert answers == {"00123": (200, "optIn", "dist-1")}
    assert [i.verdict for i in running_rig.intakes] == [Verdict.NEW]
    assert running_rig.record("00123").opt.opt is Opt.IN
    assert running_rig.ven.link().rejected == 0


async def test_it_is_stored_before_it_is_announced_and_announced_before_it_is_answered(vtn, rig):
    order = []

    def announced(intakes):
        rows = rig.database.query("SELECT event_id FROM events")
        order.append(([row["event_id"] for row in rows], vtn.count("oadrCreatedEvent")))

    rig.on_intake = announced
    rig.start()
    await delivered(vtn, rig, wire.event())
    assert order == [(["ev-1"], 0)]


async def test_an_event_of_unknown_signals_only_is_kept_with_all_it_says_and_opted_out_of(
    vtn, running_rig
):
    """The utility is told that it cannot count on us, and once for each time that it asks."""
    novel = wire.event(signals=[wire.signal("x-coffee", "level", [wire.interval(7)])])
    for _ in range(2):
        assert (await delivered(vtn, running_rig, novel))["ev-1"][:2] == (460, "optOut")
        await running_rig.turn()
    assert vtn.count("oadrCreatedEvent") == 2
    record = running_rig.record()
    (signal,) = record.event.signals
    assert (signal.name, [i.value for i in signal.intervals]) == ("x-coffee level", [7])
    assert "none of its signals is known here" in record.opt.why
    assert running_rig.ven.link().rejected == 0
    prices = wire.event("prices", signals=[wire.signal("ELECTRICITY_PRICE", "price")])
    answers = await delivered(vtn, running_rig, novel, prices)
    assert answers["prices"][:2] == (200, "optIn")


async def test_a_fault_of_ours_in_one_event_costs_that_event_alone(vtn, running_rig, monkeypatch):
    from agent.openadr.v20 import events as module

    def translate(event, ven, now):
        if event.event_id == "cursed":
            raise ZeroDivisionError
        return real(event, ven, now)

    real = module.translate
    monkeypatch.setattr(module, "translate", translate)
    answers = await delivered(vtn, running_rig, wire.event("cursed"), wire.event("good"))
    assert {key: answer[0] for key, answer in answers.items()} == {"cursed": 469, "good": 200}


async def test_an_event_of_no_program_is_kept_and_answered_as_not_recognised(vtn, running_rig):
    answers = await delivered(vtn, running_rig, wire.event(market="http://other.example"))
    assert answers["ev-1"][:2] == (453, "optOut")
    assert "http://other.example" in running_rig.record().opt.why
    await running_rig.turn()
    assert vtn.count("oadrCreatedEvent") == 1


async def test_a_repetition_repeats_the_stored_answer_and_announces_nothing(vtn, running_rig):
    for _ in range(3):
        assert (await delivered(vtn, running_rig, wire.event()))["ev-1"][:2] == (200, "optIn")
    assert len(running_rig.intakes) == 1


async def test_one_message_may_hold_several_versions_of_an_event(vtn, running_rig):
    await delivered(
        vtn,
        running_rig,
        wire.event(revision=1, signals=[wire.simple(1)]),
        wire.event(revision=2, signals=[wire.simple(2)]),
        wire.event(revision=1, signals=[wire.simple(3)]),
    )
    assert running_rig.record().event.signals[0].intervals[0].value == 2
    assert running_rig.database.query("SELECT count(*) AS n FROM events")[0]["n"] == 1


@pytest.mark.parametrize(
    "broken",
    [
        {"duration": "?"},
        {"signals": []},
        {"signals": [wire.signal(intervals=[wire.interval("NaN")])]},
        {"target": "<ei:venID>other</ei:venID>"},
        {"start": "never"},
    ],
)
async def test_a_cancellation_counts_whatever_else_is_wrong_with_it(vtn, running_rig, broken):
    await delivered(vtn, running_rig, wire.event(signals=[wire.simple(2)]))
    answers = await delivered(
        vtn, running_rig, wire.event(revision=1, status="cancelled", **broken)
    )
    assert answers["ev-1"][:2] == (200, "optIn")
    record = running_rig.record()
    assert record.ended_by is Ending.CANCELLED
    assert record.event.starts_at == NOON


async def test_refused_events_count_as_listed(vtn, running_rig):
    await delivered(vtn, running_rig, wire.event("a"), wire.event("b"))
    await delivered(
        vtn,
        running_rig,
        wire.event("a", 1, signals=[wire.signal(intervals=[wire.interval("NaN")])]),
        wire.event("b", 1, target="<ei:venID>other</ei:venID>"),
    )
    assert running_rig.record("a").ended_by is None
    assert running_rig.record("b").ended_by is None


async def test_nothing_is_implied_by_a_list_with_an_event_that_has_no_id(vtn, running_rig):
    await delivered(vtn, running_rig, wire.event("a"))
    vtn.reply("oadrPoll", wire.distribute_event(wire.event("")))
    await running_rig.turn()
    assert running_rig.record("a").ended_by is None
    answer = vtn.of("oadrCreatedEvent")[-1]
    assert answer.event_answers == {}
    assert answer.text("eiCreatedEvent", "eiResponse", "responseCode") == "452"


@pytest.mark.parametrize(
    "no_list",
    [
        wire.oadr_response(),
        wire.distribute_event(response=wire.ei_response(454, "database down")),
        wire.distribute_event()[:-40],
    ],
)
async def test_what_is_no_whole_list_implies_nothing(vtn, running_rig, no_list):
    await delivered(vtn, running_rig, wire.event("a"))
    vtn.events = (wire.event("a"),)
    vtn.reply("oadrPoll", no_list)
    await running_rig.turn()
    assert running_rig.record("a").ended_by is None


async def test_an_event_that_is_listed_again_is_on_again(vtn, running_rig):
    """A VTN that loses an event for one answer (a stale replica, a restart) does not lose it for good."""
    await delivered(vtn, running_rig, wire.event("a"), wire.event("b"))
    await delivered(vtn, running_rig, wire.event("b"))
    assert running_rig.record("a").ended_by is Ending.CANCELLED
    answers = await delivered(vtn, running_rig, wire.event("a"), wire.event("b"))
    assert answers["a"][:2] == (200, "optIn")
    assert running_rig.record("a").ended_by is None
    assert not running_rig.record("a").event.cancelled


async def test_blackouts_and_short_notice_answer_opt_out(vtn, tmp_path):
    policy = Policy(max_import_w=1e5, min_notice_s=600)
    async with Rig(tmp_path, vtn.url, policy=policy, programs=(PROGRAM, Program("p", "*"))) as rig:
        answers = await delivered(
            vtn, rig, wire.event("soon"), wire.event("later", start=NOON + HOUR)
        )
    assert answers["soon"][1] == "optOut"
    assert answers["later"][1] == "optIn"


def leave(rig: Rig, why: str = "maintenance") -> EventRecord:
    """The operator leaves the event."""
    decision = OptDecision(Opt.OUT, "operator kim", rig.clock.now(), why)
    record = opted_out(replace(rig.record(), opt=decision), rig.clock.now())
    rig.book.put(record)
    return record


async def test_a_changed_opt_is_told_at_once(vtn, running_rig):
    await delivered(vtn, running_rig, wire.event())
    polls = vtn.count("oadrPoll")
    record = leave(running_rig)
    running_rig.ven.tell(record)
    told = await vtn.seen("oadrCreateOpt")
    assert told.text("optType") == "optOut"
    assert told.text("qualifiedEventID", "eventID") == "ev-1"
    assert vtn.count("oadrPoll") == polls  # without polling more often than allowed
    running_rig.ven.tell(record)
    await running_rig.turn()
    assert vtn.count("oadrCreateOpt") == 1  # and told once
    assert vtn.count("oadrCreatedEvent") == 1


async def test_a_changed_opt_survives_an_outage_and_our_restart(vtn, running_rig):
    await delivered(vtn, running_rig, wire.event())
    await vtn.stop()
    record = leave(running_rig)
    running_rig.ven.tell(record)
    await running_rig.turn()
    await running_rig.restart()
    await running_rig.turn()
    vtn.events = (wire.event(),)
    await vtn.start()
    while vtn.count("oadrCreatedEvent") < 2:
        await running_rig.turn()
    assert vtn.of("oadrCreatedEvent")[1].event_answers["ev-1"][:2] == (200, "optOut")
    await running_rig.turn()
    assert [a.event_answers["ev-1"][1] for a in vtn.of("oadrCreatedEvent")[1:]] == ["optOut"]
    assert {m.text("optType") for m in vtn.of("oadrCreateOpt")} == {"optOut"}


async def test_a_vtn_that_refuses_one_answer_still_gets_the_others(vtn, running_rig):
    refusal = wire.oadr_response(452, "what event?")
    vtn.reply("oadrCreatedEvent", refusal, refusal)
    await delivered(vtn, running_rig, wire.event("a"), wire.event("b"))
    kinds = [list(m.event_answers) for m in vtn.of("oadrCreatedEvent")]
    assert kinds == [["a", "b"], ["a"], ["b"]]
    await running_rig.turn()
    assert vtn.count("oadrCreatedEvent") == 3  # what was refused is not said for ever


async def test_a_vtn_that_chokes_on_one_answer_gets_the_others_and_the_opts(vtn, running_rig):
    """A server that answers HTTP 500 whenever one certain event is named."""

    async def choke(request):
        bad = b"bad" in await request.read()
        body = b"" if bad else wire.oadr_response()
        return web.Response(status=500 if bad else 200, body=body)

    vtn.reply("oadrCreatedEvent", *[choke] * 100)
    vtn.reply("oadrRequestEvent", *[wire.oadr_response()] * 100)
    listed = wire.event("ev-1"), wire.event("bad"), wire.event("c")
    await delivered(vtn, running_rig, *listed)
    assert {"ev-1"} in [set(m.event_answers) for m in vtn.of("oadrCreatedEvent")]
    told = {a.event_id for a in running_rig.registration.answers}
    assert told == {"ev-1", "c"}
    assert "not everything reaches the VTN" in running_rig.ven.link().trouble
    running_rig.ven.tell(leave(running_rig))
    opt = await vtn.seen("oadrCreateOpt")
    assert opt.text("qualifiedEventID", "eventID") == "ev-1"


async def test_a_refusal_of_each_answer_is_logged_once(vtn, running_rig, caplog):
    vtn.reply("oadrCreatedEvent", *[wire.oadr_response(452)] * 5)
    for _ in range(5):
        await delivered(vtn, running_rig, wire.event())
    assert len([r for r in caplog.records if "refuses the answer on 'ev-1'" in r.message]) == 1


async def test_what_an_operator_gave_as_a_reason_is_not_told(vtn, running_rig):
    """It is nobody's business, and may hold what XML cannot."""
    foreign = wire.event(market="http://other.example")
    await delivered(vtn, running_rig, foreign)
    leave(running_rig, "fire in hall 2 \x07")
    assert (await delivered(vtn, running_rig, foreign))["ev-1"][:2] == (453, "optOut")
    answer = child(vtn.of("oadrCreatedEvent")[-1].tree, "eiCreatedEvent", "eventResponses")
    said = text(answer, "eventResponse", "responseDescription")
    assert said == "no program for market context 'http://other.example'"


@pytest.mark.parametrize("revision", [1, 2])
async def test_an_event_that_is_cancelled_is_not_promised_again(vtn, running_rig, revision):
    """Listed as if it were on, under its old number or a lower one, it stays cancelled; we say so."""
    await delivered(vtn, running_rig, wire.event(revision=1))
    await delivered(vtn, running_rig, wire.event(revision=2, status="cancelled"))
    answers = await delivered(vtn, running_rig, wire.event(revision=revision))
    assert answers["ev-1"][:2] == (450, "optOut")
    assert running_rig.record().ended_by is Ending.CANCELLED


@contextmanager
def full_disk(rig):
    """Every write to the state database fails as on a full disk."""
    real = rig.database.transaction

    @contextmanager
    def full():
        raise StoreFullError("state.db cannot be written: database or disk is full")
        yield

    rig.database.transaction = full
    try:
        yield
    finally:
        rig.database.transaction = real


async def test_a_full_disk_loses_no_event_and_no_answer(vtn, running_rig):
    with full_disk(running_rig):
        answers = await delivered(vtn, running_rig, wire.event())
        assert answers["ev-1"][:2] == (200, "optIn")
        assert running_rig.record().opt.opt is Opt.IN
        assert [i.verdict for i in running_rig.intakes] == [Verdict.NEW]
        assert "disk is full" in running_rig.ven.link().trouble
        assert running_rig.book.unsaved == 1
    await running_rig.turn()
    assert running_rig.ven.link().trouble == ""
    await running_rig.restart()
    assert running_rig.record().opt.opt is Opt.IN


async def test_a_store_in_trouble_is_in_order_again_when_another_ven_wrote_it(vtn, running_rig):
    with full_disk(running_rig):
        await delivered(vtn, running_rig, wire.event())
    running_rig.book.flush()
    await running_rig.turn()
    assert running_rig.ven.link().trouble == ""


async def test_a_really_full_disk_is_what_it_is_taken_for(running_rig):
    """SQLite's own error, for the harness above."""
    running_rig.database._connection.execute("PRAGMA max_page_count = 1")
    with pytest.raises(StoreFullError), running_rig.database.transaction() as connection:
        connection.execute("INSERT INTO facts VALUES ('x', ?)", ("y" * 1_000_000,))


async def test_events_in_quick_succession_all_arrive(vtn, running_rig):
    listed = []
    for number in range(20):
        listed.append(wire.event(f"ev-{number}"))
        vtn.reply("oadrPoll", wire.distribute_event(*listed))
    await running_rig.turn()
    await until(lambda: len(running_rig.book.records) == 20)
    assert all(r.ended_by is None for r in running_rig.book.records.values())
    assert running_rig.ven.link().rejected == 0


@pytest.mark.parametrize("bound", ["MOST_AHEAD", "MOST_KEPT"])
async def test_no_more_events_are_taken_than_a_site_can_think_of(
    running_rig, vtn, monkeypatch, bound, caplog
):
    monkeypatch.setattr(f"agent.openadr.events.{bound}", 2)
    events = [wire.event(f"ev-{n}") for n in range(4)]
    answers = await delivered(vtn, running_rig, *events)
    assert [answers[f"ev-{n}"][0] for n in range(4)] == [200, 200, 469, 469]
    changed = await delivered(vtn, running_rig, wire.event("ev-0", 1), *events[1:])
    assert changed["ev-0"][:2] == (200, "optIn"), "what is known changes all the same"
    assert set(running_rig.book.records) == {("ven", "ev-0"), ("ven", "ev-1")}
    assert sum("no more events" in record.getMessage() for record in caplog.records) == 1


async def test_names_of_any_length_are_not_kept(running_rig, vtn, caplog):
    long = "x" * 100_000
    good = wire.event("good", comment=long)
    bad = wire.event("bad", market=long), wire.event(long)
    worse = wire.event("worse").replace("LOAD_DISPATCH", long)
    answers = await delivered(vtn, running_rig, good, *bad, worse)
    assert {event_id: code for event_id, (code, *_) in answers.items()} == {
        "good": 200,
        "bad": 454,
        "worse": 454,
    }
    assert set(running_rig.book.records) == {("ven", "good")}
    assert len(running_rig.record("good").event.comment) == 1000
    assert max(len(record.getMessage()) for record in caplog.records) < 400
