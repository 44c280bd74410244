"""Ollama: a private server, driven through the `ollama` package.

The server has its own port, HOME and model folder, knows no cloud, and sees next to nothing of the
user's environment. Prompts go in raw, and every sampling option is spelled out: in 0.24.0
repeat_penalty is 1.1 by default, and a model's own parameters and stop words apply where a request
is silent. An answer is asked for whole, as a user of the API would who has no one waiting for the
first word; a stream costs an HTTP chunk and a JSON object per token. So the time to the first token
is the server's own `prompt_eval_duration`, and `decode_s` is the rest of the call as the client
sees it, HTTP included.

Source of what is said here about Ollama: its repository at v0.24.0, server/routes.go,
llm/server.go and runner/llamarunner/runner.go.
"""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

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
)
from joules.machine import processes
from joules.machine.download import for_people
from joules.runtimes import Preview, Request, check_fits, check_options
from joules.runtimes.shared import ollama_build
from joules.runtimes.shared.basis import RuntimeBasis

NAME = "measured"  # of the model, in the server
START_S = 60.0
OBITUARY_S = 2.0  # until the log says how the runner ended
NANOSECOND = 1e-9
FINISH_REASONS: Mapping[str, FinishReason] = {"stop": "eos", "length": "limit"}
# The last line of each kind is that of the loaded model: the vocabulary alone is loaded before.
IN_FORCE = {
    "context_length": r"KvSize:(\d+)",
    "batch_size": r"BatchSize:(\d+)",
    "threads": r"NumThreads:(\d+)",
    "micro_batch_size": r"llama_context: n_ubatch +=? *(\d+)",
}


class Runtime(RuntimeBasis):
    """Ollama with a server of its own; see `joules.runtimes.Runtime`."""

    LABEL = "Ollama"
    DESCRIPTION = (
        "Ollama [@ollama] is a server that is reached over HTTP; its engine for these models is "
        "llama.cpp. Its loading includes the import of the weights file into its own store."
    )
    LIMITATIONS = (
        "Ollama breaks off an answer that repeats itself, and then gives no counts; the tokens of "
        "its text are counted instead.",
    )
    OPTIONS = ("version", "from", "binary", "official", "port")
    PACKAGES = ("ollama",)
    # It always stops at the end of text, and its prefix cache cannot be switched off: the harness
    # empties it before each prompt. Prompts are computed in batches of one size only.
    CANNOT_HOLD = frozenset({"ignore_eos", "prompt_cache", "micro_batch_size"})

    @classmethod
    def preview(cls, options: Options, provided: Facts | None = None) -> Preview:
        """Return what build, release or binary would take, or whether what is there fits this CPU.

        A build needs a compiler, a release for this platform may need the program zstd.
        """
        way = options.get("from")
        if provided is not None:
            if not ollama_build.fits_this_cpu(provided):
                text = f"was built for {ollama_build.built_for(provided)}"
                return Preview(text, possible=False)
        elif way == "build":
            try:
                ollama_build.require_compiler()
            except UserError as error:
                return Preview(str(error), possible=False)
            return Preview("will be compiled for this processor, which takes minutes")
        elif way == "official":
            release = ollama_build.release_of(options)
            if release is None:
                text = "has no release for this platform; set `from` to `build`"
                return Preview(text, possible=False)
            if release.is_packed_with_zstd and not shutil.which("zstd"):
                text = (
                    "its release is packed with zstd, which is missing. sudo apt-get install zstd"
                )
                return Preview(text, possible=False)
            return Preview(f"{for_people(release.bytes)} will be fetched", True, release.bytes)
        elif way == "path" and not options.get("binary"):
            return Preview("`binary` is ''; expected a program that is there", possible=False)
        return super().preview(options if way == "path" else {}, provided)

    @classmethod
    def provide(cls, options: Options, folder: Path) -> Facts:
        """Build, fetch or check the binary; see `joules.runtimes.shared.ollama_build.provide`."""
        check_options(cls.name(), options, cls.OPTIONS)
        return ollama_build.provide(options, folder)

    def __init__(self, options: Options, work_folder: Path) -> None:
        check_options(self.name(), options, self.OPTIONS)
        self._provided = dict(options["provided"])
        self._port = int(options.get("port") or 0)
        self._home = work_folder / "home"
        self._log = work_folder / "ollama.log"
        self._server: subprocess.Popen[str] | None = None
        self._runner = 0
        self._client: Any = None
        self._url = ""

    def start(self, model: Model, settings: Settings) -> None:
        """Start the server, give it the file as it is, load the weights."""
        import ollama

        self._model, self._settings = model, settings
        self._check(settings)
        if self._port:
            processes.check_port(self._port, self.LABEL)
        port = self._port or processes.free_port()
        shutil.rmtree(self._home, ignore_errors=True)
        self._home.mkdir(parents=True)
        binary = os.path.abspath(self._provided["binary"])
        self._server = processes.start([binary, "serve"], self._log, self._environment(port))
        self._url = f"http://127.0.0.1:{port}"
        self._client = ollama.Client(host=self._url, trust_env=False)
        if not processes.wait_until(self._is_up, START_S):
            raise UserError(
                f"Ollama did not answer on port {port} within {START_S:.0f} s. Expected a server. "
                f"Its last words: {processes.tail(self._log)}. Its log is {self._log}."
            )
        digest = f"sha256:{model.sha256}"
        self._import(digest)
        self._call(self._client.create, model=NAME, files={"model.gguf": digest}, stream=False)
        self._generate("", settings.max_tokens)
        children = psutil.Process(self._server.pid).children()
        self._runner = next(each.pid for each in children if "runner" in each.cmdline())

    def complete(self, prompt: Prompt, max_tokens: int | None = None) -> Completion:
        """Answer one prompt; see `joules.runtimes.Runtime`.

        Where the server breaks an answer off (more than 30 equal chunks in a row), it gives no
        counts: `finish_reason` is then `aborted_by_runtime` and the text is what came.
        """
        limit = self._settings.max_tokens if max_tokens is None else max_tokens
        check_fits(len(prompt.token_ids), limit, self._settings)
        start = time.perf_counter()
        answer = self._generate(prompt.text, limit)
        wall_s = time.perf_counter() - start
        self._check_runner()  # the server loads the model again without a word
        if not answer.done:
            return Completion(answer.response, 0, 0, None, wall_s, "aborted_by_runtime", False)
        prefill_s = (answer.prompt_eval_duration or 0) * NANOSECOND
        return Completion(
            text=answer.response,
            prompt_tokens=answer.prompt_eval_count,
            generated_tokens=answer.eval_count,
            prefill_s=prefill_s,
            decode_s=max(0.0, wall_s - prefill_s),
            finish_reason=FINISH_REASONS[answer.done_reason],
            load_s=(answer.load_duration or 0) * NANOSECOND,
        )

    def settings_in_force(self) -> SettingsInForce:
        """Return what the server's log shows of the loaded model's settings."""
        text = self._log.read_text(errors="replace")
        found: SettingsInForce = {}
        for name, pattern in IN_FORCE.items():
            if seen := re.findall(pattern, text):
                found[name] = int(seen[-1])
        if seen := re.findall(r"FlashAttention:(\w+)", text):
            found["flash_attention"] = seen[-1] == "Enabled"
        if seen := re.findall(r"GPULayers:(.*?) MultiUserCache", text):
            found["gpu_layers"] = sum(map(int, re.findall(r"Layers:(\d+)", seen[-1])))
        return found

    def facts(self) -> Facts:
        """Return the facts of the binary, the version that answers, its SIMD line, the blob.

        Raises UserError when the binary is no longer the one that was provided, or the server
        holds other weights than the model file.
        """
        import httpx

        sha256 = ollama_build.sha256_of(self._provided["binary"])
        if sha256 != self._provided["binary_sha256"]:
            raise UserError(
                f"{self._provided['binary']} has the sha256 {sha256}; expected "
                f"{self._provided['binary_sha256']}, as it was provided. It was changed since. "
                "Delete its folder in resources/runtimes and run again."
            )
        shown = self._call(self._client.show, NAME).modelfile
        blob = re.search(r"^FROM .*sha256-([0-9a-f]{64})$", shown, re.MULTILINE)
        if blob is None or blob.group(1) != self._model.sha256:
            raise UserError(
                f"Ollama runs {blob and blob.group(1)}; expected the sha256 of {self._model.path}, "
                f"{self._model.sha256}. It would run other weights. Its log is {self._log}."
            )
        simd = re.findall(r"msg=system (.*)", self._log.read_text(errors="replace"))
        answer = self._call(httpx.get, f"{self._url}/api/version", trust_env=False)
        return {
            **{name: fact for name, fact in self._provided.items() if name != "binary"},
            "version": answer.json()["version"],
            "simd": simd[-1] if simd else None,
            "blob_sha256": blob.group(1),
        }

    def stop(self) -> None:
        """End the server and its runner, remove its model folder; the log stays."""
        if self._server is not None:
            processes.end(self._server)
            self._server = None
        if self._home.exists():
            shutil.rmtree(self._home)

    def _check(self, settings: Settings) -> None:
        """Raise UserError for settings that cannot be held, or a binary for another CPU."""
        self.check_held(settings)
        if settings.micro_batch_size != settings.batch_size:
            raise UserError(
                f"batch_size is {settings.batch_size} and micro_batch_size "
                f"{settings.micro_batch_size}; Ollama computes whole batches, so expected equal "
                "numbers. Set both to the same in `settings`."
            )
        if not Path(self._provided["binary"]).exists():
            raise UserError(
                f"{self._provided['binary']} is missing. Expected Ollama's binary. Make it again: "
                "delete its folder and its .json in resources/runtimes and run the same command."
            )
        if not ollama_build.fits_this_cpu(self._provided):
            raise UserError(
                f"Ollama was built for {ollama_build.built_for(self._provided)}; this CPU is "
                f"{ollama_build.this_cpu()}. Expected the same. Delete its .json in "
                "resources/runtimes and run the same command: it is then built for this one."
            )

    def _environment(self, port: int) -> dict[str, str]:
        return processes.minimal_environment() | {
            "HOME": str(self._home.absolute()),
            "GIN_MODE": "release",
            "OLLAMA_HOST": f"127.0.0.1:{port}",
            "OLLAMA_MODELS": str(self._home.absolute() / "models"),
            "OLLAMA_NUM_PARALLEL": "1",
            "OLLAMA_MAX_LOADED_MODELS": "1",
            "OLLAMA_KEEP_ALIVE": "-1",
            "OLLAMA_CONTEXT_LENGTH": str(self._settings.context_length),
            "OLLAMA_FLASH_ATTENTION": str(int(self._settings.flash_attention)),
            "OLLAMA_KV_CACHE_TYPE": "f16",
            "OLLAMA_NOPRUNE": "1",
            "OLLAMA_NO_CLOUD": "1",  # else it asks ollama.com for recommendations at its start
            "OMP_NUM_THREADS": str(self._settings.threads),
        }

    def _is_up(self) -> bool:
        self._check_server()
        import httpx
        import ollama

        try:
            self._client.ps()
        except (ConnectionError, httpx.HTTPError, ollama.ResponseError):
            return False
        return True

    def _import(self, digest: str) -> None:
        """Upload the model file into the server's own store, which checks its digest."""
        uploaded = self._call(self._client.create_blob, self._model.path)
        if uploaded != digest:
            raise UserError(
                f"{self._model.path} has the digest {uploaded}; expected {digest}. It was "
                "changed since it was checked. Delete it and run again."
            )

    def _options(self, max_tokens: int) -> Request:
        settings = self._settings
        return {
            "num_ctx": settings.context_length,
            "num_batch": settings.batch_size,
            "num_gpu": settings.gpu_layers,
            "num_thread": settings.threads,
            "use_mmap": True,
            "num_predict": max_tokens,
            "num_keep": 0,
            "seed": settings.seed,
            "temperature": settings.temperature,
            "top_k": 1,
            "top_p": 1.0,
            "min_p": 0.0,
            "typical_p": 1.0,
            "repeat_last_n": 0,
            "repeat_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "stop": [],
        }

    def _generate(self, text: str, max_tokens: int) -> Any:
        """Send one prompt; an empty one loads the model."""
        return self._call(
            self._client.generate,
            model=NAME,
            prompt=text,
            raw=True,
            stream=False,
            think=False,
            keep_alive=-1,
            options=self._options(max_tokens),
        )

    def _call(self, function: Any, *arguments: Any, **named: Any) -> Any:
        """Call the client; turn a dead server or runner into an error that says how it ended."""
        import httpx
        import ollama

        try:
            return function(*arguments, **named)
        except (ConnectionError, httpx.HTTPError, ollama.ResponseError) as error:
            processes.wait_until(lambda: self._server_ended() or self._runner_ended(), OBITUARY_S)
            self._check_server()
            self._check_runner()
            raise UserError(
                f"Ollama answered {self._model.name} with an error: {error}. Expected an answer. "
                f"Check the model file and the memory; its log is {self._log}."
            ) from error

    def _server_ended(self) -> bool:
        return self._server is not None and self._server.poll() is not None

    def _runner_ended(self) -> bool:
        if not self._runner:  # it is still loading; only the log tells
            return _obituary(self._log) != ""
        return not psutil.pid_exists(self._runner)

    def _check_server(self) -> None:
        """Raise UserError when the server has ended."""
        if self._server is not None and self._server_ended():
            raise self._died(self.LABEL, processes.ending(self._server.returncode))

    def _check_runner(self) -> None:
        """Raise UserError when the process that holds the weights has ended."""
        if self._runner_ended():
            processes.wait_until(lambda: _obituary(self._log) != "", OBITUARY_S)
            # A runner writes down every other signal before it ends.
            raise self._died("Ollama's runner", "ended without a word, as by SIGKILL")

    def _died(self, label: str, how: str) -> UserError:
        number = _obituary(self._log)  # Go catches some signals and ends with a status
        how = f"was ended by {number}" if number else how
        return processes.died(label, self._model.name, how, self._log)


def _obituary(log: Path) -> str:
    """Return the signal that ended a runner, by the server's log; "" when none did."""
    text = log.read_text(errors="replace")
    if found := re.search(r"^(SIG[A-Z]+): ", text, re.MULTILINE):  # its own last words
        return found.group(1)
    if found := re.search(r"signal: ([a-z ]+)", text):
        return processes.SIGNALS_BY_TEXT.get(found.group(1), found.group(1))
    return ""
