"""A study in two sittings and two clones: what is packed, put back, and not measured again."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from small_study import Tree

RESULTS = "results/small"
MODEL, RUNS = "parrot-1m", 6  # two arms and a control, two blocks
ARCHIVE = f"{RESULTS}/archive/small.unfinished.zip"


def command(tree: Tree, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", f"joules.commands.{name}", *arguments],
        cwd=tree.folder,
        env={"PYTHONPATH": str(tree.folder / "workflow/scripts"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )


def records(tree: Tree) -> dict[str, bytes]:
    folder = tree.folder / RESULTS / "records"
    found = sorted(folder.rglob("[0-9].json"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def place_model(tree: Tree, folder: Path, **changes: object) -> None:
    """Let the study take its model from a file of this machine, outside of the clone."""
    folder.mkdir()
    file = folder / "secret-name.gguf"
    shutil.copy(tree.folder / f"data/demo-model/{MODEL}.gguf", file)
    own = {MODEL: {"path": str(file)}}
    tree.configure(models=[MODEL], problems=3, catalogue=own, **changes)


@pytest.fixture(scope="module")
def begun(fresh: Tree, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """The first sitting: one block was measured, of which two runs were graded, and packed."""
    scratch = tmp_path_factory.mktemp("begun")
    tree = fresh.copy(scratch / "tree")
    place_model(tree, scratch / "models-of-a-machine")
    schedule = f"{RESULTS}/schedule.csv"
    tree.snakemake(schedule)
    rows = (tree.folder / schedule).read_text().splitlines()[1:4]
    runs = [f"{row[2]}/{row[3]}/{row[4]}/{row[1]}.json" for row in (r.split(",") for r in rows)]
    agreement = f"{RESULTS}/agreement/{MODEL}.json"
    tree.snakemake(agreement, *(f"{RESULTS}/records/{run}" for run in runs))
    tree.snakemake(*(f"{RESULTS}/grades/{run}" for run in runs[:2]))
    done = command(tree, "pack", "small.yaml")
    assert done.returncode == 0, done.stderr
    assert "3 of 6 runs are measured, 7 files are missing" in done.stdout
    return tree


@pytest.fixture(scope="module")
def went_on(begun: Tree, fresh: Tree, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """The second sitting, in another clone."""
    scratch = tmp_path_factory.mktemp("went-on")
    tree = fresh.copy(scratch / "tree")
    place_model(tree, scratch / "models-of-another-machine")
    done = command(tree, "import_campaign", str(begun.folder / ARCHIVE), "--config", "small.yaml")
    assert done.returncode == 0, done.stderr
    assert "3 runs will be taken, and not measured again" in done.stdout
    tree.output = tree.snakemake("all")  # type: ignore
    return tree


def test_an_unfinished_archive_says_what_is_missing_and_names_no_place_of_the_machine(begun):
    with zipfile.ZipFile(begun.folder / ARCHIVE) as content:
        files = {name: content.read(name) for name in content.namelist()}
    said = json.loads(files["unfinished.json"])
    assert (said["planned"], said["measured"]) == (RUNS, 3)
    assert len(said["missing"]) == 3 + 4 and not set(said["missing"]) & files.keys()
    assert {"schedule.csv", "registration.json", f"prompts/{MODEL}.jsonl"} <= files.keys()
    entry = yaml.safe_load(files["models.yaml"])["models"][MODEL]
    assert entry["path"] == f"data/demo-model/{MODEL}.gguf" and len(entry["sha256"]) == 64
    for name, content in files.items():
        for secret in (b"models-of-a-machine", b"secret-name", bytes(begun.folder)):
            assert secret not in content, name


def test_the_second_sitting_measures_the_rest_and_nothing_again(begun, went_on):
    shown = went_on.output.stdout + went_on.output.stderr
    assert len(re.findall(r"run \d of 6: .*: done in", shown)) == RUNS - 3
    assert len(re.findall("taken from the imported archive, not measured", shown)) == 3
    assert len(re.findall("taken from the imported archive, not graded", shown)) == 2
    before, after = records(begun), records(went_on)
    assert len(before) == 3 and len(after) == RUNS
    assert {name: after[name] for name in before} == before
    assert not list((went_on.folder / RESULTS / "imported").rglob("*.json"))


def test_blocks_keep_their_sitting_positions_go_on_and_the_plan_stays(begun, went_on):
    found = [json.loads(content) for content in records(went_on).values()]
    sittings = {record["repetition"]: record["session"] for record in found}
    assert len(set(sittings.values())) == 2
    assert all(record["session"] == sittings[record["repetition"]] for record in found)
    assert sorted(record["position"]["actual"] for record in found) == list(range(1, RUNS + 1))
    assert len({json.dumps(record["registration"], sort_keys=True) for record in found}) == 1
    registered = f"{RESULTS}/registration.json"
    assert (went_on.folder / registered).read_bytes() == (begun.folder / registered).read_bytes()


def test_what_was_taken_is_finished_and_a_run_that_is_asked_for_again_is_measured(
    went_on, tmp_path
):
    tree = went_on.copy(tmp_path / "tree")
    assert tree.planned("all") == {}
    record = next(iter(records(tree)))
    done = tree.snakemake("--forcerun", "measure", "--", f"{RESULTS}/records/{record}")
    assert "done in" in done.stdout + done.stderr
    assert "not measured" not in done.stdout + done.stderr


def test_a_finished_study_is_not_packed_as_unfinished(went_on):
    done = command(went_on, "pack", "small.yaml")
    assert done.returncode == 2 and "Nothing of `small` is missing" in done.stderr
    with zipfile.ZipFile(went_on.folder / RESULTS / "archive/small.zip") as content:
        files = {name: content.read(name) for name in content.namelist()}
    assert "unfinished.json" not in files
    assert f"data/demo-model/{MODEL}.gguf" in files["models.yaml"].decode()
    for name, content in files.items():
        assert b"secret-name" not in content and b"models-of-a" not in content, name


def test_another_study_and_changed_parameters_are_told_before_anything_is_measured(
    begun, fresh, tmp_path
):
    tree = fresh.copy(tmp_path / "tree")
    archive = str(begun.folder / ARCHIVE)
    done = command(tree, "import_campaign", archive)  # the demonstration's name is another
    assert done.returncode == 2 and "of the unfinished study `small`" in done.stderr
    tree.configure(models=[MODEL], problems=3, windows={"idle_s": 0.4})
    done = command(tree, "import_campaign", archive, "--config", "small.yaml")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("block 1, which differs in: windows\n") == 3
    assert "0 runs will be taken" in done.stdout


def test_a_run_that_was_measured_otherwise_is_left_out_and_a_part_is_not_reviewed(begun, tmp_path):
    tree = begun.copy(tmp_path / "tree")
    folder = tree.folder / "data/measurements/part"
    with zipfile.ZipFile(begun.folder / ARCHIVE) as content:
        content.extractall(folder)
    done = command(tree, "verify_campaign", str(folder))
    assert done.returncode == 2 and "an unfinished study: 3 of 6 runs" in done.stderr
    archived = "measurements={source: archive, campaign: part}"
    done = tree.snakemake("--dry-run", "--config", archived, "--", "article", check=False)
    assert done.returncode != 0 and "an unfinished study: 3 of 6" in done.stdout + done.stderr
    place_model(tree, tmp_path / "models", windows={"idle_s": 0.4})
    done = command(tree, "pack", "small.yaml")
    assert done.stderr.count("left out, since it was measured otherwise (windows)") == 3
    assert done.returncode == 2 and "No run of `small` is there" in done.stderr
