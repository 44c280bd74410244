"""llama-cpp-python: llama.cpp as a library, in a worker process of its own.

The worker drives `Llama.generate` and puts the text together itself: `create_completion`
detokenises all of the answer anew after every token, which is quadratic, and `Llama.detokenize`
drops every token of more than 32 bytes (llama-cpp-python 0.3.36, issue 2362). At temperature 0
`generate` runs a greedy sampler and no other.
"""

import ctypes
import re
import time
from collections.abc import Sequence
from pathlib import Path

from joules.core.errors import UserError
from joules.core.inference import Completion, Facts, FinishReason, Settings, SettingsInForce
from joules.runtimes.shared.in_process import InProcess
from joules.runtimes.shared.worker import hash_of

PIECE_BYTES = 1024  # longer than any token's text


class Runtime(InProcess):
    """llama-cpp-python in a worker process; see `joules.runtimes.Runtime`.

    With `ignore_eos` it decodes on past the end of text: the same computation per token.
    """

    LABEL = "llama-cpp-python"
    DESCRIPTION = (
        "llama-cpp-python [@llamacpppython] is a Python library that calls llama.cpp [@llamacpp] "
        "in its own process."
    )
    PACKAGE = "llama-cpp-python"
    PACKAGES = (PACKAGE,)

    @classmethod
    def check_facts(cls, facts: Facts) -> None:
        """Raise UserError for a build with AMX."""
        if "AMX_INT8 = 1" in facts["simd"]:
            raise UserError(
                f"llama-cpp-python was built with AMX instructions ({facts['simd']}); expected "
                "none: version 0.3.36 crashes in them (ggml-org/llama.cpp issue 20824), and other "
                "runtimes do not use them. Delete .venv and .wheels and install again."
            )


class Worker:
    """One loaded model; see `joules.runtimes.shared.in_process.InProcess`."""

    def __init__(self, model: str, settings: Settings) -> None:
        import llama_cpp

        self.library = llama_cpp
        self.settings = settings
        self.llm = llama_cpp.Llama(
            model,
            n_ctx=settings.context_length,
            n_batch=settings.batch_size,
            n_ubatch=settings.micro_batch_size,
            n_threads=settings.threads,
            n_threads_batch=settings.threads,
            n_gpu_layers=settings.gpu_layers,
            flash_attn=settings.flash_attention,
            seed=settings.seed,
            type_k=llama_cpp.GGML_TYPE_F16,
            type_v=llama_cpp.GGML_TYPE_F16,
            use_mmap=True,
            use_mlock=False,
            logits_all=False,
            verbose=False,
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
        if not self.settings.prompt_cache:
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
        flash = self.llm.context_params.flash_attn_type
        offloads = library.llama_supports_gpu_offload()
        return {
            "context_length": library.llama_n_ctx(context),
            "batch_size": library.llama_n_batch(context),
            "micro_batch_size": library.llama_n_ubatch(context),
            "threads": threads.pop() if len(threads) == 1 else sorted(threads),
            "flash_attention": flash == library.LLAMA_FLASH_ATTN_TYPE_ENABLED,
            "gpu_layers": self.llm.model_params.n_gpu_layers if offloads else 0,
        }

    @staticmethod
    def facts() -> Facts:
        """Return llama.cpp commit, SIMD line and the hash of the shared libraries."""
        import llama_cpp

        package = Path(llama_cpp.__file__).parent
        # Written by llama.cpp's build, from the repository that lies in the source package.
        built = package.parent / "lib/cmake/llama/llama-config.cmake"
        commit = re.search(r"LLAMA_BUILD_COMMIT (\w+)", built.read_text() if built.exists() else "")
        return {
            "llama_cpp_commit": commit.group(1) if commit else None,
            "simd": llama_cpp.llama_print_system_info().decode().strip(" |"),
            "libraries_sha256": hash_of((package / "lib").glob("*")),
        }
