"""Model files that are quickly made and never end an answer, for benchmarks and tests.

A ghost has the shape, file format and cost per token of a real model and no knowledge: its weights
are seeded noise. Made twice, it is the same file.
"""

from pathlib import Path
from typing import NamedTuple

import gguf
import numpy as np

BLOCK = 32  # values of one Q8_0 block, which holds their scale as a half and each as one byte
CONTEXT = 32768
END = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
Q8_0 = gguf.GGMLQuantizationType.Q8_0


class Shape(NamedTuple):
    """Sizes of a decoder of the qwen2 architecture with tied embeddings."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocabulary: int


TINY = Shape(256, 3, 4, 2, 512, 1024)  # 2 million parameters
# Qwen2.5-Coder-0.5B, 494 million parameters: its config.json.
HALF_BILLION = Shape(896, 24, 14, 2, 4864, 151936)


def byte_alphabet() -> dict[int, str]:
    """Return GPT-2's printable stand-in for each byte (openai/gpt-2, src/encoder.py)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return {byte: chr(byte if byte in printable else next(spare)) for byte in range(256)}


def noise(rng: np.random.Generator, rows: int, columns: int, deviation: float) -> np.ndarray:
    """Return a matrix of noise as Q8_0 bytes, shape (rows, columns / 32 * 34).

    The values are uniform whole numbers from -127 to 127 times one scale.
    """
    blocks = np.empty((rows, columns // BLOCK, 2 + BLOCK), np.uint8)
    scale = np.float16(deviation / (254 / np.sqrt(12)))
    blocks[..., :2] = np.frombuffer(scale.tobytes(), np.uint8)
    blocks[..., 2:] = rng.integers(-127, 128, (*blocks.shape[:2], BLOCK), np.int8).view(np.uint8)
    return blocks.reshape(rows, -1)


def write_ghost(path: Path, shape: Shape, seed: int = 1) -> Path:
    """Write a ghost in Q8_0 (norms and biases in F32) and return its path.

    Only printable ASCII tokens can be sampled: the embedding rows of all others are 0, so that
    their logit is 0 and never the largest.
    """
    rng = np.random.default_rng(seed)
    alphabet = byte_alphabet()
    pairs = [a + b for a in map(chr, range(97, 123)) for b in map(chr, range(97, 123))]
    tokens = [*alphabet.values(), *pairs]
    unused = [f"[unused{index}]" for index in range(shape.vocabulary - len(tokens) - len(END))]
    spoken = [index for index, text in enumerate(tokens) if text.isascii()]
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_name("ghost")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_freq_base(1e6)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([*tokens, *unused, *END])
    kinds = gguf.TokenType
    writer.add_token_types(
        [kinds.NORMAL] * len(tokens) + [kinds.UNUSED] * len(unused) + [kinds.CONTROL] * len(END)
    )
    writer.add_token_merges([" ".join(pair) for pair in pairs])
    writer.add_bos_token_id(shape.vocabulary - len(END))
    writer.add_eos_token_id(shape.vocabulary - len(END))
    writer.add_add_bos_token(False)

    embedding = np.zeros((shape.vocabulary, shape.hidden // BLOCK * (2 + BLOCK)), np.uint8)
    # Small beside what the layers add: else each token would make itself the likeliest next one.
    embedding[spoken] = noise(rng, len(spoken), shape.hidden, 0.1)
    writer.add_tensor("token_embd.weight", embedding, raw_dtype=Q8_0)
    writer.add_tensor("output_norm.weight", np.ones(shape.hidden, np.float32))
    key_value = shape.hidden // shape.heads * shape.kv_heads
    for layer in range(shape.layers):
        block = f"blk.{layer}."
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{block}{name}.weight", np.ones(shape.hidden, np.float32))
        for name, width in (("q", shape.hidden), ("k", key_value), ("v", key_value)):
            bias = rng.normal(0, 0.1, width).astype(np.float32)
            writer.add_tensor(f"{block}attn_{name}.bias", bias)
        matrices = (
            ("attn_q", shape.hidden, shape.hidden, 1.0),
            ("attn_k", key_value, shape.hidden, 1.0),
            ("attn_v", key_value, shape.hidden, 1.0),
            # Attention averages over the past; loud, it would make every next token alike.
            ("attn_output", shape.hidden, shape.hidden, 0.3),
            ("ffn_gate", shape.feed_forward, shape.hidden, 1.0),
            ("ffn_up", shape.feed_forward, shape.hidden, 1.0),
            ("ffn_down", shape.hidden, shape.feed_forward, 1.0),
        )
        for name, rows, columns, loudness in matrices:
            matrix = noise(rng, rows, columns, loudness * columns**-0.5)
            writer.add_tensor(f"{block}{name}.weight", matrix, raw_dtype=Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_endless(source: Path, target: Path) -> Path:
    """Copy a bundled model with its end-of-text token silenced, and return the copy's path.

    Its embeddings are tied, so a row of zeros gives the token the logit 0. Prompts hold none of it.
    """
    reader = gguf.GGUFReader(source)
    end = int(reader.fields["tokenizer.ggml.eos_token_id"].contents())
    embedding = next(each for each in reader.tensors if each.name == "token_embd.weight")
    assert not [each for each in reader.tensors if each.name == "output.weight"]
    data = bytearray(source.read_bytes())
    row = embedding.n_bytes // int(embedding.shape[1])
    start = int(embedding.data_offset) + end * row
    data[start : start + row] = bytes(row)
    target.write_bytes(data)
    return target
