"""Studies whose configuration names arms, by the way of the rules, up to the article."""

import re

import msgspec
import pytest
from synthetic_arms import ARMS, CONTRASTS, ENGINES
from synthetic_articles import FIGURES, PUBLISHED, claimed

from joules.analyse import sensitivity
from joules.write.claims_file import Claims, read_claims, write_claims
from joules.write.template_functions import Article

# Words that an article has only where arms are named.
OF_ARMS = re.compile(
    r"\barms?\b(?! of pairs)|as installed|What each contrast answers|Builds of llama|secondary|"
    r"\bFamily\b|Otherwise|own choice"
)


@pytest.fixture(scope="module", autouse=True)
def no_mixed_models():
    """Leave out the mixed models of the sensitivity analysis: seconds for each pair."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sensitivity, "MOST_ANSWERS", 0)
        yield


@pytest.fixture(scope="module")
def study(tmp_path_factory, no_mixed_models):
    """Six arms of two runtimes, and the five contrasts between them."""
    return claimed(
        tmp_path_factory.mktemp("arms"),
        arms=ARMS,
        engines=ENGINES,
        contrasts=CONTRASTS,
        models=("parrot-1m",),
        blocks=12,
        problems=2,
        seed=1,
        ratios={"llama_cpp": 1.3, "llama_cpp-stock": 1.25, "ollama-as-installed": 0.9},
    )


@pytest.fixture(scope="module")
def text(study):
    return study.text()


@pytest.fixture(scope="module")
def article(study):
    return Article(study.claims, PUBLISHED, FIGURES)


def test_claims_hold_what_each_arm_is_and_are_read_again(study, tmp_path):
    write_claims(tmp_path / "claims.json", study.claims)
    read = read_claims(tmp_path / "claims.json").study
    assert [runtime.name for runtime in read.runtimes] == list(ARMS)
    by_name = {runtime.name: runtime for runtime in read.runtimes}
    flash, alone = by_name["llama_cpp-flash"], by_name["ollama-as-installed"]
    assert (flash.label, flash.module) == ("llama-cpp-python, flash attention on", "llama_cpp")
    assert flash.arm.stated == {"flash_attention": True} and not flash.holds_equal
    assert alone.as_installed and alone.arm.asked["threads"] is None
    assert alone.arm.in_force["threads"] == 2 and "prompt_cache" not in alone.arm.in_force
    assert by_name["llama_cpp-stock"].arm.options == {"library": "stock"}
    assert read.settings["threads"] == 1 and read.settings["flash_attention"] is False


def test_the_article_says_who_holds_the_settings_of_the_study_and_who_does_not(text):
    assert (
        "Ollama, llama-cpp-python, llama-cpp-python (library stock) and Ollama 0.31.0 hold the "
        "settings of the study. llama-cpp-python (flash attention on) differs in flash attention "
        "(on). Ollama (as installed) was told the context length, the longest answer and greedy "
        "decoding, and nothing else; the rest is its own choice."
    ) in text
    first_page = text.split("## Introduction")[0]
    assert "on six arms of two runtimes (Ollama, llama-cpp-python, Ollama (as" in first_page
    for sentence in re.split(r"(?<=\.)\s", text):
        if "same settings" in sentence:
            assert "Arms that state nothing else" in sentence or "change?" in sentence, sentence


def test_the_table_of_settings_leaves_out_what_is_as_installed(text):
    methodology = text.split("## Methodology")[1].split("## Results")[0]
    rows = [line for line in methodology.splitlines() if line.startswith("| ")]
    assert (
        "| flash attention | no | yes in llama-cpp-python (flash attention on) | – | Ollama, "
        "llama-cpp-python, llama-cpp-python (library stock) and Ollama 0.31.0 |"
    ) in rows
    assert "| prompt cache | no | – | Ollama and Ollama 0.31.0 | all |" in rows
    asked, chosen = methodology.split("| Setting | Ollama, as installed |")
    assert "as installed) |" not in asked.split("| Setting | Value")[1]
    assert "| threads | 2 |" in chosen and "| KV cache" not in chosen
    assert "| prompt cache | its own choice, not shown |" in chosen


def test_the_table_of_settings_held_tells_asked_from_chosen(article):
    held = {row.setting: row.runtimes for row in article.study.cannot_hold}
    assert held["threads"]["ollama-as-installed"] == "2, its own choice"
    assert held["prompt_cache"]["ollama-as-installed"] == "its own choice, not shown"
    assert held["flash_attention"]["llama_cpp-flash"] == "yes, observed"
    assert held["prompt_cache"]["ollama"] == "cannot hold"
    assert held["max_tokens"]["ollama-as-installed"] == "unobservable"


def test_each_contrast_has_its_question_and_its_verdict(text):
    section = text.split("### What each contrast answers\n")[1].split("\n### ")[0]
    lines = [line for line in section.splitlines() if line.startswith("- **")]
    titles = [re.match(r"- \*\*(.*?)\.\*\*", line)[1] for line in lines]
    assert titles == ["The wrapper", "The defaults", "The release", "The engine", "One setting"]
    endings = [line.rsplit(" changes. ", 1)[-1].rsplit(". ", 1)[-1] for line in lines]
    assert "Ollama needs 23\u00a0% less energy per token than llama-cpp-python" in lines[0]
    assert "Ollama (as installed) needs 9.9\u00a0% less energy per token than Ollama" in lines[1]
    assert "are equal within 5 % with parrot-1m." in endings[2]
    assert "is 551 builds and 42 days newer than that of llama-cpp-python. " in lines[3]


def test_secondary_pairs_are_called_secondary_and_are_in_no_summary(text, article):
    note = "10 further comparisons are secondary: no question of this study, and corrected apart."
    assert text.split("## Introduction")[0].count(note) == 1
    assert sum(article.verdict_counts().values()) == len(CONTRASTS)
    assert "| Family |" in text
    first = text.split("| Family |")[1].split("\n\n")[0]
    rows = [line for line in first.splitlines() if " | token | " in line]
    families = [line.split(" | ")[3] for line in rows]
    assert families.count("primary") == 5 and families.count("secondary") == 10
    pair = next(pair for pair in article.pairs() if article.is_secondary(pair))
    assert article.sentence(pair).startswith("parrot-1m (secondary): ")
    assert not any(article.is_secondary(pair) for pair in article.primary_pairs())


def test_a_runtime_of_several_arms_is_described_once(article, text):
    assert len(article.descriptions()) == 2
    assert text.count(article.descriptions()[0]) == 1
    assert len(article.limitations()) == len(set(article.limitations()))


def test_facts_that_arms_share_are_told_once(article):
    rows = {row.name: row.value for row in article.software_rows()}
    assert rows["Ollama"] == "0.34.0", "that of most of its arms"
    assert rows["Ollama 0.31.0"] == "0.31.0" and rows["llama-cpp-python"] == "0.3.36"
    assert rows["llama-cpp-python (library stock): llama cpp build"] == 11311
    assert rows["llama-cpp-python: llama cpp build"] == 10760


def test_names_become_labels_in_one_pass_and_the_longest_first(article):
    for name, label in {
        "ollama": "Ollama",
        "ollama-as-installed": "Ollama (as installed)",
        "ollama-0.31": "Ollama 0.31.0",
        "llama_cpp-flash": "llama-cpp-python (flash attention on)",
    }.items():
        assert article.labelled(f"parrot on {name}: odd.") == f"parrot on {label}: odd."
        assert article.labelled(f"{name} needs less below.") == f"{label} needs less below."
    assert article.labelled("ollama/x and my-ollama stay") == "ollama/x and my-ollama stay"


def test_a_name_inside_a_label_is_not_replaced(article):
    named = msgspec.structs.replace(article.study.runtimes[0], name="stock", label="Stock of all")
    labels = [named, *article.study.runtimes[1:]]
    other = msgspec.structs.replace(article.study, runtimes=labels)
    changed = Article(Claims(other, article.permission, article.claims), PUBLISHED)
    said = changed.labelled("stock and llama-cpp-python, library stock and llama_cpp-stock")
    stock = "llama-cpp-python (library stock)"
    assert said == f"Stock of all and {stock} and {stock}"


def test_ties_of_arms_are_told_apart(study):
    tied = study.tables["ranking"].set_index("runtime")["tied_with"]
    assert tied["ollama"] == "llama-cpp-python, flash attention on; Ollama 0.31.0"


def test_a_study_of_runtimes_alone_has_no_word_and_no_field_of_arms(tmp_path):
    plain = claimed(tmp_path, models=("parrot-1m",), blocks=8, problems=2, seed=5)
    found = OF_ARMS.findall(plain.text())
    assert found == []
    stored = msgspec.to_builtins(plain.claims)["study"]
    assert not any("arm" in runtime for runtime in stored["runtimes"])


def test_runtimes_whose_engines_are_known_have_their_contrast_without_arms(tmp_path):
    plain = claimed(tmp_path, models=("parrot-1m",), blocks=8, problems=2, seed=5, engines=ENGINES)
    text = plain.text()
    assert "- **The wrapper.** Ollama and llama-cpp-python share one and the same engine" in text
    assert "| llama-cpp-python | 0.3.36 | b10760 |" in text
    assert "All runtimes get the same settings;" in text and "**Arms.**" not in text
