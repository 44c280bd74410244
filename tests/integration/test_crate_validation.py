"""The crate of a campaign passes the RO-Crate community's own validator, without the network."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from demonstration_campaigns import COMMITTED

from joules.core import paths
from joules.core.places import REPOSITORY
from joules.core.reading import archived_study, read_configuration, runs_of
from joules.write.archive import pack, unpack
from joules.write.crate import NAME

PYTHON = REPOSITORY / ".venvs/validator/bin/python"
DRIVER = REPOSITORY / "tests/validate_crate.py"
PROFILE = "workflow-run-crate-0.5"  # stands on three others, which are checked with it
# What is recommended and cannot be said: no record knows who started the run, and the authors have
# not said the rest. `make deposit` lists it.
OPEN = {
    "The Application SHOULD have a url",
    "The SoftwareApplication id SHOULD be an absolute URI",
    "The Action SHOULD have an agent that is a Person or Organization",
    "The `publisher` property of a `Root Data Entity` SHOULD be an `Organization`",
    "The author SHOULD have an organizational affiliation.",
    "The author SHOULD have a Contextual Entity which specifies the organizational `affiliation`.",
}


@pytest.fixture(scope="module")
def crate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed campaign, packed anew as its rule does and unpacked."""
    folder = tmp_path_factory.mktemp("crate")
    study = archived_study(COMMITTED.name)
    files = [COMMITTED / "schedule.csv"]
    for run in runs_of(study):
        files.append(paths.record_path(paths.records_folder(COMMITTED), run))
        files.append(paths.record_path(paths.grades_folder(COMMITTED), run))
    for model in study.models:
        files.append(paths.prompts_file(COMMITTED, model))
        files.append(paths.agreement_file(COMMITTED, model))
    config = read_configuration(COMMITTED / paths.CONFIGURATION)
    catalogue = yaml.safe_load((COMMITTED / paths.CATALOGUE).read_text())
    pack(COMMITTED, files, config, REPOSITORY / "CITATION.cff", folder / "c.zip", catalogue)
    return unpack(folder / "c.zip", folder)


def issues(folder: Path, severity: str) -> list[dict[str, str]]:
    done = subprocess.run(
        [str(PYTHON), "-P", str(DRIVER), str(folder), PROFILE, severity],
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, str]] = json.loads(done.stdout)
    return found


def test_a_campaign_is_a_workflow_run_crate_that_lacks_only_what_nobody_has_said(
    crate: Path,
) -> None:
    found = issues(crate, "RECOMMENDED")
    assert [each for each in found if each["severity"] == "REQUIRED"] == []
    assert {each["message"] for each in found} == OPEN


@pytest.mark.parametrize("name", sorted(each.name for each in COMMITTED.parent.glob("*/")))
def test_a_committed_campaign_is_deposited_as_a_workflow_run_crate(name: str) -> None:
    assert issues(COMMITTED.parent / name, "REQUIRED") == []


def test_the_validator_sees_a_crate_without_its_main_workflow(crate: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(crate, tmp_path / "broken")
    said = json.loads((broken / NAME).read_text())
    root = next(each for each in said["@graph"] if each["@id"] == "./")
    del root["mainEntity"]
    (broken / NAME).write_text(json.dumps(said))
    found = {each["message"] for each in issues(broken, "REQUIRED")}
    assert any("mainEntity" in message for message in found), found
