"""What becomes of events, by the numbered rules of the profile."""

from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from agent.core.event import Baseline, Ending, EventRecord, Opt, OptDecision
from agent.core.intake import Verdict
from agent.core.lifecycle import opted_out
from agent.core.policy import Policy
from agent.core.program import Program
from agent.errors import StoreFullError
from tests.clock import NOON
from tests.openadr import wire
from tests.openadr.rig import PROGRAM, Rig, until

pytestmark = pytest.mark.openadr2

HOUR = timedelta(hours=1)


async def delivered(vtn, rig, *events: str, **message):
    """Let the next poll bring these events; how each was answered."""
    await rig.rested()
    polled = vtn.count("oadrCreatedEvent")
    vtn.reply("oadrPoll", wire.distribute_event(*events, **message))
    await rig.turn()
    if vtn.count("oadrCreatedEvent") == polled:
        return {}
    return vtn.of("oadrCreatedEvent")[polled].event_answers


@pytest.fixture
async def running_rig(vtn, rig):
    rig.start()
    await rig.rested()
    return rig


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


async def test_rule_12_answers_are_given_whenever_asked_for_and_never_otherwise(vtn, running_rig):
    """V3 of the openleadr study: response_required=never is still acted on."""
    answers = await delivered(
        vtn, running_rig, wire.event("quiet", response="never"), wire.event("loud")
    )
    assert set(answers) == {"loud"}
    answers = await delivered(
        vtn, running_rig, wire.event("quiet", response="never"), wire.event("loud")
    )
    assert set(answers) == {"loud"}  # rule 62: unchanged ones, too
    assert running_rig.record("quiet").opt.opt is Opt.IN


async def test_rule_19_mixed_events_are_answered_one_by_one(vtn, running_rig):
    """V10: one bad event does not opt out its neighbours."""
    answers = await delivered(
        vtn,
        running_rig,
        wire.event("good"),
        wire.event("nan", signals=[wire.signal(intervals=[wire.interval("NaN")])]),
        wire.event("alien", target="<ei:venID>somebody-else</ei:venID>"),
        wire.event("novel", signals=[wire.signal("x-coffee", "level")]),
        wire.event("huge", signals=[wire.signal(intervals=[wire.interval("1e30")])]),
        wire.event("also good", signals=[wire.simple(2)]),
    )
    assert {key: answer[:2] for key, answer in answers.items()} == {
        "good": (200, "optIn"),
        "nan": (454, "optOut"),
        "alien": (462, "optOut"),
        "novel": (200, "optOut"),
        "huge": (454, "optOut"),
        "also good": (200, "optIn"),
    }
    assert {key[1] for key in running_rig.book.records} == {"good", "novel", "also good"}
    assert running_rig.ven.link().rejected == 3


async def test_an_event_of_unknown_signals_only_is_kept_with_all_it_says_and_opted_out_of(
    vtn, running_rig
):
    """V29: no fault to report, and nothing the utility could count on."""
    novel = wire.event(signals=[wire.signal("x-coffee", "level", [wire.interval(7)])])
    for _ in range(2):
        assert (await delivered(vtn, running_rig, novel))["ev-1"][:2] == (200, "optOut")
    record = running_rig.record()
    (signal,) = record.event.signals
    assert (signal.name, [i.value for i in signal.intervals]) == ("x-coffee level", [7])
    assert "none of its signals is known here" in record.opt.why
    assert running_rig.ven.link().rejected == 0
    prices = wire.event("prices", signals=[wire.signal("ELECTRICITY_PRICE", "price")])
    answers = await delivered(vtn, running_rig, novel, prices)
    assert answers["prices"][:2] == (200, "optIn")


async def test_a_fault_of_ours_in_one_event_costs_that_event_alone(vtn, running_rig, monkeypatch):
    from agent.openadr.v20b import events as module

    def translate(event, ven, now):
        if event.event_id == "cursed":
            raise ZeroDivisionError
        return real(event, ven, now)

    real = module.translate
    monkeypatch.setattr(module, "translate", translate)
    answers = await delivered(vtn, running_rig, wire.event("cursed"), wire.event("good"))
    assert {key: answer[0] for key, answer in answers.items()} == {"cursed": 469, "good": 200}


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("", 200),
        ("<ei:venID>ven-1</ei:venID>", 200),
        ("<ei:venID>other</ei:venID><ei:venID>ven-1</ei:venID>", 200),
        ("<ei:resourceID>site</ei:resourceID><ei:venID>other</ei:venID>", 200),
        ("<ei:groupID>feeder 7</ei:groupID>", 200),
        ("<ei:groupID>feeder 7</ei:groupID><ei:venID>other</ei:venID>", 200),
        ("<ei:venID>other</ei:venID>", 462),
        ("<ei:venID>VEN-1</ei:venID>", 462),
        ("<ei:resourceID>barn</ei:resourceID>", 462),
    ],
)
async def test_rule_22_targets_are_alternatives_and_none_means_us(vtn, running_rig, target, code):
    """V14: events for another VEN are refused and not stored."""
    answers = await delivered(vtn, running_rig, wire.event(target=target))
    assert answers["ev-1"][0] == code
    assert (("ven", "ev-1") in running_rig.book.records) is (code == 200)


async def test_rule_48_market_contexts_that_are_not_ours_are_refused(vtn, tmp_path):
    """V14: unknown marketContext."""
    async with Rig(tmp_path, vtn.url, market_contexts=(wire.MARKET,)) as rig:
        answers = await delivered(
            vtn, rig, wire.event("ours"), wire.event("other", market="http://other.example")
        )
    assert answers["ours"][0] == 200
    assert answers["other"][0] == 453


async def test_an_event_of_no_program_is_opted_out_with_code_200(vtn, running_rig):
    answers = await delivered(vtn, running_rig, wire.event(market="http://other.example"))
    assert answers["ev-1"][:2] == (200, "optOut")


async def test_rule_21_a_list_from_another_vtn_is_refused_whole_and_implies_nothing(
    vtn, running_rig
):
    await delivered(vtn, running_rig, wire.event("ours"))
    answers = await delivered(vtn, running_rig, wire.event("alien"), vtn_id="evil")
    assert answers == {"alien": (452, "optOut", "dist-1")}
    assert set(running_rig.book.records) == {("ven", "ours")}
    assert running_rig.record("ours").ended_by is None
    assert "vtnID is 'evil', but our VTN is 'vtn'" in running_rig.ven.link().trouble
    await delivered(vtn, running_rig, wire.event("ours"))
    assert running_rig.ven.link().trouble == ""


async def test_v17_a_lower_case_vtn_id_is_as_good_as_any(vtn, running_rig):
    created = await delivered(vtn, running_rig, wire.event())
    assert created["ev-1"][0] == 200
    assert (
        vtn.of("oadrCreatedEvent")[-1].text("eiCreatedEvent", "eiResponse", "responseCode") == "200"
    )


async def test_rule_57_a_higher_modification_replaces(vtn, running_rig):
    await delivered(vtn, running_rig, wire.event(signals=[wire.simple(1)]))
    answers = await delivered(vtn, running_rig, wire.event(revision=1, signals=[wire.simple(2)]))
    assert answers["ev-1"][:2] == (200, "optIn")
    assert running_rig.record().event.signals[0].intervals[0].value == 2
    assert [i.verdict for i in running_rig.intakes] == [Verdict.NEW, Verdict.MODIFIED]


async def test_rule_58_a_lower_modification_is_an_error_and_changes_nothing(vtn, running_rig):
    """V12: out of order, or replayed."""
    await delivered(vtn, running_rig, wire.event(revision=5, signals=[wire.simple(2)]))
    answers = await delivered(vtn, running_rig, wire.event(revision=3, signals=[wire.simple(0)]))
    assert answers["ev-1"][:2] == (450, "optIn")
    assert running_rig.record().event.revision == 5
    assert len(running_rig.intakes) == 1
    answers = await delivered(vtn, running_rig, wire.event(revision=5, signals=[wire.simple(2)]))
    assert answers["ev-1"][:2] == (200, "optIn")


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


async def test_rule_59_a_cancellation_ends_the_event_and_is_confirmed(vtn, running_rig):
    await delivered(vtn, running_rig, wire.event())
    cancelled = wire.event(revision=1, status="cancelled")
    for _ in range(2):  # V11: sent again after it was confirmed
        answers = await delivered(vtn, running_rig, cancelled, wire.event("other"))
        assert {key: a[:2] for key, a in answers.items()} == {
            "ev-1": (200, "optIn"),
            "other": (200, "optIn"),
        }
    assert running_rig.record().ended_by is Ending.CANCELLED
    assert running_rig.record().event.signals  # still known, for the way back up


async def test_rule_36_a_cancellation_of_what_we_opted_out_of_is_confirmed_too(vtn, running_rig):
    await delivered(vtn, running_rig, wire.event(market="http://other.example"))
    cancelled = wire.event(revision=1, status="cancelled", market="http://other.example")
    for _ in range(2):
        answers = await delivered(vtn, running_rig, cancelled)
        assert answers["ev-1"][:2] == (200, "optIn")


async def test_rule_60_a_cancellation_of_an_unknown_event_is_acknowledged_and_forgotten(
    vtn, running_rig
):
    """V13."""
    answers = await delivered(vtn, running_rig, wire.event("never seen", status="cancelled"))
    assert answers["never seen"][:2] == (200, "optIn")
    assert not running_rig.book.records
    assert not running_rig.intakes


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


async def test_rule_61_an_event_that_is_not_listed_any_more_is_cancelled(vtn, running_rig):
    """V15."""
    await delivered(vtn, running_rig, wire.event("stays"), wire.event("goes"))
    answers = await delivered(vtn, running_rig, wire.event("stays"))
    assert set(answers) == {"stays"}
    assert running_rig.record("goes").ended_by is Ending.CANCELLED
    assert running_rig.record("stays").ended_by is None
    assert [i.verdict for i in running_rig.intakes][-1] is Verdict.CANCELLED
    await delivered(vtn, running_rig)  # an empty list
    assert running_rig.record("stays").ended_by is Ending.CANCELLED


async def test_rule_61_refused_events_count_as_listed(vtn, running_rig):
    await delivered(vtn, running_rig, wire.event("a"), wire.event("b"))
    await delivered(
        vtn,
        running_rig,
        wire.event("a", 1, signals=[wire.signal(intervals=[wire.interval("NaN")])]),
        wire.event("b", 1, target="<ei:venID>other</ei:venID>"),
    )
    assert running_rig.record("a").ended_by is None
    assert running_rig.record("b").ended_by is None


async def test_rule_61_nothing_is_implied_by_a_list_with_an_event_that_has_no_id(vtn, running_rig):
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
async def test_rule_61_what_is_no_whole_list_implies_nothing(vtn, running_rig, no_list):
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


async def test_rules_30_and_65_the_start_is_drawn_once_and_kept(vtn, running_rig):
    await delivered(vtn, running_rig, wire.event(start=NOON + HOUR, start_after="PT10M"))
    shift = running_rig.record().start_shift
    assert timedelta(0) <= shift < timedelta(minutes=10)
    await running_rig.restart()
    await delivered(
        vtn, running_rig, wire.event(revision=1, start=NOON + HOUR, start_after="PT10M")
    )
    assert running_rig.record().start_shift == shift
    running_rig.clock.leap(HOUR.total_seconds() + 600)
    baseline = Baseline(1e5, 1e5, "mean of the 15 min before", running_rig.clock.now())
    running_rig.book.put(replace(running_rig.record(), baseline=baseline))
    await delivered(
        vtn, running_rig, wire.event(revision=2, start_after="PT10M", status="cancelled")
    )
    record = running_rig.record()
    assert record.ended_at == running_rig.clock.now() + record.end_shift
    assert record.end_shift == shift


async def test_rule_65_what_is_cancelled_before_its_drawn_start_ends_at_once(vtn, running_rig):
    await delivered(vtn, running_rig, wire.event(start=NOON + HOUR, start_after="PT10M"))
    cancelled = wire.event(revision=1, start=NOON + HOUR, start_after="PT10M", status="cancelled")
    await delivered(vtn, running_rig, cancelled)
    assert running_rig.record().ended_at == running_rig.clock.now()


async def test_rule_47_an_unending_event_is_taken_as_such(vtn, running_rig):
    await delivered(vtn, running_rig, wire.event(duration="PT0S", signals=[wire.simple(1, "PT0S")]))
    assert running_rig.record().event.duration is None


async def test_blackouts_and_short_notice_answer_opt_out(vtn, tmp_path):
    policy = Policy(max_import_w=1e5, min_notice_s=600)
    async with Rig(tmp_path, vtn.url, policy=policy, programs=(PROGRAM, Program("p", "*"))) as rig:
        answers = await delivered(
            vtn, rig, wire.event("soon"), wire.event("later", start=NOON + HOUR)
        )
    assert answers["soon"][1] == "optOut"
    assert answers["later"][1] == "optIn"


def leave(rig: Rig) -> EventRecord:
    """The operator leaves the event."""
    decision = OptDecision(Opt.OUT, "operator kim", rig.clock.now(), "maintenance")
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
