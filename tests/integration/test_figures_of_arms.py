"""Figures of a study that names arms: their order, their long labels, their looks."""

import itertools

import pytest
from drawn_figures import (
    ARMS,
    CONTRASTS,
    FOUR,
    drawn,
    legend_of,
    named,
    row_labels,
    seen_texts,
    tables_of_arms,
)
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from joules.core.paths import figures_of
from joules.core.places import PACKAGE
from joules.draw.drawing import draw
from joules.draw.looks import arms_in_order, looks
from joules.draw.panels import in_lines
from joules.draw.style import DARKER, PALETTE, ROW_LETTERS

NAMES = pytest.mark.parametrize("name", figures_of(PACKAGE, has_wall=False, is_by_wall=False))
FEW = ("lib_flash", "server", "lib_stock", "lib")
LARGEST_HEIGHT = 9.0  # inches: with its caption it stays on one page


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eight")
    return tables_of_arms(folder, ARMS, models=("parrot-3m",), blocks=3, problems=4)


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    folder = tmp_path_factory.mktemp("four")
    contrasts = [("server", "lib"), ("lib", "lib_stock")]
    return tables_of_arms(folder, FEW, contrasts, models=FOUR, blocks=3, problems=4)


CASES = pytest.mark.parametrize(
    ("study", "arms"), [("eight", named(ARMS)), ("four", named(FEW))], ids=["eight", "four"]
)


@NAMES
@CASES
def test_no_text_is_clipped_or_covers_another(name, study, arms, request):
    figure = drawn(name, request.getfixturevalue(study), arms)
    page = figure.bbox
    boxes = [(text.get_text(), Text.get_window_extent(text)) for text in seen_texts(figure)]
    for text, box in boxes:
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= page.x1 + 1 and box.y1 <= page.y1 + 1
        assert inside, f"{text!r} leaves the page"
    for (text, box), (other, second) in itertools.combinations(boxes, 2):
        width = min(box.x1, second.x1) - max(box.x0, second.x0)
        height = min(box.y1, second.y1) - max(box.y0, second.y0)
        line = min(box.height / (text.count("\n") + 1), second.height / (other.count("\n") + 1))
        # A line's box has room above and below its letters, which may touch.
        assert width <= 0 or height <= 0.3 * line, (text, other)


@NAMES
@CASES
def test_a_figure_fits_a_page_and_a_third_of_its_width_is_left_to_what_it_shows(
    name, study, arms, request
):
    figure = drawn(name, request.getfixturevalue(study), arms)
    assert figure.get_figheight() <= LARGEST_HEIGHT
    shown = [axes.get_position() for axes in figure.axes]
    assert max(box.x1 for box in shown) - min(box.x0 for box in shown) >= 1 / 3


@pytest.mark.parametrize("name", ["energy_per_token", "energy_per_correct", "energy_by_window"])
def test_rows_are_in_the_order_of_the_study_and_not_of_the_names(name, four):
    labels = [ARMS[arm][1] for arm in FEW]
    assert [
        " ".join(label.split()) for label in row_labels(drawn(name, four, named(FEW)))
    ] == labels
    by_name = [ARMS[arm][1] for arm in sorted(FEW)]
    assert [" ".join(label.split()) for label in row_labels(drawn(name, four))] == by_name


def test_legends_are_in_the_order_of_the_study(eight):
    labels = [ARMS[arm][1] for arm in ARMS]
    assert legend_of(drawn("energy_against_quality", eight, named(ARMS))) == labels
    assert legend_of(drawn("order", eight, named(ARMS)))[: len(labels)] == labels


def test_eight_arms_differ_in_colour_and_in_shape_and_two_of_a_runtime_share_a_hue(eight):
    with arms_in_order(named(ARMS)):
        found = looks(eight["runs"])
        assert found == looks(eight["cells"])
    assert list(found) == list(ARMS)
    for part in ("color", "marker"):
        assert len({getattr(look, part) for look in found.values()}) == len(ARMS)
    hue_of = dict(zip(DARKER, PALETTE, strict=True))
    hues = {arm: hue_of.get(look.color, look.color) for arm, look in found.items()}
    pairs = [["server"], ["lib", "lib_own"], ["lib_flash", "lib_q8"], ["lib_stock"]]
    pairs += [["again_own", "again"]]
    assert [list(same) for _, same in itertools.groupby(hues, hues.__getitem__)] == pairs


def luminance(color):
    """Return the relative luminance of WCAG 2.2, from 0 for black to 1 for white."""
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), parts, strict=True))


def contrast(one, other):
    """Return the contrast ratio of WCAG 2.2, from 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("plain", "darker"), [*zip(PALETTE, DARKER, strict=True)])
def test_the_darker_of_a_hue_differs_in_lightness_which_every_eye_sees(plain, darker):
    assert contrast(plain, darker) >= 1.8
    assert contrast(darker, "white") >= 4.5, "it is read as text on the cover"


def test_long_labels_are_broken_after_commas_and_others_stay():
    label = "llama-cpp-python, flash attention on, KV cache q8_0"
    assert in_lines(label, 30) == "llama-cpp-python,\nflash attention on,\nKV cache q8_0"
    assert in_lines(label, 40) == "llama-cpp-python, flash attention on,\nKV cache q8_0"
    assert in_lines("Ollama, as installed", 30) == "Ollama, as installed"
    path = "llama-server, binary /opt/a-folder-of-a-long-name/bin/llama-server"
    assert max(map(len, in_lines(path, 30).split("\n"))) <= 30
    runtime = "a runtime of a rather long name / OpenAI-compatible server"
    assert len(runtime) > ROW_LETTERS and in_lines(runtime) == runtime


def shown_pairs(figure):
    return " ".join(" ".join(label.split()) for label in row_labels(figure))


def test_primary_pairs_come_first_and_many_secondary_ones_are_said_to_be_in_the_tables(eight):
    figure = drawn("ratios", eight, named(ARMS))
    texts = [text.get_text() for text in seen_texts(figure)]
    said = "energy modelled" if eight["runs"]["tier"].iloc[0] == "estimated" else "demonstration"
    assert [text for text in texts if "25 secondary pairs: in the tables" in text and said in text]
    pairs = shown_pairs(figure)
    for a, b in CONTRASTS:
        assert ARMS[a][1] in pairs and ARMS[b][1] in pairs
    assert "llama-server" not in pairs


def test_few_secondary_pairs_are_drawn_below_the_primary_ones(four):
    figure = drawn("ratios", four, named(FEW))
    pairs = [" ".join(label.split()) for label in row_labels(figure)]
    assert len(pairs) == 6 + 1
    by_pair = four["comparisons"].drop_duplicates(["runtime_a", "runtime_b"])
    labels = {
        f"{ARMS[row.runtime_a][1]} / {ARMS[row.runtime_b][1]}": row.family
        for row in by_pair.itertuples()
        if row.kind == "task"
    }
    assert [labels.get(pair, "control") for pair in pairs] == [
        *["primary"] * 2,
        *["secondary"] * 4,
        "control",
    ]


def test_the_control_is_of_an_arm_where_the_study_names_arms(four):
    for arms, said in ((named(FEW), "An arm against itself"), (None, "A runtime against itself")):
        texts = [text.get_text() for text in seen_texts(drawn("null_control", four, arms))]
        assert any(text.startswith(said) for text in texts)


def test_a_figure_without_named_arms_forgets_those_of_the_one_before(four):
    before = draw("energy_per_token", four, demonstration=True)
    drawn("energy_per_token", four, named(FEW))
    after = draw("energy_per_token", four, demonstration=True)
    assert (
        row_labels(before)
        == row_labels(after)
        != row_labels(draw("energy_per_token", four, demonstration=True, arms=named(FEW)))
    )
