"""Rule 8: whatever order messages come in, the newest valid state is what stays."""

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from agent.core.event import Ending, Opt, OptDecision, SignalKind
from agent.core.intake import Verdict, missing_from, receive, reconsidered
from agent.core.lifecycle import Phase, opted_in, opted_out, phase_of
from agent.core.policy import Blackout
from agent.core.timeline import Timeline, obligations_of
from tests.core.build import NOON, POLICY, PROGRAM, at, event, record, s


def take(known, arriving, second=0.0, draw=0.5, policy=POLICY, programs=(PROGRAM,)):
    return receive(known, arriving, programs, policy, at(second), draw)


def limits(of_record, *seconds, program=PROGRAM):
    """What a record asks of the site second by second; 40 kW are drawn before."""
    asked = obligations_of(of_record, program, POLICY.max_import_w, 40_000.0, 3600.0)
    ceilings = [Timeline(asked).ceiling_at(at(second)) for second in seconds]
    return [None if c is None else round(c.limit_w) for c in ceilings]


def phases(of_record, *seconds):
    return [phase_of(of_record, PROGRAM, at(second), s(120)) for second in seconds]


def operator(opt, second=0.0):
    return OptDecision(opt, "operator ann", at(second), "launch")


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


def test_a_programs_own_notice_counts_before_the_sites_whichever_is_longer():
    hasty = replace(POLICY, min_notice_s=30.0)
    for own_s, opts in ((60.0, [Opt.OUT, Opt.IN]), (0.0, [Opt.IN, Opt.IN])):
        own = (replace(PROGRAM, min_notice_s=own_s),)
        found = [take(None, event(start=s), policy=hasty, programs=own).opt for s in (59, 60)]
        assert found == opts
    without_notice = (replace(PROGRAM, min_notice_s=0.0),)
    assert take(None, event(start=0), policy=hasty, programs=without_notice).opt is Opt.IN


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


def test_a_start_may_be_drawn_to_either_side_and_its_end_is_not_delayed():
    either = event(start_window=s(60), start_early=s(60))
    for draw, shift_s in ((0.0, -60), (0.25, -30), (0.5, 0), (0.75, 30)):
        drawn = take(None, either, draw=draw).record
        assert (drawn.start_shift, drawn.end_shift) == (s(shift_s), s(0))
    early = take(None, either, draw=0.0).record
    narrowed = replace(either, start_window=s(20), start_early=s(20), revision=1)
    assert take(early, narrowed).record.start_shift == s(-20)


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
    intake = take(cancelled, event(revision=1))
    assert (intake.verdict, intake.record) == (Verdict.CONFLICTING, cancelled)


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


def test_an_event_opted_out_of_on_arrival_sheds_nothing_though_it_is_under_way():
    hasty = replace(POLICY, min_notice_s=600.0)
    late = take(None, event((3600, 2), ramp_up=s(300)), second=60, policy=hasty)
    assert late.opt is Opt.OUT
    assert limits(late.record, 60, 61, 200, 400) == [None] * 4
    assert phases(late.record, 60, 61, 400) == [Phase.OPTED_OUT] * 3


def test_an_event_changed_to_begin_without_notice_sheds_nothing():
    hasty = replace(POLICY, min_notice_s=600.0)
    known = take(None, event((3600, 2), start=7200, ramp_up=s(300)), policy=hasty).record
    sooner = event((3600, 2), start=60, ramp_up=s(300), revision=1)
    changed = take(known, sooner, second=120, policy=hasty)
    assert changed.opt is Opt.OUT
    assert limits(changed.record, 120, 121, 400) == [None] * 3
    assert phases(changed.record, 120, 121) == [Phase.OPTED_OUT] * 2


def test_a_drop_to_opted_out_of_on_arrival_sheds_nothing_either():
    hasty = replace(POLICY, min_notice_s=600.0)
    deep = event((3600, 9_000), kind=SignalKind.SETPOINT, ramp_up=s(300))
    late = take(None, deep, second=60, policy=hasty).record
    assert limits(late, 60, 200) == [None] * 2


def test_an_event_opted_out_of_on_arrival_can_still_be_taken_up_by_the_operator():
    hasty = replace(POLICY, min_notice_s=600.0)
    late = take(None, event((3600, 2)), second=60, policy=hasty).record
    taken = opted_in(replace(late, opt=operator(Opt.IN, 90)))
    assert limits(taken, 100) == [30_000]
    assert phases(taken, 100) == [Phase.HOLDING]


def test_cancelled_and_then_opted_out_of_an_event_is_not_acted_on_again():
    """Left at 60 and back since; a VTN that loses it and lists it again pulls nobody down."""
    left = opted_out(replace(record(event((600, 2))), opt=operator(Opt.OUT, 60)), at(60))
    (gone,) = missing_from({}, {left.key: left}, "ven", at(100))
    again = take(gone, event((600, 2)), second=200).record
    assert again.ended_at == at(60)
    assert limits(again, 200) == [40_400], "only the guard against a rebound"


def test_an_event_cancelled_before_its_drawn_start_never_begins():
    drawn = take(None, event((3600, 2), start_window=s(600)), second=-3600, draw=0.9).record
    assert drawn.start_shift == s(540)
    gone = take(drawn, event((3600, 2), revision=1, cancelled=True), second=300).record
    assert limits(gone, 301, 541, 839, 900) == [None] * 4
    assert phases(gone, 301, 541) == [Phase.CANCELLED] * 2


def test_an_event_cancelled_as_it_begins_to_act_but_before_its_drawn_start_never_begins():
    """The baseline is frozen, and the site made ready, a moment before."""
    ready = replace(record(event((3600, 2), start_window=s(600))), start_shift=s(540))
    ready = replace(ready, end_shift=s(540))
    gone = take(ready, event((3600, 2), revision=1, cancelled=True), second=539).record
    assert gone.ended_at == at(539)
    assert limits(gone, 539, 541, 900) == [None] * 3


def test_a_start_window_that_changes_is_drawn_from_anew_until_the_event_has_begun():
    """Kept, a long delay would come to the very end of a shorter window: many sites, all at once."""
    drawn = take(None, event(start_window=s(600)), second=-60, draw=0.9).record
    cut = take(drawn, event(start_window=s(60), revision=1), second=-30, draw=0.5).record
    assert (cut.start_shift, cut.end_shift) == (s(30), s(30))
    begun = take(cut, event(start_window=s(600), revision=2), second=31, draw=0.9).record
    assert (begun.start_shift, begun.end_shift) == (s(30), s(30))
    shorter = take(begun, event(start_window=s(10), revision=3), second=40, draw=0.9).record
    assert (shorter.start_shift, shorter.end_shift) == (s(10), s(10))


def test_an_event_that_gets_a_start_window_later_is_randomised_too():
    known = take(None, event(), second=-60).record
    assert known.start_shift == s(0)
    spread = take(known, event(start_window=s(100), revision=1), second=-30, draw=0.25).record
    assert (spread.start_shift, spread.end_shift) == (s(25), s(25))


def test_the_same_modification_number_with_another_content_is_refused_and_changes_nothing():
    known = take(None, event((600, 2))).record
    for changed in (event((600, 1)), event((900, 2)), event(start=10), event(priority=1)):
        intake = take(known, changed)
        assert (intake.verdict, intake.record, intake.opt) == (Verdict.CONFLICTING, known, Opt.IN)
    retold = replace(event((600, 2)), comment="hello", created_at=at(60), response_required=False)
    assert take(known, retold).verdict is Verdict.REPEATED


def test_a_cancel_ends_the_event_as_we_know_it_whatever_else_it_changes():
    held = record(event((600, 2), ramp_up=s(100)))
    moved = event((600, 2), start=5_000, revision=1, cancelled=True)
    gone = take(held, moved, second=100).record
    assert limits(gone, 100, 150, 200) == [30_000, 35_000, 40_400]
    assert phases(gone, 100, 200, 5_001) == [
        Phase.RAMPING_UP,
        Phase.CANCELLED,
        Phase.CANCELLED,
    ]


def test_an_event_moved_under_way_comes_back_within_its_ramp_and_acts_again_at_its_new_time():
    held = record(event((600, 2), ramp_up=s(100)))
    moved = take(held, event((600, 2), start=5_000, ramp_up=s(100), revision=1), second=100).record
    assert limits(moved, 100, 150, 200, 3_799, 3_801) == [30_000, 35_000, 40_400, 40_400, None]
    assert limits(moved, 4_999, 5_000, 5_600) == [None, 30_000, 30_000]
    assert phases(moved, 100, 199, 200, 4_900, 5_000) == [
        Phase.RAMPING_UP,
        Phase.RAMPING_UP,
        Phase.NOTIFIED,
        Phase.PENDING,
        Phase.HOLDING,
    ]


def test_an_event_moved_into_a_blackout_under_way_comes_back_within_its_ramp():
    dark = replace(POLICY, blackouts=(Blackout(at(4_000), at(6_000), "launch week"),))
    held = record(event((600, 2), ramp_up=s(100)))
    later = event((600, 2), start=5_000, ramp_up=s(100), revision=1)
    moved = take(held, later, second=100, policy=dark)
    assert moved.opt is Opt.OUT
    assert limits(moved.record, 100, 150, 200, 5_001) == [30_000, 35_000, 40_400, None]
    assert phases(moved.record, 100, 200) == [Phase.RAMPING_UP, Phase.OPTED_OUT]


def test_an_event_cut_short_into_the_past_comes_back_within_its_ramp():
    held = record(event((600, 2), ramp_up=s(100)))
    cut = take(held, event((120, 2), ramp_up=s(100), revision=1), second=300).record
    assert limits(cut, 300, 350, 400) == [30_000, 35_000, 40_400]


def test_an_event_that_is_moved_twice_on_its_way_back_never_jumps():
    held = record(event((600, 2), ramp_up=s(100)))
    once = take(held, event((600, 2), start=5_000, ramp_up=s(100), revision=1), second=100).record
    twice = take(once, event((600, 1), start=6_000, ramp_up=s(100), revision=2), second=150).record
    assert limits(twice, 150, 175, 200) == [35_000, 37_500, 40_400]


def test_an_event_made_less_strict_under_way_rises_within_its_ramp():
    held = record(event((600, 2), ramp_up=s(100)))
    less = take(held, event((600, 1), ramp_up=s(100), revision=1), second=100).record
    assert limits(less, 100, 150, 160, 599) == [30_000, 35_000, 36_000, 36_000]
    same = take(held, event((900, 2), ramp_up=s(100), revision=1), second=100).record
    assert same.way_back is None, "nothing was taken away"


def test_an_event_that_is_over_and_called_anew_keeps_its_guard_against_a_rebound():
    over = record(event((600, 2), ramp_up=s(100)))
    anew = take(over, event((600, 2), start=9_000, revision=1), second=1_000).record
    assert limits(anew, 1_000, 4_299, 4_301, 9_001) == [40_400, 40_400, None, 30_000]
    assert phases(anew, 1_000) == [Phase.NOTIFIED]


def test_prices_are_opted_in_and_of_unknown_signals_only_is_opted_out_with_the_reason():
    assert take(None, event(kind=SignalKind.PRICE)).opt is Opt.IN
    unknown = take(None, event(kind=SignalKind.OTHER))
    assert unknown.opt is Opt.OUT
    assert unknown.record.opt.by == "policy"
    assert "none of its signals is known here" in unknown.record.opt.why
    known = take(unknown.record, event(revision=1))
    assert (known.verdict, known.opt) == (Verdict.MODIFIED, Opt.IN)


def stopped(known, second):
    return reconsidered(known, (PROGRAM,), replace(POLICY, stopped="fire drill"), at(second))


def resumed(known, second, policy=POLICY):
    return reconsidered(known, (PROGRAM,), policy, at(second))


def test_an_operators_opt_in_stands_again_after_a_local_stop():
    hasty = replace(POLICY, min_notice_s=600.0)
    wanted = record(event(start=300), opt=operator(Opt.IN))
    out = stopped(wanted, 20)
    assert (out.opt.opt, out.opt.why) == (Opt.OUT, "local stop: fire drill")
    assert resumed(out, 30, hasty) == wanted


def test_what_an_operator_decides_during_a_local_stop_stands_after_it():
    out = stopped(record(event(start=300), opt=operator(Opt.IN)), 20)
    left = opted_out(replace(out, opt=operator(Opt.OUT, 25)), at(25))
    assert resumed(left, 30).opt == operator(Opt.OUT, 25)


def test_a_local_stop_leaves_what_the_operator_had_left_and_its_end_does_not_take_it_up():
    left = opted_out(replace(record(event(start=300)), opt=operator(Opt.OUT, 10)), at(10))
    assert stopped(left, 20) == left
    assert resumed(left, 30) == left


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


@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(-600, 900),
    st.sampled_from([30, 300, 900]),
    st.integers(0, 60),
    st.integers(1, 500).filter(lambda second: second != 30),  # it begins then: nothing held yet
)
def test_no_change_under_way_lets_the_site_rise_faster_than_the_events_end_would(
    before, after, start, length, window, second
):
    """It comes back from the lower of both levels over 100 s, and so never rises by more a second."""
    held = replace(record(event((600, before), ramp_up=s(100))), start_shift=s(30))
    sent = event((length, after), start=start, ramp_up=s(100), revision=1, start_window=s(window))
    changed = take(held, sent, second=second).record

    def limit_w(of_record, passed):
        asked = obligations_of(of_record, PROGRAM, POLICY.max_import_w, 40_000.0, 0.0)
        ceiling = Timeline(asked).ceiling_at(at(second + passed))
        return 40_000.0 if ceiling is None else ceiling.limit_w

    most_w = (40_000 - {1: 36_000, 2: 30_000, 3: 12_000}[max(before, after)]) / 100 + 1e-6
    line = [limit_w(held, 0), *(limit_w(changed, passed) for passed in range(130))]
    assert all(later - sooner <= most_w for sooner, later in pairwise(line))


@given(st.floats(0, 1, exclude_max=True), st.lists(st.integers(0, 3600), min_size=1, max_size=5))
def test_the_drawn_start_never_lies_beyond_the_newest_window(draw, windows):
    known = None
    for revision, window in enumerate(windows):
        known = take(known, event(revision=revision, start_window=s(window)), draw=draw).record
        assert timedelta(0) <= known.start_shift <= s(window)
        assert timedelta(0) <= known.end_shift <= s(window)
