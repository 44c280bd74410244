"""`make deposit` in real clones: the same files from each, and clear refusals."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml
from demonstration_campaigns import COMMITTED
from small_study import Tree

from joules.write.archive import SUMS

AUTHOR = {
    f"GIT_{role}_{what}": said
    for role in ("AUTHOR", "COMMITTER")
    for what, said in (("NAME", "a"), ("EMAIL", "a@example.org"))
}
SETTLED = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, **AUTHOR}


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *words],
        env=os.environ | SETTLED,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def deposit(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Call the command as `make` does."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "joules.commands.deposit", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": "workflow/scripts"},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def origin(clone: Tree, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of all that lies here, with one campaign."""
    folder = clone.copy(tmp_path_factory.mktemp("deposit") / "origin").folder
    shutil.copytree(COMMITTED, folder / "data/measurements" / COMMITTED.name)
    git(folder, "init", "-q")
    git(folder, "add", "--all")
    git(folder, "commit", "-q", "-m", "all")
    return folder


def cloned(origin: Path, folder: Path) -> Path:
    git(origin.parent, "clone", "-q", str(origin), str(folder))
    return folder


def sums(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_two_clones_give_the_same_deposit_of_source_campaigns_and_metadata(origin, tmp_path):
    one, two = (cloned(origin, tmp_path / name) for name in ("one", "two"))
    done = deposit(one)
    assert done.returncode == 0, done.stderr
    assert deposit(two).returncode == 0
    folder = one / "results/deposit"
    made = sums(folder)
    assert made == sums(two / "results/deposit")
    named = f"{COMMITTED.name}.zip"
    version = yaml.safe_load((one / "CITATION.cff").read_text())["version"]
    source_archive = f"llm-runtime-energy-{version}.tar.gz"
    assert set(made) == {
        *(source_archive, named, ".zenodo.json", "datacite.json"),
        *("CITATION.cff", "LICENSE", "README.md", SUMS),
    }
    checked = subprocess.run(["sha256sum", "-c", "--quiet", SUMS], cwd=folder)
    assert checked.returncode == 0 and len((folder / SUMS).read_text().splitlines()) == 7
    with tarfile.open(folder / source_archive) as source:
        inside = {name.partition("/")[2] for name in source.getnames()}
    tracked = set(git(one, "ls-files").splitlines())
    assert {"Snakefile", "README.md", f"data/measurements/{COMMITTED.name}/{SUMS}"} <= tracked
    assert tracked <= inside
    with zipfile.ZipFile(folder / named) as campaign:
        assert campaign.testzip() is None
        assert campaign.read(SUMS) == (COMMITTED / SUMS).read_bytes()
    page = (folder / "README.md").read_text()
    assert git(one, "rev-parse", "HEAD").strip() in page and f"`{named}`" in page
    assert json.loads((folder / ".zenodo.json").read_text())["title"] == "llm-runtime-energy"
    said = done.stdout.partition("To be filled in by a person")[2]
    assert f"- the article of {COMMITTED.name}: make review CAMPAIGN={COMMITTED.name}" in said
    assert "- the DOI" in said and "`repository-code` in CITATION.cff" in said


def test_an_article_that_was_rebuilt_comes_along_and_an_old_deposit_goes(origin, tmp_path):
    clone = cloned(origin, tmp_path / "clone")
    article = clone / f"results/archive/{COMMITTED.name}/article/article.pdf"
    article.parent.mkdir(parents=True)
    article.write_bytes(b"%PDF-1.7")
    (clone / "results/deposit").mkdir()
    (clone / "results/deposit/of-last-year.zip").touch()
    done = deposit(clone, COMMITTED.name)
    assert done.returncode == 0, done.stderr
    folder = clone / "results/deposit"
    assert (folder / f"{COMMITTED.name}.pdf").read_bytes() == b"%PDF-1.7"
    assert not (folder / "of-last-year.zip").exists()
    assert "the article of" not in done.stdout


def test_a_filled_in_citation_is_no_longer_listed_and_changes_without_a_version_are(
    origin, tmp_path
):
    clone = cloned(origin, tmp_path / "clone")
    said = yaml.safe_load((clone / "CITATION.cff").read_text())
    said["doi"] = "10.0000/example"
    (clone / "CITATION.cff").write_text(yaml.safe_dump(said))
    git(clone, "commit", "-q", "-a", "-m", "doi")
    changes = (clone / "CHANGELOG.md").read_text()
    (clone / "CHANGELOG.md").write_text(changes.replace("\n## ", "\n## Unreleased\n\n## ", 1))
    git(clone, "commit", "-q", "-a", "-m", "more")
    done = deposit(clone)
    assert done.returncode == 0 and "`doi`" not in done.stdout and "`orcid`" in done.stdout
    assert "- a version: CHANGELOG.md begins with `Unreleased`" in done.stdout


def test_what_is_not_committed_is_refused_by_name(origin, tmp_path):
    clone = cloned(origin, tmp_path / "clone")
    (clone / "notes.txt").touch()
    (clone / "LICENSE").write_text("another")
    done = deposit(clone)
    assert done.returncode == 2 and not (clone / "results").exists()
    assert "LICENSE, notes.txt. Expected a checkout in which nothing was changed" in done.stderr


def test_a_folder_that_is_no_clone_and_an_unknown_campaign_are_refused(origin, tmp_path):
    clone = cloned(origin, tmp_path / "clone")
    done = deposit(clone, "of-last-year")
    assert done.returncode == 2 and f"Expected one of: {COMMITTED.name}" in done.stderr
    shutil.rmtree(clone / ".git")
    done = deposit(clone)
    assert done.returncode == 2 and done.stderr.startswith("error: git rev-parse failed")
    git(tmp_path, "init", "-q")
    done = deposit(clone)
    assert done.returncode == 2 and "lies in another repository" in done.stderr


def test_a_campaign_that_is_not_what_was_archived_is_refused(origin, tmp_path):
    clone = cloned(origin, tmp_path / "clone")
    (clone / f"data/measurements/{COMMITTED.name}/schedule.csv").write_text("")
    git(clone, "commit", "-q", "-a", "-m", "changed")
    done = deposit(clone)
    assert done.returncode == 2 and "schedule.csv has changed" in done.stderr
