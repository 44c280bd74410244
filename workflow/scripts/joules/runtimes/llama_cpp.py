"""llama-cpp-python: llama.cpp as a library, in a worker process of its own.

The worker drives `Llama.generate` and puts the text together itself: `create_completion`
detokenises all of the answer anew after every token, which is quadratic, and `Llama.detokenize`
drops every token of more than 32 bytes (llama-cpp-python 0.3.36, issue 2362). At temperature 0
`generate` runs a greedy sampler and no other.
"""

import ctypes
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from joules.core.errors import UserError
from joules.core.files import read_json
from joules.core.inference import (
    Completion,
    Facts,
    FinishReason,
    KvCacheType,
    Options,
    Settings,
    SettingsInForce,
)
from joules.machine import llama_cpp_package, virtual_environments
from joules.runtimes import Preview
from joules.runtimes.shared import llama_cpp_library, native_build
from joules.runtimes.shared.in_process import InProcess

PIECE_BYTES = 1024  # longer than any token's text
SHARED, STOCK = "shared", "stock"
STOCK_ENVIRONMENT = "llama_cpp-stock"  # in .venvs: the package with the llama.cpp of its own
# The llama.cpp inside the source package, by its commit, which lies there with its date. The number
# is that of the release whose source is the same but for three files of its WebGPU part.
OWN = {"0c1e570": {"llama_cpp_build": 11311, "llama_cpp_date": "2026-10-01"}}


class Runtime(InProcess):
    """llama-cpp-python in a worker process; see `joules.runtimes.Runtime`.

    With `ignore_eos` it decodes on past the end of text: the same computation per token.
    """

    LABEL = "llama-cpp-python"
    DESCRIPTION = (
        "llama-cpp-python [@llamacpppython] is a Python library that calls llama.cpp [@llamacpp] "
        "in its own process."
    )
    TRIALS: Mapping[str, str] = {
        "ways of use": "Of llama-cpp-python the study uses the lower call `generate`; the "
        "convenient `create_completion`, which most programs use, turns all tokens so far into "
        "text again after each token, which cost almost nothing with a model of half a billion "
        "parameters, and with one of two million and long answers made the whole call up to five "
        "times slower, in trial runs of our own."
    }
    PACKAGE = "llama-cpp-python"
    PACKAGES = (PACKAGE,)
    OPTIONS = ("version", "library")

    @classmethod
    def preview(cls, options: Options, provided: Facts | None = None) -> Preview:
        """Return whether its llama.cpp is there, or will be compiled."""
        if provided is not None:
            folder = provided.get("library_folder")
            if not native_build.fits_this_cpu(provided):
                text = f"was built for {native_build.built_for(provided)}"
                return Preview(text, possible=False)
            if folder and not Path(folder).exists():
                return Preview(f"{folder} is gone", possible=False)
            return super().preview(options, provided)
        if library_of(options) == SHARED:
            is_here = llama_cpp_library.is_here()
        else:
            own = Path(".venvs") / STOCK_ENVIRONMENT
            is_here = own.exists() or llama_cpp_package.has_own_library()
        if is_here:
            return Preview("will be checked when the study starts")
        return Preview("its llama.cpp will be compiled for this processor, which takes minutes")

    @classmethod
    def make(cls, options: Options, folder: Path) -> Facts:
        """Take the shared llama.cpp below `folder`, or compile the package with its own."""
        version = options["version"]
        if library_of(options) == STOCK:
            here = llama_cpp_package.has_own_library()
            virtual_environments.provide(STOCK_ENVIRONMENT, cls.PACKAGE, version, here)
            return {}
        virtual_environments.provide(cls.name(), cls.PACKAGE, version)
        return {"library_folder": llama_cpp_library.take(folder / "lib")}

    def python(self) -> str:
        """Return the interpreter that has the package, with its own llama.cpp where asked for."""
        stock = library_of(self._options) == STOCK
        return virtual_environments.python_of(STOCK_ENVIRONMENT if stock else self.name())

    def library_variables(self) -> dict[str, str]:
        """Return where the shared library is; nothing for the package's own."""
        folder = self._provided.get("library_folder")
        return {llama_cpp_package.VARIABLE: os.path.abspath(folder)} if folder else {}

    @classmethod
    def check_facts(cls, facts: Facts) -> None:
        """Raise UserError for a build with AMX."""
        if "AMX_INT8 = 1" in facts["simd"]:
            raise UserError(
                f"llama-cpp-python was built with AMX instructions ({facts['simd']}); expected "
                "none: version 0.3.36 crashes in them (ggml-org/llama.cpp issue 20824), and other "
                f"runtimes do not use them. Delete .venvs/{STOCK_ENVIRONMENT} and .wheels and run "
                "again."
            )


def library_of(options: Options) -> str:
    """Return which llama.cpp the options ask for. Raises UserError for one that is not known."""
    library = str(options.get("library") or SHARED)
    if library not in (SHARED, STOCK):
        raise UserError(
            f"runtime_options.llama_cpp.library is {library!r}; expected {SHARED} (the llama.cpp "
            f"of the other runtimes) or {STOCK} (the package's own). Correct it."
        )
    return library


def arguments(settings: Settings, library: Any) -> dict[str, Any]:
    """Return the arguments of `Llama` beside model, context and seed.

    What the settings leave to the library is not among them.
    """
    cache = settings.kv_cache and getattr(library, f"GGML_TYPE_{settings.kv_cache.upper()}")
    given = {
        "n_batch": settings.batch_size,
        "n_ubatch": settings.micro_batch_size,
        "n_threads": settings.threads,
        "n_threads_batch": settings.threads,
        "n_gpu_layers": settings.gpu_layers,
        "flash_attn": settings.flash_attention,
        "type_k": cache,
        "type_v": cache,
    }
    if not settings.as_installed:
        given |= {"use_mmap": True, "use_mlock": False, "logits_all": False}
    return {name: value for name, value in given.items() if value is not None}


class Worker:
    """One loaded model; see `joules.runtimes.shared.in_process.InProcess`."""

    def __init__(self, model: str, settings: Settings) -> None:
        from joules.inputs import llama_cpp_bindings

        llama_cpp = llama_cpp_bindings.load()
        self.library: Any = llama_cpp
        self.settings = settings
        self.llm = llama_cpp.Llama(
            model,
            n_ctx=settings.context_length,
            seed=settings.seed,
            verbose=False,
            **arguments(settings, llama_cpp),
        )
        self.vocabulary = llama_cpp.llama_model_get_vocab(self.llm.model)
        self.buffer = ctypes.create_string_buffer(PIECE_BYTES)

    def piece(self, token: int) -> bytes:
        """Return a token's bytes; special tokens give none."""
        length = self.library.llama_token_to_piece(
            self.vocabulary, token, self.buffer, PIECE_BYTES, 0, False
        )
        return self.buffer.raw[: max(length, 0)]

    def complete(self, text: str, token_ids: Sequence[int], limit: int) -> Completion:
        """Answer one prompt greedily; count every token sampled, end of text included.

        The library reads the text itself. Special tokens in it are parsed; a beginning-of-text
        token is added where the file asks for one. Raises ValueError when prompt and answer do not
        fit into the context.
        """
        tokens = self.llm.tokenize(text.encode(), add_bos=True, special=True)
        if len(tokens) + limit > self.settings.context_length:
            raise ValueError(f"{len(tokens)} + {limit} tokens do not fit into the context")
        if self.settings.prompt_cache is False:
            self.llm.reset()  # else `generate` reuses the prefix it shares with the last prompt
        ignore_eos = self.settings.ignore_eos
        start = time.perf_counter()
        out, count, first = bytearray(), 0, start
        reason: FinishReason = "limit"
        for token in self.llm.generate(tokens, temp=self.settings.temperature):
            if count == 0:
                first = time.perf_counter()
            count += 1
            if not ignore_eos and self.library.llama_vocab_is_eog(self.vocabulary, token):
                reason = "eos"
                break
            out += self.piece(token)
            if count == limit:
                break
        end = time.perf_counter()
        return Completion(
            text=out.decode(errors="replace"),
            prompt_tokens=len(tokens),
            generated_tokens=count,
            prefill_s=first - start,
            decode_s=end - first,
            finish_reason=reason,
        )

    def in_force(self) -> SettingsInForce:
        """Return the settings that the loaded model's context shows."""
        context, library = self.llm.ctx, self.library
        threads = {library.llama_n_threads(context), library.llama_n_threads_batch(context)}
        asked = self.llm.context_params
        flash = {
            library.LLAMA_FLASH_ATTN_TYPE_ENABLED: True,
            library.LLAMA_FLASH_ATTN_TYPE_DISABLED: False,
        }
        offloads = library.llama_supports_gpu_offload()
        shown: SettingsInForce = {
            "context_length": library.llama_n_ctx(context),
            "batch_size": library.llama_n_batch(context),
            "micro_batch_size": library.llama_n_ubatch(context),
            "threads": threads.pop() if len(threads) == 1 else sorted(threads),
            "gpu_layers": self.llm.model_params.n_gpu_layers if offloads else 0,
        }
        if asked.flash_attn_type in flash:  # else llama.cpp decides, and says so in its log alone
            shown["flash_attention"] = flash[asked.flash_attn_type]
        names = get_args(KvCacheType)
        types = {getattr(library, f"GGML_TYPE_{each.upper()}"): each for each in names}
        if asked.type_k == asked.type_v and asked.type_k in types:
            shown["kv_cache"] = types[asked.type_k]
        return shown

    @staticmethod
    def facts() -> Facts:
        """Return what llama.cpp was built from, its SIMD line, and the sums of its libraries."""
        from joules.inputs import llama_cpp_bindings

        library: Any = llama_cpp_bindings.load()
        folder = llama_cpp_package.library_folder()
        assert folder is not None
        shared = folder / llama_cpp_package.FACTS
        build = read_json(shared) if shared.exists() else own_build(folder)
        return {
            **{name: fact for name, fact in build.items() if name != "server_sha256"},
            "library": SHARED if shared.exists() else STOCK,
            "simd": library.llama_print_system_info().decode().strip(" |"),
            "libraries_sha256": llama_cpp_library.libraries_sha256(folder),
            "engine_sha256": llama_cpp_library.engine_sha256(folder),
        }


def own_build(folder: Path) -> Facts:
    """Return what the package's own llama.cpp, in `folder`, was built from."""
    # Written by llama.cpp's build, from the repository that lies in the source package.
    built = folder.parents[1] / "lib/cmake/llama/llama-config.cmake"
    found = re.search(r"LLAMA_BUILD_COMMIT (\w+)", built.read_text() if built.exists() else "")
    commit = found.group(1) if found else None
    unknown = {"llama_cpp_build": None, "llama_cpp_date": None}
    return {"llama_cpp_commit": commit, **OWN.get(commit or "", unknown)}
