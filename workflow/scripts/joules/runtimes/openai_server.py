"""Any server with OpenAI's `/v1/completions`: vLLM, SGLang, LM Studio, TGI, llama.cpp's and others.

It is started by the command of the options, or runs already at their address. Only what all such
servers know is sent: the raw prompt, `max_tokens`, `temperature` and `seed`; what one of them needs
beside that stands under `extra`. Nothing in the protocol shows the settings in force, so none that
the command sets is taken as held; nor does it show the weights behind an address. Prompt counts,
which every warm-up and run compares, show a template or a token that the server adds. A server that
runs already is none of the run's own processes: its work counts as that of others (`foreign_cpu`).

In the command, `{llama_server}` stands for the server of the llama.cpp that other runtimes share.
In command and `extra`, `{model}`, `{port}` and the names of `Settings`, such as `{threads}`, stand
for their values. Where a setting is left to the server, the argument or key with its name goes, and
before such an argument the option that it is the value of.

Source: OpenAI, API reference, Completions (legacy). `timings` is an addition of llama.cpp's server;
without it the time to the first token is not known.
"""

import dataclasses
import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

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
from joules.runtimes import Request, check_fits, check_options
from joules.runtimes.shared import llama_cpp_library, llama_cpp_log, llama_server_program
from joules.runtimes.shared.http import HttpServer

COMPLETIONS = "/v1/completions"
LLAMA_SERVER = "{llama_server}"
FIXED = {"prompt", "max_tokens", "temperature", "seed", "stream"}
FINISH_REASONS: Mapping[str, FinishReason] = {"stop": "eos", "length": "limit"}


class Runtime(HttpServer):
    """A server that speaks OpenAI's protocol; see `joules.runtimes.Runtime`."""

    LABEL = "OpenAI-compatible server"
    DESCRIPTION = (
        "The OpenAI-compatible server is reached over HTTP with nothing but OpenAI's completions "
        "protocol; the appendix says which server it is."
    )
    LIMITATIONS = (
        "OpenAI's protocol shows no setting in force, and behind an address not the weights "
        "either; only the counts of prompt tokens are compared.",
        "An OpenAI-compatible server that ran before the study is none of the run's own "
        "processes, so its work counts as that of others.",
    )
    OPTIONS = ("version", "command", "url", "model", "extra")
    CANNOT_HOLD = frozenset(
        (
            *("context_length", "threads", "batch_size", "micro_batch_size", "flash_attention"),
            *("gpu_layers", "ignore_eos", "prompt_cache", "kv_cache"),
        )
    )

    @classmethod
    def provide(cls, options: Options, folder: Path) -> Facts:
        """Check that the options name one server; return what is known of it."""
        check_options(cls.name(), options, cls.OPTIONS)
        command, url = options.get("command") or [], options.get("url") or ""
        if bool(command) == bool(url):
            raise UserError(
                f"runtime_options.openai_server has command {command!r} and url {url!r}; expected "
                "one of them: the command that starts a server, or the address of one that runs."
            )
        if fixed := FIXED & set(options.get("extra") or {}):
            raise UserError(
                f"runtime_options.openai_server.extra has {', '.join(sorted(fixed))}; expected "
                "none of these: they are the same for every runtime. Take them out."
            )
        host = urlsplit(url).hostname or ""
        if url and host != "localhost" and not host.startswith("127.") and host != "::1":
            raise UserError(
                f"runtime_options.openai_server.url is {url!r}; expected an address of this "
                "machine, as http://127.0.0.1:8000: only this machine's energy is measured. Run "
                "the study where the server runs."
            )
        shared: Facts = {}
        if command and command[0] == LLAMA_SERVER:
            taken = Path(llama_cpp_library.take(folder / "lib"), llama_cpp_library.SERVER)
            shared = {"llama_server": str(taken)}
        started = shared.get("llama_server") or (command[0] if command else "")
        parts = Path(started).parts
        if parts[:1] == (".venvs",):  # another runtime's server
            virtual_environments.make(parts[1])
        program = cls._program(started)
        asked = json.dumps([command, url, options.get("extra") or {}], sort_keys=True)
        return {
            **shared,
            "version": options["version"],
            "options_sha256": hashlib.sha256(asked.encode()).hexdigest(),
            **cls._hashes(program, bool(shared)),
            "weights": "the model's file" if "{model}" in " ".join(command) else "not checked",
            "simd": "not shown by the server",
        }

    @staticmethod
    def _program(started: str) -> str:
        """Return where the program lies that a command starts; empty where none is started."""
        program = shutil.which(started) if started else ""
        if program is None:
            raise UserError(
                f"runtime_options.openai_server.command starts {started!r}, which is not there. "
                "Expected a program. Install it, or correct its path."
            )
        return program

    @staticmethod
    def _hashes(program: str, shared: bool) -> Facts:
        """Return the sha256 of a program; of the shared build those of its libraries as well."""
        if shared:
            return llama_server_program.hashes(program)
        return {"binary_sha256": sha256_of(program) if program else None}

    def start(self, model: Model, settings: Settings) -> None:
        """Start the server, or connect to the one that runs."""
        self.check_held(settings)
        self._model, self._settings = model.name, settings
        port = processes.free_port()
        self._values = dataclasses.asdict(settings) | {
            "model": str(model.path.absolute()),
            "port": port,
            "llama_server": os.path.abspath(self._provided.get("llama_server", "")),
            "flash_attention": {True: "on", False: "off", None: None}[settings.flash_attention],
        }
        self._extra = self._filled(self._options.get("extra") or {})
        if command := self._options.get("command"):
            self._start_server(self._arguments(command), port)
        else:
            self._connect(self._options["url"].rstrip("/").removesuffix("/v1"))

    def complete(self, prompt: Prompt, max_tokens: int | None = None) -> Completion:
        """Answer one prompt; see `joules.runtimes.Runtime`."""
        limit = self._settings.max_tokens if max_tokens is None else max_tokens
        check_fits(len(prompt.token_ids), limit, self._settings)
        request = self._request(prompt.text, limit)
        start = time.perf_counter()
        answer = self._post(COMPLETIONS, request, llama_cpp_log.NO_TEXT)
        wall_s = time.perf_counter() - start
        if answer is None:  # the server is llama.cpp's
            return llama_cpp_log.answer_without_text(wall_s)
        try:
            choice, usage = answer["choices"][0], answer["usage"]
            text, reason = str(choice["text"]), FINISH_REASONS[choice["finish_reason"]]
            counts = int(usage["prompt_tokens"]), int(usage["completion_tokens"])
        except (KeyError, IndexError, TypeError) as error:
            raise UserError(
                f"{self.LABEL} answered {self._model} with {str(answer)[:300]}; expected text, "
                "`finish_reason` stop or length, and both token counts under `usage`. Without "
                "them energy per token cannot be told. See the server's documentation."
            ) from error
        phases = llama_cpp_log.phases(answer.get("timings") or {})
        prefill_s, decode_s, overhead_s = parts_of_call(wall_s, *phases)
        return Completion(
            text=text,
            prompt_tokens=counts[0],
            generated_tokens=counts[1],
            prefill_s=prefill_s,
            decode_s=decode_s,
            overhead_s=overhead_s,
            finish_reason=reason,
        )

    def settings_in_force(self) -> SettingsInForce:
        """Return nothing: the protocol shows no setting."""
        return {}

    def facts(self) -> Facts:
        """Return what is known of options and program.

        Raises UserError when the program, or a library of the shared build, is no longer the one
        that was provided.
        """
        shared, command = self._provided.get("llama_server"), self._options.get("command") or [""]
        program = self._program(shared or command[0])
        now = self._hashes(program, bool(shared))
        llama_server_program.check_unchanged(program, now, self._provided, self.name())
        return {name: fact for name, fact in self._provided.items() if name != "llama_server"}

    def _request(self, text: str, limit: int) -> Request:
        return {
            "model": self._options.get("model") or self._model,
            "prompt": text,
            "max_tokens": limit,
            "temperature": self._settings.temperature,
            "seed": self._settings.seed,
            "stream": False,
            **self._extra,
        }

    def _ask_if_up(self) -> int:
        """Ask for one token: servers list their models before the weights are loaded."""
        return int(self._client.post(COMPLETIONS, json=self._request("#", 1)).status_code)

    def _arguments(self, command: Sequence[str]) -> list[str]:
        """Return the command with the values of this run, without what is left to the server."""
        arguments: list[str] = []
        for part in command:
            if not self._is_left_out(part):
                arguments.append(str(self._filled(part)))
            elif part.startswith("{") and arguments and arguments[-1].startswith("-"):
                arguments.pop()
        return arguments

    def _is_left_out(self, part: Any) -> bool:
        left = [f"{{{name}}}" for name, value in self._values.items() if value is None]
        return isinstance(part, str) and any(name in part for name in left)

    def _filled(self, part: Any) -> Any:
        """Return a part of the options with the values of this run in the place of their names."""
        if isinstance(part, Mapping):
            kept = {key: each for key, each in part.items() if not self._is_left_out(each)}
            return {key: self._filled(value) for key, value in kept.items()}
        if not isinstance(part, str):
            return part
        for name, value in self._values.items():
            if part == f"{{{name}}}":
                return value
            part = part.replace(f"{{{name}}}", str(value))
        return part
