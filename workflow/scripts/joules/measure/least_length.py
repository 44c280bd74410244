"""Whether the tasks window will be long enough for the meter that is the study's headline.

Asked before the first run: a study of runs that a plug cannot tell apart would be lost.
"""

import math
import statistics
from collections.abc import Iterator
from pathlib import Path

from joules.core import paths, stored
from joules.core.energy import WALL
from joules.core.errors import UserError
from joules.core.meters import EVERY_S
from joules.core.plan import plan_of
from joules.core.study import Study
from joules.inputs.humaneval import problems
from joules.measure.time_to_end import FLUSH_TOKENS, all_answers_s, lengths, pace_of
from joules.meters.entries import DEFAULT_S
from joules.meters.polled import LEAST_READINGS

MORE = 1.25  # than the least, so that a run that is a little faster is long enough too


def needed_s(study: Study) -> float | None:
    """Return how long a tasks window must last for the headline's meter; None for a counter."""
    if study.energy != WALL:
        return None
    return LEAST_READINGS * float(study.meters[WALL].get(EVERY_S, DEFAULT_S))


def problems_of(study: Study, kind: str) -> int:
    """Return how many problems a run of a kind answers."""
    every = len(problems())
    return every if kind == "quality" or study.problems == "all" else study.problems


def complaint(
    study: Study, named: str, kind: str, seconds: float, most_tokens: int, basis: str
) -> str:
    """Return why runs of a kind are too short for the headline's meter; empty where they are not.

    `named`: the model and what it runs on; `seconds`: of their tasks window, known by `basis`;
    `most_tokens`: of an answer. Says the number of problems that would do, or of tokens.
    """
    least_s, asked = needed_s(study), problems_of(study, kind)
    if least_s is None or seconds >= least_s or seconds <= 0:
        return ""
    more = MORE * least_s / seconds
    enough, tokens = math.ceil(asked * more), math.ceil(most_tokens * more)
    remedy = f"Set `problems` to {enough} or more"
    if enough > len(problems()):
        remedy = f"Set `settings.max_tokens` to {tokens} or more for kind `fixed`"
        remedy += "" if asked == len(problems()) else ", with as many problems as now"
    return (
        f"{named}, kind {kind}: its tasks take about {seconds:.1f} s by {basis}, and the meter "
        f"`{WALL}` needs {least_s:g} s, {LEAST_READINGS} readings. Expected longer runs. {remedy}, "
        f"take a larger model, or lower `meters.{WALL}.{EVERY_S}` where the device is fast enough."
    )


def check(results: Path, study: Study) -> None:
    """Raise UserError where a warm-up says that runs are too short for the headline's meter."""
    if needed_s(study) is None:
        return
    found = list(filter(None, _complaints(results, study)))
    if found:
        raise UserError("\n".join(found))


def _complaints(results: Path, study: Study) -> Iterator[str]:
    cells = sorted({(run.model, run.arm) for run in plan_of(study)})
    for model, runtime in cells:
        file = paths.warm_up_file(results, model, runtime)
        if not file.exists():
            continue
        warm_up = stored.read_warm_up(file)
        pace, most = pace_of(warm_up), warm_up.settings.max_tokens
        for kind in study.kinds:
            count = problems_of(study, kind)
            if kind == "fixed":
                seconds = count * (pace.prefill_s + (most + FLUSH_TOKENS) * pace.token_s)
            elif count == len(problems()):
                seconds = all_answers_s(pace.answer_s, lengths())
            else:
                seconds = count * statistics.mean(pace.answer_s.values())
            named = f"{model} on {warm_up.arm.label}"
            yield complaint(study, named, kind, seconds, most, "the warm-up")
