"""Every committed campaign is whole, readable and can be rebuilt without measuring."""

import shutil
import subprocess
import sys

import pytest
from small_study import CHECKOUT, jobs_of

from joules.core import paths
from joules.core.plan import plan_of
from joules.core.reading import archived_study
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
    for run in plan_of(study):
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
