"""What the runtimes share that are a Python library: each works in a worker process of its own.

A module in `joules/runtimes` derives its `Runtime` from `InProcess` and has a class `Worker`, which
`joules.worker` runs with the runtime's own Python. Where the module is imported by the worker, only
the standard library is at hand beside the runtime's packages.
"""

import dataclasses
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from joules import environments, processes
from joules.errors import UserError
from joules.runtimes import (
    Completion,
    Model,
    Prompt,
    Settings,
    check_fits,
    check_held,
    check_options,
    python_of,
)

SCRIPTS = Path(__file__).parents[1]


class InProcess:
    """A runtime whose library is loaded by a worker; see `joules.runtimes.Runtime`.

    `PACKAGE` is the distribution whose version the study pins. The class `Worker` of the same
    module has:

    - `__init__(model, settings)`: load the file `model`; `settings` are those of `Settings`;
    - `complete(text, token_ids, limit)`: return the fields of `Completion` as a dictionary;
    - `in_force()`: return the settings that can be observed, under the names of `Settings`;
    - `facts()`: a static method; return build facts beside version and Python, `simd` and
      `libraries_sha256` (`joules.worker.hash_of`) among them. No model need be loaded.
    """

    LABEL = ""
    CANNOT_HOLD: frozenset[str] = frozenset()
    PACKAGE = ""
    OPTIONS: tuple[str, ...] = ("version",)

    @classmethod
    def name(cls) -> str:
        """Return the runtime's name: that of its module."""
        return cls.__module__.rpartition(".")[2]

    @classmethod
    def provide(cls, options: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """Make the environment where it is missing, check version and library; return facts."""
        check_options(cls.name(), options, cls.OPTIONS)
        environments.provide(cls.name(), cls.PACKAGE, options["version"])
        with cls(options, folder) as runtime:
            runtime._start_worker(1)
            facts = runtime.facts()
        cls.check_facts(facts)
        return facts

    @classmethod
    def check_facts(cls, facts: Mapping[str, Any]) -> None:
        """Raise UserError for a build that must not be measured."""

    @classmethod
    def environment(cls, threads: int, work: Path) -> dict[str, str]:
        """Return the variables that the library needs before it is imported."""
        return {}

    def __init__(self, options: Mapping[str, Any], work_folder: Path) -> None:
        check_options(self.name(), options, self.OPTIONS)
        self._work = work_folder
        self._log = work_folder / f"{self.name()}.log"
        self._worker: subprocess.Popen[str] | None = None
        self._model = "no model"

    def __enter__(self) -> "InProcess":
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self, model: Model, settings: Settings) -> None:
        """Start the worker and load the weights."""
        check_held(self, settings)
        self._model, self._settings = model.name, settings
        self._start_worker(settings.threads)
        wanted = {"model": str(model.path.absolute()), "settings": dataclasses.asdict(settings)}
        self._ask({"do": "load", **wanted})

    def complete(self, prompt: Prompt, max_tokens: int | None = None) -> Completion:
        """Answer one prompt; see `joules.runtimes.Runtime`."""
        limit = self._settings.max_tokens if max_tokens is None else max_tokens
        check_fits(len(prompt.token_ids), limit, self._settings)
        request = {"text": prompt.text, "token_ids": prompt.token_ids, "limit": limit}
        return Completion(**self._ask({"do": "complete", **request}))

    def settings_in_force(self) -> dict[str, Any]:
        """Return what the library shows of the settings."""
        return self._ask({"do": "in_force"})

    def facts(self) -> dict[str, Any]:
        """Return the versions of package and Python, and the library's build facts."""
        return self._ask({"do": "facts", "package": self.PACKAGE})

    def stop(self) -> None:
        """End the worker; its log stays."""
        if self._worker is not None:
            processes.end(self._worker)
            self._worker = None

    def _start_worker(self, threads: int) -> None:
        self._work.mkdir(parents=True, exist_ok=True)
        self._worker = processes.start(
            [python_of(self.name()), "-P", "-s", "-m", "joules.worker", self.name()],
            self._log,
            processes.minimal_environment()
            | {
                "HOME": str(self._work.absolute()),
                "PYTHONPATH": str(SCRIPTS),
                "PYTHONDONTWRITEBYTECODE": "1",
                "OMP_NUM_THREADS": str(threads),
            }
            | self.environment(threads, self._work.absolute()),
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
                f"{self.LABEL} could not `{request['do']}` ({self._model}): {answer['error']}. "
                "Expected the pinned version, a model file that it can read, and memory for it. "
                f"Its last words: {processes.tail(self._log)}. Its log is {self._log}."
            )
        return answer
