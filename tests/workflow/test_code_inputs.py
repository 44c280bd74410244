"""Which code makes a rule run again: whole rooms, exactly those that its script can reach."""

import ast
import re

import grimp
import pytest
from small_study import CHECKOUT

SCRIPTS = CHECKOUT / "workflow/scripts"
# Whatever imports the one can load every module of the other, by its name.
LOADERS = {
    "joules.runtimes": "joules.runtimes",
    "joules.meters": "joules.meters",
    "joules.draw.drawing": "joules.draw.figures",
}
# Left of records and grades nothing runs again because of an edit: records hold the hash of the
# instrument, and measuring twice is no small thing.
MEASURING = {
    *("fetch_model", "provide_runtime", "write_prompts", "warm_up", "agree", "write_schedule"),
    *("measure", "grade"),
}


def rules() -> dict[str, str]:
    """Return rule -> its text, of every rule that has a script."""
    found = {}
    for path in sorted((CHECKOUT / "workflow/rules").glob("*.smk")):
        for text in re.split(r"^(?=rule )", path.read_text(), flags=re.MULTILINE)[1:]:
            if "script:" in text:
                found[text.split(":")[0].removeprefix("rule ")] = text
    return found


RULES = rules()


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """Every import inside the package."""
    return grimp.build_graph("joules", cache_dir=None)


def reached(graph: grimp.ImportGraph, script: str) -> set[str]:
    """Return the rooms of all modules that a script imports, directly or not."""
    tree = ast.parse((SCRIPTS / f"{script}.py").read_text())
    wanted = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("joules"):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            wanted |= {node.module} | {name for name in names if name in graph.modules}
        elif isinstance(node, ast.Import):
            wanted |= {alias.name for alias in node.names if alias.name.startswith("joules")}
    found: set[str] = set()
    while wanted:
        module = wanted.pop()
        if module in found:
            continue
        found.add(module)
        wanted |= graph.find_modules_directly_imported_by(module)
        if module in LOADERS:
            wanted |= set(graph.find_children(LOADERS[module]))
    return {name.split(".")[1] for name in found if name.count(".")}


def named(text: str) -> set[str]:
    """Return the rooms that a rule names as code."""
    call = re.search(r"code_of\((.*?)\)", text, re.DOTALL)
    return set(re.findall(r'"(\w+)"', call[1])[1:]) if call else set()


def test_every_script_belongs_to_a_rule_of_its_name():
    assert {path.stem for path in SCRIPTS.glob("*.py")} == set(RULES)
    for rule, text in RULES.items():
        assert f'"../scripts/{rule}.py"' in text


@pytest.mark.parametrize("rule", sorted(set(RULES) - MEASURING))
def test_a_rule_right_of_the_records_names_its_script_and_the_rooms_it_reaches(rule, graph):
    assert f'code_of("{rule}"' in re.sub(r"\(\s+", "(", RULES[rule])
    rooms, needed = named(RULES[rule]), reached(graph, rule)
    assert rooms == needed, f"missing {needed - rooms}, named for nothing {rooms - needed}"


@pytest.mark.parametrize("rule", sorted(MEASURING))
def test_no_rule_left_of_the_records_takes_code_as_input(rule):
    assert "code_of(" not in RULES[rule]


def test_every_module_that_loads_others_by_name_is_known():
    for path in (SCRIPTS / "joules").rglob("*.py"):
        loads = re.search(r"import_module\(f\"", path.read_text())
        name = ".".join(path.relative_to(SCRIPTS).with_suffix("").parts).removesuffix(".__init__")
        # A worker runs beside a rule and not in it.
        assert not loads or name in {*LOADERS, "joules.runtimes.shared.worker"}, name


def test_a_room_that_is_missing_or_named_for_nothing_is_seen(graph):
    assert {"core", "analyse"} <= reached(graph, "tabulate")
    assert "measure" not in reached(graph, "tabulate")
    assert "runtimes" in reached(graph, "measure")
    assert named('code=code_of("x", "core", "draw"),') == {"core", "draw"}
