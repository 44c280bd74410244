"""A table of runs that others measured: read and checked, with row and column in every error.

Python's `csv` reads the file, msgspec checks each cell against the type of its column. Rows are
named by their line in the file; the header is line 1.
"""

import csv
import difflib
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from joules.core.errors import UserError
from joules.core.keys import keys_of


class BadTable(UserError):
    """A table that can be read and cannot be analysed."""


Count = Annotated[int, Meta(ge=1)]
CountOrZero = Annotated[int, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0, le=sys.float_info.max)]
NotNegative = Annotated[float, Meta(ge=0, le=sys.float_info.max)]
Kind = Literal["task", "control", "fixed"]
Tier = Literal["measured", "sampled", "estimated"]


def _means(words: str) -> Meta:
    return Meta(description=words)


class RunRow(msgspec.Struct, frozen=True, kw_only=True):
    """One run. A column without a default is needed; what nobody states is None."""

    model: Annotated[str, _means("the model's name")]
    runtime: Annotated[
        str, _means("the runtime's name; or the column is called arm, for a runtime with settings")
    ]
    block: Annotated[
        Count, _means("the block's number, a whole number from 1: runs of one block are paired")
    ]
    energy_j: Annotated[Positive, _means("energy of the run in joule, more than 0")]
    generated_tokens: Annotated[Count, _means("tokens generated in the run, a whole number from 1")]
    kind: Annotated[
        Kind,
        _means("task (or empty), control (a second run of a runtime: the null control) or fixed"),
    ] = "task"
    runtime_label: Annotated[
        str | None, _means("the runtime's name as figures print it; or the column is arm_label")
    ] = None
    session: Annotated[
        str | None, _means("runs of one block are paired only if they are of one session")
    ] = None
    valid: Annotated[
        bool, _means("true or false; a run that is not valid is left out and listed")
    ] = True
    validity_codes: Annotated[
        str | None,
        _means(
            "rules that the run broke and counts all the same, with semicolons between them, or "
            "empty: such a run carries no claim"
        ),
    ] = None
    tier: Annotated[
        Tier | None,
        _means("measured, sampled or estimated: what the energy comes from; the same in all rows"),
    ] = None
    position_actual: Annotated[
        Count | None, _means("place of the run in the order of measuring: the drift is then shown")
    ] = None
    duration_s: Annotated[Positive | None, _means("duration of the run in seconds")] = None
    tasks: Annotated[Count | None, _means("number of tasks in the run")] = None
    prompt_tokens: Annotated[CountOrZero | None, _means("tokens read in the run")] = None
    idle_power_w: Annotated[
        NotNegative | None,
        _means("power of the idle machine in watt: net energy is then compared too"),
    ] = None
    resident_power_w: Annotated[
        NotNegative | None, _means("power with the model loaded and idle, in watt")
    ] = None
    load_energy_j: Annotated[NotNegative | None, _means("energy of loading the model in joule")] = (
        None
    )
    load_duration_s: Annotated[
        NotNegative | None, _means("duration of loading the model in seconds")
    ] = None
    energy_wall_j: Annotated[
        Positive | None,
        _means(
            "energy of the whole machine at the wall, in joule, over the same time as energy_j: "
            "the two are set side by side, and whether they rank the runtimes alike"
        ),
    ] = None
    wall_idle_power_w: Annotated[
        NotNegative | None, _means("power of the idle machine at the wall, in watt")
    ] = None
    passed: Annotated[CountOrZero | None, _means("tasks answered correctly")] = None
    graded: Annotated[Count | None, _means("tasks that were graded")] = None

    def __post_init__(self) -> None:
        if self.passed is not None and self.graded is not None and self.passed > self.graded:
            raise ValueError(
                f"column passed: {self.passed} is more than the {self.graded} graded. Expected at "
                "most as many"
            )


COLUMNS = {column.name: column.description for column in keys_of(RunRow)}
REQUIRED = [column.name for column in keys_of(RunRow) if column.default is None]
OTHER_NAMES = {"arm": "runtime", "arm_label": "runtime_label"}  # of columns
WORDS = ("kind", "tier", "valid")  # in small or capital letters
TEXTS = ("model", "runtime", "runtime_label", "session", "validity_codes")
MAY_BE_EMPTY = ("kind", "validity_codes")
TRUTH = {"yes": "true", "no": "false"}  # beside what msgspec knows: true, false, 1, 0
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
    lines = {name: f"  {name}: {meaning}" for name, meaning in COLUMNS.items()}
    needed = [lines.pop(name) for name in REQUIRED]
    return "\n".join(["needed:", *needed, "optional:", *lines.values()])


def _cells(path: Path) -> list[tuple[int, list[str]]]:
    """Return (line, cells) of every row that is not empty, the header first."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}). Expected a table of runs as CSV. Give its "
            "path: make analyse RUNS=runs.csv OUT=folder"
        ) from error
    except UnicodeDecodeError as error:
        raise BadTable(
            f"{path} is not UTF-8 (byte {error.start}). Expected CSV text; a spreadsheet has to be "
            "exported as CSV in UTF-8. Save it so."
        ) from error
    separator = max(",;\t", key=text.split("\n", 1)[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise BadTable(
            f"{path}, row {reader.line_num}: not CSV ({error}). Look for a quotation mark that is "
            "not closed."
        ) from error
    rows = [(line, cells) for line, cells in rows if any(cells)]
    if len(rows) < 2:
        raise BadTable(
            f"{path} has {len(rows)} rows. Expected a header and one row per run, with the columns "
            f"{', '.join(REQUIRED)}. Add them."
        )
    return rows


def _check_header(path: Path, header: list[str]) -> None:
    where = f"{path}, row 1"
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise BadTable(
            f"{where}: the column {twice[0]!r} stands there twice. Expected each column once. Take "
            "one away."
        )
    for name, own in OTHER_NAMES.items():
        if name in header and own in header:
            raise BadTable(
                f"{where}: there are the columns {own!r} and {name!r}. Expected one of them: they "
                "name the same, what is compared. Take one away."
            )
    known = [OTHER_NAMES.get(name, name) for name in header]
    unknown = [name for name in known if name not in COLUMNS]
    missing = [name for name in REQUIRED if name not in known]
    for name in unknown if "energy_j" in missing else ():
        if name.lower() in OTHER_UNITS:
            raise BadTable(
                f"{where}: the column {name!r} is not in joule. Expected `energy_j`. Multiply its "
                f"values by {OTHER_UNITS[name.lower()]} and name it energy_j."
            )
    for name in unknown:
        near = difflib.get_close_matches(name.lower(), [*COLUMNS, *OTHER_NAMES], n=1, cutoff=0.8)
        meant = OTHER_NAMES.get(near[0], near[0]) if near else ""
        if near and meant not in known:
            raise BadTable(
                f"{where}: unknown column {name!r}. Expected `{near[0]}`: {COLUMNS[meant]}. "
                "Correct the name."
            )
    if missing:
        raise BadTable(
            f"{where}: the columns {', '.join(missing)} are missing; there are "
            f"{', '.join(header)}. Expected at least {', '.join(REQUIRED)}. Add "
            f"`{missing[0]}`: {COLUMNS[missing[0]]}."
        )


def _readable(column: str, text: str) -> str | float:
    """Return a cell as msgspec reads it: words in small letters, every spelling of a number."""
    if column in WORDS:
        return TRUTH.get(text.lower(), text.lower())
    if column in TEXTS or "_" in text:  # Python's float takes 1_000
        return text
    try:
        return float(text)
    except ValueError:
        return text


def _run(where: str, cells: dict[str, str]) -> RunRow:
    """Return the run of one row. Raises BadTable with the row, `where`, and the column."""
    values = {name: _readable(name, text) for name, text in cells.items()}
    try:
        return msgspec.convert(values, RunRow, strict=False)
    except msgspec.ValidationError as error:
        said, _, place = str(error).partition(" - at `$.")
        column = place.rstrip("`")
        if column not in cells:
            raise BadTable(f"{where}, {said}. Correct the cell.") from error
        wrong = f"is not possible. Expected {COLUMNS[column]}"
        if "," in cells[column] and isinstance(values[column], str) and column not in WORDS:
            wrong = (
                "is not a number. Expected digits with a decimal point and no thousands "
                "separator, as 1234.5"
            )
        raise BadTable(
            f"{where}, column {column}: {cells[column]!r} {wrong}. Correct the cell."
        ) from error


def _check_together(path: Path, lines: Sequence[int], runs: Sequence[RunRow]) -> None:
    """Refuse rows that cannot be of one study."""
    seen: dict[tuple[str | int, ...], int] = {}
    controls: dict[tuple[str | int, ...], int] = {}
    for line, run in zip(lines, runs, strict=True):
        key = (run.model, run.runtime, run.kind, run.block)
        if seen.setdefault(key, line) != line:
            raise BadTable(
                f"{path}, rows {seen[key]} and {line}, columns model, runtime, kind, block: both "
                f"are {', '.join(map(str, key))}. Expected one run per block. Take one away, or "
                "give it its own block."
            )
        if run.tier != runs[0].tier:
            raise BadTable(
                f"{path}, row {line}, column tier: {run.tier!r}, but row {lines[0]} has "
                f"{runs[0].tier!r}. Expected one tier in all rows. Analyse them apart."
            )
        control = (run.model, run.block) if run.kind == "control" else ()
        if control and controls.setdefault(control, line) != line:
            raise BadTable(
                f"{path}, rows {controls[control]} and {line}, column kind: two controls of "
                f"{run.model} in block {run.block}. Expected one per model and block; the runtimes "
                "may take turns. Keep one."
            )


def read_runs(path: str | Path) -> list[RunRow]:
    """Return the runs of a CSV file (separated by commas, semicolons or tabs).

    Columns that are not known are left out. An empty cell of a needed column, or of an optional one
    that others fill (but those of `MAY_BE_EMPTY`), is an error. Raises BadTable
    with row and column, and UserError for a file that cannot be read.
    """
    path = Path(path)
    (_, header), *rows = _cells(path)
    _check_header(path, header)
    for line, cells in rows:
        if len(cells) != len(header):
            raise BadTable(
                f"{path}, row {line}: {len(cells)} cells. Expected {len(header)}, as in the header "
                "(a comma inside a cell needs quotation marks around it). Correct the row."
            )
    names = [OTHER_NAMES.get(name, name) for name in header]
    said = dict(zip(names, header, strict=True))
    texts_of = dict(zip(names, zip(*(texts for _, texts in rows), strict=True), strict=True))
    used = [name for name in names if name in REQUIRED or name in COLUMNS and any(texts_of[name])]
    runs = []
    for place, (line, _) in enumerate(rows):
        where = f"{path}, row {line}"
        given = {name: texts_of[name][place] for name in used}
        given = {name: text for name, text in given.items() if text or name not in MAY_BE_EMPTY}
        for name in (name for name, text in given.items() if not text):
            raise BadTable(
                f"{where}, column {said[name]}: the cell is empty. Expected {COLUMNS[name]}. Fill "
                "it, or leave the whole row out: the block is then listed as incomplete."
            )
        runs.append(_run(where, given))
    _check_together(path, [line for line, _ in rows], runs)
    return runs
