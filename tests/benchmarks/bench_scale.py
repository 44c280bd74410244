"""How long everything right of the records takes, and how much memory, for large studies.

A synthetic campaign is written to disk and rebuilt as a reader would do it: by Snakemake, from an
archive, from tables to article. Prints `name: value` lines and a table. Arguments: the sizes in
runs (default 240 2500 5000 10000); the last one counts as the large study.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "workflow" / "scripts")]

import psutil  # noqa: E402
import synthetic  # noqa: E402
import yaml  # noqa: E402

from joules.core import paths  # noqa: E402
from joules.core.keys import merged  # noqa: E402
from joules.core.plan import Run, plan_of, to_csv  # noqa: E402
from joules.core.reading import DEFAULT, read_configuration, study_of  # noqa: E402
from joules.core.study import Study, archived_configuration  # noqa: E402

MODELS = tuple(f"model-{letter}" for letter in "abcde")
RUNTIMES = ("ollama", "llama_cpp", "third")
KINDS = ("task", "control")
RUNS_PER_BLOCK = len(MODELS) * (len(RUNTIMES) + 1)
PROBLEMS = 160  # times 10,000 runs: 1.6 million tasks


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
    """Return the campaign's configuration: the demonstration's with our models and sizes."""
    changes = {
        "study": "scale",
        "models": list(MODELS),
        "runtimes": list(RUNTIMES),
        "runtime_options": {runtime: {"version": "1.2.3"} for runtime in RUNTIMES},
        "kinds": list(KINDS),
        "blocks": blocks,
        "seed": 1,
        "problems": problems,
        "settings": {"threads": 1},
    }
    laid_over = merged(read_configuration(ROOT / DEFAULT), changes)
    assert isinstance(laid_over, Mapping)
    return study_of(laid_over)


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


def watched(command: list[str], folder: Path) -> tuple[float, float]:
    """Run a command; return its seconds and the largest memory of its processes together, in GB.

    Memory is the sum of resident sets, ten times a second: pages that processes share count twice.
    Raises CalledProcessError, with its output, when the command fails.
    """
    begin, peak = time.perf_counter(), 0
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        whole = psutil.Process(process.pid)
        while process.poll() is None:
            used = 0
            try:
                for one in (whole, *whole.children(recursive=True)):
                    used += one.memory_info().rss
            except psutil.NoSuchProcess:
                pass
            peak = max(peak, used)
            time.sleep(0.1)
        seconds = time.perf_counter() - begin
        if process.returncode:
            output.seek(0)
            print(output.read()[-4000:], file=sys.stderr)
            raise subprocess.CalledProcessError(process.returncode, command)
    return seconds, peak / 1e9


def rebuild(repository: Path, campaign: str) -> tuple[float, float]:
    """Return seconds and peak GB of a rebuild from tables to article."""
    chosen = f"measurements={{source: archive, campaign: {campaign}}}"
    snakemake = str(Path(sys.executable).with_name("snakemake"))
    command = [snakemake, "--cores", "2", "--quiet", "all", "--config", chosen]
    return watched([*command, "--", "article", "figures", "tables"], repository)


def dry_run(repository: Path, runs: int) -> tuple[int, float]:
    """Return the number of planned runs and the seconds of `snakemake -n` of such a study."""
    blocks = max(1, -(-runs // 6))  # two models, two runtimes and a control
    changes = {"study": "dry", "blocks": blocks, "kinds": list(KINDS)}
    study = {**read_configuration(ROOT / DEFAULT), **changes}
    (repository / "dry.yaml").write_text(yaml.safe_dump(study))
    snakemake = str(Path(sys.executable).with_name("snakemake"))
    command = [snakemake, "-n", "--cores", "1", "--quiet", "all", "--configfile", "dry.yaml"]
    seconds, _ = watched([*command, "--", "all"], repository)
    return blocks * 6, seconds


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; all files are in a temporary folder, which is removed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", type=int, default=[240, 2500, 5000, 10000])
    parser.add_argument("--problems", type=int, default=PROBLEMS)
    given = parser.parse_args(arguments)
    blocks = [max(1, size // RUNS_PER_BLOCK) for size in given.sizes]
    with tempfile.TemporaryDirectory() as scratch:
        repository = copy_of_repository(Path(scratch, "repository"))
        written = Path(scratch, "campaign")
        write_campaign(written, max(blocks), given.problems)
        print(f"{'runs':>8} {'tasks':>10} {'seconds':>9} {'s per 1,000 runs':>17} {'peak GB':>8}")
        found = {}
        for count in blocks:
            campaign = offer(repository, written, count, given.problems)
            seconds, peak_gb = rebuild(repository, campaign)
            runs = count * RUNS_PER_BLOCK
            found[runs] = (seconds, peak_gb)
            per_1000 = 1000 * seconds / runs
            print(
                f"{runs:>8} {runs * given.problems:>10} {seconds:>9.1f} {per_1000:>17.1f} "
                f"{peak_gb:>8.2f}",
                flush=True,
            )
        planned, dry_s = dry_run(repository, max(found))
    for runs, (seconds, _) in found.items():
        print(f"seconds_{runs}: {seconds:.1f}")
    print(f"peak_gb_{max(found)}: {found[max(found)][1]:.2f}")
    print(f"seconds_dry_run_{max(found)}: {dry_s:.1f}")
    print(f"runs_in_dry_run: {planned}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
