"""Which program a command line runs, whatever its words say."""

import pytest

from joules.machine.identity import runs_program

PYTHON = "/usr/bin/python3.11"


@pytest.mark.parametrize(
    "line",
    [
        ["snakemake", "--cores", "1"],
        ["/opt/env/bin/snakemake"],
        [PYTHON, "-m", "snakemake", "all"],
        [PYTHON, "-P", "-s", "-m", "snakemake"],
        [PYTHON, "-Im", "snakemake"],
        [PYTHON, "-X", "dev", "-W", "error", "-m", "snakemake"],
        [PYTHON, "/home/me/.venv/bin/snakemake", "--cores", "1"],
        ["python", "-u", ".venv-review/bin/snakemake"],
        ["pypy3", "/usr/bin/snakemake"],
    ],
)
def test_snakemake_is_known_by_the_program_that_runs(line):
    assert runs_program(line, "snakemake")


@pytest.mark.parametrize(
    "line",
    [
        [],
        [""],
        ["screen", "-S", "snakemake"],
        ["SCREEN", "-dmS", "snakemake", "make", "study"],
        ["tmux", "new", "-s", "snakemake"],
        ["vim", "snakemake"],
        ["code", "/home/me/snakemake"],
        ["bash", "/home/me/bin/snakemake"],
        ["bash", "-c", "snakemake --cores 1"],
        ["make", "-C", "snakemake"],
        [PYTHON, "notes.py", "snakemake"],
        [PYTHON, "-c", "import time", "snakemake"],
        [PYTHON, "-Ic", "import time", "snakemake"],
        [PYTHON, "-m", "pytest", "snakemake"],
        [PYTHON, "-X", "snakemake", "script.py"],
        [PYTHON, "/home/me/snakemake/measure.py"],
        [PYTHON],
        [PYTHON, "-m"],
        ["snakemake-monitor"],
    ],
)
def test_a_word_elsewhere_on_the_line_is_no_program(line):
    assert not runs_program(line, "snakemake")
