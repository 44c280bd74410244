"""Records and grades as tables: one row per run, per task, per window, per reading of power.

Pure functions of the files: equal files give equal bytes. What must not be mixed is refused (see
`joules.analyse.consistency`). Energies are in joule, times in second, power in watt.
"""

import dataclasses
import io
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from joules.analyse.consistency import (
    Alike,
    check_agreement,
    check_alike,
    check_grade,
    check_names,
)
from joules.analyse.conventions import Row
from joules.analyse.mixes import Mixes, Mixing
from joules.analyse.rows import (
    Columns,
    attempt_rows,
    cell_of,
    run_row,
    task_columns,
    trace_columns,
    window_columns,
)
from joules.core.errors import UserError
from joules.core.files import rounded, write_atomic
from joules.core.paths import attempt_of, invalid_attempts, record_path, run_of
from joules.core.record import Record, RuleValue, Validity
from joules.core.stored import read_agreement, read_grade, read_record

KINDS_WITHOUT_GRADE = ("fixed",)  # exactly N tokens: the text is cut anywhere or runs on


def _schema(columns: str) -> pa.Schema:
    """Return a schema from lines of `type: column column ...`; the order is that of the text."""
    types = {"str": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
    types["ids"] = pa.list_(pa.int32())
    fields = []
    for line in filter(str.strip, columns.splitlines()):
        kind, names = line.split(":")
        fields += [pa.field(name, types[kind.strip()]) for name in names.split()]
    return pa.schema(fields)


CELL_COLUMNS = "str: model runtime runtime_label kind\nint: block\n"
CELL = _schema(CELL_COLUMNS)
RUNS = _schema(
    """
    str: study campaign model runtime runtime_label kind
    int: block position_planned position_actual
    str: session tier headline
    bool: valid
    str: validity_codes
    int: parameters
    str: quantization
    int: tasks prompt_tokens generated_tokens
    float: energy_j gross_energy_j cpu_energy_j gpu_energy_j dram_energy_j net_energy_j idle_power_w
    float: resident_power_w residency_power_w duration_s window_duration_s gap_share
    float: energy_j_per_token gross_energy_j_per_token net_energy_j_per_token
    float: energy_with_dram_j_per_token energy_j_per_task seconds_per_token tokens_per_s power_w
    float: idle_share
    float: import_energy_j import_duration_s load_energy_j load_duration_s
    int: passed graded
    float: pass_at_1 energy_j_per_correct
    int: truncated aborted
    bool: settled
    float: gco2e
    str: instrument_sha256 machine runtime_build protocol
    """
)
# Of a study with a meter of the whole machine, and of no other.
RUNS_BY_WALL = _schema(
    """
    float: energy_wall_j energy_processor_j wall_over_processor wall_idle_power_w wall_idle_share
    str: wall_tier processor_tier
    bool: meter_emulated
    """
)
TASKS = _schema(
    CELL_COLUMNS
    + """
    int: order
    str: task_id
    int: prompt_tokens generated_tokens retokenised_tokens
    float: prefill_s decode_s duration_s energy_j cpu_energy_j gpu_energy_j
    str: finish_reason verdict rule completion_sha256
    float: start_s prefill_energy_j overhead_s
    ids: retokenised_ids
    """
)
WINDOWS = _schema(
    CELL_COLUMNS
    + """
    str: window
    float: start_monotonic_s duration_s energy_j power_w dram_energy_j net_energy_j
    """
)
TRACE = _schema(
    CELL_COLUMNS
    + """
    float: time_s cpu_power_w gpu_power_w dram_power_w
    str: source
    float: wall_power_w
    """
)
ATTEMPT_COLUMNS = [
    *("model", "runtime", "kind", "block", "attempt", "started", "code", "seen", "limit"),
]
VALIDITY_COLUMNS = ["code", "limit", "runs", "broken"]


@dataclasses.dataclass(frozen=True)
class Tables:
    """The tables, sorted by model, runtime, kind and block; columns as in the schemas.

    `trace` has the first valid run of kind task of each cell. `attempts` has one row per rule that
    an attempt beside a record broke; `validity` one per rule: its limit, in how many runs it was
    checked, and how many broke it.
    """

    runs: pd.DataFrame
    tasks: pd.DataFrame
    windows: pd.DataFrame
    trace: pd.DataFrame
    attempts: pd.DataFrame
    validity: pd.DataFrame


def listed(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """Return paths as a list; a rule's input of one file is a text and no list."""
    return [Path(path) for path in ([paths] if isinstance(paths, (str, Path)) else paths)]


class _Rows:
    """The rows of many runs, as columns of Arrow: a large study has millions of them."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._own = pa.schema([field for field in schema if field.name not in CELL.names])
        self._parts = [self._own.empty_table()]
        self._cells: list[Row] = []
        self._counts: list[int] = []

    def add(self, record: Record, columns: Columns) -> None:
        """Add the rows of one run; `columns` are without those that name it."""
        part = pa.table(columns, schema=self._own)
        self._parts.append(part)
        self._cells.append(cell_of(record))
        self._counts.append(part.num_rows)

    def frame(self) -> pd.DataFrame:
        """Return all rows with all columns."""
        places = np.repeat(np.arange(len(self._cells)), self._counts)
        named = pa.Table.from_pylist(self._cells, schema=CELL).take(places)
        own = pa.concat_tables(self._parts)
        columns = [
            (named if name in CELL.names else own).column(name) for name in self._schema.names
        ]
        return pa.table(columns, schema=self._schema).to_pandas()


def _attempts(records: Collection[Path]) -> pd.DataFrame:
    """Return the invalid attempts that lie beside these records."""
    rows: list[Row] = []
    for attempts in invalid_attempts(records).values():
        for found in attempts:
            rows += attempt_rows(read_record(found), attempt_of(found))
    frame = pd.DataFrame(rows, columns=ATTEMPT_COLUMNS)
    return frame.sort_values(ATTEMPT_COLUMNS[:5], kind="stable", ignore_index=True)


class _RuleCounts:
    """Counts, rule by rule, in how many runs it was checked and how many broke it."""

    def __init__(self) -> None:
        self._runs: Counter[str] = Counter()
        self._broken: Counter[str] = Counter()
        self._limits: dict[str, RuleValue] = {}

    def add(self, validity: Validity) -> None:
        broken = {rule.code: rule.limit for rule in validity.codes}
        limits = {rule.code: rule.limit for rule in validity.checks} | broken
        self._runs.update(limits.keys())
        self._broken.update(broken.keys())
        for code, limit in limits.items():
            if limit is not None:
                self._limits.setdefault(code, limit)

    def frame(self) -> pd.DataFrame:
        rows = [
            (code, str(self._limits.get(code, "")), self._runs[code], self._broken[code])
            for code in sorted(self._runs)
        ]
        return pd.DataFrame(rows, columns=VALIDITY_COLUMNS)


def run_table(rows: Sequence[Row]) -> pd.DataFrame:
    """Return rows of runs as a table, rounded as everything that is stored.

    The columns of a meter of the whole machine are there where one of the rows has them.
    """
    by_wall = any(RUNS_BY_WALL.names[0] in row for row in rows)
    schema = pa.unify_schemas([RUNS, RUNS_BY_WALL]) if by_wall else RUNS
    return pa.Table.from_pylist([rounded(row) for row in rows], schema=schema).to_pandas()


def tabulate(
    records: str | Path | Iterable[str | Path],
    grades: str | Path | Iterable[str | Path],
    agreements: str | Path | Iterable[str | Path],
    grams_per_kwh: float,
    mixing: Mixing,
    *,
    runs_only: bool = False,
) -> Tables:
    """Return the tables of all runs, valid or not, in a fixed order.

    The files are read one run at a time, so that a large study fits into memory. `grams_per_kwh`:
    of the electricity. Raises UserError, with file names, for records that must not be mixed,
    grades that do not fit their record, and agreements that failed or miss. Only runs of kind
    `fixed` may be without a grade. `runs_only` leaves all other tables empty.
    """
    places = {run_of(path): path for path in listed(records)}
    grade_places = {run_of(path): path for path in listed(grades)}
    agreed = {found.model: found for found in map(read_agreement, listed(agreements))}
    if not places:
        raise UserError("No records were given. A study has at least one. Measure it first.")
    for model in sorted({run.model for run in places}):
        check_agreement(agreed, model, {run.arm for run in places if run.model == model})
    alike, mixes, rules = Alike(), Mixes(), _RuleCounts()
    rows: list[Row] = []
    tasks, windows, trace = _Rows(TASKS), _Rows(WINDOWS), _Rows(TRACE)
    traced = set()
    for run in sorted(places):
        path, grade = places[run], None
        record = read_record(path)
        check_names(record, run, path)
        check_alike(alike, record, path)
        mixes.add(record, path)
        if run in grade_places:
            grade = read_grade(grade_places[run])
            check_grade(record, grade, grade_places[run])
        elif run.kind not in KINDS_WITHOUT_GRADE:
            raise UserError(
                f"{path} has no grade. Each record but of kind `fixed` needs one at "
                f"{record_path('grades', run)}. Run the rule `grade`."
            )
        rows.append(run_row(record, grade, grams_per_kwh))
        rules.add(record.validity)
        if runs_only:
            continue
        tasks.add(record, task_columns(record, grade))
        windows.add(record, window_columns(record))
        cell = (run.model, run.arm)
        if run.kind == "task" and record.validity.valid and cell not in traced:
            traced.add(cell)
            trace.add(record, trace_columns(record))
    mixes.refuse(mixing)
    return Tables(
        runs=run_table(rows),
        tasks=tasks.frame(),
        windows=windows.frame(),
        trace=_without_empty(trace.frame(), "wall_power_w"),
        attempts=_attempts([] if runs_only else places.values()),
        validity=rules.frame(),
    )


def _without_empty(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    return frame if frame[column].notna().any() else frame.drop(columns=column)


def _there(schema: pa.Schema, frame: pd.DataFrame) -> pa.Schema:
    """Return the fields of a schema that a table has."""
    return pa.schema([field for field in schema if field.name in frame.columns])


def write_parquet(path: str | Path, frame: pd.DataFrame, schema: pa.Schema) -> None:
    """Write a table as Parquet: equal tables give equal bytes (with one version of pyarrow)."""
    table = pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
    sink = io.BytesIO()
    pq.write_table(
        table.replace_schema_metadata(None), sink, compression="zstd", store_schema=False
    )
    write_atomic(path, sink.getvalue())


def write_csv(path: str | Path, frame: pd.DataFrame) -> None:
    """Write a table as CSV with 9 significant digits; equal tables give equal bytes."""
    write_atomic(path, frame.to_csv(index=False, float_format="%.9g", lineterminator="\n"))


def write_tables(tables: Tables, paths: Mapping[str, str | Path]) -> None:
    """Write all tables to the paths named runs, tasks, windows, trace, attempts, validity.

    `runs_csv` is the table of runs once more, for people.
    """
    runs = pa.unify_schemas([RUNS, RUNS_BY_WALL])
    schemas = {"runs": runs, "tasks": TASKS, "windows": WINDOWS, "trace": TRACE}
    for name, schema in schemas.items():
        frame = getattr(tables, name)
        write_parquet(paths[name], frame, _there(schema, frame))
    for name in ("attempts", "validity"):
        write_csv(paths[name], getattr(tables, name))
    write_csv(paths["runs_csv"], tables.runs)


SUMMARY_MEANS = (
    *("energy_j_per_token", "energy_j_per_task", "energy_j_per_correct", "net_energy_j"),
    *("tokens_per_s", "power_w", "duration_s", "pass_at_1"),
)


def summary(runs: pd.DataFrame, model: str) -> pd.DataFrame:
    """Return one row per runtime and kind of one model: counts and means over its valid runs."""
    own = runs[runs["model"] == model]
    cell = ["model", "runtime", "runtime_label", "kind", "tier"]
    counts = own.groupby(cell).agg(runs=("valid", "size"), valid_runs=("valid", "sum"))
    valid = own[own["valid"]].groupby(cell)
    means = valid[list(SUMMARY_MEANS)].mean().add_prefix("mean_")
    spread = valid[["energy_j_per_token"]].std().add_prefix("sd_")
    return counts.join(means).join(spread).reset_index()
