"""Complete synthetic studies for tests: record, grade and agreement files with known truth.

Nothing here is a measurement. The files obey the record schema, so that everything right of
records and grades can be tested against effects that are known because they were put in.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import yaml
from synthetic_parts import (
    BUSY_POWER_W,
    IDLE_POWER_W,
    answer,
    environment,
    machine,
    sha256,
    trace,
    window,
)

from joules.files import rounded
from joules.schedule import Run, plan

SCHEMA = Path(__file__).parents[1] / "workflow" / "schemas" / "record.schema.yaml"

PREFILL_J_PER_TOKEN = 0.02
DECODE_J_PER_TOKEN = 0.10
OVERHEAD_J_PER_TASK = 0.05
GAP_SHARE = 0.01
TASK_NOISE_CV = 0.02
LABELS = {"ollama": "Ollama", "llama_cpp": "llama-cpp-python"}
BROKEN = {"code": "foreign_cpu", "seen": 0.05, "limit": 0.02, "invalidates": True}


@dataclasses.dataclass(frozen=True)
class Study:
    """Paths of the files of one synthetic study, and the config that belongs to them."""

    folder: Path
    config: dict[str, Any]
    records: list[Path]
    grades: list[Path]
    agreements: list[Path]


@functools.cache
def validator() -> Any:
    """Return the record schema's validator."""
    return jsonschema.Draft202012Validator(yaml.safe_load(SCHEMA.read_text()))


def make_record(
    run: Run,
    position: int,
    runs: int,
    config: Mapping[str, Any],
    *,
    seed: int = 1,
    ratio: float = 1.0,
    noise_cv: float = 0.01,
    drift: float = 0.0,
    tier: str = "measured",
    session: str = "session-1",
    invalid: bool = False,
    limit_share: float = 0.1,
    task_noise_cv: float = TASK_NOISE_CV,
) -> dict[str, Any]:
    """Return one record. `ratio` multiplies the run's energy, `drift` grows over the study.

    Log-normal noise with coefficient of variation `noise_cv` is common to all tasks of the run.
    Energy of a task = run factor * (prefill J/token * prompt tokens + decode J/token * generated
    tokens + overhead), plus noise of its own (`task_noise_cv`).
    """
    rng = np.random.default_rng(
        [seed, *hashlib.sha256("/".join(map(str, run)).encode()).digest()[:8]]
    )
    tokens = np.random.default_rng([seed, *hashlib.sha256(run.model.encode()).digest()[:8]])
    settings = dict(config["settings"]) | {
        "temperature": 0.0,
        "prompt_cache": False,
        "ignore_eos": run.kind == "fixed",
    }
    limit = int(settings["max_tokens"])
    count = 164 if run.kind == "quality" else int(config["problems"])
    factor = ratio * np.exp(drift * (position - 1) / max(runs - 1, 1) + rng.normal(0, noise_cv))
    prompt_tokens = tokens.integers(40, 300, size=164)
    wanted = tokens.integers(10, limit, size=164)
    capped = tokens.random(164) < limit_share
    generated = np.where(capped, limit, wanted)
    if run.kind == "fixed":
        generated = np.full(164, limit)
    order = rng.permutation(count)
    tasks: list[dict[str, Any]] = []
    passed_s = 0.0
    for index in order:
        energy_j = factor * (
            PREFILL_J_PER_TOKEN * prompt_tokens[index]
            + DECODE_J_PER_TOKEN * generated[index]
            + OVERHEAD_J_PER_TASK
        )
        energy_j *= float(np.exp(rng.normal(0, task_noise_cv)))
        duration_s = energy_j / BUSY_POWER_W
        prefill_j = factor * PREFILL_J_PER_TOKEN * prompt_tokens[index]
        text, ids = answer(run, int(index))
        tasks.append(
            {
                "task_id": f"HumanEval/{index}",
                "prompt_sha256": sha256(run.model, index),
                "prompt_tokens": int(prompt_tokens[index]),
                "generated_tokens": int(generated[index]),
                "retokenised_tokens": int(generated[index]) - 1,
                "start_s": passed_s,
                "prefill_s": duration_s * 0.2,
                "decode_s": duration_s * 0.8,
                "duration_s": duration_s,
                "energy_j": {
                    "cpu": energy_j,
                    "gpu": None,
                    "dram": energy_j * 0.1 if tier == "measured" else None,
                },
                "prefill_energy_j": prefill_j if tier == "measured" else None,
                "finish_reason": "limit" if generated[index] == limit else "eos",
                "completion": text,
                "retokenised_ids": ids if run.repetition == 1 else None,
            }
        )
        passed_s += duration_s / (1 - GAP_SHARE)
    tasks_j = sum(task["energy_j"]["cpu"] for task in tasks)
    tasks_s = sum(task["duration_s"] for task in tasks)
    energy_j = tasks_j / (1 - GAP_SHARE)
    duration_s = tasks_s / (1 - GAP_SHARE)
    start_s = 1000.0 + 600.0 * position
    windows = []
    for name, seconds, power_w in (
        ("idle_cold", 30.0, IDLE_POWER_W),
        ("load", 2.0, 8.0),
        ("idle_resident", 30.0, IDLE_POWER_W + 0.5),
        ("settle", 60.0, BUSY_POWER_W),
        ("tasks", duration_s, BUSY_POWER_W),
        ("idle_after", 30.0, IDLE_POWER_W),
    ):
        joule = energy_j if name == "tasks" else power_w * seconds
        windows.append(window(name, start_s, seconds, joule, tier == "measured"))
        start_s += seconds
    return {
        "schema": 2,
        "study": config["study"],
        "campaign": config["measurements"]["campaign"] or config["study"],
        "model": {
            "name": run.model,
            "sha256": sha256(run.model),
            "parameters": 1_000_000,
            "quantization": "Q8_0",
        },
        "runtime": {
            "name": run.runtime,
            "label": LABELS.get(run.runtime, run.runtime),
            "facts": {"version": "1.2.3"},
            "cannot_hold": [],
        },
        "kind": run.kind,
        "repetition": run.repetition,
        "position": {"planned": position, "actual": position},
        "session": session,
        "attempts": 1,
        "protocol": "base",
        "settings": settings,
        "settings_in_force": {"context_length": settings["context_length"]},
        "instrument": {
            "tier": tier,
            "tier_reason": "Synthetic: no instrument was read.",
            "components": {"cpu": {"source": "synthetic"}},
            "codecarbon": {"version": "3.3.2"},
            "modules_sha256": sha256("instrument"),
        },
        "environment": {
            "before": environment(position) | {"machine": machine()},
            "after": environment(position),
        },
        "windows": windows,
        "tasks": tasks,
        "gaps": {
            "duration_s": duration_s - tasks_s,
            "energy_j": energy_j - tasks_j,
            "share": GAP_SHARE,
            "conservation": 0.0,
        },
        "trace": trace(duration_s, tier == "measured"),
        "settle": {"settled": True, "prompts": 20, "cv": 0.01, "limit": 0.02},
        "energy_j": energy_j,
        "generated_tokens": sum(task["generated_tokens"] for task in tasks),
        "prompt_tokens": sum(task["prompt_tokens"] for task in tasks),
        "validity": {
            "valid": not invalid,
            "codes": [BROKEN] if invalid else [],
            "checks": [
                {"code": "foreign_cpu", "seen": 0.05 if invalid else 0.001, "limit": 0.02},
                {"code": "throttled", "seen": None, "limit": None},
            ],
        },
    }


def make_grade(record: Mapping[str, Any], pass_share: float = 0.6) -> dict[str, Any]:
    """Return the grade of a record. About `pass_share` of the problems pass.

    Two in 100 problems (by a hash) turn over between runtimes, so that flips exist.
    """
    tasks = []
    for task in record["tasks"]:
        chance = int(sha256(record["model"]["name"], task["task_id"])[:8], 16) / 2**32
        turned = int(sha256(record["runtime"]["name"], task["task_id"])[:8], 16) / 2**32 < 0.02
        passed = (chance < pass_share) != turned
        tasks.append(
            {
                "task_id": task["task_id"],
                "verdict": "passed" if passed else "failed",
                "reason": "" if passed else "AssertionError",
                "rule": "body",
                "truncated": task["finish_reason"] == "limit",
            }
        )
    passed_tasks = sum(task["verdict"] == "passed" for task in tasks)
    return {
        "schema": 1,
        "model": record["model"]["name"],
        "runtime": record["runtime"]["name"],
        "kind": record["kind"],
        "repetition": record["repetition"],
        "sandbox": {"mechanism": "synthetic"},
        "tasks": tasks,
        "passed": passed_tasks,
        "total": len(tasks),
        "pass_at_1": passed_tasks / len(tasks),
        "dataset_sha256": sha256("HumanEval"),
    }


def make_agreement(model: str, runtimes: Sequence[str], prompts: int) -> dict[str, Any]:
    """Return an agreement that passed."""
    return {
        "model": model,
        "passed": True,
        "runtimes": list(runtimes),
        "settings": {},
        "pairs": [
            {
                "runtime_a": a,
                "runtime_b": b,
                "prompts": prompts,
                "same_text": prompts - 1,
                "same_text_share": (prompts - 1) / prompts,
                "first_difference": [{"task_id": "HumanEval/0", "token": 7}],
                "same_counts": True,
            }
            for i, a in enumerate(runtimes)
            for b in runtimes[i + 1 :]
        ],
        "problems": [],
    }


def make_config(
    models: Sequence[str], runtimes: Sequence[str], kinds: Sequence[str], **changes: Any
) -> dict[str, Any]:
    """Return a config with the keys that the analysis reads."""
    config: dict[str, Any] = {
        "study": "synthetic",
        "demonstration": True,
        "measurements": {"source": "measure", "campaign": ""},
        "models": list(models),
        "runtimes": list(runtimes),
        "kinds": list(kinds),
        "blocks": 5,
        "seed": 20261125,
        "problems": 10,
        "settings": {
            "context_length": 2048,
            "threads": 1,
            "batch_size": 512,
            "micro_batch_size": 512,
            "flash_attention": False,
            "gpu_layers": 0,
            "seed": 1,
            "max_tokens": 256,
        },
        "carbon": {"country_iso_code": "NLD", "grams_per_kwh": 268, "source": "ember2024"},
        "mixed_instruments": "refuse",
    }
    return config | changes


def _write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rounded(value), indent=1, sort_keys=True) + "\n")
    return path


def write_run(folder: Path, run: Run, record: Mapping[str, Any]) -> tuple[Path, Path]:
    """Write a record and its grade to their places below `folder`; return both paths."""
    name = Path(run.model, run.runtime, run.kind, f"{run.repetition}.json")
    return (
        _write(folder / "records" / name, record),
        _write(folder / "grades" / name, make_grade(record)),
    )


def write_agreement(folder: Path, model: str, runtimes: Sequence[str], prompts: int = 5) -> Path:
    """Write an agreement that passed to its place below `folder`; return its path."""
    return _write(folder / "agreement" / f"{model}.json", make_agreement(model, runtimes, prompts))


def write_study(
    folder: Path,
    *,
    models: Sequence[str] = ("parrot-1m", "parrot-3m"),
    runtimes: Sequence[str] = ("ollama", "llama_cpp"),
    kinds: Sequence[str] = ("task", "control"),
    blocks: int = 5,
    seed: int = 1,
    ratios: Mapping[str, float] | None = None,
    noise_cv: float = 0.01,
    drift: float = 0.0,
    problems: int = 10,
    tier: str = "measured",
    invalid: Sequence[Run] = (),
    sessions: Mapping[Run, str] | None = None,
    attempts: Sequence[Run] = (),
    validate: bool = True,
) -> Study:
    """Write a whole study below `folder` (records, grades, agreement) and return its paths.

    `ratios`: true energy ratio of a runtime to 1; `invalid`: runs whose record says so;
    `sessions`: the session of a run where it is not the first one; `attempts`: runs beside whose
    record an invalid attempt lies.
    """
    config = make_config(models, runtimes, kinds, blocks=blocks, seed=seed, problems=problems)
    runs = plan(models, runtimes, kinds, blocks, seed)
    records, grades = [], []
    for position, run in enumerate(runs, start=1):
        record = make_record(
            run,
            position,
            len(runs),
            config,
            seed=seed,
            ratio=(ratios or {}).get(run.runtime, 1.0),
            noise_cv=noise_cv,
            drift=drift,
            tier=tier,
            session=(sessions or {}).get(run, "session-1"),
            invalid=run in set(invalid),
        )
        if validate:
            validator().validate(rounded(record))
        name = Path(run.model, run.runtime, run.kind, f"{run.repetition}.json")
        written = write_run(folder, run, record)
        records.append(written[0])
        grades.append(written[1])
        if run in set(attempts):
            odd = record | {"validity": record["validity"] | {"valid": False, "codes": [BROKEN]}}
            beside = name.with_name(f"{run.repetition}.invalid-1.json")
            _write(folder / "records" / beside, odd)
    agreements = [write_agreement(folder, model, runtimes, min(problems, 5)) for model in models]
    return Study(folder, config, records, grades, agreements)
