"""Ollama's server: its variables, how it is asked, and what its log and its processes show.

What computes is its child, llama.cpp's own server. That reads variables of its own, which Ollama
passes on, and a file in HOME; its log goes into Ollama's.
"""

import re
from pathlib import Path

import psutil

from joules.core.inference import Settings
from joules.machine import processes
from joules.runtimes import Request
from joules.runtimes.shared.llama_server_program import OF_HOME

RUNNER = "llama-server"
# Alike for all arms but those as installed. Of llama.cpp's server: no copies of former prompts
# beside the one slot, no trials of what fits into the memory, one thread for HTTP.
EQUAL = {
    "OLLAMA_NUM_PARALLEL": "1",
    "LLAMA_ARG_CACHE_RAM": "0",
    "LLAMA_ARG_CTX_CHECKPOINTS": "0",
    "LLAMA_ARG_FIT": "off",
    "LLAMA_ARG_THREADS_HTTP": "1",
}


def environment(home: Path, port: int) -> dict[str, str]:
    """Return the variables of a server of our own; the user's have no part in it."""
    return processes.minimal_environment() | {
        "HOME": str(home),
        "GIN_MODE": "release",
        "OLLAMA_HOST": f"127.0.0.1:{port}",
        "OLLAMA_MODELS": str(home / "models"),
        "OLLAMA_MAX_LOADED_MODELS": "1",
        "OLLAMA_KEEP_ALIVE": "-1",
        "OLLAMA_NOPRUNE": "1",
        "OLLAMA_NO_CLOUD": "1",  # else it asks ollama.com for recommendations at its start
    }


def held(settings: Settings) -> dict[str, str]:
    """Return the variables by which it loads a model under these settings."""
    flash = None if settings.flash_attention is None else int(settings.flash_attention)
    variables = {
        "OLLAMA_CONTEXT_LENGTH": settings.context_length,
        "OLLAMA_FLASH_ATTENTION": flash,
        "OLLAMA_KV_CACHE_TYPE": settings.kv_cache,
        "OMP_NUM_THREADS": settings.threads,
    }
    given = {name: str(value) for name, value in variables.items() if value is not None}
    return given if settings.as_installed else given | EQUAL


def configure_runner(home: Path, settings: Settings) -> None:
    """Write the file by which its child ignores the end of text, or take it away.

    No request can say so: Ollama knows no such option. Any value but the key's absence means on.
    """
    file = home / OF_HOME
    file.unlink(missing_ok=True)
    if settings.ignore_eos:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("[*]\nignore-eos = true\n", encoding="utf-8")


def sampling(settings: Settings, max_tokens: int) -> Request:
    """Return the options of a request that make an answer greedy and leave no default in force.

    As installed, the defaults stay in force: at temperature 0 it is greedy all the same.
    """
    asked: Request = {
        "num_ctx": settings.context_length,
        "num_predict": max_tokens,
        "seed": settings.seed,
        "temperature": settings.temperature,
        "stop": [],
    }
    if settings.as_installed:
        return asked
    held = {
        "num_batch": settings.batch_size,
        "num_gpu": settings.gpu_layers,
        "num_thread": settings.threads,
    }
    return {
        **asked,
        **{name: value for name, value in held.items() if value is not None},
        "use_mmap": True,
        "num_keep": 0,
        "top_k": 1,
        "top_p": 1.0,
        "min_p": 0.0,
        "typical_p": 1.0,
        "repeat_last_n": 0,
        "repeat_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
    }


def is_runner(process: psutil.Process) -> bool:
    """Return whether a child of the server is one that holds weights."""
    try:
        command = process.cmdline()
    except psutil.Error:  # it has just ended
        return False
    return command != [] and Path(command[0]).name == RUNNER and "--model" in command


def obituary(log: Path) -> str:
    """Return the signal that ended the server or a runner, by its log; "" when none did."""
    text = log.read_text(errors="replace")
    if found := re.search(r"^(SIG[A-Z]+): ", text, re.MULTILINE):  # the last words of Go
        return found.group(1)
    if found := re.search(r"signal: ([a-z ]*[a-z])", text):
        return processes.SIGNALS_BY_TEXT.get(found.group(1), found.group(1))
    return ""
