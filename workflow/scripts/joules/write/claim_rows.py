"""One claim from one row of a table of statistics: how a cell becomes a number with its source."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pandas as pd

from joules.write.claims_file import Claim

COUNTED = ("task", "block", "run", "")  # units whose numbers are whole


def plain(value: Any) -> int | float | str | None:
    """Return a table's cell as JSON takes it; NaN becomes None, whole floats stay floats."""
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return None
    return value.item() if hasattr(value, "item") else value


def number(value: Any) -> float | None:
    """Return a table's cell as a number; a text or a missing value is None."""
    found = plain(value)
    return None if isinstance(found, str) else found


def is_true(value: Any) -> bool:
    """Return whether a cell of a table of yes and no says yes; a missing one does not."""
    return str(plain(value)) == "True"


def claim_of(
    row: pd.Series,
    column: str,
    unit: str,
    source: str,
    *,
    interval: tuple[str, str] | None = None,
    n: str | None = None,
    tier: str | None = None,
) -> Claim:
    """Return the claim on one cell of a row; `interval` and `n` name other cells of that row."""
    low, high = interval or ("", "")
    count = number(row.get(n)) if n else None
    value = plain(row.get(column))
    if value is not None and not isinstance(value, str):
        value = int(value) if unit in COUNTED else float(value)
    return Claim(
        value=value,
        unit=unit,
        low=number(row.get(low)),
        high=number(row.get(high)),
        n=None if count is None else int(count),
        tier=tier,
        source=source,
    )


def source_of(table: str, row: pd.Series, *keys: str) -> str:
    """Return the file of a table and the cells that name one row of it."""
    return " ".join([f"statistics/{table}.csv", *(f"{key}={row[key]}" for key in keys)])


def tier_of(cells: pd.DataFrame) -> str:
    """Return the tier of the study; `tabulate` lets no two tiers into one."""
    return str(cells["tier"].iloc[0])


def of_pair(row: Any) -> str:
    """Return `{model}.{runtime_a}.{runtime_b}`, by which a pair is named in claims."""
    return f"{row['model']}.{row['runtime_a']}.{row['runtime_b']}"


def judged(claims: Mapping[str, Claim], claimable: bool) -> dict[str, Claim]:
    """Return claims on the energy of a pair, each saying whether it may be stated as a finding."""
    return {
        name: msgspec.structs.replace(each, claimable=claimable) for name, each in claims.items()
    }


def rows_of(tables: Mapping[str, pd.DataFrame], name: str) -> pd.DataFrame:
    """Return a table, or an empty one where the statistics do not have it."""
    return tables.get(name, pd.DataFrame())
