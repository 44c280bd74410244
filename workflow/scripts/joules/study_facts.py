"""What the article says of the study itself: machine, models, runtimes, settings, broken rules."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from joules.humaneval import CONTESTED
from joules.statistics import ALPHA, MARGIN

# Which question the energy per token of each kind of run answers.
QUESTIONS = {
    "task": "What does a token of a real answer cost, which ends by itself or at the limit?",
    "fixed": "What does a token cost when every runtime generates exactly as many tokens?",
    "control": "How far do two sets of runs of one runtime differ, when nothing differs but time?",
    "quality": "How many of all problems are answered correctly? Its energy enters no comparison.",
}


def representative_records(paths: Sequence[str | Path], runs: pd.DataFrame) -> list[Path]:
    """Return the records to read facts from: the first run of each model and runtime.

    They are in the order of measuring. What the others say of machine, model and settings is the
    same, or `tabulate` would have refused them.
    """
    ordered = runs.sort_values(["position_actual", "model", "kind", "block"], kind="stable")
    task = ordered[ordered["kind"] == "task"]
    first = (task if len(task) else ordered).drop_duplicates(["model", "runtime"])
    known = {Path(path).parts[-4:]: Path(path) for path in paths}
    return [
        known[str(row.model), str(row.runtime), str(row.kind), f"{row.block}.json"]
        for row in first.itertuples()
    ]


def _virtualisation(facts: Mapping[str, Any]) -> str:
    """Return in words what the machine runs in."""
    found = [facts[key] for key in ("vm", "container") if facts.get(key) not in (None, "", "none")]
    if not found and facts.get("hypervisor_flag"):
        found.append("virtual machine")
    if facts.get("container_file") and facts.get("container") in (None, "", "none"):
        found.append("container")
    return ", ".join(found) or "none"


def machine_facts(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the machine as the article states it. `memory_gb` is in 10^9 bytes."""
    state = record["environment"]["before"]
    machine = state["machine"]
    memory = machine.get("memory_bytes")
    return {
        "cpu": machine.get("cpu"),
        "architecture": machine.get("architecture"),
        "cores": machine.get("physical_cores"),
        "threads": machine.get("logical_cores"),
        "usable_cores": machine.get("usable_cores"),
        "memory_gb": None if memory is None else memory / 1e9,
        "virtualisation": _virtualisation(machine.get("virtualisation") or {}),
        "kernel": machine.get("kernel"),
        "os": machine.get("os"),
        "governors": state.get("governors"),
    }


def _broken_rules(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the runs that broke a rule, invalid or only flagged."""
    flagged = runs[(runs["validity_codes"].fillna("") != "") | ~runs["valid"]]
    return [
        {name: row[name] for name in ("model", "runtime", "kind", "block", "valid")}
        | {"codes": row["validity_codes"].split(";")}
        for row in flagged.to_dict("records")
    ]


def _model_facts(record: Mapping[str, Any]) -> dict[str, Any]:
    return dict(record["model"]) | {"prompt_style": record["protocol"]}


def _runtime_facts(record: Mapping[str, Any]) -> dict[str, Any]:
    runtime, seen = dict(record["runtime"]), record["settings_in_force"]
    return runtime | {
        "version": str(runtime["facts"].get("version", "")),
        "unobservable": sorted(set(record["settings"]) - set(seen)),
    }


def asked_of(setting: str, records: Sequence[Mapping[str, Any]]) -> Any:
    """Return the value of a setting in all records; where models differ, the values in words."""
    values = {record["settings"][setting]: None for record in records}
    return next(iter(values)) if len(values) == 1 else " or ".join(map(str, values))


def settings_held(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one entry per setting: what was asked, and how each runtime held it.

    `observed`: the runtime shows the value that was asked for; `cannot hold`: it has no such
    setting, or another fixed value; `unobservable`: it was told, and shows nothing.
    """
    found = []
    for setting in sorted(records[0]["settings"]):
        by_runtime = {}
        for record in records:
            runtime = record["runtime"]
            if setting in runtime["cannot_hold"]:
                how = "cannot hold"
            elif setting in record["settings_in_force"]:
                how = "observed"
            else:
                how = "unobservable"
            by_runtime[runtime["name"]] = how
        asked = asked_of(setting, records)
        found.append({"setting": setting, "asked": asked, "runtimes": by_runtime})
    return found


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows as JSON takes them; a missing value is None."""
    return [
        {name: None if pd.isna(value) else value for name, value in row.items()}
        for row in frame.to_dict("records")
    ]


def study_facts(
    runs: pd.DataFrame,
    records: Sequence[Mapping[str, Any]],
    config: Mapping[str, Any],
    attempts: pd.DataFrame,
    validity: pd.DataFrame,
) -> dict[str, Any]:
    """Return what the article says of the study itself. `records`: see `representative_records`.

    From `config`: demonstration, models, runtimes, kinds, carbon. Tables and records say the rest.
    `invalid_runs` are all that broke a rule; each says whether it still counts as valid. `attempts`
    and `validity` are the tables of `joules.tables.Tables`.
    """
    first = records[0]
    instrument, machine = first["instrument"], first["environment"]["before"]["machine"]
    by_model = {record["model"]["name"]: _model_facts(record) for record in records}
    by_runtime = {record["runtime"]["name"]: _runtime_facts(record) for record in records}
    control = runs.loc[runs["kind"] == "control", "runtime"]
    task = runs[runs["kind"] == "task"]
    packages = {name: version for name, version in machine["packages"].items() if version}
    packages |= {"codecarbon": instrument["codecarbon"]["version"], "python": machine["python"]}
    return {
        "name": str(runs["study"].iloc[0]),
        "campaign": ", ".join(sorted(set(runs["campaign"]))),
        "demonstration": bool(config["demonstration"]),
        "tier": instrument["tier"],
        "tier_reason": instrument["tier_reason"],
        "instrument": {name: part["source"] for name, part in instrument["components"].items()},
        "instrument_versions": int(runs["instrument_sha256"].nunique()),
        "models": [by_model[name] for name in config["models"]],
        "runtimes": [by_runtime[name] for name in config["runtimes"]],
        "control_runtime": str(control.iloc[0]) if len(control) else None,
        "kinds": list(config["kinds"]),
        "seed": config["seed"],
        "blocks": int(task["block"].nunique()),
        "problems": int(task["tasks"].max()) if len(task) else None,
        "runs": len(runs),
        "valid_runs": int(runs["valid"].sum()),
        "invalid_runs": _broken_rules(runs),
        "unsettled_runs": int((~runs["settled"]).sum()),
        "questions": {kind: QUESTIONS[kind] for kind in QUESTIONS if kind in config["kinds"]},
        "attempts": _records(attempts),
        "checks": _records(validity),
        "cannot_hold": settings_held(records),
        "contested": {
            "problems": list(CONTESTED),
            "source": "; ".join(f"{name}: {words}" for name, words in CONTESTED.items()),
        },
        "machine": machine_facts(first),
        "settings": {setting: asked_of(setting, records) for setting in first["settings"]},
        "max_tokens": asked_of("max_tokens", records),
        "software": packages,
        "measured_on": min(record["windows"][0]["start_wall"] for record in records)[:10],
        "confidence": 1 - ALPHA,
        "alpha": ALPHA,
        "margin": MARGIN,
        "carbon": {
            key: config["carbon"][key] for key in ("grams_per_kwh", "country_iso_code", "source")
        },
    }
