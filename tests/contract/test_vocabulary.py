"""A run of a vocabulary as large as a real one's, on the default study's runtimes and llama-server.

Reading a model's metadata takes time that grows with it, for every request on some runtimes.
"""

import dataclasses
import random
import string
import sys
from pathlib import Path

import pytest
from real_runtimes import CHECKOUT, SETTINGS, make_runtime, model_of, prompts_of
from scripted import LOOSE, changed

from joules.core.inference import Model
from joules.core.reading import load_study
from joules.measure import campaign, instrument, protocol
from joules.measure.protocol import MeasuredRun, Prompts
from joules.meters.reader import OwnReader

sys.path.insert(0, str(CHECKOUT / "tests/benchmarks"))
import ghost

TOKENS = 151936  # of Qwen2.5
SHAPE = ghost.Shape(64, 2, 2, 1, 128, TOKENS)
# Letters at random: a ghost that reads repetition repeats itself, and Ollama breaks that off. So
# many of them that reading takes longer than the delays of a busy machine.
TEXTS = [
    "".join(random.Random(seed).choices(string.ascii_lowercase + " ", k=2500)) for seed in range(4)
]
MOST = 32  # tokens of an answer; a ghost never ends one
# What others do on this machine is not the matter.
RULES = changed(
    LOOSE,
    settle={"seconds": 3.0},
    windows={"preflight_s": 0.5},
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return model_of(ghost.write_ghost(tmp_path_factory.mktemp("ghost") / "ghost.gguf", SHAPE))


def measured(name: str, model: Model, folder: Path) -> MeasuredRun:
    """Return a run of the runtime on the ghost, by all rules that look at the runtime."""
    *asked, flush = prompts_of(model, *TEXTS, "#")
    problems = [(f"HumanEval/{number}", "0" * 64, each) for number, each in enumerate(asked)]
    with OwnReader([]) as reader:
        return protocol.run_once(
            make_runtime(name, folder / "work"),
            model,
            dataclasses.replace(SETTINGS, max_tokens=MOST),
            Prompts(problems, asked, flush),
            RULES,
            instrument.Instrument("NLD", folder, reader),
            lambda line: None,
            lambda texts: campaign.read_again(model.path, texts, print),
            exactly=MOST,
        )


@pytest.mark.parametrize("name", dict.fromkeys((*load_study().study.runtimes, "llama_server")))
def test_a_run_of_a_real_vocabulary_breaks_no_rule(name: str, model: Model, tmp_path: Path) -> None:
    parts = measured(name, model, tmp_path)
    assert [rule.code for rule in parts.validity.codes if rule.invalidates] == []
    assert parts.validity.valid and parts.page_cache_warmed
    checks = {check.code: (check.seen, check.limit) for check in parts.validity.checks}
    assert checks["load_during_tasks"] == (0, 0)
    for task in parts.tasks:
        assert task.overhead_s is not None and task.prefill_s is not None
        assert task.overhead_s + task.prefill_s + task.decode_s <= task.duration_s
    overhead_s = [round(task.overhead_s or 0, 3) for task in parts.tasks]
    imported = [window.duration_s for window in parts.windows if window.name == "import"]
    print(f"{name}: overhead {overhead_s} s, import {imported} s")
