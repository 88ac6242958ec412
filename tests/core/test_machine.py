"""The rules of the design that the core can carry, held over any sequence of what can happen.

A small site (one protected GPU, two that train, one that may be paused) lives through events,
modifications, cancels, opt-outs, stops, crashes between any two steps, blindness, meddling and
wall-clock steps, second by second, on a fake clock.
"""

import random
from dataclasses import replace
from datetime import timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.core.agenda import LOOKAHEAD, Inputs
from agent.core.decide import decide
from agent.core.event import EventRecord, Opt, OptDecision
from agent.core.intake import missing_from, receive
from agent.core.ledger import Instant, Lever, expired
from agent.core.lifecycle import opted_in, opted_out
from agent.core.memory import Memory
from agent.core.policy import Policy
from agent.core.sample import Sample
from agent.core.site import Health, MeterQuality, MeterSample, WorkloadClass, WorkloadState
from agent.core.timeline import SourceKind
from tests.core.build import NOON, PROGRAM, event, gpu, s, snapshot, workload
from tests.core.world import World

DEMAND_W = {"GPU-0": 600.0, "GPU-1": 620.0, "GPU-2": 620.0, "GPU-3": 640.0}
ORIGINAL_W = {"GPU-0": 700.0, "GPU-1": 700.0, "GPU-2": 650.0, "GPU-3": 700.0}
OTHER_W, IDLE_W = 1_000.0, 110.0
POLICY = Policy(
    max_import_w=5_000.0, min_pause_s=5.0, dwell_s=3.0, rebound_guard_s=60.0, pending_lead_s=5
)
HASTY = replace(POLICY, min_notice_s=8.0)
PROGRAMS = (replace(PROGRAM, baseline_window_s=20.0),)


class Site(RuleBasedStateMachine):
    """One site, its agent's memory, and the clocks."""

    def __init__(self):
        super().__init__()
        self.world = World(ORIGINAL_W)
        self.memory = Memory()
        self.records: dict[tuple[str, str], EventRecord] = {}
        self.samples: list[Sample] = []
        self.second = 0
        self.wall_step = timedelta(0)
        self.stopped_at = None
        self.meter_lost = False
        self.stale: set[str] = set()
        self.meddled: set[str] = set()
        self.random = random.Random(1)
        self.plan_goals: list[float] = []
        self.acted: set[tuple[str, str]] = set()
        """Events that have really begun to act, and not only by the clock."""
        self.cycle()

    # What happens.

    @rule(seconds=st.integers(1, 25))
    def time_passes(self, seconds):
        for _ in range(seconds):
            self.second += 1
            self.cycle()

    @rule(
        name=st.sampled_from(["a", "b"]),
        level=st.integers(0, 3),
        length=st.sampled_from([0, 10, 40]),
        start=st.integers(-10, 30),
        ramp=st.sampled_from([None, -5, 0, 5]),
        revision=st.integers(0, 3),
        cancelled=st.booleans(),
        test=st.sampled_from([False, False, False, True]),
        window=st.sampled_from([0, 5, 5, 20]),
        hasty=st.sampled_from([False, False, True]),
    )
    def a_message_arrives(
        self, name, level, length, start, ramp, revision, cancelled, test, window, hasty
    ):
        sent = event(
            (length, level),
            start=self.second + start,
            event_id=name,
            revision=revision,
            cancelled=cancelled,
            test=test,
            start_window=s(window),
            ramp_down=None if ramp is None else s(ramp),
            ramp_up=None if ramp is None else s(ramp),
        )
        known = self.records.get(sent.key)
        policy = HASTY if hasty else POLICY
        taken = receive(known, sent, PROGRAMS, policy, self.now().at, self.random.random())
        if known is not None and revision < known.event.revision:
            assert taken.record is known
        if taken.record is not None:
            assert taken.record.start_shift <= taken.record.event.start_window
            if known is not None and taken.record.event.start_window == known.event.start_window:
                assert taken.record.start_shift == known.start_shift
            self.records[sent.key] = taken.record

    @precondition(lambda self: self.records)
    @rule(data=st.data())
    def the_grid_lists_an_event_no_more(self, data):
        gone = data.draw(st.sampled_from(sorted(self.records)))
        listed = {key: r.event for key, r in self.records.items() if key != gone}
        for record in missing_from(listed, self.records, "ven", self.now().at):
            self.records[record.key] = record

    @precondition(lambda self: self.records)
    @rule(out=st.booleans())
    def the_operator_decides(self, out):
        key = min(self.records)
        now = self.now().at
        decision = OptDecision(Opt.OUT if out else Opt.IN, "operator ann", now, "test")
        decided = replace(self.records[key], opt=decision)
        self.records[key] = opted_out(decided, now) if out else opted_in(decided)

    @rule(stopped=st.booleans())
    def the_operator_stops_or_resumes(self, stopped):
        self.stopped_at = self.now().at if stopped else None

    @rule(steps=st.integers(0, 12))
    def the_agent_crashes_in_a_cycle_and_starts_again(self, steps):
        self.second += 1
        self.cycle(most=steps)
        self.memory = Memory()

    @rule(lost=st.booleans())
    def the_meter_goes_or_returns(self, lost):
        self.meter_lost = lost

    @rule(uuid=st.sampled_from(sorted(DEMAND_W)), stale=st.booleans())
    def a_gpu_stops_answering_or_returns(self, uuid, stale):
        (self.stale.add if stale else self.stale.discard)(uuid)

    @rule(uuid=st.sampled_from(["GPU-1", "GPU-3"]), limit_w=st.sampled_from([450.0, 700.0]))
    def somebody_else_sets_a_limit(self, uuid, limit_w):
        self.world.limits_w[uuid] = limit_w
        self.meddled.add(uuid)

    @rule(hours=st.sampled_from([-1, 1]))
    def the_wall_clock_is_stepped_and_the_agent_keeps_its_own(self, hours):
        """The edges hand the core a steady clock (agent.clock): only leases could ever notice."""
        self.wall_step += timedelta(hours=hours)

    # What the core sees and does.

    def now(self):
        return Instant(NOON + s(self.second), "boot", 1_000.0 + self.second)

    def draw_w(self, uuid):
        if uuid == "GPU-3" and self.world.paused.get("batch"):
            return IDLE_W
        return min(DEMAND_W[uuid], 0.98 * self.world.limits_w[uuid])

    def observe(self):
        gpus = [
            gpu(
                number,
                None if uuid in self.stale else self.draw_w(uuid),
                limit_w=None if uuid in self.stale else self.world.limits_w[uuid],
                health=Health.STALE if uuid in self.stale else Health.OK,
            )
            for number, uuid in enumerate(sorted(DEMAND_W))
        ]
        paused = WorkloadState.PAUSED if self.world.paused.get("batch") else WorkloadState.RUNNING
        work = [
            workload("chat", [0], 0),
            workload("train", [1, 2], 2),
            workload("batch", [3], 3, WorkloadClass.BATCH, paused, may_pause=True),
        ]
        metered_w = OTHER_W + sum(self.draw_w(uuid) for uuid in DEMAND_W)
        meter = MeterSample(self.now().at, metered_w, MeterQuality.GOOD)
        if self.meter_lost:
            meter = MeterSample(self.now().at, None, MeterQuality.BAD, "lost")
        return replace(snapshot(gpus, work, when=self.now().at), meter=meter)

    def cycle(self, most=10_000):
        shown = self.observe()
        inputs = Inputs(
            now=self.now(),
            snapshot=shown,
            records=self.records,
            ledger=tuple(self.world.ledger.values()),
            samples=tuple(self.samples),
            contacts={"ven": self.now().at},
            stopped_at=self.stopped_at,
        )
        before_w, before_plan = dict(self.world.limits_w), self.memory.plan
        decision = decide(self.memory, inputs, PROGRAMS, POLICY)
        for frozen in decision.agenda.frozen:
            assert frozen.opt.opt is Opt.IN
            assert frozen.ended_at is None
            self.records[frozen.key] = frozen
            self.acted.add(frozen.key)
        self.world.carry_out(decision.actions, most)
        self.memory = decision.memory
        self.samples.append(Sample(shown.at, shown.meter.power_w, shown.meter.quality))
        self.check_plan(decision, inputs)
        self.check_left_alone(decision)
        self.check_never_raised_blind(decision, inputs, before_w, before_plan)

    # What must hold.

    def check_plan(self, decision, inputs):
        """Rules 5 and 6."""
        plan, at = decision.plan, inputs.now.at
        for o in decision.agenda.timeline.obligations:
            limit_w = o.limit_at(at)
            if limit_w is not None and plan.ceiling is not None:
                assert plan.ceiling.limit_w <= limit_w + 1e-6, f"above {o.source}"
        if plan.ceiling is not None:
            assert str(plan.ceiling.source)
        assert "GPU-0" not in plan.caps, "protected"
        assert set(plan.pauses) <= {"batch"}
        for cap in plan.caps.values():
            assert POLICY.cap_floor_share * 700 <= cap.limit_w <= 700
            assert cap.reason

    def check_left_alone(self, decision):
        """Rules 8 and 9: what was left or cancelled asks for nothing, but to come back from acting."""
        asking = {o.source.name for o in decision.agenda.timeline.obligations}
        for key, record in self.records.items():
            if record.ended_at is not None and key not in self.acted:
                assert key[1] not in asking
                phase = decision.agenda.phases[key]
                assert phase.over, "left or cancelled at once"

    def check_never_raised_blind(self, decision, inputs, before_w, before_plan):
        """Rule 4: with the meter lost and an event in force, nothing rises unless its limit does."""
        at = inputs.now.at
        asked = any(
            o.source.kind is SourceKind.EVENT and o.limit_at(at) is not None
            for o in decision.agenda.timeline.obligations
        )
        before_goal, goal = before_plan.goal_w, decision.plan.goal_w
        if not self.meter_lost or not asked or before_goal is None or goal is None:
            return
        if goal > before_goal:
            return
        for uuid, limit_w in self.world.limits_w.items():
            if uuid not in self.meddled:
                assert limit_w <= before_w[uuid] + 1e-6, (
                    f"{uuid} was raised while the meter is lost"
                )

    @invariant()
    def whatever_is_restrained_stands_in_the_ledger(self):
        """Rule 1."""
        for uuid, limit_w in self.world.limits_w.items():
            if uuid not in self.meddled and limit_w != ORIGINAL_W[uuid]:
                entry = self.world.ledger[(Lever.CAP, uuid)]
                assert entry.original_w == ORIGINAL_W[uuid]
        if self.world.paused.get("batch"):
            assert (Lever.PAUSE, "batch") in self.world.ledger

    @invariant()
    def nothing_protected_is_ever_touched(self):
        """Rule 6."""
        assert self.world.limits_w["GPU-0"] == 700.0

    @invariant()
    def every_setpoint_has_a_lease_that_no_wall_clock_can_move(self):
        """Rules 2 and 8."""
        now = self.now()
        stepped = replace(now, at=now.at + self.wall_step)
        for entry in self.world.ledger.values():
            assert expired(entry.lease, stepped) == expired(entry.lease, now)

    def teardown(self):
        """Rules 2, 3 and 9: once nothing is asked any more, everything is as it was."""
        self.meter_lost = False
        self.stale.clear()
        self.stopped_at = None
        now = self.now().at
        for key, known in self.records.items():
            out = OptDecision(Opt.OUT, "operator ann", now, "over")
            self.records[key] = opted_out(replace(known, opt=out), now)
        for _ in range(120):
            self.second += 1
            self.cycle()
        assert not self.world.ledger, "nothing is left in force"
        assert not any(self.world.paused.values())
        for uuid, limit_w in self.world.limits_w.items():
            if uuid not in self.meddled:
                assert limit_w == ORIGINAL_W[uuid]
        assert s(5) > LOOKAHEAD


TestSite = Site.TestCase
TestSite.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
