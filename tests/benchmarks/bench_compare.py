"""How long many campaigns take side by side, and how often their intervals hold the truth.

Synthetic campaigns, each on a machine of its own, are archived and compared by the command. Then
the intervals are simulated with the pooling that makes the page. Prints `name: value` lines; exit
status 1 when one is out of its limit. Argument: how many campaigns (default 200).
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "workflow" / "scripts")]

import numpy as np  # noqa: E402
import psutil  # noqa: E402
from campaigns import write_campaign  # noqa: E402

from joules.analyse.pooling import pooled  # noqa: E402

TRUTH, SPREAD = -0.1, 0.02  # the mean log ratio, and the SD of a block's log ratio
MACHINES, TAUS = (3, 5, 10, 20), (0.0, 0.005, 0.02, 0.1)
HELD = ((10, 0.02), (10, 0.1))  # of which the prediction interval must hold its promise
LEAST, MOST, MOST_CPU_S = 0.90, 0.98, 60.0
STUDIES = 5000  # of each cell


def coverage(machines: int, tau: float, studies: int, seed: int = 1) -> tuple[float, float]:
    """Return how often a further machine is in the prediction interval, and the mean in its own.

    Each campaign has 8 to 15 blocks, and estimates the spread of its log ratios from them.
    """
    rng = np.random.default_rng([seed, machines, round(1000 * tau)])
    predicted = covered = 0
    for _ in range(studies):
        effects = TRUTH + rng.normal(0, tau, machines)
        blocks = rng.integers(8, 16, machines)
        d = [rng.normal(mean, SPREAD, n) for mean, n in zip(effects, blocks, strict=True)]
        found = pooled([each.mean() for each in d], [each.var(ddof=1) / len(each) for each in d])
        further = np.exp(TRUTH + rng.normal(0, tau))
        predicted += found.prediction_low <= further <= found.prediction_high
        covered += found.low <= np.exp(TRUTH) <= found.high
    return predicted / studies, covered / studies


def written(folder: Path, number: int) -> Path:
    """Write one campaign: two models, eight blocks, all problems."""
    effect = TRUTH + float(np.random.default_rng(number).normal(0, SPREAD))
    models = ("parrot-1m", "parrot-3m")
    options = {"models": models, "problems": "all", "seed": number + 1, "log_ratio": effect}
    return write_campaign(folder, f"campaign-{number:03}", **options)


def time_of(campaigns: int) -> dict[str, float]:
    """Return how long the command takes for so many campaigns, in seconds, and its memory."""
    with tempfile.TemporaryDirectory() as scratch:
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            places = list(pool.map(partial(written, Path(scratch)), range(campaigns)))
        arguments = [",".join(map(str, places)), f"{scratch}/out"]
        command = [sys.executable, "-P", "-m", "joules.commands.compare", *arguments]
        begin = time.monotonic()
        process = psutil.Popen(
            command,
            env={**os.environ, "PYTHONPATH": str(ROOT / "workflow/scripts")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, used = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"the comparison failed with status {status}")
        page = Path(scratch, "out/index.html").stat().st_size
        return {
            "wall_s": time.monotonic() - begin,
            "cpu_s": used.ru_utime + used.ru_stime,
            "memory_mb": used.ru_maxrss / 1024,
            "page_mb": page / 1e6,
        }


def main() -> int:
    """Run all of it and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("campaigns", type=int, nargs="?", default=200)
    campaigns = parser.parse_args().campaigns
    good = True
    for machines in MACHINES:
        for tau in TAUS:
            predicted, covered = coverage(machines, tau, STUDIES)
            print(f"coverage_{machines}_{tau:g}: prediction {predicted:.3f}, mean {covered:.3f}")
            good &= (machines, tau) not in HELD or LEAST <= predicted <= MOST
    took = time_of(campaigns)
    print(f"campaigns: {campaigns}")
    for name, value in took.items():
        print(f"{name}: {value:.1f}")
    return 0 if good and took["cpu_s"] < MOST_CPU_S * campaigns / 200 + 10 else 1


if __name__ == "__main__":
    sys.exit(main())
