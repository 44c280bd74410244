"""Submit a study to Slurm: each job measures one campaign on one node, which it has for itself.

Writes the job scripts into `results/<study>/slurm/` and submits them. The same command again goes
on where the jobs stopped: each campaign on the node that it was begun on.
"""

import argparse
import math
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from joules.commands import command_line, cost
from joules.core import paths
from joules.core.errors import UserError
from joules.core.files import write_atomic
from joules.core.known import Unknown
from joules.core.places import PACKAGE
from joules.core.reading import DEFAULT, LoadedStudy, load_study
from joules.core.run_parameters import check_names
from joules.core.sense import check_sense
from joules.core.wording import listed
from joules.machine import slurm
from joules.measure.allotted import MARGIN

MOST_HOURS, MOST_NODES = 24 * 366, 1000
OUTPUT, OF_TASK = "job.log", "task-%a.log"  # in the folder of the jobs; sbatch fills in the task
SCRIPT = """\
#!/bin/bash
# Written by `make slurm`, anew each time. {purpose}
{options}
set -e
{install}export PYTHONUTF8=1 VIRTUAL_ENV="$PWD/.venv" PATH="$PWD/.venv/bin:$PATH"
exec env PYTHONPATH=workflow/scripts .venv/bin/python -P -m joules.commands.slurm_job {arguments}
"""
INSTALL = "bash requirements/install.sh main\n"


class Asked(NamedTuple):
    """What was asked for behind `make slurm`.

    Attributes:
        config: the study's file.
        partition: empty for Slurm's default one.
        hours: time limit of each job.
        nodes: how many; None: one campaign, which has the study's own name.
    """

    config: str
    partition: str
    hours: float
    nodes: int | None

    @property
    def minutes(self) -> int:
        """The time limit as sbatch takes it, in whole minutes."""
        return math.ceil(self.hours * 60)

    @property
    def command(self) -> str:
        """The command that asks for this."""
        given = {"CONFIG": self.config, "PARTITION": self.partition, "HOURS": f"{self.hours:g}"}
        given["NODES"] = "" if self.nodes is None else str(self.nodes)
        words = [f"{name}={shlex.quote(value)}" for name, value in given.items() if value]
        return " ".join(["make slurm", *words])


def asked_for(config: str, partition: str, hours: str, nodes: str) -> Asked:
    """Return what was asked for. Raises UserError for numbers that are none, or out of range."""
    number = re.fullmatch(r"\d+(?:\.\d+)?|\.\d+", hours.strip())
    if not number or not 0 < float(number[0]) <= MOST_HOURS:
        raise UserError(
            f"HOURS is {hours!r}; expected the time limit of a job in hours, above 0 and at most "
            f"{MOST_HOURS}. Give for example: make slurm CONFIG=config/study.yaml HOURS=12"
        )
    whole = nodes.strip()
    if whole and not (whole.isdecimal() and 1 <= int(whole) <= MOST_NODES):
        raise UserError(
            f"NODES is {nodes!r}; expected a whole number of nodes from 1 to {MOST_NODES}, each "
            "measuring a campaign of its own. Leave it out for one campaign."
        )
    count = int(whole) if whole else None
    return Asked(config.strip() or DEFAULT, partition.strip(), float(number[0]), count)


def check_time(loaded: LoadedStudy, hours: float) -> None:
    """Raise UserError where not even one block is expected to end within a job.

    The speeds are those of the forecast (`joules.commands.cost`).
    """
    block = [run for run in loaded.runs(1) if run.kind != "quality"]
    needed_s = cost.total_s(loaded.study, cost.cells_of(loaded), block)[cost.MIDDLE]
    reserve_s = slurm.reserve_s(hours * 3600)
    if needed_s * MARGIN + reserve_s > hours * 3600:
        raise UserError(
            f"HOURS is {hours:g}, and one block of `{loaded.study.study}` is forecast to take "
            f"{needed_s / 3600:.2f} h; the last {reserve_s / 3600:.2f} h of a job are kept for its "
            "end. Expected time for a block at least, since a block that two "
            "jobs share holds no pair. Raise HOURS, or make blocks shorter (`problems`, `models`)."
        )


def sbatch_options(asked: Asked, name: str, output: str, own: Mapping[str, str]) -> str:
    """Return the lines of options of a job script. `own` are those of this job alone."""
    notice_s = slurm.notice_s(asked.minutes * 60)
    options = {
        "job-name": name.replace("/", "-"),
        "output": output,
        "open-mode": "append",
        "nodes": "1",
        "exclusive": "",
        "mem": "0",
        "time": str(asked.minutes),
        "signal": f"B:TERM@{math.ceil(notice_s)}",
        **({"partition": asked.partition} if asked.partition else {}),
        **own,
    }
    lines = [f"--{key}={value}" if value else f"--{key}" for key, value in options.items()]
    return "\n".join(f"#SBATCH {line}" for line in lines)


def begun_on(results: Path) -> str | None:
    """Return the node that a campaign was begun on; None where it was not begun."""
    file = paths.node_file(results)
    return file.read_text(encoding="utf-8").strip() if file.exists() else None


def begun_below(results: Path) -> list[str]:
    """Return the nodes on which campaigns of a study were begun, each in a folder of its name."""
    nodes = (begun_on(file.parents[1]) for file in results.glob("*/slurm/node.txt"))
    return sorted(node for node in nodes if node)


def submit(root: Path, asked: Asked, name: str, what: str, own: Mapping[str, str]) -> str:
    """Write the script of a job and submit it; return its id. Raises UserError with Slurm's words.

    `name` is the study that the job measures, or prepares (`what`).
    """
    folder = paths.slurm_folder(root / paths.results_folder(name))
    folder.mkdir(parents=True, exist_ok=True)
    measures = what != "prepare"
    output = str(folder / (OF_TASK if "array" in own else OUTPUT if measures else "prepare.log"))
    given = [what, str(Path(asked.config).absolute()), "--again", asked.command]
    script = folder / ("job.sh" if measures else "prepare.sh")
    text = SCRIPT.format(
        purpose="It measures one campaign on one node, from where it stopped."
        if measures
        else "It makes what the campaigns share: environment, models, runtimes.",
        options=sbatch_options(
            asked,
            name if measures else f"{name}-prepare",
            output,
            {"chdir": str(root), **own},
        ),
        install=INSTALL if what != "measure-node" else "",
        arguments=shlex.join(given),
    )
    write_atomic(script, text)
    job = slurm.submitted(str(script))
    if isinstance(job, Unknown):
        raise UserError(
            f"Slurm did not take the job ({script.relative_to(root)}): {job.reason}. Expected a "
            "job that this cluster allows. `sinfo` lists partitions with their limits; "
            "SBATCH_ACCOUNT, SBATCH_QOS and SBATCH_CONSTRAINT are heeded."
        )
    command_line.say(f"job {job}: {script.relative_to(root)}, output beside it")
    return job


def submit_campaign(loaded: LoadedStudy, asked: Asked) -> None:
    """Submit the one campaign of a study, to its node where it was begun."""
    node = begun_on(loaded.results)
    own = {"dependency": "singleton"}
    if node:
        command_line.say(f"goes on on {node}, where it was begun")
        own["nodelist"] = node
    submit(loaded.root, asked, loaded.study.study, "measure", own)


def submit_campaigns(loaded: LoadedStudy, asked: Asked, nodes: int) -> None:
    """Submit a campaign for each of some nodes, behind a job that makes what they share.

    Those that were begun go on on their own nodes; the rest is an array, on any other nodes.
    """
    study, root = loaded.study.study, loaded.root
    begun = begun_below(loaded.results)
    first = submit(root, asked, study, "prepare", {})
    after = {"dependency": f"afterok:{first},singleton", "kill-on-invalid-dep": "yes"}
    if begun:
        command_line.say(f"campaigns go on on {listed(begun)}, where they were begun")
    for node in begun:
        submit(root, asked, f"{study}/{node}", "measure-node", {**after, "nodelist": node})
    if nodes > len(begun):
        own = {**after, "array": f"0-{nodes - len(begun) - 1}"}
        own |= {"exclude": ",".join(begun)} if begun else {}
        submit(root, asked, study, "measure-node", own)


def act(options: argparse.Namespace) -> int:
    """Check what was asked for, write the scripts and submit them."""
    loaded = load_study(options.config or None)
    asked = asked_for(options.config, options.partition, options.hours, options.nodes)
    check_names(loaded.study, loaded.catalogue, paths.runtime_names(PACKAGE))
    check_sense(loaded.study, loaded.catalogue, loaded.root)
    if shutil.which("sbatch") is None:
        raise UserError(
            "There is no `sbatch` here. Expected a machine of which Slurm takes jobs. Give the "
            f"command on a login node of the cluster; without one: make all CONFIG={asked.config}"
        )
    check_time(loaded, asked.hours)
    if asked.nodes is None:
        submit_campaign(loaded, asked)
    else:
        submit_campaigns(loaded, asked, asked.nodes)
    command_line.say(f"To go on later: {asked.command}")
    return command_line.DONE


def main(arguments: Sequence[str] | None = None) -> int:
    """Submit a study to Slurm; see `command_line` for the exit status."""
    command = command_line.Command(
        "slurm", __doc__, "make slurm CONFIG=FILE HOURS=N [PARTITION=NAME] [NODES=N]"
    )
    command.add_study()
    command.add_argument("--hours", default="", help="time limit of each job")
    command.add_argument("--partition", default="", help="of the cluster (default: Slurm's)")
    command.add_argument("--nodes", default="", help="how many nodes, each a campaign of its own")
    return command_line.run(command, arguments, act)


if __name__ == "__main__":
    sys.exit(main())
