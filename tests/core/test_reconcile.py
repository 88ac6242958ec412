"""Rules 1 and 3: written before applied; idempotent; the same end after an interruption anywhere."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.ledger import Entry, Lever
from agent.core.plan import NO_PLAN, Cap, Plan
from agent.core.reconcile import Confirm, Drop, Observed, Undo, Write, reconcile, stages
from agent.core.site import Health, WorkloadState
from tests.core.build import gpu, s, workload
from tests.core.world import LEASE, NOW, RENEW_S, World


def caps(**limits_w):
    return Plan(caps={f"GPU-{k[1:]}": Cap(v, "test") for k, v in limits_w.items()})


def entry(number=0, setpoint_w=400.0, original_w=700.0, confirmed_w=400.0, **changes):
    made = Entry(
        Lever.CAP,
        f"GPU-{number}",
        setpoint_w,
        confirmed_w,
        original_w,
        600.0,
        "ev",
        "why",
        NOW,
        LEASE,
    )
    return replace(made, **changes)


PAUSE = Entry(Lever.PAUSE, "job", None, None, None, 1.0, "ev", "why", NOW, LEASE)


def test_a_first_cap_remembers_the_limit_it_finds_not_the_default():
    (write,) = World({"GPU-0": 550.0}).actions(caps(g0=400.0))
    assert isinstance(write, Write)
    assert (write.entry.original_w, write.entry.setpoint_w) == (550.0, 400.0)


def test_a_changed_cap_keeps_the_original():
    world = World({"GPU-0": 400.0}, entries=[entry()])
    (write,) = world.actions(caps(g0=450.0))
    assert (write.entry.original_w, write.entry.confirmed_w) == (700.0, 400.0)


def test_what_holds_already_needs_nothing():
    assert World({"GPU-0": 400.0}, entries=[entry()]).actions(caps(g0=400.0)) == ()


def test_a_limit_that_somebody_raised_is_set_again():
    (write,) = World({"GPU-0": 700.0}, entries=[entry()]).actions(caps(g0=400.0))
    assert isinstance(write, Write)


def test_a_limit_that_somebody_lowered_is_not_fought():
    assert World({"GPU-0": 300.0}, entries=[entry()]).actions(caps(g0=400.0)) == ()


def test_a_limit_fought_over_too_often_is_left_alone():
    world = World({"GPU-0": 700.0}, entries=[entry()])
    observed = replace(world.observed(), fought=("GPU-0",))
    assert reconcile(caps(g0=400.0), observed, (entry(),), {}, NOW, LEASE, RENEW_S) == ()


def test_no_plan_brings_back_what_was_there():
    world = World({"GPU-0": 400.0}, entries=[entry(original_w=550.0)])
    world.run(NO_PLAN)
    assert (world.limits_w, world.ledger) == ({"GPU-0": 550.0}, {})


def test_what_somebody_else_set_meanwhile_is_left_alone_and_said():
    (drop,) = World({"GPU-0": 500.0}, entries=[entry()]).actions(NO_PLAN)
    assert isinstance(drop, Drop)
    assert "somebody else" in drop.why
    assert "500 W" in drop.why


def test_what_was_written_but_never_applied_is_dropped_silently():
    (drop,) = World({"GPU-0": 700.0}, entries=[entry(confirmed_w=None)]).actions(NO_PLAN)
    assert drop == Drop(entry(confirmed_w=None), "")


def test_a_crash_between_two_setpoints_leaves_the_older_one_which_is_ours_too():
    between = entry(setpoint_w=450.0, confirmed_w=400.0)
    (undo,) = World({"GPU-0": 400.0}, entries=[between]).actions(NO_PLAN)
    assert isinstance(undo, Undo)
    (write,) = World({"GPU-0": 400.0}, entries=[between]).actions(caps(g0=450.0))
    assert isinstance(write, Write)


def test_a_gpu_that_does_not_answer_keeps_its_entry():
    sick = Observed({"GPU-0": gpu(0, None, health=Health.STALE, limit_w=None)}, {})
    assert reconcile(NO_PLAN, sick, (entry(),), {}, NOW, LEASE, RENEW_S) == ()


def test_a_gpu_that_is_not_listed_keeps_its_entry_until_a_reboot():
    """It may only be sick, and come back with our limit on it."""
    none = Observed({}, {})
    assert reconcile(NO_PLAN, none, (entry(),), {}, NOW, LEASE, RENEW_S) == ()
    rebooted = replace(NOW, boot_id="another")
    (drop,) = reconcile(NO_PLAN, none, (entry(),), {}, rebooted, LEASE, RENEW_S)
    assert isinstance(drop, Drop)
    assert "reboot" in drop.why


def test_a_jobs_engine_that_does_not_answer_is_no_reason_to_forget_a_pause():
    blind = Observed({}, {}, jobs_listed=False)
    assert reconcile(NO_PLAN, blind, (PAUSE,), {}, NOW, LEASE, RENEW_S) == ()


def test_a_workload_that_is_not_listed_keeps_its_entry_until_a_reboot():
    """It may only have been taken out of the configuration, and stands still meanwhile."""
    none = Observed({}, {})
    assert reconcile(NO_PLAN, none, (PAUSE,), {}, NOW, LEASE, RENEW_S) == ()
    rebooted = replace(NOW, boot_id="another")
    (drop,) = reconcile(NO_PLAN, none, (PAUSE,), {}, rebooted, LEASE, RENEW_S)
    assert isinstance(drop, Drop)
    assert "reboot" in drop.why


@pytest.mark.parametrize("state", WorkloadState)
def test_a_pause_is_lifted_whatever_the_workload_seems_to_be(state):
    """A freeze that came late is lifted, and so is that of a job that was killed meanwhile."""
    job = replace(workload("job", (0,)), workload_id="job", state=state)
    seen = Observed({}, {"job": job})
    (undo,) = reconcile(NO_PLAN, seen, (PAUSE,), {}, NOW, LEASE, RENEW_S)
    assert isinstance(undo, Undo)


def test_leases_are_renewed_when_they_are_off():
    old = entry(lease=NOW.after(s(500)))
    (confirm,) = World({"GPU-0": 400.0}, entries=[old]).actions(caps(g0=400.0))
    assert isinstance(confirm, Confirm)
    assert confirm.entry.lease == LEASE


def test_power_falls_before_it_rises_and_caps_come_before_pauses():
    world = World({"GPU-0": 700.0, "GPU-1": 400.0}, entries=[entry(1)])
    plan = Plan(caps={"GPU-0": Cap(400.0, "")}, pauses={"job": "why"})
    actions = world.actions(plan)
    kinds = [(type(a), a.entry.lever) for a in actions]
    assert kinds == [(Write, Lever.CAP), (Write, Lever.PAUSE), (Undo, Lever.CAP)]
    assert [len(batch) for batch in stages(actions, world.observed())] == [1, 1, 1]


plans = st.builds(
    lambda caps_w, paused: Plan(
        caps={f"GPU-{n}": Cap(float(w), "test") for n, w in caps_w.items()},
        pauses={"job": "why"} if paused else {},
    ),
    st.dictionaries(st.integers(0, 3), st.sampled_from([300, 400, 500])),
    st.booleans(),
)
ORIGINALS_W = {f"GPU-{n}": 700.0 - 50 * n for n in range(4)}


@given(st.lists(plans, min_size=1, max_size=4), st.data())
def test_interrupted_anywhere_it_reaches_the_same_end(wanted, data):
    """Every run but the last is stopped dead after some steps; the last must end as if none was."""
    world = World(ORIGINALS_W)
    for plan in wanted[:-1]:
        steps = sum(1 for action in world.actions(plan) for _ in world.steps(action))
        world.run(plan, data.draw(st.integers(0, steps)))
    world.run(wanted[-1])
    _assert_holds(world, wanted[-1])
    assert world.run(wanted[-1]) == 0, "called again it finds nothing to do"
    world.run(NO_PLAN)
    assert world.limits_w == ORIGINALS_W
    assert not any(world.paused.values())
    assert not world.ledger


def _assert_holds(world, plan):
    for uuid, original_w in ORIGINALS_W.items():
        expected = plan.caps[uuid].limit_w if uuid in plan.caps else original_w
        assert world.limits_w[uuid] == expected
    assert world.paused.get("job", False) == bool(plan.pauses)
    assert set(world.ledger) == {(Lever.CAP, u) for u in plan.caps} | {
        (Lever.PAUSE, j) for j in plan.pauses
    }


@pytest.mark.parametrize("most", range(20))
def test_a_crash_after_any_step_of_a_first_event_leaves_a_ledger_that_covers_the_devices(most):
    world = World(ORIGINALS_W)
    world.run(Plan(caps={u: Cap(400.0, "") for u in ORIGINALS_W}, pauses={"job": "why"}), most)
    for uuid, limit_w in world.limits_w.items():
        assert limit_w == ORIGINALS_W[uuid] or (Lever.CAP, uuid) in world.ledger
    assert not world.paused.get("job") or (Lever.PAUSE, "job") in world.ledger
