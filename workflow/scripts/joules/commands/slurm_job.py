"""What a job that `make slurm` submitted does: it runs the workflow of one campaign on its node.

Ends with 0 when the study is finished, or where it stops between two blocks because the next one
would not end in time. Of Slurm's notice that the job ends, or of `scancel`, the workflow is told as
by Ctrl-C. What is finished stays, and the command that submitted the job goes on with it.
"""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import yaml

from joules.commands import command_line
from joules.commands.slurm import begun_on
from joules.core import paths
from joules.core.errors import UserError
from joules.core.files import write_atomic
from joules.core.keys import merged
from joules.core.known import Unknown
from joules.core.machine_facts import Allocation
from joules.core.reading import LoadedStudy, load_study, read_configuration
from joules.machine import processor, slurm
from joules.measure.allotted import refuse_shared

MEASURE, OF_NODE, PREPARE = "measure", "measure-node", "prepare"
SHARED_RULES = ("fetch_model", "provide_runtime")  # their files are the same for every campaign


def workflow_command(config: Path, *arguments: str) -> list[str]:
    """Return the command line of the workflow, as `make all` gives it."""
    base = [sys.executable, "-m", "snakemake", "--cores", "1", "--configfile", str(config)]
    return [*base, *arguments]


class Workflow:
    """A workflow that is run until it ends, or is told to end when this process is.

    Attributes:
        told: whether this process got SIGTERM, of which the workflow was told as by Ctrl-C.
    """

    def __init__(self) -> None:
        self.told = False
        self._started: subprocess.Popen[bytes] | None = None
        signal.signal(signal.SIGTERM, self._tell)

    def _tell(self, number: int, frame: FrameType | None) -> None:
        self.told = True
        if self._started is not None and self._started.poll() is None:
            os.killpg(self._started.pid, signal.SIGINT)

    def run(self, command: Sequence[str], root: Path) -> int:
        """Run the workflow in a process group of its own; return its exit status."""
        own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self._started = subprocess.Popen(command, cwd=root, env=own, process_group=0)
        if self.told:  # while it was started
            os.killpg(self._started.pid, signal.SIGINT)
        return self._started.wait()


def this_processor() -> str:
    """Return what builds for this processor are tied to: its name and what it can do."""
    flags = processor.said_by_cpuinfo("flags") or processor.said_by_cpuinfo("Features") or ""
    return f"{processor.cpu_model()}\n{' '.join(sorted(flags.split()))}\n"


def processor_file(results: Path) -> Path:
    """Return where the processor is named that everything shared was made for."""
    return paths.slurm_folder(results) / "processor.txt"


def check_processor(results: Path, node: str) -> None:
    """Raise UserError on a node of another processor than that of the job that prepared it."""
    file = processor_file(results)
    made_for = file.read_text(encoding="utf-8") if file.exists() else ""
    if made_for != this_processor():
        raise UserError(
            f"Runtimes were compiled for {made_for.partition(chr(10))[0] or 'no node yet'}; the "
            f"node {node} has another processor ({processor.cpu_model()}), or another set of its "
            "instructions. Expected nodes that are alike. Choose them by PARTITION or "
            "SBATCH_CONSTRAINT, and measure other nodes in a clone of their own."
        )


def study_of_node(loaded: LoadedStudy, config: Path, node: str) -> Path:
    """Write the study of one node and return its file: another name, all else as in `config`.

    Every command takes that file as CONFIG.
    """
    study = loaded.study
    changes = {
        "study": f"{study.study}/{node}",
        "measurements": {"campaign": f"{study.campaign}-{node}".replace("/", "-")},
    }
    own = merged(read_configuration(config), changes)
    folder = paths.slurm_folder(loaded.root / paths.results_folder(f"{study.study}/{node}"))
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "study.yaml"
    text = f"# Made of {config.name} for the node {node} by each of its jobs.\n"
    write_atomic(target, text + yaml.safe_dump(own, sort_keys=False, allow_unicode=True))
    return target


def bind(results: Path, node: str) -> None:
    """Note the node of a campaign. Raises UserError where it was begun on another one."""
    begun = begun_on(results)
    if begun not in (None, node):
        raise UserError(
            f"This campaign was begun on the node {begun}, and the job runs on {node}. Expected "
            "one node, since two of one kind need not use the same energy. Submit it by "
            f"`make slurm`, which asks for {begun}; where that is gone, give the study another "
            "name and measure it anew."
        )
    file = paths.node_file(results)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, f"{node}\n")


def take_over(results: Path, job: str, unlock: Sequence[str], root: Path) -> Path:
    """Note that this job runs a campaign; return the file. A killed job's lock is taken away.

    Raises UserError while another job runs it. Slurm may start a job anew, under the same id.
    """
    file = paths.slurm_folder(results) / "running.txt"
    former = file.read_text(encoding="utf-8").strip() if file.exists() else ""
    if former and former != job:
        running = slurm.runs(former)
        if isinstance(running, Unknown):
            raise UserError(
                f"{file} says that job {former} runs this campaign, and whether it has ended is "
                f"not known: {running.reason}. Expected no other job. Delete that file if it has."
            )
        if running:
            raise UserError(
                f"Job {former} runs this campaign. Expected one job at a time. Wait for its end, "
                f"or cancel it: scancel {former}"
            )
    if former:
        command_line.say(f"job {former} was killed: its lock is taken away")
        subprocess.run(unlock, cwd=root, check=False)
    write_atomic(file, f"{job}\n")
    return file


def prepare(loaded: LoadedStudy, config: Path) -> int:
    """Fetch the models and provide the runtimes that the campaigns share."""
    workflow = Workflow()
    rules = ["--until", *SHARED_RULES]
    status = workflow.run(workflow_command(config, *rules, "--", "records"), loaded.root)
    if status == 0:
        write_atomic(processor_file(loaded.results), this_processor())
    return command_line.DONE if status == 0 else command_line.NOT_SO


def measure(loaded: LoadedStudy, config: Path, allocation: Allocation, again: str) -> int:
    """Run the workflow of one campaign and say how it went, and how to go on."""
    results, job = loaded.results, slurm.job_id() or allocation.job
    bind(results, allocation.node or "unknown")
    running = take_over(results, job, workflow_command(config, "--unlock"), loaded.root)
    stopped = paths.stopped_file(results)
    stopped.unlink(missing_ok=True)
    workflow = Workflow()
    try:
        status = workflow.run(workflow_command(config, "--", "all"), loaded.root)
    finally:
        running.unlink(missing_ok=True)
    if status == 0:
        command_line.say(f"`{loaded.study.study}` is finished")
        return command_line.DONE
    if stopped.exists() and not workflow.told:
        said = stopped.read_text(encoding="utf-8").strip()
        command_line.say(f"stopped between blocks, as it should be: {said}: {again}")
        return command_line.DONE
    if workflow.told:
        command_line.say(
            "Slurm ended this job before the study was finished: its time limit, or scancel. What "
            f"is finished stays. Go on by the same command: {again}"
        )
    else:
        command_line.say_aside(
            f"error: the workflow failed; what went wrong stands above. Put that right and give "
            f"the same command again: {again}"
        )
    return command_line.NOT_SO


def act(options: argparse.Namespace) -> int:
    """Prepare or measure, as the job was submitted for."""
    allocation = slurm.allocation()
    if allocation is None:
        raise UserError(
            "This is no job of Slurm (SLURM_JOB_ID is not set). Expected one that was submitted. "
            "Give: make slurm CONFIG=FILE HOURS=N"
        )
    config = Path(options.config)
    loaded = load_study(config)
    if options.what == PREPARE:
        return prepare(loaded, config)
    refuse_shared(allocation, loaded.study.limits)
    if options.what == OF_NODE:
        node = allocation.node or "unknown"
        check_processor(loaded.results, node)
        config = study_of_node(loaded, config, node)
        loaded = load_study(config)
    return measure(loaded, config, allocation, options.again)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a campaign in a job; see `command_line` for the exit status."""
    command = command_line.Command("slurm_job", __doc__, "make slurm CONFIG=FILE HOURS=N")
    command.add_argument("what", choices=(MEASURE, OF_NODE, PREPARE))
    command.add_argument("config", help="a study's file")
    command.add_argument("--again", default="make slurm", help="the command that goes on with it")
    return command_line.run(command, arguments, act)


if __name__ == "__main__":
    sys.exit(main())
