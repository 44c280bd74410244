"""A further runtime is its module, its environment file and its key in the config, and no more."""

import os
import subprocess
import sys

import pandas as pd
import pytest
import yaml
from small_study import Tree

MODULE = '''"""llama-cpp-python under another name, as a runtime that nobody knows yet."""

from joules.runtimes import llama_cpp

Worker = llama_cpp.Worker


class Runtime(llama_cpp.Runtime):
    """A runtime that no other file names; see `joules.runtimes.Runtime`."""

    LABEL = "Scratch runtime"
    DESCRIPTION = "The scratch runtime is described by its own module."
    LIMITATIONS = ("The scratch runtime has a limit of its own.",)
'''


@pytest.fixture(scope="module")
def compared(fresh: Tree, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """A finished study of a known runtime and the new one, in a copy with nothing else changed."""
    tree = fresh.copy(tmp_path_factory.mktemp("new") / "tree")
    (tree.folder / "workflow/scripts/joules/runtimes/scratch.py").write_text(MODULE)
    envs = tree.folder / "envs"
    (envs / "runtime-scratch.yaml").write_text((envs / "runtime-llama_cpp.yaml").read_text())
    path = tree.folder / "config/runtime_options.yaml"
    options = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(options | {"scratch": options["llama_cpp"]}))
    tree.configure(models=["parrot-1m"], runtimes=["llama_cpp", "scratch"], problems=3)
    tree.snakemake("all")
    return tree


def test_a_new_runtime_is_compared(compared):
    results = compared.folder / "results/small"
    pairs = pd.read_csv(results / "statistics/comparisons.csv")
    task = pairs[pairs["kind"] == "task"].iloc[0]
    assert (task["runtime_a"], task["runtime_b"], task["n_blocks"]) == ("llama_cpp", "scratch", 2)
    assert task["ratio"] > 0


def test_a_new_runtime_is_described_by_its_own_module(compared):
    text = (compared.folder / "results/small/article/article.md").read_text()
    assert "The scratch runtime is described by its own module." in text
    assert "The scratch runtime has a limit of its own." in text
    assert "llama-cpp-python / Scratch runtime" in text


def test_a_new_runtime_is_drawn(compared):
    figures = compared.folder / "results/small/figures"
    assert (figures / "ratios.svg").stat().st_size > 1000
    # The letters of an SVG are paths; those of the PDF are text behind a compression.
    assert (compared.folder / "results/small/article/article.pdf").read_bytes().startswith(b"%PDF-")
    html = (compared.folder / "results/small/article/article.html").read_text()
    assert "records/parrot-1m/scratch/task/1.json" in html


def test_the_doctor_and_the_forecast_know_a_new_runtime(compared):

    for command in ("doctor", "forecast"):
        done = subprocess.run(
            [sys.executable, "-P", "-m", f"joules.commands.{command}", "small.yaml"],
            cwd=compared.folder,
            env=os.environ | {"PYTHONPATH": "workflow/scripts"},
            capture_output=True,
            text=True,
        )
        assert "Traceback" not in done.stderr
        assert command == "forecast" or "Scratch runtime" in done.stdout
