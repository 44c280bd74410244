"""What a GGUF file says about itself, without its weights.

GGUF: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import contextlib
import dataclasses
import re
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

from joules.core.errors import UserError

MAGIC = b"GGUF"

# What llama.cpp takes where a file does not say: a SentencePiece vocabulary has `<s>` and `</s>` at
# 1 and 2, and these byte-pair vocabularies are begun with their beginning-of-text token
# (src/llama-vocab.cpp at commit ec98e2002).
SENTENCEPIECE = {"bos": 1, "eos": 2}
BEGUN_BY_DEFAULT = {
    *("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"),
    *("tekken", "chameleon"),
}


@dataclasses.dataclass(frozen=True)
class GgufFacts:
    """What a file says about itself; what it does not say is None, or as llama.cpp takes it.

    Attributes:
        architecture: of the model, as llama.cpp calls it.
        name: of the model.
        parameters: number of weights.
        quantization: name of the file type.
        context_length: in tokens, as the model was trained.
        tokenizer: its kind.
        add_bos: whether a beginning-of-text token is put before a text.
        bos_token: that token's text.
        eos_token: text of the end-of-text token.
        chat_template: a Jinja template.
    """

    architecture: str | None
    name: str | None
    parameters: int
    quantization: str
    context_length: int | None
    tokenizer: str | None
    add_bos: bool
    bos_token: str | None
    eos_token: str | None
    chat_template: str | None


def gguf_facts(path: str | Path) -> GgufFacts:
    """Return what a GGUF file says about itself, without reading its weights.

    Raises UserError when the file is missing, is not a whole GGUF file, is one of several that make
    up a model, or holds what cannot be read here.
    """
    import gguf

    if not Path(path).is_file():
        raise UserError(
            f"There is no model file {path}. Expected a GGUF file. Rule `fetch_model` makes it."
        )
    try:
        return _facts(gguf.GGUFReader(path), path)
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        if strange := _strange(error):
            raise UserError(
                f"{path} is a GGUF file that cannot be read here: {strange}. Expected version 2 or "
                f"3 of the format, with what the package gguf {version('gguf')} knows. It is no "
                "download that broke off, so keep it: fetching it again would bring the same. Name "
                "another file of this model in config/models.yaml."
            ) from error
        raise UserError(
            f"{path} is not a whole GGUF file ({error}). Expected a file that begins with "
            f"{MAGIC!r} and holds all its tensors. Delete it and fetch it again."
        ) from error


# How the package gguf, which raises ValueError for everything, words what it does not know.
NUMBER = r"(?:np\.\w+\()?(\d+)\)?"
STRANGE = (
    (r"appears to be version (\d+) which", "it is of version {}"),
    (rf"^{NUMBER} is not a valid GGMLQuantizationType", "a tensor is of the unknown type {}"),
    (rf"^{NUMBER} is not a valid GGUFValueType", "a value is of the unknown type {}"),
    (r"Duplicate (.+) already in list", "the key {} stands there twice"),
    (r"duplicated tensor with name (.+)", "the tensor {} stands there twice"),
)


def _strange(error: Exception) -> str:
    """Return in words what a whole file holds that is not known; empty for one that is not whole.

    A file that was cut off ends in the middle of a number or a tensor, which raises otherwise.
    """
    if isinstance(error, UnicodeDecodeError):
        near = error.object[max(0, error.start - 20) : error.end + 20]
        return f"a text in it is not UTF-8, near {bytes(near)!r}"
    found = ((re.search(seen, str(error.args[0])), words) for seen, words in STRANGE if error.args)
    return next((words.format(match[1]) for match, words in found if match), "")


def _facts(reader: Any, path: str | Path) -> GgufFacts:
    """Return the facts of `gguf_facts` from a gguf.GGUFReader."""

    def value(key: str, default: Any = None) -> Any:
        field = reader.get_field(key)
        return default if field is None else field.contents()

    if value("split.count", 1) > 1:
        raise UserError(
            f"{path} is one of {value('split.count')} files of a model. Expected a model in one "
            "file. Join them with llama.cpp's `llama-gguf-split --merge`, or name another file."
        )
    weights: Counter[str] = Counter()
    for tensor in reader.tensors:
        weights[tensor.tensor_type.name] += int(tensor.n_elements)
    architecture, tokenizer = value("general.architecture"), value("tokenizer.ggml.model")
    tokens = reader.get_field("tokenizer.ggml.tokens")
    defaults = SENTENCEPIECE if tokenizer == "llama" else {}

    def token(which: str) -> str | None:
        identity = value(f"tokenizer.ggml.{which}_token_id", defaults.get(which))
        return None if identity is None or tokens is None else str(tokens.contents(int(identity)))

    begun = tokenizer == "llama" or value("tokenizer.ggml.pre") in BEGUN_BY_DEFAULT
    return GgufFacts(
        architecture=architecture,
        name=value("general.name"),
        parameters=sum(weights.values()),
        quantization=_quantization(value("general.file_type"), weights),
        context_length=value(f"{architecture}.context_length"),
        tokenizer=tokenizer,
        add_bos=bool(value("tokenizer.ggml.add_bos_token", begun)),
        bos_token=token("bos"),
        eos_token=token("eos"),
        chat_template=value("tokenizer.chat_template"),
    )


def _quantization(file_type: int | None, weights: Counter[str]) -> str:
    """Return the name of the file type, or else of the type that most weights have.

    Raises ValueError for a file without weights.
    """
    import gguf

    if not weights:
        raise ValueError("it holds no weights")
    with contextlib.suppress(ValueError):
        if file_type is not None:
            kind = gguf.LlamaFileType(file_type).name
            if kind != "GUESSED":
                return kind.removeprefix("MOSTLY_").removeprefix("ALL_")
    return weights.most_common(1)[0][0]
