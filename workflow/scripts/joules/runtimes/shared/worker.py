"""The process that a runtime's library works in: one JSON request per line in, one answer out.

Started as `python -m joules.runtimes.shared.worker NAME` by `joules.runtimes.shared.in_process`,
with the Python that has the runtime's packages; see there for what a class `Worker` must have.
"""

import dataclasses
import hashlib
import importlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, cast

from joules.core.inference import Completion, Facts, Settings, SettingsInForce

# Special tokens that end a text for llama.cpp, by their text, whether or not the file names one of
# them as its end. Source: llama.cpp's src/llama-vocab.cpp at the version of llama-cpp-python.
ENDS_OF_TEXT = (
    *("<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "<|end|>", "<|eot_id|>", "<|eom_id|>"),
    *("<end_of_turn>", "<end_of_utterance>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "</s>", "<eos>"),
    *("<|return|>", "<|call|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"),
)


def hash_of(libraries: Iterable[Path]) -> str:
    """Return one SHA-256 of the contents of all these files, links followed, in order of path."""
    digest = hashlib.sha256()
    for path in sorted({each.resolve() for each in libraries if each.is_file()}):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class Worker(Protocol):
    """One loaded model, as the class `Worker` of a runtime's module makes it."""

    def __init__(self, model: str, settings: Settings) -> None: ...

    def complete(self, text: str, token_ids: Sequence[int], limit: int) -> Completion:
        """Answer one prompt greedily."""

    def in_force(self) -> SettingsInForce:
        """Return the settings that can be observed."""

    @staticmethod
    def facts() -> Facts:
        """Return build facts."""


def main(name: str) -> None:
    """Serve requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever the library prints goes to the log
    make = cast("type[Worker]", importlib.import_module(f"joules.runtimes.{name}").Worker)
    worker: Worker | None = None
    for line in sys.stdin:
        request = json.loads(line)
        answer: Facts
        try:
            if request["do"] == "facts":
                versions = {
                    "version": importlib.metadata.version(request["package"]),
                    "python": sys.version.split()[0],
                }
                answer = versions | make.facts()
            elif request["do"] == "load":
                worker = make(request["model"], Settings(**request["settings"]))
                answer = {}
            elif worker is None:
                raise RuntimeError("no model is loaded")
            elif request["do"] == "in_force":
                answer = dict(worker.in_force())
            else:
                asked = (request["text"], request["token_ids"], request["limit"])
                answer = dataclasses.asdict(worker.complete(*asked))
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1])
