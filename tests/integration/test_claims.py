"""What the article may say, and every number that it states."""

import math

import msgspec
import pytest
from synthetic_articles import asked_of
from synthetic_tables import study_tables

from joules.analyse.study_statistics import statistics
from joules.core.catalogue import catalogue_from
from joules.core.plan import Run
from joules.core.study import Carbon
from joules.write.claims import TABLES, claims
from joules.write.claims_file import FlaggedRun, read_claims, write_claims
from joules.write.published_scores import PublishedShare, published_scores
from joules.write.study_facts import representative_records, study_facts

RUNTIMES = ("ollama", "llama_cpp")
SEED = 5  # with which no null control finds anything by chance


def claims_of(folder, published=None, **options):
    """Return the tables of a synthetic study, and its claims as read from their file."""
    study, tables = study_tables(folder, **options)
    records = representative_records(study.records, tables.runs)
    asked = asked_of(study.config)
    facts = study_facts(tables.runs, records, asked, tables.attempts, tables.validity)
    found = statistics(tables.runs, tables.tasks, list(study.config.compared))
    assert set(TABLES) == set(found)
    write_claims(folder / "claims.json", claims(facts, found, published))
    return tables, read_claims(folder / "claims.json")


CELL_NAMES = [
    "energy_j_per_token",
    "energy_j_per_task",
    "energy_j_per_correct",
    "tokens_per_s",
    "power_w",
    "duration_s",
    "pass_at_1",
    "passed",
    "graded",
    "truncated_share",
    "aborted_share",
    "gco2e_per_1000_tasks",
    "generated_tokens",
    "cv",
    "energy_j",
    "load_energy_j",
    "load_duration_s",
    "idle_power_w",
    "resident_power_w",
    "dram_share",
    "prefill_share",
    "gap_share",
    "residency_power_w",
    "prefill_j_per_token",
    "decode_j_per_token",
    "overhead_j_per_task",
    "direct_tasks",
    "direct_prefill_j_per_token",
    "direct_decode_j_per_token",
]
PAIR_NAMES = [
    "ratio",
    "p_value",
    "p_holm",
    "p_size_holm",
    "p_equivalence",
    "p_equivalence_holm",
    "verdict",
    "no_claim_reason",
    "ratio_simultaneous",
    "n_blocks",
    "sd_log_ratio",
    "power_for_margin",
    "hedges_g",
    "cliffs_delta",
    "minimum_ratio",
    "n_for_margin",
    "same_text_share",
    "both_pass",
    "only_a",
    "only_b",
    "neither",
    "p_mcnemar",
    "flips",
    "compared_prompts",
    "first_difference_token",
]
CONTROL_NAMES = ["ratio", "p_value", "p_holm", "verdict", "n_blocks"]


def test_every_claim_of_the_contract_is_there_even_where_it_has_no_value(tmp_path):
    _, found = claims_of(tmp_path, blocks=1, tier="estimated")
    for model in ("parrot-1m", "parrot-3m"):
        for runtime in ("ollama", "llama_cpp"):
            assert {f"cell.{model}.{runtime}.{name}" for name in CELL_NAMES} <= set(found.claims)
        pair = f"pair.{model}.ollama.llama_cpp"
        assert {f"{pair}.{name}" for name in PAIR_NAMES} <= set(found.claims)
        assert {f"control.{model}.{name}" for name in CONTROL_NAMES} <= set(found.claims)
    assert found.claims["pair.parrot-1m.ollama.llama_cpp.p_holm"].value is None
    assert found.claims["cell.parrot-1m.ollama.dram_share"].value is None
    compared = {
        name for name, claim in found.claims.items() if claim.claimable is not msgspec.UNSET
    }
    assert {name.split(".")[0] for name in compared} == {
        *("pair", "omnibus", "break_even", "sensitivity"),
        *("correct", "problems", "explains", "use"),
    }
    assert not any(found.claims[name].claimable for name in compared)


def test_nothing_estimated_may_be_claimed_however_clear_it_looks(tmp_path):
    _, found = claims_of(tmp_path, blocks=8, ratios={"llama_cpp": 4.7}, tier="estimated")
    assert found.permission.energy_difference is False
    verdict = found.claims["pair.parrot-1m.ollama.llama_cpp.verdict"]
    assert (verdict.value, verdict.tier, verdict.claimable) == ("no claim", "estimated", False)
    assert found.claims["use.parrot-1m.ollama.llama_cpp.kwh_per_year"].value is None
    assert not any(name.startswith("rank.") for name in found.claims)


def test_what_was_measured_may_be_claimed_and_names_its_source(tmp_path):
    tables, found = claims_of(tmp_path, blocks=8, ratios={"llama_cpp": 1.2}, seed=SEED)
    assert found.permission.energy_difference is True
    ratio = found.claims["pair.parrot-3m.ollama.llama_cpp.ratio"]
    assert ratio.low < ratio.value < ratio.high < 1
    assert (ratio.n, ratio.claimable) == (8, True)
    assert ratio.source == (
        "statistics/comparisons.csv model=parrot-3m runtime_a=ollama runtime_b=llama_cpp kind=task"
    )
    runs = tables.runs
    own = runs[(runs["model"] == "parrot-3m") & (runs["runtime"] == "ollama")]
    own = own[own["kind"] == "task"]
    carbon = found.claims["cell.parrot-3m.ollama.gco2e_per_1000_tasks"]
    grams = own["energy_j"].mean() / own["tasks"].iloc[0] * 1000 / 3.6e6 * 268
    assert carbon.value == pytest.approx(grams, rel=1e-6)


def test_the_study_says_where_when_and_on_what_it_was_measured(tmp_path):
    bad = Run("parrot-1m", "ollama", "task", 2)
    _, found = claims_of(tmp_path, blocks=2, invalid=[bad])
    study = found.study
    assert [model.name for model in study.models] == ["parrot-1m", "parrot-3m"]
    assert [runtime.label for runtime in study.runtimes] == ["Ollama", "llama-cpp-python"]
    assert (study.runs, study.valid_runs, study.blocks, study.problems) == (
        12,
        11,
        2,
        10,
    )
    assert study.control_runtime is None, "the runtimes take turns"
    assert study.measured_on == "2026-11-25"
    assert study.machine.memory_gb == pytest.approx(17.18, abs=0.01)
    assert study.carbon == Carbon(grams_per_kwh=268, country_iso_code="NLD", source="ember2024")
    broken = FlaggedRun("parrot-1m", "ollama", "task", 2, valid=False, codes=["foreign_cpu"])
    assert study.invalid_runs == [broken]


def test_each_kind_has_its_numbers_and_the_question_that_it_answers(tmp_path):
    kinds = ("task", "control", "fixed", "quality")
    _, found = claims_of(tmp_path, kinds=kinds, blocks=3)
    assert list(found.study.questions) == sorted(kinds)
    for kind in kinds:
        claim = found.claims[f"kind.{kind}.parrot-1m.ollama.energy_j_per_token"]
        control = {1, 2}  # of three blocks: two runtimes take turns
        runs = control if kind == "control" else {1 if kind == "quality" else 3}
        assert claim.value > 0 and claim.n in runs
    assert "fixed.parrot-1m.ollama.llama_cpp.p_holm" in found.claims
    assert not any(name.startswith("quality.") for name in found.claims)


def test_break_even_ranking_sensitivity_and_counts_have_claims(tmp_path):
    _, found = claims_of(
        tmp_path, blocks=8, ratios={"llama_cpp": 1.2}, seed=SEED, models=("parrot-1m",)
    )
    stated = found.claims
    rank = stated["rank.parrot-1m.llama_cpp.rank"]
    assert (rank.value, type(rank.value)) == (2, int)
    assert stated["rank.parrot-1m.ollama.tied_with"].value == ""
    pair = "parrot-1m.ollama.llama_cpp"
    assert stated[f"break_even.{pair}.break_even_tasks"].value is None
    assert "any number" in stated[f"break_even.{pair}.note"].value
    primary = stated[f"sensitivity.{pair}.sign_flip.ratio"].value
    assert primary == stated[f"pair.{pair}.ratio"].value
    mixed = stated[f"sensitivity.{pair}.mixed_model.ratio"]
    assert mixed.value == pytest.approx(primary, rel=0.01)
    labels = found.study.verdict_labels
    counts = [stated[f"verdicts.parrot-1m.ollama.{label}"] for label in labels]
    assert sum(count.value for count in counts) == counts[0].n == 10
    assert stated["rules.parrot-1m.ollama.body"].value == 10
    assert stated["noise.largest_cv"].value > 0 and stated["drift.p_kendall"].n == 24
    assert stated["omnibus.parrot-1m.p_friedman"].value is None
    assert stated["contested.parrot-1m.ollama.graded_without"].value == 10


def test_what_explains_a_comparison_has_claims(tmp_path):
    _, found = claims_of(
        tmp_path, blocks=8, ratios={"llama_cpp": 1.2}, seed=SEED, models=("parrot-1m",)
    )
    stated, pair = found.claims, "parrot-1m.ollama.llama_cpp"
    product = (stated[f"explains.{pair}.{part}"].value for part in ("power_w", "seconds_per_token"))
    assert math.prod(product) == pytest.approx(stated[f"pair.{pair}.ratio"].value, rel=1e-8)
    assert stated[f"correct.{pair}.ratio"].low < stated[f"correct.{pair}.ratio"].value
    assert stated["texts.parrot-1m.ollama"].value == 1.0
    assert stated[f"texts.{pair}"].value == 0.9
    # 1,000 tasks a day on 220 days; what the second needs more is the difference, negative here
    yearly = {name: stated[f"use.parrot-1m.{name}.kwh_per_year"].value for name in RUNTIMES}
    joule = stated["cell.parrot-1m.ollama.energy_j_per_task"].value
    assert yearly["ollama"] == pytest.approx(joule * 220_000 / 3.6e6)
    apart = stated[f"use.{pair}.kwh_per_year"].value
    assert apart == pytest.approx(yearly["ollama"] - yearly["llama_cpp"]) and apart < 0


def test_a_score_far_from_the_published_one_is_a_warning_with_both_numbers(tmp_path):
    published = {"parrot-1m": PublishedShare(0.99, "a paper")}
    kinds = ("task", "quality")
    _, found = claims_of(tmp_path, published, kinds=kinds, blocks=1, runtimes=("ollama",))
    warning = next(w for w in found.study.warnings if w.gate == "published_score")
    assert "99.0 %" in warning.text and f"{100 * warning.seen:.1f} %" in warning.text
    assert found.claims["published.parrot-1m.pass_at_1"].source == "a paper"


def test_a_score_near_the_published_one_is_no_warning(tmp_path):
    published = {"parrot-1m": PublishedShare(0.62, "a paper")}
    kinds = ("task", "quality")
    _, found = claims_of(tmp_path, published, kinds=kinds, blocks=1, runtimes=("ollama",))
    assert not [w for w in found.study.warnings if w.gate == "published_score"]


def test_many_cut_answers_are_flagged(tmp_path):
    _, found = claims_of(tmp_path, blocks=1, problems=164)
    flags = [w for w in found.study.warnings if w.gate == "truncated"]
    assert flags and all(flag.seen > flag.limit == 0.05 for flag in flags)


def test_published_scores_are_read_as_shares_of_one():
    entry = {"url": "https://example.org/m.gguf", "license": "MIT", "prompt_style": "base"}
    scored = entry | {"published_pass_at_1": {"value": 61.6, "source": "s"}}
    catalogue = catalogue_from({"models": {"m": scored, "n": entry}})
    found = published_scores(catalogue, ["m", "n", "o"])
    assert found == {"m": PublishedShare(pytest.approx(0.616), "s")}


def test_settings_that_a_runtime_cannot_hold_or_show_are_told_apart(tmp_path):
    _, found = claims_of(tmp_path, blocks=1)
    by_setting = {row.setting: row.runtimes for row in found.study.cannot_hold}
    assert by_setting["context_length"] == {"ollama": "observed", "llama_cpp": "observed"}
    assert set(by_setting["temperature"].values()) == {"unobservable"}


def test_invalid_attempts_are_listed_with_what_was_seen(tmp_path):
    run = Run("parrot-1m", "ollama", "task", 2)
    _, found = claims_of(tmp_path, blocks=2, attempts=[run])
    (attempt,) = found.study.attempts
    assert (attempt.block, attempt.attempt, attempt.code) == (2, 1, "foreign_cpu")
    assert float(attempt.seen) == 0.05 and float(attempt.limit) == 0.02
    checks = {check.code: check for check in found.study.checks}
    assert (checks["foreign_cpu"].runs, checks["foreign_cpu"].broken) == (12, 0)
