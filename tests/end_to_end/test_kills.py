"""Kills at random moments of a real small study lose nothing; `make bench-kill` does thirty."""

import sys
from pathlib import Path

from small_study import built_copy

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from bench_kill import kill_often


def test_kills_lose_no_record_tear_none_and_leave_no_process(tmp_path, capsys):
    counts = kill_often(3, seed=7, tree=built_copy(tmp_path / "tree"), target="records")
    with capsys.disabled():
        print("\n" + "\n".join(counts.lines()))
    assert counts.killed.total() == 3
    assert not counts.lost
    assert not counts.torn
    assert not counts.orphans
