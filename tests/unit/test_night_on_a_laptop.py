"""config/laptop.yaml: the arms of the article's study, in one night, as its comments say."""

import re
from collections.abc import Sequence

import pytest
from small_study import CHECKOUT

from joules.commands import cost, forecast
from joules.core.catalogue import lookup
from joules.core.plan import Run
from joules.core.reading import load_study

FILE = CHECKOUT / "config/laptop.yaml"
LAPTOP = load_study(FILE)
SAID = " ".join(FILE.read_text(encoding="utf-8").replace("#", " ").split())


def hours(runs: Sequence[Run], speed: float = 1.0) -> float:
    """Return the hours of these runs on the stated machine, or one of `speed` times its speed."""
    cells = {}
    for model in LAPTOP.study.models:
        size = round(lookup(LAPTOP.catalogue, model).bytes / speed)
        cell = cost.assumed_cell(size, 0, LAPTOP.max_tokens(model))
        cells |= {(model, arm): cell for arm in LAPTOP.study.compared}
    return cost.total_s(LAPTOP.study, cells, runs)[cost.MIDDLE] / 3600


def test_it_compares_two_small_models_on_the_arms_of_the_articles_study() -> None:
    own, articles = LAPTOP.study, load_study(CHECKOUT / "config/study.yaml").study
    assert own.models == ("qwen2.5-coder-0.5b-instruct", "qwen2.5-coder-1.5b-instruct")
    assert own.arms == articles.arms and own.compared == articles.compared
    assert set(own.contrasts) < set(articles.contrasts)
    assert (own.blocks, own.require_tier, own.limits.flag_only) == (8, "estimated", False)
    assert {"task", "control", "quality"} == set(own.kinds) and own.problems < 164


def test_its_blocks_can_show_what_its_contrasts_ask() -> None:
    family = forecast.family(LAPTOP.study)
    assert family == 6 and forecast.smallest_difference(0.01, 8, family) is not None
    more = family + len(LAPTOP.study.models)
    assert forecast.smallest_difference(0.01, 8, more) is None
    assert forecast.smallest_difference(0.01, 9, more) is not None
    assert f"{0.05 / family:.4f}" in SAID and "smallest p of eight blocks is 0.0078" in SAID


def test_it_takes_the_night_that_its_comments_add_up() -> None:
    runs = LAPTOP.runs()
    kinds = [[run for run in runs if (run.kind == "quality") is asked] for asked in (False, True)]
    assert 9.5 <= hours(runs) <= 10.5
    found = re.search(
        r"One night, (\d+) hours.*: (\d+) of them ([\d.]+) hours\. The (\w+) quality runs, of all "
        r"164 problems.*: ([\d.]+) hours\. At half these speeds it is (\d+) hours",
        SAID,
    )
    assert found and found[4] == "eight" and len(kinds[1]) == 8
    counted = (hours(runs), len(kinds[0]), hours(kinds[0]), hours(kinds[1]), hours(runs, 0.5))
    for group, number, error in zip(
        (1, 2, 3, 5, 6), counted, (0.5, 0, 0.06, 0.06, 0.5), strict=True
    ):
        assert float(found[group]) == pytest.approx(number, abs=error)


def test_its_speeds_are_those_of_memory_of_38_gigabytes_a_second() -> None:
    found = re.search(r"memory gives them (\d+) GB/s: that is (\d+) and (\d+) tokens/s", SAID)
    assert found and int(found[1]) * 1e9 == cost.BANDWIDTH[cost.MIDDLE]
    sizes = [lookup(LAPTOP.catalogue, model).bytes for model in LAPTOP.study.models]
    speeds = [cost.BANDWIDTH[cost.MIDDLE] / size for size in sizes]
    assert [f"{speed:.0f}" for speed in speeds] == [found[2], found[3]]
