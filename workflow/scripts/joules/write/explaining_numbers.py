"""The numbers that explain a comparison: its parts, its problems, its texts, its rules, its use."""

from collections.abc import Mapping

import msgspec
import pandas as pd

from joules.core.analysis import NO_CLAIM
from joules.core.units import JOULE_PER_KWH
from joules.write.claim_rows import (
    claim_of,
    is_true,
    judged,
    number,
    of_pair,
    rows_of,
    source_of,
    tier_of,
)
from joules.write.claims_file import Claim

TESTS = ("p_value", "p_holm", "p_size_holm", "p_equivalence_holm")
# One stated use, to give an effect a size that a reader can picture: a developer whose editor asks
# for so many answers like ours a day, on so many working days. It changes no comparison.
TASKS_A_DAY = 1000
DAYS_A_YEAR = 220


def problem_claims(
    problems: pd.DataFrame, claimable: Mapping[str, bool], tier: str
) -> dict[str, Claim]:
    """Return `correct.{pair}.X` and `problems.{pair}.X`, intervals over blocks and problems.

    `correct` is the ratio of energy per correct answer with its tests, `problems` the ratio of
    energy per token and the difference of pass@1. `approximate` says that the interval is one.
    """
    found: dict[str, Claim] = {}
    for _, row in problems.iterrows():
        pair, quantity = of_pair(row), str(row["quantity"])
        may = claimable.get(pair, False)
        source = source_of("problems", row, "model", "runtime_a", "runtime_b", "quantity")
        value = claim_of(
            row, "value", "1", source, interval=("low", "high"), n="n_blocks", tier=tier
        )
        if quantity == "pass_at_1":
            found[f"problems.{pair}.{quantity}"] = msgspec.structs.replace(value, tier=None)
            continue
        if quantity != "energy_j_per_correct":
            found |= judged({f"problems.{pair}.{quantity}": value}, may)
            continue
        verdict = claim_of(row, "verdict", "", source, n="n_blocks", tier=tier)
        may = may and verdict.value != NO_CLAIM and is_true(row.get("claimable", True))
        own = {
            "ratio": value,
            "verdict": verdict if may else msgspec.structs.replace(verdict, value=NO_CLAIM),
            **{name: claim_of(row, name, "1", source, n="n_blocks", tier=tier) for name in TESTS},
        }
        about = "yes" if is_true(row.get("approximate")) else "no"
        own["approximate"] = msgspec.structs.replace(own["verdict"], value=about)
        found |= judged({f"correct.{pair}.{name}": each for name, each in own.items()}, may)
    return found


def explaining_claims(
    table: pd.DataFrame, claimable: Mapping[str, bool], tier: str
) -> dict[str, Claim]:
    """Return `explains.{pair}.{quantity}`: the paired ratio of each part of a comparison."""
    found: dict[str, Claim] = {}
    for _, row in table.iterrows():
        pair = of_pair(row)
        source = source_of("explanations", row, "model", "runtime_a", "runtime_b", "quantity")
        claim = claim_of(
            row, "ratio", "1", source, interval=("low", "high"), n="n_blocks", tier=tier
        )
        note = claim_of(row, "note", "", source)
        name = f"explains.{pair}.{row['quantity']}"
        found |= judged({name: claim, f"{name}.note": note}, claimable.get(pair, False))
    return found


def text_claims(texts: pd.DataFrame) -> dict[str, Claim]:
    """Return `texts.{model}.{a}` within an arm and `texts.{model}.{a}.{b}` between two.

    The value is the share of problems whose text is the same in all runs that were compared.
    """
    found: dict[str, Claim] = {}
    for _, row in texts.iterrows():
        within = row["runtime_a"] == row["runtime_b"]
        name = f"texts.{row['model']}.{row['runtime_a']}" if within else f"texts.{of_pair(row)}"
        source = source_of("texts", row, "model", "runtime_a", "runtime_b")
        found[name] = claim_of(row, "share", "1", source, n="problems")
    return found


def broken_claims(table: pd.DataFrame) -> dict[str, Claim]:
    """Return `broken.{model}.{runtime}.{code}` and `….counted`: runs that broke a rule, of n.

    All kinds of runs are put together; `counted` are those that stayed in the tables.
    """
    found: dict[str, Claim] = {}
    if table.empty:
        return found
    names = ["model", "runtime", "code"]
    for (model, runtime, code), own in table.groupby(names):
        row = own[["runs", "broken", "counted"]].sum()
        source = f"statistics/broken_rules.csv model={model} runtime={runtime} code={code}"
        name = f"broken.{model}.{runtime}.{code}"
        found[name] = claim_of(row, "broken", "run", source, n="runs")
        found[f"{name}.counted"] = claim_of(row, "counted", "run", source, n="runs")
    return found


def use_claims(
    cells: pd.DataFrame, comparisons: pd.DataFrame, claimable: Mapping[str, bool]
) -> dict[str, Claim]:
    """Return `use.X`: the stated use, what each cell would need for it in a year, how far apart.

    `use.{model}.{runtime}.kwh_per_year` is energy per task times the tasks of a year.
    `use.{model}.{a}.{b}.kwh_per_year` is what the first needs more than the second, and has a value
    only where the pair may be claimed.
    """
    stated = "joules.write.explaining_numbers"
    found = {
        "use.tasks_a_day": _stated(TASKS_A_DAY, "task", stated),
        "use.days_a_year": _stated(DAYS_A_YEAR, "", stated),
    }
    tier = tier_of(cells)
    yearly = TASKS_A_DAY * DAYS_A_YEAR / JOULE_PER_KWH
    of_cell: dict[tuple[str, str], float | None] = {}
    for _, row in cells[cells["kind"] == "task"].iterrows():
        source = source_of("cells", row, "model", "runtime", "kind")
        names = [f"{end}_energy_j_per_task" for end in ("mean", "low", "high")]
        scaled = pd.Series({name: row.get(name) for name in names}, dtype=float) * yearly
        scaled["n"] = row["n"]
        claim = claim_of(
            scaled, names[0], "kWh", source, interval=(names[1], names[2]), n="n", tier=tier
        )
        found[f"use.{row['model']}.{row['runtime']}.kwh_per_year"] = claim
        of_cell[row["model"], row["runtime"]] = number(scaled[names[0]])
    for _, row in comparisons[comparisons["kind"] == "task"].iterrows():
        pair = of_pair(row)
        a, b = (of_cell.get((row["model"], row[f"runtime_{side}"])) for side in "ab")
        may = claimable.get(pair, False)
        apart = a - b if may and a is not None and b is not None else None
        source = source_of("cells", row, "model", "runtime_a", "runtime_b", "kind")
        claim = claim_of(pd.Series({"value": apart}), "value", "kWh", source, tier=tier)
        found |= judged({f"use.{pair}.kwh_per_year": claim}, may)
    return found


def _stated(value: int, unit: str, source: str) -> Claim:
    return Claim(value=value, unit=unit, low=None, high=None, n=None, tier=None, source=source)


def all_explaining_claims(
    tables: Mapping[str, pd.DataFrame], claimable: Mapping[str, bool]
) -> dict[str, Claim]:
    """Return the claims of this module; tables that the statistics lack give none."""
    tier = tier_of(tables["cells"])
    return {
        **problem_claims(rows_of(tables, "problems"), claimable, tier),
        **explaining_claims(rows_of(tables, "explanations"), claimable, tier),
        **text_claims(rows_of(tables, "texts")),
        **broken_claims(rows_of(tables, "broken_rules")),
        **use_claims(tables["cells"], tables["comparisons"], claimable),
    }
