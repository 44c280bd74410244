"""A real study of arms: two runtimes equal, one as installed, one with a setting of its own."""

import json

import pandas as pd
import pytest
from small_study import Tree, built_copy

from joules.core.stored import read_agreement, read_record

ARMS = {
    "ollama": {"runtime": "ollama"},
    "ollama-as-installed": {"runtime": "ollama", "settings": "as_installed"},
    "llama_cpp": {"runtime": "llama_cpp"},
    "llama_cpp-flash": {"runtime": "llama_cpp", "settings": {"flash_attention": True}},
}
CONTRASTS = [
    ["ollama", "llama_cpp"],
    ["ollama", "ollama-as-installed"],
    ["llama_cpp", "llama_cpp-flash"],
]
CHOSEN = ("threads", "batch_size", "micro_batch_size", "flash_attention", "gpu_layers", "kv_cache")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """A finished study of four arms."""
    tree = built_copy(tmp_path_factory.mktemp("arms") / "tree")
    tree.configure(runtimes=[], arms=ARMS, contrasts=CONTRASTS, models=["parrot-1m"], problems=3)
    tree.snakemake("all")
    return tree


def record_of(tree: Tree, arm: str, block: int = 1):
    return read_record(tree.folder / f"results/small/records/parrot-1m/{arm}/task/{block}.json")


def test_each_arm_has_records_of_its_own_that_say_what_it_is(finished):
    held = {name: record_of(finished, name) for name in ARMS}
    assert {name: record.arm.name for name, record in held.items()} == {n: n for n in ARMS}
    assert {name: record.runtime.name for name, record in held.items()} == {
        name: arm["runtime"] for name, arm in ARMS.items()
    }
    assert held["ollama-as-installed"].arm.label == "Ollama, as installed"
    assert held["llama_cpp-flash"].arm.label == "llama-cpp-python, flash attention on"
    equal, flash = held["llama_cpp"].settings, held["llama_cpp-flash"].settings
    assert (equal.flash_attention, flash.flash_attention) == (False, True)
    assert held["ollama"].settings == equal
    assert held["llama_cpp-flash"].settings_in_force["flash_attention"] is True


def test_what_is_as_installed_is_told_nothing_but_prompts_and_lengths(finished):
    record, equal = record_of(finished, "ollama-as-installed"), record_of(finished, "ollama")
    assert {getattr(record.settings, name) for name in CHOSEN} == {None}
    assert record.settings.context_length == equal.settings.context_length
    assert record.settings.max_tokens == equal.settings.max_tokens
    assert isinstance(record.settings_in_force["threads"], int)
    ours = [task.prompt_token_ids_sha256 for task in record.tasks]
    assert ours == [task.prompt_token_ids_sha256 for task in equal.tasks]
    agreement = read_agreement(finished.folder / "results/small/agreement/parrot-1m.json")
    assert agreement.runtimes == list(ARMS) and agreement.passed


def test_tables_and_article_speak_of_arms_and_the_contrasts_are_primary(finished):
    results = finished.folder / "results/small"
    runs = pd.read_parquet(results / "tables/runs.parquet")
    assert set(runs["runtime"]) == set(ARMS)
    comparisons = pd.read_csv(results / "statistics/comparisons.csv")
    between = comparisons[comparisons["kind"].eq("task")]
    primary = between[between["family"].eq("primary")]
    pairs = {
        frozenset(pair) for pair in zip(primary["runtime_a"], primary["runtime_b"], strict=True)
    }
    assert pairs == {frozenset(pair) for pair in CONTRASTS}
    assert len(between) == 6
    text = (results / "article/article.md").read_text()
    assert "Ollama, as installed" in text and "llama-cpp-python, flash attention on" in text
    study = json.loads((results / "claims.json").read_text())["study"]
    assert [each["name"] for each in study["runtimes"]] == list(ARMS)


def test_a_new_arm_measures_only_itself(finished, tmp_path):
    tree = finished.copy(tmp_path / "tree")
    more = ARMS | {"llama_cpp-one": {"runtime": "llama_cpp", "settings": {"threads": 1}}}
    tree.configure(runtimes=[], arms=more, contrasts=CONTRASTS, models=["parrot-1m"], problems=3)
    jobs = tree.planned("records")
    assert jobs["warm_up"] == 1
    assert "provide_runtime" not in jobs and "write_prompts" not in jobs
    done = tree.snakemake("--dry-run", "records")
    named = {
        line.split("/records/")[1].split("/")[1]
        for line in (done.stdout + done.stderr).splitlines()
        if "output:" in line and "/records/" in line
    }
    turns = {name for name in named if name != "llama_cpp-one"}
    assert named - turns == {"llama_cpp-one"} and not turns
    assert tree.planned("all")
