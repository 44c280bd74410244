"""One record and its grade as rows of the tables; columns are those of the schemas in tables.py.

Energies are in joule, times in second, power in watt. Records of schema 1 lack some values, which
are then None.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from joules.consistency import cell_of
from joules.files import rounded
from joules.instrument import headline_j
from joules.units import JOULE_PER_KWH

Columns = dict[str, Sequence[Any]]


def over(numerator: float | None, denominator: float | None) -> float | None:
    """Return the quotient; None where it has no meaning."""
    return numerator / denominator if numerator is not None and denominator else None


def _net_j(window: Mapping[str, Any], idle_power_w: float | None) -> float | None:
    """Return CPU plus GPU energy of a window less that of the idle machine in the same time."""
    net = window.get("net_energy_j")
    if net is not None and not (net["cpu"] is None and net["gpu"] is None):
        return headline_j(net)
    if idle_power_w is None:
        return None
    return headline_j(window["energy_j"]) - idle_power_w * window["duration_s"]


def _power_w(windows: Mapping[str, Mapping[str, Any]], name: str) -> float | None:
    window = windows.get(name)
    return over(headline_j(window["energy_j"]), window["duration_s"]) if window else None


def run_row(
    record: Mapping[str, Any], grade: Mapping[str, Any] | None, grams_per_kwh: float
) -> dict[str, Any]:
    """Return the row of one run.

    `energy_j` is gross: CPU plus GPU energy of the tasks window, gaps included. `net_energy_j`
    is gross energy less the power of the same run's idle_cold window times the duration.
    `resident_power_w` is the machine's power while the model is loaded and idle,
    `residency_power_w` what is above that of the idle machine. `gco2e` = energy in kWh times
    `grams_per_kwh`. Energy per correct answer is None when none is.
    """
    windows = {window["name"]: window for window in record["windows"]}
    whole = windows["tasks"]
    energy_j, duration_s = record["energy_j"], whole["duration_s"]
    idle_power_w = _power_w(windows, "idle_cold")
    resident_power_w = _power_w(windows, "idle_resident")
    known = idle_power_w is not None and resident_power_w is not None
    load = windows.get("load")
    reasons = [task["finish_reason"] for task in record["tasks"]]
    passed = grade["passed"] if grade else None
    graded = grade["total"] if grade else None
    return cell_of(record) | {
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
        "net_energy_j": _net_j(whole, idle_power_w),
        "idle_power_w": idle_power_w,
        "resident_power_w": resident_power_w,
        "residency_power_w": resident_power_w - idle_power_w if known else None,  # type: ignore[operator]
        "duration_s": duration_s,
        "gap_share": record["gaps"]["share"],
        "energy_j_per_token": over(energy_j, record["generated_tokens"]),
        "energy_j_per_task": over(energy_j, len(reasons)),
        "tokens_per_s": over(record["generated_tokens"], duration_s),
        "power_w": over(energy_j, duration_s),
        "load_energy_j": headline_j(load["energy_j"]) if load else None,
        "load_duration_s": load["duration_s"] if load else None,
        "passed": passed,
        "graded": graded,
        "pass_at_1": over(passed, graded),
        "energy_j_per_correct": over(energy_j, passed),
        "truncated": reasons.count("limit"),
        "aborted": reasons.count("aborted_by_runtime"),
        "settled": record["settle"]["settled"],
        "gco2e": energy_j / JOULE_PER_KWH * grams_per_kwh,
        "instrument_sha256": record["instrument"]["modules_sha256"],
        "protocol": record["protocol"],
    }


def _repeated(record: Mapping[str, Any], count: int) -> Columns:
    return {name: [value] * count for name, value in cell_of(record).items()}


def task_rows(record: Mapping[str, Any], grade: Mapping[str, Any] | None) -> Columns:
    """Return the rows of one run's tasks as columns.

    `start_s` counts from the start of the tasks window; `prefill_energy_j` is the energy to the
    first token, where the counters can tell it apart.
    """
    tasks = record["tasks"]
    grades = {task["task_id"]: task for task in grade["tasks"]} if grade else {}
    columns = _repeated(record, len(tasks))
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
    columns["completion_sha256"] = [
        hashlib.sha256(task["completion"].encode("utf-8", "surrogatepass")).hexdigest()
        for task in tasks
    ]
    for name in ("start_s", "prefill_energy_j", "retokenised_ids"):
        columns[name] = [task.get(name) for task in tasks]
    return columns


def window_rows(record: Mapping[str, Any]) -> Columns:
    """Return the rows of one run's windows as columns."""
    windows = record["windows"]
    idle_power_w = _power_w({window["name"]: window for window in windows}, "idle_cold")
    energy_j = [headline_j(window["energy_j"]) for window in windows]
    power_w = [over(j, window["duration_s"]) for j, window in zip(energy_j, windows, strict=True)]
    return _repeated(record, len(windows)) | {
        "window": [window["name"] for window in windows],
        "start_monotonic_s": [window["start_monotonic_s"] for window in windows],
        "duration_s": [window["duration_s"] for window in windows],
        "energy_j": energy_j,
        "power_w": rounded(power_w),
        "dram_energy_j": [window["energy_j"]["dram"] for window in windows],
        "net_energy_j": rounded([_net_j(window, idle_power_w) for window in windows]),
    }


def trace_rows(record: Mapping[str, Any]) -> Columns:
    """Return the power of one run over time as columns; no row where none was recorded."""
    trace = record.get("trace") or {"time_s": [], "source": ""}
    count = len(trace["time_s"])
    columns = _repeated(record, count) | {"time_s": trace["time_s"]}
    for name in ("cpu_power_w", "gpu_power_w", "dram_power_w"):
        columns[name] = trace.get(name) or [None] * count
    return columns | {"source": [trace["source"]] * count}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(rounded(value), sort_keys=True)


def attempt_rows(record: Mapping[str, Any], path: Path) -> list[dict[str, Any]]:
    """Return one row per rule that an invalid attempt broke; one without a rule when none is said.

    `path` is the attempt's file, `{repetition}.invalid-{attempt}.json`.
    """
    windows = record.get("windows") or []
    attempt = cell_of(record) | {
        "attempt": int(path.stem.rsplit("-", 1)[1]),
        "started": windows[0]["start_wall"] if windows else None,
    }
    broken = record["validity"]["codes"] or [{"code": None, "seen": None, "limit": None}]
    return [
        attempt
        | {
            "code": found["code"],
            "seen": _text(found["seen"]),
            "limit": _text(found["limit"]),
        }
        for found in broken
    ]
