"""A runtime that says what it is told to, and a run of it, for faults that real parts lack."""

import dataclasses
from pathlib import Path
from typing import Any

import yaml

from joules import campaign, counters, instrument, protocol
from joules.runtimes import Completion, Model, Prompt, Settings

REPOSITORY = Path(__file__).parents[1]
DEMO = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())
LIMITS = campaign.limits_of(DEMO)
RULES = protocol.Rules(0.01, 0.01, 0.0, 2.0, 300.0, 0.02, 0.0, 0.2, LIMITS)
STRICT = dataclasses.replace(RULES, limits=dataclasses.replace(LIMITS, flag_only=False))
SETTINGS = Settings(2048, 1, 512, 512, False, 0, 1, 256)
PROMPTS = protocol.Prompts(
    problems=[(f"HumanEval/{i}", f"{i}" * 64, Prompt(f"def f{i}", (i, 7, 8))) for i in range(3)],
    settle=[Prompt("def g", (5, 6))],
    flush=Prompt("~", (99,)),
)


class Scripted:
    """A runtime that says what it is told to."""

    LABEL = "Scripted"
    CANNOT_HOLD: frozenset[str] = frozenset()

    def __init__(self, miscount: int = 0, in_force: dict[str, Any] | None = None, **answer: Any):
        self.miscount, self.in_force, self.answer = miscount, in_force or {}, answer
        self.sent: list[str] = []
        self.stopped = 0
        self.times = iter(range(10**6))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.stopped += 1

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
            "prompt_tokens": len(prompt.token_ids) + (self.miscount if max_tokens is None else 0),
            "generated_tokens": 4,
            "prefill_s": 0.001,
            "decode_s": 0.002 * (1 + len(self.sent) % 3),
            "finish_reason": "eos",
        } | self.answer
        return Completion(**values)


def run(runtime, count=lambda texts: [[1, 2, 3]] * len(texts), rules=RULES, tmp="/tmp", **more):
    """Measure one run of a scripted runtime; return the record's parts and the instrument."""
    said: list[str] = more.pop("said", [])
    meter = more.pop("meter", None) or counters.CounterMeter([])
    with meter:
        measured = instrument.Instrument("NLD", Path(tmp), meter)
        parts = protocol.run_once(
            runtime,
            Model("m", Path("m.gguf"), "0" * 64),
            SETTINGS,
            PROMPTS,
            rules,
            measured,
            said.append,
            count,
            **more,
        )
    return parts, measured
