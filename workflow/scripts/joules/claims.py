"""Every number that the article states, under a name, and what may be said about energy.

This is the only place that decides which claims the data permit. The article takes numbers from
here and nowhere else; each entry names the table and row that it comes from.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from joules.statistics import ALPHA, LEAST_BLOCKS, MARGIN, smallest_p

# Where the null control's ratio should lie. CodeCarbon's ratios err by 3 % (1 SD) against a wall
# meter; a control runs on one meter and one runtime, so it has to do better than that.
CONTROL_LOW, CONTROL_HIGH = 0.98, 1.02

CELL_UNITS = {
    "energy_j_per_token": "J/token",
    "energy_j_per_task": "J",
    "tokens_per_s": "token/s",
    "power_w": "W",
    "duration_s": "s",
    "energy_j": "J",
    "net_energy_j_per_token": "J/token",
    "energy_delay_js": "J s",
    "generated_tokens": "token",
    "load_energy_j": "J",
    "load_duration_s": "s",
    "idle_power_w": "W",
    "resident_power_w": "W",
    "dram_share": "1",
    "gap_share": "1",
    "gco2e_per_1000_tasks": "g",
}
WITHOUT_TIER = {"tokens_per_s", "duration_s", "generated_tokens", "load_duration_s"}
CELL_COUNTS = {"passed": "task", "graded": "task", "truncated_share": "1", "aborted_share": "1"}
PAIR_UNITS = {
    **dict.fromkeys(("p_value", "p_holm", "p_equivalence", "p_equivalence_holm"), "1"),
    "verdict": "",
    "n_blocks": "block",
    **dict.fromkeys(("hedges_g", "cliffs_delta", "minimum_ratio"), "1"),
    "n_for_margin": "block",
}
CONTROL_UNITS = {name: PAIR_UNITS[name] for name in ("p_value", "p_holm", "verdict", "n_blocks")}
ANSWER_UNITS = {
    "same_text_share": "1",
    **dict.fromkeys(("both_pass", "only_a", "only_b", "neither"), "task"),
    "p_mcnemar": "1",
}

Claim = dict[str, Any]


def _plain(value: Any) -> Any:
    """Return a table's cell as JSON takes it; NaN becomes None, whole floats stay floats."""
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return None
    return value.item() if hasattr(value, "item") else value


def _claim(
    row: pd.Series,
    column: str,
    unit: str,
    source: str,
    *,
    interval: tuple[str, str] | None = None,
    n: str | None = None,
    tier: str | None = None,
) -> Claim:
    low, high = interval or ("", "")
    count = _plain(row.get(n)) if n else None
    value = _plain(row.get(column))
    if value is not None and not isinstance(value, str):
        value = int(value) if unit in ("task", "block") else float(value)
    return {
        "value": value,
        "unit": unit,
        "low": _plain(row.get(low)),
        "high": _plain(row.get(high)),
        "n": None if count is None else int(count),
        "tier": tier,
        "source": source,
    }


def cell_claims(cells: pd.DataFrame, phases: pd.DataFrame) -> dict[str, Claim]:
    """Return `cell.{model}.{runtime}.X` for the runs of kind `task`."""
    found: dict[str, Claim] = {}
    for _, row in cells[cells["kind"] == "task"].iterrows():
        source = f"statistics/cells.csv model={row['model']} runtime={row['runtime']} kind=task"
        name, tier = f"cell.{row['model']}.{row['runtime']}", str(row["tier"])
        for metric, unit in CELL_UNITS.items():
            found[f"{name}.{metric}"] = _claim(
                row,
                f"mean_{metric}",
                unit,
                source,
                interval=(f"low_{metric}", f"high_{metric}"),
                n="n",
                tier=None if metric in WITHOUT_TIER else tier,
            )
        found[f"{name}.cv"] = _claim(
            row, "cv", "1", source, interval=("cv_low", "cv_high"), n="n", tier=tier
        )
        found[f"{name}.pass_at_1"] = _claim(
            row, "pass_at_1", "1", source, interval=("pass_low", "pass_high"), n="graded"
        )
        found[f"{name}.energy_j_per_correct"] = _claim(
            row, "energy_j_per_correct", "J", source, n="n", tier=tier
        )
        for column, unit in CELL_COUNTS.items():
            found[f"{name}.{column}"] = _claim(row, column, unit, source)
    for _, row in phases.iterrows():
        source = f"statistics/phases.csv model={row['model']} runtime={row['runtime']}"
        name = f"cell.{row['model']}.{row['runtime']}.prefill_share"
        tiers = cells.loc[cells["model"] == row["model"], "tier"]
        found[name] = _claim(row, "prefill_share", "1", source, n="runs", tier=str(tiers.iloc[0]))
    return found


def pair_claims(
    comparisons: pd.DataFrame, quality: pd.DataFrame, permitted: bool
) -> dict[str, Claim]:
    """Return `pair.{model}.{a}.{b}.X` and `control.{model}.X`.

    Claims on the energy of a pair carry `claimable`: whether the article may state them as a
    finding. A ratio is that of `runtime_a` over `runtime_b`.
    """
    found: dict[str, Claim] = {}
    family = int(comparisons.loc[comparisons["kind"] == "task", "p_value"].notna().sum())
    for _, row in comparisons.iterrows():
        model, a, b = row["model"], row["runtime_a"], row["runtime_b"]
        control = row["kind"] == "control"
        name = f"control.{model}" if control else f"pair.{model}.{a}.{b}"
        source = f"statistics/comparisons.csv model={model} runtime_a={a} runtime_b={b}"
        source += f" kind={row['kind']}"
        options: dict[str, Any] = {"n": "n_blocks", "tier": str(row["tier"])}
        found[f"{name}.ratio"] = _claim(
            row, "ratio", "1", source, interval=("ratio_low", "ratio_high"), **options
        )
        for column, unit in (CONTROL_UNITS if control else PAIR_UNITS).items():
            found[f"{name}.{column}"] = _claim(row, column, unit, source, **options)
        if not control:
            claimable = permitted and can_differ(int(row["n_blocks"]), family)
            for column in ("ratio", *PAIR_UNITS):
                found[f"{name}.{column}"]["claimable"] = claimable
    for _, row in quality.iterrows():
        model, a, b = row["model"], row["runtime_a"], row["runtime_b"]
        source = f"statistics/quality.csv model={model} runtime_a={a} runtime_b={b}"
        for column, unit in ANSWER_UNITS.items():
            count = "compared_prompts" if column == "same_text_share" else None
            name = f"pair.{model}.{a}.{b}.{column}"
            found[name] = _claim(row, column, unit, source, n=count)
    return found


def can_differ(blocks: int, family: int) -> bool:
    """Return whether a pair of so many blocks can be different after Holm over `family` pairs."""
    return smallest_p(blocks) * max(1, family) < ALPHA


def permission(comparisons: pd.DataFrame, tier: str) -> dict[str, Any]:
    """Return whether a difference in energy may be claimed, and the reason in one sentence.

    It may not when energy is modelled; without a null control, or when the whole 95 % interval of
    a control's ratio lies outside 0.98 to 1.02; or when the blocks are too few for any p below
    0.05. The control is judged by its interval, not by its point estimate: noise alone moves the
    point of one in several studies out of that range, and noise already widens every interval
    here; an interval that is all outside is evidence of a fault.
    """
    task = comparisons[comparisons["kind"] == "task"]
    control = comparisons[comparisons["kind"] == "control"]
    blocks = int(task["n_blocks"].max()) if len(task) else 0
    family = int(task["p_value"].notna().sum())
    biased = control[(control["ratio_low"] > CONTROL_HIGH) | (control["ratio_high"] < CONTROL_LOW)]
    least = smallest_p(blocks)
    if tier == "estimated":
        reason = "Energy is modelled from the processor's load, not measured."
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
    elif not len(control) or control["ratio_low"].isna().any():
        reason = "There is no null control with two blocks or more, so a bias could not be seen."
    elif len(biased):
        worst = biased.iloc[0]
        reason = (
            f"The null control of {worst['model']} differs from itself: ratio "
            f"{worst['ratio']:.3f} (95 % interval {worst['ratio_low']:.3f} to "
            f"{worst['ratio_high']:.3f}), all outside {CONTROL_LOW} to {CONTROL_HIGH}."
        )
    else:
        words = {"measured": "read from counters", "sampled": "integrated from power readings"}
        reason = (
            f"Energy is {words[tier]}, the null control shows no bias, and {blocks} blocks "
            f"can show a difference (smallest possible p: {least:.3g})."
        )
        return {"energy_difference": True, "reason": reason, "smallest_p": least}
    return {"energy_difference": False, "reason": reason, "smallest_p": least}


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


def study_facts(
    runs: pd.DataFrame, records: Sequence[Mapping[str, Any]], config: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what the article says of the study itself. `records`: see `representative_records`.

    From `config`: demonstration, models, runtimes, kinds, carbon. Tables and records say the rest.
    `invalid_runs` are all that broke a rule; each says whether it still counts as valid.
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
        "blocks": int(task["block"].nunique()),
        "problems": int(task["tasks"].max()) if len(task) else None,
        "runs": len(runs),
        "valid_runs": int(runs["valid"].sum()),
        "invalid_runs": _broken_rules(runs),
        "unsettled_runs": int((~runs["settled"]).sum()),
        "machine": machine_facts(first),
        "settings": dict(first["settings"]),
        "max_tokens": first["settings"]["max_tokens"],
        "software": packages,
        "measured_on": min(record["windows"][0]["start_wall"] for record in records)[:10],
        "confidence": 1 - ALPHA,
        "alpha": ALPHA,
        "margin": MARGIN,
        "carbon": {
            key: config["carbon"][key] for key in ("grams_per_kwh", "country_iso_code", "source")
        },
    }


def claims(
    study: Mapping[str, Any],
    cells: pd.DataFrame,
    comparisons: pd.DataFrame,
    quality: pd.DataFrame,
    phases: pd.DataFrame,
) -> dict[str, Any]:
    """Return the study's facts, what may be claimed, and every number under its name."""
    allowed = permission(comparisons, study["tier"])
    return {
        "study": dict(study),
        "permission": allowed,
        "claims": {
            **cell_claims(cells, phases),
            **pair_claims(comparisons, quality, allowed["energy_difference"]),
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
