"""The real runtimes and bundled models, for every test that runs one.

The first use builds what a runtime needs in the checkout, which may take minutes.
"""

import functools
from pathlib import Path
from typing import Any

import yaml

from joules.files import sha256_of
from joules.runtimes import Model, Prompt, Runtime, Settings, load
from joules.tokenizer import tokenize

CHECKOUT = Path(__file__).parents[1]
MODELS = CHECKOUT / "data/demo-model"
SETTINGS = Settings(
    context_length=2048,
    threads=1,
    batch_size=512,
    micro_batch_size=512,
    flash_attention=False,
    gpu_layers=0,
    seed=1,
    max_tokens=256,
)


@functools.cache
def options_of(name: str) -> dict[str, Any]:
    """Return a runtime's options in the studies of this repository, with its `provide`'s facts."""
    known: dict[str, Any] = {}
    for study in ("config.yaml", "runtimes.yaml"):
        config = yaml.safe_load((CHECKOUT / "config" / study).read_text(encoding="utf-8"))
        known |= config.get("runtime_options", {})
    options = known[name]
    variant = "-".join(filter(None, [options["version"], options.get("from")]))
    folder = CHECKOUT / "resources/runtimes" / name / variant
    return {**options, "provided": load(name).provide(options, folder)}


def make_runtime(name: str, work_folder: Path, **changes: Any) -> Runtime:
    """Return the runtime `name`, ready to be started; `changes` are options."""
    return load(name)({**options_of(name), **changes}, work_folder)


def model_of(path: Path) -> Model:
    """Return a model file under its own name."""
    return Model(path.stem, path, sha256_of(path))


def prompts_of(model: Model, *texts: str) -> list[Prompt]:
    """Return prompts with the token ids of the model file's own tokenizer."""
    ids = tokenize(model.path, texts)
    return [Prompt(text, tuple(each)) for text, each in zip(texts, ids, strict=True)]
