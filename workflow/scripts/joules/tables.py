"""Records and grades as three tables: one row per run, per task and per window.

Pure functions of the files: equal files give equal bytes. What must not be mixed (prompts,
settings, model files, versions of the instrument) is refused here, with the names of the files.
Energies are in joule, times in second, power in watt.
"""

import dataclasses
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from joules.errors import UserError
from joules.files import read_json, rounded, to_json, write_atomic
from joules.instrument import headline_j
from joules.units import JOULE_PER_KWH

KINDS_WITHOUT_GRADE = ("fixed",)  # exactly N tokens: the text is cut anywhere or runs on


def _schema(columns: str) -> pa.Schema:
    """Return a schema from lines of `type: column column ...`; the order is that of the text."""
    types = {"str": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
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
    float: resident_power_w duration_s gap_share energy_j_per_token energy_j_per_task tokens_per_s
    float: power_w load_energy_j load_duration_s
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
    str: finish_reason verdict rule
    """
)
WINDOWS = _schema(
    CELL
    + """
    str: window
    float: start_monotonic_s duration_s energy_j power_w dram_energy_j
    """
)


@dataclasses.dataclass(frozen=True)
class Tables:
    """The three tables, sorted by model, runtime, kind and block; columns as in the schemas."""

    runs: pd.DataFrame
    tasks: pd.DataFrame
    windows: pd.DataFrame


def _over(numerator: float | None, denominator: float | None) -> float | None:
    """Return the quotient; None where it has no meaning."""
    return numerator / denominator if numerator is not None and denominator else None


def _cell(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model": record["model"]["name"],
        "runtime": record["runtime"]["name"],
        "runtime_label": record["runtime"]["label"],
        "kind": record["kind"],
        "block": record["repetition"],
    }


def run_row(
    record: Mapping[str, Any], grade: Mapping[str, Any] | None, grams_per_kwh: float
) -> dict[str, Any]:
    """Return the row of one run; keys are those of `RUNS`.

    `energy_j` is gross: CPU plus GPU energy of the tasks window, gaps included. `net_energy_j`
    is gross energy less the power of the same run's idle_cold window times the duration.
    `resident_power_w` is the machine's power while the model is loaded and idle.
    `gco2e` = energy in kWh times `grams_per_kwh`. Energy per correct answer is None when none is.
    """
    windows = {window["name"]: window for window in record["windows"]}
    whole = windows["tasks"]
    energy_j, duration_s = record["energy_j"], whole["duration_s"]

    def power_w(name: str) -> float | None:
        window = windows.get(name)
        return _over(headline_j(window["energy_j"]), window["duration_s"]) if window else None

    idle_power_w = power_w("idle_cold")
    load = windows.get("load")
    reasons = [task["finish_reason"] for task in record["tasks"]]
    passed = grade["passed"] if grade else None
    graded = grade["total"] if grade else None
    return _cell(record) | {
        "study": record["study"],
        "campaign": record["campaign"],
        "position_planned": record["position"]["planned"],
        "position_actual": record["position"]["actual"],
        "session": record["session"],
        "tier": record["instrument"]["tier"],
        "valid": record["validity"]["valid"],
        "validity_codes": ";".join(code["code"] for code in record["validity"]["codes"]),
        "parameters": record["model"]["parameters"],
        "quantization": record["model"]["quantization"],
        "tasks": len(reasons),
        "prompt_tokens": record["prompt_tokens"],
        "generated_tokens": record["generated_tokens"],
        "energy_j": energy_j,
        "cpu_energy_j": whole["energy_j"]["cpu"],
        "gpu_energy_j": whole["energy_j"]["gpu"],
        "dram_energy_j": whole["energy_j"]["dram"],
        "net_energy_j": None if idle_power_w is None else energy_j - idle_power_w * duration_s,
        "idle_power_w": idle_power_w,
        "resident_power_w": power_w("idle_resident"),
        "duration_s": duration_s,
        "gap_share": record["gaps"]["share"],
        "energy_j_per_token": _over(energy_j, record["generated_tokens"]),
        "energy_j_per_task": _over(energy_j, len(reasons)),
        "tokens_per_s": _over(record["generated_tokens"], duration_s),
        "power_w": _over(energy_j, duration_s),
        "load_energy_j": headline_j(load["energy_j"]) if load else None,
        "load_duration_s": load["duration_s"] if load else None,
        "passed": passed,
        "graded": graded,
        "pass_at_1": _over(passed, graded),
        "energy_j_per_correct": _over(energy_j, passed),
        "truncated": reasons.count("limit"),
        "aborted": reasons.count("aborted_by_runtime"),
        "settled": record["settle"]["settled"],
        "gco2e": energy_j / JOULE_PER_KWH * grams_per_kwh,
        "instrument_sha256": record["instrument"]["modules_sha256"],
        "protocol": record["protocol"],
    }


def task_rows(
    record: Mapping[str, Any], grade: Mapping[str, Any] | None
) -> dict[str, Sequence[Any]]:
    """Return the rows of one run's tasks as columns; keys are those of `TASKS`."""
    tasks = record["tasks"]
    grades = {task["task_id"]: task for task in grade["tasks"]} if grade else {}
    columns: dict[str, Sequence[Any]] = {
        name: [value] * len(tasks) for name, value in _cell(record).items()
    }
    columns["order"] = range(1, len(tasks) + 1)
    for name in (
        *("task_id", "prompt_tokens", "generated_tokens", "retokenised_tokens"),
        *("prefill_s", "decode_s", "duration_s", "finish_reason"),
    ):
        columns[name] = [task[name] for task in tasks]
    columns["energy_j"] = [headline_j(task["energy_j"]) for task in tasks]
    columns["cpu_energy_j"] = [task["energy_j"]["cpu"] for task in tasks]
    columns["gpu_energy_j"] = [task["energy_j"]["gpu"] for task in tasks]
    for name in ("verdict", "rule"):
        columns[name] = [grades.get(task["task_id"], {}).get(name) for task in tasks]
    return columns


def window_rows(record: Mapping[str, Any]) -> dict[str, Sequence[Any]]:
    """Return the rows of one run's windows as columns; keys are those of `WINDOWS`."""
    windows = record["windows"]
    energy_j = [headline_j(window["energy_j"]) for window in windows]
    columns: dict[str, Sequence[Any]] = {
        name: [value] * len(windows) for name, value in _cell(record).items()
    }
    return columns | {
        "window": [window["name"] for window in windows],
        "start_monotonic_s": [window["start_monotonic_s"] for window in windows],
        "duration_s": [window["duration_s"] for window in windows],
        "energy_j": energy_j,
        "power_w": rounded(
            [
                _over(energy, window["duration_s"])
                for energy, window in zip(energy_j, windows, strict=True)
            ]
        ),
        "dram_energy_j": [window["energy_j"]["dram"] for window in windows],
    }


class _Alike:
    """Refuses, with both file names, a value that differs from the first one under its name."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, ...], tuple[str, Path]] = {}

    def check(self, what: str, group: str, value: str, path: Path, remedy: str) -> None:
        seen, first = self._first.setdefault((what, group), (value, path))
        if seen != value:
            raise UserError(
                f"The records differ in {what} ({group}): {_short(seen)} in {first}, "
                f"{_short(value)} in {path}. All must have the same, or they cannot be compared. "
                f"{remedy}"
            )


def _short(value: str) -> str:
    return value if len(value) <= 300 else f"{value[:297]}..."


def _check_alike(alike: _Alike, record: Mapping[str, Any], path: Path, mixed: bool) -> None:
    model = record["model"]["name"]
    kind = "task" if record["kind"] == "control" else record["kind"]  # a control repeats a task run
    again = "Measure again what is out of date: snakemake --forcerun measure -- TARGET."
    alike.check("the study", "all records", record["study"], path, "Keep studies apart.")
    alike.check("the protocol", f"model {model}", record["protocol"], path, again)
    alike.check("the model file's sha256", f"model {model}", record["model"]["sha256"], path, again)
    settings = to_json(record["settings"]).replace("\n", "")
    alike.check("the settings", f"model {model}, kind {kind}", settings, path, again)
    prompts = to_json(sorted([task["task_id"], task["prompt_sha256"]] for task in record["tasks"]))
    alike.check("the problems and prompts", f"model {model}, kind {kind}", prompts, path, again)
    alike.check("the energy tier", "all records", record["instrument"]["tier"], path, again)
    if not mixed:
        alike.check(
            "the version of the instrument",
            "all records",
            record["instrument"]["modules_sha256"],
            path,
            f"{again} Or set `mixed_instruments: state` in the config: the mix is then stated.",
        )


def _check_names(record: Mapping[str, Any], path: Path) -> None:
    cell = _cell(record)
    named = Path(cell["model"], cell["runtime"], cell["kind"], f"{cell['block']}.json").parts
    if path.parts[-4:] != named:
        raise UserError(
            f"{path} holds the run {'/'.join(named)}. A record lies at "
            "records/{model}/{runtime}/{kind}/{repetition}.json. Put it where it belongs."
        )


def _check_grade(record: Mapping[str, Any], grade: Mapping[str, Any], path: Path) -> None:
    cell = _cell(record)
    for key, name in (
        ("model", "model"),
        ("runtime", "runtime"),
        ("kind", "kind"),
        ("repetition", "block"),
    ):
        if grade[key] != cell[name]:
            raise UserError(
                f"{path} grades {key} {grade[key]!r}; its record has {cell[name]!r}. "
                "A grade belongs to the record of the same path. Grade the record again."
            )
    answered = sorted(task["task_id"] for task in record["tasks"])
    graded = sorted(task["task_id"] for task in grade["tasks"])
    if answered != graded or grade["total"] != len(graded):
        odd = sorted(set(answered) ^ set(graded))[:5]
        raise UserError(
            f"{path} grades {len(graded)} tasks (total {grade['total']}), its record has "
            f"{len(answered)}. They must be the same tasks; these are in one only: {odd}. "
            "Grade the record again."
        )


def _check_agreement(
    agreements: Mapping[str, Mapping[str, Any]], model: str, runtimes: set[str]
) -> None:
    agreement = agreements.get(model)
    if agreement is None:
        raise UserError(
            f"No agreement for the model {model}. Each model needs agreement/{model}.json, which "
            "shows that the runtimes saw the same prompts. Run the rule `agree`."
        )
    missing = sorted(runtimes - set(agreement["runtimes"]))
    if not agreement["passed"] or missing:
        problems = [*agreement["problems"], *(f"{name} was not compared" for name in missing)]
        raise UserError(
            f"The runtimes do not agree on {model}: {'; '.join(map(str, problems))}. "
            "Prompt counts and settings must be equal and no answer empty. "
            "Mend the runtime or the model's entry in config/models.yaml and measure again."
        )


def listed(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """Return paths as a list; a rule's input of one file is a text and no list."""
    return [Path(path) for path in ([paths] if isinstance(paths, (str, Path)) else paths)]


def _key(path: Path) -> tuple[str, str, str, int]:
    try:
        model, runtime, kind = path.parts[-4:-1]
        return model, runtime, kind, int(path.stem)
    except ValueError as error:
        raise UserError(
            f"{path} is no record or grade. Expected {{model}}/{{runtime}}/{{kind}}/"
            "{repetition}.json. Leave other files out."
        ) from error


def _frame(parts: Iterable[pa.Table], schema: pa.Schema) -> pd.DataFrame:
    return pa.concat_tables([schema.empty_table(), *parts]).to_pandas()


def tabulate(
    records: Iterable[str | Path],
    grades: Iterable[str | Path],
    agreements: Iterable[str | Path],
    config: Mapping[str, Any],
) -> Tables:
    """Return the tables of all runs, valid or not, in a fixed order.

    The files are read one run at a time, so that a large study fits into memory. From `config`,
    `carbon` and `mixed_instruments` are read. Raises UserError, with file names, for records that
    must not be mixed, grades that do not fit their record, and agreements that failed or miss.
    Only runs of kind `fixed` may be without a grade.
    """
    paths = {_key(path): path for path in listed(records)}
    grade_paths = {_key(path): path for path in listed(grades)}
    agreed = {found["model"]: found for found in map(read_json, listed(agreements))}
    if not paths:
        raise UserError("No records were given. A study has at least one. Measure it first.")
    for model in sorted({key[0] for key in paths}):
        _check_agreement(agreed, model, {key[1] for key in paths if key[0] == model})
    alike, grams_per_kwh = _Alike(), float(config["carbon"]["grams_per_kwh"])
    rows, tasks, windows = [], [], []
    for key in sorted(paths):
        path, grade = paths[key], None
        record = read_json(path)
        _check_names(record, path)
        _check_alike(alike, record, path, config.get("mixed_instruments") == "state")
        if key in grade_paths:
            grade = read_json(grade_paths[key])
            _check_grade(record, grade, grade_paths[key])
        elif record["kind"] not in KINDS_WITHOUT_GRADE:
            raise UserError(
                f"{path} has no grade. Each record but of kind `fixed` needs one at "
                f"grades/{'/'.join(map(str, key))}.json. Run the rule `grade`."
            )
        rows.append(rounded(run_row(record, grade, grams_per_kwh)))
        tasks.append(pa.table(task_rows(record, grade), schema=TASKS))
        windows.append(pa.table(window_rows(record), schema=WINDOWS))
    runs = pa.Table.from_pylist(rows, schema=RUNS)
    return Tables(_frame([runs], RUNS), _frame(tasks, TASKS), _frame(windows, WINDOWS))


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
