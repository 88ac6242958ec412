"""The demo's site and its configuration: four hosts, 32 GPUs, six workloads with their terms."""

from pathlib import Path
from typing import Any

from drivers.sim.physics import Dip, JobSpec, SiteSpec

MARKET_CONTEXT = "http://demo.flexload.example/fast-dr"

SPEC = SiteSpec(
    name="demo",
    hosts=("gpu01", "gpu02", "gpu03", "gpu04"),
    gpus_per_host=8,
    jobs=(
        JobSpec("sim:chat", "chat", {"partition": "serving"}, tuple(range(8)), 520.0, noise=0.05),
        JobSpec("sim:search", "search", {"partition": "serving"}, tuple(range(8, 12)), 560.0, 0.05),
        JobSpec("sim:embed", "embed", {"partition": "batch"}, tuple(range(12, 16)), 640.0),
        JobSpec("sim:evals", "evals", {"partition": "batch"}, tuple(range(16, 20)), 630.0),
        JobSpec("sim:tune", "tune", {"partition": "training"}, tuple(range(20, 24)), 660.0, 0.02),
        JobSpec(
            "sim:pretrain",
            "pretrain",
            {"partition": "training"},
            tuple(range(24, 32)),
            670.0,
            noise=0.02,
            dip=Dip(every_s=180.0, first_s=80.0, length_s=15.0, depth=0.4),
        ),
    ),
)
"""H100-class parts. `pretrain` writes a checkpoint in the middle of the event, so that its dip can be
seen not to be mistaken for headroom."""


def configuration(directory: Path, vtn_url: str, listen: str) -> dict[str, Any]:
    """The demo's configuration, as its TOML would read."""
    directory = directory.absolute()
    site = str(directory / "site.json")
    return {
        "site": {
            "name": "demo",
            "state_dir": str(directory),
            "control_socket": str(directory / "control.sock"),
            "max_import": "32 kW",
        },
        "gpu": {"kind": "sim", "site": site},
        "jobs": [{"kind": "sim", "site": site}],
        "meter": {"kind": "sim", "site": site},
        "ven": [
            {
                "kind": "openadr-2.0b",
                "name": "demo-ven",
                "vtn_url": vtn_url,
                "market_contexts": [MARKET_CONTEXT],
            }
        ],
        "program": [
            {
                "name": "fast-dr",
                "market_context": MARKET_CONTEXT,
                "levels": {"1": "drop by 10 %", "2": "drop by 25 %", "3": "drop to 18 kW"},
                "baseline_window": "15 s",
            }
        ],
        "workload": [
            {"name": "chat", "class": "real-time", "tier": 0},
            {"name": "search", "class": "latency-tolerant", "tier": 1},
            {"name": "embed", "class": "batch", "tier": 3, "may_pause": True},
            {"name": "evals", "class": "batch", "tier": 2, "may_pause": True},
            {"name": "tune", "class": "training", "tier": 2},
            {"name": "pretrain", "class": "training", "tier": 2},
        ],
        "governor": {"dwell": "5 s"},
        "policy": {"min_pause": "20 s", "lease_grace": "20 s"},
        "web": {"listen": listen},
        "log": {"level": "warning"},
    }
