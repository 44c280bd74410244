"""requirements/ and envs/ hold what is asked for, in one version, with hashes and no address."""

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
ASKED = sorted((ROOT / "requirements").glob("*.in"))
PINNED = sorted((ROOT / "requirements").glob("*.txt"))
ENVIRONMENTS = sorted((ROOT / "envs").glob("*.yaml"))
PIN = re.compile(r"^(?P<pin>[a-z0-9][a-z0-9._-]*==[^ ;\\]+)(?: ; [^\\]+)? \\$")
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}(?: \\)?$")
RECOMPILE = "CONTRIBUTING.md says how to compile requirements/*.txt anew."


def asked_in(path: Path) -> dict[str, Requirement]:
    """Return what one .in file asks for, with all that it includes by -r."""
    found: dict[str, Requirement] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.partition(" #")[0].strip()
        if text.startswith("-r "):
            found |= asked_in(path.parent / text.removeprefix("-r "))
        elif text and not text.startswith(("#", "-c ")):
            requirement = Requirement(text)
            found[canonicalize_name(requirement.name)] = requirement
    return found


def pinned_in(path: Path) -> dict[str, str]:
    """Return the version of every package of one compiled file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    pins = [match["pin"] for line in lines if (match := PIN.match(line))]
    return {canonicalize_name(name): version for name, version in (pin.split("==") for pin in pins)}


def directly_in(path: Path) -> set[str]:
    """Return the packages that one compiled file names as asked for by an .in file."""
    found: set[str] = set()
    package = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if match := PIN.match(line):
            package = canonicalize_name(match["pin"].split("==")[0])
        elif re.match(r"^    #(?: via)? +-r ", line):
            found.add(package)
    return found


def versions() -> dict[str, str]:
    """Return the version of every package of all compiled files."""
    return {name: version for path in PINNED for name, version in pinned_in(path).items()}


def packages_of(environment: Path) -> dict[str, str]:
    """Return package and version of a conda environment, its pip section included."""
    found: dict[str, str] = {}
    for entry in yaml.safe_load(environment.read_text(encoding="utf-8"))["dependencies"]:
        for text in entry["pip"] if isinstance(entry, dict) else [entry]:
            name, _, version = re.sub(r" *=+ *", "=", text).partition("=")
            found[canonicalize_name(name.removesuffix("-base"))] = version
    return found


def test_every_in_file_has_its_compiled_file_and_the_other_way_round() -> None:
    assert ASKED
    assert [path.stem for path in ASKED] == [path.stem for path in PINNED]


@pytest.mark.parametrize("path", ASKED, ids=lambda path: path.name)
def test_a_compiled_file_holds_what_its_in_file_asks_for(path: Path) -> None:
    compiled = path.with_suffix(".txt")
    asked, pinned = asked_in(path), pinned_in(compiled)
    assert directly_in(compiled) == set(asked), RECOMPILE
    wrong = [str(want) for name, want in asked.items() if pinned[name] not in want.specifier]
    assert not wrong, RECOMPILE


@pytest.mark.parametrize("path", PINNED, ids=lambda path: path.name)
def test_every_pin_has_hashes_and_no_line_holds_an_address_or_an_option(path: Path) -> None:
    package, hashes = "", {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if match := PIN.match(line):
            package = match["pin"]
            hashes[package] = 0
        elif HASH.match(line):
            hashes[package] += 1
        else:
            assert line.lstrip().startswith("#"), f"{line!r}: neither pin, hash nor comment"
            assert "://" not in line and "index" not in line
    assert hashes and all(hashes.values()), hashes


def test_all_compiled_files_agree_on_versions() -> None:
    for path in PINNED:
        for name, version in pinned_in(path).items():
            assert versions()[name] == version, f"{name} in {path.name}: {RECOMPILE}"


def test_every_imported_library_is_asked_for_by_name() -> None:
    asked = set(asked_in(ROOT / "requirements/main.in"))
    for path in [path for path in ASKED if path.stem.startswith(("llama_cpp", "runtime-"))]:
        asked |= set(asked_in(path))
    local = {"joules", *(path.stem for path in (ROOT / "workflow/scripts").glob("*.py"))}
    distributions = packages_distributions()
    missing = set()
    for path in (ROOT / "workflow/scripts").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules: list[str] = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules = [node.module]
            for top in {module.partition(".")[0] for module in modules}:
                if top in sys.stdlib_module_names or top in local:
                    continue
                names = {canonicalize_name(name) for name in distributions.get(top, [top])}
                if not names & asked:
                    missing.add(f"{path.name}: {top}")
    assert not missing, "add these to requirements/main.in or analysis.in"


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.name)
def test_a_conda_environment_has_the_versions_of_requirements(path: Path) -> None:
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert content["channels"] == ["conda-forge", "nodefaults"]
    packages = packages_of(path)
    assert packages.pop("python") == "3.11"
    packages.pop("pip")
    assert packages
    pinned = versions()
    assert packages == {name: pinned.get(name) for name in packages}


def test_every_rule_names_a_conda_environment_that_exists() -> None:
    named: set[str] = set()
    for rules in (ROOT / "workflow/rules").glob("*.smk"):
        named |= set(re.findall(r'"\.\./\.\./envs/([^"]+)"', rules.read_text(encoding="utf-8")))
    runtimes = [
        path.stem
        for path in (ROOT / "workflow/scripts/joules/runtimes").glob("*.py")
        if path.stem != "__init__"
    ]
    assert runtimes
    wanted = {name.replace("{runtime}", runtime) for name in named for runtime in runtimes}
    assert wanted == {path.name for path in ENVIRONMENTS}
