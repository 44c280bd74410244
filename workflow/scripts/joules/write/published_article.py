"""The types of paper/published-2025.yaml: what the 2025 article of the same title reported."""

from pathlib import Path

import msgspec

from joules.core.errors import UserError
from joules.core.reading import read_configuration
from joules.core.values import Stored


class Spread(Stored, frozen=True):
    """A mean and a standard deviation over tasks, each of which was run once."""

    mean: float
    sd: float


class PublishedModel(Stored, frozen=True):
    """The energy of one model in joule."""

    name: str
    energy_j_per_token: Spread
    energy_j_per_task: Spread


class PublishedArticle(Stored, frozen=True, kw_only=True):
    """How that article measured, and its numbers; `source` is its key in references.bib."""

    source: str
    runtime: str
    meter: str
    machine: str
    tasks: int
    runs_per_task: int
    max_tokens: int
    answers_scored: bool
    models: list[PublishedModel]


def read_published_article(path: Path) -> PublishedArticle:
    """Return what the file holds. Raises UserError that names what is missing or wrong in it."""
    try:
        return msgspec.convert(read_configuration(path), PublishedArticle)
    except msgspec.ValidationError as error:
        raise UserError(
            f"{path} is not what the article needs: {error}. Expected the keys of "
            "joules.write.published_article.PublishedArticle. Correct the file."
        ) from error
