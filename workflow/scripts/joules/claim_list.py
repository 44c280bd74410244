"""The claims that the HTML article links to, as a table: what each number is and comes from."""

import html
import re
from collections.abc import Mapping
from typing import Any

from joules.wording import NOTHING, significant

HEADINGS = ("Claim", "Value", "Interval", "n", "Tier", "From", "Records")


def linked_ids(markdown: str) -> list[str]:
    """Return the ids of the claims that a text links to, each once, in order."""
    return list(dict.fromkeys(re.findall(r"\]\(#claim-([^)\s]+)\)", markdown)))


def records_of(source: str) -> str:
    """Return where the records of a claim lie in the archive, from the row that it comes from."""
    row = dict(part.split("=", 1) for part in source.split() if "=" in part)
    if "model" not in row:
        return "records/"
    names = [row[key] for key in ("runtime", "runtime_a", "runtime_b") if key in row]
    kind = row.get("kind", "task")
    if not names:
        return f"records/{row['model']}/"
    return " ".join(f"records/{row['model']}/{name}/{kind}/" for name in dict.fromkeys(names))


def _value(claim: Mapping[str, Any]) -> str:
    value, unit = claim["value"], claim.get("unit") or ""
    text = value if isinstance(value, str) else significant(value, 9)
    return text if value is None or unit in ("", "1") else f"{text} {unit}"


def claim_table(claims: Mapping[str, Mapping[str, Any]], ids: list[str]) -> str:
    """Return an HTML section with one row per claim, whose id is the target of the links."""
    rows = []
    for name in ids:
        claim = claims[name]
        low, high = claim.get("low"), claim.get("high")
        interval = (
            "" if low is None or high is None else f"{significant(low)} to {significant(high)}"
        )
        cells = (
            *(_value(claim), interval, claim.get("n") or "", claim.get("tier") or ""),
            *(claim["source"], records_of(claim["source"])),
        )
        shown = "".join(f"<td>{html.escape(str(cell or NOTHING))}</td>" for cell in cells)
        head = f'<th scope="row">{html.escape(name)}</th>'
        rows.append(f'<tr id="claim-{html.escape(name)}">{head}{shown}</tr>')
    headings = "".join(f'<th scope="col">{heading}</th>' for heading in HEADINGS)
    return (
        '<section class="claims"><h2 id="claims">Claims</h2><p>Every number of the results above '
        "is a link to its row here: the value as computed, the row of the table that it comes "
        "from, and the records of the campaign's archive that it rests on.</p>"
        '<div class="scroll" tabindex="0"><table class="claims"><thead><tr>'
        f"{headings}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></section>"
    )
