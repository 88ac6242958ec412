"""One planner call for 512 GPUs and 64 jobs."""

import statistics
import time
from collections.abc import Iterator

from agent.core.estimate import Estimates
from agent.core.groups import Held
from agent.core.planner import plan
from agent.core.policy import Policy
from agent.core.site import WorkloadClass
from agent.core.timeline import Ceiling, Source, SourceKind
from tests.core.build import gpu, snapshot, workload

GPUS, JOBS, CALLS = 512, 64, 200


def figures() -> Iterator[dict[str, object]]:
    each = GPUS // JOBS
    kinds = list(WorkloadClass)
    gpus = [gpu(n, 560.0 + n % 100) for n in range(GPUS)]
    jobs = [
        workload(
            f"job-{j}",
            range(j * each, (j + 1) * each),
            tier=j % 4,
            kind=kinds[j % len(kinds)],
            may_pause=j % 3 == 0,
            weight=1.0 + j % 5,
        )
        for j in range(JOBS)
    ]
    shown = snapshot(gpus, jobs, other_w=50_000.0, gain=1.2)
    estimates = Estimates({g.uuid: g.power_w or 0.0 for g in gpus}, 50_000.0)
    policy = Policy(max_import_w=1e6)
    full_w = shown.meter.power_w or 0.0
    took_ms = []
    for call in range(CALLS):
        limit_w = full_w * (1 - 0.5 * call / CALLS)
        ceiling = Ceiling(limit_w, Source(SourceKind.EVENT, "bench"), 0.01)
        begun = time.perf_counter()
        plan(ceiling, shown, estimates, Held(), policy, 0.0)
        took_ms.append((time.perf_counter() - begun) * 1000)
    took_ms.sort()
    yield _figure("median", statistics.median(took_ms))
    yield _figure("p99", took_ms[int(0.99 * CALLS)])


def _figure(which: str, value: float) -> dict[str, object]:
    return {
        "bench": f"planner call, {GPUS} GPUs and {JOBS} jobs, {which} of {CALLS}",
        "value": round(value, 2),
        "unit": "ms",
    }
