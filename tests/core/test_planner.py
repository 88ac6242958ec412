"""Rule 6: plans keep every floor; what cannot be met is a shortfall with its reasons."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.estimate import BINDING_SHARE, Estimates
from agent.core.groups import Held
from agent.core.planner import plan
from agent.core.policy import CURVES, TIER_SLOWDOWN, throughput_at
from agent.core.site import Health, WorkloadClass, WorkloadState
from agent.core.timeline import Ceiling, Source, SourceKind
from tests.core.build import POLICY, gpu, snapshot, workload

SOURCE = Source(SourceKind.EVENT, "ev-1", "25 % below baseline")
NOTHING = Held()


def make(limit_w, shown, held=NOTHING, policy=POLICY, trim_w=0.0, margin=0.0, firm=False):
    ceiling = Ceiling(limit_w, SOURCE, margin, firm)
    demand_w = {g.uuid: 600.0 if held.paused_s else g.power_w for g in shown.gpus}
    demand_w = {uuid: 600.0 if w is None else w for uuid, w in demand_w.items()}
    return plan(ceiling, shown, Estimates(demand_w, 1_000.0), held, policy, trim_w)


def eight(tier=2, kind=WorkloadClass.TRAINING, **terms):
    gpus = [gpu(n) for n in range(8)]
    return snapshot(gpus, [workload("job", range(8), tier, kind, **terms)])


def test_enough_room_needs_nothing():
    made = make(6_000.0, eight())
    assert (made.caps, made.pauses, made.shortfall_w) == ({}, {}, 0.0)


def test_all_gpus_of_a_job_share_one_cap_that_lands_on_the_goal():
    made = make(5_000.0, eight())
    assert len({cap.limit_w for cap in made.caps.values()}) == 1
    assert len(made.caps) == 8
    assert made.expected_w is not None
    assert 5_000.0 * 0.99 <= made.expected_w <= 5_000.0


def test_every_cap_says_for_whom_and_how_much():
    reason = next(iter(make(5_000.0, eight()).caps.values())).reason
    assert "event ev-1 (25 % below baseline)" in reason
    assert "job gives" in reason


def test_protected_work_is_untouched_and_the_shortfall_says_so():
    made = make(3_000.0, eight(tier=0))
    assert not made.caps
    assert made.shortfall_w == pytest.approx(2_800.0, abs=20.0)
    assert "protected: job" in made.short_because[0]


@pytest.mark.parametrize("tier", [1, 2, 3])
def test_a_tier_bounds_the_slow_down(tier):
    made = make(1_000.0, eight(tier=tier))
    curve = CURVES[WorkloadClass.TRAINING]
    cap_w = made.caps["GPU-0"].limit_w
    slowed = throughput_at(curve, cap_w / 700) / throughput_at(curve, 600 / BINDING_SHARE / 700)
    assert slowed >= 1 - TIER_SLOWDOWN[tier] - 0.002
    assert cap_w >= POLICY.cap_floor_share * 700
    assert made.shortfall_w > 0


def test_a_lost_gpu_counts_at_all_it_may_draw():
    gpus = [gpu(n) for n in range(7)] + [gpu(7, None, health=Health.LOST, limit_w=None)]
    shown = snapshot(gpus, [workload("job", range(8))])
    with_all, with_lost = make(5_000.0, eight()), make(5_000.0, shown)
    assert with_lost.caps["GPU-0"].limit_w < with_all.caps["GPU-0"].limit_w


def test_a_gpu_that_refused_is_tried_again_but_the_others_give_as_if_it_would_not():
    made = make(5_000.0, eight(), Held(doubtful=("GPU-0",)))
    assert made.caps["GPU-0"] == made.caps["GPU-1"]
    assert made.caps["GPU-1"].limit_w < make(5_000.0, eight()).caps["GPU-1"].limit_w


def test_cheap_work_gives_before_dear_work():
    gpus = [gpu(n) for n in range(8)]
    shown = snapshot(
        gpus, [workload("cheap", range(4)), workload("dear", range(4, 8), weight=10.0)]
    )
    made = make(5_300.0, shown)
    assert set(made.caps) == {f"GPU-{n}" for n in range(4)}


def test_alike_work_gives_alike_in_spite_of_noise():
    gpus = [gpu(n, 600.0 if n < 4 else 606.0) for n in range(8)]
    made = make(5_000.0, snapshot(gpus, [workload("a", range(4)), workload("b", range(4, 8))]))
    assert abs(made.caps["GPU-0"].limit_w - made.caps["GPU-4"].limit_w) <= 8


def test_pauses_come_in_where_caps_at_their_floors_fall_short_and_caps_give_back_the_rest():
    gpus = [gpu(n) for n in range(12)]
    work = [
        workload("train", range(8)),
        workload("batch", range(8, 12), 3, WorkloadClass.BATCH, may_pause=True),
    ]
    shown = snapshot(gpus, work)
    by_caps = make(5_800.0, shown)
    assert not by_caps.pauses
    with_pause = make(4_900.0, shown)
    assert set(with_pause.pauses) == {"batch"}
    assert "caps alone fall short" in with_pause.pauses["batch"]
    assert with_pause.shortfall_w == 0.0
    assert with_pause.expected_w is not None
    assert 4_900.0 * 0.985 <= with_pause.expected_w <= 4_900.0


def test_what_may_not_be_paused_is_not_paused():
    assert not make(1_000.0, eight(tier=3)).pauses


def test_a_pause_that_reached_its_longest_is_ended():
    shown = eight(tier=0, may_pause=True, max_pause_s=480.0)
    paused = replace(shown.workloads[0], state=WorkloadState.PAUSED)
    idle = tuple(replace(g, power_w=110.0) for g in shown.gpus)
    shown = replace(shown, workloads=(paused,), gpus=idle)
    assert make(2_000.0, shown, Held(paused_s={"job": 479.0})).pauses
    assert not make(2_000.0, shown, Held(paused_s={"job": 480.0})).pauses


def test_a_short_pause_is_kept_though_there_is_room():
    shown = eight(tier=2, may_pause=True)
    paused = replace(shown.workloads[0], state=WorkloadState.PAUSED)
    shown = replace(shown, workloads=(paused,))
    assert make(9_000.0, shown, Held(paused_s={"job": 10.0})).pauses
    assert not make(9_000.0, shown, Held(paused_s={"job": 61.0})).pauses


def test_a_workload_that_rests_after_its_longest_pause_is_not_paused():
    shown = eight(tier=0, may_pause=True, max_pause_s=480.0)
    assert make(2_000.0, shown).pauses
    assert not make(2_000.0, shown, Held(resting={"job"})).pauses


def test_a_pause_that_failed_is_tried_again_while_short_but_not_counted_on():
    shown = eight(tier=2, may_pause=True)
    made = make(2_000.0, shown, Held(doubtful={"job"}))
    assert made.pauses
    assert made.shortfall_w > 1_000.0
    assert not make(5_000.0, shown, Held(doubtful={"job"})).pauses, "not short without it"


def test_a_job_none_of_whose_gpus_takes_a_cap_can_still_be_paused():
    """Pausing needs no right to set limits."""
    shown = eight(tier=3, may_pause=True)
    refusing = Held(doubtful={gpu.uuid for gpu in shown.gpus})
    made = make(2_500.0, shown, refusing)
    assert made.pauses
    assert made.shortfall_w == 0.0
    tried = make(5_000.0, eight(tier=2), refusing)
    assert len(tried.caps) == 8, "tried again"
    assert tried.shortfall_w == pytest.approx(800.0, abs=30.0), "and not counted on"


def test_a_gpu_that_protected_work_shares_is_not_capped():
    gpus = [gpu(n) for n in range(4)]
    work = [workload("chat", [0, 1], tier=0), workload("train", [1, 2, 3])]
    made = make(2_500.0, snapshot(gpus, work))
    assert set(made.caps) == {"GPU-2", "GPU-3"}


@pytest.mark.parametrize("tiers", [(1, 3), (3, 1)])
def test_a_gpu_that_two_jobs_share_gives_once_by_the_stricter_terms(tiers):
    gpus = [gpu(n) for n in range(2)]
    work = [workload(name, [0, 1], tier) for name, tier in zip("ab", tiers, strict=True)]
    made = make(100.0, snapshot(gpus, work))
    alone = make(100.0, snapshot(gpus, [workload("a", [0, 1], 1)]))
    assert [cap.limit_w for cap in made.caps.values()] == [
        cap.limit_w for cap in alone.caps.values()
    ]
    assert made.expected_w == alone.expected_w


def test_what_somebody_else_paused_is_left_alone():
    shown = eight(tier=2, may_pause=True)
    shown = replace(shown, workloads=(replace(shown.workloads[0], state=WorkloadState.PAUSED),))
    made = make(1_000.0, shown)
    assert not made.caps
    assert not made.pauses


def test_a_firm_plan_adds_up_in_caps_and_a_statistical_one_in_draw():
    gpus = [gpu(n, 300.0) for n in range(8)]
    shown = snapshot(gpus, [workload("job", range(8), 3, WorkloadClass.BATCH)])
    assert not make(4_500.0, shown).caps
    firm = make(4_500.0, shown, firm=True)
    assert sum(cap.limit_w for cap in firm.caps.values()) <= 3_500.0


def test_caps_in_force_that_still_meet_the_budget_are_left_alone():
    first = make(5_000.0, eight())
    caps_w = {uuid: cap.limit_w for uuid, cap in first.caps.items()}
    held = Held(caps_w, dict.fromkeys(caps_w, 700.0))
    gpus = [gpu(n, 600.0, limit_w=caps_w[f"GPU-{n}"]) for n in range(8)]
    again = make(5_004.0, snapshot(gpus, eight().workloads), held)
    assert {uuid: cap.limit_w for uuid, cap in again.caps.items()} == caps_w


def test_gpus_of_no_job_follow_the_sites_default():
    gpus = [gpu(n) for n in range(8)]
    assert not make(5_000.0, snapshot(gpus)).caps
    from agent.core.site import Terms

    assert make(5_000.0, snapshot(gpus), policy=replace(POLICY, default_terms=Terms(2))).caps


def test_an_original_limit_below_the_largest_is_where_caps_start_from():
    gpus = [gpu(n, 500.0, limit_w=500.0) for n in range(8)]
    made = make(3_900.0, snapshot(gpus, [workload("job", range(8))]))
    assert all(cap.limit_w < 500.0 for cap in made.caps.values())


kinds = st.sampled_from(list(WorkloadClass))


@st.composite
def sites(draw):
    gpus, work, number = [], [], 0
    for name in range(draw(st.integers(0, 6))):
        count = draw(st.integers(1, 8))
        draws = draw(st.floats(60, 700))
        members = range(number, number + count)
        gpus += [
            gpu(
                n,
                draws,
                health=draw(st.sampled_from([Health.OK, Health.OK, Health.OK, Health.STALE])),
            )
            for n in members
        ]
        work.append(
            workload(
                f"job-{name}",
                members,
                draw(st.integers(0, 3)),
                draw(kinds),
                may_pause=draw(st.booleans()),
                weight=draw(st.floats(0.1, 10)),
            )
        )
        number += count
    gpus.append(gpu(number, 300.0))
    return snapshot(gpus, work)


@given(sites(), st.floats(0, 40_000), st.booleans(), st.floats(0, 0.05))
def test_every_plan_keeps_every_floor_and_meets_its_goal_or_says_how_far_short(
    shown, limit_w, firm, margin
):
    made = make(limit_w, shown, firm=firm, margin=margin)
    gpus = {g.uuid: g for g in shown.gpus}
    owners = {uuid: w for w in shown.workloads for uuid in w.gpus}
    for uuid, cap in made.caps.items():
        terms = owners[uuid].terms
        assert terms.tier > 0 or terms.may_pause
        assert gpus[uuid].min_limit_w <= cap.limit_w < gpus[uuid].max_limit_w
        assert cap.limit_w >= POLICY.cap_floor_share * gpus[uuid].max_limit_w
        if terms.tier == 0:
            pytest.fail("a workload of tier 0 was capped")
        assert gpus[uuid].health is Health.OK
        assert cap.reason
    for workload_id, reason in made.pauses.items():
        owner = next(w for w in shown.workloads if w.workload_id == workload_id)
        assert owner.terms.may_pause
        assert reason
    assert made.expected_w is not None
    assert made.goal_w is not None
    if not made.exhausted:
        assert made.expected_w <= made.goal_w + 1.0
    if made.shortfall_w == 0:
        assert made.expected_w <= limit_w + 1.0
    else:
        assert made.short_because
        assert made.expected_w == pytest.approx(limit_w + made.shortfall_w, abs=1.0)


@given(st.floats(60, 700), kinds)
def test_what_may_only_be_paused_is_never_capped(draw_w, kind):
    shown = snapshot(
        [gpu(n, draw_w) for n in range(3)],
        [workload("job", range(3), 0, kind, may_pause=True)],
    )
    site_w = 1_000 + 3 * draw_w
    for share in (0.99, 1.0, 1.0005, 1.001, 1.0015, 1.002, 1.0025, 1.01):
        assert not make(site_w * share, shown, margin=0.0).caps
