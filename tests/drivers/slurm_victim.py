"""An agent's part that commands jobs: pauses all that Slurm runs and resumes them, unless it is killed."""

import asyncio
import json
import sys
from pathlib import Path

from agent.clock import SystemClock
from agent.control.actuator import Actuator
from agent.control.equipment import Equipment
from agent.core.ledger import Entry, Instant, Lever
from agent.core.policy import Policy
from agent.core.reconcile import Observed, Undo, Write
from agent.store.facts import Facts
from agent.store.ledger import Ledger
from agent.store.state import DRIVERS_FACT, open_state
from drivers.gpu.sim import SimGpus
from drivers.jobs.slurm.driver import SlurmJobs
from drivers.meter.gpu_sum import GpuSumMeter
from drivers.sim.physics import SiteSpec
from drivers.sim.site import SimSite


async def main(folder: Path, settings: SlurmJobs.Settings) -> None:
    SimSite.create(folder / "site.json", SiteSpec("victim", ("a",), 1))
    gpu_settings = SimGpus.Settings(site=folder / "site.json")
    database = open_state(folder)
    tables = {"gpu": [gpu_settings], "jobs": [settings]}
    document = {key: [s.model_dump(mode="json") for s in each] for key, each in tables.items()}
    Facts(database).put({DRIVERS_FACT: json.dumps(document)})
    meter = GpuSumMeter(GpuSumMeter.Settings(kind="gpu-sum", base_load_w=0.0, pue=1.0))
    jobs = SlurmJobs(settings)
    equipment = Equipment(SimGpus(gpu_settings), [jobs], meter, Policy(max_import_w=1e9))
    await equipment.open()
    now = SystemClock().instant()
    entries = [_entry(job.job_id, now) for job in await jobs.list()]
    actuator = Actuator(equipment, Ledger(database))
    for action in (Write, Undo):
        actions = [action(entry) for entry in entries]
        report = await actuator.execute(actions, Observed({}, {}), now)
        assert all(deed.outcome.ok for deed in report.deeds), report
    await equipment.close()


def _entry(job_id: str, now: Instant) -> Entry:
    return Entry(Lever.PAUSE, job_id, None, None, None, 1000.0, "test", "test", now, now)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), SlurmJobs.Settings.model_validate_json(sys.argv[2])))
