import ast
import re
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.colors import is_color_like, to_rgb
from matplotlib.lines import Line2D

from joules.core.paths import runtime_names
from joules.core.places import PACKAGE
from joules.draw.drawing import tier_note
from joules.draw.looks import looks
from joules.draw.panels import legend_columns, legend_lines
from joules.draw.style import BAND, FOREST, NOISE, PALETTE, PAPER, UNCLAIMED

MODULES = sorted((PACKAGE / "draw").rglob("*.py"))
BUT_STYLE = [path for path in MODULES if path.name != "style.py"]
SIZE_OF_TEXT = re.compile("(font|label|title)_?size$")


def test_the_note_says_what_is_true_and_no_more():
    assert tier_note("measured", False) == tier_note("sampled", False) == ""
    assert tier_note("estimated", False) == "energy modelled, not measured"
    assert tier_note("measured", True) == "demonstration study"
    assert tier_note("measured", False, "gpu") == "GPU energy alone"
    assert tier_note("estimated", True, "gpu") == (
        "energy modelled, not measured; GPU energy alone (demonstration study)"
    )


def test_more_runtimes_than_colours_still_differ():
    names = [f"runtime_{index:02}" for index in range(24)]
    seen = looks(pd.DataFrame({"runtime": names, "runtime_label": names, "kind": "task"}))
    assert len({(look.color, look.marker) for look in seen.values()}) == 24


def test_a_runtime_looks_the_same_whoever_had_a_turn_in_the_null_control():
    names = ["a", "b", "c"]
    runs = pd.DataFrame({"runtime": names, "runtime_label": names, "kind": "task"})
    turns = [
        pd.DataFrame({"runtime": ["c", other], "runtime_label": ["c", other]}) for other in "ab"
    ]
    first, second = (
        looks(pd.concat([runs, turn.assign(kind="control")], ignore_index=True)) for turn in turns
    )
    assert first == second == looks(runs)


def luminance(color: str) -> float:
    """Return the relative luminance of a colour, 0 to 1, as WCAG 2.1 defines it."""
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in to_rgb(color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(color: str, other: str) -> float:
    """Return the contrast of two colours, 1 to 21, as WCAG 2.1 defines it."""
    low, high = sorted((luminance(color), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_the_standard():
    assert contrast("black", "white") == pytest.approx(21)
    assert contrast("#767676", "white") == pytest.approx(4.54, abs=0.01)  # WCAG's own example


def test_what_is_not_claimed_is_grey_and_still_read_as_text():
    red, green, blue = to_rgb(UNCLAIMED)
    assert red == green == blue
    assert contrast(UNCLAIMED, PAPER) >= 4.5
    assert UNCLAIMED not in PALETTE


def test_margin_noise_floor_and_what_lies_on_them_differ_in_grey():
    assert luminance(PAPER) > luminance(BAND) > luminance(NOISE)
    assert contrast(PAPER, BAND) > 1.2 and contrast(BAND, NOISE) > 1.3
    assert all(contrast(color, NOISE) > 1.5 for color, _, _ in FOREST.values())
    assert contrast(UNCLAIMED, NOISE) > 1.5


def test_families_of_ratios_differ_without_colour():
    shapes = {(marker, family == "control") for family, (_, marker, _) in FOREST.items()}
    assert len(shapes) == len(FOREST) == 4


def test_a_legend_takes_the_columns_that_fit_and_counts_its_lines():
    marks = [Line2D([], [], label="x" * 20) for _ in range(5)]  # 20 letters: 1.73 inches with mark
    assert [legend_columns(marks, width) for width in (1.0, 3.5, 7.0, 8.7)] == [1, 2, 4, 5]
    assert [legend_lines(marks, width) for width in (1.0, 3.5, 7.0, 8.7)] == [5, 3, 2, 1]
    assert legend_lines([], 3.5) == 0


def test_no_runtime_is_named_in_the_code_that_draws():
    runtimes = runtime_names(PACKAGE)
    assert len(runtimes) > 1 and len(MODULES) > 10
    for module in MODULES:
        code = module.read_text(encoding="utf-8").lower()
        assert [runtime for runtime in runtimes if runtime in code] == [], module.name


def is_color(text: str) -> bool:
    """Return whether a text is a colour; single letters are markers, `none` is none."""
    return len(text) > 1 and text != "none" and is_color_like(text)


def typed_looks(code: str) -> list[object]:
    """Return the colours and sizes of text that are typed into code."""
    found: list[object] = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found += [node.value] if is_color(node.value) else []
        elif isinstance(node, ast.keyword) and SIZE_OF_TEXT.search(node.arg or ""):
            found += [node.value.value] if isinstance(node.value, ast.Constant) else []
    return found


@pytest.mark.parametrize(
    "code", ["f(color='#123456')", "x = 'white'", "a.set_title(t, fontsize=7)"]
)
def test_a_typed_colour_or_size_is_seen(code: str):
    assert len(typed_looks(code)) == 1


@pytest.mark.parametrize("module", BUT_STYLE, ids=lambda path: path.stem)
def test_colours_and_sizes_of_text_are_those_of_the_style(module: Path):
    assert typed_looks(module.read_text(encoding="utf-8")) == []
