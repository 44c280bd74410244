"""What a synthetic record holds of its arm: settings, what it shows of them, its engine."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import msgspec

from joules.core.arms import Arm, ArmFacts, facts_of
from joules.core.inference import OWN_CHOICE, Settings
from joules.core.plan import Run
from joules.core.record import RuntimeFacts
from joules.core.study import Study

LABELS = {"ollama": "Ollama", "llama_cpp": "llama-cpp-python", "llama_server": "llama-server"}
# What a runtime shows of its own choice; it does not show a prompt cache.
CHOSEN = {
    **{"threads": 2, "batch_size": 2048, "micro_batch_size": 512, "flash_attention": True},
    **{"gpu_layers": 0, "kv_cache": "f16"},
}
# Lines that builds of llama.cpp print, shortened.
REPACKED = "CPU : AVX2 = 1 | LLAMAFILE = 1 | OPENMP = 1 | REPACK = 1"
SHARED_LINE = "CPU : AVX2 = 1 | LLAMAFILE = 1 | REPACK = 1"
SHARED_ENGINE = {
    "engine_sha256": "5a" * 32,
    "llama_cpp_build": 10760,
    "llama_cpp_date": "2026-08-20",
    "llama_cpp_commit": "b10760",
    "simd": SHARED_LINE,
}
STOCK_ENGINE = {
    "engine_sha256": "57" * 32,
    "llama_cpp_build": 11311,
    "llama_cpp_date": "2026-10-01",
    "llama_cpp_commit": "0c1e570",
    "simd": REPACKED,
}
OLD_ENGINE = SHARED_ENGINE | {
    "engine_sha256": "01" * 32,
    "llama_cpp_build": 9840,
    "llama_cpp_date": None,
    "llama_cpp_commit": "b9840",
}

# One arm of each kind beside two runtimes on one library, as a study's `arms` has them.
ARMS: dict[str, dict[str, Any]] = {
    "ollama": {"runtime": "ollama"},
    "llama_cpp": {"runtime": "llama_cpp"},
    "ollama-as-installed": {"runtime": "ollama", "settings": "as_installed"},
    "llama_cpp-stock": {"runtime": "llama_cpp", "options": {"library": "stock"}},
    "llama_cpp-flash": {"runtime": "llama_cpp", "settings": {"flash_attention": True}},
    "ollama-0.31": {"runtime": "ollama", "options": {"version": "0.31.0"}},
}
MORE_ARMS = ARMS | {
    "llama_cpp-as-installed": {"runtime": "llama_cpp", "settings": "as_installed"},
    "ollama-wide": {"runtime": "ollama", "options": {"port": 11500}},
}
# What such a study is about, each pair for a reason of its own.
CONTRASTS = (
    ("ollama", "llama_cpp"),
    ("ollama", "ollama-as-installed"),
    ("llama_cpp", "llama_cpp-stock"),
    ("llama_cpp", "llama_cpp-flash"),
    ("ollama", "ollama-0.31"),
)
ENGINES: dict[str, dict[str, Any]] = {
    **dict.fromkeys(MORE_ARMS, SHARED_ENGINE),
    "llama_cpp-stock": STOCK_ENGINE,
    "ollama-0.31": OLD_ENGINE,
}
VERSIONS = {"ollama": "0.34.0", "llama_cpp": "0.3.36"}


def arm_of(run: Run, study: Study) -> Arm:
    """Return the arm of a run; a run of no arm of the study is one of a runtime of its name."""
    return study.compared.get(run.arm, Arm(runtime=run.arm))


def settings_of(study: Study, run: Run) -> Settings:
    """Return the settings of a run: those asked of its arm, which must all be numbers."""
    arm = arm_of(run, study)
    asked = msgspec.structs.asdict(arm.asked(study.settings))
    settings = Settings(**asked, ignore_eos=run.kind == "fixed")
    if arm.as_installed:
        return dataclasses.replace(settings, **dict.fromkeys(OWN_CHOICE))
    return settings


def in_force(run: Run, study: Study, settings: Settings) -> dict[str, Any]:
    """Return what a runtime shows: the context, and what its arm states or chose itself."""
    arm = arm_of(run, study)
    shown: dict[str, Any] = {"context_length": settings.context_length}
    if isinstance(arm.settings, str):
        return shown | CHOSEN
    return shown | arm.settings.stated()


def runtime_of(run: Run, study: Study, engines: Mapping[str, Mapping[str, Any]]) -> RuntimeFacts:
    """Return the runtime of a run, with the facts that `engines` has for its arm."""
    arm = arm_of(run, study)
    version = VERSIONS.get(arm.runtime, "1.2.3") if run.arm in engines else "1.2.3"
    return RuntimeFacts(
        name=arm.runtime,
        label=LABELS.get(arm.runtime, arm.runtime),
        facts={"version": arm.options.get("version", version)} | dict(engines.get(run.arm, {})),
        cannot_hold=["prompt_cache"] if arm.runtime == "ollama" and run.arm in engines else [],
    )


def facts_of_arm(run: Run, study: Study) -> ArmFacts:
    """Return what the record of a run holds of its arm."""
    arm = arm_of(run, study)
    return facts_of(run.arm, arm, LABELS.get(arm.runtime, arm.runtime))
