"""Rule 2: every setpoint has a lease, and stepping the wall clock neither ends nor extends it."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from agent.core.ledger import expired, lease_for
from tests.core.build import at, instant, s


def test_a_lease_lasts_as_long_as_its_ask_and_the_grace():
    lease = lease_for(at(600), instant(0), s(60))
    assert not expired(lease, instant(659))
    assert expired(lease, instant(660))


def test_an_ask_without_end_is_leased_for_the_grace():
    assert expired(lease_for(None, instant(0), s(60)), instant(60))


def test_an_ask_that_is_over_is_leased_for_the_grace():
    assert lease_for(at(-100), instant(0), s(60)) == instant(60)


@given(st.integers(-7200, 7200), st.integers(0, 1000))
def test_within_one_boot_the_wall_clock_may_say_what_it_likes(step, passed):
    lease = lease_for(at(500), instant(0), s(60))
    now = replace(instant(passed), at=at(passed + step))
    assert expired(lease, now) == (passed >= 560)


@given(st.integers(0, 1000))
def test_over_a_reboot_the_wall_clock_is_left_to_ask(passed):
    lease = lease_for(at(500), instant(0), s(60))
    rebooted = replace(instant(passed, boot_id="another"), boot_s=1.0)
    assert expired(lease, rebooted) == (passed >= 560)
