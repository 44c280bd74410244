import itertools
import os
import re
import subprocess
import sys

import pandas as pd
import pytest
from drawn_figures import EIGHT, drawn, large_tables, seen_texts, small_tables, tables_of
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from joules.analyse.tables import write_csv
from joules.core.errors import UserError
from joules.core.paths import figure_names
from joules.core.places import PACKAGE, REPOSITORY
from joules.core.plan import Run
from joules.draw.drawing import draw, load
from joules.draw.drawing import tables_of as tables_needed
from joules.draw.looks import looks
from joules.draw.style import MARKERS, PALETTE, save

WORKFLOW = REPOSITORY / "workflow"
NAMES = pytest.mark.parametrize("name", figure_names(PACKAGE))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return small_tables(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return large_tables(tmp_path_factory.mktemp("large"))


@pytest.fixture(scope="module")
def least(tmp_path_factory):
    """One run of one model on one runtime: no pair, no control, no interval."""
    folder = tmp_path_factory.mktemp("least")
    return tables_of(folder, models=("m",), runtimes=("r",), kinds=("task",), blocks=1)


# --- how they are written --------------------------------------------------------------------


@NAMES
def test_two_renderings_give_the_same_bytes(name, small, tmp_path):
    for turn in ("first", "second"):
        save(draw(name, small, demonstration=True), tmp_path / turn / name)
    for first in (tmp_path / "first").iterdir():
        assert first.read_bytes() == (tmp_path / "second" / first.name).read_bytes(), first.name


def test_the_last_digits_of_a_layout_do_not_show(tmp_path):
    """They differ from one layout to the next, and matplotlib names clip paths by all digits."""
    figure = Figure()
    for left in (0.1, 0.6):
        figure.add_axes((left, 0.2, 0.3, 0.7)).plot([0, 1])
    save(figure, tmp_path / "two")
    written = (tmp_path / "two.svg").read_text()
    assert re.findall(r'<clipPath id="(\w+)">', written) == ["clip1", "clip2"]
    assert set(re.findall(r'clip-path="url\(#(\w+)\)"', written)) == {"clip1", "clip2"}


def test_another_process_gives_the_same_bytes(small, tmp_path):
    small["runs"].to_parquet(tmp_path / "runs.parquet")
    small["windows"].to_parquet(tmp_path / "windows.parquet")
    code = (
        "import sys, pandas\nfrom joules.draw.drawing import draw\n"
        "from joules.draw.style import save\n"
        "read = lambda name: pandas.read_parquet(f'{sys.argv[1]}/{name}.parquet')\n"
        "tables = {'runs': read('runs'), 'windows': read('windows')}\n"
        "save(draw('energy_by_window', tables, demonstration=True), sys.argv[1] + '/there')\n"
    )
    path = {"PYTHONPATH": str(WORKFLOW / "scripts"), "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=os.environ | path, check=True)
    for path in save(draw("energy_by_window", small, demonstration=True), tmp_path / "here"):
        assert path.read_bytes() == (tmp_path / f"there{path.suffix}").read_bytes(), path.suffix


def test_no_file_holds_a_date_or_the_version_of_a_program(small, tmp_path):
    for path in save(draw("order", small, demonstration=True), tmp_path / "order"):
        content = path.read_bytes()
        for word in (b"CreationDate", b"dc:date", b"Software", b"/Producer", b"matplotlib v"):
            assert word.lower() not in content.lower(), (path.suffix, word)


def test_the_machines_own_settings_change_nothing(small, tmp_path):
    import matplotlib

    plain = save(draw("ratios", small, demonstration=True), tmp_path / "plain")
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "savefig.bbox": "tight"}):
        changed = save(draw("ratios", small, demonstration=True), tmp_path / "changed")
    for one, other in zip(plain, changed, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_the_cover_is_1200_by_630_pixels(large, tmp_path):
    *_, png = save(draw("cover", large, demonstration=False), tmp_path / "cover")
    assert Image.open(png).size == (1200, 630)


# --- how they read ---------------------------------------------------------------------------


@NAMES
@pytest.mark.parametrize("study", ["small", "large", "least"])
def test_no_text_is_clipped_or_covers_another(name, study, request):
    figure = drawn(name, request.getfixturevalue(study))
    page = figure.bbox
    boxes = [(text.get_text(), Text.get_window_extent(text)) for text in seen_texts(figure)]
    assert boxes or name == "cover"
    for text, box in boxes:
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= page.x1 + 1 and box.y1 <= page.y1 + 1
        assert inside, f"{text!r} leaves the page"
    for (text, box), (other, second) in itertools.combinations(boxes, 2):
        width = min(box.x1, second.x1) - max(box.x0, second.x0)
        height = min(box.y1, second.y1) - max(box.y0, second.y0)
        # A line's box has room above and below its letters, which may touch.
        assert width <= 0 or height <= 0.3 * min(box.height, second.height), (text, other)


@NAMES
def test_no_letter_is_below_eight_points_at_column_width(name, large):
    figure = drawn(name, large)
    if name != "cover":  # a picture for a screen
        assert figure.get_figwidth() in (3.5, 7.0)
        assert all(text.get_fontsize() >= 8 for text in seen_texts(figure))


@NAMES
def test_every_axis_with_numbers_says_its_unit(name, small):
    said = " ".join(text.get_text() for text in seen_texts(drawn(name, small)))
    units = {"order": "(%)", "ratios": "Ratio", "cover": "energy of each task"}
    units |= {"null_control": "ratio", "power_over_time": "(W)"}
    assert units.get(name, "(J") in said


@NAMES
def test_modelled_energy_and_the_demonstration_are_named_in_the_figure(name, small, large):
    note = "energy modelled, not measured (demonstration study)"
    assert note in [text.get_text() for text in seen_texts(drawn(name, small))]
    measured = draw(name, large, demonstration=False)
    assert not [text for text in measured.findobj(Text) if "modelled" in text.get_text()]


def test_runtimes_differ_without_colour_and_look_the_same_in_every_table(large):
    by_runs, by_cells = looks(large["runs"]), looks(large["cells"])
    assert by_runs == by_cells
    assert len({look.marker for look in by_runs.values()}) == len(EIGHT)
    assert len({look.color for look in by_runs.values()}) == len(EIGHT)
    assert len(set(MARKERS)) == len(set(PALETTE)) == 8


# --- what they refuse, and the workflow ------------------------------------------------------


def test_a_study_without_a_pair_says_so_instead_of_failing(least):
    texts = [text.get_text() for text in seen_texts(drawn("ratios", least))]
    assert any("no ratio" in text for text in texts)


@NAMES
def test_a_study_without_a_valid_run_is_drawn_all_the_same(name, tmp_path):
    runs = [Run("m", "r", "task", 1), Run("m", "r", "control", 1)]
    assert drawn(name, tables_of(tmp_path, models=("m",), runtimes=("r",), blocks=1, invalid=runs))


def test_an_unknown_figure_is_refused_with_the_names_of_all(small):
    with pytest.raises(UserError, match="'pie'.*cover.*energy_per_token"):
        draw("pie", small, demonstration=True)


def test_an_empty_table_is_refused(small):
    with pytest.raises(UserError, match=r"runs\.parquet"):
        draw("order", small | {"runs": small["runs"].iloc[:0]}, demonstration=True)


@NAMES
def test_a_figure_is_drawn_from_the_tables_that_it_names_and_no_others(name, small):
    named = {table: small[table] for table in tables_needed(name)}
    assert "runs" in named and set(load(name).TABLES) <= set(named)
    assert draw(name, named, demonstration=True)


def test_the_workflow_has_every_table_that_a_figure_needs_and_every_caption():
    rule = (WORKFLOW / "rules" / "figures.smk").read_text().split("rule plot:")[1]
    rule = rule.split("\nrule ")[0]
    names = figure_names(PACKAGE)
    captions = (WORKFLOW / "report" / "figures").glob("*.rst")
    assert sorted(caption.stem for caption in captions) == names
    for table in set().union(*map(tables_needed, names)):
        assert re.search(rf"^        {table}=", rule, re.MULTILINE), table


def test_tables_that_were_written_and_read_again_give_the_same_figures(small, tmp_path):
    def read(name):
        write_csv(tmp_path / f"{name}.csv", small[name])
        return pd.read_csv(tmp_path / f"{name}.csv")

    again = small | {name: read(name) for name in ("cells", "comparisons", "drift")}
    for name in ("ratios", "null_control", "order", "energy_per_correct"):
        figures = [draw(name, tables, demonstration=True) for tables in (small, again)]
        first, second = ([text.get_text() for text in seen_texts(each)] for each in figures)
        assert first == second
        colors = [
            [line.get_color() for axes in each.axes for line in axes.lines] for each in figures
        ]
        assert colors[0] == colors[1]
