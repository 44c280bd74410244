"""mistral.rs: a library in Rust, in a worker process of its own.

It reads the GGUF file itself; its key-value cache is f16, as llama.cpp's. The request that takes a
prompt raw cannot be streamed, so the time to the first token is the library's own. That comes in
whole milliseconds: an answer of one token is all prefill and is timed as the call, and where the
library says 0 the time is not known.

Seen with 0.9.5: a beginning-of-text token is not added where the file asks for one, so the prompt
then begins with its text. A seed is refused on CPUs. The context is as long as the model's, prompts
are computed whole, and there is one attention kernel.
"""

import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from joules.core.inference import Completion, Facts, FinishReason, Settings, SettingsInForce
from joules.runtimes import Request
from joules.runtimes.shared.in_process import InProcess
from joules.runtimes.shared.worker import ENDS_OF_TEXT, hash_of

FINISH_REASONS: Mapping[str, FinishReason] = {"stop": "eos", "length": "limit"}
CACHED_SEQUENCES = 16  # the library's default
POOL = "candle-bp-"  # names of the threads that compute beside the one that asks


class Runtime(InProcess):
    """mistral.rs in a worker process; see `joules.runtimes.Runtime`."""

    LABEL = "mistral.rs"
    DESCRIPTION = "mistral.rs is an engine in Rust that reads the file without llama.cpp."
    LIMITATIONS = (
        "mistral.rs gives the time to the first token in whole milliseconds; where it says none, "
        "that time is not known.",
        "mistral.rs leaves out a beginning-of-text token that the file asks for, so the prompt "
        "then begins with its text.",
    )
    PACKAGE = "mistralrs"
    CANNOT_HOLD = frozenset(
        (
            *("context_length", "batch_size", "micro_batch_size", "flash_attention"),
            *("kv_cache", "seed"),
        )
    )

    @classmethod
    def environment(cls, threads: int | None, work: Path) -> dict[str, str]:
        """Return the number of threads, and what keeps the library offline and in its folder."""
        held = {"RAYON_NUM_THREADS": str(threads), "TOKIO_WORKER_THREADS": "1"}
        return {
            **({} if threads is None else held),
            "HF_HOME": str(work / "huggingface"),
            "HF_HUB_OFFLINE": "1",
            "NO_COLOR": "1",
        }

    def settings_in_force(self) -> SettingsInForce:
        """Return the threads that compute, and what the log says of layers and kept values."""
        log = self._log.read_text(errors="replace")
        placed = re.findall(r"Layers (\d+)-(\d+): (\w+)", log)
        layers = [int(last) - int(first) + 1 for first, last, device in placed if device != "cpu"]
        seen: SettingsInForce = {"gpu_layers": sum(layers)} if placed else {}
        if kept := re.findall(r"Using (\w+) KV cache", log):
            seen["kv_cache"] = kept[-1]
        return seen | super().settings_in_force()


class Worker:
    """One loaded model; see `joules.runtimes.shared.in_process.InProcess`."""

    def __init__(self, model: str, settings: Settings) -> None:
        import mistralrs

        self.library = mistralrs
        self.settings = settings
        folder, name = os.path.split(model)
        held: Request = {}
        if not settings.as_installed:
            held = {
                "max_seqs": 1,
                "prefix_cache_n": CACHED_SEQUENCES if settings.prompt_cache else 0,
            }
        self.runner = mistralrs.Runner(
            which=mistralrs.Which.GGUF(quantized_model_id=folder, quantized_filename=name),
            token_source="none",
            **held,
        )
        # A stop word that is one token is compared with the token, not with the text.
        self.ends = [text for text in ENDS_OF_TEXT if len(self.tokens(text)) == 1]
        self.beginning: str | None = None

    def tokens(self, text: str) -> list[int]:
        """Return the token ids of a text as the library reads it in a prompt."""
        return self.runner.tokenize_text(text, True, None)

    def missing_beginning(self, text: str, token_ids: Sequence[int]) -> str:
        """Return the text of the first token when it is all that the library's reading lacks."""
        if not token_ids or self.tokens(text) != list(token_ids[1:]):
            return ""
        return self.runner.detokenize_text(list(token_ids[:1]), False)

    def ask(self, text: str, limit: int) -> Any:
        """Return the library's answer to a raw prompt."""
        held: Request = {}
        if not self.settings.as_installed:
            held = {"top_k": 1, "stop_seqs": None if self.settings.ignore_eos else self.ends}
        return self.runner.send_completion_request(
            self.library.CompletionRequest(
                model="default",
                prompt=text,
                max_tokens=limit,
                temperature=self.settings.temperature,
                ignore_eos=self.settings.ignore_eos,
                **held,
            )
        )

    def complete(self, text: str, token_ids: Sequence[int], limit: int) -> Completion:
        """Answer one prompt greedily; the library counts the end of text."""
        if self.beginning is None:  # the file decides it, so the first prompt tells
            self.beginning = self.missing_beginning(text, token_ids)
        start = time.perf_counter()
        answer = self.ask(self.beginning + text, limit)
        wall_s = time.perf_counter() - start
        choice, usage = answer.choices[0], answer.usage
        whole = usage.completion_tokens == 1
        prefill_s = wall_s if whole else usage.total_prompt_time_sec or None
        return Completion(
            text=choice.text,
            prompt_tokens=usage.prompt_tokens,
            generated_tokens=usage.completion_tokens,
            prefill_s=prefill_s,
            decode_s=max(0.0, wall_s - (prefill_s or 0.0)),
            finish_reason=FINISH_REASONS[choice.finish_reason],
        )

    def in_force(self) -> SettingsInForce:
        """Return the number of threads that compute, counted after a short answer made them."""
        self.ask("#", 2)
        names = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
        return {"threads": 1 + sum(name.startswith(POOL) for name in names)} if names else {}

    @staticmethod
    def facts() -> Facts:
        """Return the hash of the library; it does not show which instructions it uses."""
        import mistralrs

        return {
            "simd": "not shown by the library",
            "libraries_sha256": hash_of(Path(mistralrs.__file__).parent.glob("*.so")),
        }
