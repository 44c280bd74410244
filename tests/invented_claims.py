"""Claims as joules.write.claims makes them, with invented numbers."""

import itertools
from pathlib import Path

from joules.core.paths import figure_names
from joules.core.places import PACKAGE, REPOSITORY
from joules.core.study import Carbon
from joules.write.claims_file import (
    Claim,
    Claims,
    ContestedProblems,
    FlaggedRun,
    Machine,
    Permission,
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
                row = "runtime_a=ollama runtime_b=ollama kind=control"
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
    cells += [(model.name, "ollama", "control") for model in study.models]
    for place, (cell, block) in enumerate(itertools.product(cells, range(1, study.blocks + 1))):
        rows.append(",".join([*cell, f"{block},{place + 1},True,,12.5,100,0.125,10.0"]))
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def make_claims(
    models: int = 2,
    runtimes: int = 2,
    tier: str = "estimated",
    demonstration: bool = True,
    verdict: str = "inconclusive",
    ratio: float = 0.9,
) -> Claims[StudyFacts]:
    """Return claims as joules.write.claims makes them, with invented numbers."""
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
        claims[claim_id] = Claim(
            value=value,
            unit=unit,
            low=low,
            high=high,
            n=blocks,
            tier=tier,
            source=source_of(claim_id),
        )

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
            ("dram_share", None, ""),
            ("prefill_share", 0.07, ""),
            ("gap_share", 0.01, ""),
        ]:
            add(f"{cell}.{name}", value, unit)
        add(f"{cell}.pass_at_1", 97 / 164, "", 0.515, 0.664)
    for model, (a, b) in itertools.product(model_names, itertools.combinations(runtime_names, 2)):
        pair = f"pair.{model}.{a}.{b}"
        add(f"{pair}.ratio", ratio, "", ratio * 0.97, ratio * 1.03)
        for name, value in {
            "p_value": 0.002,
            "p_holm": 0.0625 if demonstration else 0.012,
            "p_equivalence": 0.4,
            "p_equivalence_holm": 0.8,
            "verdict": verdict,
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
    for model in model_names:
        add(f"control.{model}.ratio", 1.004, "", 0.98, 1.03)
        for name, value in {
            "p_value": 0.7,
            "p_holm": 1.0,
            "verdict": "equivalent within margin" if tier == "measured" else "inconclusive",
            "n_blocks": blocks,
        }.items():
            add(f"control.{model}.{name}", value)
    study = StudyFacts(
        name="demo" if demonstration else "study",
        campaign="demo" if demonstration else "study-2026-lab",
        demonstration=demonstration,
        tier=tier,
        tier_reason={
            "measured": "The processor's package counters were read.",
            "sampled": "The GPU has no energy counter; its power was read.",
            "estimated": "This machine has no energy counter that can be read.",
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
        control_runtime="ollama",
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
    may_claim = tier == "measured" and not demonstration
    reason = (
        "Energy was measured and the blocks suffice."
        if may_claim
        else "Energy was not measured by counters."
    )
    return Claims(study, Permission(may_claim, reason, 2 / 2**blocks), claims)
