"""Small versions of what the benchmarks of the analysis compute."""

import sys

import pandas as pd
import psutil
import pytest
from benchmarks import bench_null, bench_scale

from joules.analyse.mixes import Mixing
from joules.analyse.tables import tabulate
from joules.core.reading import archived_study


def test_a_difference_that_is_not_there_is_seldom_found():
    found = [
        bench_null.outcome(seed, ratio=1.0, noise_cv=0.01, drift=0.03) for seed in range(1, 25)
    ]
    assert bench_null.share_different(found) <= 0.2


def test_a_difference_of_five_percent_is_found_and_may_be_claimed():
    found = [
        bench_null.outcome(seed, ratio=1.05, noise_cv=0.02, drift=0.03) for seed in range(1, 13)
    ]
    assert bench_null.share_different(found) >= 0.9
    assert sum(permitted for _, permitted in found) >= 8


def test_simulated_runs_follow_the_schedule_and_drift():
    calm = bench_null.simulated_runs(1, ratio=1.0, noise_cv=0.0, drift=0.0)
    assert calm["energy_j_per_token"].std() / calm["energy_j_per_token"].mean() < 1e-9
    assert calm.groupby(["kind", "runtime"]).size().tolist() == [10, 10, 10]
    moving = bench_null.simulated_runs(1, ratio=1.0, noise_cv=0.0, drift=0.03)
    ordered = moving.sort_values("position_actual")["energy_j_per_token"]
    assert ordered.is_monotonic_increasing
    assert ordered.iloc[-1] / ordered.iloc[0] == pytest.approx(1.0305, abs=1e-3)


def test_a_written_campaign_can_be_tabulated(tmp_path):
    bench_scale.write_campaign(tmp_path, blocks=1, problems=3)
    records = sorted(tmp_path.glob("records/*/*/*/*.json"))
    grades = sorted(tmp_path.glob("grades/*/*/*/*.json"))
    agreements = sorted(tmp_path.glob("agreement/*.json"))
    tables = tabulate(records, grades, agreements, 267.6, Mixing())
    assert len(tables.runs) == bench_scale.RUNS_PER_BLOCK == 20
    assert isinstance(tables.tasks, pd.DataFrame) and len(tables.tasks) == 60


def test_an_offered_campaign_is_read_as_an_archive(tmp_path):
    name = bench_scale.offer(tmp_path, tmp_path / "campaign", blocks=2, problems=3)
    study = archived_study(name, tmp_path)
    assert (study.models, study.runtimes) == (bench_scale.MODELS, bench_scale.RUNTIMES)
    assert (study.blocks, study.problems, study.study) == (2, 3, f"archive/{name}")


def test_memory_of_a_command_is_that_of_all_its_processes(tmp_path):
    child = "import time; block = bytearray(200_000_000); time.sleep(1)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    _, peak_gb = bench_scale.watched([sys.executable, "-c", parent], tmp_path)
    assert 0.2 < peak_gb < psutil.virtual_memory().total / 1e9


def test_a_command_that_fails_is_no_result(tmp_path, capsys):
    import subprocess

    with pytest.raises(subprocess.CalledProcessError):
        bench_scale.watched([sys.executable, "-c", "raise SystemExit('broken')"], tmp_path)
    assert "broken" in capsys.readouterr().err
