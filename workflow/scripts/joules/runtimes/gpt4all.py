"""GPT4All: an older llama.cpp behind a C interface, in a worker process of its own.

The worker calls the C interface as the package's own `LLModel` does, with three differences. The
template is "%1%2": with "%1" the library decodes a line of its own after every answer. Bytes come
back as they are, where the package holds back, and does not count, a token that ends within a
character. And the library is asked for more tokens than the limit and stopped at it: it holds back
tokens that may begin one of its six stop words, so that at its own limit some would be lost.

Seen with 2.8.2: those stop words ("### Instruction", "### Prompt", "### Response", "### Human",
"### Assistant", "### Context") cannot be switched off; an answer that runs into one ends there and
looks as if it had ended by itself. A token is handed over when it has been computed in its turn, so
the time to the first token holds one token's computation, and so does each answer's end. It has no
seed, no flash attention, keeps keys and values in f16 and stops at the end of text.

As installed it computes as the package's `generate` asks by default: prompts in batches of 8, and a
penalty on repetition, which alters greedy answers.

Source of what is said here: gpt4all-backend at the bindings' version, src/llmodel_shared.cpp and
src/llamamodel.cpp.
"""

import ctypes
import inspect
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from joules.core.inference import Completion, Facts, Settings, SettingsInForce
from joules.runtimes.shared.in_process import InProcess
from joules.runtimes.shared.worker import ENDS_OF_TEXT, hash_of

LONGEST_BATCH = 512  # LLMODEL_MAX_PROMPT_BATCH; it computes as many at once
HELD_BACK = 16  # more tokens than the longest stop word can have; its letters are 15
TEMPLATE = b"%1%2"
# As the package does for the device "cpu": outside macOS the CPU's code is in this build.
BACKEND = "cpu" if sys.platform == "darwin" else "kompute"
# How a prompt is answered, beside temperature and batches: nothing but the likeliest token counts.
EQUAL = {"top_k": 1, "top_p": 1.0, "min_p": 0.0, "repeat_penalty": 1.0, "repeat_last_n": 0}
# The last line of each kind is that of the loaded model.
IN_FORCE = {
    "context_length": r"llama_new_context_with_model: n_ctx += (\d+)",
    "gpu_layers": r"llm_load_tensors: offloaded (\d+)/",
}
KV_CACHE = r"llama_new_context_with_model: KV self size .* K \((\w+)\):"


class Runtime(InProcess):
    """GPT4All in a worker process; see `joules.runtimes.Runtime`."""

    LABEL = "GPT4All"
    DESCRIPTION = (
        "GPT4All holds an older llama.cpp; a few stop words that it looks for cannot be switched "
        "off."
    )
    LIMITATIONS = (
        "An answer of GPT4All that runs into one of its stop words ends there and looks as if it "
        "had ended by itself.",
        "GPT4All hands over a token when the next one has been computed, so the time to its first "
        "token is longer by one token.",
        "As installed, GPT4All penalises repetition, so that its greedy answers are others than "
        "with equal settings.",
    )
    PACKAGE = "gpt4all"
    CANNOT_HOLD = frozenset(
        {"ignore_eos", "micro_batch_size", "flash_attention", "seed", "kv_cache"}
    )

    @classmethod
    def environment(cls, threads: int | None, work: Path) -> dict[str, str]:
        """Return what makes llama.cpp write its settings into the log."""
        return {"GPT4ALL_VERBOSE_LLAMACPP": "1"}

    def settings_in_force(self) -> SettingsInForce:
        """Return what the library and llama.cpp's log show."""
        text = self._log.read_text(errors="replace")
        found = {name: re.findall(pattern, text) for name, pattern in IN_FORCE.items()}
        seen: SettingsInForce = {name: int(each[-1]) for name, each in found.items() if each}
        if kept := re.findall(KV_CACHE, text):
            seen["kv_cache"] = kept[-1]
        return seen | super().settings_in_force()


def of_package() -> dict[str, float]:
    """Return how the package's own `generate` has a prompt answered where it is told nothing."""
    from gpt4all import GPT4All

    parameters = inspect.signature(GPT4All.generate).parameters
    return {name: parameters[name].default for name in (*EQUAL, "n_batch")}


class Worker:
    """One loaded model; see `joules.runtimes.shared.in_process.InProcess`.

    Raises ValueError for batches that it would not hold.
    """

    def __init__(self, model: str, settings: Settings) -> None:
        if (settings.batch_size or 0) > LONGEST_BATCH:
            raise ValueError(f"batch_size is {settings.batch_size}; at most {LONGEST_BATCH}")
        if settings.micro_batch_size != settings.batch_size:
            raise ValueError(
                "batch_size and micro_batch_size differ, but prompts are computed in batches of "
                "one size; set both to the same"
            )
        from gpt4all import _pyllmodel

        self.library, self.settings = _pyllmodel, settings
        self.llm = _pyllmodel.LLModel(model, settings.context_length, 0, BACKEND)
        if not self.llm.load_model():
            raise ValueError("the library did not load it")
        if settings.threads is not None:
            self.llm.set_thread_count(settings.threads)
        self.asked = of_package() if settings.as_installed else EQUAL
        if settings.batch_size is not None:
            self.asked = {**self.asked, "n_batch": settings.batch_size}
        self.set_context(1)
        self.ends = {text.encode() for text in ENDS_OF_TEXT}

    def set_context(self, limit: int) -> None:
        """Set how the next prompt is answered: greedily, from an empty context."""
        self.llm._set_context(
            n_predict=limit + HELD_BACK,
            temp=self.settings.temperature,
            reset_context=True,
            **self.asked,
        )

    def complete(self, text: str, token_ids: Sequence[int], limit: int) -> Completion:
        """Answer one prompt greedily; count every token sampled, end of text included.

        Raises ValueError where the library refuses the prompt.
        """
        library = self.library
        prompted: list[int] = []
        pieces: list[bytes] = []
        ended, first, refusal = False, 0.0, ""

        def on_prompt(token: int) -> bool:
            prompted.append(token)
            return True

        def on_answer(token: int, piece: bytes) -> bool:
            nonlocal ended, first, refusal
            first = first or time.perf_counter()
            if token < 0:
                refusal = piece.decode(errors="replace")
                return False
            ended = piece in self.ends
            pieces.append(b"" if ended else piece)
            return not ended and len(pieces) < limit

        self.set_context(limit)
        start = time.perf_counter()
        library.llmodel.llmodel_prompt(
            self.llm.model,
            text.encode(),
            TEMPLATE,
            library.PromptCallback(on_prompt),
            library.ResponseCallback(on_answer),
            False,  # a context that runs out is an error, never made by forgetting
            ctypes.byref(self.llm.context),
            True,  # special tokens in the prompt are parsed
            None,
        )
        end = time.perf_counter()
        if refusal:
            raise ValueError(refusal)
        unseen = not ended and len(pieces) < limit  # the file's own end of text is not handed over
        first = first or end
        return Completion(
            text=b"".join(pieces).decode(errors="replace"),
            prompt_tokens=len(prompted),
            generated_tokens=len(pieces) + unseen,
            prefill_s=first - start,
            decode_s=end - first,
            finish_reason="eos" if ended or unseen else "limit",
        )

    def in_force(self) -> SettingsInForce:
        """Return the library's threads, and the batches that every prompt is cut into."""
        return {
            "threads": self.llm.thread_count(),
            "batch_size": self.llm.context.n_batch,
        }

    @staticmethod
    def facts() -> Facts:
        """Return the SIMD line of the build that runs on CPUs, and the hash of the libraries."""
        from gpt4all import _pyllmodel

        folder = Path(str(_pyllmodel.MODEL_LIB_PATH))
        flags = Path("/proc/cpuinfo")
        older = flags.exists() and " avx2 " not in flags.read_text()
        build = f"libllamamodel-mainline-{BACKEND}{'-avxonly' if older else ''}.*"
        describe = ctypes.CDLL(str(next(folder.glob(build)))).llama_print_system_info
        describe.restype = ctypes.c_char_p
        return {
            "simd": describe().decode().strip(" |"),
            "libraries_sha256": hash_of(folder.glob("lib*")),
        }
