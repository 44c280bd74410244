"""How long everything right of the records takes, and how much memory, for large studies.

A synthetic campaign of five models in eight arms is written to disk and rebuilt as a reader would
do it: by Snakemake, from an archive, from tables to article, with every pair of arms compared. Then
a study of two models in these arms is planned (`snakemake -n`). Prints a table and `name: value`
lines: seconds by the clock and of CPU time, and the most memory in bytes. Arguments: the sizes in
runs (default 240 2500 5000 10000), rounded up to whole blocks; the largest is the one planned.
Exit status 1 where 10,000 runs or fewer miss a goal, which is for two cores of a quiet machine.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "workflow" / "scripts")]

import psutil  # noqa: E402
import synthetic  # noqa: E402
import yaml  # noqa: E402

from joules.core import paths  # noqa: E402
from joules.core.plan import Run, plan_of, to_csv  # noqa: E402
from joules.core.reading import read_configuration, study_of  # noqa: E402
from joules.core.study import Study, archived_configuration  # noqa: E402

MODELS = tuple(f"model-{letter}" for letter in "abcde")
EIGHT_ARMS = "config/settings.yaml"  # a study of eight arms, whose models and size are not used
KINDS = ("task", "control")
RUNS_PER_BLOCK = len(MODELS) * (8 + 1)  # an arm of each model has its control
PROBLEMS = 160  # times 10,000 runs: 1.6 million tasks
GOAL_RUNS = 10_000  # what these goals are for, and a block more
GOAL_S, GOAL_BYTES, GOAL_DRY_RUN_S = 150.0, 3e9, 60.0


class Cost(NamedTuple):
    """What a command took: seconds by the clock and of CPU time, and the most memory in bytes."""

    seconds: float
    cpu_s: float
    peak_bytes: int


def of_eight_arms(**changes: object) -> dict[str, object]:
    """Return the plain configuration of a study of eight arms, which compares all pairs."""
    chosen = {**read_configuration(ROOT / EIGHT_ARMS), **changes}
    del chosen["contrasts"]
    return chosen


def copy_of_repository(target: Path) -> Path:
    """Copy what git knows or would add, so that nothing is written into the working tree."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if name.startswith("data/measurements/") or not (ROOT / name).is_file():
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)
    return target


def configuration(blocks: int, problems: int) -> Study:
    """Return the campaign's configuration: eight arms with our models and sizes."""
    return study_of(
        of_eight_arms(
            study="scale",
            models=list(MODELS),
            kinds=list(KINDS),
            blocks=blocks,
            seed=1,
            problems=problems,
        )
    )


def _write_run(numbered: tuple[int, Run], *, folder: Path, study: Study, runs: int) -> None:
    position, run = numbered
    synthetic.write_run(folder, run, synthetic.make_record(run, position, runs, study))


def write_campaign(folder: Path, blocks: int, problems: int) -> None:
    """Write records, grades and agreements of a whole campaign; its config is written later."""
    study = configuration(blocks, problems)
    runs = plan_of(study)
    one = partial(_write_run, folder=folder, study=study, runs=len(runs))
    with ProcessPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        list(pool.map(one, enumerate(runs, start=1), chunksize=50))
    for model in MODELS:
        synthetic.write_agreement(folder, study, model)


def offer(repository: Path, written: Path, blocks: int, problems: int) -> str:
    """Make the first `blocks` blocks of a written campaign a campaign of the repository's copy."""
    name = f"scale-{blocks}"
    folder = repository / paths.archived_folder(name)
    folder.mkdir(parents=True)
    study = configuration(blocks, problems)
    (folder / paths.CONFIGURATION).write_text(yaml.safe_dump(archived_configuration(study)))
    paths.schedule_file(folder).write_text(to_csv(plan_of(study)))
    for part in ("records", "grades", "agreement"):
        (folder / part).symlink_to(written / part)
    return name


def watched(command: list[str], folder: Path) -> Cost:
    """Run a command and return what it and its processes took.

    Memory is the sum of resident sets, ten times a second: pages that processes share count twice.
    Raises CalledProcessError, with its output, when the command fails.
    """
    begin, peak = time.perf_counter(), 0
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        whole = psutil.Process(process.pid)
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            used = 0
            try:
                for one in (whole, *whole.children(recursive=True)):
                    used += one.memory_info().rss
            except psutil.NoSuchProcess:
                pass
            peak = max(peak, used)
            time.sleep(0.1)
        seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(ended[1])
        if process.returncode:
            output.seek(0)
            print(output.read()[-4000:], file=sys.stderr)
            raise subprocess.CalledProcessError(process.returncode, command)
    return Cost(seconds, ended[2].ru_utime + ended[2].ru_stime, peak)


def rebuild(repository: Path, campaign: str) -> Cost:
    """Return what a rebuild from tables to article takes."""
    chosen = f"measurements={{source: archive, campaign: {campaign}}}"
    snakemake = str(Path(sys.executable).with_name("snakemake"))
    command = [snakemake, "--cores", "2", "--quiet", "all", "--config", chosen]
    return watched([*command, "--", "article", "figures", "tables"], repository)


def dry_run(repository: Path, runs: int) -> tuple[int, Cost]:
    """Return the number of planned runs and what `snakemake -n` of such a study takes."""
    models = ["parrot-1m", "parrot-3m"]
    per_block = len(models) * RUNS_PER_BLOCK // len(MODELS)
    blocks = max(1, -(-runs // per_block))
    study = of_eight_arms(study="dry", models=models, blocks=blocks, kinds=list(KINDS))
    (repository / "dry.yaml").write_text(yaml.safe_dump(study))
    snakemake = str(Path(sys.executable).with_name("snakemake"))
    command = [snakemake, "-n", "--cores", "1", "--quiet", "all", "--configfile", "dry.yaml"]
    return blocks * per_block, watched([*command, "--", "all"], repository)


def over(runs: int, cost: Cost, goal_s: float) -> list[str]:
    """Return in words which goals a study misses; one that is larger than they are for has none."""
    if runs > GOAL_RUNS + RUNS_PER_BLOCK:
        return []
    found = [f"{runs} runs: {cost.seconds:.1f} s, goal {goal_s:g}"] * (cost.seconds > goal_s)
    if cost.peak_bytes > GOAL_BYTES:
        found.append(f"{runs} runs: {cost.peak_bytes} bytes, goal {GOAL_BYTES:g}")
    return found


def lines_of(name: str, cost: Cost) -> list[str]:
    """Return a cost as `name: value` lines."""
    return [
        f"seconds_{name}: {cost.seconds:.1f}",
        f"cpu_seconds_{name}: {cost.cpu_s:.1f}",
        f"peak_bytes_{name}: {cost.peak_bytes}",
    ]


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; all files are in a temporary folder, which is removed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", type=int, default=[240, 2500, 5000, 10000])
    parser.add_argument("--problems", type=int, default=PROBLEMS)
    given = parser.parse_args(arguments)
    blocks = [max(1, -(-size // RUNS_PER_BLOCK)) for size in given.sizes]
    lines, missed = [], []
    with tempfile.TemporaryDirectory() as scratch:
        repository = copy_of_repository(Path(scratch, "repository"))
        written = Path(scratch, "campaign")
        write_campaign(written, max(blocks), given.problems)
        print(f"{'runs':>8} {'tasks':>10} {'seconds':>9} {'CPU s':>9} {'peak bytes':>14}")
        for count in blocks:
            campaign = offer(repository, written, count, given.problems)
            cost, runs = rebuild(repository, campaign), count * RUNS_PER_BLOCK
            print(
                f"{runs:>8} {runs * given.problems:>10} {cost.seconds:>9.1f} {cost.cpu_s:>9.1f} "
                f"{cost.peak_bytes:>14}",
                flush=True,
            )
            lines += lines_of(str(runs), cost)
            missed += over(runs, cost, GOAL_S)
        planned, cost = dry_run(repository, max(blocks) * RUNS_PER_BLOCK)
    print("\n".join([*lines, *lines_of(f"dry_run_{planned}", cost)]))
    missed += over(planned, cost, GOAL_DRY_RUN_S)
    print("".join(f"missed: {line}\n" for line in missed), end="")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
