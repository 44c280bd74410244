"""The numbers of the whole machine beside its processor, each from one row of one table."""

from collections.abc import Mapping

import pandas as pd

from joules.write.claim_rows import claim_of, judged, of_pair, plain, rows_of, source_of
from joules.write.claims_file import Claim

CELL_UNITS = {
    "idle_share": "1",
    "wall_j_per_token": "J/token",
    "processor_j_per_token": "J/token",
    "idle_power_w": "W",
    "gap_time_share": "1",
}
OF_PROCESSOR = "processor_j_per_token"


def wall_claims(
    tables: Mapping[str, pd.DataFrame], claimable: Mapping[str, bool]
) -> dict[str, Claim]:
    """Return `wall.{model}.{runtime}.X` and `wall_pair.{model}.{a}.{b}.X`; none without a meter.

    `wall.….ratio` is the whole machine over its processor. Of a pair, `wall.ratio` and
    `processor.ratio` are the ratios of energy per token by each, `change.ratio` the former over the
    latter, and `same_order` whether both put the two into one order.
    """
    found: dict[str, Claim] = {}
    for _, row in rows_of(tables, "wall").iterrows():
        source = source_of("wall", row, "model", "runtime")
        name, tier = f"wall.{row['model']}.{row['runtime']}", _tier(row, "wall_tier")
        found[f"{name}.ratio"] = claim_of(
            row, "ratio", "1", source, interval=("low", "high"), n="n", tier=tier
        )
        for column, unit in CELL_UNITS.items():
            own = _tier(row, "processor_tier") if column == OF_PROCESSOR else tier
            found[f"{name}.{column}"] = claim_of(row, column, unit, source, n="n", tier=own)
    for _, row in rows_of(tables, "wall_pairs").iterrows():
        source = source_of("wall_pairs", row, "model", "runtime_a", "runtime_b")
        own_claims = {
            f"wall_pair.{of_pair(row)}.{column}.ratio": claim_of(
                row, column, "1", source, interval=(f"{column}_low", f"{column}_high"), n="n_blocks"
            )
            for column in ("wall", "processor", "change")
        }
        order = claim_of(row, "same_order", "", source, n="n_blocks")
        own_claims[f"wall_pair.{of_pair(row)}.same_order"] = order
        found |= judged(own_claims, claimable.get(of_pair(row), False))
    return found


def _tier(row: pd.Series, column: str) -> str | None:
    tier = plain(row.get(column))
    return None if tier is None else str(tier)
