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
from typing import Any

from joules import study_cost
from joules.download import for_people
from joules.errors import UserError
from joules.models import lookup
from joules.schedule import Run
from joules.study_config import (
    Study,
    bytes_with_unknown,
    disk_needs,
    load_study,
    model_state,
    releases_of,
)
from joules.study_cost import LIMIT, MIDDLE, Cell, Four
from joules.wording import NOTHING, percent, significant

BAD_USE = 2  # exit status
VARIATIONS = (0.01, 0.02, 0.03, 0.05)  # coefficients of variation of a block's ratio
BLOCKS = (6, 8, 10, 15, 20, 30)
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
    return int(text)


def family(config: Mapping[str, Any]) -> int:
    """Return how many differences are tested together: pairs of runtimes times models."""
    return math.comb(len(config["runtimes"]), 2) * len(config["models"])


def smallest_difference(
    spread: float, blocks: int, tests: int
) -> tuple[float | None, float | None]:
    """Return the smallest differences that so many blocks find with power 0.9, as shares.

    The first holds for a single test, the second for the strictest step of Holm's correction of
    `tests` tests, alpha / tests (paired t test, as `statistics.power_facts`). None: no difference
    can be found, because the smallest p that the sign-flip test can give is not below alpha.
    """
    from statsmodels.stats.power import TTestPower

    from joules.statistics import ALPHA, POWER, number_or_none, power_facts, smallest_p

    ratio = power_facts(spread, blocks)["minimum_ratio"]
    alone = None if ratio is None else ratio - 1
    if smallest_p(blocks) >= ALPHA / max(1, tests):
        return alone, None
    effect = number_or_none(
        lambda: TTestPower().solve_power(
            nobs=blocks, alpha=ALPHA / max(1, tests), power=POWER, alternative="two-sided"
        )
    )
    return alone, None if effect is None else math.expm1(effect * spread)


def own_variation(records: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the pooled SD of log ratios of two runs of a block; None without enough blocks.

    Pairs are those of the comparison: of two runtimes, and of a runtime and its null control.
    """
    import numpy as np
    import pandas as pd

    from joules.statistics import METRIC, paired_blocks

    rows = [
        {
            "model": record["model"]["name"],
            "runtime": record["runtime"]["name"],
            "kind": record["kind"],
            "block": record["repetition"],
            "session": record["session"],
            "valid": record["validity"]["valid"],
            METRIC: record["energy_j"] / max(1, record["generated_tokens"]),
        }
        for record in records
        if record["kind"] in ("task", "control")
    ]
    runs = pd.DataFrame(rows)
    variances = []
    for model, own in runs.groupby("model") if rows else ():
        names = sorted(set(own["runtime"]))
        wanted = [(a, b, "task") for a, b in itertools.combinations(names, 2)]
        wanted += [(name, name, "control") for name in names]
        for a, b, kind in wanted:
            pairs = paired_blocks(own, str(model), a, b, kind_b=kind)
            if len(pairs.blocks) >= LEAST_PAIRS:
                variances.append(float(np.var(np.log(pairs.a) - np.log(pairs.b), ddof=1)))
    return math.sqrt(sum(variances) / len(variances)) if variances else None


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


def differences(config: Mapping[str, Any], blocks: int, own: float | None) -> list[str]:
    """Return in sentences what so many blocks can show."""
    from joules.statistics import ALPHA, smallest_p

    tests = family(config)
    if not tests:
        return ["one runtime alone: nothing is compared"]
    level = ALPHA / tests
    lines = [
        f"{tests} differences are tested together, so the smallest p must be below {level:.3g}; "
        f"{blocks} blocks can give {smallest_p(blocks):.2g}"
    ]
    if smallest_p(blocks) >= level:
        least = next(n for n in range(1, 64) if smallest_p(n) < level)
        lines.append(f"so no difference can be shown, however large: {least} blocks are the least")
    for spread in spreads_of(own):
        alone, strict = smallest_difference(spread, blocks, tests)
        seen = ", as in this study's earlier records" if spread == own else ""
        lines.append(
            f"{share(strict)} with a coefficient of variation of {percent(spread)}{seen} "
            f"({share(alone)} if it were tested alone)"
        )
    return lines


def spreads_of(own: float | None) -> list[float]:
    """Return the coefficients of variation that are looked at, the study's own one last."""
    return [*VARIATIONS, *([] if own is None else [own])]


def share(value: float | None) -> str:
    """Return a difference in percent, or `none`."""
    return NOTHING if value is None else f"{value * 100:.1f} %"


def table(study: Study, cells: Mapping[tuple[str, str], Cell], own: float | None, now: int) -> Any:
    """Return the table of other numbers of blocks: hours, and the smallest difference of each."""
    from rich.table import Table

    from joules.statistics import smallest_p

    tests, spreads = family(study.config), spreads_of(own)
    rows = Table(box=None, pad_edge=False, title_justify="left")
    for name in ("blocks", "runs", "hours", "smallest p"):
        rows.add_column(name, justify="right")
    for spread in spreads:
        rows.add_column(f"CV {percent(spread)}", justify="right")
    for blocks in sorted({*BLOCKS, now}):
        runs = study.runs(blocks)
        seconds = study_cost.total_s(study, cells, runs)
        found = [share(smallest_difference(each, blocks, tests)[1]) for each in spreads]
        taken = f"{seconds[MIDDLE] / 3600:.1f}"
        rows.add_row(str(blocks), str(len(runs)), taken, f"{smallest_p(blocks):.2g}", *found)
    return rows


def counted(runs: Sequence[Run]) -> str:
    """Return how many runs there are of each kind, in words."""
    kinds = Counter(run.kind for run in runs)
    return ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or NOTHING


def report(
    study: Study,
    blocks: int,
    cells: Mapping[tuple[str, str], Cell],
    records: Sequence[Mapping[str, Any]],
) -> list[tuple[str, str]]:
    """Return the lines of the forecast: what, and the text."""
    config = study.config
    runs = study.runs(blocks)
    left = [run for run in runs if not study.record(run).exists()]
    whole, rest = (study_cost.total_s(study, cells, each) for each in (runs, left))
    states = [model_state(study, n, lookup(study.catalogue, n)) for n in config["models"]]
    needs = disk_needs(study, states)
    needs["of records"] = study_cost.record_bytes(config, cells, left)
    unknown = sum(state.fetch_bytes is None for state in states)
    watts, basis = study_cost.power_of(records, config["settings"]["gpu_layers"])
    kwh = [power * seconds / 3.6e6 for power, seconds in zip(watts, whole, strict=False)]
    fetch = bytes_with_unknown([state.fetch_bytes for state in states])
    releases = sum(each["bytes"] for each in releases_of(study))
    lines = [
        ("runs", f"{len(runs)} in {blocks} blocks: {counted(runs)}"),
        ("", f"{len(left)} of them are still to be measured"),
        ("speed", speeds(cells)),
        (
            "time",
            f"{hours(whole)} for all runs; "
            + (f"{hours(rest)} still to come" if left else "none is left"),
        ),
        (
            "",
            f"at most {significant(whole[LIMIT] / 3600, 2)} h, if every answer ran to "
            f"{max(map(study.max_tokens, config['models']))} tokens and nothing settled; "
            "invalid runs, which are repeated, come on top, and so do downloads",
        ),
        (
            "fetch",
            f"{for_people(fetch)} of models"
            + (f"; {unknown} of unknown size count as the largest" if unknown else "")
            + (f"; {for_people(releases)} of runtimes" if releases else ""),
        ),
        ("disk", ", ".join(f"{for_people(n)} {what}" for what, n in needs.items() if n)),
        (
            "energy",
            f"{significant(kwh[1], 2)} kWh expected for all runs ({significant(kwh[0], 2)} to "
            f"{significant(kwh[2], 2)}), without memory, screen and power supply; basis: {basis}",
        ),
    ]
    found = differences(config, blocks, own_variation(records))
    return lines + [("smallest difference" if i == 0 else "", t) for i, t in enumerate(found)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the forecast of a study; return 0, or 2 for a bad config or number of blocks."""
    from rich.console import Console
    from rich.text import Text

    parser = argparse.ArgumentParser(prog="make forecast", description=__doc__)
    parser.add_argument("config", nargs="?", default="", help="laid over config/config.yaml")
    parser.add_argument("--blocks", default="", help="another number of blocks than the study's")
    options = parser.parse_args(arguments)
    console = Console(soft_wrap=True, highlight=False)
    try:
        study = load_study(options.config or None)
        blocks = blocks_of(options.blocks, study.config["blocks"])
        console.print(
            Text(f"The study `{study.config['study']}`, expected and not measured:", style="bold")
        )
        cells, records = study_cost.cells_of(study), study_cost.earlier_records(study)
        for what, text in report(study, blocks, cells, records):
            console.print(Text(f"{what:<20} {text}"))
        if family(study.config):
            own = own_variation(records)
            console.print(Text("\nSmallest difference found with power 0.9", "bold"))
            console.print(table(study, cells, own, blocks))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_USE
    return 0


if __name__ == "__main__":
    sys.exit(main())
