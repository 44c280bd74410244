"""How every figure looks and how it is written: one palette, one set of sizes, equal bytes."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import seaborn
from matplotlib.figure import Figure

from joules.core.files import write_atomic

SINGLE_COLUMN = 3.5  # inches, the column of a two-column journal page
DOUBLE_COLUMN = 7.0  # inches, both columns
LETTER_WIDTH = 0.064  # inches, the mean of a label's letters
LEGEND_MARK = 0.45  # inches, of a mark in a legend with the room around it
ROW_LETTERS = 30  # of a row's label in one line; a longer one is broken
ROW_LINE = 0.15  # inches, of a line of a row's label
LINE_HEIGHT = 0.19  # inches, of a line of text outside the panels
TEXT_SIZE = 8  # points, the least that is read at the width of a column
TITLE_SIZE = 9  # points, of a panel
COVER_SIZE = (12, 6.3)  # inches, at COVER_DPI 1200 x 630 pixels: a picture for a screen
COVER_DPI = 100
COVER_TEXT_SIZE = 12  # points
FORMATS = ("svg", "pdf", "png")
INK = "#222222"
FAINT = "#bbbbbb"
PAPER = "white"
BAND = "#dde7f0"  # behind ratios within the margin
NOISE = "#c2c2c2"  # behind ratios within the null control's interval; darker than BAND in grey too
UNCLAIMED = "#767676"  # of what is shown and not claimed; the lightest grey that is read as text

# Okabe and Ito (2008), "Color Universal Design": told apart with any colour vision. Their yellow is
# too light for a white page, so grey, the ninth of R's palette.colors("Okabe-Ito"), stands for it.
PALETTE = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
    "#999999",
)
# The same, darker, in this order, for a second arm of one runtime; beside black and grey a grey.
DARKER = (
    "#003B5C",
    "#703100",
    "#00523C",
    "#6B3F57",
    "#7A5400",
    "#2B5B75",
    "#4D4D4D",
    "#6B6B6B",
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")  # of similar area, distinct without colour
FOREST = {  # by family: colour and marker of a ratio, and its name; the control's is hollow
    "primary": (PALETTE[0], "o", "primary pair"),
    "secondary": (PALETTE[2], "D", "secondary pair"),
    "fixed": (PALETTE[1], "s", "fixed length"),
    "control": (INK, "o", "null control"),
}
WINDOWS = {  # in the order of the protocol: colour and hatch, told apart in grey as well
    "idle_cold": ("#d9d9d9", ""),
    "import": ("#CC79A7", "xxxx"),
    "load": ("#E69F00", "////"),
    "idle_resident": ("#969696", "...."),
    "settle": ("#56B4E9", "\\\\\\\\"),
    "tasks": ("#0072B2", ""),
    "idle_after": ("#f0f0f0", "||||"),
}

STYLE: dict[str, str | float | bool] = {  # over seaborn's style `ticks`
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.grid.axis": "x",
    "axes.labelcolor": INK,
    "axes.labelsize": TEXT_SIZE,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": TITLE_SIZE,
    "axes.titleweight": "bold",
    "figure.dpi": 300,
    "font.family": "DejaVu Sans",  # bundled with matplotlib, so the same on every machine
    "font.size": TEXT_SIZE,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.4,
    "legend.fontsize": TEXT_SIZE,
    "legend.frameon": False,
    "lines.linewidth": 1.0,
    "lines.markersize": 4,
    "path.simplify": False,
    "pdf.fonttype": 42,  # text stays text
    "svg.fonttype": "path",  # looks the same without the font
    "svg.hashsalt": "joules",  # element ids are random without it
    "text.color": INK,
    "xtick.color": INK,
    "xtick.labelsize": TEXT_SIZE,
    "xtick.major.width": 0.6,
    "ytick.color": INK,
    "ytick.labelsize": TEXT_SIZE,
    "ytick.major.width": 0.6,
}
# Dates and versions in a file would make two renderings of the same data differ.
METADATA: dict[str, dict[str, str | None]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}


@contextmanager
def style() -> Iterator[None]:
    """Draw under the style of this module, whatever matplotlibrc the machine has."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(seaborn.axes_style("ticks") | STYLE)
        yield


def save(figure: Figure, stem: str | Path) -> list[Path]:
    """Write `figure` as <stem>.svg, .pdf and .png, each whole or not at all; return the paths.

    The same figure gives the same bytes with the same version of matplotlib. Raises UserError
    when the disk is full.
    """
    paths = []
    for suffix in FORMATS:
        content = io.BytesIO()
        with style():
            figure.savefig(content, format=suffix, dpi=figure.dpi, metadata=METADATA[suffix])
        paths.append(Path(f"{stem}.{suffix}"))
        whole = content.getvalue()
        write_atomic(paths[-1], _with_numbered_clips(whole) if suffix == "svg" else whole)
    return paths


def _with_numbered_clips(svg: bytes) -> bytes:
    """Return an SVG whose clip paths are numbered as they are first used.

    matplotlib calls them by a hash of all digits of their corners, and the last digits of a
    constrained layout differ from one drawing to the next.
    """
    numbers = {
        name: b"clip%d" % number
        for number, name in enumerate(dict.fromkeys(re.findall(rb"#(p[0-9a-f]{10})\)", svg)), 1)
    }
    return re.sub(rb"\bp[0-9a-f]{10}\b", lambda found: numbers.get(found[0], found[0]), svg)
