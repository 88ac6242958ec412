"""Problems are state: raised once, shown while they last, cleared once."""

from agent.core.problems import Problem, Severity, update
from tests.core.build import at

METER = Problem("meter", Severity.CRITICAL, "the meter cannot be read")


def test_a_problem_keeps_its_start_while_it_lasts_and_is_told_once_each_way():
    current, raised, cleared = update({}, [METER], at(0))
    assert (raised, cleared) == ((METER,), ())
    current, raised, cleared = update(current, [METER], at(5))
    assert (current["meter"].since, raised, cleared) == (at(0), (), ())
    current, raised, cleared = update(current, [], at(9))
    assert (current, raised, [c.problem for c in cleared]) == ({}, (), [METER])
