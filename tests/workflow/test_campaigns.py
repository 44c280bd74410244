"""Every committed campaign, and an older one, is whole and can be rebuilt without measuring."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from demonstration_campaigns import COMMITTED, OLDER_NAME, checkout_of
from small_study import CHECKOUT, Tree, jobs_of

from joules.core import paths
from joules.core.plan import plan_of
from joules.core.reading import archived_study, runs_of
from joules.core.record import SCHEMA
from joules.core.stored import (
    read_agreement,
    read_grade,
    read_prompts_file,
    read_record,
    read_registered,
)
from joules.write.archive import verify

CAMPAIGNS = sorted(path.parent for path in (CHECKOUT / "data/measurements").glob("*/config.yaml"))


@pytest.fixture(params=[*(folder.name for folder in CAMPAIGNS), OLDER_NAME])
def campaign(request: pytest.FixtureRequest, older: Path) -> Path:
    """The folder of each committed campaign, and that of the older one."""
    return older if request.param == OLDER_NAME else CHECKOUT / "data/measurements" / request.param


def snakemake(tree: Tree, campaign: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Snakemake in a tree that holds a campaign, as `make review` does."""
    source = f"measurements={{source: archive, campaign: {campaign}}}"
    options, targets = words[: words.index("--")], words[words.index("--") :]
    return subprocess.run(
        [*(sys.executable, "-m", "snakemake", "--cores", "1"), *options, "--config", source]
        + [*targets],
        cwd=tree.folder,
        capture_output=True,
        text=True,
    )


def with_campaign(clone: Tree, folder: Path, campaign: Path) -> Tree:
    """Return a copy of the clone that holds a campaign."""
    tree = clone.copy(folder)
    shutil.copytree(campaign, tree.folder / "data/measurements" / campaign.name)
    return tree


def test_at_least_one_campaign_is_committed():
    assert CAMPAIGNS


def test_a_campaign_is_what_was_archived_and_complete(campaign):
    verify(campaign)
    root = checkout_of(campaign)
    study = archived_study(campaign.name, root)
    for run in runs_of(study, root):
        record = read_record(paths.record_path(paths.records_folder(campaign), run))
        assert (record.model.name, record.arm_name, record.kind) == run[:3]
        grade = read_grade(paths.record_path(paths.grades_folder(campaign), run))
        assert grade.total == len(record.tasks)
    for model in study.models:
        assert read_agreement(paths.agreement_file(campaign, model)).passed
        assert read_prompts_file(paths.prompts_file(campaign, model)).prompts


@pytest.mark.parametrize("folder", CAMPAIGNS, ids=lambda folder: folder.name)
def test_a_committed_campaign_has_less_than_ten_megabytes(folder):
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 10e6


def test_the_demonstrations_campaign_is_of_records_of_today_with_entries_and_plan():
    records = [read_record(file) for file in (COMMITTED / "records").rglob("*.json")]
    assert {record.schema for record in records} == {SCHEMA}
    assert (COMMITTED / paths.CATALOGUE).is_file()
    mark = read_registered(COMMITTED / paths.REGISTRATION)
    assert all(record.registration == mark for record in records)


def test_a_campaign_is_rebuilt_without_model_runtime_or_meter(clone, tmp_path, campaign):
    tree = with_campaign(clone, tmp_path / "tree", campaign)
    done = snakemake(tree, campaign.name, "--dry-run", "--", "article", "figures")
    jobs = jobs_of(done.stdout + done.stderr)
    measuring = {"fetch_model", "provide_runtime", "write_prompts", "warm_up", "agree", "measure"}
    assert not {*measuring, "grade"} & jobs.keys()
    assert {"tabulate", "claim", "plot", "typeset"} <= jobs.keys()


CLAIMS = f"results/archive/{OLDER_NAME}/claims.json"


def test_a_campaign_of_an_older_plan_has_the_runs_of_its_own_schedule(older):
    """There all controls were of the first runtime; today they take turns."""
    root = checkout_of(older)
    runs = runs_of(archived_study(OLDER_NAME, root), root)
    assert {run.arm for run in runs if run.kind == "control"} == {"ollama"}
    assert set(runs) != set(plan_of(archived_study(OLDER_NAME, root)))


def test_a_campaign_of_older_records_is_rebuilt_by_the_method_of_today(clone, tmp_path, older):
    """Its records state the tasks window with its gaps, by which the first ratio was 1.793."""
    tree = with_campaign(clone, tmp_path / "tree", older)
    done = snakemake(tree, OLDER_NAME, "--", CLAIMS)
    assert done.returncode == 0, done.stdout + done.stderr
    table = pd.read_csv((tree.folder / CLAIMS).parent / "statistics/comparisons.csv")
    assert list(table["kind"]) == ["task", "control"] * 2 and set(table["n_blocks"]) == {5}
    ratios = table.loc[table["kind"] == "task", "ratio"]
    assert list(ratios) == pytest.approx([1.600, 1.386], abs=5e-4)
    assert set(table.loc[table["kind"] == "control", "runtime_a"]) == {"ollama"}
    claims = json.loads((tree.folder / CLAIMS).read_text(encoding="utf-8"))["claims"]
    assert {each["claimable"] for each in claims.values() if "claimable" in each} == {False}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("", None, r"schedule\.csv cannot be read \(No such file.*Import the archive again"),
        ("position,", "place,", r"schedule\.csv is no schedule\. Expected the columns position"),
        ("1,1,parrot-1m,ollama", "1,1,parrot-1m,openvino", r"does not fit.*names openvino"),
        ("5,parrot-3m", "6,parrot-3m", r"does not fit.*lacks three runs, such as parrot-3m"),
    ],
)
def test_a_campaign_without_a_fitting_schedule_is_refused(
    clone, tmp_path, older, old, new, message
):
    tree = with_campaign(clone, tmp_path / "tree", older)
    schedule = tree.folder / "data/measurements" / OLDER_NAME / "schedule.csv"
    text = schedule.read_text()
    schedule.unlink()
    if new is not None:
        assert old in text
        schedule.write_text(text.replace(old, new))
    done = snakemake(tree, OLDER_NAME, "--dry-run", "--", CLAIMS)
    assert done.returncode != 0
    shown = done.stdout + done.stderr
    assert re.search(message, shown, re.DOTALL) and "Traceback" not in shown, shown


def test_snakemake_looks_for_jobs_when_one_has_ended_and_not_by_the_clock(clone, tmp_path, older):
    tree = with_campaign(clone, tmp_path / "tree", older)
    results = f"results/archive/{OLDER_NAME}"
    models = archived_study(OLDER_NAME, checkout_of(older)).models
    targets = [f"{results}/models/{model}/summary.csv" for model in models]
    done = snakemake(tree, OLDER_NAME, "--verbose", "--", f"{results}/tables/runs.csv", *targets)
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert said.count("Ready jobs: ") == said.count("Finished jobid: ") == 1 + len(models)
