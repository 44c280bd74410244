"""What the HTML article's numbers lead to: the claims, and the runs whose records they rest on."""

import csv
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2

from joules.core.analysis import ALL_ARMS, NO_CLAIM
from joules.core.wording import NOTHING, significant
from joules.write.claims_file import Claim

TEMPLATE = "evidence.html.j2"

Cells = tuple[str | int | None, ...]


class Group(NamedTuple):
    """The runs of one kind of a model on a runtime."""

    model: str
    runtime: str
    kind: str

    @property
    def name(self) -> str:
        """The folder of their records."""
        return "/".join(self)

    @property
    def anchor(self) -> str:
        """The place in the page that links lead to."""
        return "-".join(("runs", *self))


class ClaimRow(NamedTuple):
    """A row of the list of claims; it rests on all runs where `groups` is empty."""

    name: str
    cells: Cells
    groups: list[Group]


class RunRow(NamedTuple):
    """A row of the list of runs."""

    record: str
    cells: Cells


def linked_ids(markdown: str) -> list[str]:
    """Return the ids of the claims that a text links to, each once, in order."""
    return list(dict.fromkeys(re.findall(r"\]\(#claim-([^)\s]+)\)", markdown)))


def read_runs(path: Path) -> list[dict[str, str]]:
    """Return the rows of tables/runs.csv as texts."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def group_of(run: Mapping[str, str]) -> Group:
    """Return which runs of one kind a run belongs to."""
    return Group(run["model"], run["runtime"], run["kind"])


def records_of(source: str, groups: Sequence[Group]) -> list[Group]:
    """Return the groups of runs that a claim rests on, from the row that it comes from.

    A control is compared with the runs of kind `task` of the same runtime, so it rests on both;
    where the runtimes take turns it is one of `all`. A row without a kind is one of kind `task`;
    one without a runtime rests on all of its model.
    """
    row = dict(part.split("=", 1) for part in source.split() if "=" in part)
    names = {row[key] for key in ("runtime", "runtime_a", "runtime_b") if key in row} - {ALL_ARMS}
    kind = row.get("kind", "task")
    kinds = {"task", "control"} if kind == "control" else {kind}
    return [
        group
        for group in groups
        if row.get("model", group.model) == group.model
        and (not names or group.runtime in names)
        and (group.kind in kinds or ("kind" not in row and not names))
    ]


def evidence(
    claims: Mapping[str, Claim],
    ids: Iterable[str],
    runs: Sequence[Mapping[str, str]],
    style: Path,
) -> str:
    """Return two HTML sections: a row per claim of `ids`, and a row per run.

    The id of a claim's row is the target of the article's links. It leads to the runs it rests on:
    the body of a table per group of runs. `style` is the folder of the template.
    """
    groups = sorted(set(map(group_of, runs)))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(style),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        autoescape=True,
    )
    ordered = sorted(runs, key=lambda run: (group_of(run), int(run["block"])))
    return environment.get_template(TEMPLATE).render(
        claims=[_claim_row(name, claims[name], groups) for name in ids],
        groups=[
            (group, [_run_row(group, run) for run in members])
            for group, members in itertools.groupby(ordered, key=group_of)
        ],
    )


def _claim_row(name: str, claim: Claim, groups: Sequence[Group]) -> ClaimRow:
    low, high = claim.low, claim.high
    interval = "" if low is None or high is None else f"{low:.9g} to {high:.9g}"
    found = records_of(claim.source, groups)
    stated = "" if claim.may_be_stated else NO_CLAIM
    cells = (_value(claim), interval, claim.n, claim.tier, stated, claim.source)
    return ClaimRow(name, cells, [] if len(found) == len(groups) else found)


def _run_row(group: Group, run: Mapping[str, str]) -> RunRow:
    measured = ("energy_j", "generated_tokens", "energy_j_per_token", "duration_s")
    valid = "yes" if run["valid"] == "True" else f"no: {run['validity_codes']}"
    cells = (run["block"], run["position_actual"], valid)
    numbers = tuple(_rounded(run[key]) for key in measured)
    return RunRow(f"records/{group.name}/{run['block']}.json", cells + numbers)


def _value(claim: Claim) -> str:
    if claim.value is None:
        return NOTHING
    text = claim.value if isinstance(claim.value, str) else f"{claim.value:.9g}"
    return text if claim.unit in ("", "1") else f"{text} {claim.unit}"


def _rounded(number: str) -> str:
    return significant(float(number), 6) if number else NOTHING
