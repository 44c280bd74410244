"""Runtimes' own environments: made when they are needed, and of the version that is asked for."""

import fcntl
import os
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from joules import environments
from joules.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder, the working one, with the repository's requirements."""
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_another_version_than_the_one_asked_for_is_refused_with_the_command() -> None:
    here = version("psutil")
    environments.provide("no_such_runtime", "psutil", here)
    with pytest.raises(UserError, match=rf"psutil {here} is installed.*expected 0\.1.*install\.sh"):
        environments.provide("no_such_runtime", "psutil", "0.1")
    with pytest.raises(UserError, match="no-such-package not at all is installed"):
        environments.provide("no_such_runtime", "no-such-package", "1")


def test_an_environment_that_cannot_be_made_is_refused_with_what_was_said(folder: Path) -> None:
    (folder / "requirements/runtime-broken.txt").write_text("no-such-package==1\n")
    with pytest.raises(
        UserError, match=r"(?s)broken could not be made: .*make runtime NAME=broken"
    ):
        environments.provide("broken", "no-such-package", "1")
    assert not (folder / ".venvs/broken/stamp").exists()


def test_a_runtime_without_an_environment_of_its_own_is_named_with_those_that_have_one(
    folder: Path,
) -> None:
    with pytest.raises(UserError, match=r"(?s)No runtime 'other'.*xllamacpp"):
        environments.make("other")


@pytest.mark.skipif(shutil.which("flock") is None, reason="there is no flock command")
def test_two_installations_in_one_folder_take_turns(folder: Path) -> None:
    (folder / ".wheels").mkdir()
    with open(folder / ".wheels/lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = subprocess.Popen(
            ["requirements/install.sh", "runtime", "other"], stderr=subprocess.PIPE, text=True
        )
        with pytest.raises(subprocess.TimeoutExpired):
            second.wait(1)
    assert "No runtime 'other'" in second.communicate(timeout=60)[1]
    assert second.returncode == os.EX_USAGE
