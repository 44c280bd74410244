"""A table of runs that others measured: read and checked, with row and column in every error.

Rows are named by their line in the file; the header is line 1.
"""

import csv
import difflib
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from joules.errors import UserError

REQUIRED = {
    "model": "the model's name",
    "runtime": "the runtime's name",
    "block": "the block's number, a whole number from 1: runs of one block are paired",
    "energy_j": "energy of the run in joule, more than 0",
    "generated_tokens": "tokens generated in the run, a whole number from 1",
}
OPTIONAL = {
    "kind": "task (or empty), control (second runs of one runtime: the null control) or fixed",
    "runtime_label": "the runtime's name as figures print it",
    "session": "runs of one block are paired only if they are of one session",
    "valid": "true or false; a run that is not valid is left out and listed",
    "tier": "measured, sampled or estimated: what the energy comes from; the same in all rows",
    "position_actual": "place of the run in the order of measuring: the drift is then shown",
    "duration_s": "duration of the run in seconds",
    "tasks": "number of tasks in the run",
    "prompt_tokens": "tokens read in the run",
    "idle_power_w": "power of the idle machine in watt: net energy is then compared too",
    "resident_power_w": "power with the model loaded and idle, in watt",
    "load_energy_j": "energy of loading the model in joule",
    "load_duration_s": "duration of loading the model in seconds",
    "passed": "tasks answered correctly",
    "graded": "tasks that were graded",
}
KINDS = ("task", "control", "fixed")
TIERS = ("measured", "sampled", "estimated")
UNSTATED = "unstated"
TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
POSITIVE_WHOLE = ("block", "generated_tokens", "position_actual", "tasks", "graded")
NOT_NEGATIVE_WHOLE = ("prompt_tokens", "passed")
POSITIVE = ("energy_j", "duration_s")
NOT_NEGATIVE = ("idle_power_w", "resident_power_w", "load_energy_j", "load_duration_s")
# What other units are in joule, to name the factor in the error.
OTHER_UNITS = {
    "energy_kwh": "3,600,000",
    "energy_wh": "3,600",
    "energy_kj": "1,000",
    "energy_mj": "0.001 (millijoule) or 1,000,000 (megajoule)",
    "energy_uj": "0.000001",
}


def describe() -> str:
    """Return all columns with their meaning, one a line."""
    lines = [f"  {name}: {words}" for name, words in REQUIRED.items()]
    return "\n".join(["needed:", *lines, "optional:"]) + "".join(
        f"\n  {name}: {words}" for name, words in OPTIONAL.items()
    )


def _lines(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header, and (line, cells) of every row that is not empty."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}). Expected a table of runs as CSV. Give its "
            "path: make analyse RUNS=runs.csv OUT=folder"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 (byte {error.start}). Expected CSV text; a spreadsheet has to be "
            "exported as CSV in UTF-8. Save it so."
        ) from error
    first = text.split("\n", 1)[0]
    separator = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append((reader.line_num, [cell.strip() for cell in cells]))
    except csv.Error as error:
        raise UserError(
            f"{path}, row {reader.line_num}: not CSV ({error}). Look for a quotation mark that is "
            "not closed."
        ) from error
    if len(rows) < 2:
        raise UserError(
            f"{path} has {len(rows)} rows. Expected a header and one row per run, with the columns "
            f"{', '.join(REQUIRED)}. Add them."
        )
    return [name.strip() for name in rows[0][1]], rows[1:]


def _check_header(path: Path, header: list[str]) -> None:
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise UserError(
            f"{path}, row 1: the column {twice[0]!r} stands there twice. Expected each column "
            "once. Take one away."
        )
    known = [*REQUIRED, *OPTIONAL]
    unknown = [name for name in header if name not in known]
    missing = [name for name in REQUIRED if name not in header]
    if "energy_j" in missing:
        for name in unknown:
            if factor := OTHER_UNITS.get(name.lower()):
                raise UserError(
                    f"{path}, row 1: the column {name!r} is not in joule. Expected `energy_j`. "
                    f"Multiply its values by {factor} and name it energy_j."
                )
    for name in unknown:
        near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.8)
        if near and near[0] not in header:
            raise UserError(
                f"{path}, row 1: unknown column {name!r}. Expected `{near[0]}`: "
                f"{(REQUIRED | OPTIONAL)[near[0]]}. Correct the name."
            )
    if missing:
        raise UserError(
            f"{path}, row 1: the columns {', '.join(missing)} are missing; there are "
            f"{', '.join(header)}. Expected at least {', '.join(REQUIRED)}. Add "
            f"`{missing[0]}`: {REQUIRED[missing[0]]}."
        )


def _number(text: str) -> float | None:
    try:
        return float(text) if "_" not in text else None
    except ValueError:
        return None


def _value(where: str, column: str, text: str) -> Any:
    """Return a cell's value; raise UserError with `where` for one that cannot be."""
    meaning = (REQUIRED | OPTIONAL)[column]
    refused = UserError(f"{where}: {text!r} is not possible. Expected {meaning}. Correct the cell.")
    if column in ("kind", "tier"):
        if text.lower() not in (KINDS if column == "kind" else TIERS):
            raise refused
        return text.lower()
    if column == "valid":
        if text.lower() not in TRUTH:
            raise refused
        return TRUTH[text.lower()]
    numbers = (*POSITIVE_WHOLE, *NOT_NEGATIVE_WHOLE, *POSITIVE, *NOT_NEGATIVE)
    if column not in numbers:
        return text
    value = _number(text)
    if value is None and "," in text:
        raise UserError(
            f"{where}: {text!r} is not a number. Expected digits with a decimal point and no "
            "thousands separator, as 1234.5. Correct the cell."
        )
    if value is None or not math.isfinite(value) or value < 0:
        raise refused
    if value == 0 and column in (*POSITIVE_WHOLE, *POSITIVE):
        raise refused
    if column in (*POSITIVE_WHOLE, *NOT_NEGATIVE_WHOLE):
        if value != int(value):
            raise refused
        return int(value)
    return value


def _check_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    seen: dict[tuple[Any, ...], int] = {}
    for row in rows:
        key = tuple(row[name] for name in ("model", "runtime", "kind", "block"))
        line = row["line"]
        if key in seen:
            raise UserError(
                f"{path}, rows {seen[key]} and {line}, columns model, runtime, kind, block: both "
                f"are {', '.join(map(str, key))}. Expected one run per block. Take one away, or "
                "give it its own block."
            )
        seen[key] = line
        if row["tier"] != rows[0]["tier"]:
            raise UserError(
                f"{path}, row {line}, column tier: {row['tier']!r}, but row {rows[0]['line']} has "
                f"{rows[0]['tier']!r}. Expected one tier in all rows. Analyse them apart."
            )
        passed, graded = row["passed"], row["graded"]
        if passed is not None and graded is not None and passed > graded:
            raise UserError(
                f"{path}, row {line}, column passed: {passed} is more than the {graded} graded. "
                "Expected at most as many. Correct the cell."
            )
    for model in sorted({row["model"] for row in rows}):
        controls = {
            row["runtime"] for row in rows if row["model"] == model and row["kind"] == "control"
        }
        if len(controls) > 1:
            raise UserError(
                f"{path}, column kind: the model {model} has controls of {sorted(controls)}. "
                "Expected those of one runtime. Keep one."
            )


def read_runs(path: str | Path) -> pd.DataFrame:
    """Return the runs of a CSV file (separated by commas, semicolons or tabs), one row each.

    `line` is the row's line in the file. Absent optional columns get their defaults: kind `task`,
    valid, one session, tier `unstated`, label = name; numbers are then NaN. An empty cell of a
    needed column, or of an optional one that others fill (but `kind`), is an error. Raises
    UserError with row and column.
    """
    path = Path(path)
    header, lines = _lines(path)
    _check_header(path, header)
    known = [name for name in header if name in REQUIRED or name in OPTIONAL]
    defaults: Mapping[str, Any] = {
        "kind": "task",
        "session": UNSTATED,
        "valid": True,
        "tier": UNSTATED,
    }
    empty = {name for name in known if name in OPTIONAL} - {
        name for _, cells in lines for name, cell in zip(header, cells, strict=False) if cell
    }
    rows = []
    for line, cells in lines:
        if len(cells) != len(header):
            raise UserError(
                f"{path}, row {line}: {len(cells)} cells. Expected {len(header)}, as in the header "
                "(a comma inside a cell needs quotation marks around it). Correct the row."
            )
        row: dict[str, Any] = {"line": line, **dict.fromkeys(OPTIONAL), **defaults}
        for name, text in zip(header, cells, strict=True):
            if name not in known or name in empty or (name == "kind" and not text):
                continue
            where = f"{path}, row {line}, column {name}"
            if not text:
                meaning = (REQUIRED | OPTIONAL)[name]
                raise UserError(
                    f"{where}: the cell is empty. Expected {meaning}. Fill it, or leave the whole "
                    "row out: the block is then listed as incomplete."
                )
            row[name] = _value(where, name, text)
        row["runtime_label"] = row["runtime_label"] or row["runtime"]
        rows.append(row)
    _check_rows(path, rows)
    frame = pd.DataFrame(rows)
    numbers = [*POSITIVE_WHOLE, *NOT_NEGATIVE_WHOLE, *POSITIVE, *NOT_NEGATIVE]
    for name in set(numbers) - {"block"}:
        frame[name] = frame[name].astype(float)
    frame["valid"] = frame["valid"].astype(bool)
    return frame
