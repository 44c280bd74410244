"""Small versions of what the benchmarks of the analysis compute."""

import itertools
import sys
import time

import numpy as np
import pandas as pd
import psutil
import pytest
from benchmarks import bench_null, bench_scale

from joules.analyse.mixes import Mixing
from joules.analyse.tables import tabulate
from joules.core.reading import archived_study, runs_of


@pytest.fixture(scope="module")
def shares():
    return bench_null.shares(500, seed=7)


def test_a_difference_that_is_not_there_is_seldom_found(shares):
    null = shares[shares["ratio"] == 1.0]
    assert len(null) == 9 and null["different"].mean() < 0.065  # 4,500 studies: 0.05 and 4 SD


def test_a_noisier_study_never_gets_the_stronger_word(shares):
    assert bench_null.stronger_words(shares[shares["ratio"] < 1.05]) == 0
    strong = shares.pivot(index=["ratio", "blocks"], columns="sd", values="more than 5 % apart")
    assert strong.loc[1.05].max(axis=None) < 0.06  # 0.025 and 5 SD
    assert (strong.loc[1.10][0.01] > strong.loc[1.10][0.04]).all()


def test_shares_of_words_add_up_and_too_strong_ones_are_counted(shares):
    words = [name for name in shares.columns if name in bench_null.VERDICTS]
    assert len(words) == 5 and shares[words].sum(axis=1).to_numpy() == pytest.approx(1)
    bad = shares.assign(**{"more than 5 % apart": 0.04})
    assert bench_null.stronger_words(bad) == 9


def test_the_log_ratios_have_the_mean_and_the_spread_that_were_asked_for():
    rng = np.random.default_rng(1)
    d = bench_null.log_ratios(rng, 4_000, 10, ratio=1.05, spread=0.03)
    assert d.mean() == pytest.approx(np.log(1.05), abs=1e-3)
    assert d.std() == pytest.approx(0.03, rel=0.02)


def test_the_gate_refuses_few_honest_studies():
    assert bench_null.refused(200, 0.05) <= 24  # 0.05 of 200, and 4 SD


def test_whole_studies_get_the_word_of_their_log_ratios():
    found = [
        bench_null.outcome(seed, ratio=1.10, noise_cv=0.01, drift=0.03) for seed in range(1, 7)
    ]
    permitted = [(verdict, word) for verdict, word, allowed in found if allowed]
    assert len(permitted) >= 4
    assert all(verdict == word == "more than 5 % apart" for verdict, word in permitted)
    assert all(verdict == "no claim" for verdict, _, allowed in found if not allowed)


def test_simulated_runs_follow_the_schedule_and_drift():
    calm = bench_null.simulated_runs(1, ratio=1.0, noise_cv=0.0, drift=0.0)
    assert calm["energy_j_per_token"].std() / calm["energy_j_per_token"].mean() < 1e-9
    assert calm.groupby(["kind", "runtime"]).size().tolist() == [5, 5, 10, 10]
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
    assert len(tables.runs) == bench_scale.RUNS_PER_BLOCK == 45
    assert isinstance(tables.tasks, pd.DataFrame) and len(tables.tasks) == 135


def test_an_offered_campaign_is_read_as_an_archive(tmp_path):
    name = bench_scale.offer(tmp_path, tmp_path / "campaign", blocks=2, problems=3)
    study = archived_study(name, tmp_path)
    assert (study.models, len(study.compared), study.contrasts) == (bench_scale.MODELS, 8, ())
    assert (study.blocks, study.problems, study.study) == (2, 3, f"archive/{name}")
    assert len(runs_of(study, tmp_path)) == 2 * bench_scale.RUNS_PER_BLOCK


def test_memory_of_a_command_is_that_of_all_its_processes(tmp_path, monkeypatch):
    child = (
        "import pathlib, time; block = bytearray(200_000_000); pathlib.Path('has').touch()\n"
        "while not pathlib.Path('seen').exists(): time.sleep(0.01)"
    )
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    looks = itertools.count()

    def between_looks(seconds):
        """Let the child end once there was a look after it had its memory."""
        if (tmp_path / "has").exists() and next(looks) > 0:
            (tmp_path / "seen").touch()
        real_sleep(seconds)

    real_sleep = time.sleep
    monkeypatch.setattr(bench_scale.time, "sleep", between_looks)
    cost = bench_scale.watched([sys.executable, "-c", parent], tmp_path)
    assert 200_000_000 < cost.peak_bytes < psutil.virtual_memory().total


def test_cpu_time_of_a_command_is_that_of_all_its_processes(tmp_path):
    child = "import time\nwhile time.process_time() < 0.5: pass"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    cost = bench_scale.watched([sys.executable, "-c", parent], tmp_path)
    assert cost.cpu_s >= 0.5


def test_a_command_that_fails_is_no_result(tmp_path, capsys):
    import subprocess

    with pytest.raises(subprocess.CalledProcessError):
        bench_scale.watched([sys.executable, "-c", "raise SystemExit('broken')"], tmp_path)
    assert "broken" in capsys.readouterr().err


def test_a_goal_that_is_missed_is_named_and_a_larger_study_has_none():
    slow, large = bench_scale.Cost(151.0, 90.0, 10**9), bench_scale.Cost(90.0, 80.0, 3 * 10**9 + 1)
    assert bench_scale.over(10_035, slow, 150.0) == ["10035 runs: 151.0 s, goal 150"]
    assert bench_scale.over(10_035, large, 150.0) == ["10035 runs: 3000000001 bytes, goal 3e+09"]
    assert bench_scale.over(10_035, bench_scale.Cost(149.0, 300.0, 10**9), 150.0) == []
    assert bench_scale.over(20_000, slow, 150.0) == []
