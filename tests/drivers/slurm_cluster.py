"""A Slurm of one node on loopback, from Debian's packages: real daemons, no GPUs behind the devices."""

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from drivers.jobs.proc import read_stat
from tests.drivers.job_rigs import wait_until
from tests.requirement import missing

NODE = "gpu01"
GPUS = 8
CPUS = 256
"""More than this machine has, as 200 jobs want one each."""

PATIENCE_S = 30.0
DAEMONS = ("munged", "slurmctld", "slurmd")
"""What must be installed, in the order in which they start."""

WORK = """
import mmap, signal, sys, time
file = open(sys.argv[1], "r+b")
counter = memoryview(mmap.mmap(file.fileno(), 0)).cast("Q")
if "deaf" in sys.argv:
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)
while True:
    counter[0] += 1
    time.sleep(0.02)
"""
"""Counts in a file that it shares with the test, so that it is seen at work. A deaf one pays no heed
to the signal that Slurm sends first and stops 2 s later."""


class SlurmCluster:
    """slurmctld, slurmd and munged of its own, with partitions `batch`, `training` and `realtime`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.conf = directory / "slurm.conf"
        self.version = tuple(
            int(part) for part in self._output("slurmctld", "-V").split()[-1].split(".")[:2]
        )
        self._counters: dict[str, memoryview] = {}

    def start(self) -> None:
        """Start all daemons; the node is idle when this returns."""
        self._write_configuration()
        munge = self.directory / "munge"
        munge.mkdir(mode=0o755)
        (munge / "munge.key").write_bytes(os.urandom(1024))
        (munge / "munge.key").chmod(0o400)
        for path in (munge, munge / "munge.key"):
            shutil.chown(path, "munge", "munge")
        files = ("key-file=munge.key", "socket=munge.sock", "pid-file=munged.pid")
        files += ("log-file=munged.log", "seed-file=munge.seed")
        options = [f"--{name}={munge / file}" for name, file in (f.split("=") for f in files)]
        self._output("runuser", "-u", "munge", "--", _program("munged"), "--force", *options)
        self.start_controller()
        self._output("slurmd", "-f", str(self.conf), "-N", NODE)
        wait_until(self._is_idle, PATIENCE_S)

    def start_controller(self) -> None:
        """Start slurmctld, also again."""
        self._output("slurmctld", "-f", str(self.conf))

    def stop_controller(self) -> None:
        """End slurmctld, which writes down what it knows."""
        self._end("slurmctld.pid")

    def stop(self) -> None:
        """End all jobs and daemons."""
        with suppress(subprocess.SubprocessError):
            self.cancel_all()
        for pid_file in ("slurmd.pid", "slurmctld.pid", "munge/munged.pid"):
            with suppress(OSError, ValueError):
                self._end(pid_file)

    def _end(self, pid_file: str) -> None:
        pid = int((self.directory / pid_file).read_text())
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: (stat := read_stat(Path(f"/proc/{pid}"))) is None or stat.dead)

    def run(self, *command: str, environment: Mapping[str, str] | None = None) -> str:
        """What a command of Slurm's prints. Raises where it fails."""
        return self._output(*command, environment=environment)

    def submit(self, name: str, *options: str, deaf: bool = False) -> str:
        """Submit a job that counts; its id."""
        counter = self.directory / f"counter-{uuid.uuid4().hex}"
        counter.write_bytes(bytes(8))
        script = self.directory / "work.py"
        wrap = f"exec python3 -I -S {script} {counter} {'deaf' if deaf else ''}"
        job_id = self.run(
            "sbatch", "--parsable", "-J", name, "-o", "/dev/null", *options, "--wrap", wrap
        )
        self._counters[job_id] = counter
        return job_id

    def work(self, job_id: str) -> int:
        """How much a job has counted."""
        return int.from_bytes(self._counters[job_id].read_bytes(), "little")

    def works(self, job_id: str) -> None:
        """Wait until a job is at work."""
        before = self.work(job_id)
        wait_until(lambda: self.work(job_id) > before, PATIENCE_S)

    def jobs(self, *options: str) -> dict[str, tuple[str, str]]:
        """State and reason of every job that has not ended, by id."""
        lines = self.run("squeue", "-h", "-r", "-o", "%i %T %r", *options).splitlines()
        return {
            job_id: (state, reason)
            for job_id, state, reason in (line.split(" ", 2) for line in lines)
        }

    def show(self, what: str, name: str) -> dict[str, str]:
        """What scontrol shows of a job or partition."""
        words = self.run("scontrol", "show", "-o", "-d", what, name).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def cancel(self, *job_ids: str) -> None:
        """End jobs; they are gone when this returns."""
        for options in (("--full", "-s", "KILL"), ()):
            # What has ended meanwhile is an error to it.
            with suppress(subprocess.SubprocessError):
                self.run("scancel", *options, *job_ids)
        wait_until(lambda: not self.jobs().keys() & set(job_ids), PATIENCE_S)

    def cancel_all(self) -> None:
        """End all jobs; the node is idle when this returns."""
        job_ids = self.run("squeue", "-h", "-o", "%A").split()
        if job_ids:
            self.cancel(*job_ids)
            wait_until(lambda: not self.jobs(), PATIENCE_S)

    def _is_idle(self) -> bool:
        with suppress(subprocess.SubprocessError):
            return self.run("sinfo", "-h", "-N", "-o", "%T", "-p", "batch") == "idle"
        return False

    def _output(self, command: str, *arguments: str, environment=None) -> str:
        env = {"PATH": os.environ["PATH"] + ":/usr/sbin", "SLURM_CONF": str(self.conf)}
        done = subprocess.run(
            [_program(command), *arguments],
            env=env | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        if done.returncode:
            raise subprocess.SubprocessError(f"{command} {arguments}: {done.stderr} {done.stdout}")
        return done.stdout.strip()

    def _write_configuration(self) -> None:
        at = self.directory
        (at / "work.py").write_text(WORK)
        (at / "dev").mkdir()
        for i in range(GPUS):
            # slurmd wants character devices; these are /dev/null again.
            os.mknod(at / f"dev/nvidia{i}", 0o20666, os.makedev(1, 3))
        host, ports = socket.gethostname(), _free_ports(2)
        (at / "gres.conf").write_text(
            f"NodeName={NODE} Name=gpu File={at}/dev/nvidia[0-{GPUS - 1}]\n"
        )
        (at / "plugstack.conf").write_text("")
        # slurmd starts its cgroup plugin though nothing here uses it.
        plugin = "disabled" if self.version >= (23, 2) else "cgroup/v1"
        (at / "cgroup.conf").write_text(f"CgroupPlugin={plugin}\n")
        self.conf.write_text(
            CONFIGURATION.format(
                at=at, host=host, ports=ports, first=random.randrange(1, 60_000_000)
            )
        )
        for name in ("state", "spool"):
            (at / name).mkdir()


CONFIGURATION = f"""ClusterName=flexload
SlurmctldHost={{host}}(127.0.0.1)
SlurmctldPort={{ports[0]}}
SlurmdPort={{ports[1]}}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={{at}}/munge/munge.sock
CredType=cred/munge
StateSaveLocation={{at}}/state
SlurmdSpoolDir={{at}}/spool
SlurmctldPidFile={{at}}/slurmctld.pid
SlurmdPidFile={{at}}/slurmd.pid
SlurmctldLogFile={{at}}/slurmctld.log
SlurmdLogFile={{at}}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
SwitchType=switch/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,sched_min_interval=100000,bf_interval=2,batch_sched_delay=0,default_queue_depth=2000
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
MinJobAge=2
FirstJobId={{first}}
KillWait=2
PriorityType=priority/basic
NodeName={NODE} NodeHostname={{host}} NodeAddr=127.0.0.1 CPUs={CPUS} Boards=1 SocketsPerBoard=1 CoresPerSocket={CPUS} ThreadsPerCore=1 RealMemory=1024 Gres=gpu:{GPUS} State=UNKNOWN
PartitionName=batch Nodes={NODE} Default=YES MaxTime=INFINITE State=UP
PartitionName=training Nodes={NODE} MaxTime=INFINITE State=UP
PartitionName=realtime Nodes={NODE} MaxTime=INFINITE State=UP
"""


def _program(name: str) -> str:
    return shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin") or name


def _free_ports(count: int) -> Sequence[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@contextmanager
def slurm_cluster():
    """A cluster that runs, in a directory that other users may read."""
    absent = [name for name in DAEMONS if shutil.which(_program(name)) is None]
    if absent:
        missing("slurm", f"{', '.join(absent)} is not installed")
    if os.geteuid() != 0:
        missing("root", "Slurm's daemons start jobs as others")
    directory = Path(tempfile.mkdtemp(prefix="flexload-slurm-"))
    directory.chmod(0o755)
    cluster = SlurmCluster(directory)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(directory, ignore_errors=True)
