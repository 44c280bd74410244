"""Each figure shows what its tables hold: the drawing is read and held against them."""

import math
from collections import Counter

import numpy as np
import pytest
from drawn_figures import (
    INVALID,
    TWO,
    bars_at,
    drawn,
    large_tables,
    legend_of,
    marked_at,
    markers,
    panel,
    rectangles,
    row_labels,
    row_of,
    seen_texts,
    small_tables,
    tables_of,
)
from matplotlib.colors import to_hex
from synthetic_tables import runs_of

from joules.analyse import comparison
from joules.analyse.drift import drift
from joules.draw.drawing import draw
from joules.draw.looks import looks
from joules.draw.style import BAND, FAINT, FOREST, INK, MARKERS, NOISE, UNCLAIMED


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return small_tables(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return large_tables(tmp_path_factory.mktemp("large"))


@pytest.fixture(scope="module")
def families(tmp_path_factory):
    """Three measured runtimes, one primary pair, runs of fixed length, and blocks enough."""
    return tables_of(
        tmp_path_factory.mktemp("families"),
        contrasts=[("one", "two")],
        models=("m",),
        runtimes=("one", "two", "three"),
        kinds=("task", "fixed", "control"),
        ratios={"two": 1.3},
        blocks=9,
    )


def facts(row, *names):
    return [float(row[name]) for name in names]


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


def test_a_pair_without_a_whole_block_is_said_to_have_none(small):
    comparisons = small["comparisons"].copy()
    comparisons.loc[0, ["ratio", "ratio_low", "ratio_high"]] = np.nan
    comparisons.loc[0, "n_blocks"] = 0
    texts = seen_texts(drawn("ratios", small | {"comparisons": comparisons}))
    assert "no whole block" in [text.get_text() for text in texts]


def test_a_skyline_shows_each_task_against_the_costliest_of_its_model(small):
    axes = drawn("cover", small).axes[0]
    skylines = [patch.get_data() for patch in axes.patches]
    assert len(skylines) == 4
    assert all(len(skyline.values) == 10 for skyline in skylines)
    tops = [max(skyline.baseline - skyline.values) for skyline in skylines]
    assert [max(tops[:2]), max(tops[2:])] == pytest.approx([0.92, 0.92])


# --- energy of a run, of a task, of an answer ---


def test_the_bars_of_energy_per_token_are_the_means_and_intervals_of_the_cells(families):
    figure = drawn("energy_per_token", families)
    (axes,) = figure.axes
    cells = families["cells"].query("kind == 'task'").set_index("runtime")
    names = ("low_energy_j_per_token", "high_energy_j_per_token")
    for runtime in ("one", "two", "three"):
        row = row_of(figure, runtime) + 0.36
        assert bars_at(axes, row) == [pytest.approx(facts(cells.loc[runtime], *names))]
        mean, marker, _, _ = marked_at(axes, row)
        assert (mean, marker) == (pytest.approx(cells.loc[runtime, "mean_energy_j_per_token"]), "|")


def test_control_runs_are_hollow_and_stand_in_the_row_of_their_runtime(families):
    figure = drawn("energy_per_token", families)
    (axes,) = figure.axes
    assert row_labels(figure) == [look.label for look in looks(families["runs"]).values()]
    runs = families["runs"].query("kind == 'control'")
    for runtime, own in runs.groupby("runtime"):
        row = row_of(figure, runtime)
        hollow = [
            line
            for line in axes.lines
            if to_hex(line.get_markerfacecolor()) == "#ffffff"
            and abs(np.mean(line.get_ydata()) - row) < 0.4
        ]
        assert sorted(np.concatenate([line.get_xdata() for line in hollow])) == pytest.approx(
            sorted(own["energy_j_per_token"])
        )
    assert "control run" in legend_of(figure)


def test_dots_of_tasks_have_the_mean_that_the_table_of_cells_gives(families):
    figure = drawn("energy_per_task", families)
    (axes,) = figure.axes
    cells = families["cells"].query("kind == 'task'").set_index("runtime")
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    for runtime, line in zip(looks(families["runs"]), dots, strict=True):
        expected = cells.loc[runtime, "mean_energy_j_per_task"]
        assert np.mean(line.get_xdata()) == pytest.approx(expected)


def test_the_window_of_loading_needs_what_the_table_of_cells_says(families):
    figure = drawn("energy_by_window", families)
    (axes,) = figure.axes
    cells = families["cells"].query("kind == 'task'").set_index("runtime")
    (bars,) = (bars for bars in axes.containers if bars.get_label() == "load")
    widths = [bar.get_width() for bar in bars]
    expected = [cells.loc[name, "mean_load_energy_j"] for name in looks(families["runs"])]
    assert widths == pytest.approx(expected)


def test_energy_per_correct_answer_has_the_value_and_interval_of_its_cell(small):
    figure = drawn("energy_per_correct", small)
    for model in TWO:
        axes = panel(figure, model)
        for cell in small["cells"].query(f"model == '{model}' and kind == 'task'").iloc:
            row = row_of(figure, cell["runtime"])
            value = float(cell["energy_j_per_correct"])
            assert axes.patches[row].get_width() == pytest.approx(value)
            assert marked_at(axes, row)[0] == pytest.approx(value)
            ends = facts(cell, "low_energy_j_per_correct", "high_energy_j_per_correct")
            assert np.isfinite(ends).all() and bars_at(axes, row) == [pytest.approx(ends)]
            words = [text.get_text() for text in axes.texts if text.get_position()[1] == row]
            assert words == [f"{value:#.3g}"]


def test_an_interval_that_a_cell_lacks_is_left_out(small):
    names = ["low_energy_j_per_correct", "high_energy_j_per_correct"]
    without = small["cells"].assign(**dict.fromkeys(names, np.nan))
    axes = drawn("energy_per_correct", small | {"cells": without}).axes[0]
    assert np.isnan(bars_at(axes, 0)).all()
    assert math.isfinite(marked_at(axes, 0)[0])


def test_quality_has_the_interval_of_its_cell(small):
    axes = drawn("energy_against_quality", small).axes[0]
    ends = [
        [float(point[1]) for point in segment]
        for lines in axes.collections
        for segment in lines.get_segments()
    ]
    cells = small["cells"].query("kind == 'task'")
    expected = cells[["pass_low", "pass_high"]].to_numpy()
    assert np.allclose(sorted(ends), sorted(expected.tolist()))


def test_power_over_time_is_the_trace_over_its_windows(small):
    figure = drawn("power_over_time", small)
    for axes, runtime in zip(figure.axes, ("one", "two"), strict=True):
        seen = small["trace"].query(f"model == 'alpha-1m' and runtime == '{runtime}'")
        cpu = next(line for line in axes.lines if len(line.get_xdata()) == len(seen))
        assert list(cpu.get_ydata()) == pytest.approx(list(seen["cpu_power_w"]))
        run = small["windows"].query(
            f"model == 'alpha-1m' and runtime == '{runtime}' and kind == 'task' and block == 1"
        )
        spans = [patch.get_width() for patch in axes.patches]
        assert spans == pytest.approx(list(run["duration_s"]))


# --- ratios and the null control ---


def named(row):
    if row["kind"] == "control":
        return "each / itself (null control)"
    return f"{row['runtime_a']} / {row['runtime_b']}" + " (fixed length)" * (row["kind"] == "fixed")


def test_each_ratio_lies_where_the_table_says_with_both_its_intervals(families):
    figure = drawn("ratios", families)
    (axes,) = figure.axes
    assert len(families["comparisons"]) == 7
    for row in families["comparisons"].iloc:
        place = row_of(figure, named(row)) + 1  # its model stands below the pair's heading
        assert marked_at(axes, place)[0] == pytest.approx(row["ratio"])
        thin, thick = bars_at(axes, place)
        assert thick == pytest.approx(facts(row, "ratio_low", "ratio_high"))
        assert thin == pytest.approx(facts(row, "simultaneous_low", "simultaneous_high"))


def test_families_differ_in_shape_and_fill_and_are_named(families):
    figure = drawn("ratios", families)
    (axes,) = figure.axes
    assert families["comparisons"]["claimable"].all()
    shapes = {
        row["family"]: marked_at(axes, row_of(figure, named(row)) + 1)[1::2]
        for row in families["comparisons"].iloc
    }
    assert shapes == {
        "primary": ("o", True),
        "secondary": ("D", True),
        "fixed": ("s", True),
        "control": ("o", False),
    }
    assert {label for _, _, label in FOREST.values()} <= set(legend_of(figure))
    assert "no claim" not in legend_of(figure)


def test_what_is_not_claimed_is_grey_hollow_and_says_so(families):
    comparisons = families["comparisons"].copy()
    refused = comparisons.index[comparisons["family"] == "primary"]
    comparisons.loc[refused, ["claimable", "verdict"]] = [False, "no claim"]
    figure = drawn("ratios", families | {"comparisons": comparisons})
    (axes,) = figure.axes
    place = row_of(figure, "one / two") + 1
    assert marked_at(axes, place)[2:] == (UNCLAIMED, False)
    (text,) = (text for text in axes.texts if text.get_position()[1] == place)
    assert text.get_text().endswith("n = 9: no claim") and text.get_color() == UNCLAIMED
    assert {line.get_color() for line in axes.lines if line.get_ydata()[0] == place} == {UNCLAIMED}
    assert "no claim" in legend_of(figure) and "primary pair" not in legend_of(figure)


def test_no_pair_of_a_study_that_may_claim_nothing_looks_like_a_finding(small):
    assert set(small["comparisons"].query("kind == 'task'")["verdict"]) == {"no claim"}
    figure = drawn("ratios", small)
    (axes,) = figure.axes
    heading = row_of(figure, "one / two")
    for place in (heading + 1, heading + 2):
        assert marked_at(axes, place)[2:] == (UNCLAIMED, False)
    said = [text.get_text() for text in axes.texts]
    assert sum(text.endswith(": no claim") for text in said) == 2


@pytest.mark.parametrize("study", ["small", "large"])
def test_the_forest_shows_every_ratio_with_the_null_control_last(study, request):
    tables = request.getfixturevalue(study)
    figure = drawn("ratios", tables)
    shown = [x for axes in figure.axes for x in markers(axes, "o")]
    assert sorted(shown) == pytest.approx(sorted(tables["comparisons"]["ratio"]))
    for axes in figure.axes:
        colors = [
            to_hex(line.get_color())
            for line in sorted(axes.lines, key=lambda each: each.get_ydata()[0])
            if line.get_marker() == "o"
        ]
        assert set(colors[-1:]) == {INK}
        assert colors == sorted(colors, key=lambda color: color == INK)


def test_the_bands_of_ratios_are_the_margin_and_the_interval_of_the_models_own_control(small):
    figure = drawn("ratios", small)
    (axes,) = figure.axes
    ((left, right, _, _),) = rectangles(axes, BAND)
    assert (left, right) == pytest.approx((1 / 1.05, 1.05), rel=1e-3)
    floors = {
        round((top + bottom) / 2): (left, right)
        for left, right, top, bottom in rectangles(axes, NOISE)
    }
    controls = small["comparisons"].query("kind == 'control'").set_index("model")
    for heading in ("one / two", "each / itself (null control)"):
        for place, model in enumerate(TWO, start=row_of(figure, heading) + 1):
            expected = facts(controls.loc[model], "ratio_low", "ratio_high")
            assert floors.pop(place) == pytest.approx(expected, rel=1e-3)
    assert not floors


def test_runs_of_fixed_length_have_no_noise_floor_as_no_control_repeats_them(families):
    figure = drawn("ratios", families)
    behind = {round((top + bottom) / 2) for *_, top, bottom in rectangles(figure.axes[0], NOISE)}
    rows = {
        row_of(figure, named(row)) + 1: row["kind"] != "fixed"
        for row in families["comparisons"].iloc
    }
    assert behind == {place for place, has_floor in rows.items() if has_floor}


def test_a_panel_of_many_ratios_has_the_noise_floor_of_its_model(large):
    figure = drawn("ratios", large)
    controls = large["comparisons"].query("kind == 'control'")
    for axes, control in zip(figure.axes, controls.iloc, strict=True):
        ((left, right, *_),) = rectangles(axes, NOISE)
        assert (left, right) == pytest.approx(facts(control, "ratio_low", "ratio_high"), rel=1e-3)


def test_an_interval_that_leaves_the_axis_ends_in_an_arrow(families):
    comparisons = families["comparisons"].copy()
    wide = comparisons.index[comparisons["family"] == "primary"]
    comparisons.loc[wide, ["simultaneous_low", "simultaneous_high"]] = [1e-9, np.inf]
    figure = drawn("ratios", families | {"comparisons": comparisons})
    (axes,) = figure.axes
    place = row_of(figure, "one / two") + 1
    low, high = axes.get_xlim()
    assert bars_at(axes, place)[0] == pytest.approx([low, high])
    arrows = {line.get_marker() for line in axes.lines if line.get_ydata()[0] == place}
    assert {"<", ">"} <= arrows and high < 10


def test_a_ratio_is_written_with_its_interval_and_its_blocks(families):
    row = families["comparisons"].query("family == 'primary'").iloc[0]
    text = f"{row['ratio']:.3f} [{row['ratio_low']:.3f}, {row['ratio_high']:.3f}], n = 9"
    assert text in [text.get_text() for text in seen_texts(drawn("ratios", families))]


def test_points_of_the_null_control_show_whose_turn_it_was(families):
    (axes,) = drawn("null_control", families).axes
    runs = families["runs"].set_index(["kind", "runtime", "block"])["energy_j_per_token"]
    controls = families["runs"].query("kind == 'control'")
    assert controls["runtime"].nunique() == 3
    seen = {}
    for line in axes.lines:
        if line.get_marker() in MARKERS and to_hex(line.get_markerfacecolor()) == "#ffffff":
            for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True):
                seen[round(y) + 1] = (x, line.get_marker(), to_hex(line.get_color()))
    expected = {}
    for run in controls.itertuples():
        ratio = runs["task", run.runtime, run.block] / runs["control", run.runtime, run.block]
        look = looks(families["runs"])[run.runtime]
        expected[run.block] = (pytest.approx(ratio), look.marker, look.color.lower())
    assert seen == expected


def test_the_null_control_has_the_mean_and_the_band_of_the_table(families):
    comparisons = families["comparisons"].copy()
    control = comparisons.index[comparisons["kind"] == "control"]
    comparisons.loc[control, ["ratio", "ratio_low", "ratio_high"]] = [1.01, 0.98, 1.04]
    figure = drawn("null_control", families | {"comparisons": comparisons})
    (axes,) = figure.axes
    ((left, right, *_),) = rectangles(axes, NOISE)
    assert (left, right) == pytest.approx((0.98, 1.04), rel=1e-3)
    row = row_of(figure, "mean")
    assert marked_at(axes, row)[0] == 1.01
    assert bars_at(axes, row) == [[0.98, 1.04]]


def test_the_noise_floor_is_the_same_in_both_figures_that_show_it(small):
    bands = {
        name: {
            (round(left, 4), round(right, 4))
            for axes in drawn(name, small).axes
            for left, right, *_ in rectangles(axes, NOISE)
        }
        for name in ("ratios", "null_control")
    }
    assert bands["ratios"] == bands["null_control"] and len(bands["ratios"]) == 2


# --- drift ---


def test_drift_that_was_put_in_is_seen_as_the_slope_of_the_table(tmp_path):
    tables = tables_of(tmp_path, models=TWO, runtimes=("one", "two"), blocks=8, drift=0.2)
    axes = drawn("order", tables).axes[0]
    (line,) = (line for line in axes.lines if line.get_linestyle() == "--")
    slope = np.diff(line.get_ydata()) / np.diff(line.get_xdata())
    assert slope == pytest.approx(100 * 0.2 / (len(tables["runs"]) - 1), rel=0.2)
    assert sorted(markers(axes, *MARKERS)) == sorted(tables["runs"]["position_actual"])


def test_slope_interval_and_tau_are_those_of_the_table_of_drift(families):
    trend = families["drift"].copy()
    whole = trend.index[(trend["model"] == "all") & (trend["quantity"] == "energy_j_per_token")]
    names = ["slope_per_run", "slope_low", "slope_high", "kendall_tau"]
    trend.loc[whole, names] = [0.002, 0.001, 0.004, 0.5]
    axes = drawn("order", families | {"drift": trend}).axes[0]
    assert axes.get_title(loc="right") == (
        "Theil-Sen slope +0.2 [+0.1, +0.4] % per run; Kendall's tau 0.50"
    )
    (line,) = (line for line in axes.lines if line.get_linestyle() == "--")
    (first, last), (start, end) = line.get_xdata(), line.get_ydata()
    assert (end - start) / (last - first) == pytest.approx(0.2)
    (fan,) = axes.collections
    at_last = [y for x, y in fan.get_paths()[0].vertices if x == last]
    middle = (first + last) / 2
    assert (min(at_last), max(at_last)) == pytest.approx(
        (0.1 * (last - middle), 0.4 * (last - middle))
    )


def test_runs_of_fixed_length_are_in_the_drift_and_are_half_filled(families):
    figure = drawn("order", families)
    runs = families["runs"]
    assert "run of fixed length" in legend_of(figure)
    half = [line for line in figure.axes[0].lines if line.get_fillstyle() == "left"]
    places = np.concatenate([line.get_xdata() for line in half])
    assert sorted(places) == sorted(runs.loc[runs["kind"] == "fixed", "position_actual"])


# --- thousands of runs ---


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
    return {
        "runs": runs,
        "cells": of_cells,
        "comparisons": comparison.compare(runs),
        "drift": drift(runs),
    }


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
