"""Every committed campaign is whole, readable and can be rebuilt without measuring."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_study import CHECKOUT, Tree, jobs_of

from joules.core import paths
from joules.core.plan import plan_of
from joules.core.reading import archived_study, runs_of
from joules.core.stored import read_agreement, read_grade, read_prompts_file, read_record
from joules.write.archive import verify

CAMPAIGNS = sorted((CHECKOUT / "data/measurements").glob("*/config.yaml"))


def test_at_least_one_campaign_is_committed():
    assert CAMPAIGNS


@pytest.mark.parametrize("config_file", CAMPAIGNS, ids=lambda path: path.parent.name)
def test_a_campaign_is_what_was_archived_and_complete(config_file):
    folder = config_file.parent
    verify(folder)
    study = archived_study(folder.name)
    for run in runs_of(study):
        record = read_record(paths.record_path(paths.records_folder(folder), run))
        assert (record.model.name, record.runtime.name, record.kind) == run[:3]
        grade = read_grade(paths.record_path(paths.grades_folder(folder), run))
        assert grade.total == len(record.tasks)
    for model in study.models:
        assert read_agreement(paths.agreement_file(folder, model)).passed
        assert read_prompts_file(paths.prompts_file(folder, model)).prompts


@pytest.mark.parametrize("config_file", CAMPAIGNS, ids=lambda path: path.parent.name)
def test_a_campaign_is_rebuilt_without_model_runtime_or_meter(clone, tmp_path, config_file):
    name = config_file.parent.name
    tree = clone.copy(tmp_path / "tree")
    shutil.copytree(config_file.parent, tree.folder / "data/measurements" / name)
    source = f"measurements={{source: archive, campaign: {name}}}"
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "1"]
        + ["--config", source, "--", "article", "figures"],
        cwd=tree.folder,
        capture_output=True,
        text=True,
    )
    jobs = jobs_of(done.stdout + done.stderr)
    measuring = {"fetch_model", "provide_runtime", "write_prompts", "warm_up", "agree", "measure"}
    assert not {*measuring, "grade"} & jobs.keys()
    assert {"tabulate", "claim", "plot", "typeset"} <= jobs.keys()


OLDER = CHECKOUT / "data/measurements/vm-xeon-2core-2026-11-25"
REBUILD = f"measurements={{source: archive, campaign: {OLDER.name}}}"


def planned(tree: Tree) -> subprocess.CompletedProcess[str]:
    """Plan the statistics of the older campaign in a tree that holds it."""
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "1"]
    return subprocess.run(
        [*command, "--config", REBUILD, "--", f"results/archive/{OLDER.name}/claims.json"],
        cwd=tree.folder,
        capture_output=True,
        text=True,
    )


def with_campaign(clone: Tree, folder: Path) -> tuple[Tree, Path]:
    """Return a copy of the clone that holds the older campaign, and the campaign's schedule."""
    tree = clone.copy(folder)
    campaign = tree.folder / "data/measurements" / OLDER.name
    shutil.copytree(OLDER, campaign)
    return tree, campaign / "schedule.csv"


def test_a_campaign_of_an_older_plan_has_the_runs_of_its_own_schedule(clone, tmp_path):
    """There all controls were of the first runtime; today they take turns."""
    runs = runs_of(archived_study(OLDER.name))
    assert {run.arm for run in runs if run.kind == "control"} == {"ollama"}
    assert set(runs) != set(plan_of(archived_study(OLDER.name)))
    tree, _ = with_campaign(clone, tmp_path / "tree")
    done = planned(tree)
    assert done.returncode == 0, done.stdout + done.stderr
    assert jobs_of(done.stdout + done.stderr)["tabulate"] == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("", None, r"schedule\.csv cannot be read \(No such file.*Import the archive again"),
        ("position,", "place,", r"schedule\.csv is no schedule\. Expected the columns position"),
        ("1,1,parrot-1m,ollama", "1,1,parrot-1m,openvino", r"does not fit.*names openvino"),
        ("5,parrot-3m", "6,parrot-3m", r"does not fit.*lacks three runs, such as parrot-3m"),
    ],
)
def test_a_campaign_without_a_fitting_schedule_is_refused(clone, tmp_path, old, new, message):
    tree, schedule = with_campaign(clone, tmp_path / "tree")
    text = schedule.read_text()
    schedule.unlink()
    if new is not None:
        assert old in text
        schedule.write_text(text.replace(old, new))
    done = planned(tree)
    assert done.returncode != 0
    shown = done.stdout + done.stderr
    assert re.search(message, shown, re.DOTALL) and "Traceback" not in shown, shown


def test_snakemake_looks_for_jobs_when_one_has_ended_and_not_by_the_clock(clone, tmp_path):
    tree, _ = with_campaign(clone, tmp_path / "tree")
    results = f"results/archive/{OLDER.name}"
    models = archived_study(OLDER.name).models
    targets = [f"{results}/models/{model}/summary.csv" for model in models]
    command = [sys.executable, "-m", "snakemake", "--verbose", "--cores", "1", "--config", REBUILD]
    done = subprocess.run(
        [*command, "--", f"{results}/tables/runs.csv", *targets],
        cwd=tree.folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert said.count("Ready jobs: ") == said.count("Finished jobid: ") == 1 + len(models)
