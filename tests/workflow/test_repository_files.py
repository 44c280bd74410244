"""Files about the repository itself: what git converts, and what hooks and services call."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from requirement_files import ROOT, asked_in

BIN = Path(sys.executable).parent
GIT = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org"}
GIT |= {"GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.org"}
CONVERTING = ("git", "-c", "core.autocrlf=true", "-c", "core.safecrlf=false")


def git(folder: Path, *words: str, given: str = "") -> str:
    """Return what a git that converts line ends prints; the repository is below `folder`."""
    alone = {"GIT_DIR": str(folder / "git"), "GIT_WORK_TREE": str(ROOT), **GIT}
    alone |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    done = subprocess.run(
        [*CONVERTING, *words],
        input=given,
        env=os.environ | alone,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a repository `git` of all that lies here and is not ignored, committed."""
    folder = tmp_path_factory.mktemp("attributes")
    git(folder, "init", "-q")
    git(folder, "add", "--all")
    git(folder, "commit", "-q", "-m", "all")
    return folder


def files_of(committed: Path) -> list[str]:
    return git(committed, "ls-files", "-z").rstrip("\0").split("\0")


def test_a_clone_by_a_git_that_converts_line_ends_has_the_same_bytes(committed: Path) -> None:
    clone = committed / "clone"
    subprocess.run(
        [*CONVERTING, "clone", "-q", str(committed / "git"), str(clone)],
        env=os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull},
        check=True,
    )
    files = files_of(committed)
    kinds = {Path(name).suffix for name in files}
    assert {".py", ".sh", ".txt", ".json", ".jsonl", ".gguf", ".csv", ".yaml", ".smk"} <= kinds
    different = [
        name for name in files if (clone / name).read_bytes() != (ROOT / name).read_bytes()
    ]
    assert not different


def test_git_converts_nothing_that_sums_are_taken_of_and_gives_text_unix_line_ends(
    committed: Path,
) -> None:
    files = files_of(committed)
    names = "\0".join(files) + "\0"
    words = git(committed, "check-attr", "-z", "--stdin", "text", "eol", given=names).split("\0")
    attributes: dict[str, dict[str, str]] = {name: {} for name in files}
    for name, attribute, value in zip(words[::3], words[1::3], words[2::3], strict=False):
        attributes[name][attribute] = value
    kept = {name for name, each in attributes.items() if each["text"] == "unset"}
    summed = {name for name in files if name.startswith(("data/", "tests/data/"))}
    assert summed and summed <= kept
    wrong = [name for name in files if name not in kept and attributes[name]["eol"] != "lf"]
    assert not wrong
    held = [name for name in files if b"\0" in (ROOT / name).read_bytes()]
    assert held and set(held) <= kept  # what is no text is never converted


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_every_hook_calls_a_tool_that_is_pinned_for_the_tests() -> None:
    (repository,) = read(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    tools = {re.match(r"\.venv/bin/(\S+)", hook["entry"])[1] for hook in repository["hooks"]}
    assert tools == {"ruff", "snakefmt", "mypy"}
    assert tools <= set(asked_in(ROOT / "requirements/test.in"))
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        done = subprocess.run(
            [BIN / hook["entry"].split()[0].removeprefix(".venv/bin/"), "--version"],
            capture_output=True,
        )
        assert done.returncode == 0


def test_the_service_runs_commands_that_exist_on_every_python_that_is_supported() -> None:
    jobs = read(".github/workflows/tests.yml")["jobs"]
    lines = [step.get("run", "") for job in jobs.values() for step in job["steps"]]
    targets = {target for line in lines for target in re.findall(r"\bmake ([a-z-]+)", line)}
    assert {"quick", "test", "all"} == targets
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert targets <= set(re.findall(r"^([a-z-]+):", makefile, re.M))
    install = (ROOT / "requirements/install.sh").read_text(encoding="utf-8")
    supported = re.search(r"\(3, (\d+)\) <= sys\.version_info\[:2\] <= \(3, (\d+)\)", install)
    assert supported
    versions = [f"3.{n}" for n in range(int(supported[1]), int(supported[2]) + 1)]
    assert jobs["quick"]["strategy"]["matrix"]["python"] == versions
    used = {step["uses"] for job in jobs.values() for step in job["steps"] if "uses" in step}
    assert used
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", each) for each in used)


def test_the_catalogue_of_workflows_is_told_what_the_rules_offer() -> None:
    usage = read(".snakemake-workflow-catalog.yml")["usage"]
    assert usage["software-stack-deployment"] == {"conda": True}
    assert usage["mandatory-flags"]["flags"] is None
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    assert usage["report"] is ("report(" in rules)
