"""The forecast: numbers by hand, with and without warm-ups, and what blocks can show."""

import dataclasses
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from msgspec.structs import replace
from small_study import CHECKOUT

from joules.analyse.power import power_facts
from joules.commands import cost, forecast
from joules.core import paths
from joules.core.arms import facts_of
from joules.core.energy import Energy
from joules.core.errors import UserError
from joules.core.reading import LoadedStudy, load_study
from joules.core.record import Record
from joules.core.stored import read_record, write_record, write_warm_up
from joules.core.study import Study
from joules.core.warm_up_files import WarmUp, WarmUpAnswer
from joules.machine.processor import cpu_model
from joules.measure.preparation import settings_of

OWN = {
    "study": "hand",
    "models": ["made-up"],
    "runtimes": ["llama_cpp"],
    "kinds": ["task"],
    "blocks": 2,
    "problems": 5,
    "windows": {"preflight_s": 1, "idle_s": 1, "rest_s": 1},
    "settle": {"limit": 0.02, "seconds": 4},
    "settings": {"max_tokens": 256},
}
ENTRY = {
    "url": "https://example.org/made-up.gguf",
    "bytes": 3_800_000_000,
    "sha256": "0" * 64,
    "license": "MIT",
    "prompt_style": "chat",
}


def hand(tmp_path: Path, **changes: object) -> LoadedStudy:
    """Return a study in a folder of its own, with one model of 3.8 GB."""
    root = tmp_path / "root"
    if not root.exists():
        (root / "config").mkdir(parents=True)
        shutil.copy(CHECKOUT / "config/runtime_options.yaml", root / "config")
        catalogue = {"models": {"made-up": ENTRY}}
        (root / "config/models.yaml").write_text(yaml.safe_dump(catalogue))
    config = {key: value for key, value in {**OWN, **changes}.items() if value is not None}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(config))
    return load_study(tmp_path / "own.yaml", root)


def warmed(
    loaded: LoadedStudy, threads: int | None = None, arm: str = "llama_cpp", own: bool = False
) -> None:
    """Write a warm-up: 10 tokens/s while decoding, half a second per prompt, 2 s to load.

    It has the study's settings, or the `own` ones of the arm.
    """
    chosen = loaded.study.compared[arm]
    asked = chosen.asked(loaded.study.settings) if own else loaded.study.settings
    as_installed = own and chosen.as_installed
    settings = settings_of(asked, "task", 256, as_installed=as_installed)
    answers = [
        WarmUpAnswer(
            task_id=f"HumanEval/{index}",
            duration_s=decode_s + 0.5,
            text="    pass",
            prompt_tokens=200,
            generated_tokens=tokens,
            prefill_s=None,
            decode_s=decode_s,
            finish_reason="eos",
        )
        for index, (tokens, decode_s) in enumerate([(10, 1.0), (30, 3.0)])
    ]
    warm_up = WarmUp(
        model="made-up",
        arm=facts_of(arm, chosen, "llama-cpp-python"),
        runtime="llama_cpp",
        protocol="0" * 64,
        facts={},
        settings=settings if threads is None else dataclasses.replace(settings, threads=threads),
        settings_in_force={},
        cannot_hold=[],
        load_s=2.0,
        tokens_per_s=8.0,
        answers=answers,
    )
    write_warm_up(paths.warm_up_file(loaded.results, "made-up", arm), warm_up)


def test_hours_without_a_warm_up_are_as_computed_by_hand(tmp_path):
    study = hand(tmp_path)
    cells = cost.cells_of(study)
    cell = cells["made-up", "llama_cpp"]
    assert not cell.measured
    # 3.8 GB at 38 GB/s: 0.1 s per token; 200 prompt tokens at a quarter of that; 200 + 2 tokens
    prompt_s = 200 * 0.1 / 4 + 202 * 0.1
    assert cost.prompt_s(cell, "task", 1) == pytest.approx(prompt_s) == pytest.approx(25.2)
    settle_s = 4 + (5 + 64 * 0.1) / 2  # and half of the short answer that goes past it
    waiting_s = 1 + 3 * 1 + 1 + 4  # preflight, three idle windows, rest, overhead
    run_s = waiting_s + 3.8 / 0.5 + settle_s + 5 * (25.2 + 0.02)
    assert cost.run_s(cell, "task", study.study, 1) == pytest.approx(run_s)
    warm_up_s = 3.8 / 0.5 + 5 * 25.2  # is still to come, once
    total = cost.total_s(study.study, cells, study.runs())
    assert total[1] == pytest.approx(2 * run_s + warm_up_s) == pytest.approx(438.4)
    assert total[0] < total[1] < total[2] < total[3]
    assert cost.total_s(study.study, cells, []) == (0, 0, 0, 0)


def test_hours_with_a_warm_up_come_from_its_measured_speed(tmp_path):
    study = hand(tmp_path)
    warmed(study)
    cells = cost.cells_of(study)
    cell = cells["made-up", "llama_cpp"]
    assert cell.measured
    assert cell.token_s[1] == pytest.approx(0.1)
    assert cell.prefill_s[1] == pytest.approx(0.5)
    assert cell.tokens == pytest.approx((1, 20, 40, 256))  # 20 with two standard errors of 10
    each_s = 0.5 + 22 * 0.1
    run_s = 9 + 2 + (4 + each_s / 2) + 5 * (each_s + 0.02)  # an answer is shorter than 64 tokens
    total = cost.total_s(study.study, cells, study.runs())
    assert total[1] == pytest.approx(2 * run_s) == pytest.approx(59.9)
    assert "measured speed" in forecast.speeds(cells)
    assert "assumed" not in forecast.speeds(cells)


def test_a_warm_up_of_other_settings_is_not_used(tmp_path):
    study = hand(tmp_path)
    warmed(study, threads=99)
    assert not cost.cells_of(study)["made-up", "llama_cpp"].measured
    assert "assumed" in forecast.speeds(cost.cells_of(study))


def test_a_fixed_run_decodes_to_the_limit_and_a_quality_run_answers_all_problems(tmp_path):
    study = hand(tmp_path, kinds=["task", "fixed", "quality"])
    cell = cost.cells_of(study)["made-up", "llama_cpp"]
    assert cost.prompt_s(cell, "fixed", 1) == pytest.approx(5 + (256 + 2) * 0.1)
    assert cost.tasks_of(study.study, "quality") == 164
    assert cost.tasks_of(study.study, "task") == 5
    assert cost.tasks_of(replace(study.study, problems="all"), "task") == 164


def test_answers_are_not_assumed_longer_than_the_limit():
    cell = cost.assumed_cell(1_000_000_000, 0, 160)
    assert cell.tokens == (150, 160, 160, 160)


def record(runtime: str, kind: str, block: int, energy_j: float) -> Record:
    """Return a stored record as if it were of another run here: one window of 10 s."""
    stored = read_record(CHECKOUT / "tests/data/record-schema-1.json")
    before = stored.environment.before
    here = replace(before, machine=replace(before.machine, cpu=cpu_model()))
    energy = Energy(cpu=energy_j, gpu=None, dram=None)
    return replace(
        stored,
        model=replace(stored.model, name="made-up"),
        runtime=replace(stored.runtime, name=runtime),
        kind=kind,
        repetition=block,
        session="s",
        instrument=replace(stored.instrument, tier="measured"),
        environment=replace(stored.environment, before=here),
        windows=[replace(stored.windows[0], duration_s=10.0, energy_j=energy)],
        gaps=replace(stored.gaps, energy_j=0.0),
        energy_j=energy_j,
        generated_tokens=100,
    )


def test_energy_is_based_on_the_power_of_earlier_records_where_there_are_any():
    records = [record("a", "task", 1, joules) for joules in (100.0, 200.0, 300.0)]
    watts, basis = cost.power_of(records, 0)
    assert watts == pytest.approx([10, 20, 30])
    assert basis == "mean power of 3 earlier records of this study here (tier measured)"


def test_energy_without_records_is_assumed_from_the_processor_s_thermal_design_power():
    watts, basis = cost.power_of([], 0)
    power, named = cost.thermal_design_power()
    assert watts == pytest.approx([0.3 * power, 0.6 * power, power])
    assert basis.startswith("assumed") and named in basis and "measure" not in basis


def test_records_of_another_processor_or_not_of_the_plan_are_not_used(tmp_path):
    study = hand(tmp_path)
    here, elsewhere = record("llama_cpp", "task", 1, 10.0), record("llama_cpp", "task", 2, 10.0)
    before = elsewhere.environment.before
    another = replace(before, machine=replace(before.machine, cpu="another"))
    elsewhere = replace(elsewhere, environment=replace(elsewhere.environment, before=another))
    unplanned = record("llama_cpp", "task", 3, 10.0)
    planned = sorted(study.runs())
    third = planned[0]._replace(repetition=3)
    for run, made in zip((*planned, third), (here, elsewhere, unplanned), strict=True):
        write_record(study.record(run), made)
    assert cost.earlier_records(study) == [here]


def test_the_study_s_own_spread_is_that_of_its_blocks_ratios():
    records = [record("a", "task", block, 100.0) for block in (1, 2, 3)]
    assert forecast.own_variation(records) is None
    records += [record("b", "task", b, e) for b, e in ((1, 100.0), (2, 110.0), (3, 121.0))]
    # the logarithms of the ratios are 0, -log 1.1 and -2 log 1.1: their SD is log 1.1
    assert forecast.own_variation(records) == (pytest.approx(0.0953102), 3)


@pytest.mark.parametrize("tests", [1, 4])
def test_the_smallest_difference_is_that_of_the_analysis_for_the_same_family(tests):
    found = forecast.smallest_difference(0.03, 10, tests)
    assert found == pytest.approx(power_facts(0.03, 10, tests)["minimum_ratio"] - 1)
    assert found >= forecast.smallest_difference(0.03, 10, 1)


@pytest.mark.parametrize(("spread", "blocks"), [(0.03, 9), (0.05, 18)])
def test_five_percent_needs_the_blocks_of_the_power_table(spread, blocks):
    """The design's table: paired, alpha 0.05/3, power 0.9."""
    assert forecast.smallest_difference(spread, blocks, 3) <= 0.05
    assert forecast.smallest_difference(spread, blocks - 1, 3) > 0.05


def test_what_is_said_names_the_spread_as_that_of_the_ratio():
    study = Study(study="x", runtimes=("a", "b"), models=("1", "2", "3", "4"))
    said = "\n".join(forecast.differences(study, 10, forecast.OwnSpread(0.03, 10)))
    assert "4.7 % where the log ratio of a block has an SD of 3\u00a0%" in said
    # An SD of 3 % that 10 blocks have given may be one of 2.06 to 5.48 % (chi square).
    assert "this study's earlier records (10 blocks leave it open from 3.2 % to 8.7 %)" in said
    assert "(3.6 % if it were tested alone)" in said
    assert (
        "runs of a coefficient of variation of 2 % that have nothing in common give 2.8\u00a0%"
        in said
    )


def test_contrasts_make_the_family_smaller():
    three = Study(study="x", runtimes=("a", "b", "c"), models=("1", "2"))
    assert forecast.family(three) == 6
    two = replace(three, contrasts=(("a", "b"), ("a", "c")))
    assert forecast.family(two) == 4


ARMS = {
    "llama_cpp": {"runtime": "llama_cpp"},
    "flash": {"runtime": "llama_cpp", "settings": {"flash_attention": True}},
    "own": {"runtime": "llama_cpp", "settings": "as_installed"},
}


def test_each_arm_is_forecast_by_a_warm_up_of_its_own_settings(tmp_path):
    named = hand(tmp_path, runtimes=None, arms=ARMS)
    warmed(named)
    cells = cost.cells_of(named)
    assert set(cells) == {("made-up", name) for name in ARMS}
    assert [cells["made-up", name].measured for name in ARMS] == [True, False, False]
    warmed(named, arm="flash")
    assert not cost.cells_of(named)["made-up", "flash"].measured  # of the study's settings
    for name in ("flash", "own"):
        warmed(named, arm=name, own=True)
    assert all(cell.measured for cell in cost.cells_of(named).values())


def test_arms_are_counted_as_what_is_compared(tmp_path):
    named = hand(tmp_path, runtimes=None, arms=ARMS)
    assert forecast.family(named.study) == 3
    assert len(named.runs()) == 2 * 3
    chosen = hand(tmp_path, runtimes=None, arms=ARMS, contrasts=[["llama_cpp", "own"]])
    assert forecast.family(chosen.study) == 1
    alone = hand(tmp_path, runtimes=None, arms={"own": ARMS["own"]})
    assert forecast.differences(alone.study, 10, None) == ["one arm alone: nothing is compared"]


def test_the_gpu_s_power_counts_where_any_arm_has_layers_on_it(tmp_path):
    arms = ARMS | {"gpu": {"runtime": "llama_cpp", "settings": {"gpu_layers": 9}}}
    assert cost.most_gpu_layers(hand(tmp_path, runtimes=None, arms=ARMS).study) == 0
    assert cost.most_gpu_layers(hand(tmp_path, runtimes=None, arms=arms).study) == 9


def test_too_few_blocks_for_the_family_can_show_nothing(tmp_path):
    assert forecast.smallest_difference(0.01, 5, 1) is None
    assert forecast.smallest_difference(0.01, 6, 1) is not None
    assert forecast.smallest_difference(0.01, 6, 4) is None  # 0.031 is not below 0.05/4
    assert forecast.smallest_difference(0.01, 8, 4) is not None
    study = Study(study="x", runtimes=("a", "b"), models=("1", "2", "3", "4"))
    assert "8 blocks are the least" in "".join(forecast.differences(study, 6, None))
    assert "are the least" not in "".join(forecast.differences(study, 8, None))


@pytest.mark.parametrize("blocks", [1, 1024, 5000])
def test_any_number_of_blocks_can_be_forecast(tmp_path, blocks):
    study = hand(tmp_path, runtimes=["llama_cpp", "ollama"])
    lines = forecast.report(study, blocks, cost.cells_of(study), [])
    blocks_said = "1 block" if blocks == 1 else f"{blocks:,} blocks"
    assert ("runs", f"{2 * blocks:,} in {blocks_said}: {2 * blocks:,} task") in lines
    assert all("inf" not in text and "nan" not in text for _, text in lines)


def test_one_runtime_alone_is_compared_with_nothing():
    study = Study(study="x", runtimes=("a",), models=("1",))
    assert forecast.differences(study, 10, None) == ["one runtime alone: nothing is compared"]


def test_the_number_of_blocks_can_be_asked_for():
    assert forecast.blocks_of("", 10) == 10
    assert forecast.blocks_of("15", 10) == 15
    for bad in ("0", "-3", "many", "2.5"):
        with pytest.raises(UserError, match="whole number of blocks"):
            forecast.blocks_of(bad, 10)
    with pytest.raises(UserError, match="at most 100,000, which is years"):
        forecast.blocks_of("1000000000000", 10)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "joules.commands.forecast", *arguments],
        cwd=CHECKOUT,
        env={"PYTHONPATH": "workflow/scripts", "PATH": "/usr/bin:/bin", "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
    )


def test_the_article_s_study_fits_a_long_weekend_and_says_on_what_that_rests():
    done = run("config/study.yaml", "--blocks", "12")
    assert done.returncode == 0, done.stderr
    assert "240 in 12 blocks: " in done.stdout
    assert "16 differences are tested together" in done.stdout
    for part in ("48 control", "192 task", "basis: ", "kWh expected", "of models"):
        assert part in done.stdout
    assert "expected and not measured" in done.stdout
    study = load_study(CHECKOUT / "config/study.yaml")
    token_s = 1 / 8
    cell = cost.assumed_cell(round(token_s * cost.BANDWIDTH[1]), 0, 1024)
    cells = {(m, a): cell for m in study.study.models for a in study.study.compared}
    least, middle, most, _ = cost.total_s(study.study, cells, study.runs())
    assert middle < 62 * 3600
    quality_s = len(cells) * cost.run_s(cell, "quality", study.study, 1)
    run_minutes = cost.run_s(cell, "task", study.study, 1) / 60
    said = " ".join((CHECKOUT / "config/study.yaml").read_text().replace("#", " ").split())
    hours = (each / 3600 for each in (middle, least, most, quality_s))
    sums = [f"{each:.0f}" for each in (run_minutes, *hours)]
    found = re.search(
        r"a run of 20 takes (\d+) minutes: 240 of them and 16 warm-ups (\d+) hours, a long weekend "
        r"\((\d+) h at 10.5 tokens/s and 150 tokens, (\d+) h at 6.3 and 250\).*16 of 90 minutes, "
        r"(\d+) hours",
        said,
    )
    assert found and list(found.groups()) == sums


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("config/study.yaml", "--blocks", "none"), "BLOCKS is 'none'"),
        (("no-such.yaml",), "no-such.yaml"),
    ],
)
def test_a_bad_request_is_refused(arguments, message):
    done = run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr


def test_an_unknown_model_is_refused_by_name(tmp_path):
    (tmp_path / "own.yaml").write_text("study: own\nmodels: [parrot-1n]\nruntimes: [x]\n")
    done = run(str(tmp_path / "own.yaml"))
    assert done.returncode == 2
    assert "Unknown model 'parrot-1n'. Did you mean" in done.stderr


def test_a_forecast_writes_nothing(tmp_path):
    study = hand(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    cells = cost.cells_of(study)
    assert forecast.report(study, 3, cells, [])
    assert sorted(tmp_path.rglob("*")) == before
