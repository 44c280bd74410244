"""What is said of a comparison of two arms, from what their records hold."""

from typing import Any

import pytest
from synthetic_arms import OLD_ENGINE, SHARED_ENGINE, STOCK_ENGINE

from joules.core.inference import OWN_CHOICE
from joules.write.builds import builds, distance, why_texts
from joules.write.claims_file import StudiedArm, StudiedRuntime
from joules.write.contrasts import contrast_of

ASKED = {
    **{"context_length": 2048, "threads": 1, "batch_size": 512, "micro_batch_size": 512},
    **{"flash_attention": False, "gpu_layers": 0, "seed": 1, "max_tokens": 256},
    **{"temperature": 0.0, "ignore_eos": False, "prompt_cache": False, "kv_cache": "f16"},
}
RUNTIMES = {"ollama": ("Ollama", "0.34.0"), "llama_cpp": ("llama-cpp-python", "0.3.36")}
SHARED = "one and the same engine (llama.cpp b10760, sha256 5a5a5a5a5a5a)"


def arm(
    runtime: str,
    label: str | None = None,
    *,
    engine: dict[str, Any] = SHARED_ENGINE,
    version: str | None = None,
    as_installed: bool = False,
    in_force: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    cannot_hold: list[str] | None = None,
    **stated: Any,
) -> StudiedRuntime:
    """Return an arm as claims.json describes it; `stated` are settings of its own."""
    runtime_label, usual = RUNTIMES[runtime]
    own = dict.fromkeys(OWN_CHOICE) if as_installed else stated
    return StudiedRuntime(
        name=label or runtime,
        label=label or runtime_label,
        facts=engine,
        cannot_hold=cannot_hold or [],
        version=version or usual,
        unobservable=[],
        arm=StudiedArm(
            runtime=runtime,
            runtime_label=runtime_label,
            as_installed=as_installed,
            stated={} if as_installed else stated,
            options=options or {},
            asked=ASKED | own,
            in_force=in_force or {},
        ),
    )


OLLAMA, LLAMA_CPP = arm("ollama"), arm("llama_cpp")


def test_two_runtimes_on_one_engine_differ_by_the_wrapper() -> None:
    found = contrast_of(OLLAMA, LLAMA_CPP)
    assert found.title == "The wrapper" and found.distance == ""
    assert found.sentence == (
        f"Ollama and llama-cpp-python share {SHARED} and all settings; what differs is the program "
        "around the engine (Ollama 0.34.0 and llama-cpp-python 0.3.36), so the comparison shows "
        "what the program around the engine costs."
    )


def test_a_runtime_on_two_engines_differs_by_the_engine() -> None:
    stock = arm(
        "llama_cpp",
        "llama-cpp-python, library stock",
        engine=STOCK_ENGINE,
        options={"library": "stock"},
    )
    found = contrast_of(LLAMA_CPP, stock)
    assert found.title == "The engine"
    assert found.sentence == (
        "llama-cpp-python and llama-cpp-python (library stock) share the runtime (llama-cpp-python "
        "0.3.36) and all settings; what differs is the engine (llama.cpp b10760, sha256 "
        "5a5a5a5a5a5a and llama.cpp b11311, sha256 575757575757), by the option library (as the "
        "study has it and stock), so the comparison shows what another build of the engine changes."
    )
    assert found.distance == (
        "The llama.cpp of llama-cpp-python (library stock) is 551 builds and 42 days newer than "
        "that of llama-cpp-python."
    )


def test_a_runtime_told_its_settings_and_left_alone_differs_by_the_defaults() -> None:
    alone = arm(
        "ollama",
        "Ollama, as installed",
        as_installed=True,
        in_force={"threads": 2, "batch_size": 512, "micro_batch_size": 512, "gpu_layers": 0},
    )
    found = contrast_of(OLLAMA, alone)
    assert found.title == "The defaults"
    assert found.sentence == (
        f"Ollama and Ollama (as installed) share the runtime (Ollama 0.34.0), {SHARED} and what "
        "decides prompts and answers (context length, longest answer, greedy decoding); what "
        "differs is all other settings, which Ollama (as installed) chose itself (threads 2 and "
        "not 1; not shown: flash attention, prompt cache and KV cache), so the comparison shows "
        "what a user gets who touches nothing."
    )
    assert contrast_of(alone, OLLAMA).kind == "defaults"


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({"flash_attention": True}, "flash attention (off and on)"),
        ({"threads": 2}, "threads (1 and 2)"),
        ({"kv_cache": "q8_0"}, "KV cache (f16 and q8_0)"),
    ],
)
def test_arms_that_differ_in_one_setting_answer_what_it_changes(
    stated: dict[str, Any], words: str
) -> None:
    found = contrast_of(LLAMA_CPP, arm("llama_cpp", "llama-cpp-python, other", **stated))
    assert found.title == "One setting"
    assert f"{SHARED} and all other settings; what differs is {words}, so" in found.sentence
    assert found.sentence.endswith("shows what this one setting changes.")


def test_two_settings_are_several_at_once() -> None:
    both = arm("llama_cpp", "llama-cpp-python, both", flash_attention=True, kv_cache="q8_0")
    found = contrast_of(LLAMA_CPP, both)
    assert found.title == "Several at once"
    assert "is flash attention (off and on) and KV cache (f16 and q8_0), so" in found.sentence
    assert found.sentence.endswith("shows what these change together, and not which of them does.")
    one = arm("llama_cpp", "llama-cpp-python, flash attention on", flash_attention=True)
    assert contrast_of(one, both).kind == "setting"


def test_two_versions_of_a_runtime_differ_by_the_release_and_its_engine() -> None:
    older = arm(
        "ollama",
        "Ollama 0.31.0",
        engine=OLD_ENGINE,
        version="0.31.0",
        options={"version": "0.31.0"},
    )
    found = contrast_of(OLLAMA, older)
    assert found.title == "The release"
    assert (
        "what differs is the release (0.34.0 and 0.31.0), and with it the engine (llama.cpp "
        "b10760, sha256 5a5a5a5a5a5a and llama.cpp b9840, sha256 010101010101), so"
    ) in found.sentence
    assert found.distance == (
        "The llama.cpp of Ollama is 920 builds newer than that of Ollama 0.31.0."
    ), "days only where both dates are known"


def test_runtimes_on_two_engines_are_several_at_once() -> None:
    found = contrast_of(OLLAMA, arm("llama_cpp", engine=STOCK_ENGINE))
    assert found.title == "Several at once"
    assert "the program around the engine (" in found.sentence
    assert " and the engine (llama.cpp b10760, sha256 5a5a5a5a5a5a and llama.cpp b11311" in (
        found.sentence
    )
    assert "do not show to be one" not in found.sentence


def test_an_engine_that_is_not_told_is_not_said_to_be_the_same() -> None:
    for engine in ({}, {"simd": "FP32 INT8"}, {"llama_cpp_build": 10760}):
        found = contrast_of(OLLAMA, arm("llama_cpp", engine=engine))
        assert found.title == "Several at once"
        assert "share all settings" in found.sentence
        assert ", which the records do not show to be one, so" in found.sentence


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"llama_cpp_build": 10760}, {"llama_cpp_build": 11311, "engine_sha256": "57" * 32}),
        ({"llama_cpp_commit": "ec98e2002"}, {"llama_cpp_commit": "0c1e570"}),
    ],
)
def test_engines_are_told_apart_by_what_is_known_of_both(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    a, b = arm("llama_cpp", engine=first), arm("llama_cpp", "b", engine=second)
    found = contrast_of(a, b)
    assert found.title == "The engine" and "the engine (llama.cpp " in found.sentence


def test_an_option_alone_is_named() -> None:
    found = contrast_of(OLLAMA, arm("ollama", "Ollama, port 9", options={"port": 9}))
    assert found.title == "One option"
    assert "what differs is the option port (as the study has it and 9), so" in found.sentence


def test_a_second_option_beside_another_engine_is_a_difference_of_its_own() -> None:
    stock = {"library": "stock", "wide": True}
    found = contrast_of(LLAMA_CPP, arm("llama_cpp", "x", engine=STOCK_ENGINE, options=stock))
    assert found.title == "Several at once" and "the option wide" in found.sentence


def test_a_version_that_is_named_and_is_the_same_is_no_difference() -> None:
    named = arm("ollama", "Ollama 0.34.0", options={"version": "0.34.0"})
    found = contrast_of(OLLAMA, named)
    assert found.title == "Nothing known to differ"
    assert "what differs is nothing that the records show, so" in found.sentence


def test_two_runtimes_as_installed_differ_by_their_defaults_too() -> None:
    a, b = (arm(name, f"{name}, as installed", as_installed=True) for name in RUNTIMES)
    found = contrast_of(a, b)
    assert found.title == "Several at once"
    assert "and all other settings, which each runtime chose itself, so" in found.sentence


def test_an_engine_under_a_runtime_as_installed_is_still_one_difference() -> None:
    stock = arm("llama_cpp", "y", engine=STOCK_ENGINE, as_installed=True)
    found = contrast_of(arm("llama_cpp", "x", as_installed=True), stock)
    assert found.title == "The engine"
    assert "the rest being this runtime's own choice; what differs" in found.sentence


def test_settings_that_a_runtime_cannot_hold_limit_what_is_shared() -> None:
    found = contrast_of(arm("ollama", cannot_hold=["prompt_cache"]), LLAMA_CPP)
    assert "all settings, as far as they can hold them; what differs" in found.sentence


def test_runtimes_without_arms_are_at_the_same_settings() -> None:
    a, b = (
        StudiedRuntime(
            name=name,
            label=label,
            facts=SHARED_ENGINE,
            cannot_hold=[],
            version=version,
            unobservable=[],
        )
        for name, (label, version) in RUNTIMES.items()
    )
    assert contrast_of(a, b).sentence == contrast_of(OLLAMA, LLAMA_CPP).sentence


def test_the_table_of_builds_has_the_switches_that_differ() -> None:
    other = arm("ollama", "Other", engine={"engine_sha256": "ab" * 32})
    stock = arm("llama_cpp", "Stock", engine=STOCK_ENGINE)
    rows = builds([OLLAMA, stock, other, arm("ollama", "Silent", engine={})])
    assert [tuple(row) for row in rows] == [
        ("Ollama", "0.34.0", "b10760", "2026-08-20", "b10760", "none", "5a5a5a5a5a5a"),
        ("Stock", "0.3.36", "b11311", "2026-10-01", "0c1e570", "OPENMP", "575757575757"),
        ("Other", "0.34.0", "", "", "", "", "abababababab"),
    ]
    assert distance(OLLAMA, other) == "" == distance(OLLAMA, LLAMA_CPP)


def test_texts_are_explained_by_the_library_that_computes_them() -> None:
    stock = arm("llama_cpp", "llama-cpp-python, stock", engine=STOCK_ENGINE)
    flash = arm("llama_cpp", "llama-cpp-python, flash", flash_attention=True)
    assert why_texts([]) == ""
    assert "one library of llama.cpp, byte for byte" in why_texts([(OLLAMA, LLAMA_CPP, 1.0)])
    apart = why_texts([(OLLAMA, LLAMA_CPP, 1.0), (LLAMA_CPP, stock, 1.0)])
    assert (
        apart == "Every text is the same: where the engines round differently, no answer shows it."
    )
    told = why_texts(
        [(OLLAMA, LLAMA_CPP, 1.0), (LLAMA_CPP, stock, 0.9), (LLAMA_CPP, flash, 0.8)] * 2
    )
    assert told.startswith("Runtimes round differently")
    assert "One library computes for llama-cpp-python and llama-cpp-python (flash):" in told
    assert told.endswith("same kernels: llama-cpp-python and llama-cpp-python (stock).")
    assert "Ollama" not in told
