"""The samples: kept, averaged over any interval, and forgotten in time."""

import math
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.core.sample import Part, Sample
from agent.core.site import MeterQuality
from agent.errors import StoreError
from agent.store import database as database_module
from agent.store import history as history_module
from agent.store.history import HOLD, KEEP, MOST_FORGOTTEN, History
from tests.core.build import at, s

GOOD = MeterQuality.GOOD


@pytest.fixture
def history(tmp_path):
    history = History(tmp_path)
    yield history
    history.close()


def test_thirty_days_are_kept():
    assert timedelta(days=30) <= KEEP


def test_samples_come_back_in_order_and_within_the_window(history):
    samples = [
        Sample(at(n), 100.0 + n, GOOD, 90.0, 80.0, override=n == 3, restrained=n == 4)
        for n in range(10)
    ]
    history.add(reversed(samples))
    assert list(history.between(at(2), at(7))) == samples[2:7]
    history.forget_before(at(5))
    assert list(history.between(at(0), at(99))) == samples[5:]


def test_a_sample_without_power_comes_back_without(history):
    blind = Sample(at(0), None, MeterQuality.BAD)
    history.add([blind])
    assert history.between(at(0), at(1)) == (blind,)


def test_the_newest_sample_is_none_of_the_future(history):
    assert history.newest(at(9)) is None
    history.add([Sample(at(n), 1.0, GOOD) for n in (3, 5, 12)])
    assert history.newest(at(9)) == at(5)
    assert history.newest(at(5)) == at(5)


def test_what_is_old_goes_a_little_at_a_time(history):
    """So that no cycle waits for it, also after days of standing still."""
    history.add(Sample(at(n), 1.0, GOOD) for n in range(2 * MOST_FORGOTTEN))
    history.forget_before(at(1_000_000))
    left = history.between(at(0), at(1_000_000))
    assert len(left) == MOST_FORGOTTEN
    assert left[0].at == at(MOST_FORGOTTEN)  # the oldest first
    history.forget_before(at(1_000_000))
    assert history.newest(at(1_000_000)) is None


def test_intervals_are_averaged_for_each_part_and_the_last_may_be_shorter(history):
    history.add(Sample(at(n), 100.0 + n, GOOD, gpus_w=10.0 + n) for n in range(25))
    first, second, rest = history.points(at(0), at(25), s(10))
    assert (first.start, first.site.power_w, first.gpus.power_w) == (at(0), 104.5, 14.5)
    assert (second.start, second.site.power_w) == (at(10), 114.5)
    assert (rest.start, rest.duration, rest.site.power_w) == (at(20), s(5), 122.0)
    assert history.points(at(25), at(25), s(10)) == ()


def test_samples_that_are_no_use_count_for_nothing(history):
    unusable = [
        Sample(at(0), None, GOOD),
        Sample(at(1), math.inf, GOOD, gpus_w=math.inf),
        Sample(at(2), -math.inf, MeterQuality.ESTIMATED),
        Sample(at(3), math.nan, GOOD, gpus_w=math.nan),
        Sample(at(4), 1e6, MeterQuality.BAD),
    ]
    history.add(unusable)
    (point,) = history.points(at(0), at(5), s(5))
    assert (point.site.power_w, point.gpus.power_w) == (None, None)
    history.add([Sample(at(n), 100.0, GOOD, gpus_w=90.0) for n in (5, 6, 7, 8, 9)])
    (point,) = history.points(at(0), at(10), s(10))
    assert (point.site.power_w, point.gpus.power_w) == (100.0, 90.0)
    assert point.site.quality is GOOD


def test_the_worst_usable_quality_and_any_override_show(history):
    history.add(
        [Sample(at(0), 1.0, GOOD), Sample(at(1), 1.0, MeterQuality.ESTIMATED, override=True)]
    )
    (point,) = history.points(at(0), at(2), s(2))
    assert (point.site.quality, point.override) == (MeterQuality.ESTIMATED, True)


def test_an_interval_shorter_than_samples_are_apart_holds_the_one_before(history):
    """The cycle drifts: now and then a second has no sample of its own, and half a second often."""
    history.add([Sample(at(t), 100.0 * t, GOOD) for t in (0, 1, 2.999, 4.001)])
    points = history.points(at(0), at(5), s(1))
    assert [(p.site.power_w, p.held) for p in points] == [
        (0.0, False),
        (100.0, False),
        (pytest.approx(299.9), False),
        (pytest.approx(299.9), True),
        (pytest.approx(400.1), False),
    ]
    assert [p.held for p in history.points(at(0), at(2), s(0.5))] == [False, True, False, True]
    late = history.points(at(4.001) + HOLD, at(4.001) + HOLD + s(2), s(1))
    assert [p.site.power_w for p in late] == [pytest.approx(400.1), None]  # not for ever
    (long,) = history.points(at(5), at(10), s(5))
    assert long.site.power_w is None  # nor for long intervals


@given(
    seconds=st.lists(st.integers(0, 600), unique=True),
    length=st.integers(2, 400),
    start=st.integers(0, 100),
    piece=st.integers(1, 700),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_every_sample_counts_in_exactly_one_interval_whatever_pieces_it_is_read_in(
    history, monkeypatch, seconds, length, start, piece
):
    monkeypatch.setattr(history_module, "_PIECE", s(piece))
    for _ in range(2):
        history.forget_before(at(10_000))
    power_w = {t: float(1 + t % 7) for t in seconds}
    history.add(Sample(at(t), power_w[t], GOOD) for t in seconds)
    points = history.points(at(start), at(600), s(length))
    assert all(a.start + a.duration == b.start for a, b in pairwise(points))
    assert (points[0].start, points[-1].start + points[-1].duration) == (at(start), at(600))
    for point in points:
        own = [w for t, w in power_w.items() if point.start <= at(t) < point.start + point.duration]
        assert point.site.power_w == (sum(own) / len(own) if own else None)


def test_the_energy_of_a_day_is_that_of_its_intervals(history):
    history.add(Sample(at(n), 1000.0 + n % 977, GOOD) for n in range(86_400))
    (day,) = history.points(at(0), at(86_400), s(86_400))
    for length in (7, 90, 900, 5400):
        parts = history.points(at(0), at(86_400), s(length))
        energies = [point.energy_wh(Part.SITE) for point in parts]
        assert sum(energies) == pytest.approx(day.energy_wh(Part.SITE), rel=1e-9)


@pytest.mark.parametrize("where", [0.5, 1.0])
def test_damage_that_shows_in_use_costs_only_what_cannot_be_read(tmp_path, where):
    """A bad page would else keep reports, or new samples, from ever getting through again."""
    history = History(tmp_path)
    history.add(Sample(at(n), 100.0, GOOD) for n in range(20_000))
    history.close()
    file = tmp_path / "history.db"
    content = bytearray(file.read_bytes())
    page = int(len(content) * where) // 4096 * 4096 - 4096
    content[page : page + 4096] = b"\xff" * 4096
    file.write_bytes(content)
    history = History(tmp_path)
    assert history.salvaged == ""
    with pytest.raises(StoreError, match="malformed"):
        history.between(at(0), at(20_000))
    assert "history.db was damaged" in history.salvaged
    history.add([Sample(at(20_000), 100.0, GOOD)])
    kept = {sample.at for sample in history.between(at(0), at(20_001))}
    assert 19_700 < len(kept) < 20_001
    assert {at(0), at(20_000)} <= kept
    assert (tmp_path / "history.damaged-1").read_bytes() == content
    history.close()


def test_carrying_over_takes_no_longer_than_a_site_can_wait(tmp_path, monkeypatch):
    history = History(tmp_path)
    history.add(Sample(at(n), 100.0, GOOD) for n in range(1000))
    history.close()
    file = tmp_path / "history.db"
    content = bytearray(file.read_bytes())
    content[8192:12288] = b"\xff" * 4096
    file.write_bytes(content)
    monkeypatch.setattr(database_module, "CARRY_OVER_S", 0.0)
    history = History(tmp_path)
    with pytest.raises(StoreError):
        history.between(at(0), at(1000))
    assert history.newest(at(1000)) == at(999)
    assert len(history.between(at(0), at(1000))) <= 2
    history.close()
