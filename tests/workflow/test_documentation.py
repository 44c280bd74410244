"""What the documents name is there: links, files, commands, rules, keys, runtimes and rooms."""

import dataclasses
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from requirement_files import ROOT

from joules.core.conditions import AskedSettings, Limits, SettleRule, Windows
from joules.core.inference import Settings
from joules.core.study import Carbon, Measurements
from joules.runtimes import load, names

DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "config/*.md", "data/*/README.md")
    for path in ROOT.glob(pattern)
)
FOR_USERS = [name for name in DOCUMENTS if name.startswith(("README", "docs/", "config/"))]
MADE_LATER = ("results", "resources", "logs", ".venv", ".venvs", ".venv-review", ".wheels")
NAMED_ALONE = re.compile(r"[A-Z]+\.(md|cff)|\.[a-z-]+\.ya?ml|pyproject\.toml")
KEYS = {
    "carbon": Carbon,
    "limits": Limits,
    "measurements": Measurements,
    "settings": AskedSettings,
    "settle": SettleRule,
    "windows": Windows,
}


@dataclasses.dataclass(frozen=True)
class Text:
    """A document: its prose with code spans taken out, its spans, and its lines of code."""

    prose: str
    spans: tuple[str, ...]
    lines: tuple[str, ...]


def text_of(name: str) -> Text:
    """Return what stands in a document, by kind. Pictures (fenced blocks) are none of them."""
    whole = (ROOT / name).read_text(encoding="utf-8")
    whole = re.sub(r"^```.*?^```$", "", whole, flags=re.M | re.S)
    lines = re.findall(r"(?<=\n)    (?! *[-*\d])(.*)$", whole, re.M)
    unindented = re.sub(r"^    .*$", "", whole, flags=re.M)
    spans = re.findall(r"`([^`\n]+(?:\n[^`\n]+)?)`", unindented)
    prose = re.sub(r"`[^`]*`", "code", unindented)
    return Text(prose, tuple(span.replace("\n", " ") for span in spans), tuple(lines))


def code_of(name: str) -> list[str]:
    text = text_of(name)
    return [*text.spans, *(line.partition("  #")[0] for line in text.lines)]


def anchors_of(path: Path) -> set[str]:
    """Return the anchors that the headings of a document get: small, with dashes for blanks."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    titles = re.findall(r"^#+ +(.+?) *$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links_of(name: str) -> list[str]:
    whole = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", whole))


def test_the_front_page_is_one_page_that_leads_to_all_documents() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
    led_to = {link.partition("#")[0] for link in links_of("README.md")}
    wanted = {name for name in DOCUMENTS if not name.startswith("data/")} - {"README.md"}
    assert wanted <= led_to


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_link_is_dead(name: str) -> None:
    dead = []
    for link in links_of(name):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        path = (ROOT / name).parent / file if file else ROOT / name
        if not path.exists() or (anchor and anchor not in anchors_of(path)):
            dead.append(link)
    assert not dead


def targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z][a-z-]*):", makefile, re.M))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_make_command_and_its_variables_exist(name: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    variables = set(re.findall(r"^#   ([A-Z]+) ", makefile, re.M)) | {"OUT"}
    variables |= {"CMAKE_ARGS"}  # of requirements/install.sh
    for code in code_of(name):
        for target in re.findall(r"\bmake ([a-z][a-z-]*)(?!…)\b", code):
            assert target in targets() or target == "bench", f"{code!r}: no target {target}"
            given = set(re.findall(r"(?<![-\w])([A-Z_]+)=", code))
            assert given <= variables, f"{code!r}: {given - variables} is no variable"


def test_every_module_that_make_starts_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    started = set(re.findall(r"\) (joules\.[\w.]+)", makefile))
    assert started
    assert not [each for each in sorted(started) if importlib.util.find_spec(each) is None]


def test_every_make_command_is_explained_to_its_users() -> None:
    named = {
        target
        for name in [*FOR_USERS, "CONTRIBUTING.md"]
        for code in code_of(name)
        for target in re.findall(r"\bmake ([a-z][a-z-]*)", code)
    }
    assert targets() - {"help"} <= named


def resolves(dotted: str) -> bool:
    """Return whether a name of the package is a module, or what a module holds."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        rest = parts[length:]
        return len(rest) <= 2 and all(
            hasattr(found, part) and (found := getattr(found, part)) is not None for part in rest
        )
    return False


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_module_that_is_named_exists(name: str) -> None:
    named = {
        match
        for code in code_of(name)
        for match in re.findall(r"\bjoules(?:\.[A-Za-z_][A-Za-z_0-9]*)+(?![\w.<])", code)
    }
    assert not [each for each in sorted(named) if not resolves(each)]


def paths_in(code: str) -> Iterator[str]:
    """Yield what looks like a path of this repository; a place for a name becomes a `*`."""
    top = {path.name for path in ROOT.iterdir()} - set(MADE_LATER)
    for word in re.split(r"[\s=,;()'\"]+", code):
        path = re.sub(r"<[^<>]+>", "*", word).rstrip(".:")
        if not re.fullmatch(r"[\w.*/-]+", path) or path.startswith("/"):
            continue
        is_below = "/" in path and path.partition("/")[0] in top
        if is_below or NAMED_ALONE.fullmatch(path):
            yield path


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_path_of_the_repository_that_is_named_exists(name: str) -> None:
    named = {path for code in code_of(name) for path in paths_in(code)}
    absent = [
        path
        for path in sorted(named)
        if not any(ROOT.glob(path.rstrip("/"))) and not ((ROOT / name).parent / path).exists()
    ]
    assert not absent


def test_every_rule_that_a_command_of_snakemake_names_exists() -> None:
    rules = {
        rule
        for path in [ROOT / "Snakefile", *(ROOT / "workflow/rules").glob("*.smk")]
        for rule in re.findall(r"^rule (\w+):", path.read_text(encoding="utf-8"), re.M)
    }
    named = {
        word
        for name in DOCUMENTS
        for code in code_of(name)
        if code.startswith("snakemake ")
        for word in re.sub(r"--(sdm|report|configfile) \S+", "", code).split()[1:]
        if re.fullmatch(r"[a-z_]+", word)
    }
    assert {"all", "records", "measure"} <= named <= rules


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_key_of_a_study_that_is_named_exists(name: str) -> None:
    unknown = [
        f"{group}.{key}"
        for code in code_of(name)
        for group, key in re.findall(rf"^({'|'.join(KEYS)})\.([a-z_]+)\b", code)
        if key not in KEYS[group].__struct_fields__
    ]
    assert not unknown


def rows_of_runtimes() -> dict[str, list[str]]:
    """Return the rows of the list of runtimes in docs/extending.md, by name."""
    text = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
    _, _, section = text.partition("\n## Runtimes\n")
    lines = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]
    return {row[1].strip("`"): row for row in cells}


def test_the_list_of_runtimes_has_each_with_its_version_and_what_it_cannot_hold() -> None:
    rows = rows_of_runtimes()
    assert sorted(rows) == names()
    options = yaml.safe_load((ROOT / "config/runtime_options.yaml").read_text(encoding="utf-8"))
    settings = {field.name for field in dataclasses.fields(Settings)}
    for name, row in rows.items():
        version, kinds, said = row[2], row[6], row[7]
        assert options[name]["version"] in version or (name, version) == ("openai_server", "yours")
        cannot = load(name).CANNOT_HOLD
        kept = said.removeprefix("all but ").split(", ")
        listed = settings - set(kept) if said.startswith("all but ") else set(said.split(", "))
        assert listed - {"–"} - {"temperature", "max_tokens"} == cannot, name
        assert ("fixed" in kinds) == ("ignore_eos" not in cannot), name


def test_the_rooms_of_the_package_are_those_of_the_documents_in_their_order() -> None:
    (contract,) = re.findall(
        r"^layers = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M | re.S
    )
    rooms = re.findall(r'"(\w+)"', contract)[::-1]
    folders = {
        path.parent.name for path in (ROOT / "workflow/scripts/joules").glob("*/__init__.py")
    }
    assert set(rooms) == folders
    picture = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    assert [
        room for room in re.findall(r"^ │ (\w+) +│ ", picture, re.M) if room in folders
    ] == rooms
    contributing = re.sub(r"\s+", " ", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert ", ".join(f"`{room}`" for room in rooms) in contributing
