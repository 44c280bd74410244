"""Records and grades as tables: one row per run, per task, per window, per reading of power.

Pure functions of the files: equal files give equal bytes. What must not be mixed is refused (see
`joules.consistency`). Energies are in joule, times in second, power in watt.
"""

import dataclasses
import io
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from joules.consistency import (
    Alike,
    check_agreement,
    check_alike,
    check_grade,
    check_names,
    key_of,
)
from joules.errors import UserError
from joules.files import read_json, rounded, write_atomic
from joules.rows import attempt_rows, run_row, task_rows, trace_rows, window_rows

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


CELL = "str: model runtime runtime_label kind\nint: block\n"
RUNS = _schema(
    """
    str: study campaign model runtime runtime_label kind
    int: block position_planned position_actual
    str: session tier
    bool: valid
    str: validity_codes
    int: parameters
    str: quantization
    int: tasks prompt_tokens generated_tokens
    float: energy_j cpu_energy_j gpu_energy_j dram_energy_j net_energy_j idle_power_w
    float: resident_power_w residency_power_w duration_s gap_share energy_j_per_token
    float: energy_j_per_task tokens_per_s power_w load_energy_j load_duration_s
    int: passed graded
    float: pass_at_1 energy_j_per_correct
    int: truncated aborted
    bool: settled
    float: gco2e
    str: instrument_sha256 protocol
    """
)
TASKS = _schema(
    CELL
    + """
    int: order
    str: task_id
    int: prompt_tokens generated_tokens retokenised_tokens
    float: prefill_s decode_s duration_s energy_j cpu_energy_j gpu_energy_j
    str: finish_reason verdict rule completion_sha256
    float: start_s prefill_energy_j
    ids: retokenised_ids
    """
)
WINDOWS = _schema(
    CELL
    + """
    str: window
    float: start_monotonic_s duration_s energy_j power_w dram_energy_j net_energy_j
    """
)
TRACE = _schema(
    CELL
    + """
    float: time_s cpu_power_w gpu_power_w dram_power_w
    str: source
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


def _frame(parts: Iterable[pa.Table], schema: pa.Schema) -> pd.DataFrame:
    return pa.concat_tables([schema.empty_table(), *parts]).to_pandas()


def _attempts(paths: Iterable[Path]) -> pd.DataFrame:
    """Return the invalid attempts that lie beside these records."""
    rows = []
    names = {path: f"{path.stem}.invalid-" for path in paths}
    beside = {folder: sorted(folder.glob("*.invalid-*.json")) for folder in _parents(names)}
    for path, start in names.items():
        for found in (found for found in beside[path.parent] if found.name.startswith(start)):
            try:
                rows += attempt_rows(read_json(found), found)
            except (KeyError, TypeError, ValueError) as error:
                raise UserError(
                    f"{found} is no record of an invalid attempt ({error!r}). Expected "
                    "{repetition}.invalid-{n}.json as rule `measure` leaves it. Move it away."
                ) from error
    frame = pd.DataFrame(rows, columns=ATTEMPT_COLUMNS)
    return frame.sort_values(ATTEMPT_COLUMNS[:5], kind="stable", ignore_index=True)


def _parents(paths: Iterable[Path]) -> list[Path]:
    return list(dict.fromkeys(path.parent for path in paths))


class _Validity:
    """Counts, rule by rule, in how many runs it was checked and how many broke it."""

    def __init__(self) -> None:
        self._runs: Counter[str] = Counter()
        self._broken: Counter[str] = Counter()
        self._limits: dict[str, Any] = {}

    def add(self, validity: Mapping[str, Any]) -> None:
        broken = {code["code"]: code["limit"] for code in validity["codes"]}
        checks = validity.get("checks", [])
        limits = {check["code"]: check["limit"] for check in checks} | broken
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


def tabulate(
    records: Iterable[str | Path],
    grades: Iterable[str | Path],
    agreements: Iterable[str | Path],
    config: Mapping[str, Any],
    *,
    runs_only: bool = False,
) -> Tables:
    """Return the tables of all runs, valid or not, in a fixed order.

    The files are read one run at a time, so that a large study fits into memory. From `config`,
    `carbon` and `mixed_instruments` are read. Raises UserError, with file names, for records that
    must not be mixed, grades that do not fit their record, and agreements that failed or miss.
    Only runs of kind `fixed` may be without a grade. `runs_only` leaves all other tables empty.
    """
    paths = {key_of(path): path for path in listed(records)}
    grade_paths = {key_of(path): path for path in listed(grades)}
    agreed = {found["model"]: found for found in map(read_json, listed(agreements))}
    if not paths:
        raise UserError("No records were given. A study has at least one. Measure it first.")
    for model in sorted({key[0] for key in paths}):
        check_agreement(agreed, model, {key[1] for key in paths if key[0] == model})
    alike, validity = Alike(), _Validity()
    grams_per_kwh = float(config["carbon"]["grams_per_kwh"])
    mixed = config.get("mixed_instruments") == "state"
    rows: list[dict[str, Any]] = []
    parts: dict[str, list[pa.Table]] = {"tasks": [], "windows": [], "trace": []}
    traced = set()
    for key in sorted(paths):
        path, grade = paths[key], None
        record = read_json(path)
        check_names(record, path)
        check_alike(alike, record, path, mixed)
        if key in grade_paths:
            grade = read_json(grade_paths[key])
            check_grade(record, grade, grade_paths[key])
        elif record["kind"] not in KINDS_WITHOUT_GRADE:
            raise UserError(
                f"{path} has no grade. Each record but of kind `fixed` needs one at "
                f"grades/{'/'.join(map(str, key))}.json. Run the rule `grade`."
            )
        rows.append(rounded(run_row(record, grade, grams_per_kwh)))
        validity.add(record["validity"])
        if runs_only:
            continue
        parts["tasks"].append(pa.table(task_rows(record, grade), schema=TASKS))
        parts["windows"].append(pa.table(window_rows(record), schema=WINDOWS))
        if record["kind"] == "task" and record["validity"]["valid"] and key[:2] not in traced:
            traced.add(key[:2])
            parts["trace"].append(pa.table(trace_rows(record), schema=TRACE))
    return Tables(
        runs=_frame([pa.Table.from_pylist(rows, schema=RUNS)], RUNS),
        tasks=_frame(parts["tasks"], TASKS),
        windows=_frame(parts["windows"], WINDOWS),
        trace=_frame(parts["trace"], TRACE),
        attempts=_attempts([] if runs_only else paths.values()),
        validity=validity.frame(),
    )


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
    schemas = {"runs": RUNS, "tasks": TASKS, "windows": WINDOWS, "trace": TRACE}
    for name, schema in schemas.items():
        write_parquet(paths[name], getattr(tables, name), schema)
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
