"""The whole machine beside its processor: statistics of runs whose truth is known."""

import math

import numpy as np
import pandas as pd
import pytest
import synthetic
import synthetic_wall
from synthetic_tables import study_tables, tables_of
from synthetic_wall import LOSS, REST_W, wall_j

from joules.analyse.comparison import compare
from joules.analyse.permission import permission
from joules.analyse.tables import RUNS, TRACE
from joules.analyse.wall import has_wall, is_emulated, wall, wall_pairs
from joules.core import stored
from joules.core.errors import UserError

OPTIONS = {"models": ("parrot-1m",), "blocks": 8, "problems": 3, "seed": 5}


@pytest.fixture(scope="module")
def by_wall(tmp_path_factory):
    """The tables of a study whose headline is the wall; the second runtime needs 30 % more."""
    options = OPTIONS | {"ratios": {"llama_cpp": 1.3}, "wall": {}}
    return study_tables(tmp_path_factory.mktemp("wall"), **options)[1]


def runs_like(ratios, blocks=8, rest_w=0.0, seed=1):
    """Return runs of arms `a` and `b`: joules of the processor, and what the wall adds to each."""
    rng, rows = np.random.default_rng(seed), []
    for name, (joules, factor) in ratios.items():
        for block in range(1, blocks + 1):
            processor_j = joules * float(np.exp(rng.normal(0, 0.005)))
            rows.append(
                {
                    **{"model": "m", "runtime": name, "runtime_label": name, "kind": "task"},
                    **{"block": block, "valid": True, "session": "s", "generated_tokens": 100},
                    "energy_j_per_token": processor_j / 100,
                    "energy_processor_j": processor_j,
                    "energy_wall_j": processor_j * factor + rest_w * 10,
                    "wall_idle_share": 0.5,
                    "wall_tier": "measured",
                    "processor_tier": "measured",
                }
            )
    return pd.DataFrame(rows)


def test_the_ratio_of_a_cell_is_the_mean_over_its_runs():
    found = wall(runs_like({"a": (100.0, 1.5), "b": (100.0, 2.0)})).set_index("runtime")
    assert found.loc["a", "ratio"] == pytest.approx(1.5)
    assert found.loc["b", "ratio"] == pytest.approx(2.0)
    assert (found["idle_share"] == 0.5).all() and (found["n"] == 8).all()


@pytest.mark.parametrize(
    ("ratios", "order"),
    [
        ({"a": (100.0, 1.5), "b": (130.0, 1.5)}, "yes"),
        ({"a": (100.0, 2.0), "b": (130.0, 1.2)}, "no"),
        ({"a": (100.0, 1.3), "b": (130.0, 1.0)}, "open"),
    ],
)
def test_whether_the_ranking_holds_is_told_from_both_intervals(ratios, order):
    (row,) = wall_pairs(runs_like(ratios), ["a", "b"]).itertuples()
    assert row.same_order == order and row.n_blocks == 8
    assert row.processor == pytest.approx(100 / 130, rel=0.01)
    of_wall = ratios["a"][0] * ratios["a"][1] / (ratios["b"][0] * ratios["b"][1])
    assert row.wall == pytest.approx(of_wall, rel=0.01)
    assert row.change == pytest.approx(ratios["a"][1] / ratios["b"][1])


def test_a_run_without_an_energy_at_the_wall_leaves_the_ratio_open_and_unknown():
    runs = runs_like({"a": (100.0, 1.5), "b": (130.0, 1.5)})
    runs.loc[3, "energy_wall_j"] = None
    assert math.isnan(wall(runs).set_index("runtime").loc["a", "ratio"])
    (row,) = wall_pairs(runs, ["a", "b"]).itertuples()
    assert math.isnan(row.wall) and row.same_order == "open"


def test_the_headline_of_the_tables_is_the_whole_window_at_the_wall(by_wall):
    runs = by_wall.runs
    assert (runs["headline"] == "wall").all() and has_wall(runs)
    assert runs["energy_j"].tolist() == runs["energy_wall_j"].tolist()
    assert runs["duration_s"].tolist() == runs["window_duration_s"].tolist()
    for row in runs.itertuples():
        told = wall_j(row.energy_processor_j, row.window_duration_s)
        assert row.energy_j == pytest.approx(told, rel=1e-6)
        assert row.wall_idle_power_w == pytest.approx(wall_j(4.0, 1.0))
    assert (runs["gap_share"] - 0.01).abs().max() < 1e-6, "of the time"
    assert REST_W > 0 and LOSS > 1


def test_no_task_has_an_energy_at_the_wall(by_wall):
    assert by_wall.tasks["energy_j"].isna().all()
    assert by_wall.tasks["cpu_energy_j"].notna().all()
    assert by_wall.trace["wall_power_w"].notna().all()


def test_without_a_meter_at_the_wall_the_tables_are_as_they_were(tmp_path):
    made = study_tables(tmp_path, **OPTIONS)[1]
    assert list(made.runs.columns) == RUNS.names and not has_wall(made.runs)
    assert list(made.trace.columns) == [name for name in TRACE.names if name != "wall_power_w"]


def test_an_emulated_meter_permits_no_claim_where_it_is_the_headline(tmp_path_factory, by_wall):
    for energy, refused in (("wall", True), ("processor", False)):
        options = OPTIONS | {"ratios": {"llama_cpp": 1.3}}
        options |= {"wall": {"energy": energy, "emulated": True}}
        runs = study_tables(tmp_path_factory.mktemp("emulated"), **options)[1].runs
        compared = compare(runs)
        assert is_emulated(runs) == refused
        task = compared[compared["kind"] == "task"]
        assert task["claimable"].all() != refused
        assert task["no_claim_reason"].str.contains("emulated").all() == refused
        said = permission(compared, "measured", energy, emulated=refused)
        assert said.energy_difference != refused
    compared = compare(by_wall.runs)
    assert "counted by a meter at the wall" in permission(compared, "measured", "wall").reason


def test_records_of_two_meters_are_not_analysed_together(tmp_path):
    written = synthetic.write_study(tmp_path, **OPTIONS)
    synthetic_wall.add_to(written)
    last = written.records[-1]
    other = synthetic_wall.with_meter(stored.read_record(last), device=("Plug 2", "1.0"))
    stored.write_record(last, other)
    with pytest.raises(UserError, match="differ in the meter at the wall .*Plug 1.*Plug 2"):
        tables_of(written)
