"""Draw any figure of the study by its name."""

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol, cast

import pandas as pd
from matplotlib.figure import Figure

from joules.core.errors import UserError
from joules.core.paths import OF_WALL, figure_names
from joules.core.places import PACKAGE
from joules.draw.looks import arms_in_order
from joules.draw.style import style


class FigureModule(Protocol):
    """A module of `joules.draw.figures`."""

    TABLES: tuple[str, ...]

    def draw(self, *tables: pd.DataFrame, note: str = "") -> Figure:
        """Return the figure from the tables that `TABLES` names, in its order."""


def load(name: str) -> FigureModule:
    """Return the module of the figure `name`. Raises UserError for an unknown name."""
    known = figure_names(PACKAGE)
    if name not in known:
        raise UserError(
            f"There is no figure {name!r}. Expected one of: {', '.join(known)}. Correct the name, "
            "or add a module of that name to workflow/scripts/joules/draw/figures/."
        )
    return cast(FigureModule, importlib.import_module(f"joules.draw.figures.{name}"))


def tables_of(name: str) -> set[str]:
    """Return the names of the tables that `draw` needs for a figure; some tables are large."""
    return {"runs", *load(name).TABLES}


def draw(
    name: str,
    tables: Mapping[str, pd.DataFrame],
    demonstration: bool,
    arms: Mapping[str, str] = MappingProxyType({}),
) -> Figure:
    """Return the figure called `name`, drawn from the tables it needs (see `tables_of`).

    `arms`: those that the study names, each with its runtime, in the order of the study; none for
    a study of runtimes, which are then in the order of their names. The note below the figure says
    whether the study is a demonstration and its energy modelled. Raises UserError when there is no
    such figure or the tables have no run.
    """
    figure = load(name)
    if tables["runs"].empty:
        raise UserError("tables/runs.parquet has no run; a figure needs one. Measure first.")
    runs = tables["runs"]
    headline = str(runs["headline"].iloc[0]) if "headline" in runs else "processor"
    shown = headline == "wall" or name in OF_WALL
    emulated = shown and "meter_emulated" in runs and bool(runs["meter_emulated"].eq(True).any())
    note = tier_note(str(runs["tier"].iloc[0]), demonstration, headline, emulated)
    with style(), arms_in_order(arms):
        return figure.draw(*(tables[table] for table in figure.TABLES), note=note)


def tier_note(
    tier: str, demonstration: bool, headline: str = "processor", emulated: bool = False
) -> str:
    """Return what every figure has to say of its numbers; empty when there is nothing to warn of.

    `tier` is the energy tier: `measured`, `sampled`, `estimated` or `unstated`. `headline` is what
    is added up: `processor`, `gpu` or `wall`. `emulated`: the meter of the whole machine is no real
    one.
    """
    counted = {"gpu": "GPU energy alone", "wall": "energy at the wall"}
    words = {"estimated": "energy modelled, not measured", "unstated": "energy tier unstated"}
    said = [words.get(tier, ""), counted.get(headline, "")]
    said.append("emulated meter" if emulated else "")
    energy = "; ".join(part for part in said if part)
    if not demonstration:
        return energy
    return f"{energy} (demonstration study)" if energy else "demonstration study"
