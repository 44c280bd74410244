"""The Containerfile, what is sent to it, and the commands that the manual gives for it."""

import re
from pathlib import Path

import pytest
from requirement_files import ROOT

CONTAINERFILE = (ROOT / "Containerfile").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
MANUAL = (ROOT / "docs/reviewing.md").read_text(encoding="utf-8")
LEFT_OUT = {
    line.removeprefix("**/").rstrip("/")
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
}


def instructions(name: str) -> list[str]:
    """Return what stands behind each instruction of a kind, with its further lines."""
    joined = re.sub(r"\\\n\s*", "", CONTAINERFILE)
    return re.findall(rf"^{name} (.+)$", joined, re.M)


def section() -> str:
    """Return the section of the manual on containers."""
    _, _, behind = MANUAL.partition("\n## In a container\n")
    assert behind
    return behind.partition("\n## ")[0]


def recipe_of(target: str) -> str:
    """Return the recipe of a target of the Makefile."""
    found = re.search(rf"^{target}:\n((?:\t.*\n)+)", MAKEFILE, re.M)
    assert found, target
    return found[1]


def test_the_base_is_fixed_by_tag_and_digest() -> None:
    (base,) = [line for line in instructions("ARG") if line.startswith("BASE=")]
    assert re.fullmatch(r"BASE=docker\.io/library/[a-z]+:[\w.-]+@sha256:[0-9a-f]{64}", base)
    assert instructions("FROM") == ["${BASE}"]


def test_what_is_copied_is_there_and_is_not_left_out() -> None:
    copied = [word for line in instructions("COPY") for word in line.split()[1:-1]]
    assert {"requirements", "."} <= set(copied)
    for name in copied:
        assert (ROOT / name).exists(), name
        assert not LEFT_OUT & set(Path(name).parts), name


def test_what_is_installed_first_reads_only_what_was_copied_by_then() -> None:
    before = CONTAINERFILE.partition("install.sh review")[0]
    install = (ROOT / "requirements/install.sh").read_text(encoding="utf-8")
    modules = re.findall(r"workflow/scripts/\S+\.py", install)
    assert modules == ["workflow/scripts/joules/machine/pip_settings.py"]
    assert f"COPY --chown=reviewer:reviewer {modules[0]} {Path(modules[0]).parent}/" in before
    assert "COPY --chown=reviewer:reviewer requirements requirements" in before


def test_nothing_that_git_ignores_is_sent_to_the_builder() -> None:
    lines = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    ignored = {line.strip("/") for line in lines if line and not line.startswith("#")}
    assert ".git" in LEFT_OUT
    assert ignored <= LEFT_OUT


@pytest.mark.parametrize("program", ["podman", "docker"])
def test_the_manual_builds_the_image_and_mounts_where_the_image_writes(program: str) -> None:
    (folder,) = instructions("WORKDIR")
    builds = re.findall(rf"^    ({program} build .+)$", section(), re.M)
    runs = re.findall(rf"^    ({program} run .+)$", section(), re.M)
    assert builds and runs
    for line in builds:
        assert line in CONTAINERFILE
    for line in runs:
        image = builds[0].split(" -t ")[1].split()[0]
        flags, _, words = line.partition(f" {image} ")
        assert f'-v "$PWD/results:{folder}/results"' in flags and "--network none" in flags
        assert "$(install) review" in recipe_of(words.split()[0])


def test_every_command_of_the_image_that_the_manual_names_needs_the_analysis_alone() -> None:
    assert instructions("ENTRYPOINT") == ['["make"]']
    named = re.findall(r"`(\w+) [A-Z]+=", section())
    assert "grade" in named
    for target in named:
        assert "$(install) review" in recipe_of(target)


def test_the_trial_is_run_by_make_and_names_the_files_that_it_runs() -> None:
    script = (ROOT / "tests/container/build.sh").read_text(encoding="utf-8")
    assert "tests/container/build.sh" in recipe_of("trial-container")
    named = set(re.findall(r"\btests/[\w/]+\.py\b", script))
    assert named == {"tests/container/trial.py", "tests/hostile_run.py"}
    assert all((ROOT / name).is_file() for name in named)
