"""Every number that the article states, under a name, and what may be said about energy.

The article takes numbers from here and nowhere else.
"""

from collections.abc import Iterable, Mapping

import msgspec
import pandas as pd

from joules.analyse.permission import permission
from joules.write.claim_numbers import cell_claims, count_claims, study_claims
from joules.write.claims_file import Claims, StudyType
from joules.write.explaining_numbers import all_explaining_claims
from joules.write.pair_numbers import claimable_pairs, further_claims, pair_claims
from joules.write.published_scores import PublishedShare, published_claims
from joules.write.wall_numbers import wall_claims
from joules.write.warnings_of_answers import warnings_of_answers

TABLES = (
    *("cells", "comparisons", "quality", "phases", "break_even", "sensitivity", "ranking"),
    *("verdicts", "rules", "contested", "drift"),
    *("problems", "explanations", "texts", "broken_rules"),
)
BY_WALL = ("wall", "wall_pairs")  # of a study with a meter of the whole machine, and of no other


def tables_among(given: Iterable[str]) -> list[str]:
    """Return the tables that the claims of a study are made of; `given` are those that there are.

    Beside those of the statistics, the invalid attempts and the rules that were looked at.
    """
    there = set(given)
    return [*TABLES, *(name for name in BY_WALL if name in there), "attempts", "validity"]


def claims(
    study: StudyType,
    tables: Mapping[str, pd.DataFrame],
    published: Mapping[str, PublishedShare] | None = None,
) -> Claims[StudyType]:
    """Return the study's facts, what may be claimed, and every number under its name.

    `tables` are those of `TABLES`, the last four as far as there are, and of `BY_WALL`. The facts
    get the labels, rules and warnings that the tables hold.
    """
    allowed = permission(
        tables["comparisons"], study.tier, study.energy, emulated=study.is_emulated
    )
    verdicts, rules = tables["verdicts"], tables["rules"]
    answered = verdicts.groupby(["model", "runtime"])["count"].sum()
    graded = {(str(model), str(runtime)): int(n) for (model, runtime), n in answered.items()}
    facts = msgspec.structs.replace(
        study,
        verdict_labels=sorted(set(verdicts["label"])),
        rules=sorted(set(rules["rule"])),
        warnings=warnings_of_answers(tables["cells"], verdicts, published or {}),
    )
    claimable = claimable_pairs(tables["comparisons"], allowed.energy_difference)
    numbers = {
        **cell_claims(tables["cells"], tables["phases"]),
        **pair_claims(tables["comparisons"], tables["quality"], allowed.energy_difference),
        **further_claims(tables, claimable),
        **all_explaining_claims(tables, claimable),
        **count_claims(verdicts, "verdicts", "label", graded),
        **count_claims(rules, "rules", "rule", graded),
        **study_claims(tables),
        **wall_claims(tables, claimable),
        **published_claims(published or {}),
    }
    return Claims(facts, allowed, numbers)
