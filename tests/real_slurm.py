"""A real Slurm of two nodes on one machine: munged, slurmctld, two slurmd, no control groups.

All of it lies in one folder and ends together. Both nodes are this machine, so that their jobs take
turns by the machine's lock.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from small_study import Tree

BIN = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel")
NODES = ("n1", "n2")
PATIENCE_S, START_S = 600.0, 60.0
INSTALL = Path(__file__).parent / "cluster/install_slurm.sh"
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")
CONFIGURATION = """\
ClusterName=trial
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
KillWait=30
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={n1} CPUs=2
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={n2} CPUs=2
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


def obstacle() -> str:
    """Return why no Slurm can be started here; empty where it can."""
    if os.getuid() != 0:
        return "Slurm is tried as root only: its daemons start the jobs"
    missing = [name for name in PROGRAMS if shutil.which(name, path=BIN) is None]
    if missing:
        return f"no {', '.join(missing)} here: tests/cluster/install_slurm.sh installs Slurm"
    return ""


class NotStartedError(Exception):
    """The daemons do not run here, for what they say themselves."""


def installed() -> str:
    """Install Slurm where it is missing and that is possible; return why it is still missing."""
    if obstacle() and os.getuid() == 0:
        done = subprocess.run(["bash", str(INSTALL)], capture_output=True, text=True)
        if done.returncode != 0:
            return f"Slurm cannot be installed: {done.stderr.strip()[-300:]}"
    return obstacle()


def until(holds: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """Return what a function returns once it is true."""
    end_s = time.monotonic() + patience_s
    while not (found := holds()):
        assert time.monotonic() < end_s, f"waited for {what}"
        time.sleep(0.2)
    return found


class Cluster:
    """A running Slurm, and its commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "PYTHON"))}
        self.environment = kept | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": BIN}

    def call(self, *command: str, check: bool = True) -> str:
        """Return what a command of Slurm prints."""
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def is_idle(self) -> bool:
        """Return whether both nodes are there and do nothing."""
        states = self.call("sinfo", "--noheader", "--Node", "--format=%T", check=False).split()
        return states == ["idle"] * len(NODES)

    def jobs(self) -> list[dict[str, str]]:
        """Return all jobs, those that ended lately included, as scontrol shows them."""
        lines = self.call("scontrol", "--oneliner", "show", "job", check=False).splitlines()
        return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines if "JobId=" in line]

    def job(self, number: str) -> dict[str, str]:
        """Return one job, as scontrol shows it; a busy controller may show none for a while."""

        def shown() -> dict[str, str] | None:
            return next((job for job in self.jobs() if job["JobId"] == number), None)

        return until(shown, f"job {number} to be shown")

    def is_empty(self) -> bool:
        """Return whether no job waits or runs. A controller that does not answer says neither."""
        command = ["squeue", "--noheader"]
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment)
        return done.returncode == 0 and not done.stdout

    def all_ended(self) -> list[dict[str, str]]:
        """Wait until no job waits or runs; return those that ended lately."""
        until(self.is_empty, "the end of all jobs")
        return self.jobs()

    def ended(self, number: str) -> dict[str, str]:
        """Wait for the end of one job and return it."""
        until(lambda: self.job(number)["JobState"] in ENDED, f"the end of job {number}")
        return self.job(number)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _lay_out(folder: Path) -> None:
    folder.chmod(0o755)
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    controller, n1, n2 = _free_ports(3)
    host = socket.gethostname().partition(".")[0]
    text = CONFIGURATION.format(folder=folder, host=host, controller=controller, n1=n1, n2=n2)
    (folder / "slurm.conf").write_text(text)


@contextlib.contextmanager
def started() -> Iterator[Cluster]:
    """Start the daemons, yield the cluster once both nodes are idle, and stop them all."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    _lay_out(folder)
    cluster = Cluster(folder)
    munge = [f"--{each}-file={folder}/munge.{each}" for each in ("key", "log", "pid", "seed")]
    daemons = [
        ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *munge],
        ["slurmctld", "-D"],
        *(["slurmd", "-D", "-N", node] for node in NODES),
    ]
    with contextlib.ExitStack() as running:
        running.callback(shutil.rmtree, folder, ignore_errors=True)
        for number, command in enumerate(daemons):
            with open(folder / f"daemon-{number}.said", "w") as said:
                process = subprocess.Popen(
                    command, env=cluster.environment, stdout=said, stderr=subprocess.STDOUT
                )
            running.callback(process.wait)
            running.callback(process.terminate)
            if command[0] == "munged":
                until((folder / "munge.socket").exists, "munged", START_S)
        try:
            until(cluster.is_idle, "both nodes", START_S)
        except AssertionError as error:
            said = [file.read_text()[-300:] for file in sorted(folder.glob("daemon-*.said"))]
            raise NotStartedError(" ".join(said)) from error
        running.callback(cluster.all_ended)
        running.callback(cluster.call, "scancel", "--user=root", check=False)
        yield cluster


class Study:
    """A small study in a clone of its own, which is submitted to a cluster."""

    def __init__(self, cluster: Cluster, tree: Tree) -> None:
        self.cluster, self.tree = cluster, tree
        # The environment of the checkout stands for one that would take minutes to make here.
        (tree.folder / ".venv").symlink_to(Path(sys.executable).parents[1])
        (tree.folder / "requirements/install.sh").write_text("exit 0\n")
        self.configure()

    def configure(self, **changes: object) -> None:
        """Write the study with these changes."""
        base = {"models": ["parrot-1m"], "runtimes": ["llama_cpp"], "kinds": ["task", "control"]}
        self.tree.configure(**(base | {"problems": 3} | changes))

    def make(self, hours: float, *more: str) -> subprocess.CompletedProcess[str]:
        """Submit the study as a user does."""
        return subprocess.run(
            ["make", "slurm", "CONFIG=small.yaml", f"HOURS={hours}", *more],
            cwd=self.tree.folder,
            env=self.cluster.environment,
            capture_output=True,
            text=True,
        )

    def submitted(self, hours: float, *more: str) -> list[str]:
        """Submit the study; return the ids of its jobs, as it names them."""
        done = self.make(hours, *more)
        assert done.returncode == 0, done.stdout + done.stderr
        return re.findall(r"^job (\d+):", done.stdout, re.M)

    def has(self, records: int) -> None:
        """Wait for so many records, then cancel all jobs: the article takes longer than they do."""
        what = f"{records} records"
        until(lambda: len(self.files()) >= records or self.cluster.is_empty(), what)
        assert len(self.files()) >= records, self.said()
        self.cluster.call("scancel", "--user=root")
        self.cluster.all_ended()

    def submitted_shared(self) -> str:
        """Submit the study's own script without its wish for a whole node; return the job's id."""
        (job,) = self.submitted(0.5)
        self.cluster.call("scancel", job)
        self.cluster.all_ended()
        script = (self.results / "slurm/job.sh").read_text()
        shutil.rmtree(self.results)
        (self.results / "slurm").mkdir(parents=True)
        file = self.tree.folder / "own.sh"
        file.write_text(script.replace("#SBATCH --exclusive", "#SBATCH --ntasks=1"))
        return self.cluster.call("sbatch", "--parsable", str(file)).strip()

    @property
    def results(self) -> Path:
        """The folder of results."""
        return self.tree.folder / "results/small"

    def said(self, name: str = "slurm/job.log") -> str:
        """Return what the jobs printed."""
        file = self.results / name
        return file.read_text() if file.exists() else ""

    def files(self) -> dict[str, bytes]:
        """Return the records that are there, by their places."""
        found = self.results.rglob("records/*/*/*/[0-9].json")
        return {each.relative_to(self.results).as_posix(): each.read_bytes() for each in found}

    def records(self) -> list[dict[str, Any]]:
        """Return the records that are there."""
        return [json.loads(content) for content in self.files().values()]
