"""Statistics of a table of runs that others measured, by the code that makes the article.

Called as `joules.analyse RUNS OUT`, or `make analyse RUNS=runs.csv OUT=folder`.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from joules.answers import CONTESTED_COLUMNS, QUALITY_COLUMNS, RULE_COLUMNS, VERDICT_COLUMNS
from joules.claims import claims
from joules.descriptives import DRIFT_COLUMNS, cells, drift
from joules.errors import UserError
from joules.figures import draw
from joules.files import write_json
from joules.phases import BREAK_EVEN_COLUMNS, PHASE_COLUMNS, break_even
from joules.ranking import ranking
from joules.run_table import describe, read_runs
from joules.sensitivity import sensitivity
from joules.statistics import ALPHA, MARGIN, compare
from joules.style import save
from joules.tables import RUNS, TASKS, write_csv

FILE_OF_KIND = {"task": "comparisons", "control": "controls", "fixed": "fixed"}


def completed(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs with all columns of `joules.tables.RUNS`; what is not known is missing."""
    energy_j, tokens, tasks = runs["energy_j"], runs["generated_tokens"], runs["tasks"]
    derived = runs.assign(
        energy_j_per_token=energy_j / tokens,
        energy_j_per_task=energy_j / tasks,
        tokens_per_s=tokens / runs["duration_s"],
        power_w=energy_j / runs["duration_s"],
        net_energy_j=energy_j - runs["idle_power_w"] * runs["duration_s"],
        residency_power_w=runs["resident_power_w"] - runs["idle_power_w"],
        pass_at_1=runs["passed"] / runs["graded"],
        validity_codes="",
    )
    for name in set(RUNS.names) - set(derived.columns):
        derived[name] = float("nan")
    return derived


def analysed(runs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the statistics that runs alone can give; tables of single answers are empty.

    Raises UserError when no two runtimes have a block in common.
    """
    comparisons, of_cells = compare(runs), cells(runs)
    task = comparisons[comparisons["kind"] == "task"]
    if not len(task) or not task["n_blocks"].max():
        raise UserError(
            "No two runtimes have valid runs of one model in the same block and session. Expected "
            "at least two runtimes per model, with the same block numbers. Look at the columns "
            "model, runtime, block, session and valid."
        )
    empty = {
        "quality": QUALITY_COLUMNS,
        "phases": PHASE_COLUMNS,
        "verdicts": VERDICT_COLUMNS,
        "rules": RULE_COLUMNS,
        "contested": CONTESTED_COLUMNS,
    }
    placed = runs["position_actual"].notna().all()
    loaded = runs["load_energy_j"].notna().all() and runs["tasks"].notna().all()
    return {
        "cells": of_cells,
        "comparisons": comparisons,
        "sensitivity": sensitivity(TASKS.empty_table().to_pandas(), runs, comparisons),
        "ranking": ranking(runs, comparisons),
        "drift": drift(runs) if placed else pd.DataFrame(columns=DRIFT_COLUMNS),
        "break_even": break_even(of_cells) if loaded else pd.DataFrame(columns=BREAK_EVEN_COLUMNS),
    } | {name: pd.DataFrame(columns=columns) for name, columns in empty.items()}


def _study(runs: pd.DataFrame, name: str) -> dict[str, Any]:
    """Return what can be said of the study; keys as in `joules.study_facts.study_facts`."""
    task = runs[runs["kind"] == "task"]
    control = sorted(set(runs.loc[runs["kind"] == "control", "runtime"]))
    labels = runs.drop_duplicates("runtime").sort_values("runtime")
    return {
        "name": name,
        "demonstration": False,
        "tier": str(runs["tier"].iloc[0]),
        "models": [{"name": model} for model in sorted(set(runs["model"]))],
        "runtimes": [
            {"name": row.runtime, "label": row.runtime_label} for row in labels.itertuples()
        ],
        "control_runtime": control[0] if control else None,
        "kinds": sorted(set(runs["kind"])),
        "blocks": int(task["block"].nunique()),
        "runs": len(runs),
        "valid_runs": int(runs["valid"].sum()),
        "confidence": 1 - ALPHA,
        "alpha": ALPHA,
        "margin": MARGIN,
    }


def _own_source(source: str) -> str:
    """Return a claim's source with the file that lies in the output folder."""
    file, _, row = source.removeprefix("statistics/").partition(" ")
    kind = next((kind for kind in ("control", "fixed") if f"kind={kind}" in row), None)
    if file == "comparisons.csv" and kind:
        file = f"{FILE_OF_KIND[kind]}.csv"
    return f"{file} {row}"


def figures_of(runs: pd.DataFrame) -> list[str]:
    """Return the figures for which the runs hold what they need."""
    names = ["energy_per_token", "ratios"]
    if (runs["kind"] == "control").any():
        names.append("null_control")
    if runs["position_actual"].notna().all():
        names.append("order")
    if runs[["passed", "graded", "tasks"]].notna().all(axis=None):
        names += ["energy_against_quality", "energy_per_correct"]
    return names


def _left_out(comparisons: pd.DataFrame) -> Iterator[str]:
    for row in comparisons.itertuples():
        for blocks, words in (
            (row.invalid_blocks, "a run is absent or not valid"),
            (row.split_blocks, "runs of two sessions"),
        ):
            if blocks:
                yield (
                    f"{row.model}, {row.runtime_a} and {row.runtime_b} ({row.kind}): blocks "
                    f"{blocks.replace(';', ', ')} are left out: {words}."
                )


def analyse(path: str | Path, folder: str | Path) -> list[str]:
    """Analyse the runs of a CSV file; write tables, claims and figures; return lines to print.

    `folder` gets comparisons.csv (one row per model and pair of runtimes), controls.csv and
    fixed.csv where there are such runs, cells.csv, ranking.csv, sensitivity.csv, claims.json and
    figures/. Raises UserError for a table that cannot be analysed.
    """
    folder = Path(folder)
    runs = completed(read_runs(path))
    tables = analysed(runs)
    comparisons = tables["comparisons"]
    folder.mkdir(parents=True, exist_ok=True)
    for kind, name in FILE_OF_KIND.items():
        own = comparisons[comparisons["kind"] == kind]
        (folder / f"{name}.csv").unlink(missing_ok=True)  # of an earlier table
        if len(own):
            write_csv(folder / f"{name}.csv", own)
    for name in ("cells", "ranking", "sensitivity", "drift", "break_even"):
        (folder / f"{name}.csv").unlink(missing_ok=True)
        if len(tables[name]):
            write_csv(folder / f"{name}.csv", tables[name])
    found = claims(_study(runs, Path(path).stem), tables)
    for claim in found["claims"].values():
        claim["source"] = _own_source(claim["source"])
    write_json(folder / "claims.json", found)
    for name in figures_of(runs):
        save(draw(name, {**tables, "runs": runs}, demonstration=False), folder / "figures" / name)
    lines = [
        f"{row.model}: {row.runtime_a} / {row.runtime_b} = {row.ratio:.4f} "
        f"[{row.ratio_low:.4f}, {row.ratio_high:.4f}], {row.n_blocks} blocks, adjusted p "
        f"{row.p_holm:.4g}: {row.verdict} (tier {row.tier})"
        for row in comparisons[comparisons["kind"] == "task"].itertuples()
    ]
    may = "may" if found["permission"]["energy_difference"] else "may not"
    lines += _left_out(comparisons)
    lines.append(f"A difference in energy {may} be claimed: {found['permission']['reason']}")
    return [*lines, f"Tables, claims and figures are in {folder}"]


def main(arguments: Sequence[str]) -> int:
    """Run `analyse`; bad input ends with one line and status 1, a wrong call with status 64."""
    if len(arguments) != 2 or not all(arguments):
        print("usage: make analyse RUNS=runs.csv OUT=folder; columns of RUNS:", file=sys.stderr)
        print(describe(), file=sys.stderr)
        return 64
    try:
        print("\n".join(analyse(*arguments)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
