"""Studies of the least size and of every choice of kinds: from their records to the article."""

from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest
from synthetic_tables import study_tables

from joules.analyse.study_statistics import statistics
from joules.analyse.tables import Tables, write_csv
from joules.core.paths import figure_names
from joules.core.places import PACKAGE, REPOSITORY
from joules.draw.drawing import draw, tables_of
from joules.write.claims import TABLES, claims
from joules.write.published_article import read_published_article
from joules.write.rendering import render
from joules.write.study_facts import AskedStudy, representative_records, study_facts
from joules.write.template_functions import Article

PAPER = REPOSITORY / "paper"
SMALL: dict[str, dict[str, Any]] = {
    "task alone": {"kinds": ("task",)},
    "task and quality": {"kinds": ("task", "quality")},
    "task and fixed": {"kinds": ("task", "fixed")},
    "all kinds": {"kinds": ("task", "fixed", "control", "quality"), "blocks": 2},
    "one block": {"blocks": 1},
    "one problem": {"problems": 1},
    "two problems": {"problems": 2, "blocks": 2},
    "one runtime": {"runtimes": ("ollama",)},
    "one runtime and no control": {"runtimes": ("ollama",), "kinds": ("task",)},
    "one of everything": {
        **{"models": ("parrot-1m",), "runtimes": ("ollama",), "kinds": ("task",)},
        **{"blocks": 1, "problems": 1},
    },
}


def article_of(folder: Path, **options: Any) -> tuple[str, Tables]:
    """Return the article of a synthetic study, made as the rules make it, and its tables."""
    written, made = study_tables(folder, **({"blocks": 3, "problems": 4} | options))
    asked = msgspec.structs.asdict(written.config)
    wanted = AskedStudy(**{name: asked[name] for name in AskedStudy.__struct_fields__})
    found = statistics(made.runs, made.tasks, list(written.config.runtimes))
    for name, table in (found | {"attempts": made.attempts, "validity": made.validity}).items():
        write_csv(folder / f"{name}.csv", table)
    read = {name: pd.read_csv(folder / f"{name}.csv") for name in (*TABLES, "attempts", "validity")}
    for name in figure_names(PACKAGE):
        every = {**found, **vars(made)}
        draw(name, {each: every[each] for each in tables_of(name)}, demonstration=False)
    records = representative_records(written.records, made.runs)
    facts = study_facts(made.runs, records, wanted, read["attempts"], read["validity"])
    stated = claims(facts, read, {})
    published = read_published_article(PAPER / "published-2025.yaml")
    figures = [f"{name}.svg" for name in figure_names(PACKAGE)]
    return render(Article(stated, published, figures), PAPER), made


@pytest.mark.parametrize("name", SMALL)
def test_a_small_study_ends_with_its_figures_and_its_article(name, tmp_path):
    text, made = article_of(tmp_path, **SMALL[name])
    assert "**In short.** We ran" in text
    assert len(made.runs) == len(list(tmp_path.rglob("records/*/*/*/*.json")))


def test_one_of_a_thing_is_named_in_the_singular(tmp_path):
    text, _ = article_of(tmp_path, **SMALL["one of everything"])
    assert "one open language model on one runtime (Ollama)" in text
    assert "in one randomised block on one machine" in text.replace(",", "")
    assert "There is one block." in text and "whole runs, in one block |" in text
    for wrong in ("one blocks", "one randomised blocks", "one runtimes", "1 blocks", "1 runs"):
        assert wrong not in text.lower(), wrong
