"""Kill -9 at random moments of a real small study, and count what is lost, torn or left over.

Prints `kills`, `lost_records`, `torn_records` and `orphans`, one `name: value` a line.

A cycle starts Snakemake, waits until a randomly chosen part of the study runs and a random time
longer, and kills that part: Snakemake, the measuring script, the runtime's server, runner or
worker, or the grading script. Snakemake is then unlocked and started anew. When the study is
finished before its kill, it gets one more block. After the last kill it must run to its end.
"""

import argparse
import collections
import contextlib
import dataclasses
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "workflow/scripts"), str(ROOT / "tests")]

from running_study import belonging, left_after  # noqa: E402
from small_study import Tree, built_copy  # noqa: E402

from joules.core import paths, stored  # noqa: E402
from joules.core.errors import UserError  # noqa: E402
from joules.core.files import sha256_of  # noqa: E402

TARGETS = ("workflow", "measuring", "runtime", "grading")
LONGEST_WAIT_S = 4.0  # after the part has begun; a run of this study takes about as long
GRADING_S = 0.8  # grading a run is over in about twice that
PATIENCE_S = 30.0  # until everything else has ended by itself
STUDY = {
    "blocks": 1,
    "problems": 3,
    "kinds": ["task"],
    "windows": {"preflight_s": 0.1, "idle_s": 0.2, "rest_s": 0},
    "settle": {"limit": 0.02, "seconds": 0.1},
}
READERS = {  # by the folder of what a study makes
    "records": stored.read_record,
    "journal": stored.read_record,
    "grades": stored.read_grade,
    "warm_up": stored.read_warm_up,
    "agreement": stored.read_agreement,
}


@dataclasses.dataclass
class Counts:
    """What the kills did. `killed` counts the parts by name; the lists hold what went wrong."""

    killed: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    lost: set[str] = dataclasses.field(default_factory=set)
    torn: set[str] = dataclasses.field(default_factory=set)
    orphans: list[str] = dataclasses.field(default_factory=list)

    def lines(self) -> list[str]:
        """Return what a benchmark prints."""
        parts = [f"kills_{name}: {self.killed[name]}" for name in TARGETS]
        return [
            f"kills: {self.killed.total()}",
            *parts,
            f"lost_records: {len(self.lost)}",
            f"torn_records: {len(self.torn)}",
            f"orphans: {len(self.orphans)}",
        ]


def part_of(command: str) -> str:
    """Return which part of the study a command line is: a name of TARGETS, or ""."""
    if (
        "joules.runtimes.shared.worker" in command
        or "ollama serve" in command
        or "/llama-server " in command
    ):
        return "runtime"
    if "measure.py" in command:
        return "measuring"
    return "grading" if "grade.py" in command else ""


def torn(path: Path, folder: str) -> bool:
    """Return whether a file is not whole, or not what the files of its folder must be."""
    try:
        READERS[folder](path)
    except UserError:
        return True
    return False


class Study:
    """The small study in a copy of the repository, and every finished record ever seen of it."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.results = tree.folder / paths.results_folder("small")
        self.blocks = int(STUDY["blocks"])
        self.finished: set[str] = set()
        self.tree.configure(**STUDY)

    def add_block(self) -> None:
        """Ask for one block more; the finished ones stay."""
        self.blocks += 1
        self.tree.configure(**{**STUDY, "blocks": self.blocks})

    def look(self, counts: Counts) -> None:
        """Note the finished records, and those that are lost or torn."""
        for folder in READERS:
            for path in (self.results / folder).rglob("*.json"):
                if torn(path, folder):
                    counts.torn.add(str(path.relative_to(self.results)))
        kept = {
            sha256_of(path)
            for folder in ("records", "journal")
            for path in (self.results / folder).rglob("*.json")
        }
        counts.lost |= self.finished - kept
        self.finished |= kept

    def kill_once(self, target: str, wait_s: float, choose: random.Random, counts: Counts) -> bool:
        """Run until `target` has run for `wait_s` and kill it; False when the study ended first.

        Of several processes of a part, `choose` chooses one.
        """
        workflow = self.tree.started("records", output=subprocess.DEVNULL)
        began: float | None = None
        killed = False
        while not killed and workflow.poll() is None:
            running = {target: workflow} if target == "workflow" else self.running(target)
            if running and began is None:
                began = time.monotonic()
            if running and began is not None and time.monotonic() - began >= wait_s:
                # A part may end in this moment.
                with contextlib.suppress(psutil.Error, ProcessLookupError):
                    choose.choice(list(running.values())).send_signal(signal.SIGKILL)
                    # A workflow that had ended was sent nothing: its status is that of its own end.
                    killed = workflow.poll() is None or workflow.returncode != 0
            time.sleep(0.05)
        ended = workflow.wait()
        assert killed or ended == 0, "the study failed without a kill; see its logs"
        counts.killed[target] += killed
        self.expect_silence(counts)
        self.look(counts)
        return killed

    def running(self, target: str) -> dict[str, psutil.Process]:
        """Return the running processes of one part."""
        found = belonging(self.tree.folder)
        return {str(each.pid): each for each, command in found if part_of(command) == target}

    def expect_silence(self, counts: Counts) -> None:
        """Wait until no process of the study is left; what does not end is counted and ended."""
        for process, command in left_after(PATIENCE_S, self.tree.folder):
            counts.orphans.append(command)
            with contextlib.suppress(psutil.Error):
                process.kill()

    def finish(self, target: str, counts: Counts) -> None:
        """Run to the end. Raises AssertionError when the study does not complete."""
        self.tree.snakemake("--unlock")
        self.tree.snakemake(target)
        self.expect_silence(counts)
        self.look(counts)
        records = list((self.results / "records").rglob("[0-9]*.json"))
        whole = [path for path in records if "invalid" not in path.name]
        assert len(whole) == 4 * self.blocks, sorted(whole)
        assert self.tree.planned(target) == {}


def kill_often(kills: int, seed: int, tree: Tree, target: str = "all") -> Counts:
    """Kill a study in `tree` so many times, let it run up to `target`, and return the counts."""
    choose = random.Random(seed)
    study, counts = Study(tree), Counts()
    order = [TARGETS[index % len(TARGETS)] for index in range(kills)]
    choose.shuffle(order)
    while order:
        longest_s = GRADING_S if order[-1] == "grading" else LONGEST_WAIT_S
        if study.kill_once(order[-1], choose.uniform(0, longest_s), choose, counts):
            print(f"killed: {order.pop()}, {len(order)} to go", file=sys.stderr)
            study.tree.snakemake("--unlock")
        else:
            study.add_block()
    study.finish(target, counts)
    return counts


def main() -> None:
    """Run the benchmark and print its counts; exit status 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", default="all")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tree = built_copy(Path(folder) / "tree")
        counts = kill_often(options.kills, options.seed, tree, options.target)
    print("\n".join(counts.lines()))
    for line in (*sorted(counts.lost), *sorted(counts.torn), *counts.orphans):
        print(line, file=sys.stderr)
    sys.exit(1 if counts.lost or counts.torn or counts.orphans else 0)


if __name__ == "__main__":
    main()
