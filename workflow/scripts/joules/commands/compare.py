"""Lay archived campaigns side by side: each machine's ratios, and what they say together.

CAMPAIGNS names folders of data/measurements/, or paths of such folders and of archives as zip
files. Every file is checked against its sum first. OUT gets index.html, which can be put online
with the folder, forest.svg, .pdf and .png, and campaigns.csv, energy.csv, ratios.csv, means.csv
and differences.csv.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from joules.analyse.campaign import read_campaign
from joules.analyse.side_by_side import CONTRAST, SideBySide, side_by_side
from joules.commands import command_line
from joules.commands.analyse import refuse_unwritable
from joules.core import paths
from joules.core.errors import UserError
from joules.core.places import REPOSITORY
from joules.core.wording import number_of
from joules.draw.side_by_side import draw_side_by_side
from joules.write.archive import NotAsArchived, sums_of, unpack, verify
from joules.write.side_by_side_page import write_side_by_side

OUT = "results/side-by-side"
STYLE = REPOSITORY / "paper/style"


def places_of(text: str, root: Path = REPOSITORY) -> dict[str, Path]:
    """Return name -> folder or zip file of the campaigns that `text` lists with commas between.

    A name is a folder of data/measurements/ of the checkout `root`; all of them for an empty text.
    Raises UserError for what is not there, and for two of one name.
    """
    measurements = root / paths.archived_folder("")
    known = sorted(each.parent.name for each in measurements.glob(f"*/{paths.CONFIGURATION}"))
    asked = [part.strip() for part in text.split(",") if part.strip()] or known
    found: dict[str, Path] = {}
    for part in asked:
        place = measurements / part if part in known else Path(part)
        if not (place / paths.CONFIGURATION).is_file() and place.suffix != ".zip":
            raise UserError(
                f"CAMPAIGNS has {part!r}, which is no campaign. Expected names of "
                f"data/measurements/ ({', '.join(known) or 'none is there'}), paths of such "
                "folders, or paths of archives (.zip), with commas between them. Correct it."
            )
        if not place.exists():
            raise UserError(
                f"CAMPAIGNS has {part!r}, which does not exist. Expected the path of an archive. "
                "Correct it."
            )
        name = place.stem if place.suffix == ".zip" else place.resolve().name
        if name in found:
            raise UserError(
                f"CAMPAIGNS has two campaigns called {name}: {found[name]} and {place}. Expected "
                "each under a name of its own. Rename one, or name it once."
            )
        found[name] = place
    if not found:
        raise UserError(
            f"There is no campaign in {measurements}. Import one: make import ARCHIVE=…"
        )
    return found


def laid_out(places: dict[str, Path], root: Path) -> None:
    """Lay all campaigns into `root` as into a checkout, each checked against its sums.

    Raises NotAsArchived for a campaign that is not what was archived, and UserError for two that
    hold the same runs: one machine would count twice.
    """
    measurements = root / paths.archived_folder("")
    measurements.mkdir(parents=True)
    holder: dict[str, str] = {}
    for name, place in places.items():
        if place.suffix == ".zip":
            unpack(place, measurements)
        else:
            verify(place)
            (measurements / name).symlink_to(place.resolve())
        sums = sums_of(measurements / name)
        for sha256 in {each for file, each in sums.items() if file.startswith("records/")}:
            other = holder.setdefault(sha256, name)
            if other != name:
                raise UserError(
                    f"The campaigns {other} and {name} hold the same runs. Expected each run in "
                    "one campaign: a machine must not count twice. Leave one of them out."
                )


def compare_campaigns(
    places: dict[str, Path], folder: Path, report: Callable[[str], None] = lambda line: None
) -> SideBySide:
    """Write the comparison of the campaigns at `places` into `folder`, and return its tables.

    Raises UserError for a campaign that cannot be read, or a folder that cannot be written.
    """
    refuse_unwritable(folder)
    campaigns = []
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        laid_out(places, root)
        for name in sorted(places):
            campaigns.append(read_campaign(name, root))
            report(f"read {name}: {number_of(campaigns[-1].runs, 'run')}")
    tables = side_by_side(campaigns)
    write_side_by_side(tables, draw_side_by_side(tables), folder, STYLE)
    return tables


def lines_of(tables: SideBySide) -> list[str]:
    """Return what was found as lines for people."""
    lines = []
    for row in tables.means.itertuples():
        name = (
            f"{row.model}: {row.runtime_a} / {row.runtime_b} ({row.kind}), protocol {row.protocol}"
        )
        if row.no_mean_reason:
            lines.append(f"{name}: {row.no_mean_reason}")
            continue
        about = "approximately " if row.approximate == "yes" else ""
        lines.append(
            f"{name}: mean ratio {row.ratio:.4f} [{row.ratio_low:.4f}, {row.ratio_high:.4f}] of "
            f"{number_of(row.machines, 'campaign')}; a further machine {about}"
            f"{row.prediction_low:.4f} to {row.prediction_high:.4f}; tau {row.tau:.3g}, "
            f"I² {100 * row.i_squared:.0f} %"
        )
    for (model, a, b, kind), own in tables.differences.groupby(CONTRAST):
        parts = ", ".join(dict.fromkeys(own["part"]))
        lines.append(
            f"{model}: {a} / {b} ({kind}): {number_of(own['protocol'].nunique(), 'protocol')}, not "
            f"averaged together. They differ in: {parts}."
        )
    lines += [
        f"{row.campaign} carries no claim. {row.reason}"
        for row in tables.campaigns.itertuples()
        if not row.may_claim
    ]
    return lines


def act(options: argparse.Namespace) -> int:
    """Compare the campaigns; return 1 for one that is not what was archived."""
    folder = Path(options.out.strip() or REPOSITORY / OUT)
    try:
        tables = compare_campaigns(places_of(options.campaigns), folder, command_line.say_aside)
    except NotAsArchived as error:
        command_line.say_aside(f"error: {error}")
        return command_line.NOT_SO
    command_line.say("\n".join([*lines_of(tables), f"Page, figure and tables are in {folder}"]))
    return command_line.DONE


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare campaigns; see `command_line` for the exit status."""
    make = "make compare [CAMPAIGNS=a,b,c] [OUT=folder]"
    command = command_line.Command("compare", __doc__, make)
    command.add_argument(
        "campaigns", nargs="?", default="", help="names or paths, with commas (default: all)"
    )
    command.add_argument("out", nargs="?", default="", help=f"a folder (default: {OUT})")
    return command_line.run(command, arguments, act)


if __name__ == "__main__":
    sys.exit(main())
