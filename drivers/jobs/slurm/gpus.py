"""From Slurm's numbers of GPUs to their UUIDs."""

import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

NVIDIA = Path("/proc/driver/nvidia/gpus")

_UUID = re.compile(r"^GPU UUID:\s*(GPU-\S+)", re.MULTILINE)
_MINOR = re.compile(r"^Device Minor:\s*(\d+)", re.MULTILINE)


def gpus_of_this_host() -> Mapping[str, Sequence[str]]:
    """Under this host's short name, which Slurm calls nodes by, its GPUs as NVIDIA's driver tells.

    In the order of their device files, which is that of Slurm's indices (gres.conf(5)). Empty when
    there are none, or any is missing from the row.
    """
    minors: dict[int, str] = {}
    for file in NVIDIA.glob("*/information"):
        try:
            text = file.read_text(errors="replace")
        except OSError:
            return {}
        uuid, minor = _UUID.search(text), _MINOR.search(text)
        if uuid is not None and minor is not None:
            minors[int(minor[1])] = uuid[1]
    if sorted(minors) != list(range(len(minors))):
        return {}
    host = socket.gethostname().partition(".")[0]
    return {host: [minors[minor] for minor in sorted(minors)]} if minors else {}


def uuids_of(
    indices: Mapping[str, Sequence[int]], known: Mapping[str, Sequence[str]]
) -> Sequence[str]:
    """The UUIDs of the GPUs that a job holds, by node; those that are not known are left out."""
    return [
        known[node][index]
        for node, held in indices.items()
        for index in held
        if index < len(known.get(node, ()))
    ]
