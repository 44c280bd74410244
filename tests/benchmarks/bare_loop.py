"""A runtime driven by nothing but its own client, in a plain process.

    python bare_loop.py llama_cpp MODEL SETTINGS PROMPTS
    python bare_loop.py ollama URL OPTIONS PROMPTS

The last two are JSON. For each line on standard input, every prompt is answered with `max_tokens`
tokens; one line of JSON comes back: `tokens` and `seconds`, the sum over the prompts.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow/scripts"))
Answer = Callable[[str], int]


def by_llama_cpp(model: str, settings: dict[str, int]) -> Answer:
    """Return a function that decodes a prompt by the library's own loop and counts the tokens."""
    from joules.inputs import llama_cpp_bindings

    llama_cpp = llama_cpp_bindings.load()
    llm = llama_cpp.Llama(
        model,
        n_ctx=settings["context_length"],
        n_batch=settings["batch_size"],
        n_ubatch=settings["micro_batch_size"],
        n_threads=settings["threads"],
        n_threads_batch=settings["threads"],
        n_gpu_layers=settings["gpu_layers"],
        flash_attn=settings["flash_attention"],
        verbose=False,
    )

    def answer(text: str) -> int:
        llm.reset()
        tokens = llm.tokenize(text.encode(), add_bos=True, special=True)
        for count, _ in enumerate(llm.generate(tokens, temp=0.0), start=1):
            if count == settings["max_tokens"]:
                break
        return count

    return answer


def by_ollama(url: str, request: dict[str, object]) -> Answer:
    """Return a function that sends a prompt through the `ollama` package and counts the tokens."""
    import ollama

    client = ollama.Client(host=url, trust_env=False)
    return lambda text: int(client.generate(prompt=text, **request).eval_count)


def main() -> None:
    """Answer all prompts once per line of standard input."""
    runtime, where, wanted, prompts = sys.argv[1], sys.argv[2], *map(json.loads, sys.argv[3:])
    answer = {"llama_cpp": by_llama_cpp, "ollama": by_ollama}[runtime](where, wanted)
    for _ in sys.stdin:
        start = time.perf_counter()
        tokens = sum(answer(text) for text in prompts)
        print(json.dumps({"tokens": tokens, "seconds": time.perf_counter() - start}), flush=True)


if __name__ == "__main__":
    main()
