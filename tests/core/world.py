"""Devices and a ledger, changed by single steps: what a crash can leave behind."""

from dataclasses import replace

from agent.core.ledger import Lever
from agent.core.reconcile import Confirm, Drop, Observed, Undo, Write, reconcile
from agent.core.site import WorkloadState
from tests.core.build import gpu, instant, s, workload

NOW = instant(100)
LEASE = NOW.after(s(600))
RENEW_S = 30.0


class World:
    """GPUs with a limit each, workloads that run or are paused, and the ledger."""

    def __init__(self, limits_w, paused=(), entries=()):
        self.limits_w = dict(limits_w)
        self.paused = dict.fromkeys(paused, True)
        self.ledger = {entry.ident: entry for entry in entries}

    def observed(self, jobs=("job",)):
        gpus = {u: gpu(int(u[4:]), 600.0, limit_w=w) for u, w in self.limits_w.items()}
        states = {True: WorkloadState.PAUSED, False: WorkloadState.RUNNING}
        work = {j: workload(j, [0], state=states[self.paused.get(j, False)]) for j in jobs}
        return Observed(gpus, work)

    def actions(self, plan, now=NOW):
        return reconcile(
            plan, self.observed(), tuple(self.ledger.values()), {}, now, LEASE, RENEW_S
        )

    def steps(self, action):
        """The single steps of one action, in the actuator's order."""
        entry = action.entry
        match action:
            case Write():
                yield lambda: self.ledger.__setitem__(entry.ident, entry)
                yield lambda: self._apply(entry)
                if entry.lever is Lever.CAP:
                    done = replace(entry, confirmed_w=entry.setpoint_w)
                    yield lambda: self.ledger.__setitem__(entry.ident, done)
            case Undo():
                yield lambda: self._undo(entry)
                yield lambda: self.ledger.pop(entry.ident)
            case Drop():
                yield lambda: self.ledger.pop(entry.ident)
            case Confirm():
                yield lambda: self.ledger.__setitem__(entry.ident, entry)

    def run(self, plan, most=10_000):
        """Carry out a plan's actions, stopping dead after `most` steps; how many were taken."""
        return self.carry_out(self.actions(plan), most)

    def carry_out(self, actions, most=10_000):
        """Carry out actions, stopping dead after `most` steps; how many were taken."""
        taken = 0
        for action in actions:
            for step in self.steps(action):
                if taken == most:
                    return taken
                step()
                taken += 1
        return taken

    def _apply(self, entry):
        if entry.lever is Lever.PAUSE:
            self.paused[entry.key] = True
        else:
            assert entry.ident in self.ledger, "applied before it was written"
            self.limits_w[entry.key] = entry.setpoint_w

    def _undo(self, entry):
        if entry.lever is Lever.PAUSE:
            self.paused[entry.key] = False
        else:
            self.limits_w[entry.key] = entry.original_w
