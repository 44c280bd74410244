"""What the HTML article's numbers lead to: the claims, and the runs whose records they rest on."""

import csv
import html
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from joules.wording import NOTHING, significant

CLAIM_HEADINGS = ("Claim", "Value", "Interval", "n", "Tier", "From", "Records")
RUN_HEADINGS = ("Record", "Block", "Place", "Valid", "Energy, J", "Tokens", "J per token", "s")

Group = tuple[str, str, str]  # model, runtime, kind


def linked_ids(markdown: str) -> list[str]:
    """Return the ids of the claims that a text links to, each once, in order."""
    return list(dict.fromkeys(re.findall(r"\]\(#claim-([^)\s]+)\)", markdown)))


def read_runs(path: Path) -> list[dict[str, str]]:
    """Return the rows of tables/runs.csv as texts."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def group_of(run: Mapping[str, str]) -> Group:
    """Return which runs of one kind a run belongs to."""
    return run["model"], run["runtime"], run["kind"]


def records_of(source: str, groups: Sequence[Group]) -> list[Group]:
    """Return the groups of runs that a claim rests on, from the row that it comes from.

    A control is compared with the runs of kind `task` of the same runtime, so it rests on both. A
    row without a kind is one of kind `task`; one without a runtime rests on all of its model.
    """
    row = dict(part.split("=", 1) for part in source.split() if "=" in part)
    names = {row[key] for key in ("runtime", "runtime_a", "runtime_b") if key in row}
    kind = row.get("kind", "task")
    kinds = {"task", "control"} if kind == "control" else {kind}
    return [
        (model, runtime, own)
        for model, runtime, own in groups
        if row.get("model", model) == model
        and (not names or runtime in names)
        and (own in kinds or ("kind" not in row and not names))
    ]


def claim_table(
    claims: Mapping[str, Mapping[str, Any]], ids: Iterable[str], groups: Sequence[Group]
) -> str:
    """Return an HTML section with one row per claim, whose id is the target of the links."""
    rows = []
    for name in ids:
        claim = claims[name]
        low, high = claim.get("low"), claim.get("high")
        interval = "" if low is None or high is None else f"{low:.9g} to {high:.9g}"
        cells = (_value(claim), interval, claim.get("n"), claim.get("tier"), claim["source"])
        found = records_of(claim["source"], groups)
        of_all = not found or len(found) == len(groups)
        records = '<a href="#runs">all runs</a>' if of_all else " ".join(map(_link, found))
        rows.append(
            f'<tr id="claim-{html.escape(name)}"><th scope="row">{html.escape(name)}</th>'
            f"{_cells(cells)}<td>{records}</td></tr>"
        )
    return _section(
        "claims",
        "Claims",
        "Every number of the results is a link to its row here: the value as computed, the row of "
        "the table that it comes from, and the runs that it rests on.",
        _table(CLAIM_HEADINGS, [f"<tbody>{''.join(rows)}</tbody>"]),
    )


def run_table(runs: Sequence[Mapping[str, str]]) -> str:
    """Return an HTML section with one row per run: its record in the archive and what it holds.

    Each group of runs of one model, runtime and kind is the target of links from the claims.
    """
    bodies = []
    ordered = sorted(runs, key=lambda run: (*group_of(run), int(run["block"])))
    for group, members in itertools.groupby(ordered, key=group_of):
        rows = []
        for run in members:
            numbers = (run[key] for key in ("energy_j", "generated_tokens", "energy_j_per_token"))
            valid = "yes" if run["valid"] == "True" else f"no: {run['validity_codes']}"
            cells = (
                *(run["block"], run["position_actual"], valid),
                *map(_rounded, (*numbers, run["duration_s"])),
            )
            record = f"records/{'/'.join(group)}/{run['block']}.json"
            rows.append(f'<tr><th scope="row">{html.escape(record)}</th>{_cells(cells)}</tr>')
        bodies.append(f'<tbody id="{html.escape(_anchor(group))}">{"".join(rows)}</tbody>')
    return _section(
        "runs",
        "Runs",
        "Every run of the study: the place of its record in the archive of the campaign, and the "
        "numbers of its tasks window.",
        _table(RUN_HEADINGS, bodies),
    )


def _value(claim: Mapping[str, Any]) -> str:
    value, unit = claim["value"], claim.get("unit") or ""
    if value is None:
        return NOTHING
    text = value if isinstance(value, str) else f"{value:.9g}"
    return text if unit in ("", "1") else f"{text} {unit}"


def _rounded(number: str) -> str:
    return significant(float(number), 6) if number else NOTHING


def _anchor(group: Group) -> str:
    return "runs-" + "-".join(group)


def _link(group: Group) -> str:
    name = html.escape(_anchor(group))
    return f'<a href="#{name}">{html.escape("/".join(group))}</a>'


def _cells(values: Iterable[object]) -> str:
    texts = ("–" if value in (None, "") else html.escape(str(value)) for value in values)
    return "".join(f"<td>{text}</td>" for text in texts)


def _table(headings: Iterable[str], bodies: Iterable[str]) -> str:
    heads = "".join(f'<th scope="col">{heading}</th>' for heading in headings)
    return f'<table class="evidence"><thead><tr>{heads}</tr></thead>{"".join(bodies)}</table>'


def _section(name: str, heading: str, text: str, table: str) -> str:
    return (
        f'<section class="evidence" id="{name}"><h2>{heading}</h2><p>{text}</p>'
        f"<details><summary>Show all {heading.lower()}</summary>"
        f'<div class="scroll" tabindex="0">{table}</div></details></section>'
    )
