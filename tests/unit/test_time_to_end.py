"""When a study will end: simulated studies of known paces, and times of the archived campaign."""

import re
import time

import numpy as np
import pytest
from demonstration_campaigns import COMMITTED

from joules.core.plan import Run, plan_of
from joules.core.stored import read_record
from joules.core.study import Study
from joules.inputs.humaneval import problems
from joules.inputs.prompts import subset
from joules.measure import time_to_end
from joules.measure.time_to_end import Pace, Took, all_answers_s, clock, lengths, seconds_to_go

LENGTHS = lengths()
KINDS = ("task", "control", "quality")


def study_of_five(**changes: object) -> Study:
    asked = {
        "models": ("m", "n"),
        "runtimes": ("a", "b"),
        "kinds": KINDS,
        "blocks": 5,
        "seed": 20261125,
    }
    return Study(study="s", problems=5, **(asked | changes))


def five(seed: int) -> list[str]:
    return sorted(subset({name: each.prompt for name, each in problems().items()}, 5, seed))


def went(study: Study, answer_s: dict, around_s: dict) -> dict[Run, Took]:
    """Return what each run of a study takes, from its cell's seconds per problem and around."""
    chosen = five(study.seed)
    took = {}
    for run in plan_of(study):
        cell = (run.model, run.arm)
        names = LENGTHS if run.kind == "quality" else chosen
        tasks_s = sum(answer_s[cell][name] for name in names)
        took[run] = Took(tasks_s + around_s[cell], tasks_s, *run[:3])
    return took


def foretold(study: Study, took: dict[Run, Took], answer_s: dict) -> tuple[float, float]:
    """Return the seconds told after the first block, and those that the rest then took."""
    done = [run for run in took if run.repetition == 1 and run.kind != "quality"]
    left = [run for run in took if run not in done]
    paces = {
        cell: Pace({name: own[name] for name in five(study.seed)}, 0.1, 0.01, 1.0, 256)
        for cell, own in answer_s.items()
    }
    told = seconds_to_go(left, [took[run] for run in done], paces, study, LENGTHS)
    return told, sum(took[run].seconds for run in left)


def test_the_archived_campaign_with_five_problems_and_all_for_quality_ends_as_told():
    """Its 164 answers per run are the quality run; five of them, the runs of the blocks."""
    study = study_of_five(models=("parrot-1m", "parrot-3m"), runtimes=("ollama", "llama_cpp"))
    answer_s = {}
    for model in study.models:
        for runtime in study.runtimes:
            record = read_record(COMMITTED / f"records/{model}/{runtime}/task/1.json")
            answer_s[model, runtime] = {task.task_id: task.duration_s for task in record.tasks}
    took = went(study, answer_s, dict.fromkeys(answer_s, 5.0))
    told, true = foretold(study, took, answer_s)
    assert sum(t.seconds for run, t in took.items() if run.kind == "quality") > 0.2 * true
    assert told == pytest.approx(true, rel=0.25)


def simulated(seed: int, per_length: bool) -> tuple[float, float]:
    generator = np.random.default_rng(seed)
    study = study_of_five(seed=seed)
    answer_s, around_s = {}, {}
    for place, cell in enumerate((m, r) for m in study.models for r in study.runtimes):
        token_s = 0.05 * (1 + 3 * place)  # one cell is ten times as slow as another
        noise = np.exp(generator.normal(0, 0.3, len(LENGTHS)))
        answer_s[cell] = {
            name: token_s * (length / 3 if per_length else 256) * factor
            for (name, length), factor in zip(LENGTHS.items(), noise, strict=True)
        }
        around_s[cell] = 100.0 + 20 * place
    return foretold(study, went(study, answer_s, around_s), answer_s)


@pytest.mark.parametrize("per_length", [True, False], ids=["ends by itself", "runs to its limit"])
@pytest.mark.parametrize("seed", range(1, 9))
def test_a_study_of_known_paces_ends_within_a_quarter_of_what_is_told(seed, per_length):
    told, true = simulated(seed, per_length)
    assert told == pytest.approx(true, rel=0.25)


def test_the_mean_of_all_runs_so_far_would_be_far_off():
    """What was told before: every run as long as those that were seen."""
    study = study_of_five()
    answer_s = {(m, r): dict.fromkeys(LENGTHS, 10.0) for m in "mn" for r in "ab"}
    took = went(study, answer_s, dict.fromkeys(answer_s, 60.0))
    told, true = foretold(study, took, answer_s)
    left = [run for run in took if run.repetition > 1 or run.kind == "quality"]
    assert told == pytest.approx(true) and 110 * len(left) < 0.5 * true


def test_runs_are_told_by_their_cell_and_kind():
    study = study_of_five(kinds=("task", "fixed", "control"))
    took = [
        Took(100, 60, "m", "a", "task"),
        Took(300, 60, "n", "a", "task"),
        Took(500, 460, "m", "a", "fixed"),
    ]
    paces = {("m", "b"): Pace(dict.fromkeys(five(1), 2.0), 1.0, 0.5, 9.0, 100)}

    def told(*runs: Run, seen: list[Took] = took) -> float:
        return seconds_to_go(runs, seen, paces, study, LENGTHS)

    assert told(Run("m", "a", "task", 2)) == 100
    assert told(Run("m", "a", "control", 2)) == 100
    assert told(Run("m", "a", "fixed", 2), Run("n", "a", "task", 9)) == 800
    around_s = (40 + 240 + 40) / 3
    assert told(Run("m", "b", "task", 1)) == pytest.approx(5 * 2.0 + around_s)
    assert told(Run("m", "b", "fixed", 1)) == pytest.approx(5 * (1 + 102 * 0.5) + around_s)
    waiting_s = 10 + 3 * 30 + 60 + 60  # preflight, three idle windows, rest, settling
    assert told(Run("m", "b", "task", 1), seen=[]) == pytest.approx(10 + waiting_s + 9)


def test_answers_in_proportion_to_their_solutions_or_all_of_one_length():
    some = five(3)
    by_length = {name: 0.1 * LENGTHS[name] for name in some}
    assert all_answers_s(by_length, LENGTHS) == pytest.approx(0.1 * sum(LENGTHS.values()))
    assert all_answers_s(dict.fromkeys(some, 7.0), LENGTHS) == pytest.approx(7.0 * 164)
    assert all_answers_s({some[0]: 7.0}, LENGTHS) == pytest.approx(7.0 * 164)


def test_the_journal_gives_back_what_was_noted_and_leaves_out_older_lines(tmp_path):
    record = read_record(COMMITTED / "records/parrot-1m/ollama/control/1.json")
    tasks_s = next(window.duration_s for window in record.windows if window.name == "tasks")
    (tmp_path / time_to_end.FILE).write_text("12.5\n")
    time_to_end.note_run(tmp_path, record, 60.0)
    (took,) = time_to_end.noted(tmp_path)
    assert took[2:] == ("parrot-1m", "ollama", "control")
    assert took[:2] == pytest.approx((60.0, tasks_s), abs=0.06)
    assert time_to_end.noted(tmp_path / "none") == []


def test_a_study_without_warm_ups_is_told_its_runs_alone(tmp_path):
    study = study_of_five()
    runs = plan_of(study)
    assert time_to_end.remaining(tmp_path, study, runs) == f"{len(runs)} runs to go"
    assert time_to_end.remaining(tmp_path, study, runs[:1]) == "1 run to go"


def test_the_end_has_its_day_where_that_is_another_one():
    noon = time.mktime((2026, 11, 26, 12, 0, 0, 0, 0, -1))
    assert clock(noon + 3600, noon) == "13:00"
    assert re.fullmatch("2026-11-28 12:00", clock(noon + 48 * 3600, noon))
