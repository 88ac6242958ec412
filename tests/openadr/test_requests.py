"""When reports are due and what each covers."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.openadr.v20.messages import Code, RejectedRequest, WireReportRequest
from agent.openadr.v20b import requests
from agent.openadr.v20b.settings import Ven20bSettings
from agent.store.history import KEEP
from agent.store.registrations import Registration, ReportRequest
from tests.clock import NOON

pytestmark = pytest.mark.openadr2

SETTINGS = Ven20bSettings(kind="openadr-2.0b", name="ven", vtn_url="http://vtn.example/b")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOTHING = Registration("ven", "ven-1", "reg-1", "vtn", 10.0)


def s(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def wanted(granularity: float = 1, back: float = 10, **changes) -> WireReportRequest:
    fields = {
        "request_id": "rr-1",
        "specifier_id": "usage",
        "r_ids": ("site-power",),
        "granularity": s(granularity),
        "back_duration": s(back),
        "starts_at": None,
        "duration": None,
    }
    return WireReportRequest(**(fields | changes))


def taken(wire: WireReportRequest, now=NOON, settings=SETTINGS) -> ReportRequest:
    request = requests.judge(wire, settings, now)
    assert isinstance(request, ReportRequest), request
    return request


@pytest.mark.parametrize("cadence_s", [0.25, 1, 7, 45, 90, 900, 5400])
def test_v23_any_cadence_is_kept(cadence_s):
    settings = SETTINGS.model_copy(update={"report_min_s": 0.1})
    request = taken(wanted(cadence_s, cadence_s), settings=settings)
    now, sent = request.sent_through, []
    for _ in range(20):
        now = requests.complete_at(request)
        start, end = requests.chunk_of(request, now, now - s(1e6))
        sent.append((start, end))
        request = replace(request, sent_through=end)
    assert all(end - start == s(cadence_s) for start, end in sent)
    assert all(a[1] == b[0] for a, b in pairwise(sent))


@given(
    grain=st.integers(1, 4000),
    back=st.integers(0, 4000),
    span=st.integers(0, 200_000),
    steps=st.lists(st.integers(1, 5000), min_size=1, max_size=8),
)
def test_chunks_cover_every_whole_interval_exactly_once(grain, back, span, steps):
    request = ReportRequest("rr", "usage", ("a", "b"), s(grain), s(back or grain), NOON)
    settled, covered = NOON, []
    for step in [*steps, span]:
        settled += s(step)
        while requests.complete_at(request) <= settled:
            start, end = requests.chunk_of(request, settled, NOON - s(1))
            assert start == request.sent_through < end <= settled
            assert (end - start) / s(grain) * 2 <= requests.MAX_DATA
            assert (end - start) % s(grain) == s(0)
            covered.append((start, end))
            request = replace(request, sent_through=end)
    edge = NOON
    for start, end in covered:
        assert start == edge
        edge = end
    assert settled - edge < s(grain + back)  # nothing waits for longer


def test_what_is_not_kept_any_more_is_skipped_in_whole_intervals():
    request = ReportRequest("rr", "usage", ("a",), s(7), s(7), NOON)
    kept_from = NOON + s(100)
    start, end = requests.chunk_of(request, NOON + s(200), kept_from)
    assert start == NOON + s(105)
    assert end == NOON + s(196)


def test_nothing_is_covered_before_it_is_complete():
    request = taken(wanted(60, 60))
    for seconds in (-100, 0, 59):
        assert requests.chunk_of(request, NOON + s(seconds), NOON - s(1)) == (NOON, NOON)


def test_intervals_keep_to_the_clock():
    late = NOON + s(437)
    assert taken(wanted(900, 900), late).sent_through == NOON
    assert taken(wanted(60, 300), late).sent_through == NOON + s(420)


def test_a_request_for_one_value_averages_over_what_it_reports_back_on():
    assert requests.grain_of(taken(wanted(0, 30))) == s(30)


def test_a_one_shot_request_is_for_the_latest_value_and_then_over():
    request = taken(wanted(0, 0))
    assert (request.sent_through, request.ends_at) == (NOON - s(10), NOON)
    assert requests.complete_at(request) == NOON
    assert requests.chunk_of(request, NOON, NOON - s(1e6)) == (NOON - s(10), NOON)
    request = taken(wanted(60, 0))
    assert (request.sent_through, request.ends_at) == (NOON - s(60), NOON)


def test_one_report_from_now_on_without_a_length_is_of_what_was_last():
    """Their clock may be somewhat ahead of ours."""
    for ahead_s in (-3, 0):
        request = taken(wanted(0, 0, starts_at=NOON + s(ahead_s), duration=s(0)))
        assert (request.sent_through, request.ends_at) == (NOON - s(10), NOON)
    request = taken(wanted(60, 0, starts_at=NOON + s(2), duration=s(0)))
    assert (request.sent_through, request.ends_at) == (NOON - s(58), NOON + s(2))


def test_a_one_shot_request_may_be_for_a_stretch_of_the_past_or_the_future():
    past = taken(wanted(60, 0, starts_at=NOON - s(3600), duration=s(1800)))
    assert (past.sent_through, past.ends_at) == (NOON - s(3600), NOON - s(1800))
    future = taken(wanted(60, 0, starts_at=NOON + s(60), duration=s(600)))
    assert requests.complete_at(future) == NOON + s(660)
    since = taken(wanted(60, 0, starts_at=NOON - s(600), duration=s(0)))
    assert (since.sent_through, since.ends_at) == (NOON - s(600), NOON)


@pytest.mark.parametrize(("length", "grain"), [(1800, 1800), (3 * 86400, 86400)])
def test_a_stretch_without_a_granularity_is_averaged_as_a_whole_or_by_the_day(length, grain):
    request = taken(wanted(0, 0, starts_at=NOON - s(length), duration=s(length)))
    assert requests.grain_of(request) == s(grain)


def test_a_history_without_a_stretch_is_all_that_is_kept():
    wire = wanted(900, 0, specifier_id="history", r_ids=("site-power-history",))
    request = taken(wire, NOON + s(1))
    assert (request.sent_through, request.ends_at) == (NOON - KEEP + s(900), NOON + s(1))


def test_a_stretch_that_is_partly_forgotten_is_served_from_its_first_whole_interval():
    wire = wanted(7, 0, starts_at=NOON - s(140), duration=s(140))
    start, end = requests.chunk_of(taken(wire), NOON, NOON - s(100))
    assert (start, end) == (NOON - s(98), NOON)
    assert requests.chunk_of(taken(wire), NOON, NOON + s(1)) == (NOON, NOON)  # all of it


@pytest.mark.parametrize(
    ("granularity", "back", "reports"),
    [
        (7, 60, [(60, 8), (120, 9), (180, 8)]),
        (7, 7, [(7, 1), (14, 1), (21, 1)]),
        (90, 60, [(120, 1), (180, 1), (300, 1)]),
        (45, 90, [(90, 2), (180, 2), (270, 2)]),
        (0, 90, [(90, 1), (180, 1), (270, 1)]),
        (5400, 5400, [(5400, 1), (10800, 1), (16200, 1)]),
        (2.5, 10, [(10, 4), (20, 4), (30, 4)]),
        (86400, 86400, [(86400, 1), (172800, 1), (259200, 1)]),
    ],
)
def test_reports_come_when_their_duration_passes_with_the_intervals_that_are_over(
    granularity, back, reports
):
    """Where neither divides the other, too: on the clock, each with what is whole by then."""
    request = ReportRequest("rr", "usage", ("a",), s(granularity), s(back), _EPOCH)
    for due_s, intervals in reports:
        due = requests.complete_at(request)
        assert due == _EPOCH + s(due_s)
        start, end = requests.chunk_of(request, due + s(0.5), _EPOCH)
        assert start == request.sent_through
        assert (end - start) / requests.grain_of(request) == intervals
        request = replace(request, sent_through=end)


def test_what_may_have_arrived_is_repeated_as_it_was():
    request = ReportRequest("rr", "usage", ("a",), s(1), s(10), NOON)
    held = requests.begun(NOTHING.with_request(request), "rr", NOON + s(10))
    (sending,) = held.requests
    assert requests.chunk_of(sending, NOON + s(500), NOON) == (NOON, NOON + s(10))
    (sent,) = requests.advanced(held, "rr", NOON + s(10)).requests
    assert requests.chunk_of(sent, NOON + s(500), NOON) == (NOON + s(10), NOON + s(500))


def test_a_report_that_ends_covers_the_rest_of_its_stretch():
    request = taken(wanted(60, 60, starts_at=NOON, duration=s(150)))
    assert requests.complete_at(request) == NOON + s(60)
    start, end = requests.chunk_of(request, NOON + s(200), NOON - s(1))
    assert (start, end) == (NOON, NOON + s(150))
    held = NOTHING.with_request(request)
    assert requests.advanced(held, "rr-1", start + s(60)).requests[0].sent_through == NOON + s(60)
    assert requests.advanced(held, "rr-1", end).requests == ()


@pytest.mark.parametrize(
    ("wire", "why"),
    [
        (wanted(specifier_id="heat"), "reportSpecifierID 'heat' is not offered"),
        (wanted(r_ids=("site-power", "gpu-0")), "rID 'gpu-0' is not offered under 'usage'"),
        (wanted(0.5), "its interval of 0.5 s is not between the offered 1 and 86400 s"),
        (wanted(100_000), "its interval of 100000 s"),
        (wanted(0, 0.001), "its interval of 0.001 s"),
        (wanted(60, 30 * 86400), "reportBackDuration is longer than P17DT12H"),
        (wanted(starts_at=NOON, duration=s(-1)), "no sensible duration"),
        (wanted(starts_at=NOON.replace(year=9999)), "begins in the year 9999"),
    ],
)
def test_what_is_not_offered_is_refused_with_the_reason(wire, why):
    refusal = requests.judge(wire, SETTINGS, NOON)
    assert isinstance(refusal, RejectedRequest)
    assert refusal.code is Code.REPORT_NOT_SUPPORTED
    assert refusal.why.startswith("report request 'rr-1': ")
    assert why in refusal.why


def test_no_rids_means_all_of_them():
    assert taken(wanted(r_ids=())).r_ids == (
        "site-power",
        "site-energy",
        "gpus-power",
        "gpus-energy",
    )


def test_the_same_request_again_goes_on_where_it_was():
    first = requests.adopt(NOTHING, taken(wanted()), NOON)
    (request,) = first.requests
    moved = first.with_request(replace(request, sent_through=NOON + s(50)))
    again = requests.adopt(moved, taken(wanted(), NOON + s(90)), NOON + s(90))
    assert [r.sent_through for r in again.requests] == [NOON + s(50)]


def test_the_same_request_again_may_end_otherwise():
    """Also one that was to end with a last report: it was asked for again."""
    held = requests.adopt(NOTHING, taken(wanted()), NOON)
    hour = wanted(starts_at=NOON, duration=s(3600))
    held = requests.adopt(held, taken(hour), NOON)
    assert [r.ends_at for r in held.requests] == [NOON + s(3600)]
    held = requests.ended(held, ["rr-1"], NOON + s(5))
    held = requests.adopt(held, taken(wanted()), NOON + s(5))
    assert [(r.sent_through, r.ends_at) for r in held.requests] == [(NOON, None)]


@pytest.mark.parametrize("dormant", [True, False])
@pytest.mark.parametrize("granularity_s", [1, 5])
def test_a_request_goes_on_from_none_that_has_not_begun(dormant, granularity_s):
    """Or that was reported through times that were none: the clock has been set back since."""
    ahead = ReportRequest("rr-1", "usage", ("site-power",), s(1), s(10), NOON + s(86_400))
    held = NOTHING.with_request(replace(ahead, dormant=dormant))
    held = requests.adopt(held, taken(wanted(granularity_s)), NOON)
    assert [(r.sent_through, r.dormant) for r in held.requests] == [(NOON, False)]


def test_a_vtn_whose_clock_is_a_little_ahead_asks_from_now_on():
    """So that what was missed meanwhile is not left out."""
    old = ReportRequest("old", "usage", ("site-power",), s(1), s(10), NOON, dormant=True)
    now = NOON + s(500)
    wire = wanted(starts_at=now + s(5))
    held = requests.adopt(NOTHING.with_request(old), taken(wire, now), now)
    assert [r.sent_through for r in held.requests] == [NOON]


def test_a_data_point_that_is_asked_for_twice_is_reported_once():
    assert taken(wanted(r_ids=("site-power", "site-power"))).r_ids == ("site-power",)


def test_the_same_report_asked_for_twice_is_two_and_both_go_on_later():
    """Also where the VTN asks for only one of them at first."""
    first, second = taken(wanted(request_id="a")), taken(wanted(request_id="b"))
    held = requests.adopt(requests.adopt(NOTHING, first, NOON), second, NOON)
    assert requests.pending_ids(held.requests) == ("a", "b")
    asleep = replace(held, requests=requests.dormant(held.requests))
    later = NOON + s(500)
    for request_id in ("c", "d"):
        asleep = requests.adopt(asleep, taken(wanted(request_id=request_id), later), later)
    assert {r.request_id: r.sent_through for r in asleep.requests} == {"c": NOON, "d": NOON}


def test_what_nobody_asked_for_when_it_could_have_been_is_not_gone_on_with_later():
    left = ReportRequest("left", "usage", ("site-power",), s(1), s(10), NOON, dormant=True)
    other = replace(left, request_id="other", specifier_id="status")
    asked = replace(left, request_id="asked", sent_through=NOON + s(900), dormant=False)
    ending = replace(asked, request_id="ending", ends_at=NOON + s(950))
    kept = requests.dormant((left, asked, other, ending))
    assert {r.request_id for r in kept} == {"asked", "other"}


def test_a_new_request_takes_over_from_a_dormant_one_of_its_kind():
    dormant = ReportRequest("old", "usage", ("site-power",), s(1), s(10), NOON, dormant=True)
    other = ReportRequest("old-2", "status", ("site-status",), s(1), s(10), NOON, dormant=True)
    held = NOTHING.with_request(dormant).with_request(other)
    now = NOON + s(500)
    adopted = requests.adopt(held, taken(wanted(request_id="new"), now), now)
    assert {r.request_id: r.sent_through for r in adopted.requests} == {"new": NOON, "old-2": NOON}
    second = requests.adopt(adopted, taken(wanted(request_id="newer"), now), now)
    assert {r.request_id: r.sent_through for r in second.requests}["newer"] == now


def test_a_request_that_begins_later_takes_nothing_over():
    dormant = ReportRequest("old", "usage", ("site-power",), s(1), s(10), NOON, dormant=True)
    wire = wanted(starts_at=NOON + s(900))
    adopted = requests.adopt(NOTHING.with_request(dormant), taken(wire), NOON)
    assert {r.request_id: r.sent_through for r in adopted.requests}["rr-1"] == NOON + s(900)


def test_waiting_counts_data_points_that_are_due():
    request = taken(wanted(1, 10, r_ids=("site-power", "site-energy")))
    assert requests.waiting(request, NOON + s(10)) == 0  # its last sample may still be written
    assert requests.waiting(request, NOON + s(11)) == 20
    assert requests.waiting(request, NOON + s(601)) == 1200


def test_what_is_forgotten_is_not_waited_for():
    request = taken(wanted(60, 60))
    away = KEEP + s(86_400)
    assert requests.waiting(request, NOON + away) == KEEP // s(60) - 1
