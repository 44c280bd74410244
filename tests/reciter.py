"""A model file that recites given answers and ends each: known texts out of real runtimes.

Its next token follows from the position alone. The architecture is gpt2, whose positions are
learnt vectors: each position that is recited at has a direction of its own, the one layer adds
nothing, and the output names a token for each direction. So the likeliest token is far ahead of all
others, and a prompt chooses its answer by its length in tokens. A runtime that reads no gpt2 files
cannot recite.

The vocabulary is of byte-level pieces, as that of Qwen2.5 and of most models since GPT-2: one token
for each byte, and merged pieces, of which some end within a character.
"""

import codecs
import sys
from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np
from real_runtimes import CHECKOUT

sys.path.insert(0, str(CHECKOUT / "tests/benchmarks"))
import ghost

CONTEXT = 2048  # tokens
HEAD = 64  # values of an attention head; the width is a whole number of them
FEED_FORWARD = 32
LETTERS = [bytes([letter]) for letter in range(ord("a"), ord("z") + 1)]
# In their order. The emoji of U+1F6xx take three tokens, with a space before them too, and a
# Chinese character of U+4Fxx two; an accented letter takes one for each of its bytes.
MERGES = [
    *((a, b) for a in LETTERS for b in LETTERS),
    (b" ", b" "),
    (b"  ", b"  "),
    (b"\xf0", b"\x9f"),
    (b" ", b"\xf0\x9f"),
    (b"\xe4", b"\xbd"),
]
PIECES = [*(bytes([byte]) for byte in range(256)), *(a + b for a, b in MERGES)]
END = len(PIECES)  # the id of the first of `ghost.END`, which ends a text
PROMPT = "#"  # no merge joins two of them: so many tokens as signs


def text_of(ids: Sequence[int]) -> str:
    """Return the text of an answer of these tokens: all whole characters.

    What is no UTF-8 is one U+FFFD for each sequence, an unfinished character at the end is nothing.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return decoder.decode(b"".join(PIECES[token] for token in ids))


def of_whole_tokens(ids: Sequence[int]) -> str:
    """Return the text of an answer up to the last token that ends with a character."""
    last = max((n for n in range(len(ids) + 1) if not _is_cut(ids[:n])), default=0)
    return text_of(ids[:last])


def _is_cut(ids: Sequence[int]) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(b"".join(PIECES[token] for token in ids))
    return decoder.getstate()[0] != b""


def _stated(path: Path, width: int) -> gguf.GGUFWriter:
    """Return a writer of a file of this width with its sizes and its vocabulary."""
    alphabet = ghost.byte_alphabet()
    spelled = ["".join(alphabet[byte] for byte in piece) for piece in PIECES]
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_name("reciter")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(width // HEAD)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([*spelled, *ghost.END])
    kinds = gguf.TokenType
    writer.add_token_types([kinds.NORMAL] * len(spelled) + [kinds.CONTROL] * len(ghost.END))
    writer.add_token_merges(
        [" ".join("".join(alphabet[byte] for byte in part) for part in pair) for pair in MERGES]
    )
    writer.add_bos_token_id(END)
    writer.add_eos_token_id(END)
    writer.add_add_bos_token(False)
    return writer


def write_reciter(path: Path, answers: Sequence[Sequence[int]]) -> list[str]:
    """Write a file that recites answers, given as token ids; return the prompt of each.

    An answer begins at the last position of its prompt, and ends where the next one begins.
    Without answers the file is a tokenizer.
    """
    script = [token for answer in answers for token in (*answer, END)]
    starts = [sum(len(each) + 1 for each in answers[:number]) for number in range(len(answers))]
    assert len(script) < CONTEXT
    width = max(1, -(-len(script) // HEAD)) * HEAD
    vocabulary = END + len(ghost.END)
    positions = np.zeros((CONTEXT, width), np.float16)
    positions[range(len(script)), range(len(script))] = 1
    output = np.zeros((vocabulary, width), np.float16)
    output[script, range(len(script))] = 1
    matrices = {
        "token_embd": np.zeros_like(output),
        "position_embd": positions,
        "output": output,
        "blk.0.attn_qkv": np.zeros((width + 2 * HEAD, width), np.float16),
        "blk.0.attn_output": np.zeros((width, width), np.float16),
        "blk.0.ffn_up": np.zeros((FEED_FORWARD, width), np.float16),
        "blk.0.ffn_down": np.zeros((width, FEED_FORWARD), np.float16),
    }
    writer = _stated(path, width)
    for name, matrix in matrices.items():
        writer.add_tensor(f"{name}.weight", matrix)
        if name.startswith("blk.0."):
            writer.add_tensor(f"{name}.bias", np.zeros(len(matrix), np.float32))
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(width, np.float32))
        writer.add_tensor(f"{name}.bias", np.zeros(width, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return [PROMPT * (start + 1) for start in starts]
