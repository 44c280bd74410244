"""A study whose headline is GPU energy, to its article; the GPU is scripted, as its records say.

The runtimes are llama-cpp-python on the processor under two other names: no GPU is at hand that
could compute. What counts energy is real: CodeCarbon and the own reader read NVML.
"""

import json
import os
import re
import statistics
import subprocess
import sys

import pandas as pd
import pytest
import yaml
from scripted_driver import WATTS, variables
from small_study import Tree, clean_copy

MODULE = '''"""llama-cpp-python on the processor, in place of a runtime that lets a GPU compute."""

from joules.core.inference import SettingsInForce
from joules.runtimes import llama_cpp

Worker = llama_cpp.Worker


class Runtime(llama_cpp.Runtime):
    """See `joules.runtimes.Runtime`."""

    LABEL = "{label}"

    def settings_in_force(self) -> SettingsInForce:
        """Return the layers as asked: there is no GPU to have them."""
        return super().settings_in_force() | {{"gpu_layers": self._settings.gpu_layers}}
'''
RUNTIMES = {"stand_in_a": "Stand-in A", "stand_in_b": "Stand-in B"}
BLOCKS = 2
STUDY = {
    "models": ["parrot-1m"],
    "runtimes": list(RUNTIMES),
    "blocks": BLOCKS,
    "problems": 80,  # so that a few ms of delay at the ends of their window are no part of it
    "energy": "gpu",
    "require_tier": "measured",
    "settings": {"gpu_layers": 99},
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory):
    """A copy with the two stand-ins, on a machine with the scripted GPU."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables(tmp_path_factory.mktemp("driver")).items():
            patch.setenv(name, value)
        copied = clean_copy(tmp_path_factory.mktemp("gpu") / "tree")
        options_file = copied.folder / "config/runtime_options.yaml"
        options, envs = yaml.safe_load(options_file.read_text()), copied.folder / "envs"
        for name, label in RUNTIMES.items():
            module = copied.folder / f"workflow/scripts/joules/runtimes/{name}.py"
            module.write_text(MODULE.format(label=label))
            same = (envs / "runtime-llama_cpp.yaml").read_text()
            (envs / f"runtime-{name}.yaml").write_text(same)
            options[name] = options["llama_cpp"]
        options_file.write_text(yaml.safe_dump(options))
        copied.configure(**STUDY)
        yield copied


@pytest.fixture(scope="module")
def measured(tree: Tree) -> list[dict]:
    """The records of the study."""
    tree.snakemake("records")
    files = sorted((tree.folder / "results/small/records").rglob("[0-9].json"))
    assert len(files) == 3 * BLOCKS  # two stand-ins and a control
    return [json.loads(path.read_text()) for path in files]


@pytest.fixture(scope="module")
def finished(tree: Tree, measured: list[dict]) -> Tree:
    """The study with its article."""
    tree.snakemake("all")
    return tree


def test_the_headline_of_every_record_is_what_the_scripted_counter_counted(measured):
    for record in measured:
        instrument = record["instrument"]
        assert (instrument["headline"], instrument["tier"]) == ("gpu", "measured")
        assert instrument["components"]["gpu"]["source"] == "nvml_energy_counter"
        assert instrument["components"]["gpu"]["tier"] == "measured"
        assert instrument["components"]["cpu"]["tier"] == "estimated"
        (whole,) = (window for window in record["windows"] if window["name"] == "tasks")
        without_gaps_j = whole["energy_j"]["gpu"] - record["gaps"]["energy_j"]
        assert record["energy_j"] == pytest.approx(without_gaps_j) and record["energy_j"] > 0
        assert record["gaps"]["by_component_j"]["gpu"] == pytest.approx(record["gaps"]["energy_j"])
        assert all(window["energy_j"]["cpu"] > 0 for window in record["windows"]), "stated beside"
    # The card takes 80 W at every moment. Of all tasks the middle one: a busy machine delays some.
    tasks = [task for record in measured for task in record["tasks"]]
    watts = statistics.median(task["energy_j"]["gpu"] / task["duration_s"] for task in tasks)
    assert watts == pytest.approx(WATTS, rel=0.02)


def test_both_readers_read_the_scripted_counter_and_agree(measured):
    for record in measured:
        assert set(record["cross_check"]) == {"gpu"}, (
            "the processor is modelled, and has one reader"
        )
        broken = {rule["code"] for rule in record["validity"]["codes"]}
        counters = {"cross_check", "second_reader_missing", "counter_stuck", "implausible_power"}
        assert not broken & counters
        checks = {check["code"]: check for check in record["validity"]["checks"]}
        assert all(checks[code]["not_checked"] is None for code in counters)


def test_every_record_names_the_card_as_scripted(measured):
    for record in measured:
        (card,) = record["environment"]["after"]["gpus"]
        assert (card["name"], card["driver"]) == ("Scripted GPU, no real card", "scripted")


def test_the_doctor_says_which_energy_is_counted_and_that_the_processor_is_modelled(tree):
    done = subprocess.run(
        [sys.executable, "-P", "-m", "joules.commands.doctor", "small.yaml"],
        cwd=tree.folder,
        env=os.environ | {"PYTHONPATH": "workflow/scripts"},
        capture_output=True,
        text=True,
    )
    assert "GPU energy comes from counters. The processor's energy is modelled" in done.stdout
    assert "Traceback" not in done.stderr


def test_the_tables_count_the_gpu_alone(finished, measured):
    runs = pd.read_parquet(finished.folder / "results/small/tables/runs.parquet")
    assert set(runs["headline"]) == {"gpu"}
    assert runs["energy_j"].tolist() == pytest.approx(runs["gpu_energy_j"].tolist())
    assert sorted(runs["energy_j"]) == pytest.approx(sorted(r["energy_j"] for r in measured))
    assert (runs["cpu_energy_j"] > 0).all()


@pytest.fixture(scope="module")
def article(finished: Tree) -> str:
    """The article's text."""
    return (finished.folder / "results/small/article/article.md").read_text()


def test_the_article_says_gpu_energy_and_that_the_processor_is_modelled(article):
    assert "**Energy is GPU energy alone.** GPU energy comes from counters." in article
    modelled = r"The processor.s energy is modelled \(cpu_load\), and is no part of it\."
    assert len(re.findall(modelled, article)) >= 2, "on the first page and among the limits"
    assert "What a runtime makes the processor do is in no number that is compared." in article
    assert "is what the GPU alone took for its tasks" in article
    assert "CPU plus GPU" not in article, "nowhere the headline of another study"


def test_every_caption_of_energy_says_that_it_is_the_gpu_s(article):
    figures = re.findall(r"^!\[(.*?)\]\(", article, re.MULTILINE)
    tables = re.findall(r"^: (.*)$", article, re.MULTILINE)
    said = [each for each in (*figures, *tables) if "energy" in each.lower()]
    assert len(said) > 15
    unnamed = [each for each in said if "Energy is that of the GPU alone." not in each]
    of_no_energy = ("The machine and its energy sources", "Rules fixed in advance")
    assert all(each.startswith(of_no_energy) for each in unnamed), unnamed


def test_the_article_names_the_card_as_scripted_and_what_counts_it(article):
    assert re.search(r"^\| gpu +\| Scripted GPU, no real card \(driver scripted\)", article, re.M)
    assert re.search(r"^\| energy of gpu +\| nvml_energy_counter", article, re.M)
    assert re.search(r"^\| energy of cpu +\| cpu_load", article, re.M)


def test_the_claims_of_energy_are_those_of_the_counter(finished, measured):
    held = json.loads((finished.folder / "results/small/claims.json").read_text())
    assert (held["study"]["energy"], held["study"]["tier"]) == ("gpu", "measured")
    for runtime in RUNTIMES:
        runs = [
            record
            for record in measured
            if (record["runtime"]["name"], record["kind"]) == (runtime, "task")
        ]
        mean_j = statistics.mean(run["energy_j"] / run["generated_tokens"] for run in runs)
        claim = held["claims"][f"cell.parrot-1m.{runtime}.energy_j_per_token"]
        assert claim["value"] == pytest.approx(mean_j)
