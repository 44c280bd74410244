"""Runtimes' own environments: made when they are needed, and of the version that is asked for."""

import fcntl
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from joules import runtimes
from joules.core.errors import UserError
from joules.machine import virtual_environments

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder, the working one, with the repository's requirements."""
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_another_version_than_the_one_asked_for_is_refused_with_the_command() -> None:
    here = version("psutil")
    virtual_environments.provide("no_such_runtime", "psutil", here)
    with pytest.raises(UserError, match=rf"psutil {here} is installed.*expected 0\.1.*install\.sh"):
        virtual_environments.provide("no_such_runtime", "psutil", "0.1")
    with pytest.raises(UserError, match="no-such-package not at all is installed"):
        virtual_environments.provide("no_such_runtime", "no-such-package", "1")


def test_an_environment_that_cannot_be_made_is_refused_with_what_was_said(folder: Path) -> None:
    (folder / "requirements/runtime-broken.txt").write_text("no-such-package==1\n")
    with pytest.raises(
        UserError, match=r"(?s)broken could not be made: .*make runtime NAME=broken"
    ):
        virtual_environments.provide("broken", "no-such-package", "1")
    assert not (folder / ".venvs/broken/stamp").exists()


def test_a_runtime_without_an_environment_of_its_own_is_named_with_those_that_have_one(
    folder: Path,
) -> None:
    with pytest.raises(UserError, match=r"(?s)No runtime 'other'.*xllamacpp"):
        virtual_environments.make("other")


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


def test_what_runtimes_share_is_no_runtime_and_one_without_a_module_has_no_sentences() -> None:
    assert "shared" not in runtimes.names()
    assert (runtimes.description_of("gone"), runtimes.limitations_of("gone")) == ("", ())


def test_modules_of_runtimes_load_with_the_standard_library_alone() -> None:
    """Workers load them with a Python that has the runtime's packages and none of ours."""
    code = (
        "import sys; from joules import runtimes;"
        "runtimes.load(sys.argv[1]); print(sorted(sys.modules))"
    )
    for name in runtimes.names():
        done = subprocess.run(
            [sys.executable, "-c", code, name],
            env=os.environ | {"PYTHONPATH": str(ROOT / "workflow/scripts")},
            capture_output=True,
            text=True,
            check=True,
        )
        assert f"'joules.runtimes.{name}'" in done.stdout
        for package in ("msgspec", "httpx", "yaml", "requests"):
            assert f"'{package}'" not in done.stdout
