"""The claims of a campaign's article as a table for artifact committees, and what differs.

docs/artifact.md has one such table for each committed campaign. Its values are those of
claims.json, all digits of them: whoever rebuilds a campaign compares the two.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from joules.core.errors import UserError
from joules.core.permission import Permission
from joules.core.wording import cell_text
from joules.write.claims_file import Claim, Claims, StudyFacts

DOCUMENT = "docs/artifact.md"
PERMISSION = "permission.energy_difference"
HEADER = (
    "| claim | what it says | command | minutes | expected | tolerance |\n|---|---|---|---|---|---|"
)
ROW = re.compile(r"^\| `([^`]+)` \|.*\| ([^|]+) \| [^|]+ \|$")
MODEL_AND_ARM = {
    "energy_j_per_token": "energy per generated token",
    "pass_at_1": "share of problems that the first answer solves",
    "energy_j_per_correct": "energy per correct answer",
}
PAIR = {
    "pair.{}.ratio": "energy per token of {} over that of {}",
    "pair.{}.verdict": "verdict on that ratio of {} and {}",
    "pair.{}.same_text_share": "share of prompts that {} and {} answer with the same text",
    "correct.{}.ratio": "energy per correct answer of {} over that of {}",
}
CONTROL = "an arm's second run in a block over its first, energy per token"
NOISE = {
    "noise.largest_cv": "largest coefficient of variation of a cell's energy per token",
    "noise.control_low": "lowest ratio of the null controls",
    "noise.control_high": "highest ratio of the null controls",
}


class Row(NamedTuple):
    """One claim: its name in claims.json, what it says, and its value with unit and interval."""

    claim: str
    sentence: str
    expected: str


def rows_of(claims: Claims[StudyFacts]) -> list[Row]:
    """Return the main claims of an article: permission, noise, cells, pairs and controls."""
    found = [Row(PERMISSION, "an energy difference may be stated", _allowed(claims.permission))]
    for name, sentence in _named(claims.study, claims.claims):
        claim = claims.claims.get(name)
        if claim is not None:
            kept = sentence if claim.may_be_stated else f"{sentence}; shown, not claimed"
            found.append(Row(name, kept, value_of(claim)))
    return found


def value_of(claim: Claim) -> str:
    """Return a claim's value as the table has it: all digits, its unit, and its interval."""
    if not isinstance(claim.value, (int, float)):
        return cell_text(claim.value)
    text = f"{claim.value!r}"
    if claim.low is not None and claim.high is not None:
        text += f" ({claim.low!r} to {claim.high!r})"
    return text if claim.unit in ("", "1") else f"{text} {claim.unit}"


def section(campaign: str, rows: Iterable[Row], minutes: int) -> str:
    """Return the section of a campaign in docs/artifact.md; `minutes` are those of the rebuild."""
    lines = [
        f"| `{row.claim}` | {row.sentence} | `make review` | {minutes} | {row.expected} | none |"
        for row in rows
    ]
    return "\n".join([f"## {campaign}", "", HEADER, *lines, ""])


def expected_in(document: str, campaign: str) -> dict[str, str]:
    """Return claim -> expected value as a campaign's section of docs/artifact.md states them.

    Raises UserError where there is no such section, or no table in it.
    """
    _, heading, rest = f"\n{document}".partition(f"\n## {campaign}\n")
    lines = rest.partition("\n## ")[0].splitlines()
    found = {match[1]: match[2] for line in lines if (match := ROW.match(line))}
    if not heading or not found:
        raise UserError(
            f"{DOCUMENT} has no table of claims for the campaign {campaign}. Expected a section "
            f"`## {campaign}` with one. Add what `make artifact CAMPAIGN={campaign} TABLE=yes` "
            "prints."
        )
    return found


def differences(expected: dict[str, str], rows: Iterable[Row]) -> list[str]:
    """Return in words what differs between a stated table and rebuilt claims; empty if nothing."""
    rebuilt = {row.claim: row.expected for row in rows}
    said = [
        f"{name}: expected {value}, found {rebuilt.get(name, 'no such claim')}"
        for name, value in expected.items()
        if rebuilt.get(name) != value
    ]
    return said + [f"{name}: not in the table" for name in rebuilt if name not in expected]


def _allowed(permission: Permission) -> str:
    return "yes" if permission.energy_difference else "no"


def _named(study: StudyFacts, claims: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the name of each main claim that may be there, with its sentence."""
    yield from NOISE.items()
    labels = {runtime.name: runtime.label for runtime in study.runtimes}
    there = set(claims)
    for model in (each.name for each in study.models):
        for arm, label in labels.items():
            for key, sentence in MODEL_AND_ARM.items():
                yield f"cell.{model}.{arm}.{key}", f"{model} on {label}: {sentence}"
        yield f"control.{model}.ratio", f"{model}: {CONTROL}"
        for a, label_a in labels.items():
            for b, label_b in labels.items():
                if f"pair.{model}.{a}.{b}.verdict" in there:
                    for name, sentence in PAIR.items():
                        text = f"{model}: {sentence.format(label_a, label_b)}"
                        yield name.format(f"{model}.{a}.{b}"), text
