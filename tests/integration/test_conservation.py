"""Tasks and gaps against their window, on counters that move as a real machine's do."""

import json
import sys
from pathlib import Path

import pytest
from real_trees import on_machine
from scripted import LIMITS

PROGRAM = Path(__file__).parents[1] / "sysfs/answers.py"


def answers(count, milliseconds, layout="intel-desktop"):
    """Return what the record of so many scripted answers says on a machine with counters."""
    command = [sys.executable, str(PROGRAM), str(count), str(milliseconds)]
    done = on_machine(layout, "hz=1000", *command)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(("count", "milliseconds"), [(40, 80), (200, 4), (3, 1000)])
def test_energy_is_conserved_whatever_the_length_of_the_answers(count, milliseconds):
    seen = answers(count, milliseconds)
    assert seen["tier"] == "measured" and seen["window_j"] > 0
    assert "conservation" not in seen["broken"]
    assert seen["gaps"]["conservation"] == pytest.approx(0, abs=LIMITS.conservation)


def test_the_headline_is_that_of_the_tasks_without_the_gaps():
    seen = answers(40, 80)
    gaps_j = seen["gaps"]["energy_j"]
    assert seen["energy_j"] == pytest.approx(seen["window_j"] - gaps_j)
    assert seen["energy_j"] == pytest.approx(seen["tasks_j"], rel=LIMITS.conservation)
    assert seen["gaps"]["share"] > 0.05, "a flush prompt takes a tenth of an answer"
