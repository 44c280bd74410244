"""Every formatter and linter of the project, as it would be called by hand."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from joules.core.places import REPOSITORY

ROOT = REPOSITORY
BIN = Path(sys.executable).parent

CHECKS = {
    "ruff finds nothing": ["ruff", "check", "."],
    "ruff would format nothing": ["ruff", "format", "--check", "."],
    "snakefmt would format nothing": [
        "snakefmt",
        "--check",
        "--compact-diff",
        "Snakefile",
        "workflow",
    ],
    "the workflow passes Snakemake's lint": ["snakemake", "--lint"],
    "the types are consistent": ["mypy"],
    "a room imports only from the rooms above it": ["lint-imports", "--no-logo"],
}


@pytest.mark.parametrize("command", CHECKS.values(), ids=CHECKS.keys())
def test_the_house_style_holds(command: list[str]) -> None:
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": "workflow/scripts"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
