"""How often the analysis finds a difference that is not there, and one that is.

Whole studies are simulated: records by `synthetic.make_record` in the order of the plan,
rows and statistics by the code that makes the article. Prints `name: value` lines; exit status 1
when false positives exceed 7 % or power is below 0.9.
"""

import os
import sys
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "workflow" / "scripts")]

import pandas as pd  # noqa: E402
import synthetic  # noqa: E402

from joules.analyse.comparison import compare  # noqa: E402
from joules.analyse.rows import run_row  # noqa: E402
from joules.core.plan import plan_of  # noqa: E402
from joules.write.permission import permission  # noqa: E402

BLOCKS = 10
DRIFT = 0.03  # over the session, in logarithms
NULL_STUDIES, EFFECT_STUDIES = 600, 200
MOST_FALSE, LEAST_POWER = 0.07, 0.9
RUNTIMES = ("ollama", "llama_cpp")


def simulated_runs(seed: int, *, ratio: float, noise_cv: float, drift: float) -> pd.DataFrame:
    """Return the runs of one study: one model, two runtimes, a control; `ratio` of the second."""
    study = synthetic.make_config(
        ["m"], RUNTIMES, ["task", "control"], problems=2, blocks=BLOCKS, seed=seed
    )
    runs = plan_of(study)
    ratios: Mapping[str, float] = {RUNTIMES[1]: ratio}
    rows = []
    for position, run in enumerate(runs, start=1):
        record = synthetic.make_record(
            run,
            position,
            len(runs),
            study,
            seed=seed,
            ratio=ratios.get(run.runtime, 1.0),
            noise_cv=noise_cv,
            drift=drift,
            task_noise_cv=0.0,
        )
        rows.append(run_row(record, None, grams_per_kwh=268))
    return pd.DataFrame(rows)


def outcome(seed: int, *, ratio: float, noise_cv: float, drift: float) -> tuple[str, bool]:
    """Return the verdict on the pair of one simulated study, and whether a claim is permitted."""
    comparisons = compare(
        simulated_runs(seed, ratio=ratio, noise_cv=noise_cv, drift=drift), list(RUNTIMES)
    )
    verdict = comparisons.loc[comparisons["kind"] == "task", "verdict"].item()
    return str(verdict), bool(permission(comparisons, "measured").energy_difference)


def outcomes(
    studies: int, *, ratio: float, noise_cv: float, drift: float = DRIFT, first_seed: int = 1
) -> list[tuple[str, bool]]:
    """Return the outcomes of so many studies, each of a seed of its own."""
    one = partial(outcome, ratio=ratio, noise_cv=noise_cv, drift=drift)
    seeds = range(first_seed, first_seed + studies)
    with ProcessPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return list(pool.map(one, seeds, chunksize=max(1, studies // 16)))


def share_different(found: list[tuple[str, bool]]) -> float:
    """Return the share of studies whose verdict is a difference, within the margin or not."""
    return sum(verdict.startswith("different") for verdict, _ in found) / len(found)


def main() -> int:
    """Print the rates; return 1 when one is out of its limit."""
    null = outcomes(NULL_STUDIES, ratio=1.0, noise_cv=0.01)
    effect = outcomes(EFFECT_STUDIES, ratio=1.05, noise_cv=0.02, first_seed=100_000)
    false_positives, power = share_different(null), share_different(effect)
    print(f"false_positive_rate: {false_positives:.3f}")
    print(f"power: {power:.3f}")
    print(f"studies_null: {len(null)}")
    print(f"studies_effect: {len(effect)}")
    print(f"control_refused_null: {sum(not may for _, may in null) / len(null):.3f}")
    print(f"control_refused_effect: {sum(not may for _, may in effect) / len(effect):.3f}")
    for name, found in (("null", null), ("effect", effect)):
        for verdict, count in sorted(Counter(verdict for verdict, _ in found).items()):
            print(f"{name}_{verdict.replace(' ', '_')}: {count}")
    return int(false_positives > MOST_FALSE or power < LEAST_POWER)


if __name__ == "__main__":
    sys.exit(main())
