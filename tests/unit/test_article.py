"""The article from invented claims; pandoc and typst are the real ones."""

import itertools
import re
from pathlib import Path

import matplotlib
import msgspec
import pypandoc
import pytest
import yaml
from invented_claims import (
    FIGURES,
    MODELS,
    PAPER,
    PUBLISHED,
    RUNTIMES,
    SECTIONS,
    make_claims,
    write_runs,
)
from matplotlib.figure import Figure

from joules import meters, runtimes
from joules.core.errors import UserError
from joules.core.files import read_json, write_json
from joules.core.wording import cell_text, p_value, percent, significant
from joules.write.claims_file import (
    AnswerWarning,
    Check,
    Claim,
    Claims,
    InvalidAttempt,
    RegistrationFacts,
    StudyFacts,
    read_claims,
    write_claims,
)
from joules.write.rendering import (
    TEMPLATE_MARKDOWN,
    bibliography_keys,
    citation_keys,
    front_matter,
    render,
    write_article,
)
from joules.write.template_functions import Article
from joules.write.typesetting import typeset

replace = msgspec.structs.replace
Invented = dict[str, int | float | str | bool]  # arguments of `make_claims`


def article_of(claims: Claims[StudyFacts], **changed_facts: object) -> Article:
    """Return an Article of claims with all figures; facts of the study may be others."""
    changed = replace(claims, study=replace(claims.study, **changed_facts))
    return Article(changed, PUBLISHED, [f"{name}.svg" for name in FIGURES])


def make_article(**arguments: int | float | str | bool) -> Article:
    """Return an Article of invented claims with all figures."""
    return article_of(make_claims(**arguments))


DEMONSTRATION: Invented = {}
MEASURED: Invented = {
    "models": 4,
    "tier": "measured",
    "demonstration": False,
    "verdict": "more than 5 % apart",
}
VARIANTS: dict[str, Invented] = {
    "demonstration": DEMONSTRATION,
    "measured": MEASURED,
    "sampled": MEASURED | {"tier": "sampled"},
    "estimated": MEASURED | {"tier": "estimated"},
    "measured demonstration": {"tier": "measured"},
    "open": MEASURED | {"verdict": "open"},
    "equal": MEASURED | {"verdict": "equal within 5 %", "ratio": 1.01},
    "one model, eight runtimes": MEASURED | {"models": 1, "runtimes": 8},
    "three runtimes": MEASURED | {"models": 3, "runtimes": 3},
}


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """Return the rendered Markdown of every variant."""
    return {name: render(make_article(**kind), PAPER) for name, kind in VARIANTS.items()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return the folders of two builds of the demonstration article from the same inputs."""
    folders = []
    for number in (1, 2):
        root = tmp_path_factory.mktemp(f"build{number}")
        build(root, make_claims())
        folders.append(root / "article")
    return folders


def build(root: Path, claims: Claims[StudyFacts]) -> None:
    """Write claims and stand-in figures below `root`, then article.md, .html and .pdf."""
    for folder in ("figures", "article"):
        (root / folder).mkdir(exist_ok=True)
    figure = Figure(figsize=(7, 2))
    figure.subplots().plot([1, 2, 3])
    with matplotlib.rc_context({"svg.hashsalt": "article"}):
        for name in FIGURES:
            figure.savefig(root / "figures" / f"{name}.svg", metadata={"Date": None})
            figure.savefig(root / "figures" / f"{name}.pdf", metadata={"CreationDate": None})
    write_claims(root / "claims.json", claims)
    write_runs(root / "runs.csv", claims)
    markdown = root / "article" / "article.md"
    figures = [root / "figures" / f"{name}.svg" for name in FIGURES]
    linked = markdown.with_suffix(".linked.md")
    write_article(root / "claims.json", figures, PAPER, markdown, linked)
    made = (markdown.with_suffix(".html"), markdown.with_suffix(".pdf"))
    typeset(markdown, linked, root / "claims.json", root / "runs.csv", PAPER, *made)


def results_of(text: str) -> str:
    """Return the Results section of the template or of a rendered article."""
    return text.split("\n## Results\n")[1].split("\n## Discussion\n")[0]


def captions_of(text: str) -> list[str]:
    """Return the captions of all figures and tables with numbers of this study."""
    figures = re.findall(r"^!\[(.*)\]\(\.\./figures/", text, flags=re.MULTILINE)
    return figures + re.findall(r"^: (.*)$", results_of(text), flags=re.MULTILINE)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_article_has_all_sections_in_order(texts: dict[str, str], name: str) -> None:
    headings = re.findall(r"^## (.*)$", texts[name], flags=re.MULTILINE)
    assert headings == [*SECTIONS, "Appendix", "References"]


@pytest.mark.parametrize("name", VARIANTS)
def test_no_section_is_empty_and_no_gap_is_left(texts: dict[str, str], name: str) -> None:
    for section in re.split(r"^## ", texts[name], flags=re.MULTILINE)[1:-1]:
        assert len(section.split()) > 50, section.splitlines()[0]
    assert "TODO" not in texts[name]
    assert "..." not in texts[name]
    assert "  |  " not in texts[name]


@pytest.mark.parametrize("name", VARIANTS)
def test_headings_and_tables_stand_in_paragraphs_of_their_own(
    texts: dict[str, str], name: str
) -> None:
    lines = texts[name].splitlines()
    for before, line in itertools.pairwise(lines):
        assert not re.search(r"[^#\s].*#{2,3} ", line), line
        if line.startswith(("#", "![", ": ", "**", "> **")):
            assert not before.strip(), f"{before!r} runs into {line!r}"


@pytest.mark.parametrize("name", VARIANTS)
def test_every_row_of_a_table_has_as_many_cells_as_its_heading(
    texts: dict[str, str], name: str
) -> None:
    for block in texts[name].split("\n\n"):
        rows = [line for line in block.splitlines() if line.startswith("|")]
        widths = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
        assert len(widths) <= 1, block


DIGITS_IN_IDS = (
    *("gco2e_per_1000_tasks", "pass_at_1", "pass_at_1_without", ".pass_at_1", ".pass_at_1_without"),
)


def test_pandoc_reads_the_same_article_without_looking_for_html() -> None:
    text = render(make_article(**MEASURED, p_control=0.0005), PAPER)
    assert "< 0.001" in text
    read, with_html = (
        pypandoc.convert_text(text, "native", format=markdown)
        for markdown in (TEMPLATE_MARKDOWN, "markdown")
    )
    assert read == with_html


def test_no_digit_is_typed_into_the_results() -> None:
    """Names of figures and expressions are taken out; `pass@1` and `CO₂e` come as variables."""
    template = (PAPER / "article.md.j2").read_text(encoding="utf-8")
    results = results_of(template)
    strings = re.findall(r'"([^"]*)"', results)
    typed = re.sub(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", "", results, flags=re.DOTALL)
    assert len(typed.split()) > 200
    assert re.findall(r"[0-9].{0,30}", typed) == []
    for string in strings:
        assert not re.search(r"[0-9]", string) or string in DIGITS_IN_IDS, string


def test_the_template_names_no_runtime_but_in_the_literature() -> None:
    """What is said of one runtime is said by its module, and only where it is compared."""
    template = (PAPER / "article.md.j2").read_text(encoding="utf-8")
    before, literature = template.split("\n## Relevant Literature\n")
    own = before + literature.split("\n## Methodology\n")[1]
    labels = {runtimes.load(name).LABEL for name in runtimes.names()}
    assert "Ollama" in labels and len(labels) >= 8
    assert [
        label for label in labels if label.lower() in re.sub(r"\[@\w+\]", "", own.lower())
    ] == []


def test_what_was_tried_with_a_runtime_is_said_where_it_is_compared() -> None:
    text = render(make_article(), PAPER)
    assert "- *Threads.* In trial runs" in text and "the lower call `generate`" in text
    assert "A user of either way gets other numbers than ours." in text
    ollama = render(make_article(runtimes=1), PAPER)
    assert "- *Threads.* In trial runs" in ollama and "the lower call `generate`" not in ollama
    assert "A user of this way gets other numbers than ours." in ollama


def test_a_study_that_compares_nothing_confirms_nothing() -> None:
    plan = RegistrationFacts(
        sha256="ab" * 32, registered_on="2026-11-20T08:00:00Z", confirmatory=True
    )
    alone = render(article_of(make_claims(runtimes=1), registration=plan), PAPER)
    said = "Nothing is compared here, so nothing is confirmed. The plan was registered on"
    assert said in alone and "confirmatory" not in alone
    two = render(article_of(make_claims(), registration=plan), PAPER)
    assert "This result is **confirmatory**. The plan was registered on" in two


def test_every_number_of_the_results_follows_the_claims() -> None:
    before = results_of(render(make_article(), PAPER))
    claims = make_claims()
    for claim_id, claim in claims.claims.items():
        numbers = {key: getattr(claim, key) for key in ("value", "low", "high")}
        sevens = {key: 7 for key, value in numbers.items() if isinstance(value, (int, float))}
        claims.claims[claim_id] = replace(claim, **sevens)
    after = render(article_of(claims), PAPER)
    rows = [row for row in results_of(after).splitlines() if row.startswith("| parrot")]
    # n of a row of tests and of texts is of its claim, and not the claim's value.
    numbers = [
        number
        for row in rows
        for number in re.findall(r"\d[\d.,]*", re.sub(r"parrot-\dm|pass@1|\| 5 \|", "", row))
    ]
    assert len(numbers) > 100
    assert {float(number.strip(",.")) for number in numbers} <= {7.0, 700.0}
    assert results_of(after) != before


@pytest.mark.parametrize("name", VARIANTS)
def test_every_citation_has_an_entry(texts: dict[str, str], name: str) -> None:
    bibtex = (PAPER / "references.bib").read_text(encoding="utf-8")
    assert citation_keys(texts[name]) <= bibliography_keys(bibtex)


def test_every_entry_of_the_bibliography_is_cited(texts: dict[str, str]) -> None:
    bibtex = (PAPER / "references.bib").read_text(encoding="utf-8")
    of_meters = " ".join(meters.load(name).DESCRIPTION for name in meters.names())
    cited = citation_keys(texts["demonstration"]) | citation_keys(of_meters)
    assert cited == bibliography_keys(bibtex)


def test_a_citation_without_an_entry_is_refused_by_name() -> None:
    claims = make_claims()
    article = article_of(claims, carbon=replace(claims.study.carbon, source="nobody1900"))
    with pytest.raises(UserError, match="nobody1900"):
        render(article, PAPER)


def test_an_unknown_claim_is_refused_by_name() -> None:
    article = make_article()
    del article.claims["control.parrot-1m.ratio"]
    with pytest.raises(UserError, match=r"control\.parrot-1m\.ratio"):
        render(article, PAPER)


def test_an_unknown_name_in_the_template_is_refused(tmp_path: Path) -> None:
    (tmp_path / "article.md.j2").write_text("{{ nonsense }}")
    with pytest.raises(UserError, match="nonsense"):
        render(make_article(), tmp_path)


def test_a_figure_that_was_not_made_is_refused_by_name() -> None:
    article = make_article()
    article.figures.remove("order")
    with pytest.raises(UserError, match="'order'"):
        render(article, PAPER)


@pytest.mark.parametrize("missing", ["permission", "study.runtimes", "study.machine.cpu"])
def test_claims_without_a_part_are_refused_by_its_name(tmp_path: Path, missing: str) -> None:
    file = tmp_path / "claims.json"
    write_claims(file, make_claims())
    assert read_claims(file).study == make_claims().study
    content = read_json(file)
    *outer, key = missing.split(".")
    part = content
    for name in outer:
        part = part[name]
    del part[key]
    write_json(file, content)
    with pytest.raises(UserError, match=rf"claims\.json .*`{key}`.*rule `claim`"):
        read_claims(file)


def test_a_number_that_is_a_text_is_refused_by_its_claim() -> None:
    claims = make_claims()
    ratio = claims.claims["control.parrot-1m.ratio"]
    claims.claims["control.parrot-1m.ratio"] = replace(ratio, value="about one")
    with pytest.raises(UserError, match=r"control\.parrot-1m\.ratio.*about one"):
        render(article_of(claims), PAPER)


def test_the_article_has_the_date_of_the_data_and_the_front_matter_of_the_draft() -> None:
    lines = front_matter(make_article(), PAPER)
    metadata = yaml.safe_load(lines.split("---\n")[1])
    assert metadata["date"] == "25/11/2026"
    assert metadata["draft_date"] == "19/02/2025"
    assert metadata["title"] == (
        "Comparing the energy efficiency of different LLM inference runtimes"
    )
    assert metadata["author"].startswith("Victor Hornet, Elena Mihalache")
    assert {"image", "summary"} <= metadata.keys()


def test_a_study_without_a_date_is_refused() -> None:
    article = article_of(make_claims(), measured_on="yesterday")
    with pytest.raises(UserError, match="yesterday"):
        front_matter(article, PAPER)


@pytest.mark.parametrize("name", ["demonstration", "estimated"])
def test_modelled_energy_is_called_so_on_the_first_page_and_in_every_caption(
    texts: dict[str, str], name: str
) -> None:
    first_page, _ = texts[name].split("## Introduction")
    assert "Energy is modelled, not measured." in first_page
    assert "No energy difference is claimed." in first_page
    captions = captions_of(texts[name])
    assert len(captions) >= 15
    for caption in captions:
        assert "modelled, not measured" in caption


@pytest.mark.parametrize("name", ["demonstration", "measured demonstration"])
def test_the_demonstration_says_what_it_cannot_show(texts: dict[str, str], name: str) -> None:
    first_page, _ = texts[name].split("## Introduction")
    assert "This is the demonstration study." in first_page
    assert "smallest possible p-value is 0.0625, so no difference can be shown" in first_page
    assert "trained on the test set: their quality scores mean nothing" in first_page
    for caption in captions_of(texts[name]):
        assert "Demonstration study" in caption
        assert "0.0625" in caption
        assert "trained on the test set" in caption


def test_a_measured_study_has_no_such_caveat(texts: dict[str, str]) -> None:
    for words in ("modelled", "emonstration study.**", "trained on the test set"):
        assert words not in texts["measured"]


def test_a_permitted_difference_is_stated_with_its_evidence(texts: dict[str, str]) -> None:
    results = results_of(texts["measured"])
    assert (
        "deepseek-coder-6.7b-instruct: Ollama needs 10\u00a0% less energy per token than "
        "llama-cpp-python, more than 5 % apart (ratio 0.900, 95\u00a0% interval [0.873, 0.927], "
        "[0.864, 0.936] for all together; adjusted p 0.012)."
    ) in results


def test_the_runtime_with_the_smaller_energy_is_named_whichever_comes_first() -> None:
    text = render(make_article(**MEASURED | {"ratio": 1.25}), PAPER)
    assert "llama-cpp-python needs 20\u00a0% less energy per token than Ollama" in text


@pytest.mark.parametrize("name", ["demonstration", "estimated", "measured demonstration"])
def test_without_permission_no_runtime_is_said_to_need_less(
    texts: dict[str, str], name: str
) -> None:
    assert not re.search(r"needs \S+ % less|needs \S+\u00a0% less", texts[name])
    assert "We make no claim about which runtime needs less energy." in texts[name]
    table = [row for row in results_of(texts[name]).splitlines() if row.startswith("| ")]
    assert not any("apart" in row or "equal within 5" in row for row in table)
    assert sum(row.endswith("| no claim |") for row in table) >= 2 * 3  # per pair and table
    assert all("No difference in energy is claimed." in each for each in captions_of(texts[name]))


def test_gpu_energy_is_called_so_on_the_first_page_in_captions_and_in_claims() -> None:
    article = make_article(**MEASURED | {"ratio": 1.25})
    reason = (
        "GPU energy comes from counters. The processor's energy is modelled (cpu_load), and is no "
        "part of it."
    )
    study = replace(article.study, energy="gpu", tier_reason=reason)
    article.study = study
    text = render(article, PAPER)
    assert "**Energy is GPU energy alone.**" in text
    assert text.count("The processor's energy is modelled (cpu\\_load)") >= 3
    assert "needs 20\u00a0% less GPU energy per token than" in text
    captions = captions_of(text)
    assert len(captions) >= 15
    for caption in captions:
        assert "Energy is that of the GPU alone." in caption
    assert "less energy per token than" not in text


def test_a_single_pair_that_may_not_be_claimed_is_not() -> None:
    article = make_article(**MEASURED)
    for claim_id, claim in article.claims.items():
        claimable = not claim_id.startswith("pair.mistral-7b.")
        article.claims[claim_id] = replace(claim, claimable=claimable)
    text = render(article, PAPER)
    assert "mistral-7b: no claim is made about Ollama and llama-cpp-python." in text
    assert "codellama-7b: Ollama needs" in text


def test_an_open_comparison_is_never_called_no_difference(texts: dict[str, str]) -> None:
    text = texts["open"]
    assert "the comparison of Ollama and llama-cpp-python is open" in text
    assert "No comparison is conclusive." in text
    for wrong in ("no difference was found", "no significant difference", "the same energy"):
        assert wrong not in text.lower()


def test_equality_is_stated_with_its_margin(texts: dict[str, str]) -> None:
    assert "are equal within 5 % (ratio 1.010" in texts["equal"]


@pytest.mark.parametrize("word", ["apart, by less than 5 %", "apart, by how much is open"])
def test_how_far_apart_is_said_in_the_words_of_the_verdict(word: str) -> None:
    text = render(make_article(**MEASURED | {"verdict": word}), PAPER)
    less = "Ollama needs 10\u00a0% less energy per token than llama-cpp-python"
    assert f"mistral-7b: {less}, {word} (ratio 0.900" in text
    assert "more than 5 % apart" not in results_of(text)


def test_an_effect_inside_the_interval_of_the_null_control_gets_a_note() -> None:
    apart: Invented = MEASURED | {"ratio": 1.02, "verdict": "apart, by less than 5 %"}
    note = "This ratio lies inside the interval of the null control, [0.980, 1.030]"
    inside, outside = (
        render(article_of(make_claims(**apart, control=control)), PAPER)
        for control in ((0.98, 1.03), (0.99, 1.01))
    )
    assert inside.count(note) == 4
    assert inside.count("apart, by less than 5 % (within the noise floor) |") == 4
    assert "noise floor of the null control" in inside.split("## Introduction")[0]
    assert note not in outside and "within the noise floor" not in outside


def test_a_control_that_finds_a_difference_ends_every_claim() -> None:
    claims = make_claims(**MEASURED, p_control=0.01)
    text = render(article_of(claims), PAPER)
    assert "| 0.01 | 10 | a difference where there is none: no claim of this study |" in text
    assert "needs 10" not in text


def test_the_first_page_and_the_conclusion_name_the_runtime_that_needs_less(
    texts: dict[str, str],
) -> None:
    finding = (
        "Ollama needs 10\u00a0% less energy per token than llama-cpp-python with "
        "deepseek-coder-6.7b-instruct, qwen2.5-coder-7b-instruct, codellama-7b and mistral-7b, "
        "more than 5 % apart."
    )
    assert finding in texts["measured"].split("## Introduction")[0]
    assert finding in texts["measured"].split("## Discussion")[1].split("## Limitations")[0]
    assert finding in texts["measured"].split("## Conclusion")[1]


def test_findings_keep_opposite_directions_and_verdicts_apart() -> None:
    article = make_article(**MEASURED)
    for model, verdict, ratio in (
        ("qwen2.5-coder-7b-instruct", "more than 5 % apart", 1.25),
        ("codellama-7b", "open", 0.99),
        ("mistral-7b", "equal within 5 %", 1.01),
    ):
        for name, value in (("verdict", verdict), ("ratio", ratio)):
            claim_id = f"pair.{model}.ollama.llama_cpp.{name}"
            article.claims[claim_id] = replace(article.claims[claim_id], value=value)
    assert article.findings(article.pairs()) == [
        "Ollama needs 10\u00a0% less energy per token than llama-cpp-python with "
        "deepseek-coder-6.7b-instruct, more than 5 % apart.",
        "llama-cpp-python needs 20\u00a0% less energy per token than Ollama with "
        "qwen2.5-coder-7b-instruct, more than 5 % apart.",
        "The comparison of Ollama and llama-cpp-python is open with codellama-7b.",
        "Ollama and llama-cpp-python are equal within 5 % with mistral-7b.",
    ]


def test_many_comparisons_are_counted_instead_of_listed(texts: dict[str, str]) -> None:
    text = texts["one model, eight runtimes"]
    assert "more than 5 % apart (28)" in text
    assert "less energy per token than" not in text


def test_each_pair_and_cell_has_a_row(texts: dict[str, str]) -> None:
    results = results_of(texts["three runtimes"])
    for model in MODELS[:3]:
        for a, b in itertools.combinations(list(RUNTIMES.values())[:3], 2):
            # Ratios and tests (of tokens and of correct answers), explanations, parity, problems,
            # power
            assert results.count(f"| {model} | {a} / {b} |") == 2 + 2 + 1 + 1 + 1 + 1
        for runtime in list(RUNTIMES.values())[:3]:
            # Energy, gross and net, quality, cost, load, two of phases, spread
            assert results.count(f"| {model} | {runtime} |") == 8


def test_a_model_without_a_correct_answer_has_no_energy_per_correct_answer(
    texts: dict[str, str],
) -> None:
    assert "| parrot-2m | Ollama | none  | 4.60 |" in texts["demonstration"]


def test_deepseek_is_motivated_whether_it_was_run_or_not(texts: dict[str, str]) -> None:
    for text in texts.values():
        introduction = text.split("## Introduction")[1].split("## Relevant")[0]
        assert "DeepSeek is a model that we find essential to include" in introduction
    assert "The study reported here includes a DeepSeek model." in texts["measured"]
    assert "bundles no DeepSeek model" in texts["demonstration"]
    others = make_article()
    others.study = replace(others.study, demonstration=False)
    introduction = render(others, PAPER).split("## Introduction")[1].split("## Relevant")[0]
    assert "No DeepSeek model is among those of the study reported here;" in introduction
    assert "without a download" not in introduction


def test_a_study_of_real_models_says_what_measures_it_anew(texts: dict[str, str]) -> None:
    said = {name for name, text in texts.items() if "`make all CONFIG=FILE`, with the" in text}
    assert said == {name for name in VARIANTS if "demonstration" not in name}


def test_the_published_numbers_are_those_of_2025(texts: dict[str, str]) -> None:
    for row in (
        "| CodeLlama-7b-Instruct | 0.385 | 0.086 | 125.45 | 44.60 |",
        "| DeepSeek-R1-Distill-Qwen-7B | 0.582 | 0.073 | 175.44 | 14.32 |",
        "| Mistral-7B-Instruct-v0.3 | 0.684 | 0.123 | 174.30 | 16.86 |",
        "| Qwen2.5-7B-Instruct | 0.499 | 0.097 | 151.57 | 35.68 |",
    ):
        assert row in texts["demonstration"]


def test_the_invalid_runs_are_listed(texts: dict[str, str]) -> None:
    assert "| parrot-1m | ollama | task | 3 | foreign\\_cpu | no |" in texts["demonstration"]


def test_what_is_only_stated_of_a_run_is_not_counted_as_a_broken_rule() -> None:
    article = make_article(**MEASURED)
    (broke,) = article.study.invalid_runs
    stated = [replace(broke, block=block, valid=True, codes=["not_settled"]) for block in (4, 5)]
    both = replace(broke, block=6, valid=True, codes=["not_settled", "steal"])
    runs = [broke, *stated, both]
    article.study = replace(article.study, invalid_runs=runs, unsettled_runs=3)
    text = render(article, PAPER)
    assert " 2 runs broke a rule; the appendix lists them. In 3 runs the time per token" in text
    assert "What is only stated of a run (not settled) is no broken rule." in text


@pytest.mark.parametrize(
    ("tier", "expected"), [("estimated", "0.01 (no claim)"), ("measured", "0.01")]
)
def test_a_small_p_of_quality_has_no_claim_beside_it_where_nothing_may_be_claimed(
    tier: str, expected: str
) -> None:
    article = make_article(**MEASURED | {"tier": tier})
    article.claims = {
        name: replace(claim, value=0.01) if name.endswith(".p_mcnemar") else claim
        for name, claim in article.claims.items()
    }
    rows = re.findall(r"^\|.*\| ([^|]*) \|$", render(article, PAPER), re.MULTILINE)
    assert expected in rows
    assert ("0.01" in rows) == (tier == "measured")


@pytest.mark.parametrize("suffix", ["md", "html", "pdf"])
def test_two_builds_give_identical_bytes(built: list[Path], suffix: str) -> None:
    first, second = (folder / f"article.{suffix}" for folder in built)
    assert first.read_bytes() == second.read_bytes()


def test_an_option_of_a_program_keeps_both_its_hyphens(built: list[Path]) -> None:
    for suffix in ("md", "html"):
        text = (built[0] / f"article.{suffix}").read_text(encoding="utf-8")
        assert "mask (Docker: --security-opt x)" in " ".join(text.split()), suffix


def test_the_markdown_holds_no_unresolved_citation(built: list[Path]) -> None:
    text = (built[0] / "article.md").read_text(encoding="utf-8")
    assert not re.search(r"\[@", text)
    for anchor in set(re.findall(r"\(#(ref-\w+)\)", text)):
        assert f'id="{anchor}"' in text


def test_the_html_needs_no_other_file(built: list[Path]) -> None:
    page = (built[0] / "article.html").read_text(encoding="utf-8")
    assert page.count("<figcaption") >= len(FIGURES) - 1 + 10
    for source in re.findall(r'(?:src|<link[^>]*href)="([^"]{0,40})', page):
        assert source.startswith("data:"), source


def test_the_pdf_is_dated_by_the_data(built: list[Path]) -> None:
    assert b"D:20261125" in (built[0] / "article.pdf").read_bytes()


def pages_of(folder: Path, tables: int, rows: int) -> int:
    """Return the number of pages of a PDF with tables of two columns."""
    for name in ("article", "figures"):
        (folder / name).mkdir(parents=True)
    lines = "".join(f"| name {number} | value |\n" for number in range(rows))
    table = f"| Name | Value |\n|:---|:---|\n{lines}\n: A table.\n\n"
    article = folder / "article" / "article.md"
    header = "---\ntitle: T\ndate: 25/11/2026\n---\n\n## Appendix\n\n"
    article.write_text(header + table * tables)
    Figure(figsize=(7, 2)).savefig(folder / "figures/cover.pdf")
    write_claims(folder / "claims.json", make_claims())
    write_runs(folder / "runs.csv", make_claims())
    made = (folder / "a.html", folder / "a.pdf")
    typeset(article, article, folder / "claims.json", folder / "runs.csv", PAPER, *made)
    tree = re.search(rb"/Type\s*/Pages\s*/Count (\d+)", made[1].read_bytes())
    assert tree
    return int(tree[1])


def test_a_table_that_is_longer_than_a_page_goes_on_on_the_next(tmp_path: Path) -> None:
    assert pages_of(tmp_path / "short", tables=1, rows=5) == 1
    # One that cannot break leaves the page of its heading empty and runs off the next.
    assert pages_of(tmp_path / "long", tables=1, rows=70) == 2


def test_a_missing_figure_stops_the_pdf_with_a_plain_error(
    built: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "article").mkdir()
    article = tmp_path / "article" / "article.md"
    article.write_bytes((built[0] / "article.md").read_bytes())
    write_claims(tmp_path / "claims.json", make_claims())
    write_runs(tmp_path / "runs.csv", make_claims())
    with pytest.raises(UserError, match="figures"):
        made = (tmp_path / "a.html", tmp_path / "a.pdf")
        typeset(article, article, tmp_path / "claims.json", tmp_path / "runs.csv", PAPER, *made)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"),
        (0, "0"),
        (0.385, "0.385"),
        (0.00412, "0.00412"),
        (0.09996, "0.100"),
        (9.996, "10.0"),
        (12.34, "12.3"),
        (125.45, "125"),
        (1234.5, "1,230"),
        (-0.5, "-0.500"),
        (0.0000412, "4.12 × 10⁻⁵"),
    ],
)
def test_numbers_have_three_significant_digits(value: float | None, text: str) -> None:
    assert significant(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0625, "0.0625"), (0.0004, "< 0.001"), (1.0, "1"), (0.5, "0.5"), (None, "none")],
)
def test_p_values_are_printed_as_such(value: float | None, text: str) -> None:
    assert p_value(value) == text


def test_a_share_is_printed_as_a_percentage() -> None:
    assert percent(0.123) == "12\u00a0%"
    assert percent(0.05) == "5\u00a0%"
    assert percent(None) == "none"


def test_text_in_a_table_cell_cannot_break_the_table() -> None:
    assert cell_text("AVX2 | a_b\nc") == r"AVX2 \| a\_b c"
    assert cell_text("--jinja -t 2") == r"\--jinja -t 2"  # two hyphens would be set as a dash
    assert cell_text(None) == "not recorded"
    assert cell_text({"source": "rapl", "files": []}) == "source rapl"


def test_tables_of_a_richer_study_are_printed_and_those_without_numbers_are_not() -> None:
    claims = make_claims(runtimes=3)
    plain = render(article_of(claims), PAPER)
    for words in ("Energy per token by kind of run", "Ranking by energy", "What became of the"):
        assert words not in plain
    labels = ["passed", "timeout"]
    attempt = InvalidAttempt(
        model="parrot-1m",
        runtime="ollama",
        kind="task",
        block=3,
        attempt=1,
        started="2026-11-25T05:00:00",
        code="foreign_cpu",
        seen=0.31,
        limit=0.02,
    )

    def one(value: int | float | str) -> Claim:
        return Claim(
            value=value, unit="", low=None, high=None, n=5, tier="estimated", source="of_a_test"
        )

    study, found = claims.study, claims.claims
    for model, runtime in itertools.product(study.models, study.runtimes):
        cell = f"{model.name}.{runtime.name}"
        for kind in ("task", "fixed", "quality"):
            for name in ("energy_j_per_token", "energy_j_per_task"):
                found[f"kind.{kind}.{cell}.{name}"] = one(0.5)
        found[f"rank.{cell}.rank"] = one(1)
        found[f"rank.{cell}.ratio_to_best"] = one(1.07)
        found[f"rank.{cell}.tied_with"] = one("Ollama")
        for label in labels:
            found[f"verdicts.{cell}.{label}"] = one(7)
    (broke,) = claims.study.invalid_runs
    counts = [
        replace(broke, kind=kind, block=block, valid=True, codes=codes)
        for kind, block, codes in (
            *(("fixed", 4, ["steal"]), ("fixed", 5, ["not_settled"])),
            *(("quality", 1, ["steal"]), ("quality", 2, ["not_settled", "steal"])),
        )
    ]
    article = article_of(
        claims,
        kinds=["task", "fixed", "control", "quality"],
        questions={"task": "What users see?", "fixed": "Equal lengths?", "quality": "Right?"},
        invalid_runs=[broke, *counts],
        verdict_labels=labels,
        warnings=[
            AnswerWarning("truncated", "parrot-1m", "ollama", 0.5, 0.05, "Many answers were cut.")
        ],
        attempts=[attempt],
        checks=[Check(code="cross_check", limit=None, runs=30, broken=0)],
    )
    rich = render(article, PAPER)
    assert "| parrot-1m | Ollama | fixed | 0.500" in rich
    assert "- *task*: What users see?\n" in rich
    told = "broke a rule and counted all the same: what disturbed them is in the numbers too.\n"
    assert f"- *fixed*: Equal lengths? Of these runs one {told}" in rich
    assert f"- *quality*: Right? Of these runs two {told}" in rich
    assert "1.070" in rich and "Ranking by energy per token" in rich
    assert "| Model | Runtime | passed | timeout |" in rich
    assert "**Warning.** Many answers were cut." in rich
    assert "| parrot-1m | ollama | task | 3 | 1 | foreign cpu | 0.310 | 0.0200 |" in rich
    assert "| cross check | does not apply here | 30 | 0 |" in rich
