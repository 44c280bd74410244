"""Scores that others published of the same models, to compare ours with."""

import dataclasses
from collections.abc import Mapping, Sequence

from joules.core.catalogue import Catalogue
from joules.write.claims_file import Claim


@dataclasses.dataclass(frozen=True)
class PublishedShare:
    """A published pass@1 as a share of one, and the place where it is published."""

    pass_at_1: float
    source: str


def published_scores(catalogue: Catalogue, models: Sequence[str]) -> dict[str, PublishedShare]:
    """Return the scores of the models that have a published one; the catalogue's are in percent."""
    entries = {name: catalogue.models[name] for name in models if name in catalogue.models}
    return {
        name: PublishedShare(
            float(entry.published_pass_at_1.value) / 100, entry.published_pass_at_1.source
        )
        for name, entry in entries.items()
        if entry.published_pass_at_1
    }


def published_claims(published: Mapping[str, PublishedShare]) -> dict[str, Claim]:
    """Return `published.{model}.pass_at_1`: a share, with the place where it is published."""
    return {
        f"published.{model}.pass_at_1": Claim(
            value=score.pass_at_1,
            unit="1",
            low=None,
            high=None,
            n=None,
            tier=None,
            source=score.source,
        )
        for model, score in sorted(published.items())
    }
