"""Each program that is ready to be copied: an event of its kind comes to the right limits in time."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from agent.core.event import Opt, SignalKind
from agent.core.intake import receive
from agent.core.sample import Sample
from agent.core.site import MeterQuality
from agent.core.timeline import SourceKind
from agent.remarks import remarks
from tests.core.build import at, event
from tests.core.profiles import BASELINE_W, MIN, READY, H, Played, configured

DOCUMENTED = (Path(__file__).parents[2] / "docs" / "programs.md").read_text()


@pytest.mark.parametrize("name", READY)
def test_every_program_is_valid_says_its_source_and_date_and_is_documented(name):
    assert list(remarks(configured(name))) == []
    text = READY[name]
    source = text.split("# Source: ")[1].split("\n#   ")[0].replace("\n# ", " ")
    assert re.search(r"\b20[0-9]{2}\b", source)
    assert "not checked" in source
    assert f"(../agent/programs/{name}.toml)" in DOCUMENTED


@pytest.mark.parametrize("name", READY)
def test_with_the_vtn_lost_for_days_an_open_event_holds_only_where_the_program_says_so(name):
    played = Played(name, event((0, 1), start=H))
    asked = played.ceiling(3 * H)
    assert asked.source.kind is SourceKind.EVENT
    assert asked.limit_w < BASELINE_W
    lost = played.ceiling(100 * H, lost_s=97 * H)
    lets_go = name.startswith("gb-")
    assert (lost.source.kind is not SourceKind.EVENT) == lets_go
    assert lets_go or lost.limit_w == asked.limit_w


@pytest.mark.parametrize(
    ("name", "limit_w"), [("us-ny-coned-csrp", 215e3), ("us-az-field-trial", 206_250.0)]
)
def test_a_reduction_is_held_against_the_hour_before(name, limit_w):
    played = Played(name, event((H, 1), start=H))
    [called] = played.records
    played.records = [replace(called, baseline=None)]
    samples = [
        Sample(at(n), 300e3 if n < 45 * MIN else 200e3, MeterQuality.GOOD)
        for n in range(0, round(H), 10)
    ]
    agenda = played.agenda(H, samples=samples)
    [frozen] = agenda.frozen
    assert frozen.baseline is not None
    assert frozen.baseline.power_w == 275_000.0
    ceiling = agenda.timeline.ceiling_at(at(H + 20 * MIN))
    assert ceiling is not None
    assert ceiling.limit_w == limit_w


def test_bip_drops_to_the_firm_level_at_the_start_whatever_level_is_called():
    for level in (1, 3):
        played = Played("us-ca-bip", event((4 * H, level), start=30 * MIN))
        start, end = 30 * MIN, 30 * MIN + 4 * H
        assert played.limits(start - 1, start, end - 1, end + 10 * MIN) == [None, 120, 120, None]
        assert (played.ceiling(start).firm, played.ceiling(start).margin) == (True, 0.02)
        assert played.ceiling(end + 11 * MIN).source.kind is SourceKind.REBOUND


def test_csrp_drops_by_the_pledge_after_21_hours_and_tests_count():
    for test in (False, True):
        played = Played("us-ny-coned-csrp", event((4 * H, 1), start=21 * H, test=test))
        start = 21 * H
        assert played.limits(start - 1, start, start + 4 * H - 1) == [None, 240, 240]


def test_pjm_comes_down_to_the_level_sent_within_half_an_hour():
    played = Played("us-pjm-capacity", event((10 * H, 150_000.0), kind=SignalKind.SETPOINT))
    assert played.limits(0, 12.5 * MIN, 25 * MIN, 10 * H - 1) == [300, 225, 150, 150]
    assert played.ceiling(H).firm


def test_ers_holds_until_recall_though_the_qse_is_lost():
    played = Played("us-tx-ercot-ers-30", event((0, 1)))
    assert played.limits(12.5 * MIN, 25 * MIN, 12 * H) == [210, 120, 120]
    assert played.ceiling(12 * H, lost_s=11 * H).limit_w == 120_000
    [called] = played.records
    over = replace(called.event, revision=1, cancelled=True)
    recalled = receive(called, over, played.programs, played.policy, at(13 * H), 0.0).record
    played.records = [recalled]
    assert played.limits(13 * H + 15 * MIN, 13 * H + 31 * MIN) == [210, None]


def test_dfs_takes_the_power_to_give_with_either_sign_and_leaves_out_what_comes_too_late():
    for value in (50_000.0, -50_000.0):
        half_hour = event((30 * MIN, value), start=H, kind=SignalKind.CHANGE)
        assert Played("gb-neso-dfs", half_hour).limits(H - 1, H, H + 29 * MIN) == [None, 250, 250]
    late = Played("gb-neso-dfs", event((H, 50_000.0), start=29 * MIN, kind=SignalKind.CHANGE))
    assert late.records[0].opt.opt is Opt.OUT
    assert late.records[0].opt.why == "notice of 1740 s is below 1800 s"


def test_a_dso_starts_and_stops_and_is_let_go_of_when_it_is_lost():
    played = Played(
        "gb-dso-flexibility", event((0, -50_000.0), start=15 * MIN, kind=SignalKind.CHANGE)
    )
    start = 15 * MIN
    assert played.limits(start - 1, start + 2.5 * MIN, start + 5 * MIN) == [None, 275, 250]
    assert played.ceiling(start + 2 * H, lost_s=29 * MIN).limit_w == 250_000
    assert played.ceiling(start + 2 * H, lost_s=40 * MIN).source.kind is not SourceKind.EVENT


def test_a_conditional_connection_is_a_standing_limit_over_what_is_guaranteed():
    guaranteed = event((0, 130_000.0), kind=SignalKind.SUBSCRIPTION, event_id="guaranteed")
    more = event((H, 400_000.0), (H, 250_000.0), kind=SignalKind.LIMIT, event_id="limit")
    played = Played("se-conditional-connection", guaranteed, more)
    assert [one.opt.opt for one in played.records] == [Opt.IN, Opt.IN]
    assert played.limits(0, H - 1, H, 2 * H - 1, 2 * H) == [400, 400, 250, 250, 130]
    assert played.ceiling(2 * H, lost_s=24 * H).limit_w == 130_000
    assert played.ceiling(H).firm


def test_the_field_trial_ramps_a_quarter_of_an_hour_each_way_and_does_not_rebound():
    played = Played("us-az-field-trial", event((3 * H, 1), start=H))
    start, end = H, 4 * H
    seconds = (start + 7.5 * MIN, start + 15 * MIN, end - 1, end + 7.5 * MIN)
    assert played.limits(*seconds) == [262.5, 225, 225, 262.5]
    after = played.ceiling(end + 50 * MIN)
    assert after.source.kind is SourceKind.REBOUND
    assert after.limit_w <= BASELINE_W * 1.01
