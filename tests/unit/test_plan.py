"""The plan of runs: blocks, their order, the turns of the null control, the schedule's text."""

import itertools
from collections import Counter

import pytest

from joules.core.errors import UserError
from joules.core.plan import (
    Run,
    check_fits,
    control_arms,
    from_csv,
    place_of,
    plan,
    plan_of,
    positions,
    to_csv,
    turns,
    urgency,
)
from joules.core.study import Study, study_from

MODELS = ("m1", "m2", "m3")
ARMS = tuple("abcdefgh")
KINDS = ("task", "fixed", "control", "quality")
SEEDS = range(40)


def study(**changes: object) -> Study:
    config = {"study": "s", "models": MODELS[:2], "runtimes": ARMS[:2], "blocks": 4, **changes}
    return study_from(config, {name: {"version": "1"} for name in ARMS})


def blocks_of(runs: list[Run]) -> dict[int, list[Run]]:
    return {
        number: list(group)
        for number, group in itertools.groupby(runs, key=lambda run: run.repetition)
    }


# Blocks ----------------------------------------------------------------------------------------


def test_a_block_has_each_cell_once_per_kind_and_one_control_per_model():
    runs = plan(MODELS, ARMS[:2], KINDS[:3], 7, seed=3)
    blocks = blocks_of(runs)
    assert list(blocks) == list(range(1, 8)), "block by block"
    for block in blocks.values():
        cells = Counter((run.model, run.arm, run.kind) for run in block)
        expected = {(m, a, k) for m in MODELS for a in "ab" for k in ("task", "fixed")}
        assert {cell for cell in cells if cell[2] != "control"} == expected
        assert set(cells.values()) == {1}
        controls = [run.model for run in block if run.kind == "control"]
        assert sorted(controls) == list(MODELS)


def test_the_runs_of_a_model_stay_together_in_every_block():
    for block in blocks_of(plan(MODELS, ARMS[:3], KINDS[:3], 50, seed=1)).values():
        models = [model for model, _ in itertools.groupby(run.model for run in block)]
        assert sorted(models) == list(MODELS), models


def test_both_orders_are_drawn_anew_in_each_block():
    """Of 600 blocks each of 6 orders of three models comes about 100 times (SD 9.1)."""
    blocks = blocks_of(plan(MODELS, ("a", "b"), ("task", "control"), 600, seed=5)).values()
    models = Counter(tuple(dict.fromkeys(run.model for run in block)) for block in blocks)
    assert len(models) == 6 and all(60 < count < 140 for count in models.values()), models
    first = Counter(block[0].arm for block in blocks)
    assert abs(first["a"] - first["b"]) < 100, first
    inside = Counter(
        tuple(run[1:3] for run in block if run.model == "m2" and run.kind == "task")
        for block in blocks
    )
    assert len(inside) == 2 and all(count > 240 for count in inside.values()), inside
    place = Counter(
        [run.kind for run in block if run.model == "m1"].index("control") for block in blocks
    )
    assert set(place) == {0, 1, 2} and all(150 < count < 250 for count in place.values()), place


def test_more_blocks_leave_the_earlier_ones_as_they_were():
    for seed, kinds in itertools.product(SEEDS, (("task", "control"), KINDS[:3])):
        few = plan(MODELS, ARMS[:3], kinds, 4, seed)
        assert plan(MODELS, ARMS[:3], kinds, 9, seed)[: len(few)] == few


def test_another_seed_is_another_order_and_the_same_seed_the_same():
    made = [plan(MODELS, ARMS[:2], ("task", "control"), 5, seed) for seed in (1, 1, 2)]
    assert made[0] == made[1] != made[2]


def test_quality_runs_come_once_per_cell_after_the_last_block():
    runs = plan(MODELS, ARMS[:2], KINDS, 3, seed=1)
    last = runs[-6:]
    assert {run[:2] for run in last} == {(m, a) for m in MODELS for a in "ab"}
    assert {(run.kind, run.repetition) for run in last} == {("quality", 1)}
    assert all(run.kind != "quality" for run in runs[:-6])


def test_a_study_without_control_has_none():
    assert Counter(run.kind for run in plan(MODELS, ARMS[:2], ("task",), 3, 1)) == {"task": 18}


# Whose turn it is ------------------------------------------------------------------------------


def test_two_runtimes_take_the_control_by_turns():
    assert turns(2, 6) == [0, 1, 0, 1, 0, 1]
    assert turns(1, 3) == [0, 0, 0]


@pytest.mark.parametrize("arms", range(1, 9))
def test_each_runtime_is_its_own_control_about_equally_often(arms):
    """In every study of up to 20 blocks, whatever the seed: exactly by turns with two."""
    allowed = {1: 0, 2: 1, 3: 2, 4: 2}.get(arms, 4)
    for seed in SEEDS:
        chosen = control_arms(MODELS, ARMS[:arms], 20, seed)
        for model, blocks in itertools.product(MODELS, (6, 10, 20)):
            had = Counter(dict.fromkeys(ARMS[:arms], 0))
            had.update(chosen[model, block] for block in range(1, blocks + 1))
            assert max(had.values()) - min(had.values()) <= allowed, (seed, model, had)


@pytest.mark.parametrize("arms", range(2, 9))
def test_no_block_has_the_control_of_all_models_on_one_runtime(arms):
    for seed in SEEDS:
        chosen = control_arms(MODELS, ARMS[:arms], 40, seed)
        for block in range(1, 41):
            following = [chosen[model, block] for model in MODELS]
            assert following[0] != following[1] != following[2]


def test_the_turns_do_not_depend_on_the_number_of_blocks():
    for seed in SEEDS:
        few = control_arms(MODELS, ARMS[:3], 5, seed)
        many = control_arms(MODELS, ARMS[:3], 30, seed)
        assert few.items() <= many.items()


@pytest.mark.parametrize("arms", range(1, 8))
def test_a_new_runtime_measures_only_itself(arms):
    """Beside its own task runs there are only its own controls; all other turns stay."""
    for seed in SEEDS:
        before = set(plan(MODELS, ARMS[:arms], ("task", "control"), 10, seed))
        after = set(plan(MODELS, ARMS[: arms + 1], ("task", "control"), 10, seed))
        assert {run.arm for run in after - before} == {ARMS[arms]}
        assert {run.kind for run in before - after} <= {"control"}


def test_a_new_model_measures_only_itself():
    for seed in SEEDS:
        before = set(plan(MODELS[:2], ARMS[:3], ("task", "control"), 10, seed))
        after = set(plan(MODELS, ARMS[:3], ("task", "control"), 10, seed))
        assert before < after and {run.model for run in after - before} == {"m3"}


def test_the_seed_decides_who_begins():
    begins = Counter(control_arms(("m",), ("a", "b"), 1, seed)["m", 1] for seed in range(400))
    assert all(140 < begins[name] < 260 for name in "ab"), begins


# Positions -------------------------------------------------------------------------------------


def test_the_first_run_of_the_plan_is_the_most_urgent():
    runs = plan_of(study())
    planned = positions(runs)
    assert [urgency(planned, run) for run in runs] == list(range(len(runs), 0, -1))
    assert urgency(planned, runs[0]._replace(repetition=999)) == 1


def test_a_run_that_is_not_planned_has_no_place():
    runs = plan_of(study())
    assert [place_of(run, runs) for run in runs] == list(range(1, len(runs) + 1))
    control = next(run for run in runs if run.kind == "control")
    other = control._replace(arm={"a": "b", "b": "a"}[control.arm])
    with pytest.raises(UserError, match=r"m\d, [ab], control, block \d is no run of this study"):
        place_of(other, runs)


# The schedule ----------------------------------------------------------------------------------

OLD = """position,block,model,runtime,kind
1,1,m1,a,control
2,1,m2,b,task
3,1,m2,a,control
4,1,m1,a,task
5,1,m2,a,task
6,1,m1,b,task
"""


def test_a_schedule_is_read_as_it_was_written():
    runs = plan_of(study(kinds=KINDS, runtimes=ARMS[:3]))
    assert from_csv(to_csv(runs), "schedule.csv") == runs


def test_a_schedule_of_another_plan_fits_where_its_runs_are_those_of_the_study():
    """Controls of the first runtime alone, and a block that is shuffled as a whole."""
    runs = from_csv(OLD, "schedule.csv")
    assert runs[0] == Run("m1", "a", "control", 1)
    assert set(runs) != set(plan_of(study(blocks=1)))
    check_fits(runs, study(blocks=1), "schedule.csv")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "position,block,model,runtime,kind\n",
        OLD.replace("position,", "place,"),
        OLD.replace("3,1,", "4,1,"),
        OLD.replace("a,control", "a,speed"),
        OLD.replace("2,1,m2,b,task", "2,1,m2,b"),
        OLD.replace("2,1,", "2,x,"),
    ],
)
def test_what_is_no_schedule_is_refused(text):
    with pytest.raises(
        UserError, match=r"^old\.csv is no schedule\. Expected the columns position"
    ):
        from_csv(text, "old.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (OLD.replace("6,1,m1,b,task\n", ""), "it lacks one run, such as m1, b, task, block 1"),
        (OLD + "7,1,m1,b,task\n", "it has, beyond those, one run, such as m1, b, task, block 1"),
        (OLD + "7,2,m1,b,task\n", "it has, beyond those, one run, such as m1, b, task, block 2"),
        (OLD.replace("m1,a,control", "m1,c,control"), "it names c, which is no runtime there"),
        (OLD.replace("m1,a,control", "m2,a,control"), "it lacks one run, such as m1, any arm"),
    ],
)
def test_a_schedule_that_does_not_fit_the_configuration_is_refused(text, message):
    with pytest.raises(UserError, match=r"does not fit the configuration") as refused:
        check_fits(from_csv(text, "old.csv"), study(blocks=1), "old.csv")
    assert message in str(refused.value)
