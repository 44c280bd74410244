"""Ollama: a private server, driven through the `ollama` package.

The server has its own port, HOME and model folder, knows no cloud, and sees next to nothing of the
user's environment. What computes is a child of it, llama.cpp's own server, which has no cache of
former prompts beside the one that cannot be switched off. Prompts go in raw, and every sampling
option is spelled out, because a model's own parameters apply where a request is silent. An answer
is asked for whole, as a user of the API would who has no one waiting for the first word; a stream
costs an HTTP chunk and a JSON object per token. So prefill and decode are the server's own
`prompt_eval_duration` and `eval_duration`, which are its child's, and the rest of the call is
overhead. Weights that are loaded again show as another runner process.

Source of what is said here about Ollama: its repository at v0.34.0, server/routes.go,
server/sched.go and llm/llama_server.go.
"""

import contextlib
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
    parts_of_call,
)
from joules.machine import processes, surroundings
from joules.machine.download import for_people
from joules.runtimes import Preview, check_fits, check_options
from joules.runtimes.shared import (
    llama_cpp_log,
    llama_server_program,
    native_build,
    ollama_build,
    ollama_release,
    ollama_server,
    ollama_store,
)
from joules.runtimes.shared.basis import RuntimeBasis

START_S = 60.0
OBITUARY_S = 2.0  # until the log says how the runner ended
# It ended between two looks of the server, which tells no signal then.
REPLACED = "was ended, by SIGKILL, SIGSEGV or the server itself, and replaced by another one,"
NANOSECOND = 1e-9
FINISH_REASONS: Mapping[str, FinishReason] = {"stop": "eos", "length": "limit"}


class Runtime(RuntimeBasis):
    """Ollama with a server of its own; see `joules.runtimes.Runtime`."""

    LABEL = "Ollama"
    DESCRIPTION = (
        "Ollama [@ollama] is a server that is reached over HTTP; its engine is llama.cpp's own "
        "server, which it starts as its child. It copies a weights file into a store of its own, "
        "once, before it can load it; records of the schemas 1 and 2 count that as loading."
    )
    LIMITATIONS = (
        "Ollama breaks off an answer that repeats itself or has bytes that are no text, and then "
        "gives no counts; the tokens of its text are counted instead.",
    )
    TRIALS: Mapping[str, str] = {
        "threads": "In trial runs on a virtual machine with two cores, with models of one and "
        "three million parameters, Ollama on both cores was about five times slower than on one: "
        "its threads wait actively and starve the server that answers requests. llama.cpp through "
        "llama-cpp-python lost about as much there when another program kept one core busy while "
        "it computed on both. We saw this with models so small, on that one machine; a larger "
        "model spends less of its time waiting, and we did not try one."
    }
    OPTIONS = ("version", "from", "binary", "official", "port")
    PACKAGES = ("ollama",)
    IMPORTS = True
    # Its cache of a prompt's beginning cannot be switched off: the harness empties it before each
    # prompt. Prompts are computed in batches of one size only.
    CANNOT_HOLD = frozenset({"prompt_cache", "micro_batch_size"})

    @classmethod
    def preview(cls, options: Options, provided: Facts | None = None) -> Preview:
        """Return what build, release or binary would take, or whether what is there fits this CPU.

        A build needs a compiler, a release for this platform may need the program zstd.
        """
        way = options.get("from")
        if provided is not None:
            if not native_build.fits_this_cpu(provided):
                text = f"was built for {native_build.built_for(provided)}"
                return Preview(text, possible=False)
        elif way == "build":
            try:
                ollama_build.require_tools()
            except UserError as error:
                return Preview(str(error), possible=False)
            return Preview("will be compiled for this processor, which takes minutes")
        elif way == "official":
            release = ollama_release.release_of(options)
            if release is None:
                text = "has no release of known sum for this platform; set `from` to `build`"
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
        self._work = work_folder
        self._home = work_folder / "home"
        self._log = work_folder / "ollama.log"  # that of the server that was started last
        self._imported = ""  # the sha256 of the model in the store
        self._server: subprocess.Popen[str] | None = None
        self._runner = 0
        self._client: Any = None
        self._url = ""

    def import_model(self, model: Model) -> None:
        """Copy the file into a new store, by a server that ends with it; wait for the disk."""
        self._model = model
        self._check_binary()
        shutil.rmtree(self._home, ignore_errors=True)
        self._home.mkdir(parents=True)
        self._start_server("ollama-import", {})
        digest = f"sha256:{model.sha256}"
        self._upload(digest)
        self._end_server()
        ollama_store.name_model(self._home / "models", model)
        self._imported = model.sha256

    def start(self, model: Model, settings: Settings) -> None:
        """Start the server and load the weights."""
        self._model = model
        self._check(settings)
        if self._imported != model.sha256:
            self.import_model(model)
        self._settings = settings
        ollama_server.configure_runner(self._home, settings)
        self._start_server("ollama", ollama_server.held(settings))
        self._generate("", settings.max_tokens)
        holder = self.holder()
        if holder is None:
            raise UserError(
                f"Ollama has no runner for {model.name} though it said that it loaded it. Expected "
                f"a process that holds the weights. Its log is {self._log}."
            )
        self._runner = holder

    def holder(self) -> int | None:
        """Return the runner, the child of the server that holds the weights."""
        if self._server is None:
            return None
        children = psutil.Process(self._server.pid).children()
        return next((each.pid for each in children if ollama_server.is_runner(each)), None)

    def _start_server(self, name: str, held: dict[str, str]) -> None:
        """Start a server with these variables and a log of this name; wait until it is up."""
        with surroundings.hidden_from_clients("OLLAMA_*"):
            import ollama

        if self._port:
            processes.check_port(self._port, self.LABEL)
        port = self._port or processes.free_port()
        binary = os.path.abspath(self._provided["binary"])
        self._log = self._work / f"{name}.log"
        environment = ollama_server.environment(self._home.absolute(), port) | held
        self._server = processes.start([binary, "serve"], self._log, environment)
        self._url = f"http://127.0.0.1:{port}"
        self._client = ollama.Client(host=self._url, trust_env=False)
        if not processes.wait_until(self._is_up, START_S):
            raise UserError(
                f"Ollama did not answer on port {port} within {START_S:.0f} s. Expected a server. "
                f"Its last words: {processes.tail(self._log)}. Its log is {self._log}."
            )

    def complete(self, prompt: Prompt, max_tokens: int | None = None) -> Completion:
        """Answer one prompt; see `joules.runtimes.Runtime`.

        Where the server breaks an answer off (more than 30 equal chunks in a row, or bytes that are
        no UTF-8), it gives no counts: `finish_reason` is then `aborted_by_runtime` and the text is
        what came. Of a token that ends within a character at the limit, nothing comes.
        """
        limit = self._settings.max_tokens if max_tokens is None else max_tokens
        check_fits(len(prompt.token_ids), limit, self._settings)
        start = time.perf_counter()
        answer = self._generate(prompt.text, limit)
        wall_s = time.perf_counter() - start
        self._check_runner()  # the server loads the model again without a word
        if not answer.done:
            return Completion(answer.response, 0, 0, None, wall_s, "aborted_by_runtime", False)
        prefill_s, decode_s, overhead_s = parts_of_call(
            wall_s,
            (answer.prompt_eval_duration or 0) * NANOSECOND,
            (answer.eval_duration or 0) * NANOSECOND,
        )
        return Completion(
            text=answer.response,
            prompt_tokens=answer.prompt_eval_count,
            generated_tokens=answer.eval_count,
            prefill_s=prefill_s,
            decode_s=decode_s,
            finish_reason=FINISH_REASONS[answer.done_reason],
            overhead_s=overhead_s,
        )

    def settings_in_force(self) -> SettingsInForce:
        """Return what the server's log shows of the loaded model's settings."""
        return llama_cpp_log.in_force(self._log.read_text(errors="replace"))

    def facts(self) -> Facts:
        """Return the facts of the programs, the version that answers, its SIMD line, the blob.

        Raises UserError when a program is no longer the one that was provided, or the server holds
        other weights than the model file.
        """
        import httpx

        binary = self._provided["binary"]
        now = ollama_build.hashes(binary)
        llama_server_program.check_unchanged(binary, now, self._provided, self.name())
        shown = self._call(self._client.show, ollama_store.NAME).modelfile
        blob = re.search(r"^FROM .*sha256-([0-9a-f]{64})$", shown, re.MULTILINE)
        if blob is None or blob.group(1) != self._model.sha256:
            raise UserError(
                f"Ollama runs {blob and blob.group(1)}; expected the sha256 of {self._model.path}, "
                f"{self._model.sha256}. It would run other weights. Its log is {self._log}."
            )
        answer = self._call(httpx.get, f"{self._url}/api/version", trust_env=False)
        return {
            **{name: fact for name, fact in self._provided.items() if name != "binary"},
            "version": answer.json()["version"],
            "simd": llama_cpp_log.simd(self._log.read_text(errors="replace")),
            "blob_sha256": blob.group(1),
        }

    def stop(self) -> None:
        """End the server and its runner, remove its model folder; the logs stay."""
        self._end_server()
        self._imported = ""
        if self._home.exists():
            shutil.rmtree(self._home)

    def _end_server(self) -> None:
        if self._server is not None:
            processes.end(self._server)
            self._server = None
        self._runner = 0

    def _check(self, settings: Settings) -> None:
        """Raise UserError for settings that cannot be held, or a binary for another CPU."""
        self.check_held(settings)
        llama_server_program.refuse_configuration(self.LABEL)
        if settings.micro_batch_size != settings.batch_size:
            raise UserError(
                f"batch_size is {settings.batch_size} and micro_batch_size "
                f"{settings.micro_batch_size}; Ollama computes whole batches, so expected equal "
                "numbers. Set both to the same in `settings`."
            )
        self._check_binary()

    def _check_binary(self) -> None:
        """Raise UserError for a binary that is gone or was built for another CPU."""
        if not Path(self._provided["binary"]).exists():
            raise UserError(
                f"{self._provided['binary']} is missing. Expected Ollama's binary. Make it again: "
                "delete its folder and its .json in resources/runtimes and run the same command."
            )
        if not native_build.fits_this_cpu(self._provided):
            raise UserError(
                f"Ollama was built for {native_build.built_for(self._provided)}; this CPU is "
                f"{native_build.this_cpu()}. Expected the same. Delete its .json in "
                "resources/runtimes and run the same command: it is then built for this one."
            )

    def _is_up(self) -> bool:
        self._check_server()
        import httpx
        import ollama

        try:
            self._client.ps()
        except (ConnectionError, httpx.HTTPError, ollama.ResponseError):
            return False
        return True

    def _upload(self, digest: str) -> None:
        """Upload the model file into the server's own store, which checks its digest."""
        uploaded = self._call(self._client.create_blob, self._model.path)
        if uploaded != digest:
            raise UserError(
                f"{self._model.path} has the digest {uploaded}; expected {digest}. It was "
                "changed since it was checked. Delete it and run again."
            )

    def _generate(self, text: str, max_tokens: int) -> Any:
        """Send one prompt; an empty one loads the model."""
        return self._call(
            self._client.generate,
            model=ollama_store.NAME,
            prompt=text,
            raw=True,
            stream=False,
            think=False,
            keep_alive=-1,
            options=ollama_server.sampling(self._settings, max_tokens),
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
            return ollama_server.obituary(self._log) != ""
        return not psutil.pid_exists(self._runner)

    def _check_server(self) -> None:
        """Raise UserError when the server has ended."""
        if self._server is not None and self._server_ended():
            raise self._died(self.LABEL, processes.ending(self._server.returncode))

    def _check_runner(self) -> None:
        """Raise UserError when the process that holds the weights has ended."""
        if self._runner_ended():
            if self.holder() is not None:
                raise self._died("Ollama's runner", REPLACED)
            self._ask_how_it_ended()
            raise self._died("Ollama's runner", "ended without a word, as by SIGKILL")

    def _ask_how_it_ended(self) -> None:
        """Make the server look after its runner: it writes down how that ended when it is asked.

        It looks only where the options are those of the runner; others would be another runner.
        """
        import httpx

        def told() -> bool:
            return ollama_server.obituary(self._log) != ""

        if not told():
            request = {"model": ollama_store.NAME, "prompt": "", "stream": False}
            options = ollama_server.sampling(self._settings, self._settings.max_tokens)
            with contextlib.suppress(httpx.HTTPError):  # it would load the model again, at leisure
                httpx.post(
                    f"{self._url}/api/generate",
                    json={**request, "options": options},
                    timeout=OBITUARY_S,
                    trust_env=False,
                )
            processes.wait_until(told, OBITUARY_S)

    def _died(self, label: str, how: str) -> UserError:
        number = ollama_server.obituary(self._log)  # Go catches some signals and ends with a status
        how = f"was ended by {number}" if number else how
        return processes.died(label, self._model.name, how, self._log)
