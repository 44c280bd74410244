"""What Snakemake plans where arms of a finished study are named, added or changed.

The study's files are empty here. Snakemake has marked them as made with the study's parameters, and
plans by those and by their times alone.
"""

import re
from pathlib import Path

import pytest
from small_study import Tree, jobs_of

RUNTIMES = ("ollama", "llama_cpp")
ARMS = {name: {"runtime": name} for name in RUNTIMES}
RUNS = 12  # two models, two runtimes and a control, two blocks
MEASURING = {"provide_runtime", "write_prompts", "warm_up", "agree", "measure", "grade"}


@pytest.fixture(scope="module")
def marked(clone: Tree, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """The small study with the short form `runtimes`, of which everything counts as made."""
    tree = clone.copy(tmp_path_factory.mktemp("marked") / "tree")
    tree.configure(runtimes=list(RUNTIMES))
    done = tree.snakemake("--dry-run", "records")
    for line in re.findall(r"output: (.*)", done.stdout + done.stderr):
        for name in line.split(", "):
            path = tree.folder / name.strip()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    tree.snakemake("--touch", "--forceall", "records")
    return tree


@pytest.fixture
def tree(marked: Tree, tmp_path: Path) -> Tree:
    """A copy of it, to change and to plan anew."""
    return marked.copy(tmp_path / "tree")


def planned(tree: Tree) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return how often each rule would run, and the arm and kind of each run to be measured."""
    done = tree.snakemake("--dry-run", "records")
    shown = done.stdout + done.stderr
    runs = re.findall(r"output: results/small/records/[^/]+/([^/]+)/([a-z]+)/\d+\.json", shown)
    return jobs_of(shown), runs


def test_nothing_is_to_do_and_a_changed_setting_of_the_study_measures_all(tree):
    assert planned(tree) == ({}, [])
    tree.configure(runtimes=list(RUNTIMES), settings={"max_tokens": 64})
    jobs, _ = planned(tree)
    assert (jobs["measure"], jobs["warm_up"]) == (RUNS, 4)


def test_runtimes_that_become_arms_of_their_names_are_not_measured_again(tree):
    tree.configure(runtimes=[], arms=ARMS)
    assert planned(tree) == ({}, [])


def test_a_new_arm_of_a_runtime_that_is_there_measures_only_itself(tree):
    own = {"runtime": RUNTIMES[1], "settings": {"flash_attention": True}}
    tree.configure(runtimes=[], arms=ARMS | {"with-flash": own})
    jobs, runs = planned(tree)
    assert {arm for arm, _ in runs} == {"with-flash"}
    assert sum(kind == "task" for _, kind in runs) == 4
    assert jobs["measure"] == jobs["grade"] == len(runs)
    assert (jobs["warm_up"], jobs["agree"]) == (2, 2)
    assert "provide_runtime" not in jobs, "it is the same build"


def test_a_new_arm_with_options_of_its_own_is_made_beside_the_other(tree):
    own = {"runtime": RUNTIMES[0], "options": {"from": "path", "binary": "/bin/true"}}
    tree.configure(runtimes=[], arms=ARMS | {"installed": own})
    jobs, runs = planned(tree)
    assert {arm for arm, _ in runs} == {"installed"}
    assert jobs["provide_runtime"] == 1


@pytest.mark.parametrize(
    "own",
    [{"settings": {"batch_size": 256, "micro_batch_size": 256}}, {"settings": "as_installed"}],
)
def test_a_changed_arm_measures_only_itself(tree, own):
    tree.configure(runtimes=[], arms=ARMS | {RUNTIMES[1]: {"runtime": RUNTIMES[1], **own}})
    jobs, runs = planned(tree)
    assert {arm for arm, _ in runs} == {RUNTIMES[1]}
    assert (jobs["measure"], jobs["warm_up"]) == (RUNS // 2, 2)


def test_another_name_is_another_arm(tree):
    tree.configure(runtimes=[], arms={"ollama": ARMS["ollama"], "lib": ARMS["llama_cpp"]})
    _, runs = planned(tree)
    assert {arm for arm, _ in runs} == {"lib"}


def test_contrasts_measure_nothing(tree):
    tree.configure(runtimes=[], arms=ARMS, contrasts=[list(RUNTIMES)])
    assert not MEASURING & planned(tree)[0].keys()
