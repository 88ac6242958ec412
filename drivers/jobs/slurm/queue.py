"""What Slurm says of its jobs and partitions, read from what squeue and scontrol print.

The JSON of squeue changed its shape with nearly every release; read here are those of 22.05 to 24.11:
numbers bare or as `{"set", "infinite", "number"}`, the state a string or a list of flags.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from drivers.errors import UnavailableError

_GPU_INDICES = re.compile(r"\bgpu(?::[^:(,]+)?:\d+\(IDX:([\d,-]+)\)")
"""In a job's gres on one node: `gpu:a100:2(IDX:0-1)`."""
_BRACKETS = re.compile(r"([^,\[]*)\[([^\]]*)\]")


@dataclass(frozen=True, slots=True)
class SlurmJob:
    """One job, or one task of an array, that Slurm knows."""

    number: int
    """Slurm's own number, by which its processes are known."""
    name_id: str
    """By which it is named in commands: an array's last task has the number of the whole array."""
    name: str
    states: frozenset[str]
    """Base state and flags, in capitals: RUNNING, SUSPENDED, PENDING, COMPLETING, ..."""
    reason: str
    """Why it is pending."""
    priority: int
    heterogeneous: bool
    """One of several parts that Slurm only suspends together, if at all."""
    nodes: Sequence[str]
    gpus: Mapping[str, Sequence[int]]
    """Slurm's indices of the GPUs it holds, by node."""
    labels: Mapping[str, str]
    started: datetime | None
    suspended: datetime | None
    """When it was last suspended."""

    @property
    def is_suspended(self) -> bool:
        """Whether Slurm took it off its CPUs. Its processes may still run."""
        return "SUSPENDED" in self.states

    @property
    def is_running(self) -> bool:
        """Whether it has its CPUs; one that its owner stopped (`scancel -s STOP`) has."""
        return bool(self.states & {"RUNNING", "STOPPED"}) and not self.states & _OVER

    @property
    def is_ending(self) -> bool:
        """Whether its processes are being ended; then it is gone, or pending if it was requeued."""
        return "COMPLETING" in self.states

    @property
    def has_ended(self) -> bool:
        """Whether nothing will come of it any more; Slurm shows it for some minutes yet."""
        return not self.states & _ALIVE

    @property
    def is_held_since_suspended(self) -> bool:
        """Requeued while suspended, which leaves it held. A hold by its owner has another reason."""
        held = self.priority == 0 and self.reason in ("None", "JobHeldAdmin")
        return "PENDING" in self.states and not self.is_ending and held


_ALIVE = frozenset({"RUNNING", "STOPPED", "SUSPENDED", "PENDING", "COMPLETING"})
_OVER = frozenset({"COMPLETING", "SUSPENDED"})


@dataclass(frozen=True, slots=True)
class Partition:
    """One of Slurm's queues."""

    name: str
    state: str
    """UP; DOWN: takes jobs and starts none; DRAIN: takes none and starts those it has; INACTIVE: neither."""
    nodes: frozenset[str]


def parse_queue(text: str) -> Sequence[SlurmJob]:
    """Read what `squeue --json` printed.

    Raises `UnavailableError` for anything else, and where it holds errors: squeue ends well also when it
    reached nobody. A job that cannot be understood is left out, and costs no other.
    """
    try:
        document = json.loads(text)
        jobs, errors = document["jobs"], document.get("errors")
    except (ValueError, TypeError, KeyError) as error:
        raise UnavailableError("squeue printed no list of jobs") from error
    if errors:
        raise UnavailableError(f"squeue could not list the jobs: {_first_error(errors)}")
    if not isinstance(jobs, list):
        raise UnavailableError("squeue printed no list of jobs")
    return [job for job in map(_parse_job, jobs) if job is not None]


def parse_partitions(text: str) -> Mapping[str, Partition]:
    """Read what `scontrol show partition --oneliner` printed."""
    partitions: dict[str, Partition] = {}
    for line in text.splitlines():
        words = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if {"PartitionName", "State", "Nodes"} <= words.keys():
            nodes = frozenset(expand_nodes(words["Nodes"]))
            name = words["PartitionName"]
            partitions[name] = Partition(name, words["State"], nodes)
    return partitions


def expand_nodes(expression: str) -> Sequence[str]:
    """The nodes of Slurm's short way to write many: `gpu[01-03,07],login` (slurm.conf(5))."""
    if expression in ("", "(null)", "None"):
        return []
    return [name for part in _split(expression) for name in _expand(part)]


def _split(expression: str) -> Iterator[str]:
    """Cut at the commas that stand in no brackets."""
    part, depth = "", 0
    for character in expression:
        depth += (character == "[") - (character == "]")
        if character == "," and depth == 0:
            yield part
            part = ""
        else:
            part += character
    yield part


def _expand(part: str) -> Iterator[str]:
    found = _BRACKETS.search(part)
    if found is None:
        yield part
        return
    before, ranges = part[: found.start(2) - 1], found[2]
    for number in _numbers(ranges):
        for after in _expand(part[found.end() :]):
            yield f"{before}{number}{after}"


def _numbers(ranges: str) -> Iterator[str]:
    """`01-03,7` as 01, 02, 03, 7. Leading zeros are kept."""
    for each in ranges.split(","):
        first, _, last = each.partition("-")
        if not last:
            yield first
        elif first.isdecimal() and last.isdecimal():
            for number in range(int(first), int(last) + 1):
                yield f"{number:0{len(first)}}"


def _parse_job(raw: Any) -> SlurmJob | None:
    try:
        return _job(raw)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _job(raw: Mapping[str, Any]) -> SlurmJob:
    number = int(raw["job_id"])
    array, task = _number(raw.get("array_job_id")), _number(raw.get("array_task_id"))
    leader, part = _number(raw.get("het_job_id")), _number(raw.get("het_job_offset"))
    name_id = f"{array}_{task}" if array and task is not None else str(number)
    if leader:
        name_id = f"{leader}+{part or 0}"
    stated = raw["job_state"]
    nodes = expand_nodes(str(raw.get("nodes") or ""))
    return SlurmJob(
        number=number,
        name_id=name_id,
        name=str(raw.get("name") or number),
        states=frozenset([stated] if isinstance(stated, str) else map(str, stated)),
        reason=str(raw.get("state_reason") or "None"),
        priority=_number(raw.get("priority")) or 0,
        heterogeneous=bool(leader),
        nodes=nodes,
        gpus=_gpus(nodes, raw.get("gres_detail") or ()),
        labels=_labels(raw),
        started=_time(raw.get("start_time")),
        suspended=_time(raw.get("suspend_time")),
    )


def _gpus(nodes: Sequence[str], details: Sequence[str]) -> Mapping[str, Sequence[int]]:
    """Slurm prints one gres a node of the job, in the order of its nodes."""
    return {
        node: [int(n) for found in _GPU_INDICES.findall(detail) for n in _numbers(found)]
        for node, detail in zip(nodes, details, strict=False)
    }


def _labels(raw: Mapping[str, Any]) -> Mapping[str, str]:
    keys = {"user": "user_name"} | {k: k for k in ("partition", "qos", "account", "comment")}
    found = {label: _text(raw.get(key)) for label, key in keys.items()}
    return {label: text for label, text in found.items() if text}


def _text(value: Any) -> str:
    """Comments were an object of several in between."""
    if isinstance(value, Mapping):
        value = value.get("job")
    return value if isinstance(value, str) else ""


def _number(value: Any) -> int | None:
    if isinstance(value, Mapping):
        value = value["number"] if value.get("set") else None
    return None if value is None else int(value)


def _time(value: Any) -> datetime | None:
    seconds = _number(value)
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def _first_error(errors: Any) -> str:
    first = errors[0] if isinstance(errors, list) else errors
    if isinstance(first, Mapping):
        first = first.get("description") or first.get("error") or first
    return str(first)
