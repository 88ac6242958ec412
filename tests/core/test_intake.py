"""Rule 8: whatever order messages come in, the newest valid state is what stays."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from agent.core.event import Ending, Opt, OptDecision
from agent.core.intake import Verdict, missing_from, receive
from agent.core.lifecycle import opted_out
from agent.core.policy import Blackout
from tests.core.build import NOON, POLICY, PROGRAM, at, event, record, s


def take(known, arriving, second=0.0, draw=0.5, policy=POLICY, programs=(PROGRAM,)):
    return receive(known, arriving, programs, policy, at(second), draw)


def test_a_new_event_of_a_known_program_is_opted_in():
    intake = take(None, event())
    assert (intake.verdict, intake.opt) == (Verdict.NEW, Opt.IN)
    assert intake.record is not None
    assert intake.record.ended_at is None


def test_an_event_of_no_program_is_opted_out_with_the_reason():
    intake = take(None, event(program="http://else.example"))
    assert intake.opt is Opt.OUT
    assert intake.record is not None
    assert "http://else.example" in intake.record.opt.why
    assert intake.record.ended_by is Ending.OPTED_OUT


def test_blackouts_and_short_notice_are_opted_out():
    dark = replace(POLICY, blackouts=(Blackout(at(0), at(60), "launch week"),))
    assert take(None, event(), policy=dark).opt is Opt.OUT
    assert take(None, event(start=61), policy=dark).opt is Opt.IN
    hasty = replace(POLICY, min_notice_s=30.0)
    assert take(None, event(start=29), policy=hasty).opt is Opt.OUT
    assert take(None, event(start=30), policy=hasty).opt is Opt.IN


def test_a_repetition_changes_nothing_and_repeats_the_stored_answer():
    known = replace(record(event()), opt=OptDecision(Opt.OUT, "operator ann", NOON, "launch"))
    intake = take(known, event())
    assert (intake.verdict, intake.opt) == (Verdict.REPEATED, Opt.OUT)
    assert intake.record is known


def test_a_lower_modification_number_is_refused_and_changes_nothing():
    known = record(event((600, 2), revision=5))
    intake = take(known, event((600, 1), revision=3))
    assert intake.verdict is Verdict.OUTDATED
    assert intake.record is known


def test_a_modification_replaces_the_event_and_keeps_decision_shift_and_baseline():
    known = replace(
        record(event((600, 2), start_window=s(60))),
        opt=OptDecision(Opt.OUT, "operator ann", NOON, "launch"),
        start_shift=s(33),
    )
    intake = take(known, event((900, 1), revision=1, start_window=s(60)), draw=0.9)
    assert intake.verdict is Verdict.MODIFIED
    assert intake.record is not None
    assert intake.record.event.revision == 1
    assert intake.record.start_shift == s(33)
    assert intake.record.baseline == known.baseline
    assert intake.record.opt == known.opt


def test_a_modification_that_moves_the_start_into_the_future_freezes_a_new_baseline():
    known = record(event((600, 2)))
    moved = take(known, event((600, 2), start=1000, revision=1), second=10).record
    assert moved is not None
    assert moved.baseline is None


def test_the_start_is_drawn_once_within_its_window():
    intake = take(None, event(start_window=s(60)), draw=0.25)
    assert intake.record is not None
    assert intake.record.start_shift == s(15)


def test_a_cancel_ends_the_event_after_the_delay_drawn_with_its_start():
    known = replace(record(event((600, 2))), end_shift=s(20))
    intake = take(known, event((600, 2), revision=1, cancelled=True), second=100)
    assert intake.verdict is Verdict.CANCELLED
    assert intake.record is not None
    assert intake.record.ended_at == at(120)


def test_a_cancel_of_an_unknown_event_is_acknowledged_and_forgotten():
    intake = take(None, event(cancelled=True))
    assert (intake.verdict, intake.record) == (Verdict.UNKNOWN_CANCEL, None)


def test_a_later_revision_takes_a_cancel_back():
    cancelled = take(record(event()), event(revision=1, cancelled=True), second=5).record
    intake = take(cancelled, event(revision=2), second=6)
    assert intake.record is not None
    assert intake.record.ended_at is None


def test_a_cancelled_event_seen_again_uncancelled_at_the_same_revision_stays_cancelled():
    cancelled = take(record(event()), event(revision=1, cancelled=True), second=5).record
    assert take(cancelled, event(revision=1)).verdict is Verdict.REPEATED


def test_a_modification_of_an_event_we_left_does_not_pull_the_site_down_again():
    left = opted_out(
        replace(record(event((600, 2))), opt=OptDecision(Opt.OUT, "operator ann", at(60), "x")),
        at(60),
    )
    modified = take(left, event((900, 2), revision=1), second=300).record
    assert modified is not None
    assert modified.ended_at == at(60)


def test_events_missing_from_a_whole_listing_are_cancelled_by_implication():
    kept, gone, past = (
        record(event(event_id="kept")),
        record(event(event_id="gone")),
        record(event((10, 2), event_id="past")),
    )
    known = {r.key: r for r in (kept, gone, past)}
    listing = {kept.key: kept.event}
    changed = missing_from(listing, known, "ven", at(100))
    assert [r.event.event_id for r in changed] == ["gone"]
    assert changed[0].ended_by is Ending.CANCELLED
    assert missing_from(listing, known, "another-ven", at(100)) == ()


def test_an_event_cancelled_by_implication_and_listed_again_unchanged_is_on_again():
    known = record(event())
    (gone,) = missing_from({}, {known.key: known}, "ven", at(100))
    again = take(gone, event(), second=110)
    assert again.verdict is Verdict.MODIFIED
    assert again.record is not None
    assert again.record.ended_at is None
    assert missing_from({}, {gone.key: gone}, "ven", at(105)) == ()


def test_a_cancel_is_confirmed_again_though_we_had_opted_out():
    out = OptDecision(Opt.OUT, "operator ann", NOON, "launch")
    cancelled = take(
        replace(record(event()), opt=out), event(revision=1, cancelled=True), second=5
    ).record
    assert take(cancelled, event(revision=1, cancelled=True), second=6).opt is Opt.IN


messages = st.lists(
    st.tuples(st.integers(0, 6), st.booleans(), st.integers(1, 3)), min_size=1, max_size=12
)


@given(messages, st.randoms())
def test_any_order_with_any_repetitions_ends_in_the_newest_revision(sent, random):
    """Each revision has one content; a revision may be a cancel. Deliveries are shuffled and doubled."""
    content = {}
    for revision, cancelled, level in sent:
        content.setdefault(revision, event((600, level), revision=revision, cancelled=cancelled))
    deliveries = [e for e in content.values() for _ in range(random.randint(1, 3))]
    random.shuffle(deliveries)
    known, second = None, 0.0
    for delivered in deliveries:
        second += 1.0
        known = take(known, delivered, second).record or known
    live = {r: e for r, e in content.items() if not e.cancelled}
    newest = max(content)
    if known is None:
        assert all(e.cancelled for e in content.values())
        return
    assert known.event.revision <= newest
    if newest in live:
        assert known.event == content[newest]
        assert known.ended_at is None
    elif known.event.revision == newest:
        assert known.ended_by is Ending.CANCELLED


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 3600))
def test_the_drawn_start_lies_within_the_window_and_survives_modification(draw, window):
    first = take(None, event(start_window=timedelta(seconds=window)), draw=draw).record
    assert first is not None
    assert timedelta(0) <= first.start_shift <= timedelta(seconds=window)
    modified = take(
        first, event(revision=1, start_window=timedelta(seconds=window)), draw=0.999
    ).record
    assert modified is not None
    assert modified.start_shift == first.start_shift
