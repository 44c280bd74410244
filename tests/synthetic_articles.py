"""Articles of synthetic studies, made as the rules make them: tables, statistics, claims, text."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pandas as pd
from synthetic_tables import study_tables

from joules.analyse.study_statistics import statistics
from joules.analyse.tables import write_csv
from joules.core.paths import figure_names
from joules.core.places import PACKAGE, REPOSITORY
from joules.core.study import Study
from joules.write import rendering
from joules.write.claims import claims, tables_among
from joules.write.claims_file import Claims, StudyFacts
from joules.write.published_article import read_published_article
from joules.write.study_facts import AskedStudy, representative_records, study_facts
from joules.write.template_functions import Article

PAPER = REPOSITORY / "paper"
FIGURES = [f"{name}.svg" for name in figure_names(PACKAGE)]
PUBLISHED = read_published_article(PAPER / "published-2025.yaml")


class Claimed(NamedTuple):
    """A synthetic study up to its claims."""

    claims: Claims[StudyFacts]
    tables: dict[str, pd.DataFrame]
    runs: pd.DataFrame

    def text(self) -> str:
        """Return the article, in Markdown with its citations unresolved."""
        return rendering.render(Article(self.claims, PUBLISHED, FIGURES), PAPER)


def asked_of(config: Study) -> AskedStudy:
    """Return what the article takes from a configuration, as rule `claim` gives it."""
    asked = msgspec.structs.asdict(config) | {"runtimes": tuple(config.compared)}
    return AskedStudy(**{name: asked[name] for name in AskedStudy.__struct_fields__})


def claimed(
    folder: Path,
    change: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
    facts: dict[str, Any] | None = None,
    **options: Any,
) -> Claimed:
    """Return a synthetic study with these options, as the rules make it.

    `change` is done to its runs, `facts` are laid over those of the study.
    """
    written, tables = study_tables(folder, **options)
    config = written.config
    runs = tables.runs if change is None else change(tables.runs)
    found = statistics(runs, tables.tasks, list(config.compared), config.contrasts)
    others = {"attempts": tables.attempts, "validity": tables.validity}
    for name, table in (found | others).items():
        write_csv(folder / f"{name}.csv", table)
    read = {name: pd.read_csv(folder / f"{name}.csv") for name in tables_among(found)}
    records = representative_records(written.records, runs)
    about = study_facts(runs, records, asked_of(config), read["attempts"], read["validity"])
    about = msgspec.structs.replace(about, **({"demonstration": False} | (facts or {})))
    return Claimed(claims(about, read, {}), read, runs)
