"""What a runtime is told and what it chooses: tried on each real one with a small real model.

No test names a runtime: a new module in `joules/runtimes` is tested by being there.
"""

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from real_runtimes import (
    MODELS,
    SETTINGS,
    make_runtime,
    model_of,
    prompts_of,
    still_running,
)

from joules.core.errors import UserError
from joules.core.inference import OWN_CHOICE, Completion, KvCacheType, Model, Settings
from joules.inputs import humaneval
from joules.measure.preparation import check_require
from joules.measure.protocol import check_settings
from joules.runtimes import Runtime, load, names

LEARNT = json.loads((MODELS / "learnt.json").read_text(encoding="utf-8"))
# No runtime chooses such batches by itself, nor one thread where there are more cores.
TOLD = dataclasses.replace(SETTINGS, threads=1, batch_size=96, micro_batch_size=96)
AS_INSTALLED = dataclasses.replace(TOLD, **dict.fromkeys(OWN_CHOICE))

pytestmark = pytest.mark.parametrize("name", names())


@pytest.fixture(scope="session")
def model() -> Model:
    return model_of(MODELS / "parrot-1m.gguf")


@pytest.fixture
def runtime(name: str, tmp_path: Path) -> Iterator[Runtime]:
    """The runtime, not started; stopped in the end."""
    with make_runtime(name, tmp_path / "work") as made:
        yield made


def answered(runtime: Runtime, model: Model, settings: Settings, count: int) -> list[Completion]:
    """Start the runtime and return its answers to so many learnt prompts; counts are checked."""
    runtime.start(model, settings)
    problems = humaneval.problems()
    texts = [problems[task_id].prompt for task_id in LEARNT[model.name]["learnt"][:count]]
    answers = []
    for prompt in prompts_of(model, *texts):
        answers.append(runtime.complete(prompt))
        assert answers[-1].counts_known
        assert answers[-1].prompt_tokens == len(prompt.token_ids)
    return answers


def test_as_installed_it_answers_with_its_own_settings_and_leaves_nothing(
    runtime: Runtime, model: Model, tmp_path: Path
) -> None:
    assert AS_INSTALLED.as_installed
    answers = answered(runtime, model, AS_INSTALLED, 6)
    encoded = prompts_of(model, *(each.text for each in answers))
    for answer, again in zip(answers, encoded, strict=True):
        assert answer.text and answer.decode_s > 0
        ended = answer.finish_reason == "eos"  # a sampled token, which no text shows
        assert abs(answer.generated_tokens - (len(again.token_ids) + ended)) <= 3
    children = psutil.Process().children(recursive=True)
    given = {variable for child in children for variable in child.environ()}
    assert children
    assert not [variable for variable in given if "THREADS" in variable]
    runtime.stop()
    assert still_running([child.pid for child in children]) == []
    assert all(path.suffix == ".log" for path in (tmp_path / "work").rglob("*"))


def test_a_prompt_that_it_kept_is_counted_whole(runtime: Runtime, model: Model) -> None:
    runtime.start(model, AS_INSTALLED)
    (prompt,) = prompts_of(model, "def f(x):\n    return x + 1\n\n" * 20)
    counted = [runtime.complete(prompt, max_tokens=4).prompt_tokens for _ in range(3)]
    assert counted == [len(prompt.token_ids)] * 3


def test_what_it_chose_is_shown_wherever_what_it_was_told_is(
    name: str, model: Model, tmp_path: Path
) -> None:
    seen = []
    for number, settings in enumerate((TOLD, AS_INSTALLED)):
        with make_runtime(name, tmp_path / str(number)) as made:
            answered(made, model, settings, 1)
            shown = made.settings_in_force()
            check_settings(settings, shown)
            seen.append({each: shown[each] for each in OWN_CHOICE if each in shown})
    told, chosen = seen
    assert set(told) == set(chosen)
    assert told != chosen or told == {} or os.cpu_count() == 1


@pytest.mark.parametrize("kept", ["q8_0", "q4_0"])
def test_keys_and_values_are_kept_in_the_type_asked_for_or_the_runtime_is_refused_by_name(
    runtime: Runtime, name: str, model: Model, kept: KvCacheType
) -> None:
    settings = dataclasses.replace(SETTINGS, kv_cache=kept, flash_attention=True)
    if "kv_cache" in load(name).CANNOT_HOLD:
        with pytest.raises(UserError, match=f"`kv_cache` is {kept}, and the runtime {name} cannot"):
            check_require(name, [], settings)
        return
    check_require(name, [], settings)
    answers = answered(runtime, model, settings, 3)
    assert all(answer.generated_tokens > 1 for answer in answers)
    assert runtime.settings_in_force()["kv_cache"] == kept
