"""Every number that the article states, under a name, and what may be said about energy.

This is the only place that decides which claims the data permit. The article takes numbers from
here and nowhere else; each entry names the table and row that it comes from.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from joules.claim_numbers import (
    can_differ,
    cell_claims,
    count_claims,
    further_claims,
    pair_claims,
    published_claims,
    study_claims,
)
from joules.statistics import ALPHA, LEAST_BLOCKS, smallest_p

# Where the null control's ratio should lie. CodeCarbon's ratios err by 3 % (1 SD) against a wall
# meter; a control runs on one meter and one runtime, so it has to do better than that.
CONTROL_LOW, CONTROL_HIGH = 0.98, 1.02
FAR_FROM_PUBLISHED = 0.08  # of pass@1
ODD_SHARE = 0.05  # of answers

TABLES = (
    *("cells", "comparisons", "quality", "phases", "break_even", "sensitivity", "ranking"),
    *("verdicts", "rules", "contested", "drift"),
)


def permission(comparisons: pd.DataFrame, tier: str) -> dict[str, Any]:
    """Return whether a difference in energy may be claimed, and the reason in one sentence.

    It may not when energy is modelled or its tier is not stated; without a null control of every
    model, or when the ratio of one leaves 0.98 to 1.02; or when the blocks are too few for any p
    below 0.05. The control is judged by its ratio, not by its interval: a ratio outside says
    either that the machine is not steady or that the study is too noisy for small differences,
    and a wide interval must not excuse it. One control speaks for the whole study, because all
    its models share the machine and the instrument.
    """
    task = comparisons[comparisons["kind"] == "task"]
    control = comparisons[comparisons["kind"] == "control"]
    blocks = int(task["n_blocks"].max()) if len(task) else 0
    family = int(task["p_value"].notna().sum())
    seen = control[control["ratio_low"].notna()]
    uncontrolled = sorted(set(task["model"]) - set(seen["model"]))
    biased = seen[(seen["ratio"] > CONTROL_HIGH) | (seen["ratio"] < CONTROL_LOW)]
    least = smallest_p(blocks)
    if tier == "estimated":
        reason = "Energy is modelled from the processor's load, not measured."
    elif tier == "unstated":
        reason = "The energy tier is unstated, so nobody can tell whether energy was measured."
    elif not len(task):
        reason = "There is no pair of runtimes to compare."
    elif not blocks and (task["split_blocks"].fillna("") != "").any():
        reason = (
            "No block has both of its runs from one session; measure the blocks again with "
            "snakemake --forcerun measure."
        )
    elif least >= ALPHA:
        reason = (
            f"{blocks} blocks can show no difference: the smallest possible p is {least:.3g}; "
            f"at least {LEAST_BLOCKS} blocks are needed."
        )
    elif not can_differ(blocks, family):
        reason = (
            f"{blocks} blocks can show no difference after Holm's correction over {family} pairs: "
            f"the smallest possible p is {least * family:.3g}."
        )
    elif uncontrolled:
        reason = (
            f"There is no null control with two blocks or more for {', '.join(uncontrolled)}, so "
            "a bias could not be seen."
        )
    elif len(biased):
        off = np.log(biased["ratio"].astype(float)).abs()
        worst = biased.loc[off.idxmax()]
        reason = (
            f"The null control of {worst['model']}, one runtime against itself, leaves "
            f"{CONTROL_LOW} to {CONTROL_HIGH}: ratio {worst['ratio']:.3f} (95 % interval "
            f"{worst['ratio_low']:.3f} to {worst['ratio_high']:.3f})."
        )
    else:
        words = {"measured": "read from counters", "sampled": "integrated from power readings"}
        reason = (
            f"Energy is {words[tier]}, the null control shows no bias, and {blocks} blocks "
            f"can show a difference (smallest possible p: {least:.3g})."
        )
        return {"energy_difference": True, "reason": reason, "smallest_p": least}
    return {"energy_difference": False, "reason": reason, "smallest_p": least}


def warnings_of(
    cells: pd.DataFrame, verdicts: pd.DataFrame, published: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return what looks wrong with the answers: one entry per gate, model and runtime.

    A score is far from the published one when they differ by more than 8 points and the published
    one lies outside the 95 % interval of ours (which 4-bit weights alone do not explain: they move
    it by some 2.5 points). More than 5 % of answers cut at the limit, ended by the runtime, or
    without a program are worth a look: the prompt or the extraction may be wrong.
    """
    found = []

    def warn(gate: str, row: Any, seen: float, limit: float, text: str) -> None:
        names = {"gate": gate, "model": row.model, "runtime": row.runtime}
        found.append(names | {"seen": float(seen), "limit": limit, "text": text})

    for row in cells[cells["kind"] == "task"].itertuples():
        where = f"{row.model} on {row.runtime}"
        entry = published.get(str(row.model))
        if entry and pd.notna(row.pass_at_1):
            score = float(entry["pass_at_1"])
            outside = not row.pass_low <= score <= row.pass_high
            if outside and abs(row.pass_at_1 - score) > FAR_FROM_PUBLISHED:
                text = (
                    f"{where} has pass@1 {100 * row.pass_at_1:.1f} %, far from the published "
                    f"{100 * score:.1f} % ({entry['source']})."
                )
                warn("published_score", row, row.pass_at_1, score, text)
        for gate, share, words in (
            ("truncated", row.truncated_share, "were cut at the token limit"),
            ("aborted", row.aborted_share, "were ended by the runtime"),
        ):
            if pd.notna(share) and share > ODD_SHARE:
                text = f"{where}: {100 * share:.1f} % of answers {words}; more than 5 % is odd."
                warn(gate, row, share, ODD_SHARE, text)
    for row in verdicts[verdicts["label"] == "no_code"].itertuples():
        if row.share > ODD_SHARE:
            text = f"{row.model} on {row.runtime}: {100 * row.share:.1f} % of answers hold no "
            text += "program; more than 5 % is odd."
            warn("no_code", row, row.share, ODD_SHARE, text)
    return found


def published_scores(
    catalogue: Mapping[str, Mapping[str, Any]], models: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return {model: {pass_at_1 (a share), source}} of the models that have a published score.

    `catalogue` is `models` of config/models.yaml, whose scores are in percent.
    """
    found = {}
    for model in models:
        entry = catalogue.get(model, {}).get("published_pass_at_1")
        if entry:
            share = float(entry["value"]) / 100
            found[model] = {"pass_at_1": share, "source": str(entry["source"])}
    return found


def claims(
    study: Mapping[str, Any],
    tables: Mapping[str, pd.DataFrame],
    published: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return the study's facts, what may be claimed, and every number under its name.

    `tables`: cells, comparisons, quality, phases, break_even, sensitivity, ranking, verdicts,
    rules, contested, drift. `published`: see `published_scores`.
    """
    allowed = permission(tables["comparisons"], study["tier"])
    verdicts, rules = tables["verdicts"], tables["rules"]
    answered = verdicts.groupby(["model", "runtime"])["count"].sum()
    graded = {(str(model), str(runtime)): int(n) for (model, runtime), n in answered.items()}
    facts = {
        "verdict_labels": sorted(set(verdicts["label"])),
        "rules": sorted(set(rules["rule"])),
        "warnings": warnings_of(tables["cells"], verdicts, published or {}),
    }
    return {
        "study": dict(study) | facts,
        "permission": allowed,
        "claims": {
            **cell_claims(tables["cells"], tables["phases"]),
            **pair_claims(tables["comparisons"], tables["quality"], allowed["energy_difference"]),
            **further_claims(tables),
            **count_claims(verdicts, "verdicts", "label", graded),
            **count_claims(rules, "rules", "rule", graded),
            **study_claims(tables),
            **published_claims(published or {}),
        },
    }


def left_out_blocks(comparisons: pd.DataFrame) -> Iterator[str]:
    """Yield one line per comparison from which blocks were left out, with what to do."""
    for _, row in comparisons.iterrows():
        for column, words in (("split_blocks", "of two sessions"), ("invalid_blocks", "invalid")):
            if isinstance(row[column], str) and row[column]:
                yield (
                    f"{row['model']}, {row['runtime_a']} and {row['runtime_b']} ({row['kind']}): "
                    f"blocks {row[column].replace(';', ', ')} are left out ({words}). To repeat "
                    "the model's runs: snakemake --cores 1 --forcerun measure -- "
                    f"results/STUDY/models/{row['model']}/summary.csv"
                )
