"""The model catalogue: look-up, checked files, and facts from a GGUF file.

The catalogue is config/models.yaml; workflow/schemas/models.schema.yaml describes its keys.
GGUF: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import contextlib
import difflib
import fcntl
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from joules.download import Pin, check_space, download, for_people, forget, full_disk
from joules.errors import UserError
from joules.files import read_json, sha256_of, write_json

REPOSITORY = Path(__file__).resolve().parents[3]
CATALOGUE = "config/models.yaml"
MAGIC = b"GGUF"
SLOW_BYTES = 100_000_000  # from here on, checking is worth a line of its own

# What llama.cpp takes where a file does not say: a SentencePiece vocabulary has `<s>` and `</s>` at
# 1 and 2, and these byte-pair vocabularies are begun with their beginning-of-text token
# (src/llama-vocab.cpp, as in Ollama 0.24.0).
SENTENCEPIECE = {"bos": 1, "eos": 2}
BEGUN_BY_DEFAULT = {
    *("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"),
    *("tekken", "chameleon"),
}


def lookup(catalogue: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the entry of a model. Raises UserError, with near matches, for an unknown name."""
    entries: Mapping[str, dict[str, Any]] = catalogue["models"]
    if name in entries:
        return entries[name]
    near = difflib.get_close_matches(name, entries, n=3)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(sorted(entries))}."
    raise UserError(
        f"The model `{name}` is not in the catalogue. {hint} "
        f"Correct `models` in the config, or add an entry to {CATALOGUE}."
    )


def fetch(
    name: str,
    entry: Mapping[str, Any],
    target: Path,
    *,
    trust_on_first_use: bool = False,
    lock_file: Path,
    report: Callable[[str], None] = print,
) -> None:
    """Put the GGUF file of a catalogue entry at `target`, or leave `target` alone.

    A `url` is downloaded to `<target>.part`, which a later call resumes. A `path` is hard linked,
    or copied where that is not possible. The file gets its final name only once its size, sha256
    and GGUF magic are as expected. A file whose sha256 is not known is refused unless
    `trust_on_first_use`; then what came is pinned in `lock_file` (JSON: name to sha256, bytes and
    url) and every later call must get the same bytes.

    Raises UserError for a missing, refused or wrong file, a failing connection or a full disk.
    """
    origin = entry["url"] if "url" in entry else str(REPOSITORY / entry["path"])
    pin = _pin(name, entry, origin, lock_file)
    if pin.sha256 is None and not trust_on_first_use:
        raise UserError(
            f"{name}: the sha256 of {origin} is not known, so what comes could not be checked. "
            f"Add `sha256` to its entry in {CATALOGUE}, or set `trust_on_first_use: true` in the "
            f"config to take the file as it is and pin it in {lock_file}."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(f"{target}.part")
    if "url" in entry:
        status = download(name, origin, part, pin, report)
        origin_and_status = f"{origin} (HTTP status {status})"
    else:
        _take(name, Path(origin), part)
        origin_and_status = origin
    sha256 = _check(name, part, pin, origin_and_status, report)
    if pin.sha256 is None:
        _lock(name, origin, sha256, part.stat().st_size, lock_file)
        report(f"fetch {name}: trusted on first use, pinned in {lock_file}")
    with open(part, "rb") as file:
        os.fsync(file.fileno())
    os.replace(part, target)
    forget(part)  # rename leaves both names where they are one file already
    report(f"fetch {name}: {target} is complete, sha256 {sha256}")


def _pin(name: str, entry: Mapping[str, Any], origin: str, lock_file: Path) -> Pin:
    """Return the expected sha256 and size, from the catalogue or else from the lock file."""
    if "sha256" in entry:
        return Pin(entry["sha256"], entry.get("bytes"), CATALOGUE)
    locked = read_json(lock_file).get(name, {}) if lock_file.exists() else {}
    if locked.get("url") == origin:
        return Pin(locked["sha256"], locked["bytes"], str(lock_file))
    return Pin(None, entry.get("bytes"), CATALOGUE)


def _lock(name: str, origin: str, sha256: str, size: int, lock_file: Path) -> None:
    """Add a file to the lock file; downloads that run side by side wait for each other."""
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(lock_file.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        locked = read_json(lock_file) if lock_file.exists() else {}
        locked[name] = {"sha256": sha256, "bytes": size, "url": origin}
        write_json(lock_file, locked)
    finally:
        os.close(folder)


def _take(name: str, source: Path, part: Path) -> None:
    """Make `part` a hard link to `source`, or a copy where a link is not possible."""
    if not source.is_file():
        raise UserError(
            f"{name}: there is no file {source}. Expected the GGUF file of this model. "
            f"Put it there or correct `path` in its entry in {CATALOGUE}."
        )
    source = source.resolve()  # a link to a symbolic link would break when that is moved
    forget(part)
    try:
        os.link(source, part)
    except OSError:
        check_space(name, part.parent, source.stat().st_size)
        with full_disk(part):
            shutil.copyfile(source, part)


def _check(name: str, part: Path, pin: Pin, origin: str, report: Callable[[str], None]) -> str:
    """Return the sha256 of a complete part file; remove it and raise UserError if it is wrong."""
    size = part.stat().st_size
    if size >= SLOW_BYTES:
        report(f"fetch {name}: checking the sha256 of {for_people(size)}")
    sha256 = sha256_of(part)
    with open(part, "rb") as file:
        head = file.read(16)
    wrong = []
    if pin.size is not None and size != pin.size:
        wrong.append(f"expected {pin.size} bytes, got {size}")
    if pin.sha256 is not None and sha256 != pin.sha256:
        wrong.append(f"expected sha256 {pin.sha256}, got {sha256} ({size} bytes)")
    if not head.startswith(MAGIC):
        wrong.append(f"expected a GGUF file, which begins with {MAGIC!r}, got {head!r}")
    if not wrong:
        return sha256
    forget(part)
    raise UserError(
        f"{name}: wrong bytes from {origin}: {'; '.join(wrong)}. They were not kept. Expected is "
        f"what {pin.source} says. Try again; if it stays so, the file was changed there: find out "
        "why, and only then correct the entry."
    )


def gguf_facts(path: str | Path) -> dict[str, Any]:
    """Return what a GGUF file says about itself, without reading its weights.

    Keys: `architecture`, `name`, `parameters` (number of weights), `quantization`,
    `context_length` (tokens), `tokenizer`, `add_bos`, `bos_token` and `eos_token` (text),
    `chat_template`. What the file does not say is None. Raises UserError when the file is missing,
    is not a whole GGUF file, or is one of several that make up a model.
    """
    import gguf

    if not Path(path).is_file():
        raise UserError(
            f"There is no model file {path}. Expected a GGUF file. Rule `fetch_model` makes it."
        )
    try:
        return _facts(gguf.GGUFReader(path), path)
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        raise UserError(
            f"{path} is not a whole GGUF file ({error}). Expected a file that begins with "
            f"{MAGIC!r} and holds all its tensors. Delete it and fetch it again."
        ) from error


def _facts(reader: Any, path: str | Path) -> dict[str, Any]:
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
    return {
        "architecture": architecture,
        "name": value("general.name"),
        "parameters": sum(weights.values()),
        "quantization": _quantization(value("general.file_type"), weights),
        "context_length": value(f"{architecture}.context_length"),
        "tokenizer": tokenizer,
        "add_bos": bool(value("tokenizer.ggml.add_bos_token", begun)),
        "bos_token": token("bos"),
        "eos_token": token("eos"),
        "chat_template": value("tokenizer.chat_template"),
    }


def _quantization(file_type: int | None, weights: Counter[str]) -> str | None:
    """Return the name of the file type, or else of the type that most weights have."""
    import gguf

    with contextlib.suppress(ValueError):
        if file_type is not None:
            kind = gguf.LlamaFileType(file_type).name
            if kind != "GUESSED":
                return kind.removeprefix("MOSTLY_").removeprefix("ALL_")
    return weights.most_common(1)[0][0] if weights else None
