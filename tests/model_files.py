"""A small real GGUF file, and a place to fetch models to, for tests."""

import hashlib
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from joules.core.catalogue import Source
from joules.inputs import model_files


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write_gguf(path: Path, **given: Any) -> Path:
    """Write a small whole GGUF file with 2 tensors of 256 x 256 and 32 weights."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(2048)
    writer.add_tokenizer_model(str(given.get("tokenizer", "gpt2")))
    writer.add_tokenizer_pre(str(given.get("pre", "default")))
    writer.add_token_list(["<unk>", "<s>", "</s>", "<|begin|>", "<|end|>"])
    if given.get("tokenizer") != "llama":
        writer.add_bos_token_id(3)
        writer.add_eos_token_id(4)
    if "file_type" in given:
        writer.add_file_type(given["file_type"])
    if "add_bos" in given:
        writer.add_add_bos_token(given["add_bos"])
    if "template" in given:
        writer.add_chat_template(given["template"])
    if "split" in given:
        writer.add_uint16("split.count", given["split"])
    generator = np.random.default_rng(1)
    writer.add_tensor("output.weight", generator.random((256, 256), dtype=np.float32))
    writer.add_tensor("output_norm.weight", generator.random(32, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


class Place:
    """Where a fetch puts its files, and the lines that it reported."""

    def __init__(self, folder: Path) -> None:
        self.target = folder / "resources" / "tiny.gguf"
        self.part = Path(f"{self.target}.part")
        self.lock_file = folder / "resources" / "models.lock.json"
        self.lines: list[str] = []

    def fetch(self, source: Source, trust: bool = False) -> None:
        model_files.fetch(
            "tiny",
            source,
            self.target,
            trust_on_first_use=trust,
            lock_file=self.lock_file,
            report=self.lines.append,
        )

    def files(self) -> list[str]:
        return sorted(path.name for path in self.target.parent.glob("*"))
