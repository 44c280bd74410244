"""The comparison of campaigns as a folder that can be put online: tables, figure, one page.

The page is one HTML file with all in it. It can be read without a server and without JavaScript,
which only sorts its tables. Equal campaigns give equal bytes: nothing here reads a clock.
"""

import base64
import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import pandas as pd
from matplotlib.figure import Figure

from joules.analyse.pooling import FEW_MACHINES, LEAST_MACHINES
from joules.analyse.side_by_side import CONTRAST, SideBySide
from joules.analyse.tables import write_csv
from joules.core.files import write_atomic
from joules.core.wording import NOTHING, number_of, percent, significant
from joules.draw.style import save

TEMPLATE = "compare.html.j2"
PAGE, FIGURE = "index.html", "forest"
LONG = 28  # letters of a cell that is broken into lines
DIGITS = 4  # of a ratio, significant ones: it is near 1


class Cell(NamedTuple):
    """A cell of a table: what is read, and the number by which it is sorted, where it is one."""

    text: str
    value: float | None = None

    @property
    def look(self) -> str:
        """The class of the cell: a long text is broken into lines, a short one is not."""
        return "long" if len(self.text) > LONG else "short"


class Table(NamedTuple):
    """A table of the page."""

    name: str
    heading: str
    text: str
    columns: list[str]
    rows: list[list[Cell]]


def write_side_by_side(tables: SideBySide, figure: Figure, folder: Path, style: Path) -> list[Path]:
    """Write tables, figure and page into `folder`; return the paths, the page's first.

    `style` is the folder of the article's style, which the page shares. Raises UserError when the
    disk is full.
    """
    written = []
    for field in dataclasses.fields(tables):
        written.append(folder / f"{field.name}.csv")
        write_csv(written[-1], getattr(tables, field.name))
    written += save(figure, folder / FIGURE)
    write_atomic(folder / PAGE, page(tables, folder / f"{FIGURE}.svg", style))
    return [folder / PAGE, *written]


def page(tables: SideBySide, svg: Path, style: Path) -> str:
    """Return the page as HTML, the figure `svg` inside."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(style),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=True,
    )
    drawn = svg.read_bytes()
    width = re.search(rb'<svg[^>]*?\bwidth="([\d.]+)pt"', drawn)
    labels = dict(zip(tables.energy["runtime"], tables.energy["runtime_label"], strict=True))
    claims = int(tables.campaigns["may_claim"].sum())
    return environment.get_template(TEMPLATE).render(
        campaigns=number_of(len(tables.campaigns), "campaign"),
        claims=claims,
        least=LEAST_MACHINES,
        few=FEW_MACHINES,
        approximate=bool((tables.means["approximate"] == "yes").any()),
        averaged=bool(tables.means["ratio"].notna().any()),
        differs=not tables.differences.empty,
        figure=base64.b64encode(drawn).decode(),
        points=float(width[1]) if width else 0.0,
        files=[f"{field.name}.csv" for field in dataclasses.fields(tables)]
        + [f"{FIGURE}.{suffix}" for suffix in ("svg", "pdf", "png")],
        tables=[
            _means(tables.means, labels),
            _ratios(tables.ratios, labels),
            _differences(tables.differences, labels),
            _energy(tables.energy),
            _campaigns(tables.campaigns),
        ],
    )


def _text(value: object) -> Cell:
    return Cell(str(value))


def _number(value: float, digits: int = DIGITS) -> Cell:
    if value is None or not math.isfinite(value):
        return Cell(NOTHING)
    return Cell(significant(float(value), digits), float(value))


def _count(value: float) -> Cell:
    return Cell(f"{int(value):,}", float(value))


def _interval(low: float, high: float, digits: int = DIGITS) -> Cell:
    """Return an interval, sorted by its lower end."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return Cell(NOTHING)
    return Cell(f"{significant(low, digits)} to {significant(high, digits)}", float(low))


def _contrast(row: Any, labels: Mapping[str, str]) -> list[Cell]:
    """Return the cells that name a comparison."""
    a, b = (labels.get(name, name) for name in (row.runtime_a, row.runtime_b))
    fixed = " (fixed length)" * (row.kind == "fixed")
    return [_text(row.model), _text(f"{a} / {b}{fixed}"), _count(row.protocol)]


NAMING = ["Model", "Contrast", "Protocol"]


def _means(means: pd.DataFrame, labels: Mapping[str, str]) -> Table:
    rows = []
    for row in means.itertuples():
        further = _interval(row.prediction_low, row.prediction_high)
        if row.approximate == "yes":
            further = Cell(f"about {further.text}", further.value)
        share = Cell(NOTHING)
        if math.isfinite(row.i_squared):
            share = Cell(percent(row.i_squared), row.i_squared)
        rows.append(
            [
                *_contrast(row, labels),
                Cell(f"{row.machines:.0f} of {row.campaigns:.0f}", row.machines),
                _number(row.ratio),
                _interval(row.ratio_low, row.ratio_high),
                further,
                _number(row.tau, 2),
                share,
                _text(
                    row.no_mean_reason or further_machine(row.prediction_low, row.prediction_high)
                ),
            ]
        )
    return Table(
        "means",
        "Does the answer hold beyond one machine?",
        "One row per contrast and protocol. The ratio is the random-effects mean of the campaigns' "
        "log ratios, its interval by Hartung and Knapp. The true ratio of one further machine is "
        "expected within the prediction interval. τ is the standard deviation of the machines' "
        "true log ratios, I² the share of the variance of the ratios that is not chance.",
        [
            *NAMING,
            "May be averaged",
            "Ratio",
            "95 % interval",
            "95 % prediction interval",
            "τ",
            "I²",
        ]
        + ["What it says"],
        rows,
    )


def further_machine(low: float, high: float) -> str:
    """Return what a prediction interval says of a further machine."""
    if high < 1:
        return "below 1 on a further machine, too"
    if low > 1:
        return "above 1 on a further machine, too"
    return "a further machine may be on either side of 1"


def _ratios(ratios: pd.DataFrame, labels: Mapping[str, str]) -> Table:
    rows = [
        [
            _text(row.campaign),
            *_contrast(row, labels),
            _number(row.ratio),
            _interval(row.ratio_low, row.ratio_high),
            _count(row.n_blocks),
            _text(row.tier),
            _text(row.verdict),
            _text(_averaged(row)),
        ]
        for row in ratios.itertuples()
    ]
    return Table(
        "ratios",
        "The ratio of each campaign",
        "Energy per generated token of the first over that of the second, with the 95 % interval "
        "of the campaign's own paired test. What carries no claim is shown, and in no mean.",
        [
            "Campaign",
            *NAMING,
            "Ratio",
            "95 % interval",
            "Blocks",
            "Tier",
            "Verdict",
            "May be averaged",
        ],
        rows,
    )


def _averaged(row: Any) -> str:
    """Return whether a ratio may be averaged, and why it may not."""
    reason = row.left_out if row.claimable else row.no_claim_reason
    return f"no: {reason}" if reason else "yes"


def _energy(energy: pd.DataFrame) -> Table:
    rows = [
        [
            *_texts((row.campaign, row.machine, row.model, row.runtime_label)),
            _number(row.energy_j_per_token, 3),
            _interval(row.low_energy_j_per_token, row.high_energy_j_per_token, 3),
            _count(row.n),
            _text(row.tier),
            _text(row.meter),
            Cell(percent(row.pass_at_1, 3), row.pass_at_1)
            if math.isfinite(row.pass_at_1)
            else Cell(NOTHING),
        ]
        for row in energy.itertuples()
    ]
    return Table(
        "energy",
        "Energy per token of each campaign",
        "Of machines and meters that differ, so that they are shown and never averaged. What is "
        "estimated is modelled from the processor's load, and not measured.",
        ["Campaign", "Machine", "Model", "Runtime", "J per token", "95 % interval", "Runs", "Tier"]
        + ["Meter", "pass@1"],
        rows,
    )


def _differences(differences: pd.DataFrame, labels: Mapping[str, str]) -> Table:
    rows = []
    for _, own in differences.groupby([*CONTRAST, "part"], sort=False):
        first = next(own.itertuples())
        values = "; ".join(f"{row.protocol}: {row.value}" for row in own.itertuples())
        rows.append([*_contrast(first, labels)[:-1], _text(first.part), _text(values)])
    return Table(
        "differences",
        "What differs in protocol",
        "Ratios of different protocols are not averaged. These are the parts in which they differ, "
        "with the value of each protocol by its number; the table above says which campaign has "
        "which."
        if rows
        else "All campaigns that share a contrast measured it by the same protocol.",
        ["Model", "Contrast", "Part", "Values by protocol"],
        rows,
    )


def _campaigns(campaigns: pd.DataFrame) -> Table:
    rows = [
        [
            *_texts((row.campaign, row.study, row.machine, row.system, row.tier, row.meter)),
            *_texts((row.measured_on, row.commit or NOTHING)),
            _count(row.runs),
            _text(f"{'claims' if row.may_claim else 'no claim'}: {row.reason}"),
        ]
        for row in campaigns.itertuples()
    ]
    return Table(
        "campaigns",
        "The campaigns",
        "Each is an archive of all its records, whose files were checked against their sums.",
        ["Campaign", "Study", "Machine", "System", "Tier", "Meter", "Measured on", "Commit", "Runs"]
        + ["What it carries"],
        rows,
    )


def _texts(values: Iterable[object]) -> list[Cell]:
    return [_text(value) for value in values]
