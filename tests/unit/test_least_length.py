"""Whether runs are long enough for the headline's meter, asked before the first of them."""

import re

import pytest

from joules.commands import cost
from joules.core import paths, stored
from joules.core.arms import ArmFacts
from joules.core.errors import UserError
from joules.core.inference import Settings
from joules.core.study import Study
from joules.core.warm_up_files import WarmUp, WarmUpAnswer
from joules.measure import least_length

WALL = {"wall": {"module": "shelly", "host": "192.0.2.7"}}
MOST = 256


def study(problems=20, kinds=("task",), energy="wall", every_s=1.0, **keys):
    meters = {"wall": {**WALL["wall"], "every_s": every_s}}
    return Study(
        **{"study": "s", "models": ("m",), "runtimes": ("a", "b"), "blocks": 2},
        **{"problems": problems, "kinds": kinds, "energy": energy, "meters": meters},
        **keys,
    )


def warmed_up(folder, answer_s):
    """Write warm-ups of both runtimes; each answer takes so long, of 50 tokens."""
    settings = Settings(2048, 1, 512, 512, False, 0, 1, MOST)
    for runtime, seconds in answer_s.items():
        answers = [
            WarmUpAnswer(
                task_id=f"HumanEval/{index}",
                duration_s=seconds,
                text="x",
                prompt_tokens=100,
                generated_tokens=50,
                prefill_s=0.1 * seconds,
                decode_s=0.9 * seconds,
                finish_reason="eos",
            )
            for index in range(8)
        ]
        made = WarmUp(
            arm=ArmFacts(name=runtime, label=runtime.upper(), settings={}, options={}),
            **{"model": "m", "runtime": runtime, "protocol": "base"},
            **{"facts": {}, "settings": settings, "settings_in_force": {}, "cannot_hold": []},
            **{"load_s": 1.0, "tokens_per_s": 50 / seconds, "answers": answers},
        )
        stored.write_warm_up(paths.warm_up_file(folder, "m", runtime), made)


def test_runs_that_are_long_enough_are_let_through(tmp_path):
    warmed_up(tmp_path, {"a": 1.5, "b": 1.2})
    least_length.check(tmp_path, study(problems=20))
    least_length.check(tmp_path, study(problems=2, energy="processor"))


def test_a_run_that_is_too_short_is_refused_with_the_problems_that_would_do(tmp_path):
    warmed_up(tmp_path, {"a": 1.5, "b": 0.5})
    with pytest.raises(UserError, match=r"m on B, kind task.*by the warm-up.*needs 20 s") as caught:
        least_length.check(tmp_path, study(problems=20))
    assert "m on A" not in str(caught.value)
    more = int(re.search(r"Set `problems` to (\d+) or more", str(caught.value))[1])
    least_length.check(tmp_path, study(problems=more))
    assert more < 60, "and no more than a quarter above what is needed"


def test_where_all_problems_are_too_few_the_tokens_that_would_do_are_named(tmp_path):
    warmed_up(tmp_path, {"a": 0.01, "b": 1.0})
    with pytest.raises(UserError, match=r"kind fixed") as caught:
        least_length.check(tmp_path, study(problems="all", kinds=("task", "fixed")))
    said = str(caught.value)
    tokens = re.findall(r"`settings.max_tokens` to (\d+) or more for kind `fixed`", said)
    assert len(tokens) == 2 and all(int(each) > MOST for each in tokens)
    assert "m on B" not in said


def test_a_meter_that_is_read_more_often_needs_shorter_runs(tmp_path):
    warmed_up(tmp_path, {"a": 0.6, "b": 0.6})
    with pytest.raises(UserError):
        least_length.check(tmp_path, study(problems=20))
    least_length.check(tmp_path, study(problems=20, every_s=0.5))
    assert least_length.needed_s(study(every_s=0.5)) == pytest.approx(10.0)


def test_a_study_without_warm_ups_is_not_judged_by_them(tmp_path):
    least_length.check(tmp_path, study(problems=1))


def test_the_forecast_knows_runs_that_are_too_short_even_at_the_slowest():
    fast = cost.assumed_cell(3_000_000, 0, MOST)
    slow = cost.assumed_cell(5_000_000_000, 0, MOST)
    cells = {("m", "a"): fast, ("m", "b"): slow}
    (said,) = cost.too_short(study(problems=20), cells)
    assert said.startswith("m on a, kind task") and "by the forecast" in said
    assert cost.too_short(study(problems=20, energy="processor"), cells) == []
