"""Energy at the wall beside the other, in a table of runs that others measured."""

import csv
import itertools
import json
import re

import numpy as np
import pandas as pd
import pytest

from joules.commands.analyse import main


def rows_of(seed=3):
    """Return runs of three runtimes in eight blocks: y needs 10 % more than the others."""
    rng = np.random.default_rng(seed)
    return [
        {
            "model": "m",
            "runtime": name,
            "block": block,
            "energy_j": {"y": 1100.0}.get(name, 1000.0) * float(np.exp(rng.normal(0, 0.01))),
            "generated_tokens": int(rng.integers(1990, 2010)),
        }
        for block, name in itertools.product(range(1, 9), "xyz")
    ]


def write(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_energy_at_the_wall_is_set_beside_the_other_energy(tmp_path, capsys):
    factor = {"x": 2.0, "y": 1.5, "z": 2.0}
    rows = rows_of()
    rows = [row | {"energy_wall_j": row["energy_j"] * factor[row["runtime"]]} for row in rows]
    path = write(tmp_path / "runs.csv", rows)
    assert main([str(path), str(tmp_path / "out")]) == 0
    found = pd.read_csv(tmp_path / "out/wall.csv").set_index("runtime")
    assert found["ratio"].to_dict() == pytest.approx(factor)
    pairs = pd.read_csv(tmp_path / "out/wall_pairs.csv").set_index(["runtime_a", "runtime_b"])
    assert pairs.loc[("x", "y"), "same_order"] == "no", "10 % more, and much less at the wall"
    assert pairs.loc[("x", "z"), "same_order"] == "open"
    assert (tmp_path / "out/figures/wall_beside_processor.svg").exists()
    claims = json.loads((tmp_path / "out/claims.json").read_text())["claims"]
    assert claims["wall.m.y.ratio"]["source"] == "wall.csv model=m runtime=y"
    assert re.search(
        r"m: x / y at the wall = 1\.2\d+ .*by energy_j 0\.9\d+", capsys.readouterr().out
    )


def test_a_table_without_energy_at_the_wall_says_nothing_of_it(tmp_path):
    path = write(tmp_path / "runs.csv", rows_of())
    main([str(path), str(tmp_path / "out")])
    assert not list((tmp_path / "out").rglob("wall*"))
    assert '"wall' not in (tmp_path / "out/claims.json").read_text()
