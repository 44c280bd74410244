"""requirements/ holds what is asked for, in one version, with hashes and no address."""

import ast
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name
from requirement_files import (
    ASKED,
    PIN,
    PINNED,
    ROOT,
    asked_in,
    pinned_in,
    stands_alone,
    versions,
)

HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}(?: \\)?$")
RECOMPILE = "CONTRIBUTING.md says how to compile requirements/*.txt anew."


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


def test_all_files_of_what_is_installed_agree_on_versions() -> None:
    for path in [path for path in PINNED if not stands_alone(path)]:
        for name, version in pinned_in(path).items():
            assert versions()[name] == version, f"{name} in {path.name}: {RECOMPILE}"


def test_every_imported_library_is_asked_for_by_name() -> None:
    asked = set(asked_in(ROOT / "requirements/main.in"))
    for path in [
        path for path in ASKED if path.stem.startswith(("llama_cpp", "runtime-", "meter-"))
    ]:
        asked |= set(asked_in(path))
    local = {"joules", *(path.stem for path in (ROOT / "workflow/scripts").glob("*.py"))}
    distributions = {"kasa": ["python-kasa"], **packages_distributions()}  # of another environment
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


def test_for_tests_everything_is_installed_but_what_would_be_compiled_once_more() -> None:
    text = (ROOT / "requirements/install.sh").read_text(encoding="utf-8")
    functions = text[text.index("runtimes() {") : text.index("install_runtime() (")]
    calls = 'for name in $(runtimes); do if compiled "$name"; then echo "$name"; fi; done'
    told = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{functions}\n{calls}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == ["llama_cpp-stock", "llama_server"]
    assert 'compiled "$name" || install_runtime "$name"' in text
    pins = pinned_in(ROOT / "requirements/runtime-llama_cpp-stock.txt")
    assert {"numpy", "jinja2", "diskcache", "typing-extensions"} <= set(pins)
    assert "llama-cpp-python" not in pins
