"""What the runtimes share that are a Python library: each works in a worker process of its own.

A module in `joules/runtimes` derives its `Runtime` from `InProcess` and has a class `Worker`, which
`joules.runtimes.shared.worker` runs with the runtime's own Python. Where the module is imported by
the worker, only the standard library is at hand beside the runtime's packages.
"""

import dataclasses
import json
import subprocess
import time
from pathlib import Path

from joules.core.errors import UserError
from joules.core.inference import (
    Completion,
    Facts,
    Model,
    Options,
    Prompt,
    Settings,
    SettingsInForce,
    parts_of_call,
)
from joules.core.places import SCRIPTS
from joules.machine import processes, virtual_environments
from joules.machine.virtual_environments import python_of
from joules.runtimes import Request, check_fits, check_options
from joules.runtimes.shared.basis import RuntimeBasis

WORKER = "joules.runtimes.shared.worker"
IDENTITY = ("version", "python", "libraries_sha256")  # facts that one environment keeps


class InProcess(RuntimeBasis):
    """A runtime whose library is loaded by a worker; see `joules.runtimes.Runtime`.

    `PACKAGE` is the distribution whose version the study pins. The class `Worker` of the same
    module has:

    - `__init__(model, settings)`: load the file `model` under these `Settings`;
    - `complete(text, token_ids, limit)`: return a `Completion` without `overhead_s`, which is the
      rest of the call as it is seen from here;
    - `in_force()`: return the settings that can be observed, under the names of `Settings`;
    - `facts()`: a static method; return build facts beside version and Python, `simd` and
      `libraries_sha256` (`joules.runtimes.shared.worker.hash_of`) among them. No model need be
      loaded.
    """

    PACKAGE = ""

    @classmethod
    def provide(cls, options: Options, folder: Path) -> Facts:
        """Make the environment where it is missing, check version and library; return facts."""
        check_options(cls.name(), options, cls.OPTIONS)
        made = cls.make(options, folder)
        with cls({**options, "provided": made}, folder) as runtime:
            runtime._start_worker(None)
            facts = runtime.facts()
        cls.check_facts(facts)
        return made | facts

    @classmethod
    def make(cls, options: Options, folder: Path) -> Facts:
        """Make the environment where it is missing; return facts that a worker needs to start."""
        virtual_environments.provide(cls.name(), cls.PACKAGE, options["version"])
        return {}

    @classmethod
    def check_facts(cls, facts: Facts) -> None:
        """Raise UserError for a build that must not be measured."""

    @classmethod
    def environment(cls, threads: int | None, work: Path) -> dict[str, str]:
        """Return the variables that the library needs before it is imported.

        `threads`: how many are to compute; None: the library decides.
        """
        return {}

    def python(self) -> str:
        """Return the interpreter that has the packages."""
        return python_of(self.name())

    def library_variables(self) -> dict[str, str]:
        """Return the variables that say which library is loaded, where there are several."""
        return {}

    def __init__(self, options: Options, work_folder: Path) -> None:
        check_options(self.name(), options, self.OPTIONS)
        self._options = options
        self._provided: Facts = options.get("provided", {})
        self._work = work_folder
        self._log = work_folder / f"{self.name()}.log"
        self._worker: subprocess.Popen[str] | None = None
        self._model = "no model"

    def start(self, model: Model, settings: Settings) -> None:
        """Start the worker and load the weights."""
        self.check_held(settings)
        self._model, self._settings = model.name, settings
        self._start_worker(settings.threads)
        wanted = {"model": str(model.path.absolute()), "settings": dataclasses.asdict(settings)}
        self._ask({"do": "load", **wanted})

    def complete(self, prompt: Prompt, max_tokens: int | None = None) -> Completion:
        """Answer one prompt; see `joules.runtimes.Runtime`."""
        limit = self._settings.max_tokens if max_tokens is None else max_tokens
        check_fits(len(prompt.token_ids), limit, self._settings)
        request = {"text": prompt.text, "token_ids": prompt.token_ids, "limit": limit}
        start = time.perf_counter()
        told = Completion(**self._ask({"do": "complete", **request}))
        call_s = time.perf_counter() - start
        prefill_s, decode_s, overhead_s = parts_of_call(call_s, told.prefill_s, told.decode_s)
        return dataclasses.replace(
            told, prefill_s=prefill_s, decode_s=decode_s, overhead_s=overhead_s
        )

    def holder(self) -> int | None:
        """Return the worker's process."""
        return None if self._worker is None else self._worker.pid

    def settings_in_force(self) -> SettingsInForce:
        """Return what the library shows of the settings."""
        return self._ask({"do": "in_force"})

    def facts(self) -> Facts:
        """Return the versions of package and Python, and the library's build facts.

        Raises UserError when the library is no longer the one that was provided.
        """
        found = self._ask({"do": "facts", "package": self.PACKAGE})
        self._check_provided(found)
        return found

    def _check_provided(self, found: Facts) -> None:
        different = [
            f"{name} {found.get(name)}, expected {self._provided[name]}"
            for name in IDENTITY
            if name in self._provided and self._provided[name] != found.get(name)
        ]
        if different:
            raise UserError(
                f"The library of {self.LABEL} is no longer the one that was provided: "
                f"{'; '.join(different)}. Its environment was made anew since. What was measured "
                f"with the old one must not be mixed with the new. Delete the .json files in "
                f"resources/runtimes/{self.name()} and run again: it is provided, and its runs are "
                "measured, anew; or put the old environment back."
            )

    def stop(self) -> None:
        """End the worker; its log stays."""
        if self._worker is not None:
            processes.end(self._worker)
            self._worker = None

    def _start_worker(self, threads: int | None) -> None:
        self._work.mkdir(parents=True, exist_ok=True)
        held = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
        self._worker = processes.start(
            [self.python(), "-P", "-s", "-m", WORKER, self.name()],
            self._log,
            processes.minimal_environment()
            | {
                "HOME": str(self._work.absolute()),
                "PYTHONPATH": str(SCRIPTS),
                "PYTHONDONTWRITEBYTECODE": "1",
            }
            | held
            | self.environment(threads, self._work.absolute())
            | self.library_variables(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def _ask(self, request: Request) -> Facts:
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
