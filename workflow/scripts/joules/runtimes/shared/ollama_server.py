"""Ollama's server: its variables, how it is asked, and what its log and its processes show."""

import re
from pathlib import Path

import psutil

from joules.core.inference import Settings, SettingsInForce
from joules.machine import processes
from joules.runtimes import Request

# The last line of each kind is that of the loaded model: the vocabulary alone is loaded before.
IN_FORCE = {
    "context_length": r"KvSize:(\d+)",
    "batch_size": r"BatchSize:(\d+)",
    "threads": r"NumThreads:(\d+)",
    "micro_batch_size": r"llama_context: n_ubatch +=? *(\d+)",
}


def environment(home: Path, port: int) -> dict[str, str]:
    """Return the variables of a server of our own; the user's have no part in it."""
    return processes.minimal_environment() | {
        "HOME": str(home),
        "GIN_MODE": "release",
        "OLLAMA_HOST": f"127.0.0.1:{port}",
        "OLLAMA_MODELS": str(home / "models"),
        "OLLAMA_NUM_PARALLEL": "1",
        "OLLAMA_MAX_LOADED_MODELS": "1",
        "OLLAMA_KEEP_ALIVE": "-1",
        "OLLAMA_KV_CACHE_TYPE": "f16",
        "OLLAMA_NOPRUNE": "1",
        "OLLAMA_NO_CLOUD": "1",  # else it asks ollama.com for recommendations at its start
    }


def held(settings: Settings) -> dict[str, str]:
    """Return the variables by which it loads a model under these settings."""
    return {
        "OLLAMA_CONTEXT_LENGTH": str(settings.context_length),
        "OLLAMA_FLASH_ATTENTION": str(int(settings.flash_attention)),
        "OMP_NUM_THREADS": str(settings.threads),
    }


def sampling(settings: Settings, max_tokens: int) -> Request:
    """Return the options of a request that make an answer greedy and leave no default in force."""
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


def in_force(log: str) -> SettingsInForce:
    """Return the settings that a log shows, under the names of `Settings`."""
    found: SettingsInForce = {}
    for name, pattern in IN_FORCE.items():
        if seen := re.findall(pattern, log):
            found[name] = int(seen[-1])
    if seen := re.findall(r"FlashAttention:(\w+)", log):
        found["flash_attention"] = seen[-1] == "Enabled"
    if seen := re.findall(r"GPULayers:(.*?) MultiUserCache", log):
        found["gpu_layers"] = sum(map(int, re.findall(r"Layers:(\d+)", seen[-1])))
    return found


def is_runner(process: psutil.Process) -> bool:
    """Return whether a child of the server is one that holds weights."""
    try:
        return "runner" in process.cmdline()
    except psutil.Error:  # it has just ended
        return False


def obituary(log: Path) -> str:
    """Return the signal that ended a runner, by the server's log; "" when none did."""
    text = log.read_text(errors="replace")
    if found := re.search(r"^(SIG[A-Z]+): ", text, re.MULTILINE):  # its own last words
        return found.group(1)
    if found := re.search(r"signal: ([a-z ]+)", text):
        return processes.SIGNALS_BY_TEXT.get(found.group(1), found.group(1))
    return ""
