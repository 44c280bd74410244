"""The numbers of comparisons, each from one row of one table, and which of them may be stated.

A ratio is that of `runtime_a` over `runtime_b`. What a row does not give is None. Where a pair may
not be claimed, its verdict is `no claim` and what follows from a verdict has no value.
"""

from collections.abc import Mapping
from functools import partial

import msgspec
import pandas as pd

from joules.core.analysis import NO_CLAIM
from joules.write.claim_rows import claim_of, is_true, judged, of_pair, plain, source_of, tier_of
from joules.write.claims_file import Claim

TESTS = {
    **dict.fromkeys(("p_value", "p_holm", "p_size", "p_size_holm"), "1"),
    **dict.fromkeys(("p_equivalence", "p_equivalence_holm"), "1"),
    "verdict": "",
}
LEFT_OUT = ("split_blocks", "mixed_blocks", "invalid_blocks", "flagged_blocks", "flagged_codes")
PAIR_UNITS = {
    **TESTS,
    "no_claim_reason": "",
    "family": "",
    "n_blocks": "block",
    **dict.fromkeys(("hedges_g", "cliffs_delta", "minimum_ratio", "power_for_margin"), "1"),
    "n_for_margin": "block",
    "sd_log_ratio": "1",
}
CONTROL_UNITS = {name: PAIR_UNITS[name] for name in ("p_value", "p_holm", "verdict", "n_blocks")}
ANSWER_UNITS = {
    "same_text_share": "1",
    **dict.fromkeys(("both_pass", "only_a", "only_b", "neither", "flips"), "task"),
    "p_mcnemar": "1",
    "compared_prompts": "task",
    "first_difference_token": "token",
}
ANSWER_COUNTS = {
    "same_text_share": "compared_prompts",
    "first_difference_token": "differing_answers",
}
BREAK_EVEN_UNITS = {
    **dict.fromkeys(("load_a_j", "load_b_j", "task_a_j", "task_b_j"), "J"),
    "break_even_tasks": "1",
    "note": "",
}


def claimable_pairs(comparisons: pd.DataFrame, permitted: bool) -> dict[str, bool]:
    """Return `{model}.{a}.{b}` -> whether its comparison (kind `task`) may be stated."""
    task = comparisons[comparisons["kind"] == "task"]
    return {of_pair(row): permitted and is_true(row["claimable"]) for _, row in task.iterrows()}


def _without_verdict(claims: dict[str, Claim], claimable: bool) -> dict[str, Claim]:
    """Return the claims of a pair; the verdict of one that may not be stated is `no claim`."""
    if not claimable:
        claims["verdict"] = msgspec.structs.replace(claims["verdict"], value=NO_CLAIM)
    return judged(claims, claimable)


def pair_claims(
    comparisons: pd.DataFrame, quality: pd.DataFrame, permitted: bool
) -> dict[str, Claim]:
    """Return `pair.{model}.{a}.{b}.X`, `fixed.{model}.{a}.{b}.X` and `control.{model}.X`.

    `ratio` has the pointwise interval, `ratio_simultaneous` that of the whole family. Claims on
    the energy of a pair carry `claimable`: whether the article may state them as a finding. A
    control compares no runtimes: its claims are the table's as they stand.
    """
    found: dict[str, Claim] = {}
    for _, row in comparisons.iterrows():
        model, kind = row["model"], row["kind"]
        control = kind == "control"
        name = f"control.{model}" if control else f"{_prefix(kind)}.{of_pair(row)}"
        source = source_of("comparisons", row, "model", "runtime_a", "runtime_b", "kind")
        claim = partial(claim_of, row, source=source, n="n_blocks", tier=str(row["tier"]))
        wide = ("simultaneous_low", "simultaneous_high")
        own = {
            "ratio": claim("ratio", "1", interval=("ratio_low", "ratio_high")),
            "ratio_simultaneous": claim("ratio", "1", interval=wide),
        }
        for column, unit in (CONTROL_UNITS if control else PAIR_UNITS).items():
            own[column] = claim(column, unit, interval=(f"{column}_low", f"{column}_high"))
        for column in LEFT_OUT:
            own[column] = msgspec.structs.replace(
                claim(column, ""), value=str(plain(row.get(column)) or "")
            )
        if not control:
            own = _without_verdict(own, permitted and is_true(row["claimable"]))
        found |= {f"{name}.{column}": each for column, each in own.items()}
    for model, rows in comparisons[comparisons["kind"] == "task"].groupby("model"):
        row = rows.iloc[0]
        source = source_of("comparisons", row, "model", "kind")
        claim_ = claim_of(row, "p_friedman", "1", source, tier=str(row["tier"]))
        every = permitted and all(map(is_true, rows["claimable"]))
        found |= judged({f"omnibus.{model}.p_friedman": claim_}, every)
    for _, row in quality.iterrows():
        source = source_of("quality", row, "model", "runtime_a", "runtime_b")
        for column, unit in ANSWER_UNITS.items():
            found[f"pair.{of_pair(row)}.{column}"] = claim_of(
                row, column, unit, source, n=ANSWER_COUNTS.get(column)
            )
    return found


def _prefix(kind: str) -> str:
    return "pair" if kind == "task" else kind


def break_even_claims(
    table: pd.DataFrame, claimable: Mapping[str, bool], tier: str
) -> dict[str, Claim]:
    """Return `break_even.{model}.{a}.{b}.X`; the number of tasks follows from a claim alone."""
    found: dict[str, Claim] = {}
    for _, row in table.iterrows():
        source = source_of("break_even", row, "model", "runtime_a", "runtime_b")
        may = claimable.get(of_pair(row), False)
        own = {
            column: claim_of(row, column, unit, source, tier=tier)
            for column, unit in BREAK_EVEN_UNITS.items()
        }
        if not may:
            own["break_even_tasks"] = msgspec.structs.replace(own["break_even_tasks"], value=None)
            own["note"] = msgspec.structs.replace(own["note"], value=f"{NO_CLAIM.capitalize()}.")
        found |= judged({f"break_even.{of_pair(row)}.{key}": one for key, one in own.items()}, may)
    return found


def further_claims(
    tables: Mapping[str, pd.DataFrame], claimable: Mapping[str, bool]
) -> dict[str, Claim]:
    """Return the claims of break-even, sensitivity, ranking and contested problems.

    Ids: `break_even.{model}.{a}.{b}.X`, `sensitivity.{model}.{a}.{b}.{method}.X`,
    `rank.{model}.{runtime}.X`, `contested.{model}.{runtime}.X`. A ranking is there for models of
    which a pair may be claimed.
    """
    tier = tier_of(tables["cells"])
    found = break_even_claims(tables["break_even"], claimable, tier)
    for _, row in tables["sensitivity"].iterrows():
        source = source_of("sensitivity", row, "model", "runtime_a", "runtime_b", "method")
        name = f"sensitivity.{of_pair(row)}.{row['method']}"
        own = {
            f"{name}.ratio": claim_of(
                row, "ratio", "1", source, interval=("low", "high"), n="n", tier=tier
            ),
            f"{name}.p_value": claim_of(row, "p", "1", source, n="n", tier=tier),
            f"{name}.note": claim_of(row, "note", "", source),
        }
        found |= judged(own, claimable.get(of_pair(row), False))
    for _, row in tables["ranking"].iterrows():
        if any(may for pair, may in claimable.items() if pair.startswith(f"{row['model']}.")):
            found |= _rank_claims(row, tier)
    return found | contested_claims(tables["contested"])


def _rank_claims(row: pd.Series, tier: str) -> dict[str, Claim]:
    source = source_of("ranking", row, "model", "runtime")
    name = f"rank.{row['model']}.{row['runtime']}"
    tied = claim_of(row, "tied_with", "", source)
    return {
        f"{name}.rank": claim_of(row, "rank", "", source, tier=tier),
        f"{name}.ratio_to_best": claim_of(
            row, "ratio_to_best", "1", source, interval=("low", "high"), tier=tier
        ),
        f"{name}.tied_with": msgspec.structs.replace(tied, value=tied.value or ""),
    }


def contested_claims(table: pd.DataFrame) -> dict[str, Claim]:
    """Return `contested.{model}.{runtime}.X`: pass@1 with and without the contested problems."""
    found: dict[str, Claim] = {}
    for _, row in table.iterrows():
        source = source_of("contested", row, "model", "runtime")
        name = f"contested.{row['model']}.{row['runtime']}"
        for end in ("", "_without"):
            found[f"{name}.pass_at_1{end}"] = claim_of(
                row,
                f"pass_at_1{end}",
                "1",
                source,
                interval=(f"low{end}", f"high{end}"),
                n=f"graded{end}",
            )
            for column in ("passed", "graded"):
                found[f"{name}.{column}{end}"] = claim_of(row, f"{column}{end}", "task", source)
    return found
