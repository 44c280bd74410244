"""Compare runtimes, or arms, by a table of runs that others measured, as the article does.

RUNS is a CSV file with one row per run. OUT gets comparisons.csv (one row per model and pair of
runtimes), controls.csv and fixed.csv where there are such runs, cells.csv, explanations.csv,
ranking.csv, sensitivity.csv, broken_rules.csv where a run broke one, wall.csv and wall_pairs.csv
where there is energy_wall_j, claims.json and figures/.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from joules.analyse.broken_rules import broken_rules
from joules.analyse.cells import cells
from joules.analyse.comparison import compare
from joules.analyse.conventions import ALPHA, MARGIN, Row
from joules.analyse.derived_columns import derived_columns, over
from joules.analyse.drift import DRIFT_COLUMNS, drift
from joules.analyse.estimates import numeric
from joules.analyse.explanations import explanations
from joules.analyse.left_out_blocks import REASONS
from joules.analyse.phases import BREAK_EVEN_COLUMNS, PHASE_COLUMNS, break_even
from joules.analyse.quality import (
    CONTESTED_COLUMNS,
    QUALITY_COLUMNS,
    RULE_COLUMNS,
    VERDICT_COLUMNS,
)
from joules.analyse.ranking import ranking
from joules.analyse.run_table import BadTable, RunRow, describe, read_runs
from joules.analyse.sensitivity import sensitivity
from joules.analyse.study_statistics import beside
from joules.analyse.tables import RUNS, RUNS_BY_WALL, TASKS, write_csv
from joules.analyse.wall import has_wall
from joules.commands import command_line
from joules.core.analysis import ALL_ARMS, NO_CLAIM
from joules.core.errors import UserError
from joules.core.wording import number_of
from joules.draw.drawing import draw
from joules.draw.style import save
from joules.write.claims import BY_WALL, claims
from joules.write.claims_file import (
    Claim,
    Claims,
    ComparedStudy,
    LabelledRuntime,
    NamedModel,
    write_claims,
)

FILE_OF_KIND = {"task": "comparisons", "control": "controls", "fixed": "fixed"}
ALSO_WRITTEN = (
    *("cells", "explanations", "ranking", "sensitivity", "drift", "break_even", "broken_rules"),
    *BY_WALL,
)
UNSTATED = "unstated"


def completed(runs: Sequence[RunRow]) -> pd.DataFrame:
    """Return the runs with all columns of the table of runs; what is not known is missing."""
    rows: list[Row] = []
    for run in runs:
        derived = derived_columns(
            energy_j=run.energy_j,
            generated_tokens=run.generated_tokens,
            tasks=run.tasks,
            duration_s=run.duration_s,
            idle_power_w=run.idle_power_w,
            resident_power_w=run.resident_power_w,
            passed=run.passed,
            graded=run.graded,
        )
        stated = {
            "runtime_label": run.runtime_label or run.runtime,
            "session": run.session or UNSTATED,
            "tier": run.tier or UNSTATED,
            "validity_codes": run.validity_codes or "",
        }
        rows.append(msgspec.structs.asdict(run) | stated | derived | _wall_columns(run))
    by_wall = any(run.energy_wall_j is not None for run in runs)
    columns = [*RUNS.names, *(RUNS_BY_WALL.names if by_wall else [])]
    return numeric(pd.DataFrame(rows, columns=columns))


def _wall_columns(run: RunRow) -> Row:
    """Return the columns of the whole machine beside what `energy_j` adds up."""
    idle_w, seconds = run.wall_idle_power_w, run.duration_s
    idle_j = None if idle_w is None or seconds is None else idle_w * seconds
    return {
        "energy_processor_j": run.energy_j,
        "wall_over_processor": over(run.energy_wall_j, run.energy_j),
        "wall_idle_share": over(idle_j, run.energy_wall_j),
        "processor_tier": run.tier,
        "meter_emulated": False,
    }


def contrasts_of(text: str, runs: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the pairs of runtimes that `text` names as `a/b,c/d`; none for an empty text.

    Raises UserError for what is not a pair of two runtimes of the table.
    """
    known = sorted(set(runs["runtime"]))
    found = []
    for part in (part.strip() for part in text.split(",") if part.strip()):
        cut = [place for place, sign in enumerate(part) if sign == "/"]
        pairs = [(part[:place].strip(), part[place + 1 :].strip()) for place in cut]
        pairs = [(a, b) for a, b in pairs if a in known and b in known and a != b]
        if len(pairs) != 1:
            raise UserError(
                f"CONTRASTS has {part!r}. Expected two different runtimes of the table with a "
                f"slash between them, of {', '.join(known)}. Give for example: "
                f'CONTRASTS="{"/".join(known[:2])}"'
            )
        found += pairs
    return found


def analysed(
    runs: pd.DataFrame, contrasts: Sequence[tuple[str, str]] = ()
) -> dict[str, pd.DataFrame]:
    """Return the statistics that runs alone can give; tables of single answers are empty.

    Raises BadTable when no two runtimes have a block in common.
    """
    comparisons, of_cells = compare(runs, contrasts=contrasts), cells(runs)
    task = comparisons[comparisons["kind"] == "task"]
    if not len(task) or not task["n_blocks"].max():
        raise BadTable(
            "No two runtimes have valid runs of one model in the same block and session. Expected "
            "at least two runtimes per model, with the same block numbers. Look at the columns "
            "model, runtime (or arm), block, session and valid."
        )
    empty = {
        "quality": QUALITY_COLUMNS,
        "phases": PHASE_COLUMNS,
        "verdicts": VERDICT_COLUMNS,
        "rules": RULE_COLUMNS,
        "contested": CONTESTED_COLUMNS,
    }
    no_answers = TASKS.empty_table().to_pandas()
    placed = runs["position_actual"].notna().all()
    loaded = runs["load_energy_j"].notna().all() and runs["tasks"].notna().all()
    return {
        "cells": of_cells,
        "comparisons": comparisons,
        "explanations": explanations(no_answers, runs),
        "broken_rules": broken_rules(runs),
        "sensitivity": sensitivity(no_answers, runs, comparisons),
        "ranking": ranking(runs, comparisons),
        "drift": drift(runs) if placed else pd.DataFrame(columns=DRIFT_COLUMNS),
        "break_even": break_even(of_cells, comparisons)
        if loaded
        else pd.DataFrame(columns=BREAK_EVEN_COLUMNS),
        **beside(runs, None),
    } | {name: pd.DataFrame(columns=columns) for name, columns in empty.items()}


def _study(runs: pd.DataFrame, name: str) -> ComparedStudy:
    """Return what a table of runs says of the study."""
    task = runs[runs["kind"] == "task"]
    control = sorted(set(runs.loc[runs["kind"] == "control", "runtime"]))
    labels = runs.drop_duplicates("runtime").sort_values("runtime")
    return ComparedStudy(
        name=name,
        demonstration=False,
        tier=runs["tier"].iloc[0],
        models=[NamedModel(model) for model in sorted(set(runs["model"]))],
        runtimes=[LabelledRuntime(row.runtime, row.runtime_label) for row in labels.itertuples()],
        control_runtime=(control[0] if len(control) == 1 else ALL_ARMS) if control else None,
        kinds=sorted(set(runs["kind"])),
        blocks=int(task["block"].nunique()),
        runs=len(runs),
        valid_runs=int(runs["valid"].sum()),
        confidence=1 - ALPHA,
        alpha=ALPHA,
        margin=MARGIN,
    )


def _own_claim(claim: Claim) -> Claim:
    """Return a claim whose source is the file that lies in the output folder."""
    file, _, row = claim.source.removeprefix("statistics/").partition(" ")
    kind = next((kind for kind in ("control", "fixed") if f"kind={kind}" in row), None)
    if file == "comparisons.csv" and kind:
        file = f"{FILE_OF_KIND[kind]}.csv"
    return msgspec.structs.replace(claim, source=f"{file} {row}")


def figures_of(runs: pd.DataFrame) -> list[str]:
    """Return the figures for which the runs hold what they need."""
    names = ["energy_per_token", "ratios"]
    if (runs["kind"] == "control").any():
        names.append("null_control")
    if runs["position_actual"].notna().all():
        names.append("order")
    if runs[["passed", "graded", "tasks"]].notna().all(axis=None):
        names += ["energy_against_quality", "energy_per_correct"]
    return names + (["wall_beside_processor"] if has_wall(runs) else [])


def _left_out(comparisons: pd.DataFrame) -> Iterator[str]:
    for row in comparisons.itertuples():
        for column, words in REASONS.items():
            if blocks := getattr(row, column):
                yield (
                    f"{row.model}, {row.runtime_a} and {row.runtime_b} ({row.kind}): blocks "
                    f"{blocks.replace(';', ', ')} are left out ({words})."
                )


def refuse_unwritable(folder: Path) -> None:
    """Raise UserError where no results can be written into `folder`, which need not exist yet."""
    try:
        place = next(each for each in (folder, *folder.parents) if each.exists())
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}). Expected a folder for the results, "
            "or the name of a new one, in a place that you may write to. Nothing was analysed."
        ) from error


def _line(row: Any) -> str:
    """Return one comparison as a line for people."""
    return (
        f"{row.model}: {row.runtime_a} / {row.runtime_b} = {row.ratio:.4f} "
        f"[{row.ratio_low:.4f}, {row.ratio_high:.4f}] alone, "
        f"[{row.simultaneous_low:.4f}, {row.simultaneous_high:.4f}] with its family "
        f"({row.family}), {number_of(row.n_blocks, 'block')}, adjusted p {row.p_holm:.4g}: "
        f"{row.verdict} (tier {row.tier})"
    )


def _line_of_wall(row: Any, found: Claims[ComparedStudy]) -> str:
    """Return one pair at the wall beside `energy_j`, as a line for people."""
    named = f"wall_pair.{row.model}.{row.runtime_a}.{row.runtime_b}"
    told = found.claims[f"{named}.same_order"].may_be_stated
    return (
        f"{row.model}: {row.runtime_a} / {row.runtime_b} at the wall = {row.wall:.4f} "
        f"[{row.wall_low:.4f}, {row.wall_high:.4f}], by energy_j {row.processor:.4f} "
        f"[{row.processor_low:.4f}, {row.processor_high:.4f}]; same order: "
        f"{row.same_order if told else NO_CLAIM}"
    )


def analyse(
    path: Path,
    folder: Path,
    report: Callable[[str], None] = lambda line: None,
    contrasts: str = "",
) -> list[str]:
    """Analyse the runs of a CSV file; write all files into `folder`; return lines to print.

    `report` is told what is being done, which takes a minute or more with many runs. `contrasts`
    names the pairs of runtimes that were asked about, as `a/b,c/d`; empty: all of them.
    Raises BadTable for a table that cannot be analysed, and UserError for a file that cannot be
    read or a folder that cannot be written.
    """
    refuse_unwritable(folder)
    runs = completed(read_runs(path))
    report(f"{number_of(len(runs), 'run')} read; comparing")
    tables = analysed(runs, contrasts_of(contrasts, runs))
    comparisons = tables["comparisons"]
    folder.mkdir(parents=True, exist_ok=True)
    own = {
        name: comparisons[comparisons["kind"] == kind] for kind, name in FILE_OF_KIND.items()
    } | {name: tables.get(name, pd.DataFrame()) for name in ALSO_WRITTEN}
    for name, table in own.items():
        (folder / f"{name}.csv").unlink(missing_ok=True)  # of an earlier table
        if len(table):
            write_csv(folder / f"{name}.csv", table)
    found = claims(_study(runs, path.stem), tables)
    numbers = {name: _own_claim(claim) for name, claim in found.claims.items()}
    write_claims(folder / "claims.json", msgspec.structs.replace(found, claims=numbers))
    for name in figures_of(runs):
        report(f"drawing {name}")
        save(draw(name, {**tables, "runs": runs}, demonstration=False), folder / "figures" / name)
    lines = [_line(row) for row in own["comparisons"].itertuples()]
    refused = own["comparisons"][~own["comparisons"]["claimable"]]
    if found.permission.energy_difference:
        lines += [
            f"{row.model}, {row.runtime_a} and {row.runtime_b}: no claim. {row.no_claim_reason}"
            for row in refused.itertuples()
        ]
    lines += [_line_of_wall(row, found) for row in own["wall_pairs"].itertuples()]
    lines += [*_left_out(comparisons), found.permission.sentence]
    return [*lines, f"Tables, claims and figures are in {folder}"]


def act(options: argparse.Namespace) -> int:
    """Analyse the table and print what was found; return 1 for a table that cannot be analysed."""
    try:
        lines = analyse(options.runs, options.out, command_line.say_aside, options.contrasts)
    except BadTable as error:
        command_line.say_aside(f"error: {error}")
        return command_line.NOT_SO
    command_line.say("\n".join(lines))
    return command_line.DONE


def main(arguments: Sequence[str] | None = None) -> int:
    """Analyse a table of runs; see `command_line` for the exit status."""
    make = 'make analyse RUNS=runs.csv OUT=folder [CONTRASTS="a/b,c/d"]'
    columns = f"columns of RUNS\n{describe()}"
    command = command_line.Command("analyse", __doc__, make, columns)
    command.add_argument("runs", type=command_line.given_path, help="the table of runs, as CSV")
    command.add_argument("out", type=command_line.given_path, help="a folder for the results")
    command.add_argument(
        "--contrasts", default="", help="the pairs of runtimes asked about, as a/b,c/d; else all"
    )
    return command_line.run(command, arguments, act)


if __name__ == "__main__":
    sys.exit(main())
