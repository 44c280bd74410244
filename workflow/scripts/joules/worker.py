"""The process that a runtime's library works in: one JSON request per line in, one answer out.

Started as `python -m joules.worker NAME` by `joules.in_process`, with the Python that has the
runtime's packages; see there for what a runtime's class `Worker` must have.
"""

import hashlib
import importlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

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


def main(name: str) -> None:
    """Serve requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever the library prints goes to the log
    make: Any = importlib.import_module(f"joules.runtimes.{name}").Worker
    worker: Any = None
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any]
        try:
            if request["do"] == "facts":
                versions = {
                    "version": importlib.metadata.version(request["package"]),
                    "python": sys.version.split()[0],
                }
                answer = versions | make.facts()
            elif request["do"] == "load":
                worker = make(request["model"], request["settings"])
                answer = {}
            elif request["do"] == "in_force":
                answer = worker.in_force()
            else:
                answer = worker.complete(request["text"], request["token_ids"], request["limit"])
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1])
