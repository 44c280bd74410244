"""What a study will take, before hours are spent: an expectation, never a measurement.

Prints runs, hours, downloads, disk, energy, and the smallest difference that so many blocks can
find. Any study file, any number of blocks; needs no lock and writes nothing.
"""

import argparse
import itertools
import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from rich.table import Table
from rich.text import Text

from joules.analyse.conventions import ALPHA, METRIC
from joules.analyse.pairs import control_blocks, paired_blocks
from joules.analyse.power import can_differ, smallest_effect, smallest_p, spread_interval
from joules.commands import command_line, cost
from joules.commands.cost import LIMIT, MIDDLE, Cell, Four
from joules.commands.needs import (
    bytes_with_unknown,
    disk_needs,
    disk_of,
    model_states,
    runtime_fetch_bytes,
)
from joules.commands.screen import Screen
from joules.core import imported
from joules.core.errors import UserError
from joules.core.plan import Run
from joules.core.reading import LoadedStudy, load_study
from joules.core.record import Record
from joules.core.sense import check_sense
from joules.core.study import Study
from joules.core.wording import NOTHING, number_of, percent, significant
from joules.machine.download import for_people

SPREADS = (0.01, 0.02, 0.03, 0.05)  # SDs of the log ratio of a block
BLOCKS = (6, 8, 10, 15, 20, 30)
MOST_BLOCKS = 100_000
LEAST_PAIRS = 3  # blocks of a pair from which on its own spread is taken


def blocks_of(text: str, configured: int) -> int:
    """Return the number of blocks that was asked for; the study's own for an empty text."""
    if not text.strip():
        return configured
    if not text.strip().isdecimal() or int(text) < 1:
        raise UserError(
            f"BLOCKS is {text!r}; expected a whole number of blocks, at least 1. "
            "Give for example: make forecast BLOCKS=12"
        )
    if int(text) > MOST_BLOCKS:
        raise UserError(
            f"BLOCKS is {text.strip()}; expected at most {MOST_BLOCKS:,}, which is years of "
            "measuring. Give for example: make forecast BLOCKS=12"
        )
    return int(text)


def family(study: Study) -> int:
    """Return how many differences are tested together: the primary pairs of arms, by models."""
    return (len(study.contrasts) or math.comb(len(study.compared), 2)) * len(study.models)


def smallest_difference(spread: float, blocks: int, tests: int) -> float | None:
    """Return the smallest difference that so many blocks find with power 0.9, as a share.

    `spread` is the SD of the log ratio of a block; the test is the sign-flip test at the strictest
    step of Holm's correction of `tests` tests (`joules.analyse.power`). None: it can find none.
    """
    effect = smallest_effect(blocks, max(1, tests))
    return None if effect is None else math.expm1(effect * spread)


class OwnSpread(NamedTuple):
    """What earlier records say of the log ratio of a block.

    Attributes:
        sd: pooled over all pairs of the comparison: of two arms, and of the null control.
        blocks: the most of one pair. The pairs share runs and machine, so that together they know
            the SD hardly better than one of them.
    """

    sd: float
    blocks: int


def own_variation(records: Sequence[Record]) -> OwnSpread | None:
    """Return the spread of earlier records; None without enough blocks."""
    rows = [
        {
            "model": record.model.name,
            "runtime": record.arm_name,
            "kind": record.kind,
            "block": record.repetition,
            "session": record.session,
            "valid": record.validity.valid,
            METRIC: record.headline_j() / max(1, record.generated_tokens),
        }
        for record in records
        if record.kind in ("task", "control")
    ]
    runs = pd.DataFrame(rows)
    variances: list[float] = []
    most = 0
    for model, own in runs.groupby("model") if rows else ():
        names = sorted(set(own["runtime"]))
        compared = [
            paired_blocks(own, str(model), a, b) for a, b in itertools.combinations(names, 2)
        ]
        for pairs in [*compared, control_blocks(own, str(model))]:
            if len(pairs.blocks) >= LEAST_PAIRS:
                variances.append(float(np.var(np.log(pairs.a) - np.log(pairs.b), ddof=1)))
                most = max(most, len(pairs.blocks))
    return OwnSpread(math.sqrt(sum(variances) / len(variances)), most) if variances else None


def hours(seconds: Four) -> str:
    """Return hours as `43 (28 to 62)`, minutes where they are fewer than two hours."""
    unit, name = (3600, "h") if seconds[MIDDLE] >= 7200 else (60, "minutes")
    least, middle, most, _ = (significant(each / unit, 2) for each in seconds)
    return f"{middle} {name} ({least} to {most})"


def speeds(cells: Mapping[tuple[str, str], Cell]) -> str:
    """Return how fast the cells generate, and whether that was seen or is assumed."""
    told = []
    for measured, label in ((True, "measured speed in warm-ups"), (False, "assumed")):
        chosen = [cell for cell in cells.values() if cell.measured is measured]
        if not chosen:
            continue
        fast = significant(max(1 / cell.token_s[0] for cell in chosen), 2)
        slow = significant(min(1 / cell.token_s[2] for cell in chosen), 2)
        low, high = min(c.tokens[0] for c in chosen), max(c.tokens[2] for c in chosen)
        why = "" if measured else ", from the size of the files and the bandwidth of memory"
        told.append(
            f"{label}{why}: {slow} to {fast} tokens/s, {low:.0f} to {high:.0f} tokens per answer "
            f"({len(chosen)} of {len(cells)} cells)"
        )
    return "; ".join(told)


def differences(study: Study, blocks: int, own: OwnSpread | None) -> list[str]:
    """Return in sentences what so many blocks can show."""
    tests = family(study)
    if not tests:
        return [f"one {'arm' if study.arms else 'runtime'} alone: nothing is compared"]
    level = ALPHA / tests
    lines = [
        f"{tests} differences are tested together, so the smallest p must be below {level:.3g}; "
        f"{number_of(blocks, 'block')} can give {smallest_p(blocks):.2g}"
    ]
    if not can_differ(blocks, tests):
        least = next(n for n in range(1, 64) if can_differ(n, tests))
        lines.append(f"so no difference can be shown, however large: {least} blocks are the least")
    for spread in spreads_of(own):
        alone, strict = (smallest_difference(spread, blocks, each) for each in (1, tests))
        seen = ""
        if own is not None and spread == own.sd:
            ends = (smallest_difference(end, blocks, tests) for end in spread_interval(*own))
            seen = (
                f", as in this study's earlier records ({own.blocks} blocks leave it open from "
                f"{' to '.join(map(share, ends))})"
            )
        lines.append(
            f"{share(strict)} where the log ratio of a block has an SD of {percent(spread)}{seen} "
            f"({share(alone)} if it were tested alone)"
        )
    lines.append(
        "the SD is of the ratio of two runs: runs of a coefficient of variation of 2 % that have "
        f"nothing in common give {percent(0.02 * math.sqrt(2))}"
    )
    return lines


def spreads_of(own: OwnSpread | None) -> list[float]:
    """Return the SDs of log ratios that are looked at, the study's own one last."""
    return [*SPREADS, *([] if own is None else [own.sd])]


def share(value: float | None) -> str:
    """Return a difference in percent, or `none`."""
    return NOTHING if value is None else f"{value * 100:.1f} %"


def table(
    loaded: LoadedStudy, cells: Mapping[tuple[str, str], Cell], own: OwnSpread | None, now: int
) -> Table:
    """Return the table of other numbers of blocks: hours, and the smallest difference of each."""
    tests, spreads = family(loaded.study), spreads_of(own)
    rows = Table(box=None, pad_edge=False, title_justify="left")
    for name in ("blocks", "runs", "hours", "smallest p"):
        rows.add_column(name, justify="right")
    for spread in spreads:
        rows.add_column(f"SD {percent(spread)}", justify="right")
    for blocks in sorted({*BLOCKS, now}):
        runs = loaded.runs(blocks)
        seconds = cost.total_s(loaded.study, cells, runs)
        found = [share(smallest_difference(each, blocks, tests)) for each in spreads]
        taken = f"{seconds[MIDDLE] / 3600:.1f}"
        rows.add_row(str(blocks), str(len(runs)), taken, f"{smallest_p(blocks):.2g}", *found)
    return rows


def counted(runs: Sequence[Run]) -> str:
    """Return how many runs there are of each kind, in words."""
    kinds = Counter(run.kind for run in runs)
    return ", ".join(f"{count:,} {kind}" for kind, count in kinds.items()) or NOTHING


def report(
    loaded: LoadedStudy,
    blocks: int,
    cells: Mapping[tuple[str, str], Cell],
    records: Sequence[Record],
) -> list[tuple[str, str]]:
    """Return the lines of the forecast: what, and the text."""
    study = loaded.study
    runs = loaded.runs(blocks)
    left = [run for run in runs if imported.place(loaded.results, run) is None]
    whole, rest = (cost.total_s(study, cells, each) for each in (runs, left))
    states = model_states(loaded)
    unknown = sum(state.fetch_bytes is None for state in states)
    watts, basis = cost.power_of(records, cost.most_gpu_layers(study))
    kwh = [power * seconds / 3.6e6 for power, seconds in zip(watts, whole, strict=False)]
    fetch = bytes_with_unknown([state.fetch_bytes for state in states])
    releases = runtime_fetch_bytes(loaded)
    needs = disk_needs(loaded, states)
    of_records = {"of records": cost.record_bytes(study, cells, left)}
    here, there = disk_of(loaded.root), disk_of(loaded.results)
    if here.number == there.number:
        disks = [in_parts(needs | of_records)]
    else:
        disks = [
            f"{in_parts(needs)}, on the disk of {here.folder}",
            f"{in_parts(of_records)}, on the disk of {there.folder}",
        ]
    lines = [
        ("runs", f"{len(runs):,} in {number_of(blocks, 'block')}: {counted(runs)}"),
        ("", f"{len(left):,} of them still to be measured"),
        ("speed", speeds(cells)),
        (
            "time",
            f"{hours(whole)} for all runs; "
            + (f"{hours(rest)} still to come" if left else "none is left"),
        ),
        (
            "",
            f"at most {significant(whole[LIMIT] / 3600, 2)} h, if every answer ran to "
            f"{max(map(loaded.max_tokens, study.models))} tokens and nothing settled; "
            "invalid runs, which are repeated, come on top, and so do downloads",
        ),
        (
            "fetch",
            f"{for_people(fetch)} of models"
            + (f"; {unknown} of unknown size count as the largest" if unknown else "")
            + (f"; {for_people(releases)} of runtimes" if releases else ""),
        ),
        *zip(("disk", ""), filter(None, disks), strict=False),
        (
            "energy",
            f"{significant(kwh[1], 2)} kWh expected for all runs ({significant(kwh[0], 2)} to "
            f"{significant(kwh[2], 2)}), without memory, screen and power supply; basis: {basis}",
        ),
    ]
    found = differences(study, blocks, own_variation(records))
    return lines + [("smallest difference" if i == 0 else "", t) for i, t in enumerate(found)]


def in_parts(needs: Mapping[str, int]) -> str:
    """Return bytes with what they are for, as `4.00 GB of models, 0.50 GB to stay free`."""
    return ", ".join(f"{for_people(count)} {what}" for what, count in needs.items() if count)


def act(options: argparse.Namespace) -> int:
    """Print the forecast of a study."""
    loaded = load_study(options.config or None)
    study, screen = loaded.study, Screen()
    check_sense(study, loaded.catalogue, loaded.root)
    blocks = blocks_of(options.blocks, study.blocks)
    cells, records = cost.cells_of(loaded), cost.earlier_records(loaded)
    if short := cost.too_short(study, cells):
        raise UserError("\n".join(short))
    screen.print(Text(f"The study `{study.study}`, expected and not measured:", style="bold"))
    for what, text in report(loaded, blocks, cells, records):
        screen.print(Text(f"{what:<20} {text}"))
    if family(study):
        screen.print(
            Text(
                "\nSmallest difference found with power 0.9, by the SD of the log ratio of a block",
                "bold",
            )
        )
        screen.print(table(loaded, cells, own_variation(records), blocks))
    return command_line.DONE


def main(arguments: Sequence[str] | None = None) -> int:
    """Forecast a study; see `command_line` for the exit status."""
    command = command_line.Command("forecast", __doc__, "make forecast [CONFIG=FILE] [BLOCKS=N]")
    command.add_study()
    command.add_argument("--blocks", default="", help="another number of blocks than the study's")
    return command_line.run(command, arguments, act)


if __name__ == "__main__":
    sys.exit(main())
