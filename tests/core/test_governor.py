"""Rule 11: a network message can never exceed the local governor."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.governor import HOUR_S, Governor, govern, idle
from agent.core.timeline import Ceiling, Source, SourceKind
from tests.core.build import POLICY

SOURCE = Source(SourceKind.EVENT, "ev-1")


def play(limits_w, policy, power_w=40_000.0, spacing_s=1.0, free=False):
    """What comes through when these ceilings are asked for one after the other."""
    governor, through = Governor(), []
    for number, limit_w in enumerate(limits_w):
        asked = Ceiling(limit_w, SOURCE)
        governor, ceiling = govern(governor, asked, power_w, policy, number * spacing_s, free=free)
        through.append(ceiling.limit_w)
        if power_w is not None:
            power_w = min(power_w, ceiling.limit_w)
    return through, governor


def test_without_bounds_everything_comes_through():
    free = replace(POLICY, dwell_s=0.0)
    assert play([100_000, 30_000, 100_000], free)[0] == [100_000, 30_000, 100_000]


def test_no_message_pushes_the_site_below_its_smallest_import():
    through, governor = play([100_000, 0], replace(POLICY, min_import_w=10_000.0))
    assert through == [100_000, 10_000]
    assert "10 kW" in governor.note


def test_falls_start_at_the_power_and_keep_to_the_slew():
    slow = replace(POLICY, slew_down_w_per_s=1_000.0)
    assert play([100_000, 30_000, 30_000], slow)[0] == [100_000, 39_000, 38_000]


def test_a_fall_goes_on_from_its_last_limit_though_the_power_is_a_margin_below_it():
    slow = replace(POLICY, slew_down_w_per_s=10.0)
    governor = Governor()
    limit_w = 40_000.0
    for second in range(60):
        ceiling = Ceiling(30_000.0 if second else limit_w, SOURCE)
        governor, through = govern(governor, ceiling, limit_w * 0.99, slow, float(second))
        limit_w = through.limit_w
    assert limit_w == pytest.approx(0.99 * 40_000 - 59 * 10, abs=1.0)
    assert "0.6 kW a minute" in governor.note


def test_after_a_spell_without_a_ceiling_a_fall_starts_at_the_power_of_then():
    slow = replace(POLICY, slew_down_w_per_s=10.0)
    governor, _ = govern(Governor(), Ceiling(30_000.0, SOURCE), 30_000.0, slow, 0.0)
    for second in range(1, 600):
        governor = idle(governor, float(second))
    _, through = govern(governor, Ceiling(30_000.0, SOURCE), 40_000.0, slow, 600.0)
    assert through.limit_w == 40_000 - 10


def test_rises_keep_to_the_slew():
    slow = replace(POLICY, slew_up_w_per_s=1_000.0, dwell_s=0.0)
    assert play([30_000, 40_000, 40_000], slow)[0] == [30_000, 31_000, 32_000]


def test_after_a_fall_nothing_rises_for_the_dwell():
    lazy = replace(POLICY, dwell_s=3.0)
    assert play([100_000, 30_000, 50_000, 50_000, 50_000], lazy)[0] == [
        100_000,
        30_000,
        30_000,
        30_000,
        50_000,
    ]


def test_an_operator_who_calls_it_off_does_not_wait():
    assert play([100_000, 30_000, 50_000], POLICY, free=True)[0][-1] == 50_000


def test_a_toggling_message_stays_down_after_so_many_turns():
    toggling = [100_000 if n % 2 else 30_000 for n in range(60)]
    through, governor = play(toggling, replace(POLICY, dwell_s=0.0, max_turns_per_h=3))
    assert through.count(100_000) == 1 + 3, "the first rise turns nothing"
    assert through[-1] == 30_000
    assert "stays down" in governor.note


def test_turns_are_forgotten_after_an_hour():
    policy = replace(POLICY, dwell_s=0.0, max_turns_per_h=1)
    assert play([30_000, 100_000, 30_000, 100_000], policy, spacing_s=HOUR_S)[0][-1] == 100_000


limits = st.lists(st.floats(0, 200_000), min_size=2, max_size=60)


@given(limits, st.floats(100, 5_000), st.floats(0, 50_000), st.integers(1, 5))
def test_whatever_is_asked_every_bound_holds(asked, slew, smallest, turns):
    policy = replace(
        POLICY,
        min_import_w=smallest,
        slew_down_w_per_s=slew,
        slew_up_w_per_s=slew,
        dwell_s=2.0,
        max_turns_per_h=turns,
    )
    through, governor = play(asked, policy, power_w=None)
    assert all(limit_w >= smallest for limit_w in through)
    assert all(abs(after - before) <= slew + 1e-6 for before, after in pairwise(through))
    assert len(governor.turns_s) <= turns


def test_while_nothing_may_rise_a_limit_only_falls():
    governor, through = Governor(), []
    for number, limit_w in enumerate((30_000, 50_000, 20_000, 25_000)):
        asked = Ceiling(float(limit_w), SOURCE)
        governor, ceiling = govern(governor, asked, 40_000.0, POLICY, float(number), still="why")
        through.append((ceiling.limit_w, governor.note))
    assert through == [(30_000, ""), (30_000, "why"), (20_000, ""), (20_000, "why")]


def test_nothing_rises_above_the_power_now_but_to_the_least_that_no_message_undercuts():
    for least_w, limit_w in ((0.0, 10_000), (15_000.0, 15_000)):
        policy = replace(POLICY, min_import_w=least_w)
        asked = Ceiling(50_000.0, SOURCE)
        _, ceiling = govern(Governor(), asked, 10_000.0, policy, 0.0, still="why")
        assert ceiling.limit_w == limit_w
