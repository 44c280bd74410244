"""Every kind of run, for real: until the end of text, of fixed length, the control, for quality."""

import json
import shutil

import pandas as pd
import pytest
import yaml
from endless_model import add_endless
from small_study import Tree, built_copy

KINDS = ["task", "fixed", "control", "quality"]
STUDY = {
    "problems": 3,
    "kinds": KINDS,
    "settings": {"max_tokens": "catalogue"},
    "windows": {"preflight_s": 0.1, "idle_s": 0.2, "rest_s": 0},
    "settle": {"limit": 0.02, "seconds": 0.1},
}

CANNOT_IGNORE = """
from joules.runtimes.llama_cpp import Runtime as Whole
from joules.runtimes.llama_cpp import Worker as Worker

class Runtime(Whole):
    CANNOT_HOLD = frozenset({"ignore_eos"})
"""


def with_endless_model(tree: Tree) -> None:
    """Add a bundled model that never ends an answer to the tree's catalogue; limit its answers."""
    add_endless(tree, "parrot-1m", "endless")
    path = tree.folder / "config/models.yaml"
    catalogue = yaml.safe_load(path.read_text())
    catalogue["prompt_styles"]["base"] = {"cut": "stop_strings", "max_tokens": 48}
    path.write_text(yaml.safe_dump(catalogue))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """A finished study of all four kinds on both runtimes."""
    tree = built_copy(tmp_path_factory.mktemp("kinds") / "tree")
    with_endless_model(tree)
    tree.configure(**STUDY, models=["endless"])
    tree.snakemake("all")
    return tree


def test_each_kind_of_run_is_measured_and_has_its_energy_per_token(finished):
    results = finished.folder / "results/small"
    runs = pd.read_parquet(results / "tables/runs.parquet")
    counted = runs.groupby(["kind", "runtime"]).size().to_dict()
    assert counted == {
        ("task", "ollama"): 2,
        ("task", "llama_cpp"): 2,
        ("fixed", "ollama"): 2,
        ("fixed", "llama_cpp"): 2,
        ("control", "ollama"): 1,
        ("control", "llama_cpp"): 1,
        ("quality", "ollama"): 1,
        ("quality", "llama_cpp"): 1,
    }
    assert set(runs.loc[runs["kind"] == "quality", "tasks"]) == {164}
    assert set(runs.loc[runs["kind"] != "quality", "tasks"]) == {3}
    claims = json.loads((results / "claims.json").read_text())["claims"]
    for kind in ("task", "fixed", "quality"):
        for runtime in ("ollama", "llama_cpp"):
            assert claims[f"kind.{kind}.endless.{runtime}.energy_j_per_token"]["value"] > 0
    assert claims["fixed.endless.ollama.llama_cpp.n_blocks"]["value"] == 2


def test_every_record_names_how_the_model_was_asked_and_its_answers_end(finished):
    records = (finished.folder / "results/small/records").rglob("[0-9].json")
    named = {(json.loads(path.read_text())["protocol"]) for path in records}
    assert named == {"base-unchanged-stop_strings-48"}


def test_runs_of_fixed_length_are_of_that_length_and_quality_comes_last(finished):
    results = finished.folder / "results/small"
    records = [json.loads(path.read_text()) for path in (results / "records").rglob("[0-9].json")]
    for record in records:
        if record["kind"] == "fixed":
            assert {task["generated_tokens"] for task in record["tasks"]} == {48}
            checks = {check["code"]: check for check in record["validity"]["checks"]}
            assert checks["not_fixed_length"]["seen"] == 0
    last = [r["position"]["actual"] for r in records if r["kind"] == "quality"]
    others = [r["position"]["actual"] for r in records if r["kind"] != "quality"]
    assert min(last) > max(others)


def test_the_article_says_which_question_each_kind_answers(finished):
    text = (finished.folder / "results/small/article/article.md").read_text()
    assert "Energy per token by kind of run" in text
    for kind in ("task", "fixed", "quality"):
        assert f"*{kind}*:" in text


def test_a_runtime_that_cannot_ignore_the_end_of_text_is_refused_before_anything_runs(finished):
    module = finished.folder / "workflow/scripts/joules/runtimes/third.py"
    module.write_text(CANNOT_IGNORE)
    envs = finished.folder / "envs"
    shutil.copy(envs / "runtime-llama_cpp.yaml", envs / "runtime-third.yaml")
    options = yaml.safe_load((finished.folder / "config/runtime_options.yaml").read_text())
    study = STUDY | {"study": "refused", "runtimes": ["third"]}
    study |= {"runtime_options": {"third": options["llama_cpp"]}}
    finished.configure(**study, models=["parrot-1m"])
    done = finished.snakemake("records", check=False)
    assert done.returncode != 0
    assert "The runtime third cannot hold ignore_eos" in done.stdout + done.stderr
    assert not list((finished.folder / "results/refused").rglob("records/**/*.json"))
