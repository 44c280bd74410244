"""OpenVINO GenAI: Intel's library, in a worker process of its own.

It reads the GGUF file itself and makes its own graph of it in memory; nothing is converted on disk.
By default it computes in bf16, where the processor can, and keeps keys and values in 8 bits; here
it is told f32 and f16, as llama.cpp, but not as installed. It attends in one way only, and computes
prompts in batches of one size.

Prompts go in as token ids, because its own tokenizer reads texts wrongly where the file has
`tokenizer.ggml.pre` = gpt-2 (2026.4.1). It cannot read tensors in Q5_0 or Q5_K, which a Q4_K_M file
of Qwen 0.5B has, and opens the file for writing, though it writes nothing.
"""

import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from joules.core.inference import Completion, Facts, Settings, SettingsInForce
from joules.runtimes.shared.in_process import InProcess
from joules.runtimes.shared.worker import ENDS_OF_TEXT, hash_of

KV_CACHE, PRECISION = r"KV_CACHE_PRECISION: (\w+)", r"INFERENCE_PRECISION_HINT: (\w+)"
NO_LIMIT = str(2**64 - 1)  # of the tokens of a batch
KV_BLOCK_TOKENS = 32  # of the CPU's key-value cache
MODEL = "Model: LLM with Paged Attention"  # begins the properties of the loaded model, in the log
THREADS, BATCH, BLOCKS, DEVICE = (
    *(r"INFERENCE_NUM_THREADS: (\d+)", r"max_num_batched_tokens: (\d+)"),
    *(r"num_kv_blocks: (\d+)", r"EXECUTION_DEVICES: (\w+)"),
)


class Runtime(InProcess):
    """OpenVINO GenAI in a worker process; see `joules.runtimes.Runtime`."""

    LABEL = "OpenVINO GenAI"
    DESCRIPTION = (
        "OpenVINO GenAI is Intel's engine: it makes a graph of its own from the file, is told to "
        "compute in single precision (not as installed), and gets token ids, because its tokenizer "
        "reads some files wrongly."
    )
    LIMITATIONS = ("OpenVINO GenAI cannot read files with tensors in Q5_0 or Q5_K.",)
    PACKAGE = "openvino-genai"
    # It keeps keys and values in f16 when told so, and has no type of llama.cpp's with fewer bits.
    CANNOT_HOLD = frozenset({"micro_batch_size", "flash_attention", "kv_cache"})

    @classmethod
    def environment(cls, threads: int | None, work: Path) -> dict[str, str]:
        """Return what stops the telemetry and writes the settings in force into the log."""
        return {"CI": "true", "OPENVINO_LOG_LEVEL": "5", "XDG_CACHE_HOME": str(work / "cache")}

    def settings_in_force(self) -> SettingsInForce:
        """Return what the log shows of the loaded model's settings."""
        scheduler, model = self._shown()
        threads, device = re.search(THREADS, model), re.search(DEVICE, model)
        batch, blocks = re.findall(BATCH, scheduler), re.findall(BLOCKS, scheduler)
        seen: SettingsInForce = {}
        if threads:
            seen["threads"] = int(threads.group(1))
        if device and device.group(1) == "CPU":
            seen["gpu_layers"] = 0
        if batch:
            seen["batch_size"] = "unlimited" if batch[-1] == NO_LIMIT else int(batch[-1])
        if kept := re.search(KV_CACHE, model):
            seen["kv_cache"] = kept.group(1)
        if blocks and int(blocks[-1]) == kv_blocks(self._settings.context_length):
            seen["context_length"] = self._settings.context_length
        return seen

    def facts(self) -> Facts:
        """Return the library's facts and, of a loaded model, in which numbers it computes."""
        _, model = self._shown()
        computed = re.search(PRECISION, model)
        return super().facts() | ({"inference_precision": computed.group(1)} if computed else {})

    def _shown(self) -> tuple[str, str]:
        """Return what the log says before the properties of the loaded model, and these."""
        before, _, after = self._log.read_text(errors="replace").rpartition(MODEL)
        return before, after if before else ""


def kv_blocks(context_length: int) -> int:
    """Return how many blocks of the key-value cache hold a context of so many tokens."""
    return -(-context_length // KV_BLOCK_TOKENS)


def properties(settings: Settings, library: Any) -> dict[str, Any]:
    """Return what makes the pipeline hold the settings of every runtime; None is left to it."""
    scheduler = library.SchedulerConfig()
    scheduler.max_num_seqs = 1
    scheduler.num_kv_blocks = kv_blocks(settings.context_length)
    if settings.batch_size is not None:
        scheduler.max_num_batched_tokens = settings.batch_size
    if settings.prompt_cache is not None:
        scheduler.enable_prefix_caching = settings.prompt_cache
    given = {
        "INFERENCE_NUM_THREADS": settings.threads,
        "KV_CACHE_PRECISION": settings.kv_cache,
    }
    held = {name: value for name, value in given.items() if value is not None}
    return {"scheduler_config": scheduler, "INFERENCE_PRECISION_HINT": "f32", **held}


class Worker:
    """One loaded model; see `joules.runtimes.shared.in_process.InProcess`.

    Raises ValueError where `micro_batch_size` differs from `batch_size`, and for a file that may
    not be written to.
    """

    def __init__(self, model: str, settings: Settings) -> None:
        if settings.micro_batch_size != settings.batch_size:
            raise ValueError(
                "batch_size and micro_batch_size differ, but prompts are computed in batches of "
                "one size; set both to the same"
            )
        if not os.access(model, os.W_OK):
            raise ValueError(
                f"{model} may not be written to, and OpenVINO opens it for writing, though it "
                f"writes nothing; allow it: chmod u+w {model}"
            )
        import openvino
        import openvino_genai

        self.library, self.tensor = openvino_genai, openvino.Tensor
        self.settings = settings
        held = {} if settings.as_installed else properties(settings, openvino_genai)
        self.pipeline = openvino_genai.LLMPipeline(model, "CPU", **held)
        self.tokenizer = self.pipeline.get_tokenizer()
        vocabulary = self.tokenizer.get_vocab()
        ends = {vocabulary.get(text.encode()) for text in ENDS_OF_TEXT} - {None}
        self.ends = ends | {self.tokenizer.get_eos_token_id()}

    def complete(self, text: str, token_ids: Sequence[int], limit: int) -> Completion:
        """Answer one prompt greedily; the library counts the end of text."""
        import numpy

        config = self.library.GenerationConfig()
        config.do_sample = False
        config.apply_chat_template = False
        config.max_new_tokens = limit
        config.rng_seed = self.settings.seed
        config.ignore_eos = self.settings.ignore_eos
        config.eos_token_id = self.tokenizer.get_eos_token_id()
        if not self.settings.as_installed:
            config.stop_token_ids = set() if self.settings.ignore_eos else self.ends
        ids = numpy.array([token_ids], dtype=numpy.int64)
        start = time.perf_counter()
        given = self.library.TokenizedInputs(self.tensor(ids), self.tensor(numpy.ones_like(ids)))
        result = self.pipeline.generate(given, config)
        answer = self.tokenizer.decode(list(result.tokens[0]))
        wall_s = time.perf_counter() - start
        metrics = result.perf_metrics
        prefill_s = metrics.get_ttft().mean / 1000
        stopped = result.finish_reasons[0] == self.library.GenerationFinishReason.STOP
        return Completion(
            text=answer,
            prompt_tokens=metrics.get_num_input_tokens(),
            generated_tokens=len(result.tokens[0]),
            prefill_s=prefill_s,
            decode_s=max(0.0, wall_s - prefill_s),
            finish_reason="eos" if stopped else "limit",
        )

    def in_force(self) -> SettingsInForce:
        """Return nothing: the library shows its settings in the log alone."""
        return {}

    @staticmethod
    def facts() -> Facts:
        """Return OpenVINO's build, what it sees in this CPU, and the hash of the libraries."""
        import openvino
        import openvino_genai

        packages = [Path(each.__file__).parent for each in (openvino, openvino_genai)]
        libraries = [path for folder in packages for path in folder.rglob("*.so*")]
        core = openvino.Core()
        return {
            "openvino_build": openvino.get_version(),
            "simd": " ".join(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")),
            "tokenizer": "the harness's token ids",
            "libraries_sha256": hash_of(libraries),
        }
