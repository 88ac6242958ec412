"""Problems are state: raised once, shown while they last, cleared once."""

from datetime import timedelta

import pytest

from agent.core.diagnosis import link_problems
from agent.core.link import Link
from agent.core.problems import Problem, Severity, update
from tests.core.build import NOON, at

METER = Problem("meter", Severity.CRITICAL, "the meter cannot be read")


def test_a_problem_keeps_its_start_while_it_lasts_and_is_told_once_each_way():
    current, raised, cleared = update({}, [METER], at(0))
    assert (raised, cleared) == ((METER,), ())
    current, raised, cleared = update(current, [METER], at(5))
    assert (current["meter"].since, raised, cleared) == (at(0), (), ())
    current, raised, cleared = update(current, [], at(9))
    assert (current, raised, [c.problem for c in cleared]) == ({}, (), [METER])


def test_a_problem_that_becomes_graver_is_told_again_and_keeps_its_start():
    grades = [Problem("meter", severity, severity) for severity in Severity]
    assert [problem.severity.value for problem in grades] == ["info", "warning", "critical"]
    current, told = {}, []
    for second, problem in enumerate([*grades, *reversed(grades)]):
        current, raised, cleared = update(current, [problem], at(second))
        told += raised
        assert cleared == ()
    assert told == grades
    assert current["meter"].since == at(0)


@pytest.mark.parametrize(
    ("left", "severity", "says"),
    [
        (timedelta(days=61), None, ""),
        (timedelta(days=60), Severity.INFO, "expires in 60 days"),
        (timedelta(days=30, seconds=1), Severity.INFO, "expires in 30 days"),
        (timedelta(days=30), Severity.WARNING, "expires in 30 days"),
        (timedelta(days=7), Severity.CRITICAL, "expires in 7 days"),
        (timedelta(hours=30), Severity.CRITICAL, "expires in 30 h"),
        (timedelta(0), Severity.CRITICAL, "has expired"),
        (timedelta(days=-400), Severity.CRITICAL, "has expired"),
    ],
)
def test_a_certificate_that_runs_out_is_a_problem_in_time(left, severity, says):
    link = Link("utility", "https://vtn", "OpenADR 2.0b", certificate_expires=NOON + left)
    found = list(link_problems((link,), NOON))
    assert [problem.severity for problem in found] == ([] if severity is None else [severity])
    for problem in found:
        assert problem.key == "certificate/utility"
        date = f"on {NOON + left:%Y-%m-%d %H:%M} UTC"
        assert problem.text == f"the certificate of VEN utility {says}, {date}: renew it"


def test_a_vtns_certificate_is_its_utilitys_to_renew_until_the_last_week():
    for days, severities in ((8, []), (7, [Severity.WARNING]), (-1, [Severity.WARNING])):
        expires = NOON + timedelta(days=days)
        link = Link("utility", "https://vtn", "OpenADR 2.0b", vtn_certificate_expires=expires)
        found = list(link_problems((link,), NOON))
        assert [problem.severity for problem in found] == severities
