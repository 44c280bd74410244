"""Claims as joules.write.claims makes them, with invented numbers."""

import itertools
from pathlib import Path

import msgspec

from joules.core.analysis import NO_CLAIM
from joules.core.paths import figure_names
from joules.core.permission import Permission
from joules.core.places import PACKAGE, REPOSITORY
from joules.core.study import Carbon
from joules.write.claims_file import (
    Claim,
    Claims,
    ContestedProblems,
    FlaggedRun,
    Machine,
    StudiedModel,
    StudiedRuntime,
    StudyFacts,
)
from joules.write.published_article import read_published_article

PAPER = REPOSITORY / "paper"
PUBLISHED = read_published_article(PAPER / "published-2025.yaml")
FIGURES = figure_names(PACKAGE)
SECTIONS = [
    "Introduction",
    "Relevant Literature",
    "Methodology",
    "Results",
    "Discussion",
    "Limitations",
    "Conclusion",
    "Reproducibility",
]
MODELS = ["deepseek-coder-6.7b-instruct", "qwen2.5-coder-7b-instruct", "codellama-7b", "mistral-7b"]
RUNTIMES = {
    "ollama": "Ollama",
    "llama_cpp": "llama-cpp-python",
    "llama_server": "llama-server",
    "mistralrs": "mistral.rs",
    "openvino": "OpenVINO GenAI",
    "gpt4all": "GPT4All",
    "ctranslate2": "CTranslate2",
    "vllm": "vLLM",
}


OF_PAIRS = ("pair", "correct", "explains", "problems", "use")


def source_of(claim_id: str) -> str:
    """Return the row that a claim comes from, as joules.write.claims names it."""
    group, rest = claim_id.split(".", 1)
    for model in (*MODELS, *(f"parrot-{n}m" for n in range(1, 5))):
        if rest.startswith(f"{model}."):
            first, second, *_ = [*rest.removeprefix(f"{model}.").split("."), ""]
            if group == "pair":
                row = f"runtime_a={first} runtime_b={second} kind=task"
                return f"statistics/comparisons.csv model={model} {row}"
            if group == "control":
                row = "runtime_a=all runtime_b=all kind=control"
                return f"statistics/comparisons.csv model={model} {row}"
            return f"statistics/cells.csv model={model} runtime={first} kind=task"
    return "statistics/cells.csv"


def write_runs(path: Path, claims: Claims[StudyFacts]) -> None:
    """Write a tables/runs.csv of the study that the claims are about."""
    study = claims.study
    rows = [
        "model,runtime,kind,block,position_actual,valid,validity_codes,energy_j,"
        "generated_tokens,energy_j_per_token,duration_s"
    ]
    cells = [
        (model.name, runtime.name, "task") for model in study.models for runtime in study.runtimes
    ]
    runs = list(itertools.product(cells, range(1, study.blocks + 1)))
    turns = itertools.cycle(runtime.name for runtime in study.runtimes)
    turn_of = dict(zip(range(1, study.blocks + 1), turns, strict=False))
    for model, (block, runtime) in itertools.product(study.models, turn_of.items()):
        runs.append(((model.name, runtime, "control"), block))
    for place, (cell, block) in enumerate(runs):
        rows.append(",".join([*cell, f"{block},{place + 1},True,,12.5,100,0.125,10.0"]))
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def make_claims(
    models: int = 2,
    runtimes: int = 2,
    tier: str = "estimated",
    demonstration: bool = True,
    verdict: str = "open",
    ratio: float = 0.9,
    control: tuple[float, float] = (0.98, 1.03),
    p_control: float = 1.0,
) -> Claims[StudyFacts]:
    """Return claims as joules.write.claims makes them, with invented numbers.

    `control` is the interval of the null controls, `p_control` their p after Holm's correction.
    """
    may_claim = tier in ("measured", "sampled") and not demonstration and p_control >= 0.05
    model_names = [f"parrot-{n + 1}m" for n in range(models)] if demonstration else MODELS[:models]
    runtime_names = list(RUNTIMES)[:runtimes]
    blocks = 5 if demonstration else 10
    claims: dict[str, Claim] = {}

    def add(
        claim_id: str,
        value: int | float | str | None,
        unit: str = "",
        low: float | None = None,
        high: float | None = None,
    ) -> None:
        claim = Claim(
            value=value,
            unit=unit,
            low=low,
            high=high,
            n=blocks,
            tier=tier,
            source=source_of(claim_id),
        )
        if claim_id.split(".")[0] in OF_PAIRS and "mcnemar" not in claim_id:
            claim = msgspec.structs.replace(claim, claimable=may_claim)
        claims[claim_id] = claim

    for (m, model), (r, runtime) in itertools.product(
        enumerate(model_names), enumerate(runtime_names)
    ):
        cell = f"cell.{model}.{runtime}"
        per_token = 0.412 * (1 + m) * (1 + r / 10)
        add(f"{cell}.energy_j_per_token", per_token, "J", per_token * 0.98, per_token * 1.02)
        for name, value, unit in [
            ("energy_j_per_task", per_token * 151, "J"),
            ("energy_j_per_correct", None if m == 1 and r == 0 else per_token * 260, "J"),
            ("tokens_per_s", 1234.5 / (1 + m), "tokens/s"),
            ("power_w", 45.6, "W"),
            ("duration_s", 812.0, "s"),
            ("passed", 97, ""),
            ("graded", 164, ""),
            ("truncated_share", 0.12, ""),
            ("aborted_share", 0.0, ""),
            ("gco2e_per_1000_tasks", 4.6, "g"),
            ("generated_tokens", 24_764, ""),
            ("cv", 0.013, ""),
            ("energy_j", 9876.5, "J"),
            ("load_energy_j", 31.2, "J"),
            ("load_duration_s", 1.9, "s"),
            ("idle_power_w", 12.3, "W"),
            ("resident_power_w", 12.9, "W"),
            ("residency_power_w", 0.6, "W"),
            ("gross_energy_j_per_token", per_token * 1.1, "J"),
            ("net_energy_j_per_token", per_token * 0.7, "J"),
            ("idle_share", 0.3, "1"),
            ("dram_share", None, ""),
            ("gap_share", 0.01, ""),
        ]:
            add(f"{cell}.{name}", value, unit)
        add(f"{cell}.pass_at_1", 97 / 164, "", 0.515, 0.664)
        for part, power in (("prefill", 41.0), ("decode", 44.0), ("overhead", 20.0)):
            add(f"{cell}.{part}_power_w", power, "W", power * 0.9, power * 1.1)
        for part, cost in (("prefill", 0.02), ("decode", 0.4)):
            add(f"{cell}.{part}_j_per_token", cost, "J", cost * 0.9, cost * 1.1)
        add(f"{cell}.prefill_share", None if r == 1 else 0.07, "1", 0.05, 0.09)
        add(f"{cell}.direct_prefill_share", 0.08 if tier == "measured" else None, "1")
        add(f"{cell}.direct_prefill_j_per_token", 0.03 if tier == "measured" else None, "J")
        add(f"{cell}.direct_decode_j_per_token", 0.41 if tier == "measured" else None, "J")
        add(f"{cell}.direct_tasks", 12, "task")
        add(f"texts.{model}.{runtime}", 0.98, "1")
        add(f"broken.{model}.{runtime}.foreign_cpu", 1 if r == 0 else 0, "run")
        add(f"broken.{model}.{runtime}.foreign_cpu.counted", 0, "run")
        add(f"use.{model}.{runtime}.kwh_per_year", per_token * 9.2, "kWh")
    for model, (a, b) in itertools.product(model_names, itertools.combinations(runtime_names, 2)):
        pair = f"pair.{model}.{a}.{b}"
        add(f"{pair}.ratio", ratio, "", ratio * 0.97, ratio * 1.03)
        for name, value in {
            "p_value": 0.002,
            "p_holm": 0.0625 if demonstration else 0.012,
            "p_size": 0.01,
            "p_size_holm": 0.02,
            "p_equivalence": 0.4,
            "p_equivalence_holm": 0.8,
            "verdict": verdict if may_claim else NO_CLAIM,
            "no_claim_reason": None if may_claim else "The test refuses this pair.",
            "split_blocks": "",
            "mixed_blocks": "",
            "invalid_blocks": "3",
            "flagged_blocks": "",
            "flagged_codes": "",
            "sd_log_ratio": 0.02,
            "power_for_margin": 0.97,
            "n_blocks": blocks,
            "hedges_g": -1.2,
            "cliffs_delta": -0.8,
            "minimum_ratio": 1.021,
            "n_for_margin": 7,
            "same_text_share": 0.74,
            "both_pass": 90,
            "only_a": 7,
            "only_b": 5,
            "neither": 62,
            "p_mcnemar": 0.774,
        }.items():
            add(f"{pair}.{name}", value)
        add(f"{pair}.ratio_simultaneous", ratio, "1", ratio * 0.96, ratio * 1.04)
        rest = f"{model}.{a}.{b}"
        for name, factor in {
            **{"energy_j_per_token": 1.0, "power_w": 1.05, "seconds_per_token": 1 / 1.05},
            **{"duration_s": 0.97, "generated_tokens": 1.02, "energy_j_per_task": 1.02},
            **{"gross_energy_j_per_token": 1.1, "net_energy_j_per_token": 0.9},
        }.items():
            value = factor if name in ("power_w", "generated_tokens") else factor * ratio
            add(f"explains.{rest}.{name}", value, "1", value * 0.98, value * 1.02)
        add(f"explains.{rest}.equal_text_energy_j_per_token", None, "1")
        add(f"explains.{rest}.equal_text_energy_j_per_token.note", "None of 164 problems.")
        for name, number in {"energy_j_per_token": ratio, "pass_at_1": 0.012}.items():
            add(f"problems.{rest}.{name}", number, "1", number * 0.9, number * 1.1)
        add(f"correct.{rest}.ratio", ratio, "1", ratio * 0.9, ratio * 1.1)
        for name, p in {"p_holm": 0.03, "p_size_holm": 0.2, "p_equivalence_holm": 0.9}.items():
            add(f"correct.{rest}.{name}", p, "1")
        add(f"correct.{rest}.verdict", "apart, by how much is open" if may_claim else NO_CLAIM)
        add(f"correct.{rest}.approximate", "no")
        add(f"texts.{rest}", 0.74, "1")
        apart = may_claim and "apart" in verdict
        add(f"use.{rest}.kwh_per_year", (ratio - 1) * 4 if apart else None, "kWh")
    for model in model_names:
        add(f"control.{model}.ratio", sum(control) / 2, "", *control)
        for name, value in {
            "p_value": p_control,
            "p_holm": p_control,
            "verdict": "equal within 5 %" if tier == "measured" else "open",
            "n_blocks": blocks,
        }.items():
            add(f"control.{model}.{name}", value)
    add("use.tasks_a_day", 1000, "task")
    add("use.days_a_year", 220)
    study = StudyFacts(
        name="demo" if demonstration else "study",
        campaign="demo" if demonstration else "study-2026-lab",
        demonstration=demonstration,
        tier=tier,
        tier_reason={
            "measured": "The processor's package counters were read.",
            "sampled": "The GPU has no energy counter; its power was read.",
            "estimated": "No counter can be read, which runtimes mask (Docker: --security-opt x).",
        }[tier],
        models=[
            StudiedModel(
                name=name,
                parameters=1_100_000 if demonstration else 6_740_000_000,
                quantization="Q8_0" if demonstration else "Q4_K_M",
                sha256=f"{index}" * 64,
                prompt_style="completion" if demonstration else "chat",
            )
            for index, name in enumerate(model_names)
        ],
        runtimes=[
            StudiedRuntime(
                name=name,
                label=RUNTIMES[name],
                version="0.24.0" if name == "ollama" else "0.3.36",
                cannot_hold=["ignore_eos"] if name == "ollama" else [],
                unobservable=["temperature"],
                facts={"llama_cpp_commit": "ec98e2002", "simd": "AVX2 | AVX512 = 1"},
            )
            for name in runtime_names
        ],
        instrument={"cpu": "rapl", "gpu": "none"},
        instrument_versions=1,
        control_runtime=None,
        kinds=["task", "control"],
        seed=20261125,
        blocks=blocks,
        problems=164,
        runs=models * (runtimes + 1) * blocks,
        valid_runs=models * (runtimes + 1) * blocks - 1,
        invalid_runs=[
            FlaggedRun(
                model=model_names[0],
                runtime="ollama",
                kind="task",
                block=3,
                valid=False,
                codes=["foreign_cpu"],
            )
        ],
        unsettled_runs=0,
        questions={},
        attempts=[],
        checks=[],
        cannot_hold=[],
        contested=ContestedProblems(problems=[], source=""),
        machine=Machine(
            architecture="x86_64",
            cores=2,
            cpu="Example CPU @ 2.10 GHz",
            governors=["performance"],
            kernel="6.8.0",
            memory_gb=16.0,
            os="Example OS 1",
            threads=4,
            usable_cores=2,
            virtualisation="kvm",
        ),
        settings={
            "context_length": 2048,
            "threads": 1,
            "temperature": 0,
            "ignore_eos": False,
            "flash_attention": False,
        },
        max_tokens=256,
        software={"codecarbon": "3.3.2", "snakemake": "9.27.1", "python": "3.11.7"},
        measured_on="2026-11-25",
        confidence=0.95,
        alpha=0.05,
        margin=0.05,
        carbon=Carbon(grams_per_kwh=268, country_iso_code="NLD", source="ember2024"),
    )
    reason = (
        "Energy was measured and the blocks suffice."
        if may_claim
        else "Energy was not measured by counters."
    )
    return Claims(study, Permission(may_claim, reason, 2 / 2**blocks), claims)
