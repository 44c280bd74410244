"""A bundled model that never ends an answer: each is as long as it may be, on every machine."""

import hashlib
import sys

import yaml
from small_study import CHECKOUT, Tree

sys.path.insert(0, str(CHECKOUT / "tests/benchmarks"))

from ghost import write_endless


def add_endless(tree: Tree, source: str, name: str) -> None:
    """Add a copy of the bundled model `source` that never ends to a tree's catalogue, as `name`."""
    folder = "data/demo-model"
    file = write_endless(
        CHECKOUT / folder / f"{source}.gguf", tree.folder / folder / f"{name}.gguf"
    )
    path = tree.folder / "config/models.yaml"
    catalogue = yaml.safe_load(path.read_text(encoding="utf-8"))
    entry = dict(catalogue["models"][source]) | {"never_ends": True}
    entry |= {"path": str(file.relative_to(tree.folder)), "bytes": file.stat().st_size}
    entry["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    catalogue["models"][name] = entry
    path.write_text(yaml.safe_dump(catalogue), encoding="utf-8")
