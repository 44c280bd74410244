"""A table of runs that others measured: its statistics, claims and figures, and its errors."""

import csv
import itertools
import json
import math
import re

import numpy as np
import pandas as pd
import pytest
import synthetic
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired
from synthetic_tables import tables_of

from joules.analyse.run_table import BadTable, RunRow, read_runs
from joules.commands.analyse import analyse, completed, main
from joules.core.errors import UserError

COLUMNS = ["model", "runtime", "block", "energy_j", "generated_tokens"]


def rows_of(blocks=8, models=("m", "n"), runtimes=("x", "y", "z"), seed=3, **further):
    """Return rows of runs: y needs 10 % more than the others, at 1 % noise."""
    rng = np.random.default_rng(seed)
    return [
        {
            "model": model,
            "runtime": runtime,
            "block": block,
            "energy_j": 1000
            * (1.1 if runtime == "y" else 1.0)
            * float(np.exp(rng.normal(0, 0.01))),
            "generated_tokens": int(rng.integers(1990, 2010)),
            **further,
        }
        for model, block, runtime in itertools.product(models, range(1, blocks + 1), runtimes)
    ]


def controls_of(rows, shift=1.0, turns="x"):
    """Return second runs in every block, of the runtimes in turn."""
    own = [row for row in rows if row["runtime"] == turns[row["block"] % len(turns)]]
    noise = itertools.cycle((1.002, 0.998, 1.001, 0.999))
    return [
        row | {"kind": "control", "energy_j": row["energy_j"] * shift * next(noise)} for row in own
    ]


def write(path, rows, encoding="utf-8", **options):
    with open(path, "w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, list(rows[0]), **options)
        writer.writeheader()
        writer.writerows(rows)
    return path


def compared(folder, rows):
    analyse(write(folder / "runs.csv", rows), folder / "out")
    return pd.read_csv(folder / "out" / "comparisons.csv")


def test_every_pair_equals_direct_calls_of_the_libraries(tmp_path):
    rows = rows_of()
    table = compared(tmp_path, rows)
    assert len(table) == 6 and set(table["kind"]) == {"task"}
    frame = pd.DataFrame(rows)
    frame["value"] = frame["energy_j"] / frame["generated_tokens"]
    wide = frame.pivot(index=["model", "block"], columns="runtime", values="value")
    tested = []
    for row in table.itertuples():
        a, b = (wide.loc[row.model, name].to_numpy() for name in (row.runtime_a, row.runtime_b))
        d = np.log(a) - np.log(b)
        interval = stats.ttest_1samp(d, 0).confidence_interval(0.95)
        expected = [math.exp(value) for value in (d.mean(), interval.low, interval.high)]
        assert [row.ratio, row.ratio_low, row.ratio_high] == pytest.approx(expected, rel=1e-8)
        flips = np.array(list(itertools.product((1, -1), repeat=8))) @ d / 8
        p = np.mean(np.abs(flips) >= abs(d.mean()) - 1e-12)
        tost = ttost_paired(a, b, 1 / 1.05, 1.05, transform=np.log)[0]
        beyond = stats.ttest_1samp(np.sign(d.mean()) * d, math.log(1.05), alternative="greater")
        ps = (p, min(1, 2 * beyond.pvalue), tost)
        found = (row.p_value, row.p_size, row.p_equivalence)
        assert found == pytest.approx(ps, rel=1e-6, abs=1e-12)
        together = stats.ttest_1samp(d, 0).confidence_interval(1 - 0.05 / 6)
        ends = [math.exp(together.low), math.exp(together.high)]
        assert [row.simultaneous_low, row.simultaneous_high] == pytest.approx(ends, rel=1e-8)
        assert (row.n_blocks, row.family) == (8, "primary")
        tested.append(ps)
    columns = ("p_holm", "p_size_holm", "p_equivalence_holm")
    for column, values in zip(columns, zip(*tested, strict=True), strict=True):
        adjusted = multipletests(values, method="holm")[1]
        assert table[column].to_numpy() == pytest.approx(adjusted, rel=1e-6, abs=1e-12)


def no_word_is_in(folder):
    """Hold that no table and no claim in a folder has the word of a verdict."""
    written = [path for path in folder.iterdir() if path.suffix in (".csv", ".json")]
    assert len(written) >= 6
    for path in written:
        assert not re.search(r"5 % apart|apart, by|equal within", path.read_text()), path.name


def test_without_a_tier_no_word_is_in_any_file_and_nothing_is_claimed(tmp_path):
    table = compared(tmp_path, rows_of())
    assert set(table["tier"]) == {"unstated"}
    found = json.loads((tmp_path / "out" / "claims.json").read_text())
    assert found["permission"]["energy_difference"] is False
    assert "unstated" in found["permission"]["reason"]
    verdict = found["claims"]["pair.m.x.y.verdict"]
    assert (verdict["value"], verdict["tier"], verdict["claimable"]) == (
        *("no claim", "unstated"),
        False,
    )
    assert verdict["source"].startswith("comparisons.csv model=m")
    no_word_is_in(tmp_path / "out")
    assert pd.read_csv(tmp_path / "out" / "ranking.csv")["rank"].isna().all()


def measured(shift=1.0, turns="x", blocks=9, **further):
    rows = [row | {"kind": "task"} for row in rows_of(blocks, tier="measured", **further)]
    return rows + controls_of(rows, shift, turns)


def test_a_measured_table_with_a_quiet_control_permits_a_claim(tmp_path):
    table = compared(tmp_path, measured())
    found = json.loads((tmp_path / "out" / "claims.json").read_text())
    assert found["permission"]["energy_difference"] is True
    assert found["claims"]["pair.n.x.y.verdict"]["claimable"] is True
    assert len(table) == 6
    controls = pd.read_csv(tmp_path / "out" / "controls.csv")
    assert controls["runtime_a"].tolist() == controls["runtime_b"].tolist() == ["x", "x"]
    assert found["claims"]["control.m.ratio"]["source"].startswith("controls.csv ")


def test_a_control_that_finds_a_difference_forbids_every_claim_and_says_why(tmp_path):
    table = compared(tmp_path, measured(shift=1 / 1.01))
    found = json.loads((tmp_path / "out" / "claims.json").read_text())
    assert found["permission"]["energy_difference"] is False
    assert "ratio 1.010" in found["permission"]["reason"]
    assert set(table["verdict"]) == {"no claim"}
    no_word_is_in(tmp_path / "out")


def test_controls_may_take_turns_and_are_one_row_per_model(tmp_path):
    compared(tmp_path, measured(turns="xyz"))
    controls = pd.read_csv(tmp_path / "out" / "controls.csv")
    assert controls["runtime_a"].tolist() == controls["runtime_b"].tolist() == ["all", "all"]
    assert controls["n_blocks"].tolist() == [9, 9]
    assert set(controls["verdict"]) <= {"equal within 5 %", "open"}
    found = json.loads((tmp_path / "out" / "claims.json").read_text())
    assert found["permission"]["energy_difference"] is True
    assert found["study"]["control_runtime"] == "all"


def test_contrasts_name_the_primary_pairs_in_either_order(tmp_path, capsys):
    path = write(tmp_path / "runs.csv", measured())
    assert main([str(path), str(tmp_path / "out"), "--contrasts", "y/x, z/y"]) == 0
    table = pd.read_csv(tmp_path / "out" / "comparisons.csv")
    families = table.groupby("family")
    assert {name: set(own["runtime_a"] + own["runtime_b"]) for name, own in families} == {
        "primary": {"xy", "yz"},
        "secondary": {"xz"},
    }
    for _, own in families:
        adjusted = multipletests(own["p_value"], method="holm")[1]
        assert own["p_holm"].to_numpy() == pytest.approx(adjusted)
    assert "with its family (secondary)" in capsys.readouterr().out


@pytest.mark.parametrize("contrasts", ["x", "x/w", "x/x", "x/y/z", "x-y"])
def test_a_contrast_of_what_is_no_runtime_of_the_table_is_refused(tmp_path, contrasts, capsys):
    path = write(tmp_path / "runs.csv", rows_of(blocks=2))
    assert main([str(path), str(tmp_path / "out"), "--contrasts", contrasts]) == 2
    assert re.search(r"CONTRASTS has '.*'. Expected .*x, y, z.*CONTRASTS=", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_a_runtime_with_a_slash_in_its_name_can_be_contrasted(tmp_path):
    rows = [
        row | {"runtime": {"x": "x/1"}.get(row["runtime"], row["runtime"])} for row in rows_of()
    ]
    lines = analyse(write(tmp_path / "runs.csv", rows), tmp_path / "out", contrasts="x/1/y")
    primary = [line for line in lines if "(primary)" in line]
    assert len(primary) == 2 and all("x/1 / y" in line for line in primary)


def as_arms(rows, names=("runtime", "runtime_label")):
    """Return rows with the columns of arms in the place of those of runtimes."""
    other = {"runtime": "arm", "runtime_label": "arm_label"}
    named = {name: other[name] for name in names}
    return [{named.get(name, name): value for name, value in row.items()} for row in rows]


def test_the_column_of_what_is_compared_may_be_called_arm(tmp_path):
    rows = [row | {"runtime_label": f"R {row['runtime']}, 2 threads"} for row in measured(blocks=3)]
    for name, given in (("runtimes", rows), ("arms", as_arms(rows))):
        analyse(write(tmp_path / f"{name}.csv", given), tmp_path / name)
    made = sorted(path.name for path in (tmp_path / "runtimes").glob("*.csv"))
    assert "comparisons.csv" in made and "cells.csv" in made
    for name in made:
        same = [(tmp_path / folder / name).read_bytes() for folder in ("runtimes", "arms")]
        assert same[0] == same[1], name
    assert "R x, 2 threads" in (tmp_path / "arms/cells.csv").read_text()
    found = json.loads((tmp_path / "arms/claims.json").read_text())
    assert found["study"]["runtimes"][0]["label"] == "R x, 2 threads"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"arm": "x"}, r"row 1: there are the columns 'runtime' and 'arm'.*Take one away"),
        (
            {"runtime_label": "X", "arm_label": "X"},
            r"there are the columns 'runtime_label' and 'arm_label'.*Take one away",
        ),
    ],
)
def test_both_names_of_a_column_are_refused(tmp_path, given, words):
    path = write(tmp_path / "runs.csv", [row | given for row in rows_of(blocks=2)])
    with pytest.raises(BadTable, match=words):
        read_runs(path)


def test_a_cell_or_a_column_of_an_arm_that_is_wrong_is_named_as_the_table_names_it(tmp_path):
    rows = as_arms(rows_of(blocks=2))
    rows[3]["arm"] = ""
    with pytest.raises(BadTable, match=r"row 5, column arm: the cell is empty"):
        read_runs(write(tmp_path / "empty.csv", rows))
    misspelt = [
        {"arm_labl" if name == "arm" else name: each for name, each in row.items()} for row in rows
    ]
    with pytest.raises(BadTable, match=r"unknown column 'arm_labl'. Expected `arm_label`"):
        read_runs(write(tmp_path / "misspelt.csv", misspelt))


def test_runs_that_broke_a_rule_carry_no_claim_and_it_is_said_how_many(tmp_path):
    rows = measured(validity_codes="", models=("m",), runtimes=("x", "y"))
    for row in rows:
        if row["runtime"] == "y" and row["block"] > 5:
            row["validity_codes"] = "cpu_busy;settle"
    lines = analyse(write(tmp_path / "runs.csv", rows), tmp_path / "out")
    said = (
        "Only 5 of 9 blocks are without a run that broke a rule "
        "(cpu_busy in 4 runs, settle in 4 runs)"
    )
    assert said in lines[-2] and lines[-2].startswith("A difference in energy may not be claimed")
    broken = pd.read_csv(tmp_path / "out" / "broken_rules.csv")
    of_task = broken[broken["kind"].eq("task") & broken["runtime"].eq("y")]
    assert of_task["code"].tolist() == ["cpu_busy", "settle"]
    assert of_task["counted"].tolist() == [4, 4]
    for row in rows:
        if row["block"] > 8:
            row["validity_codes"] = ""
    analyse(write(tmp_path / "runs.csv", rows), tmp_path / "out")
    row = pd.read_csv(tmp_path / "out" / "comparisons.csv").iloc[0]
    assert (row["flagged_blocks"], row["n_blocks"]) == ("6;7;8", 6)
    assert (row["claimable"], row["verdict"]) == (True, "more than 5 % apart")


def test_the_figures_that_the_columns_allow_are_drawn(tmp_path):
    placed = [
        row | {"position_actual": place, "passed": 5, "graded": 10, "tasks": 10}
        for place, row in enumerate(measured(), start=1)
    ]
    for name, rows in (("few", rows_of()), ("all", placed)):
        (tmp_path / name).mkdir()
        compared(tmp_path / name, rows)
    drawn = {
        name: {path.name for path in (tmp_path / name / "out" / "figures").iterdir()}
        for name in ("few", "all")
    }
    few = {"energy_per_token", "ratios"}
    more = {"null_control", "order", "energy_against_quality", "energy_per_correct"}
    suffixes = ("svg", "pdf", "png")
    assert drawn["few"] == {f"{name}.{suffix}" for name in few for suffix in suffixes}
    assert drawn["all"] == {f"{name}.{suffix}" for name in few | more for suffix in suffixes}


@pytest.mark.parametrize(
    ("encoding", "options"),
    [("utf-8-sig", {}), ("utf-8", {"delimiter": ";"}), ("utf-8", {"lineterminator": "\n"})],
)
def test_dialects_of_csv_give_the_same_runs(tmp_path, encoding, options):
    rows = rows_of(blocks=2)
    plain = read_runs(write(tmp_path / "a.csv", rows))
    other = read_runs(write(tmp_path / "b.csv", rows, encoding, **options))
    assert plain == other and len(plain) == len(rows)


def test_the_order_of_rows_does_not_matter(tmp_path):
    for name, rows in (("a", rows_of()), ("b", rows_of()[::-1])):
        (tmp_path / name).mkdir()
        compared(tmp_path / name, rows)
    for file in ("comparisons.csv", "claims.json", "ranking.csv"):
        assert (tmp_path / "a" / "out" / file).read_bytes() == (
            tmp_path / "b" / "out" / file
        ).read_bytes()


def test_a_block_without_one_of_its_runs_is_left_out_and_listed(tmp_path):
    rows = rows_of(runtimes=("x", "y"), models=("m",))
    del rows[5]  # y in block 3
    lines = analyse(write(tmp_path / "runs.csv", rows), tmp_path / "out")
    row = pd.read_csv(tmp_path / "out" / "comparisons.csv", dtype=str).iloc[0]
    assert (row["n_blocks"], row["invalid_blocks"]) == ("7", "3")
    assert any("blocks 3 are left out" in line for line in lines)


def test_runs_of_two_sessions_are_not_paired(tmp_path):
    rows = rows_of(runtimes=("x", "y"), models=("m",), session="one")
    rows[0]["session"] = "two"
    row = compared(tmp_path, rows).iloc[0]
    assert (row["n_blocks"], row["split_blocks"]) == (7, 1)


def test_no_common_block_is_an_error(tmp_path):
    rows = rows_of(runtimes=("x", "y"), models=("m",))
    apart = [row | {"block": row["block"] + 100 * (row["runtime"] == "y")} for row in rows]
    with pytest.raises(UserError, match="same block"):
        compared(tmp_path, apart)
    with pytest.raises(UserError, match="two runtimes per model"):
        compared(tmp_path, [row for row in rows if row["runtime"] == "x"])


def renamed(old, new):
    return lambda rows: [
        {new if name == old else name: value for name, value in row.items()} for row in rows
    ]


def changed(index, **cells):
    def change(rows):
        rows[index] = rows[index] | cells
        return rows

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (renamed("energy_j", "energy_kwh"), r"row 1: the column 'energy_kwh'.*3,600,000"),
        (renamed("energy_j", "Energy_Wh"), r"row 1: the column 'Energy_Wh'.*3,600"),
        (renamed("energy_j", "energy"), r"energy"),
        (renamed("runtime", "runtme"), r"row 1: unknown column 'runtme'. Expected `runtime`"),
        (renamed("block", "day"), r"row 1: the columns block are missing"),
        (changed(2, energy_j=""), r"row 4, column energy_j: the cell is empty"),
        (changed(2, model=" "), r"row 4, column model: the cell is empty"),
        (changed(0, energy_j="0"), r"row 2, column energy_j: '0'"),
        (changed(0, energy_j="-5"), r"row 2, column energy_j: '-5'"),
        (changed(0, energy_j="nan"), r"row 2, column energy_j: 'nan'"),
        (changed(0, energy_j="inf"), r"row 2, column energy_j: 'inf'"),
        (changed(0, energy_j="12 J"), r"row 2, column energy_j: '12 J'"),
        (changed(0, energy_j="1_000"), r"row 2, column energy_j: '1_000'"),
        (changed(0, energy_j="1,5"), r"row 2, column energy_j: '1,5' is not a number.*point"),
        (changed(3, generated_tokens="10.5"), r"row 5, column generated_tokens: '10.5'"),
        (changed(3, generated_tokens="0"), r"row 5, column generated_tokens: '0'"),
        (changed(3, block="first"), r"row 5, column block: 'first'"),
        (changed(3, kind="quality"), r"row 5, column kind: 'quality'"),
        (changed(3, tier="guessed"), r"row 5, column tier: 'guessed'"),
        (changed(3, tier="sampled"), r"row 5, column tier: 'sampled', but row 2"),
        (changed(3, valid="maybe"), r"row 5, column valid: 'maybe'"),
        (changed(3, passed="11", graded="10"), r"row 5, column passed: 11"),
        (lambda rows: [*rows, rows[4]], r"rows 6 and 50, columns model, runtime, kind, block"),
        (
            lambda rows: [*rows, rows[0] | {"kind": "control"}, rows[1] | {"kind": "control"}],
            r"rows 50 and 51, column kind: two controls of m in block 1",
        ),
    ],
)
def test_a_table_that_cannot_be_right_is_refused_with_row_and_column(tmp_path, change, words):
    further = {"kind": "task", "tier": "measured", "valid": "true", "passed": 5, "graded": 10}
    rows = change(rows_of(**further))
    with pytest.raises(UserError, match=words):
        compared(tmp_path, rows)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "has 0 rows"),
        (b"model,runtime,block,energy_j,generated_tokens\n", "has 1 rows"),
        (b"model,runtime,block,energy_j,generated_tokens\nm,x,1,5\n", "row 2: 4 cells. Expected 5"),
        (b"model,model,block\nm,x,1\n", "'model' stands there twice"),
        (b"\xff\xfem\x00", "not UTF-8"),
        (b'model,runtime,block,energy_j,generated_tokens\n"m,x,1,5,5\n', "not CSV"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path, text, words):
    (tmp_path / "runs.csv").write_bytes(text)
    with pytest.raises(UserError, match=words):
        read_runs(tmp_path / "runs.csv")


def test_lines_count_as_in_the_file_also_after_empty_ones(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text(",".join(COLUMNS) + "\nm,x,1,5,5\n\n\nm,y,1,bad,5\n")
    with pytest.raises(UserError, match="row 5, column energy_j"):
        read_runs(path)


def test_the_command_says_what_it_needs_and_ends_without_a_traceback(tmp_path, capsys):
    assert main([]) == 2
    shown = capsys.readouterr().err
    assert "energy_j: energy of the run in joule" in shown and "make analyse RUNS=" in shown
    assert main([str(tmp_path / "none.csv"), str(tmp_path / "out")]) == 2
    assert re.fullmatch(r"error: .*none\.csv cannot be read.*\n", capsys.readouterr().err)
    rows = rows_of(blocks=2)
    assert main([str(write(tmp_path / "runs.csv", rows)), str(tmp_path / "out")]) == 0
    assert "no claim (tier unstated)" in capsys.readouterr().out


def test_a_table_with_bad_data_is_told_from_bad_use_by_the_status(tmp_path, capsys):
    bad = write(tmp_path / "runs.csv", changed(0, energy_j="-5")(rows_of(blocks=2)))
    assert main([str(bad), str(tmp_path / "out")]) == 1
    assert re.fullmatch(r"error: .*row 2, column energy_j.*\n", capsys.readouterr().err)


def test_more_than_a_thousand_blocks_are_analysed_with_word_of_progress(tmp_path, capsys):
    rows = rows_of(blocks=1100, models=("m",), runtimes=("x", "y"), kind="task")
    table = write(tmp_path / "runs.csv", rows + controls_of(rows))
    assert main([str(table), str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert said.err.splitlines()[:2] == [
        "3,300 runs read; comparing",
        "drawing energy_per_token",
    ]
    assert "1,100 blocks, adjusted p 2e-05: no claim (tier unstated)" in said.out
    assert (tmp_path / "out/figures/null_control.png").stat().st_size > 0


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/1/no-such-place"])
def test_a_place_that_cannot_hold_results_is_refused_before_the_work(tmp_path, capsys, place):
    (tmp_path / "file").write_text("")
    table = write(tmp_path / "runs.csv", rows_of(blocks=2))
    assert main([str(table), str(tmp_path / place)]) == 2
    assert re.fullmatch(r"error: .* cannot be written .*Nothing.*\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("column", "text", "value"),
    [
        ("energy_j", ".5", 0.5),
        ("energy_j", "+5.", 5.0),
        ("energy_j", "1E3", 1000.0),
        ("generated_tokens", "10.0", 10),
        ("generated_tokens", "1e3", 1000),
        ("valid", "No", False),
        ("valid", "TRUE", True),
        ("valid", "0", False),
        ("kind", "Control", "control"),
        ("tier", "Measured", "measured"),
        ("model", "7", "7"),
    ],
)
def test_usual_spellings_of_a_value_are_read(tmp_path, column, text, value):
    row = rows_of(blocks=1, models=("m",), runtimes=("x",))[0] | {column: text}
    (run,) = read_runs(write(tmp_path / "runs.csv", [row]))
    assert getattr(run, column) == value and type(getattr(run, column)) is type(value)


def test_derived_columns_are_those_of_the_tables_of_a_study(tmp_path):
    study = synthetic.write_study(tmp_path, blocks=2)
    known = tables_of(study).runs
    names = [name for name in RunRow.__struct_fields__ if name in known]
    known[names].to_csv(tmp_path / "runs.csv", index=False)
    made = completed(read_runs(tmp_path / "runs.csv"))
    for name in (
        *("energy_j_per_token", "energy_j_per_task", "tokens_per_s", "power_w", "net_energy_j"),
        *("residency_power_w", "pass_at_1", "energy_j_per_correct"),
    ):
        assert made[name].to_numpy() == pytest.approx(known[name].to_numpy(), rel=1e-8), name
