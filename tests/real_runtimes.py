"""The real runtimes and bundled models, for every test that runs one.

The first use builds what a runtime needs in the checkout, which may take minutes.
"""

import functools
from pathlib import Path
from typing import Any

import psutil

from joules.core import paths
from joules.core.files import sha256_of
from joules.core.inference import Model, Options, Prompt, Settings
from joules.core.places import REPOSITORY
from joules.core.reading import read_configuration, study_of
from joules.inputs.tokenizer import tokenize
from joules.runtimes import Runtime, load

CHECKOUT = REPOSITORY
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
    kv_cache="f16",
)


@functools.cache
def options_of(name: str) -> Options:
    """Return a runtime's options in the study of all of them, with its `provide`'s facts."""
    study = study_of(read_configuration(CHECKOUT / "config/runtimes.yaml"))
    options = study.runtime_options[name]
    folder = (CHECKOUT / paths.provided_file(name, options)).with_suffix("")
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


def still_running(pids: list[int]) -> list[int]:
    """Return those processes that have not ended; a zombie has."""
    alive = []
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                alive.append(pid)
        except psutil.NoSuchProcess:
            continue
    return alive
