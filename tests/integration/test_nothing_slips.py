"""With permission off nothing says which runtime needs less, over a grid of synthetic studies.

Every study goes the way of the rules: records, tables, statistics, claims, article, list of claims.
"""

import itertools
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import msgspec
import pandas as pd
import pytest
from synthetic_arms import ARMS, CONTRASTS, ENGINES, MORE_ARMS
from synthetic_articles import FIGURES, PAPER, PUBLISHED, claimed
from template_branches import Reached, noting

from joules.analyse import sensitivity, verdicts
from joules.core.analysis import NO_CLAIM
from joules.core.plan import Run
from joules.write import arm_sentences, kernels, rendering, sentences
from joules.write.claim_list import evidence
from joules.write.claims_file import (
    AnswerWarning,
    Claim,
    Claims,
    FlaggedRun,
    Mix,
    RegistrationFacts,
    StudyFacts,
)
from joules.write.published_article import PublishedArticle
from joules.write.template_functions import Article

EIGHT = ("ollama", "llama_cpp", *(f"other{number}" for number in range(6)))
ONE: dict[str, Any] = {"models": ("parrot-1m",), "blocks": 8, "problems": 2}
CLEAR: dict[str, Any] = ONE | {"ratios": {"llama_cpp": 1.3}, "seed": 5}
ARM_STUDY: dict[str, Any] = ONE | {
    "arms": ARMS,
    "engines": ENGINES,
    "ratios": {"llama_cpp": 1.3, "llama_cpp-stock": 1.25, "ollama-as-installed": 0.9},
}
INSTALLED = {name: MORE_ARMS[name] for name in (*CONTRASTS[1], "llama_cpp-as-installed")}
FIRST_INVALID = [Run("parrot-1m", "ollama", "task", block) for block in (1, 2, 3)]
SECOND_INVALID = [Run("parrot-1m", "llama_cpp", "task", block) for block in (1, 2, 3, 4)]


class Study(NamedTuple):
    """A synthetic study after all steps."""

    claims: Claims[StudyFacts]
    text: str
    tables: dict[str, pd.DataFrame]
    evidence: str


def all_flagged(runs: pd.DataFrame) -> pd.DataFrame:
    """Return runs that all broke a rule and count."""
    return runs.assign(validity_codes="foreign_cpu;settle")


def some_flagged(runs: pd.DataFrame) -> pd.DataFrame:
    """Return runs of which those of the first block broke a rule, and all were not settled."""
    codes = runs["block"].eq(1).map({True: "foreign_cpu;not_settled", False: "not_settled"})
    return runs.assign(validity_codes=codes)


def control_finds(runs: pd.DataFrame) -> pd.DataFrame:
    """Return runs whose second runs need a tenth more, in every block."""
    return dearer(runs, runs["kind"] == "control", 1.1)


def dearer(runs: pd.DataFrame, which: pd.Series, factor: float) -> pd.DataFrame:
    """Return runs of which some need more energy."""
    energies = [name for name in runs.columns if name.startswith("energy_j")]
    changed = runs.copy()
    changed.loc[which, energies] = changed.loc[which, energies] * factor
    return changed


# name: options of the study, what is done to its runs, and facts that are laid over
GRID: dict[str, tuple[dict[str, Any], Callable[..., pd.DataFrame] | None, dict[str, Any]]] = {
    "clear": (CLEAR, None, {}),
    "clear the other way": (CLEAR | {"ratios": {"ollama": 1.3}}, None, {}),
    "a little": (CLEAR | {"ratios": {"llama_cpp": 1.03}, "noise_cv": 0.004}, None, {}),
    "equal": (CLEAR | {"ratios": {}, "noise_cv": 0.004}, None, {}),
    "noisy": (CLEAR | {"ratios": {"llama_cpp": 1.1}, "noise_cv": 0.15}, None, {}),
    "noisy, three runtimes": (
        CLEAR | {"ratios": {}, "noise_cv": 0.15, "runtimes": EIGHT[:3], "blocks": 9},
        None,
        {},
    ),
    "open how far": (CLEAR | {"ratios": {"llama_cpp": 1.06}, "noise_cv": 0.02}, None, {}),
    "modelled, clear": (CLEAR | {"tier": "estimated"}, None, {}),
    "demonstration": (CLEAR | {"tier": "estimated", "blocks": 5}, None, {"demonstration": True}),
    "five blocks": (CLEAR | {"blocks": 5}, None, {}),
    "one block": (CLEAR | {"blocks": 1}, None, {}),
    "control finds": (CLEAR, control_finds, {}),
    "all flagged": (CLEAR, all_flagged, {}),
    "one block flagged": (CLEAR | {"blocks": 10}, some_flagged, {}),
    "missing blocks": (
        CLEAR | {"invalid": FIRST_INVALID, "attempts": SECOND_INVALID[-1:]},
        None,
        {},
    ),
    "no control": (CLEAR | {"kinds": ("task",)}, None, {}),
    "one runtime": (CLEAR | {"runtimes": ("ollama",)}, None, {}),
    "three runtimes": (
        CLEAR | {"runtimes": EIGHT[:3], "models": ("deepseek-1m", "parrot-3m"), "blocks": 10},
        None,
        {},
    ),
    "three runtimes, modelled": (
        CLEAR | {"runtimes": EIGHT[:3], "tier": "estimated", "models": ("deepseek-1m",)},
        None,
        {},
    ),
    "missing blocks, three runtimes": (
        CLEAR | {"runtimes": EIGHT[:3], "invalid": [*FIRST_INVALID, *SECOND_INVALID]},
        None,
        {},
    ),
    "eight arms": (CLEAR | {"runtimes": EIGHT, "blocks": 11}, None, {}),
    "eight arms, modelled": (CLEAR | {"runtimes": EIGHT, "tier": "estimated"}, None, {}),
    "arms": (ARM_STUDY | {"contrasts": CONTRASTS, "blocks": 12, "seed": 1}, None, {}),
    "arms, modelled": (
        ARM_STUDY | {"arms": MORE_ARMS, "tier": "estimated", "blocks": 2, "seed": 5},
        None,
        {},
    ),
    "arms as installed": (
        ARM_STUDY
        | {"arms": INSTALLED, "contrasts": CONTRASTS[1:2], "kinds": ("task", "control", "fixed")},
        None,
        {},
    ),
    "all kinds": (
        CLEAR | {"kinds": ("task", "fixed", "control", "quality"), "problems": 3},
        None,
        {},
    ),
    "absurd": (CLEAR | {"ratios": {"llama_cpp": 1e6}, "noise_cv": 2.0}, None, {}),
    "by the wall": (CLEAR | {"wall": {}}, None, {}),
    "by the wall, much beside the tasks": (
        CLEAR | {"wall": {"tier": "sampled", "gap_limit": 0.001, "device": ("Plug 1", "")}},
        None,
        {},
    ),
    "by an emulated plug": (
        CLEAR | {"wall": {"emulated": True, "device": ("", ""), "processor_tier": None}},
        None,
        {},
    ),
    "beside the wall": (CLEAR | {"wall": {"energy": "processor"}}, None, {}),
    "beside an emulated plug": (
        CLEAR
        | {"tier": "estimated"}
        | {"wall": {"energy": "processor", "emulated": True, "processor_tier": "estimated"}},
        None,
        {},
    ),
    "by the wall, all but the tasks too short": (CLEAR | {"wall": {"short": True}}, None, {}),
    "absurd, modelled": (CLEAR | {"ratios": {"llama_cpp": 1e-6}, "tier": "estimated"}, None, {}),
}


def made(
    folder: Path, options: dict[str, Any], change: Any, facts: dict[str, Any], lines: "Lines"
) -> Study:
    """Return a synthetic study, made as the rules make it."""
    found = claimed(folder, change, facts, **options)
    stated = found.claims
    with lines:
        text = found.text()
    listed = found.runs.astype(str).to_dict("records")
    page = evidence(stated.claims, stated.claims, listed, PAPER / "style")
    return Study(stated, text, found.tables, page)


class Lines:
    """Which lines of modules were run: a sentence that is never made is on none of them."""

    def __init__(self, *modules: Any) -> None:
        self.files = {module.__file__: module for module in modules}
        self.seen: set[tuple[str, int]] = set()
        self.before: Any = None

    def __enter__(self) -> None:
        self.before = sys.gettrace()
        sys.settrace(self)

    def __exit__(self, *_: object) -> None:
        sys.settrace(self.before)

    def __call__(self, frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename not in self.files:
            return None
        self.seen.add((frame.f_code.co_filename, frame.f_lineno))
        return self

    def never(self) -> list[str]:
        """Return the lines with code inside functions that were never run."""
        missing = []
        for path in self.files:
            source = Path(path).read_text(encoding="utf-8")
            for code in _functions(compile(source, path, "exec")):
                for _, _, line in code.co_lines():
                    if line and line > code.co_firstlineno and (path, line) not in self.seen:
                        shown = source.splitlines()[line - 1].strip()
                        missing.append(f"{Path(path).name}:{line}: {shown}")
        return sorted(set(missing))


def _functions(code: Any) -> Iterator[Any]:
    for each in code.co_consts:
        if hasattr(each, "co_lines"):
            if each.co_name.islower() and each.co_flags & 0x2:  # a function, and no class
                yield each
            yield from _functions(each)


@pytest.fixture(scope="module")
def grid(tmp_path_factory) -> Iterator[tuple[dict[str, Study], Reached, Lines]]:
    """Every study of the grid, and what was reached while they were written."""
    reached, lines = Reached(), Lines(sentences, kernels, arm_sentences)
    environment = noting(rendering.environment(PAPER), reached)
    patch = pytest.MonkeyPatch()
    patch.setattr(rendering, "environment", lambda _: environment)
    studies: dict[str, Study] = {}
    try:
        for name, of_study in GRID.items():
            most = 1_000 if name in MIXED else 0  # of answers; a mixed model takes seconds per pair
            patch.setattr(sensitivity, "MOST_ANSWERS", most)
            studies[name] = made(tmp_path_factory.mktemp("study"), *of_study, lines)
        with lines:
            for study, published in variants(studies):
                rendering.render(Article(study, published, FIGURES, linked=True), PAPER)
        yield studies, reached, lines
    finally:
        patch.undo()


def variants(studies: dict[str, Study]) -> Iterator[tuple[Claims[StudyFacts], PublishedArticle]]:
    """Yield studies of machines, campaigns and claims that a test cannot make otherwise."""
    clear, off = studies["clear"].claims, studies["modelled, clear"].claims
    without = {name: each for name, each in clear.claims.items() if "control." not in name}
    uncontrolled = msgspec.structs.replace(clear, claims=without)
    named = ("LLAMAFILE = 1 | REPACK = 1", "CPU.0.LLAMAFILE=1")
    runtimes = [
        msgspec.structs.replace(each, facts={"simd": line, "build": "x"}, cannot_hold=["seed"])
        for each, line in zip(clear.study.runtimes, named, strict=True)
    ]
    half = [runtimes[0], msgspec.structs.replace(runtimes[1], facts={}, version="")]
    registered = {"sha256": "ab" * 32, "registered_on": "2026-11-20T08:00:00Z"}
    differs = RegistrationFacts(**registered, confirmatory=False, differs=["the margin"])
    machine = msgspec.structs.replace(clear.study.machine, virtualisation="kvm")
    warned = [AnswerWarning("truncated", "parrot-1m", "ollama", 0.5, 0.05, "Many were cut.")]
    broke = FlaggedRun("parrot-1m", "ollama", "task", 1, valid=False, codes=["foreign_cpu"])
    in_use = FlaggedRun("parrot-1m", "ollama", "quality", 1, valid=True, codes=["foreign_cpu"])
    unnamed = [msgspec.structs.replace(each, sha256="") for each in clear.study.models]
    for base, facts in (
        (clear, {"energy": "gpu", "runtimes": runtimes, "unsettled_runs": 1, "machine": machine}),
        (off, {"tier": "sampled", "runtimes": half, "mixes": [Mix("The machine", ["a", "b"])]}),
        (clear, {"registration": differs, "unsettled_runs": 2, "warnings": warned, "runs": 1}),
        (clear, {"registration": RegistrationFacts(**registered, confirmatory=True), "checks": []}),
        (clear, {"invalid_runs": [broke], "models": unnamed}),
        (clear, {"invalid_runs": [broke, broke], "instrument": {"cpu": "rapl", "gpu": "none"}}),
        (uncontrolled, {"kinds": ["task"], "invalid_runs": []}),
        (studies["all kinds"].claims, {"invalid_runs": [in_use]}),
    ):
        yield laid_over(base, facts), PUBLISHED
    more = msgspec.structs.replace(PUBLISHED, runs_per_task=3, answers_scored=True)
    yield valued(clear, {".break_even_tasks": 12.0, ".approximate": "no"}), more
    unknown = (
        *("_energy_j_per_token", ".idle_share", "_share", "direct_tasks", ".power_w", ".cv"),
        *("direct_prefill_j_per_token", "direct_decode_j_per_token"),
    )
    yield valued(clear, dict.fromkeys(unknown) | {"decode_power_w": 9.0}), PUBLISHED
    yield valued(studies["eight arms"].claims, {".seconds_per_token": None}), PUBLISHED
    yield valued(off, {".p_mcnemar": 0.01}), PUBLISHED
    three = studies["three runtimes"].claims
    pair = three.study.models[0].name + ".ollama.llama_cpp"
    refused = {f"pair.{pair}.verdict": NO_CLAIM, f"pair.{pair}.no_claim_reason": "Too few blocks."}
    refused |= {f"sensitivity.{pair}.welch.p_value": None}
    yield valued(three, refused | {"ollama.rank": None, "ollama.ratio_to_best": None}), PUBLISHED


def laid_over(stated: Claims[StudyFacts], facts: dict[str, Any]) -> Claims[StudyFacts]:
    return msgspec.structs.replace(stated, study=msgspec.structs.replace(stated.study, **facts))


def valued(stated: Claims[StudyFacts], values: dict[str, Any]) -> Claims[StudyFacts]:
    """Return claims with other values, by the ends of their ids; `no claim` may not be stated."""
    changed = dict(stated.claims)
    for name, claim in stated.claims.items():
        for ending, value in values.items():
            if (
                name.endswith(ending)
                and not name.startswith(("cell.", "use."))
                or (name.startswith("cell.") and name.endswith(ending) and ending != ".power_w")
            ):
                claim = msgspec.structs.replace(claim, value=value)
                if value == NO_CLAIM:
                    claim = msgspec.structs.replace(claim, claimable=False)
                changed[name] = claim
    return msgspec.structs.replace(stated, claims=changed)


MIXED = ("clear", "modelled, clear")  # studies with mixed models
OFF = [
    *("modelled, clear", "demonstration", "five blocks", "one block", "control finds"),
    *("all flagged", "missing blocks", "no control", "one runtime", "three runtimes, modelled"),
    *("eight arms, modelled", "absurd, modelled", "missing blocks, three runtimes"),
    "arms, modelled",
    *("by an emulated plug", "beside an emulated plug"),
]
ON = [
    "clear",
    "clear the other way",
    "a little",
    "equal",
    "one block flagged",
    "eight arms",
    "noisy",
    "arms",
    "arms as installed",
    "by the wall",
    "beside the wall",
]
LESS = re.compile(
    r"needs? \S+ less|needs less|less (GPU )?energy|\bsaves?\b|% less|kWh a year less"
)
# Sentences that are about claims, and one on an instrument, which is the same in every article.
ABOUT = re.compile(r"no claim|claim about|cannot say|says which|one runtime on a GPU")
WORDS = [word for word in verdicts.VERDICTS if word != verdicts.OPEN]


def cells_of(row: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]


def tables_of(text: str) -> Iterator[tuple[list[str], list[list[str]]]]:
    """Yield head and rows of every table of an article."""
    for block in text.split("\n\n"):
        rows = [line for line in block.splitlines() if line.startswith("|")]
        if len(rows) > 2:
            yield cells_of(rows[0]), [cells_of(row) for row in rows[2:]]


def small(cell: str) -> bool:
    """Return whether a cell is a p-value below 0.05."""
    cell = cell.removesuffix(f" ({NO_CLAIM})")
    if cell.startswith("< 0.0"):
        return True
    return bool(re.fullmatch(r"0?\.\d+|0", cell)) and float(cell) < 0.05


def p_values(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield every small p-value of a table, with its row."""
    for head, rows in tables_of(text):
        methods = "sign flip, the primary" in head
        for row in rows:
            for name, cell in zip(head, row, strict=True):
                about_p = re.match(r"p\b", name) or methods
                if about_p and small(cell):
                    yield cell, row


def stated_on_energy(study: Study) -> dict[str, Claim]:
    """Return the claims that compare runtimes by energy."""
    groups = ("pair", "fixed", "correct", "explains", "sensitivity", "break_even", "omnibus")
    quality = ("mcnemar", "same_text", "both_pass", "only_", "neither", "flips", "compared_")
    return {
        name: claim
        for name, claim in study.claims.claims.items()
        if name.split(".")[0] in groups
        and not any(part in name.rsplit(".", 1)[-1] for part in (*quality, "first_difference"))
    }


@pytest.mark.parametrize("name", OFF)
def test_without_permission_no_sentence_says_which_needs_less(grid, name):
    study = grid[0][name]
    assert not study.claims.permission.energy_difference
    labels = [runtime.label for runtime in study.claims.study.runtimes]
    for line in re.split(r"(?<=[.:|])\s", study.text):
        named = any(label in line for label in labels) or "runtime" in line
        if LESS.search(line) and named:
            assert ABOUT.search(line), line
    assert "| Rank |" not in study.text
    said = re.sub(r"From the three follows one of five verdicts.*?stronger word", "", study.text)
    for word in WORDS:
        assert word not in said, word
    for _, rows in tables_of(study.text):
        assert not any("open" in row for row in rows)


@pytest.mark.parametrize("name", OFF)
def test_without_permission_no_small_p_stands_without_no_claim(grid, name):
    study = grid[0][name]
    for p, row in p_values(study.text):
        assert any(NO_CLAIM in cell for cell in row), (p, row)
    for line in study.text.splitlines():
        if not line.startswith("|") and re.search(r"\bp(-value)? (=|is|of)? ?(< )?0\.0[0-4]", line):
            assert re.search(r"no claim|No energy difference is claimed|cannot say", line), line


def test_the_check_of_p_values_finds_some(grid):
    """Where a claim may be made, small p's stand in tables without `no claim`."""
    found = list(p_values(grid[0]["clear"].text))
    assert len(found) > 3
    assert not any(NO_CLAIM in cell for _, row in found for cell in row)


@pytest.mark.parametrize("name", OFF)
def test_without_permission_no_claim_may_be_stated(grid, name):
    study = grid[0][name]
    for claim_id, claim in stated_on_energy(study).items():
        assert claim.claimable is False, claim_id
        if claim_id.endswith(".verdict"):
            assert claim.value == NO_CLAIM
        if isinstance(claim.value, str):
            assert not LESS.search(claim.value), (claim_id, claim.value)
            assert claim.value not in verdicts.VERDICTS, (claim_id, claim.value)
        if "break_even_tasks" in claim_id or claim_id.endswith("kwh_per_year"):
            assert claim.value is None
    assert not any(claim_id.startswith("rank.") for claim_id in study.claims.claims)
    words = {each.value for name, each in study.claims.claims.items() if name.endswith(".verdict")}
    assert words <= {NO_CLAIM, None}  # that of the null control among them
    listed = r'<tr id="claim-((?:pair|correct|sensitivity)\.[^"]+)">(.*?)</tr>'
    rows = re.findall(listed, study.evidence)
    assert rows or len(study.claims.study.runtimes) == 1
    for claim_id, row in rows:
        assert NO_CLAIM in row or claim_id not in stated_on_energy(study), claim_id


@pytest.mark.parametrize("name", OFF)
def test_without_permission_the_tables_of_statistics_hold_no_verdict(grid, name):
    tables = grid[0][name].tables
    comparisons = tables["comparisons"]
    between = comparisons[comparisons["kind"] != "control"]
    assert set(comparisons["verdict"]) <= {NO_CLAIM} and not between["claimable"].any()
    assert set(tables["problems"]["verdict"].dropna()) <= {NO_CLAIM, ""}
    assert not tables["sensitivity"]["claimable"].any()
    assert tables["break_even"]["break_even_tasks"].isna().all()
    assert not any(LESS.search(str(note)) for note in tables["break_even"]["note"])
    alone = len(grid[0][name].claims.study.runtimes) == 1
    assert alone or tables["ranking"]["rank"].isna().all()


@pytest.mark.parametrize("name", ON)
def test_with_permission_the_words_are_those_of_the_verdict(grid, name):
    study = grid[0][name]
    assert study.claims.permission.energy_difference, study.claims.permission.reason
    printed = {
        row[-1].removesuffix(" (within the noise floor)")
        for head, rows in tables_of(study.text)
        for row in rows
        if head[-1] == "Verdict"
    }
    assert printed <= {*verdicts.VERDICTS, NO_CLAIM}
    task = study.tables["comparisons"].query("kind == 'task'")
    assert set(task["verdict"]) <= printed


def test_a_pair_that_may_not_be_claimed_has_no_words_among_those_that_may(grid):
    """In every study, each pair by itself."""
    for study, (model, a, b) in itertools.chain.from_iterable(
        ((study, pair) for pair in Article(study.claims, PUBLISHED).pairs())
        for study in grid[0].values()
    ):
        claim = study.claims.claims[f"pair.{model.name}.{a.name}.{b.name}.verdict"]
        if claim.claimable:
            continue
        assert claim.value == NO_CLAIM
        pair = f"{a.label} / {b.label}"
        for p, row in p_values(study.text):
            if model.name in row and pair in row:
                assert NO_CLAIM in row, (p, row)


def test_every_branch_of_the_template_was_written_once(grid):
    assert grid[1].missing() == []


def test_every_sentence_on_a_comparison_was_written_once(grid):
    missing = grid[2].never()
    assert missing == [], "\n".join(missing)
