"""Each program that the documentation offers: an event of its kind comes to the right limits in time."""

import tomllib
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest

from agent.config import parse, policy_of, programs_of
from agent.core.agenda import Inputs, agenda_of
from agent.core.event import EventRecord, Opt, SignalKind
from agent.core.intake import receive
from agent.core.timeline import Ceiling, SourceKind
from agent.remarks import remarks
from tests.core.build import at, event, gpu, instant, record, snapshot

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "examples" / "programs"
FILES = sorted(FOLDER.glob("*.toml"))
BASELINE_W = 300_000.0
H, MIN = 3600.0, 60.0


def configured(name):
    """The example configuration with a profile's program in place of its own."""
    document = tomllib.loads(files("agent").joinpath("example.toml").read_text())
    profile = tomllib.loads((FOLDER / f"{name}.toml").read_text())
    assert list(profile) == ["program"]
    document["ven"][0]["market_contexts"] = []
    return parse({**document, **profile, "blackout": []})


class Played:
    """A profile's program with one event or several, received at second 0."""

    def __init__(self, name, *events):
        config = configured(name)
        self.policy, self.programs = policy_of(config), programs_of(config)
        [self.program] = self.programs
        self.records: list[EventRecord] = []
        for one in events:
            sent = replace(one, program=self.program.market_context)
            taken = receive(None, sent, self.programs, self.policy, at(0), 0.0)
            assert taken.record is not None
            baseline = None if sent.standing else record(baseline_w=BASELINE_W).baseline
            self.records.append(replace(taken.record, baseline=baseline))

    def ceiling(self, second, lost_s=0.0) -> Ceiling:
        """The ceiling at a second, with the VTN lost for so long."""
        inputs = Inputs(
            instant(second),
            snapshot([gpu()], when=at(second)),
            {one.key: one for one in self.records},
            (),
            (),
            {"ven": at(second - lost_s)},
        )
        timeline = agenda_of(inputs, self.programs, self.policy, BASELINE_W).timeline
        found = timeline.ceiling_at(at(second))
        assert found is not None
        return found

    def limits(self, *seconds):
        """The limits that events and connection set, kW; None where they set none."""
        found = [self.ceiling(second) for second in seconds]
        asked = (SourceKind.EVENT, SourceKind.CAPACITY)
        return [round(c.limit_w / 1000, 3) if c.source.kind in asked else None for c in found]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_profile_is_valid_says_its_source_and_is_in_the_documentation(path):
    assert list(remarks(configured(path.stem))) == []
    text = path.read_text()
    assert "# Source: " in text
    assert "20" in text.split("# Source: ")[1].split("#\n")[0]
    assert "not checked" in text
    assert f"(examples/programs/{path.name})" in (ROOT / "docs" / "programs.md").read_text()


def test_bip_drops_to_the_firm_level_at_the_start_whatever_level_is_called():
    for level in (1, 3):
        played = Played("us-ca-bip", event((4 * H, level), start=30 * MIN))
        start, end = 30 * MIN, 30 * MIN + 4 * H
        assert played.limits(start - 1, start, end - 1, end + 10 * MIN) == [None, 120, 120, None]
        assert played.ceiling(start).firm
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
