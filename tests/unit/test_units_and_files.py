"""Units, atomic files, the schedule."""

import json
import math
import os
import subprocess
import sys
import textwrap
from collections import Counter

import pytest

from joules.core import files, plan
from joules.core.errors import UserError
from joules.core.places import REPOSITORY
from joules.core.units import counter_delta_uj, joule_from_kwh

SCRIPTS = REPOSITORY / "workflow/scripts"


def test_a_kilowatt_hour_is_three_point_six_megajoule():
    assert joule_from_kwh(1.0) == 3.6e6


def test_one_wrap_of_a_counter_is_corrected():
    assert counter_delta_uj(100, 250, 1000) == 150
    assert counter_delta_uj(900, 100, 1000) == 200


def test_a_full_disk_is_named_and_the_old_file_stays(tmp_path, monkeypatch):
    target = tmp_path / "record.json"
    files.write_json(target, {"a": 1})

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"disk is full.*record\.json.*Free some space"):
        files.write_json(target, {"a": 2})
    assert json.loads(target.read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["record.json"]


def test_a_really_full_file_system_loses_no_record(tmp_path):
    """A file system of 64 KiB, where the machine lets us mount one."""
    script = textwrap.dedent(
        """
        import sys
        from joules.core.files import write_json
        from joules.core.errors import UserError
        folder = sys.argv[1]
        write_json(f"{folder}/first.json", {"a": 1})
        try:
            write_json(f"{folder}/second.json", {"a": "x" * 200_000})
        except UserError as error:
            print(error)
            sys.exit(3)
        """
    )
    mount = f"mount -t tmpfs -o size=64k tmpfs {tmp_path} && exec {sys.executable} - {tmp_path}"
    probe = subprocess.run(["unshare", "-rm", "true"], capture_output=True)
    if probe.returncode != 0:
        pytest.skip("this machine allows no mount namespace")
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", f"{mount} && true"],
        input=script,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(SCRIPTS)},
    )
    assert done.returncode == 3, done.stderr
    assert "disk is full" in done.stdout


def test_floats_are_written_with_nine_digits_and_nan_as_null():
    text = files.to_json({"b": 1 / 3, "a": [math.nan, 2], "c": True})
    assert json.loads(text) == {"a": [None, 2], "b": 0.333333333, "c": True}
    assert text.index('"a"') < text.index('"b"')


def test_lone_surrogates_survive_a_round_trip(tmp_path):
    files.write_json(tmp_path / "x.json", {"text": "\ud800 ok"})
    assert files.read_json(tmp_path / "x.json") == {"text": "\ud800 ok"}


def test_a_file_that_is_not_json_is_named(tmp_path):
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        files.read_json(tmp_path / "x.json")


PLAN = {"models": ["m", "n"], "arms": ["a", "b"], "kinds": ["task", "control"], "seed": 7}


@pytest.mark.parametrize("seed", range(25))
def test_every_block_holds_every_cell_once_whatever_the_seed(seed):
    runs = plan.plan(**{**PLAN, "seed": seed}, blocks=4)
    for block in range(1, 5):
        own = [run for run in runs if run.repetition == block]
        cells = Counter(run[:3] for run in own if run.kind != "control")
        assert cells == Counter((m, r, "task") for m in "mn" for r in "ab")
        # Two models, each with the control of another runtime.
        controls = {run.model: run.arm for run in own if run.kind == "control"}
        assert len(own) == 6
        assert sorted(controls.values()) == ["a", "b"]
    assert [run.repetition for run in runs] == sorted(run.repetition for run in runs)


def test_more_blocks_leave_the_old_order_as_it_was():
    three, five = plan.plan(**PLAN, blocks=3), plan.plan(**PLAN, blocks=5)
    assert five[: len(three)] == three


def test_blocks_differ_in_order_and_seeds_give_different_orders():
    runs = plan.plan(**PLAN, blocks=6)
    orders = {tuple(run[:3] for run in runs if run.repetition == b) for b in range(1, 7)}
    assert len(orders) > 1
    assert runs != plan.plan(**{**PLAN, "seed": 8}, blocks=6)


def test_quality_runs_follow_the_last_block():
    runs = plan.plan(**{**PLAN, "kinds": ["task", "quality"]}, blocks=2)
    assert [run.kind for run in runs[-4:]] == ["quality"] * 4
    assert all(run.kind == "task" for run in runs[:-4])


def test_the_schedule_is_written_for_people():
    runs = plan.plan(**PLAN, blocks=1)
    lines = plan.to_csv(runs).splitlines()
    assert lines[0] == "position,block,model,runtime,kind"
    assert len(lines) == 7
