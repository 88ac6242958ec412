"""The site's rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.policy import (
    CURVES,
    PROTECTED,
    Policy,
    WorkloadRule,
    classify,
    share_for,
    throughput_at,
)
from agent.core.site import Terms, WorkloadClass

RULES = Policy(
    1.0,
    rules=(
        WorkloadRule("chat*", WorkloadClass.REAL_TIME, Terms(0)),
        WorkloadRule("*", WorkloadClass.BATCH, Terms(3, may_pause=True), {"partition": "b*"}),
        WorkloadRule("train*", WorkloadClass.TRAINING, Terms(2)),
    ),
)


@pytest.mark.parametrize(
    ("name", "labels", "kind", "tier"),
    [
        ("chat-eu", {"partition": "batch"}, WorkloadClass.REAL_TIME, 0),
        ("train-7b", {"partition": "batch"}, WorkloadClass.BATCH, 3),
        ("train-7b", {}, WorkloadClass.TRAINING, 2),
        ("unheard-of", {"partition": "other"}, WorkloadClass.BATCH, 0),
    ],
)
def test_the_first_rule_that_matches_counts(name, labels, kind, tier):
    found, terms = classify(name, labels, RULES)
    assert (found, terms.tier) == (kind, tier)


def test_what_nobody_agreed_to_anything_about_is_protected():
    assert classify("unheard-of", {}, RULES)[1] == PROTECTED


@pytest.mark.parametrize("curve", CURVES.values())
def test_curves_rise_from_nothing_to_everything(curve):
    shares = [n / 100 for n in range(101)]
    values = [throughput_at(curve, share) for share in shares]
    assert values == sorted(values)
    assert (values[0], values[-1]) == (0.0, 1.0)


@given(st.sampled_from(list(CURVES.values())), st.floats(0, 1))
def test_the_share_for_a_throughput_gives_that_throughput(curve, throughput):
    assert throughput_at(curve, share_for(curve, throughput)) == pytest.approx(throughput)
