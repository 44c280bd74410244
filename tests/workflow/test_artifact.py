"""docs/artifact.md expects what the archived campaigns give, and paper.md is what JOSS asks for."""

import itertools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pypandoc
import pytest
import yaml
from small_study import CHECKOUT, Tree

from joules.commands import artifact as command
from joules.core.sense import bibliography_keys
from joules.write.artifact import DOCUMENT, differences, expected_in, rows_of, section
from joules.write.claims_file import Claims, StudyFacts, read_claims, write_claims

CAMPAIGNS = sorted(path.parent for path in (CHECKOUT / "data/measurements").glob("*/config.yaml"))
TEXT = (CHECKOUT / DOCUMENT).read_text(encoding="utf-8")
PAPER = CHECKOUT / "paper/paper.md"
SHOWN = "qwen2.5-coder-0.5b-epyc-2core-2026-11-26"  # by README's first screen


def name_of(campaign: Path) -> str:
    return campaign.name


@pytest.fixture(scope="module", params=CAMPAIGNS, ids=name_of)
def results(
    request: pytest.FixtureRequest, clone: Tree, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The results of a committed campaign as the workflow rebuilds them."""
    name = request.param.name
    tree = clone.copy(tmp_path_factory.mktemp("claims") / "tree")
    shutil.copytree(request.param, tree.folder / "data/measurements" / name)
    place = Path(f"results/archive/{name}")
    targets = [place / "claims.json", *([place / "figures/ratios.svg"] if name == SHOWN else [])]
    source = f"measurements={{source: archive, campaign: {name}}}"
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "1", "--config", source, "--", *targets],
        cwd=tree.folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return tree.folder / place


@pytest.fixture(scope="module")
def rebuilt(results: Path) -> tuple[str, Claims[StudyFacts]]:
    """A committed campaign's name, and its rebuilt claims."""
    return results.name, read_claims(results / "claims.json")


def test_every_claim_of_a_committed_campaign_is_expected_as_it_is_rebuilt(rebuilt) -> None:
    name, claims = rebuilt
    rows = rows_of(claims)
    assert len(rows) > 5 and differences(expected_in(TEXT, name), rows) == []
    stated = TEXT.partition(f"## {name}\n")[2]
    minutes = int(re.search(r"\| `make review` \| (\d+) \|", stated)[1])
    assert f"\n{section(name, rows, minutes)}" in TEXT


def test_the_table_holds_every_pair_and_what_may_be_stated(rebuilt) -> None:
    _, claims = rebuilt
    named = {row.claim: row for row in rows_of(claims)}
    verdicts = {key for key in claims.claims if re.match(r"pair\..*\.verdict$", key)}
    assert verdicts and verdicts <= named.keys()
    for name, row in named.items():
        if name in claims.claims:
            claimed = "shown, not claimed" not in row.sentence
            assert claimed is claims.claims[name].may_be_stated


@pytest.mark.parametrize(
    "results", [each for each in CAMPAIGNS if each.name == SHOWN], indirect=True, ids=name_of
)
def test_readme_shows_the_figure_and_the_numbers_of_its_campaign(results: Path) -> None:
    drawn = (results / "figures/ratios.svg").read_bytes()
    assert drawn == (CHECKOUT / "docs/first_campaign.svg").read_bytes()
    claims, model = read_claims(results / "claims.json").claims, "qwen2.5-coder-0.5b-instruct"
    arms = ("ollama", "llama_server", "llama_cpp")
    pairs = [f"pair.{model}.{a}.{b}" for a, b in itertools.combinations(arms, 2)]
    assert {claims[f"{pair}.same_text_share"].value for pair in pairs} == {1.0}
    passed = {claims[f"cell.{model}.{arm}.passed"].value for arm in arms}
    problems = {claims[f"cell.{model}.{arm}.graded"].value for arm in arms}
    ollama, server = (claims[f"pair.{model}.{arm}.llama_cpp.ratio"].value for arm in arms[:2])
    noise = claims[f"control.{model}.ratio"]
    said = " ".join((CHECKOUT / "README.md").read_text(encoding="utf-8").split())
    assert len(passed) == len(problems) == 1
    assert f"the same {problems.pop()} answers, {passed.pop()} of them right" in said
    assert f"of Ollama ({ollama:.3f}) and of llama-server ({server:.3f}) over" in said
    assert (
        f"differ by ({noise.low:.3f} to {noise.high:.3f}); which of them needs less this does"
        in said
    )
    assert noise.low < min(ollama, server) and max(ollama, server) < noise.high
    assert not any(claims[f"{pair}.ratio"].may_be_stated for pair in pairs)


def test_a_table_of_a_campaign_that_is_not_here_is_not_kept() -> None:
    sections = set(re.findall(r"^## (\S+-\S+)$", TEXT, re.M))
    assert sections == {each.name for each in CAMPAIGNS}


def test_what_differs_is_named_and_a_missing_table_is_refused(
    rebuilt, tmp_path, monkeypatch, capsys
) -> None:
    name, claims = rebuilt
    rows = rows_of(claims)
    expected = {row.claim: row.expected for row in rows[:-1]} | {"pair.gone": "1"}
    expected["permission.energy_difference"] = "perhaps"
    told = differences(expected, rows)
    assert told[0].startswith("permission.energy_difference: expected perhaps, found ")
    assert told[1:] == [
        "pair.gone: expected 1, found no such claim",
        f"{rows[-1].claim}: not in the table",
    ]
    assert command.main([""]) == 2 and "it is empty" in capsys.readouterr().err
    monkeypatch.setattr(command, "REPOSITORY", tmp_path)
    assert command.main([name]) == 2
    assert f"make review CAMPAIGN={name}" in capsys.readouterr().err
    place = tmp_path / command.REBUILT.format(name)
    place.parent.mkdir(parents=True)
    write_claims(place, claims)
    (tmp_path / "docs").mkdir()
    (tmp_path / DOCUMENT).write_text("# Artifact\n")
    assert command.main([name]) == 2
    assert "has no table of claims" in capsys.readouterr().err
    (tmp_path / DOCUMENT).write_text(TEXT)
    assert command.main([name]) == 0
    assert f"{len(rows)} claims of {DOCUMENT} compared, 0 differ" in capsys.readouterr().out
    (tmp_path / DOCUMENT).write_text(TEXT.replace(rows[-1].expected, "another"))
    assert command.main([name]) == 1
    assert f"differs: {rows[-1].claim}: expected another" in capsys.readouterr().out
    assert command.main([name, "--table", "yes"]) == 0
    assert capsys.readouterr().out.startswith(f"## {name}\n")


def front_and_body() -> tuple[dict[str, object], str]:
    _, front, body = PAPER.read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(front), body


def test_the_paper_has_the_front_matter_sections_and_length_that_joss_asks_for() -> None:
    front, body = front_and_body()
    citation = yaml.safe_load((CHECKOUT / "CITATION.cff").read_text(encoding="utf-8"))
    names = [f"{each['given-names']} {each['family-names']}" for each in citation["authors"]]
    assert [each["name"] for each in front["authors"]] == names
    places = {str(each["index"]) for each in front["affiliations"]}
    assert {str(each["affiliation"]) for each in front["authors"]} <= places
    assert front["date"] == f"{citation['date-released']:%-d %B %Y}"
    assert front["bibliography"] == "references.bib" and front["title"] and len(front["tags"]) > 1
    assert re.findall(r"^# (.*)$", body, re.M) == [
        *("Summary", "Statement of need", "State of the field", "Software design"),
        *("Research impact statement", "AI usage disclosure", "Acknowledgements", "References"),
    ]
    assert 750 <= len(body.split()) <= 1750


def test_every_citation_of_the_paper_is_in_the_bibliography_and_pandoc_sets_it(tmp_path) -> None:
    known = bibliography_keys((CHECKOUT / "paper/references.bib").read_text(encoding="utf-8"))
    cited = set(re.findall(r"(?<![\w.])@([a-z][a-z0-9]*)", front_and_body()[1]))
    assert len(cited) > 10 and cited <= set(known)
    page = tmp_path / "paper.html"
    pypandoc.convert_file(
        str(PAPER),
        "html5",
        outputfile=str(page),
        extra_args=["--standalone", "--citeproc", "--fail-if-warnings"],
        cworkdir=str(PAPER.parent),
    )
    text = page.read_text(encoding="utf-8")
    assert text.count('class="csl-entry"') == len(cited)
    assert "llm-runtime-energy: comparing" in text and "???" not in text
