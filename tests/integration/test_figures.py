import itertools
import os
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image
from synthetic_tables import runs_of, study_tables

from joules.analyse import cells, comparison
from joules.core.errors import UserError
from joules.core.paths import figure_names
from joules.core.places import PACKAGE, REPOSITORY
from joules.core.plan import Run
from joules.draw.drawing import draw, load
from joules.draw.drawing import tables_of as tables_needed
from joules.draw.looks import looks
from joules.draw.style import FAINT, MARKERS, PALETTE, save, style

WORKFLOW = REPOSITORY / "workflow"
TWO = ("alpha-1m", "beta-3m")
FOUR = ("alpha-7b-instruct", "beta-coder-6.7b-instruct", "gamma-7b-instruct-v0.3", "delta-7b")
EIGHT = (
    "a_long_name_of_one",
    "b_two",
    "c_three",
    "d_four",
    "e_five",
    "f_six",
    "g_seven",
    "h_eight",
)
INVALID = Run("alpha-1m", "two", "task", 2)
NAMES = pytest.mark.parametrize("name", figure_names(PACKAGE))


def trace_of(windows):
    """Return one value a second for the first run of each cell, from its windows' mean power."""
    rows = []
    first = windows[windows["kind"] == "task"]
    first = first[first["block"] == first.groupby(["model", "runtime"])["block"].transform("min")]
    for keys, run in first.groupby(["model", "runtime", "runtime_label", "kind", "block"]):
        begin = run["start_monotonic_s"].min()
        for second in range(int((run["start_monotonic_s"] + run["duration_s"]).max() - begin)):
            now = run[run["start_monotonic_s"] <= begin + second].iloc[-1]
            power = [now["power_w"] + second % 3, np.nan, 0.1 * now["power_w"]]
            rows.append([*keys, float(second), *power, "own_counters"])
    names = ["model", "runtime", "runtime_label", "kind", "block", "time_s"]
    parts = ["cpu_power_w", "gpu_power_w", "dram_power_w"]
    return pd.DataFrame(rows, columns=[*names, *parts, "source"])


def tables_of(folder, **options):
    _, made = study_tables(folder, **options)
    return {
        "runs": made.runs,
        "tasks": made.tasks,
        "windows": made.windows,
        "trace": trace_of(made.windows),
        "cells": cells.cells(made.runs),
        "comparisons": comparison.compare(made.runs),
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Two models on two runtimes in five blocks with the control; one run is invalid."""
    return tables_of(
        tmp_path_factory.mktemp("small"),
        models=TWO,
        runtimes=("one", "two"),
        ratios={"two": 1.3},
        tier="estimated",
        invalid=[INVALID],
    )


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Four models on eight runtimes."""
    ratios = dict(zip(EIGHT, (1, 1.5, 0.9, 1.02, 2.1, 1.3, 1.0, 1.1), strict=True))
    folder = tmp_path_factory.mktemp("large")
    return tables_of(folder, models=FOUR, runtimes=EIGHT, blocks=2, problems=4, ratios=ratios)


@pytest.fixture(scope="module")
def least(tmp_path_factory):
    """One run of one model on one runtime: no pair, no control, no interval."""
    folder = tmp_path_factory.mktemp("least")
    return tables_of(folder, models=("m",), runtimes=("r",), kinds=("task",), blocks=1)


def drawn(name, tables):
    figure = draw(name, tables, demonstration=True)
    with style():
        FigureCanvasAgg(figure).draw()
    return figure


def panel(figure, title):
    return next(axes for axes in figure.axes if axes.get_title(loc="left") == title)


def row_of(figure, label):
    return [text.get_text() for text in figure.axes[0].get_yticklabels()].index(label)


def markers(axes, *kinds):
    """Return x of everything drawn with one of these markers."""
    lines = [line for line in axes.lines if line.get_marker() in kinds]
    return [float(x) for line in lines for x in np.atleast_1d(line.get_xdata())]


def seen_texts(figure):
    """Return the texts that are drawn: ticks outside the axes and hidden ones are not."""
    hidden = set()
    for axes in figure.axes:
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            for place, label in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=False):
                if not min(low, high) <= place <= max(low, high) or not axes.axison:
                    hidden.add(label)
    return [
        text
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and text not in hidden
    ]


# --- how they are written --------------------------------------------------------------------


@NAMES
def test_two_renderings_give_the_same_bytes(name, small, tmp_path):
    for turn in ("first", "second"):
        save(draw(name, small, demonstration=True), tmp_path / turn / name)
    for first in (tmp_path / "first").iterdir():
        assert first.read_bytes() == (tmp_path / "second" / first.name).read_bytes(), first.name


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


# --- what they show --------------------------------------------------------------------------


def test_every_run_is_a_point_at_its_energy_per_token(small):
    figure = drawn("energy_per_token", small)
    for model in TWO:
        runs = small["runs"][small["runs"]["model"] == model]
        shown = markers(panel(figure, model), "x", *MARKERS)
        assert sorted(shown) == pytest.approx(sorted(runs["energy_j_per_token"]))


def test_an_invalid_run_is_a_cross_and_in_no_mean(small):
    axes = panel(drawn("energy_per_token", small), "alpha-1m")
    runs = small["runs"].set_index(["model", "runtime", "kind", "block"])["energy_j_per_token"]
    assert markers(axes, "x") == pytest.approx([runs[tuple(INVALID)]])
    valid = [runs["alpha-1m", "two", "task", block] for block in (1, 3, 4, 5)]
    assert np.min(np.abs(np.array(markers(axes, "|")) - np.mean(valid))) < 1e-9


def test_lines_join_the_valid_runs_of_a_block(small):
    axes = panel(drawn("energy_per_token", small), "beta-3m")
    joined = [line.get_xdata() for line in axes.lines if line.get_color() == FAINT]
    runs = small["runs"].query("model == 'beta-3m' and kind == 'task'")
    pairs = runs.pivot(index="block", columns="runtime", values="energy_j_per_token")
    assert np.allclose(sorted(map(tuple, joined)), sorted(pairs.itertuples(index=False)))


def test_a_task_is_the_mean_of_its_valid_runs(small):
    figure = drawn("energy_per_task", small)
    axes = panel(figure, "alpha-1m")
    tasks = small["tasks"].query("model == 'alpha-1m' and runtime == 'two' and kind == 'task'")
    means = tasks[tasks["block"] != INVALID.repetition].groupby("task_id")["energy_j"].mean()
    row = row_of(figure, "two")
    dots = [line for line in axes.lines if line.get_marker() == "o"][row]
    assert sorted(dots.get_xdata()) == pytest.approx(sorted(means))
    medians = [line.get_xdata()[0] for line in axes.lines if line.get_linewidth() == 1.6]
    assert medians[row] == pytest.approx(means.median())


def test_windows_are_stacked_to_the_mean_energy_of_a_run(small):
    figure = drawn("energy_by_window", small)
    axes = panel(figure, "beta-3m")
    whole = small["windows"].query("model == 'beta-3m' and kind == 'task'")
    whole = whole.groupby(["runtime", "block"])["energy_j"].sum().groupby("runtime").mean()
    for runtime, energy in whole.items():
        row = row_of(figure, runtime)
        bars = [bar for bar in axes.patches if round(bar.get_y() + bar.get_height() / 2) == row]
        assert len(bars) == small["windows"]["window"].nunique()
        assert max(bar.get_x() + bar.get_width() for bar in bars) == pytest.approx(energy)


def test_a_curve_ends_where_the_upper_axis_names_its_cost(small):
    axes = drawn("energy_against_quality", small).axes[0]
    curves = [line for line in axes.lines if len(line.get_xdata()) == 200]
    costs = [np.median(line.get_xdata() / line.get_ydata()) for line in curves]
    (top,) = axes.child_axes
    assert top.get_xticks() == pytest.approx(costs)
    assert [float(text.get_text()) for text in top.get_xticklabels()] == pytest.approx(costs)


def test_quality_is_drawn_where_the_cells_say(large):
    axes = drawn("energy_against_quality", large).axes[0]
    cells = large["cells"].query("kind == 'task'")
    shown = {
        (float(line.get_xdata()[0]), float(line.get_ydata()[0]))
        for line in axes.lines
        if line.get_marker() in MARKERS
    }
    assert shown == set(zip(cells["mean_energy_j_per_task"], cells["pass_at_1"], strict=True))


def test_energy_per_correct_answer_is_written_beside_its_bar(small):
    figure = drawn("energy_per_correct", small)
    axes = panel(figure, "beta-3m")
    cell = (
        small["cells"].query("model == 'beta-3m' and runtime == 'two' and kind == 'task'").iloc[0]
    )
    row = row_of(figure, "two")
    assert f"{cell['energy_j_per_correct']:#.3g}" in [
        text.get_text() for text in axes.texts if text.get_position()[1] == row
    ]
    widths = [bar.get_width() for bar in axes.patches]
    assert widths[row] == pytest.approx(cell["mean_energy_j_per_task"] / cell["pass_at_1"])


def test_no_correct_answer_is_said_and_not_drawn_as_zero(small):
    cells = small["cells"].copy()
    none = (cells["model"] == "alpha-1m") & (cells["runtime"] == "two")
    cells.loc[none, ["passed", "pass_at_1", "pass_low"]] = 0
    cells.loc[none, "energy_j_per_correct"] = np.nan
    tables = small | {"cells": cells}
    axes = panel(drawn("energy_per_correct", tables), "alpha-1m")
    assert Counter(text.get_text() for text in axes.texts)["no correct answer"] == 1
    assert len(axes.patches) == 1
    drawn("energy_against_quality", tables)


@pytest.mark.parametrize("study", ["small", "large"])
def test_the_forest_shows_every_ratio_with_the_null_control_last(study, request):
    tables = request.getfixturevalue(study)
    figure = drawn("ratios", tables)
    shown = [x for axes in figure.axes for x in markers(axes, "o")]
    assert sorted(shown) == pytest.approx(sorted(tables["comparisons"]["ratio"]))
    for axes in figure.axes:
        points = sorted(
            (line.get_ydata()[0], line) for line in axes.lines if line.get_marker() == "o"
        )
        hollow = [line.get_markerfacecolor() == "white" for _, line in points]
        assert hollow == sorted(hollow)
        assert hollow[-1]


def test_a_ratio_of_runs_of_fixed_length_is_named_so_and_is_no_control(small):
    fixed = small["comparisons"].query("kind == 'task'").assign(kind="fixed", ratio=1.5)
    comparisons = pd.concat([small["comparisons"], fixed], ignore_index=True)
    figure = drawn("ratios", small | {"comparisons": comparisons})
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    bold = [label for label in labels if " / " in label]
    assert bold == ["one / two", "one / two (fixed length)", "one / itself (null control)"]
    assert markers(figure.axes[0], "s") == [1.5, 1.5]


def test_a_panel_of_many_ratios_says_its_number_of_blocks(large):
    titles = [axes.get_title(loc="left") for axes in drawn("ratios", large).axes]
    assert titles and all("(n = 2)" in " ".join(title.split()) for title in titles)


def test_the_cover_leaves_room_for_long_labels(large):
    runs = large["runs"].assign(runtime_label="a runtime of a rather long name")
    figure = draw("cover", large | {"runs": runs}, demonstration=False)
    figure.draw_without_rendering()
    page = figure.bbox
    for text in seen_texts(figure):
        box = text.get_window_extent()
        assert page.x0 <= box.x0 and box.x1 <= page.x1


def test_long_labels_leave_a_panel_of_ratios_at_least_half_of_its_figure(large):
    one = large["comparisons"].query("model == model.iloc[0]")
    figure = drawn("ratios", large | {"comparisons": one})
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert axes.get_position().width > 0.5


def test_no_trace_leaves_its_panel(small):
    trace = small["trace"].copy()
    parts = [name for name in trace if name.endswith("power_w")]
    last = trace["runtime"] == sorted(set(trace["runtime"]))[-1]
    trace.loc[last, parts] *= 7  # far above the runtime of the first panel
    figure = drawn("power_over_time", small | {"trace": trace})
    for axes in figure.axes:
        highest = max(max(line.get_ydata()) for line in axes.lines if len(line.get_ydata()) > 2)
        assert axes.get_ylim()[0] == 0 and axes.get_ylim()[1] >= highest


def test_the_band_is_the_margin_of_equivalence(small):
    axes = drawn("ratios", small).axes[0]
    band = axes.patches[0].get_window_extent().transformed(axes.transData.inverted())
    assert (band.x0, band.x1) == pytest.approx((1 / 1.05, 1.05), rel=1e-3)


def test_a_ratio_is_written_with_its_interval_and_its_blocks(small):
    row = small["comparisons"].iloc[0]
    text = f"{row['ratio']:.3f} [{row['ratio_low']:.3f}, {row['ratio_high']:.3f}], n = 4"
    assert row["n_blocks"] == 4  # the invalid run costs its block
    assert text in [text.get_text() for text in seen_texts(drawn("ratios", small))]


def test_a_pair_without_a_whole_block_is_said_to_have_none(small):
    comparisons = small["comparisons"].copy()
    comparisons.loc[0, ["ratio", "ratio_low", "ratio_high"]] = np.nan
    comparisons.loc[0, "n_blocks"] = 0
    texts = seen_texts(drawn("ratios", small | {"comparisons": comparisons}))
    assert "no whole block" in [text.get_text() for text in texts]


def test_drift_that_was_put_in_is_seen_as_a_slope(tmp_path):
    tables = tables_of(tmp_path, models=TWO, runtimes=("one", "two"), blocks=8, drift=0.2)
    axes = drawn("order", tables).axes[0]
    text = axes.get_title(loc="right")
    slope = float(re.search(r"slope ([+-][\d.e-]+) %", text)[1])
    assert slope == pytest.approx(100 * 0.2 / (len(tables["runs"]) - 1), rel=0.2)
    assert sorted(markers(axes, *MARKERS)) == sorted(tables["runs"]["position_actual"])


def test_a_skyline_shows_each_task_against_the_costliest_of_its_model(small):
    axes = drawn("cover", small).axes[0]
    skylines = [patch.get_data() for patch in axes.patches]
    assert len(skylines) == 4
    assert all(len(skyline.values) == 10 for skyline in skylines)
    tops = [max(skyline.baseline - skyline.values) for skyline in skylines]
    assert [max(tops[:2]), max(tops[2:])] == pytest.approx([0.92, 0.92])


@pytest.fixture(scope="module")
def many():
    """One model on two runtimes with the control, in 1,500 blocks."""
    generator = np.random.default_rng(1)
    values = {
        (runtime, kind): generator.lognormal(0, 0.01, 1500)
        for runtime, kind in (("one", "task"), ("two", "task"), ("one", "control"))
    }
    runs = runs_of(values)
    order = generator.permutation(len(runs)) + 1
    runs = runs.assign(runtime_label=runs["runtime"], position_actual=order, idle_power_w=2.0)
    keys = ["model", "runtime", "runtime_label", "kind"]
    means = runs.groupby(keys)["energy_j_per_token"].mean().rename("mean_energy_j_per_token")
    of_cells = means.reset_index().assign(
        low_energy_j_per_token=means.to_numpy(), high_energy_j_per_token=means.to_numpy()
    )
    return {"runs": runs, "cells": of_cells, "comparisons": comparison.compare(runs)}


@pytest.mark.parametrize("name", ["energy_per_token", "order", "null_control", "ratios"])
def test_thousands_of_runs_fit_a_page_with_every_one_of_them_drawn(name, many):
    figure = drawn(name, many)
    assert max(figure.get_size_inches()) < 14
    shown = sum(len(markers(axes, "x", *MARKERS)) for axes in figure.axes)
    expected = {"energy_per_token": 4500, "order": 4500, "null_control": 1501, "ratios": 2}
    assert shown == expected[name]
    assert sum(len(axes.lines) for axes in figure.axes) < 100


def test_blocks_that_share_rows_stand_beside_their_own_name(many):
    axes = drawn("null_control", many).axes[0]
    names = [text.get_text() for text in axes.get_yticklabels()]
    (points,) = (line for line in axes.lines if line.get_marker() == "o")
    assert (names[0], names[-1], len(names)) == ("block 1", "mean", 61)
    for row, name in enumerate(names[:-1]):
        block = int(name.removeprefix("block "))
        assert points.get_ydata()[block - 1] == pytest.approx(row, abs=0.05)


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
    captions = (WORKFLOW / "report" / "figure.rst").read_text()
    names = figure_names(PACKAGE)
    assert sorted(re.findall(r'^"(\w+)":', captions, re.MULTILINE)) == names
    for table in set().union(*map(tables_needed, names)):
        assert re.search(rf"^        {table}=", rule, re.MULTILINE), table
