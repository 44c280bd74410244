"""`make register`, and the plan that a study keeps: files of a clean copy, the real command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from small_study import Tree, clean_copy
from synthetic import make_record

from joules.core import paths, registering, stored
from joules.core.errors import UserError
from joules.core.plan import Run
from joules.core.reading import load_study
from joules.core.registration import Plan, Registered, differing
from joules.core.study import Study
from joules.inputs.study_plan import study_plan
from joules.write.registered import registration_of

FILE = "results/small/registration.json"


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """A clean copy of the repository with the small study's configuration."""
    tree = clean_copy(tmp_path_factory.mktemp("clean") / "tree")
    tree.configure()
    return tree


@pytest.fixture
def tree(clean: Tree, tmp_path: Path) -> Tree:
    return clean.copy(tmp_path / "tree")


def register(tree: Tree) -> subprocess.CompletedProcess[str]:
    """Run the command as make does, in the copy and with its package."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "joules.commands.register", "small.yaml"],
        cwd=tree.folder,
        env=os.environ | {"PYTHONPATH": "workflow/scripts"},
        capture_output=True,
        text=True,
    )


def registered(tree: Tree) -> Registered:
    return stored.read_registered(tree.folder / FILE)


def plan_of(tree: Tree) -> Plan:
    loaded = load_study(tree.folder / "small.yaml", tree.folder)
    return study_plan(loaded.study, loaded.catalogue, tree.folder)


def finish_a_run(tree: Tree, mark: Registered | None, attempt: int | None = None) -> Path:
    """Leave a finished run of the study, as measuring would; its path."""
    study: Study = load_study(tree.folder / "small.yaml", tree.folder).study
    run = Run("parrot-1m", "ollama", "task", 1)
    record = msgspec.structs.replace(make_record(run, 1, 12, study), registration=mark)
    place = paths.record_path(paths.records_folder(tree.folder / "results/small"), run)
    file = paths.invalid_attempt_path(place, attempt) if attempt else place
    stored.write_record(file, record)
    return file


def test_the_plan_lies_there_to_be_read_and_its_hash_and_date_are_printed(tree):
    done = register(tree)
    assert (done.returncode, done.stderr) == (0, "")
    mark = registered(tree)
    said = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert said == {"plan": mark.sha256, "registered": mark.registered_on, "readable": FILE}
    plan = json.loads((tree.folder / FILE).read_text())["plan"]
    assert plan["blocks"] == 2 and plan["problems"] == 5 and plan["margin"] == 0.05
    assert plan["compared"]["contrasts"] == [["llama_cpp", "ollama"]]
    assert plan["limits"]["limits"]["flag_only"] is True
    assert differing(mark, plan_of(tree)) == []


def test_registering_twice_keeps_the_first_date(tree):
    assert register(tree).returncode == 0
    before = (tree.folder / FILE).read_bytes()
    again = register(tree)
    assert again.returncode == 0 and "replaces" not in again.stdout
    assert (tree.folder / FILE).read_bytes() == before


def test_a_comment_and_another_order_of_keys_change_nothing(tree):
    register(tree)
    lines = (tree.folder / "small.yaml").read_text()
    blocks = next(line for line in lines.splitlines() if line.startswith("blocks:"))
    turned = "# A comment.\n" + lines.replace(f"{blocks}\n", "") + f"{blocks}  # the sample size\n"
    (tree.folder / "small.yaml").write_text(turned)
    assert "replaces" not in register(tree).stdout


def test_before_anything_was_measured_another_plan_takes_its_place_and_says_so(tree):
    register(tree)
    first = registered(tree)
    tree.configure(blocks=3, problems=6)
    done = register(tree)
    assert done.returncode == 0
    assert (
        f"replaces the plan of {first.registered_on}, from which it differs in the number of "
        "blocks and the problems"
    ) in done.stdout
    assert registered(tree).parts["blocks"] != first.parts["blocks"]


@pytest.mark.parametrize("attempt", [None, 1])
def test_once_a_run_was_finished_no_other_plan_takes_its_place(tree, attempt):
    register(tree)
    finish_a_run(tree, registered(tree), attempt)
    before = (tree.folder / FILE).read_bytes()
    assert register(tree).returncode == 0
    tree.configure(blocks=3)
    done = register(tree)
    assert (done.returncode, done.stdout) == (2, "")
    assert "this plan differs in the number of blocks. The registration stays." in done.stderr
    assert "another name" in done.stderr
    assert (tree.folder / FILE).read_bytes() == before


def test_a_study_that_was_measured_without_a_plan_gets_none_afterwards(tree):
    finish_a_run(tree, None)
    done = register(tree)
    assert done.returncode == 2 and "without a registered plan" in done.stderr
    assert not (tree.folder / FILE).exists()
    results = tree.folder / "results/small"
    assert registering.to_register(results, "small", plan_of(tree)) is None
    assert registering.mark_of_study(results) is None


def test_a_registration_that_was_deleted_comes_back_from_the_records_with_its_date(tree):
    register(tree)
    before, mark = (tree.folder / FILE).read_bytes(), registered(tree)
    finish_a_run(tree, mark)
    (tree.folder / FILE).unlink()
    assert register(tree).returncode == 0
    assert (tree.folder / FILE).read_bytes() == before
    (tree.folder / FILE).unlink()
    tree.configure(blocks=3)
    assert "differs in the number of blocks" in register(tree).stderr
    results = tree.folder / "results/small"
    assert registering.to_register(results, "small", plan_of(tree)) is None
    assert registering.mark_of_study(results) == mark


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [('"blocks": 2', '"blocks": 3', "blocks"), ('"alpha": 0.05', '"alpha": 0.5', "tests")],
)
def test_a_registration_that_was_edited_by_hand_is_refused_by_the_name_of_the_part(
    tree, old, new, part
):
    register(tree)
    text = (tree.folder / FILE).read_text()
    assert text.count(old) == 1
    (tree.folder / FILE).write_text(text.replace(old, new))
    with pytest.raises(UserError, match=f"changed since it was written: {part}"):
        registered(tree)
    done = register(tree)
    assert done.returncode == 2 and f"changed since it was written: {part}" in done.stderr


@pytest.mark.parametrize(
    ("file", "edit"),
    [
        ("analyse/power.py", lambda path: path.write_text(path.read_text() + "\n")),
        ("analyse/more.py", lambda path: path.write_text("")),
        ("analyse/drift.py", lambda path: path.unlink()),
        ("core/record.py", lambda path: path.write_text(path.read_text() + "\n")),
    ],
)
def test_a_changed_a_new_and_a_missing_file_of_the_analysis_show(tree, file, edit):
    register(tree)
    record = finish_a_run(tree, registered(tree))
    before = registration_of([record], msgspec.to_builtins(plan_of(tree)))
    edit(tree.folder / "workflow/scripts/joules" / file)
    after = registration_of([record], msgspec.to_builtins(plan_of(tree)))
    assert (before.confirmatory, before.differs) == (True, [])
    assert (after.confirmatory, after.differs) == (False, ["the code of the analysis"])


def test_what_cannot_be_measured_cannot_be_registered(tree):
    tree.configure(models=["no-such-model"])
    done = register(tree)
    assert done.returncode == 2 and "Unknown model 'no-such-model'" in done.stderr
    assert not (tree.folder / FILE).exists()
