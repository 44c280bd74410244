"""What `make bench-overhead` computes, and the models that it and the kills are tried with."""

import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from bench_overhead import (
    Pass,
    Trial,
    is_enough,
    lines_of,
    ratio_interval,
    speed_ratios,
    tracker_share,
)
from ghost import Shape, write_endless, write_ghost
from real_runtimes import MODELS

from joules.core.files import sha256_of
from joules.inputs.gguf_facts import gguf_facts
from joules.inputs.tokenizer import tokenize

SMALL = Shape(64, 2, 4, 2, 128, 1024)


def trial(bare_s, harness_s):
    bare = Pass(100, bare_s, bare_s, bare_s, 0.0)
    harness = Pass(100, harness_s, 2 * harness_s, 2.5, 0.02)
    return Trial(bare, harness, Pass(100, bare_s, bare_s, 2.5, 0.01))


def test_the_ratio_is_the_geometric_mean_with_a_t_interval_over_logarithms():
    ratio, low, high = ratio_interval([0.5, 2.0])
    assert ratio == pytest.approx(1.0)
    # t(0.975, 1) = 12.706; the standard error of ln 0.5 and ln 2 is ln 2.
    assert math.log(high) == pytest.approx(12.7062 * math.log(2), rel=1e-5)
    assert low == pytest.approx(1 / high)


def test_one_pair_has_no_interval():
    assert math.isnan(ratio_interval([0.99])[1])


def test_a_slower_harness_has_a_ratio_below_one_and_the_gaps_count_only_in_the_window():
    assert speed_ratios([trial(1.0, 1.25)], False) == [pytest.approx(0.8)]
    assert speed_ratios([trial(1.0, 1.25)], True) == [pytest.approx(0.4)]


def test_passes_of_different_lengths_are_not_compared():
    one = trial(1.0, 1.0)
    with pytest.raises(AssertionError):
        speed_ratios([one._replace(bare=one.bare._replace(tokens=99))], False)


def test_pairs_are_added_until_the_lower_end_of_the_interval_is_high_enough():
    alike = [trial(1.0, 1.0)] * 3
    assert not is_enough([], 2, 9) and not is_enough(alike[:1], 1, 9), "one pair has no interval"
    assert not is_enough(alike, 4, 9) and is_enough(alike, 3, 9)
    slow = [trial(1.0, 1.05)] * 8
    assert not is_enough(slow, 3, 9) and is_enough([*slow, slow[0]], 3, 9), "it ends"
    # Ratios 1/1.00 and 1/1.02: mean -0.0099, t(0.975, 1) = 12.7 times 0.0099: from 0.873 on.
    assert not is_enough([trial(1.0, 1.0), trial(1.0, 1.02)], 2, 9)


def test_the_trackers_share_is_what_the_passes_without_them_do_not_use():
    assert tracker_share([trial(1.0, 1.0)]) == pytest.approx(0.004)
    lines = lines_of({"ollama": [trial(1.0, 1.0), trial(1.0, 1.0)]})
    assert "ratio_ollama: 1.0000" in lines
    assert lines[-1] == "tracker_cpu_share: 0.0040"


def test_a_ghost_is_the_same_file_each_time_and_a_model_that_llama_cpp_reads(tmp_path):
    one = write_ghost(tmp_path / "one.gguf", SMALL)
    two = write_ghost(tmp_path / "two.gguf", SMALL)
    assert sha256_of(one) == sha256_of(two)
    assert gguf_facts(one).quantization == "Q8_0"
    (ids,) = tokenize(one, ["def f"])
    assert len(ids) >= 3


def test_an_endless_model_differs_from_its_source_only_in_one_row(tmp_path):
    source = MODELS / "parrot-1m.gguf"
    endless = write_endless(source, tmp_path / "endless.gguf").read_bytes()
    changed = [
        i for i, (a, b) in enumerate(zip(source.read_bytes(), endless, strict=True)) if a != b
    ]
    assert 0 < len(changed) <= 1024
    assert max(changed) - min(changed) < 1024
