import ast
import re
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.colors import is_color_like

from joules.core.paths import runtime_names
from joules.core.places import PACKAGE
from joules.draw.drawing import tier_note
from joules.draw.looks import looks

MODULES = sorted((PACKAGE / "draw").rglob("*.py"))
BUT_STYLE = [path for path in MODULES if path.name != "style.py"]
SIZE_OF_TEXT = re.compile("(font|label|title)_?size$")


def test_the_note_says_what_is_true_and_no_more():
    assert tier_note("measured", False) == tier_note("sampled", False) == ""
    assert tier_note("estimated", False) == "energy modelled, not measured"
    assert tier_note("measured", True) == "demonstration study"
    assert tier_note("measured", False, of_gpu=True) == "GPU energy alone"
    assert tier_note("estimated", True, of_gpu=True) == (
        "energy modelled, not measured; GPU energy alone (demonstration study)"
    )


def test_more_runtimes_than_colours_still_differ():
    names = [f"runtime_{index:02}" for index in range(24)]
    seen = looks(pd.DataFrame({"runtime": names, "runtime_label": names, "kind": "task"}))
    assert len({(look.color, look.marker) for look in seen.values()}) == 24


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
