"""A runtime that says what it is told to, and a run of it, for faults that real parts lack."""

from pathlib import Path
from typing import Any

import msgspec

from joules.core.inference import Completion, Model, Settings
from joules.core.places import REPOSITORY
from joules.core.plan import Run
from joules.core.prompts_file import PromptedModel, PromptRow, PromptsFile
from joules.core.reading import DEFAULT, read_catalogue, read_configuration, study_of
from joules.core.record import Position
from joules.core.run_parameters import RunParameters, run_parameters
from joules.inputs.prompts import hash_ids
from joules.measure import campaign, instrument, preparation, protocol
from joules.meters import reader

DEMO = study_of(read_configuration(REPOSITORY / DEFAULT))
LIMITS = DEMO.limits


def changed(parameters: RunParameters, **parts: dict[str, float | bool]) -> RunParameters:
    """Return parameters with other values in some of their parts, as `limits={"steal": 1.0}`."""
    return msgspec.structs.replace(
        parameters,
        **{
            part: msgspec.structs.replace(getattr(parameters, part), **values)
            for part, values in parts.items()
        },
    )


PARAMETERS = changed(
    run_parameters(DEMO, read_catalogue(), DEMO.models[0], DEMO.runtimes[0]),
    windows={"preflight_s": 0.01, "idle_s": 0.01, "rest_s": 0.0, "rest_cap_s": 300.0},
    settle={"limit": 0.02, "seconds": 0.02},
)
STRICT = changed(PARAMETERS, limits={"flag_only": False})
LOOSE = changed(  # the machine may be busy with other tests, where that is not the matter
    STRICT, limits={"cpu_busy": 1e9, "foreign_cpu": 1e9, "steal": 1e9, "swap_bytes": 10**12}
)
SETTINGS = Settings(2048, 1, 512, 512, False, 0, 1, 256)


def prompt_row(task_id: str, role: str, text: str, *token_ids: int) -> PromptRow:
    """Return a row of a prompts file."""
    return PromptRow(
        task_id=task_id,
        role=role,
        in_subset=True,
        style="base",
        cut="column_0",
        prefill="",
        text=text,
        text_sha256="0" * 64,
        token_ids=list(token_ids),
        token_ids_sha256=hash_ids(token_ids),
    )


PROMPTS_FILE = PromptsFile(
    PromptedModel(
        file_sha256="0" * 64,
        parameters=1,
        quantization="Q8_0",
        protocol="base-unchanged-column_0-256",
        max_tokens=256,
    ),
    [
        *(prompt_row(f"HumanEval/{i}", "problem", f"def f{i}", i, 7, 8) for i in range(3)),
        prompt_row("settle/0", "settle", "def g", 5, 6),
        prompt_row("flush", "flush", "~", 99),
    ],
)
PROMPTS = preparation.study_prompts(PROMPTS_FILE, "task")


class Scripted:
    """A runtime that says what it is told to."""

    LABEL = "Scripted"
    CANNOT_HOLD: frozenset[str] = frozenset()
    PACKAGES: tuple[str, ...] = ()
    IMPORTS = False

    def __init__(self, miscount: int = 0, in_force: dict[str, int] | None = None, **answer: Any):
        self.miscount, self.in_force, self.answer = miscount, in_force or {}, answer
        self.sent: list[str] = []
        self.stopped = 0
        self.times = iter(range(10**6))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.stopped += 1

    def import_model(self, model):
        self.sent.append("import")

    def holder(self):
        return 1

    def start(self, model, settings):
        self.sent.append("start")

    def facts(self):
        return {"version": "1"}

    def settings_in_force(self):
        return self.in_force

    def complete(self, prompt, max_tokens=None):
        self.sent.append(prompt.text)
        values = {
            "text": "    return 1\n",
            "prompt_tokens": len(prompt.token_ids) + (self.miscount if max_tokens != 1 else 0),
            "generated_tokens": 4,
            "prefill_s": 0.001,
            "decode_s": 0.002 * (1 + len(self.sent) % 3),
            "finish_reason": "eos",
        } | self.answer
        return Completion(**values)


def run(
    runtime, count=lambda texts: [[1, 2, 3]] * len(texts), parameters=PARAMETERS, tmp="/tmp", **more
):
    """Measure one run of a scripted runtime; return what was measured and the instrument."""
    said: list[str] = more.pop("said", [])
    meter = more.pop("meter", None) or reader.OwnReader([])
    with meter:
        measured = instrument.Instrument("NLD", Path(tmp), meter)
        parts = protocol.run_once(
            runtime,
            Model("m", Path("m.gguf"), "0" * 64),
            more.pop("settings", SETTINGS),
            PROMPTS,
            parameters,
            measured,
            said.append,
            count,
            **more,
        )
    return parts, measured


def assigned(folder: Path) -> campaign.Assignment:
    """Return what the scripted run is measured with."""
    return campaign.Assignment(
        run=Run("m", "a", "task", 1),
        position=Position(1, 1),
        session="boot/1",
        first_temperature_c=None,
        study=DEMO,
        registration=None,
        parameters=PARAMETERS,
        settings=SETTINGS,
        model=folder / "m.gguf",
        prompts=PROMPTS_FILE,
        provided={},
        log_file=folder / "log.txt",
        allocation=None,
        lock=["/run/lock/of-this-test"],
    )
