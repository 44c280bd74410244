"""llama-cpp-python: llama.cpp as a library, in a worker process of its own.

The worker is `joules.llama_cpp_worker`; see there for how the library is driven.
"""

import dataclasses
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from joules import processes
from joules.errors import UserError
from joules.runtimes import (
    Completion,
    Model,
    Prompt,
    Settings,
    check_fits,
    check_options,
    python_of,
)

SCRIPTS = Path(__file__).parents[2]
OPTIONS = ("version",)
WORKER = ("-P", "-s", "-m", "joules.llama_cpp_worker")


class Runtime:
    """llama-cpp-python in a worker process; see `joules.runtimes.Runtime`."""

    LABEL = "llama-cpp-python"
    CANNOT_HOLD: frozenset[str] = frozenset()

    @classmethod
    def provide(cls, options: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """Check that the pinned version is installed, loads, and has no AMX; return its facts."""
        with cls(options, folder) as runtime:
            runtime._start_worker(threads=1)
            facts = runtime._ask({"do": "facts"})
        if facts["version"] != options["version"]:
            raise UserError(
                f"llama-cpp-python {facts['version']} is installed; expected "
                f"{options['version']}, as runtime_options.llama_cpp.version says. Correct it, or "
                "install that version."
            )
        if "AMX_INT8 = 1" in facts["simd"]:
            raise UserError(
                f"llama-cpp-python was built with AMX instructions ({facts['simd']}); expected "
                "none: version 0.3.36 crashes in them (ggml-org/llama.cpp issue 20824), and other "
                "runtimes do not use them. Delete .venv and .wheels and install again."
            )
        return facts

    def __init__(self, options: Mapping[str, Any], work_folder: Path) -> None:
        check_options("llama_cpp", options, OPTIONS)
        self._work = work_folder
        self._log = work_folder / "llama_cpp.log"
        self._worker: subprocess.Popen[str] | None = None
        self._model = "no model"

    def __enter__(self) -> "Runtime":
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self, model: Model, settings: Settings) -> None:
        """Start the worker and load the weights."""
        self._model, self._settings = model.name, settings
        self._start_worker(settings.threads)
        wanted = {"model": str(model.path.absolute()), "settings": dataclasses.asdict(settings)}
        self._in_force = self._ask({"do": "load", **wanted})

    def complete(self, prompt: Prompt, max_tokens: int | None = None) -> Completion:
        """Answer one prompt; see `joules.runtimes.Runtime`.

        With `ignore_eos` it decodes on past the end of text: the same computation per token.
        """
        limit = self._settings.max_tokens if max_tokens is None else max_tokens
        check_fits(len(prompt.token_ids), limit, self._settings)
        return Completion(**self._ask({"do": "complete", "text": prompt.text, "limit": limit}))

    def settings_in_force(self) -> dict[str, Any]:
        """Return what llama.cpp's context shows of the settings."""
        return dict(self._in_force)

    def facts(self) -> dict[str, Any]:
        """Return version, llama.cpp commit, SIMD line and hash of the libraries."""
        return self._ask({"do": "facts"})

    def stop(self) -> None:
        """End the worker; its log stays."""
        if self._worker is not None:
            processes.end(self._worker)
            self._worker = None

    def _start_worker(self, threads: int) -> None:
        self._worker = processes.start(
            [python_of("llama_cpp"), *WORKER],
            self._log,
            processes.minimal_environment()
            | {
                "HOME": str(self._work.absolute()),
                "PYTHONPATH": str(SCRIPTS),
                "PYTHONDONTWRITEBYTECODE": "1",
                "OMP_NUM_THREADS": str(threads),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send the worker one request and return its answer."""
        worker = self._worker
        assert worker is not None and worker.stdin is not None and worker.stdout is not None
        try:
            worker.stdin.write(json.dumps(request) + "\n")
            worker.stdin.flush()
            line = worker.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line.endswith("\n"):
            how = processes.ending(worker.wait())
            raise processes.died(self.LABEL, self._model, how, self._log)
        answer = json.loads(line)
        if "error" in answer:
            raise UserError(
                f"llama-cpp-python could not `{request['do']}` ({self._model}): {answer['error']}. "
                "Expected the pinned version, a GGUF file that it can read, and memory for it. "
                f"Its last words: {processes.tail(self._log)}. Its log is {self._log}."
            )
        return answer
