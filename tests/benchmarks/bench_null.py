"""How often the analysis says which word, and how often its gate refuses an honest study.

Studies are simulated as logarithms of J per token: two runs of a block in random order, noise of
their own, a drift over the session. They go through the tests, the words and the permission that
make the article. Prints `name: value` lines; exit status 1 when one is out of its limit.

A handful of whole studies, from records in the order of the plan, hold the two ways together.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "workflow" / "scripts")]

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import synthetic  # noqa: E402

from joules.analyse.comparison import compare  # noqa: E402
from joules.analyse.estimates import wilson  # noqa: E402
from joules.analyse.paired_tests import paired_tests  # noqa: E402
from joules.analyse.permission import permission, refusal_of_all  # noqa: E402
from joules.analyse.power import power as predicted_power  # noqa: E402
from joules.analyse.rows import run_row  # noqa: E402
from joules.analyse.verdicts import DIFFERENT, MORE, VERDICTS, holm, verdicts  # noqa: E402
from joules.core.plan import plan_of  # noqa: E402

RATIOS, SPREADS, BLOCKS = (1.0, 1.03, 1.05, 1.10), (0.01, 0.02, 0.04), (8, 10, 15)
STUDIES = 10_000  # of each cell
DRIFT = 0.03  # over the session, in logarithms
POWER_CELL = (1.05, 0.04, 10)  # of which `power` is
GATE_SPREADS, GATE_BLOCKS, GATE_MODELS, GATE_STUDIES = (0.01, 0.02, 0.03, 0.04, 0.05), 10, 4, 3_000
WHOLE_STUDIES = 20
MOST_FALSE, LEAST_POWER, MOST_STRONG, MOST_REFUSED = 0.055, 0.9, 0.035, 0.06
RUNTIMES = ("ollama", "llama_cpp")


def log_ratios(
    rng: np.random.Generator, studies: int, blocks: int, *, ratio: float, spread: float
) -> np.ndarray:
    """Return log ratios, studies by blocks, with an SD of `spread` and the drift of the session.

    The first of two runs is in the first place of its block or in the second, as drawn.
    """
    steps = np.linspace(0, DRIFT, 2 * blocks)
    second = rng.integers(0, 2, (studies, blocks))
    places = 2 * np.arange(blocks)
    drift = steps[places + second] - steps[places + 1 - second]
    noise = rng.normal(0, spread / np.sqrt(2), (2, studies, blocks))
    return np.log(ratio) + drift + noise[0] - noise[1]


def words_of(d: np.ndarray) -> np.ndarray:
    """Return the word of each study, its one comparison being a family of its own."""
    tests = paired_tests(d)
    return verdicts(tests.p_difference, tests.p_size, tests.p_equivalence)


def shares(studies: int, seed: int = 1) -> pd.DataFrame:
    """Return per true ratio, SD of the log ratio and number of blocks the share of each word."""
    rows = []
    for number, ratio in enumerate(RATIOS):
        for spread in SPREADS:
            for blocks in BLOCKS:
                rng = np.random.default_rng([seed, number, round(spread * 1000), blocks])
                words = words_of(log_ratios(rng, studies, blocks, ratio=ratio, spread=spread))
                found = {word: float(np.mean(words == word)) for word in VERDICTS}
                rows.append({"ratio": ratio, "sd": spread, "blocks": blocks} | found)
    return pd.DataFrame(rows).assign(different=lambda table: table[list(DIFFERENT)].sum(axis=1))


def stronger_words(table: pd.DataFrame) -> int:
    """Return in how many cells of a true ratio of at most 1.05 MORE is said too often at any SD."""
    small = table[table["ratio"] <= 1.05]
    return int((small.groupby(["ratio", "blocks"])[MORE].max() > MOST_STRONG).sum())


def refused(studies: int, spread: float, seed: int = 2) -> int:
    """Return how many honest studies of four models the control's gate refuses."""
    rng = np.random.default_rng([seed, round(spread * 1000)])
    d = log_ratios(rng, studies * GATE_MODELS, GATE_BLOCKS, ratio=1.0, spread=spread)
    tests = paired_tests(d)
    (low, high), names = tests.interval(), [f"m{number}" for number in range(GATE_MODELS)]
    columns = np.exp([tests.mean, low, high]).reshape(3, studies, GATE_MODELS)
    p_values = tests.p_difference.reshape(studies, GATE_MODELS)
    count = 0
    for study in range(studies):
        of_study = dict(zip(("ratio", "ratio_low", "ratio_high"), columns[:, study], strict=True))
        columns_of_study = {
            "model": names * 2,
            "kind": ["control"] * GATE_MODELS + ["task"] * GATE_MODELS,
            "p_holm": [*holm(p_values[study]), *[1.0] * GATE_MODELS],
            **{name: [*values, *values] for name, values in of_study.items()},
        }
        count += bool(refusal_of_all(pd.DataFrame(columns_of_study), "measured"))
    return count


def simulated_runs(seed: int, *, ratio: float, noise_cv: float, drift: float) -> pd.DataFrame:
    """Return the runs of one study: one model, two runtimes, a control; `ratio` of the second."""
    study = synthetic.make_config(
        ["m"], RUNTIMES, ["task", "control"], problems=2, blocks=10, seed=seed
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
            ratio=ratios.get(run.arm, 1.0),
            noise_cv=noise_cv,
            drift=drift,
            task_noise_cv=0.0,
        )
        rows.append(run_row(record, None, grams_per_kwh=268))
    return pd.DataFrame(rows)


def outcome(seed: int, *, ratio: float, noise_cv: float, drift: float) -> tuple[str, str, bool]:
    """Return of one whole study its word, the word of its log ratios, and whether it may claim."""
    runs = simulated_runs(seed, ratio=ratio, noise_cv=noise_cv, drift=drift)
    comparisons = compare(runs, list(RUNTIMES))
    verdict = comparisons.loc[comparisons["kind"] == "task", "verdict"].item()
    task = runs[runs["kind"] == "task"]
    wide = task.pivot(index="block", columns="runtime", values="energy_j_per_token")
    d = np.log(wide[RUNTIMES[0]]) - np.log(wide[RUNTIMES[1]])
    allowed = permission(comparisons, "measured").energy_difference
    return str(verdict), str(words_of(d.to_numpy())), bool(allowed)


def disagreements(studies: int) -> int:
    """Return in how many whole studies that may claim the word is not that of their log ratios."""
    found = [
        outcome(seed, ratio=ratio, noise_cv=0.01, drift=DRIFT)
        for seed, ratio in zip(range(1, studies + 1), RATIOS * studies, strict=False)
    ]
    return sum(verdict != word for verdict, word, allowed in found if allowed)


def main() -> int:
    """Print the rates; return 1 when one is out of its limit."""
    table = shares(STUDIES)
    with pd.option_context("display.width", 200, "display.max_columns", 20):
        print(table.to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    null = table[table["ratio"] == 1.0]
    studies = STUDIES * len(null)
    wrong = round(float(null["different"].sum()) * STUDIES)
    low, high = wilson(wrong, studies)
    ratio, spread, blocks = POWER_CELL
    cell = (table["ratio"] == ratio) & (table["sd"] == spread) & (table["blocks"] == blocks)
    power = float(table.loc[cell, "different"].item())
    predicted = predicted_power(np.log(ratio) / spread, blocks)
    by_power = [
        abs(predicted_power(np.log(row.ratio) / row.sd, row.blocks) - row.different)
        for row in table.itertuples()
    ]
    refusals = {spread: refused(GATE_STUDIES, spread) for spread in GATE_SPREADS}
    refusal = sum(refusals.values()) / (GATE_STUDIES * len(GATE_SPREADS))
    strong, differing = stronger_words(table), disagreements(WHOLE_STUDIES)
    print(f"studies_per_cell: {STUDIES}")
    print(f"false_positive_rate: {wrong / studies:.4f}")
    print(f"false_positive_rate_low: {low:.4f}")
    print(f"false_positive_rate_high: {high:.4f}")
    print(f"power: {power:.4f}")
    print(f"power_predicted: {predicted:.4f}")
    print(f"power_largest_error: {max(by_power):.4f}")
    print(f"stronger_word_when_noisier: {strong}")
    print(f"control_false_refusal: {refusal:.4f}")
    for spread, count in refusals.items():
        print(f"control_false_refusal_sd_{spread * 100:.0f}: {count / GATE_STUDIES:.4f}")
    print(f"whole_studies_that_disagree: {differing} of {WHOLE_STUDIES}")
    return int(
        wrong / studies > MOST_FALSE
        or power < LEAST_POWER
        or strong > 0
        or refusal > MOST_REFUSED
        or differing > 0
    )


if __name__ == "__main__":
    sys.exit(main())
