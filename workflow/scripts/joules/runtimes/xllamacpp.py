"""xllamacpp: llama.cpp's server as a library, in a worker process of its own.

Requests are handed to the server inside the process; it opens an HTTP port on the loopback
interface all the same, which nothing here uses. The wheel is built for CPUs with AVX2, newer
instructions are not used (2026.10.11549).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from joules.core.inference import Completion, Facts, FinishReason, Settings, SettingsInForce
from joules.runtimes.shared import llama_cpp_log
from joules.runtimes.shared.in_process import InProcess
from joules.runtimes.shared.worker import hash_of

FINISH_REASONS: Mapping[str, FinishReason] = {"stop": "eos", "length": "limit"}


class Runtime(InProcess):
    """xllamacpp in a worker process; see `joules.runtimes.Runtime`."""

    LABEL = "xllamacpp"
    DESCRIPTION = "xllamacpp is the same server as a Python library, without HTTP."
    LIMITATIONS = (
        "The wheel of xllamacpp is built for CPUs with AVX2; newer instructions are not used.",
    )
    PACKAGE = "xllamacpp"

    def settings_in_force(self) -> SettingsInForce:
        """Return what llama.cpp's log shows."""
        return llama_cpp_log.in_force(self._log.read_text(errors="replace"))


def hold(wanted: Any, settings: Settings, library: Any) -> None:
    """Set what is equal for every runtime in the parameters of the server; None stays as it is."""
    flash = library.llama_flash_attn_type
    ways = {True: flash.LLAMA_FLASH_ATTN_TYPE_ENABLED, False: flash.LLAMA_FLASH_ATTN_TYPE_DISABLED}
    if settings.threads is not None:
        wanted.cpuparams.n_threads = wanted.cpuparams_batch.n_threads = settings.threads
    if settings.batch_size is not None:
        wanted.n_batch = settings.batch_size
    if settings.micro_batch_size is not None:
        wanted.n_ubatch = settings.micro_batch_size
    if settings.gpu_layers is not None:
        wanted.n_gpu_layers = settings.gpu_layers
    if settings.flash_attention is not None:
        wanted.flash_attn_type = ways[settings.flash_attention]
    if settings.prompt_cache is not None:
        wanted.cache_prompt = settings.prompt_cache
    if settings.kv_cache is not None:
        kept = getattr(library.ggml_type, f"GGML_TYPE_{settings.kv_cache.upper()}")
        wanted.cache_type_k = wanted.cache_type_v = kept
    wanted.cache_ram_mib = 0
    wanted.cache_idle_slots = False
    wanted.n_parallel = 1
    wanted.ctx_shift = False
    wanted.fit_params = False  # else context and batches are changed to fit the memory
    wanted.ui = False
    wanted.endpoint_props = False
    wanted.n_threads_http = 1


class Worker:
    """One loaded model; see `joules.runtimes.shared.in_process.InProcess`."""

    def __init__(self, model: str, settings: Settings) -> None:
        import xllamacpp

        wanted = xllamacpp.CommonParams()
        wanted.model.path = model
        wanted.n_ctx = settings.context_length
        wanted.sampling.seed = settings.seed
        wanted.offline = True
        wanted.hostnames = ["127.0.0.1"]
        wanted.port = 0
        wanted.verbosity = 4  # the settings in force stand in the log
        if not settings.as_installed:
            hold(wanted, settings, xllamacpp)
        self.request = llama_cpp_log.sampling(settings)
        self.server = xllamacpp.Server(wanted)

    def complete(self, text: str, token_ids: Sequence[int], limit: int) -> Completion:
        """Answer one prompt greedily; the library counts the end of text."""
        answer = self.server.handle_completions(
            self.request | {"prompt": text, "max_tokens": limit}
        )
        if "choices" not in answer:
            raise ValueError(str(answer))
        choice, usage = answer["choices"][0], answer["usage"]
        prefill_s, decode_s = llama_cpp_log.phases(answer["timings"])
        return Completion(
            text=choice["text"],
            prompt_tokens=usage["prompt_tokens"],
            generated_tokens=usage["completion_tokens"],
            prefill_s=prefill_s,
            decode_s=decode_s or 0.0,
            finish_reason=FINISH_REASONS[choice["finish_reason"]],
        )

    def in_force(self) -> SettingsInForce:
        """Return nothing: the library shows its settings in the log alone."""
        return {}

    @staticmethod
    def facts() -> Facts:
        """Return llama.cpp's commit, where the build knows it, SIMD line and libraries' hash."""
        import xllamacpp

        commit = xllamacpp.BUILD_INFO["commit"]
        package = Path(xllamacpp.__file__).parent
        libraries = [*package.glob("*.so"), *package.parent.glob("xllamacpp.libs/*")]
        return {
            "llama_cpp_commit": None if commit == "unknown" else commit,
            "simd": xllamacpp.get_system_info().strip(" |"),
            "libraries_sha256": hash_of(libraries),
        }
