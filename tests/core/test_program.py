"""What each signal of OpenADR 2.0b comes to."""

from dataclasses import replace

import pytest

from agent.core.event import SignalKind as Kind
from agent.core.program import (
    Change,
    DropBy,
    DropByShare,
    DropTo,
    Percent,
    Program,
    ask_of,
    describe_ask,
    limit_of,
    program_for,
)
from tests.core.build import PROGRAM, event

MAX_W = 100_000.0


def test_an_emergency_asks_for_what_was_agreed_and_else_for_the_highest_level():
    agreed = replace(PROGRAM, emergency=DropTo(1.0))
    bare = Program("p", "*")
    for kind, unagreed in ((Kind.EMERGENCY, None), (Kind.BLACK_START, DropByShare(0.0))):
        assert ask_of(kind, 1, agreed, MAX_W) == DropTo(1.0)
        assert ask_of(kind, 1, bare, MAX_W) == unagreed
    assert describe_ask(DropByShare(0.0)) == "no more than before"


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (Kind.LEVEL, 0, None),
        (Kind.LEVEL, 1, DropByShare(0.10)),
        (Kind.LEVEL, 2, DropByShare(0.25)),
        (Kind.LEVEL, 3, DropTo(12_000.0)),
        (Kind.LEVEL, 9, None),
        (Kind.LEVEL_OFFSET, -2, DropByShare(0.25)),
        (Kind.SETPOINT, 30_000, DropTo(30_000)),
        (Kind.CHANGE, -5_000, DropBy(5_000)),
        (Kind.CHANGE, 5_000, None),
        (Kind.CHANGE, 0, None),
        (Kind.LIMIT, 30_000, DropTo(30_000)),
        (Kind.SUBSCRIPTION, 30_000, DropTo(30_000)),
        (Kind.RESERVATION, 5_000, None),
        (Kind.SHARE_CHANGE, -0.25, DropByShare(0.25)),
        (Kind.SHARE_CHANGE, 0.25, None),
        (Kind.EMERGENCY, 1, DropBy(5_000)),
        (Kind.EMERGENCY, 0, None),
        (Kind.BLACK_START, 1, DropBy(5_000)),
        (Kind.BLACK_START, 0, None),
        (Kind.INFORMATION, 1, None),
        (Kind.MULTIPLIER, 0.75, DropByShare(0.25)),
        (Kind.MULTIPLIER, 1.0, None),
        (Kind.MULTIPLIER, 1.2, None),
        (Kind.CAPACITY, 0.6, DropTo(60_000.0)),
        (Kind.CAPACITY, 1.0, None),
        (Kind.PERCENT_OFFSET, -25, DropByShare(0.25)),
        (Kind.PERCENT_OFFSET, 10, None),
        (Kind.OTHER, 250.0, None),
    ],
)
def test_what_a_value_asks_for(kind, value, expected):
    assert ask_of(kind, value, PROGRAM, MAX_W) == expected


def test_a_program_may_send_reductions_of_either_sign():
    reduction = replace(PROGRAM, change=Change.REDUCTION)
    assert ask_of(Kind.CHANGE, 5_000, reduction, MAX_W) == DropBy(5_000)
    assert ask_of(Kind.CHANGE, -5_000, reduction, MAX_W) == DropBy(5_000)


def test_a_program_may_send_percentages_as_fractions():
    fraction = replace(PROGRAM, percent=Percent.FRACTION)
    assert ask_of(Kind.PERCENT_OFFSET, -0.25, fraction, MAX_W) == DropByShare(0.25)


@pytest.mark.parametrize(
    ("ask", "limit_w", "text"),
    [
        (DropTo(30_000.0), 30_000.0, "at most 30 kW"),
        (DropBy(5_000.0), 35_000.0, "5 kW below baseline"),
        (DropBy(50_000.0), 0.0, "50 kW below baseline"),
        (DropByShare(0.25), 30_000.0, "25 % below baseline"),
    ],
)
def test_what_an_ask_comes_to_against_a_baseline_of_40_kw(ask, limit_w, text):
    assert limit_of(ask, 40_000.0) == limit_w
    assert describe_ask(ask) == text


def test_the_exact_market_context_comes_before_the_catch_all():
    catch_all = Program("any", "*")
    assert program_for(event(), (catch_all, PROGRAM)) is PROGRAM
    assert program_for(event(program="http://else.example"), (catch_all, PROGRAM)) is catch_all
    assert program_for(event(program="http://else.example"), (PROGRAM,)) is None


def test_a_vens_own_program_comes_before_any_vens_and_is_no_other_vens():
    context = PROGRAM.market_context
    theirs = Program("theirs", context, ven="aggregator")
    rest = Program("rest", "*", ven="aggregator")
    for programs in ((PROGRAM, theirs, rest), (rest, theirs, PROGRAM)):
        assert program_for(event(ven="aggregator"), programs) is theirs
        assert program_for(event(ven="ven"), programs) is PROGRAM
        assert program_for(event(ven="aggregator", program="http://else.example"), programs) is rest
        assert program_for(event(ven="ven", program="http://else.example"), programs) is None
    assert program_for(event(ven="ven"), (theirs, rest)) is None
    assert program_for(event(ven="aggregator"), (rest, PROGRAM)) is PROGRAM
