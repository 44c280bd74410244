"""What cannot end well, refused before anything is fetched, built or measured.

A key may have a value that its type allows and that the study fails by, hours later. Each such case
is one rule here. The workflow asks before its first job, the doctor and the forecast ask as well.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from joules.core import paths
from joules.core.catalogue import FILE as CATALOGUE
from joules.core.catalogue import Catalogue, lookup
from joules.core.conditions import AskedSettings
from joules.core.errors import UserError
from joules.core.files import read_json
from joules.core.inference import PLAIN_KV_CACHE, Settings
from joules.core.keys import near
from joules.core.run_parameters import max_tokens_of
from joules.core.study import Study

BIBLIOGRAPHY = "paper/references.bib"
CITABLE = "[a-z][a-z0-9]*"  # what the article's citations are looked for by
READING_S = 1.0  # the meters are read so often
LARGEST_SEED = 2**31 - 1  # what every runtime takes; llama.cpp reads 2^32 - 1 as random


@dataclasses.dataclass(frozen=True)
class Asked:
    """A study and what it stands on.

    Attributes:
        study: its configuration.
        catalogue: of the models.
        root: folder of the checkout.
    """

    study: Study
    catalogue: Catalogue
    root: Path


def check_sense(study: Study, catalogue: Catalogue, root: Path) -> str:
    """Return that a study can end, in words. Raises UserError with all that keeps it from that."""
    asked = Asked(study, catalogue, root)
    found = [complaint for rule in RULES for complaint in rule(asked)]
    if found:
        raise UserError("\n".join(found))
    return "nothing in the configuration keeps it from its end"


def bibliography_keys(bibtex: str) -> set[str]:
    """Return the keys of the entries of a BibTeX file."""
    return set(re.findall(r"^@\w+\{([^,\s]+),", bibtex, flags=re.MULTILINE))


def _kinds(asked: Asked) -> Iterator[str]:
    if "task" not in asked.study.kinds:
        yield (
            f"`kinds` is [{', '.join(asked.study.kinds)}], without `task`. Expected `task` among "
            "them: comparisons, figures and the article are made of those runs, and the others are "
            "set beside them. Add `task` to `kinds`."
        )


def _lengths(asked: Asked) -> Iterator[str]:
    settings = asked.study.settings
    for name in asked.study.models:
        most = max_tokens_of(asked.study, asked.catalogue, name)
        if most >= settings.context_length:
            yield (
                f"An answer of {name} may have {most} tokens, and `settings.context_length` is "
                f"{settings.context_length}, for prompt and answer together. Expected room for a "
                "prompt. Raise `settings.context_length` or lower `settings.max_tokens`."
            )


def settings_that_clash(settings: AskedSettings, key: str = "settings") -> Iterator[str]:
    """Yield what is wrong with settings that a runtime is asked for together.

    `key` is where they stand in the configuration, as an arm's own.
    """
    if settings.micro_batch_size > settings.batch_size:
        yield (
            f"`{key}.micro_batch_size` is {settings.micro_batch_size}, more than "
            f"`{key}.batch_size`, {settings.batch_size}. Expected at most as much: a batch is "
            "computed in micro batches, and runtimes cut the one down to the other. Lower it."
        )
    if settings.kv_cache != PLAIN_KV_CACHE and not settings.flash_attention:
        yield (
            f"`{key}.kv_cache` is {settings.kv_cache}, and `{key}.flash_attention` is false. "
            "Expected true: llama.cpp keeps values in fewer bits only where its fused kernel reads "
            f"them. Set `{key}.flash_attention: true`, or `{key}.kv_cache: {PLAIN_KV_CACHE}`."
        )


def _settings(asked: Asked) -> Iterator[str]:
    study = asked.study
    yield from settings_that_clash(study.settings)
    for name, arm in study.arms.items():
        if not arm.as_installed and arm.asked(study.settings) != study.settings:
            yield from settings_that_clash(arm.asked(study.settings), f"arms.{name}.settings")


def _seed(asked: Asked) -> Iterator[str]:
    if asked.study.settings.seed > LARGEST_SEED:
        yield (
            f"`settings.seed` is {asked.study.settings.seed}. Expected at most {LARGEST_SEED}, "
            "which every runtime can take. Choose a smaller one."
        )


def _citation(asked: Asked) -> Iterator[str]:
    source = asked.study.carbon.source
    known = bibliography_keys((asked.root / BIBLIOGRAPHY).read_text(encoding="utf-8"))
    if source not in known or not re.fullmatch(CITABLE, source):
        yield (
            f"`carbon.source` is {source!r}. Expected a key of {BIBLIOGRAPHY}, of small letters "
            f"and digits, so that the article can cite it. {near(source, known)} Correct it, or "
            "add an entry with such a key."
        )


def _required(asked: Asked) -> Iterator[str]:
    known = [field.name for field in dataclasses.fields(Settings)]
    for name in asked.study.require:
        if name not in known:
            yield (
                f"`require` names {name!r}, which is no setting, so that nothing would be "
                f"required. {near(name, known)} Correct it or take it out."
            )


def _models(asked: Asked) -> Iterator[str]:
    lock_file = asked.root / paths.MODELS_LOCK
    pinned: Mapping[str, object] = read_json(lock_file) if lock_file.exists() else {}
    for name in asked.study.models:
        entry = lookup(asked.catalogue, name)
        if (asked.root / paths.model_file(name)).exists():
            continue
        if entry.path is not None and not (asked.root / entry.path).is_file():
            yield (
                f"{name}: there is no file {entry.path}. Expected the GGUF file of this model. Put "
                f"it there or correct `path` in its entry in {CATALOGUE} or under the study's "
                "`catalogue`."
            )
        if not (entry.sha256 or name in pinned or asked.study.trust_on_first_use):
            yield (
                f"{name}: its sha256 is not known, so what is fetched could not be checked. Add "
                f"`sha256` to its entry in {CATALOGUE}, or set `trust_on_first_use: true`."
            )


def _limits(asked: Asked) -> Iterator[str]:
    limits = asked.study.limits
    if limits.flag_only:
        return
    for name in ("cpu_busy", "foreign_cpu"):
        if getattr(limits, name) == 0:
            yield (
                f"`limits.{name}` is 0, which no machine keeps: every run would be invalid. "
                "Expected a share above 0, as 0.02. Raise it."
            )
    if limits.sampling_gap_s <= READING_S:
        yield (
            f"`limits.sampling_gap_s` is {limits.sampling_gap_s:g}, and the meters are read every "
            f"{READING_S:g} s: every run would be invalid. Expected more than that. Raise it."
        )


RULES: tuple[Callable[[Asked], Iterator[str]], ...] = (
    _kinds,
    _lengths,
    _settings,
    _seed,
    _citation,
    _required,
    _models,
    _limits,
)
