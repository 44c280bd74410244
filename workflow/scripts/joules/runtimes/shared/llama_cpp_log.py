"""llama.cpp's own server: how it is asked, and what its log shows. For the runtimes that hold one.

Loaded by workers too: standard library only.
"""

import re
from collections.abc import Mapping
from typing import Any

from joules.core.inference import Completion, Settings, SettingsInForce
from joules.runtimes import Request

MILLISECOND = 1e-3
# The last line of each kind is that of the loaded model; written at verbosity 4.
IN_FORCE = {
    "context_length": r"llama_context: n_ctx_seq += (\d+)",  # of one answer, however many slots
    "batch_size": r"llama_context: n_batch += (\d+)",
    "micro_batch_size": r"llama_context: n_ubatch += (\d+)",
}
FLASH = r"llama_context: flash_attn += (\w+)"
# Where it was left to llama.cpp: "enabled", or "not supported, set to disabled".
FLASH_CHOSEN = r"resolve_fused_ops: Flash Attention (enabled|not supported)"
KV_CACHE = r"llama_kv_cache: size = .*?, K \((\w+)\): .*?, V \((\w+)\):"
THREADS = r"system_info: n_threads = (\d+) \(n_threads_batch = (\d+)\)"

# What it says in the place of an answer whose bytes are no UTF-8, when it has generated all of it:
# it looks in each answer for the parts of a chat (b10760, common_chat_peg_parse).
NO_TEXT = "The model produced output that does not match the expected"


def answer_without_text(call_s: float) -> Completion:
    """Return what is known of an answer that the server did not hand over, after `call_s`."""
    return Completion("", 0, 0, None, call_s, "aborted_by_runtime", False)


def sampling(settings: Settings) -> Request:
    """Return the part of a request that makes an answer greedy and leaves no default in force.

    As installed, the defaults stay in force: at temperature 0 it is greedy all the same.
    """
    if settings.as_installed:
        return {
            "temperature": settings.temperature,
            "seed": settings.seed,
            "stop": [],
            "ignore_eos": settings.ignore_eos,
            "stream": False,
        }
    return {
        "temperature": settings.temperature,
        "top_k": 1,
        "top_p": 1.0,
        "min_p": 0.0,
        "typical_p": 1.0,
        "repeat_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "samplers": ["top_k", "temperature"],
        "seed": settings.seed,
        "stop": [],
        "cache_prompt": settings.prompt_cache,
        "ignore_eos": settings.ignore_eos,
        "stream": False,
    }


def phases(timings: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Return the seconds of prefill and of decode that an answer's `timings` say."""
    shown = (timings.get("prompt_ms"), timings.get("predicted_ms"))
    prefill_s, decode_s = (None if each is None else float(each) * MILLISECOND for each in shown)
    return prefill_s, decode_s


def in_force(log: str) -> SettingsInForce:
    """Return the settings that a log shows, under the names of `Settings`."""
    found = {name: re.findall(pattern, log) for name, pattern in IN_FORCE.items()}
    seen: SettingsInForce = {name: int(each[-1]) for name, each in found.items() if each}
    if threads := re.findall(THREADS, log):
        both = {int(each) for each in threads[-1]}
        seen["threads"] = both.pop() if len(both) == 1 else sorted(both)
    flash, chosen = re.findall(FLASH, log), re.findall(FLASH_CHOSEN, log)
    if flash and flash[-1] == "auto":
        flash = chosen
    if flash:
        seen["flash_attention"] = flash[-1] == "enabled"
    if caches := re.findall(KV_CACHE, log):
        types = sorted({each for pair in caches for each in pair})
        seen["kv_cache"] = " and ".join(types)
    if layers := re.findall(r"offloaded (\d+)/\d+ layers to GPU", log):
        seen["gpu_layers"] = int(layers[-1])
    elif "load_tensors:" in log:  # a build for CPUs does not speak of other devices
        seen["gpu_layers"] = 0
    return seen


def simd(log: str) -> str | None:
    """Return the line of instructions that the build uses on this CPU."""
    found = re.findall(r"system_info:.*? \| (CPU .*?)[ |]*$", log, re.MULTILINE)
    return found[-1] if found else None
