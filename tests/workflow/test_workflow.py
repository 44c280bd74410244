"""What the workflow says before anything runs: plans, refusals, the shape of its code."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from small_study import CHECKOUT, Tree, jobs_of

from joules.core.reading import load_study


def snakemake(clone: Tree, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Snakemake in the clone; every call here is a dry run or is refused."""
    return subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments],
        cwd=clone.folder,
        capture_output=True,
        text=True,
    )


def refused(clone: Tree, tmp_path: Path, **changes: object) -> str:
    """Return what is printed for a small study with these changes, which must be refused."""
    study = {"study": "unmade", "models": ["parrot-1m"], "runtimes": ["ollama", "llama_cpp"]}
    path = tmp_path / "changed.yaml"
    path.write_text(yaml.safe_dump(study | changes))
    done = snakemake(clone, "--configfile", str(path), "--cores", "1", "--dry-run", "all")
    assert done.returncode != 0
    shown = done.stdout + done.stderr
    assert "Traceback" not in shown
    return shown


def test_the_default_study_is_two_models_two_runtimes_five_blocks_and_the_control(clone):
    done = snakemake(clone, "--cores", "1", "--dry-run", "all")
    jobs = jobs_of(done.stdout + done.stderr)
    assert jobs["measure"] == jobs["grade"] == (2 * 2 + 2) * 5
    assert load_study().study.problems == "all"


def test_a_study_of_ones_own_inherits_nothing_of_the_demonstration(clone, tmp_path):
    """Neither its models nor its blocks; ten blocks are the default."""
    path = tmp_path / "mine.yaml"
    path.write_text("study: mine\nmodels: [parrot-1m]\nruntimes: [ollama]\n")
    done = snakemake(clone, "--configfile", str(path), "--cores", "1", "--dry-run", "all")
    jobs = jobs_of(done.stdout + done.stderr)
    assert jobs["measure"] == (1 + 1) * 10
    assert "results/mine/" in done.stdout + done.stderr


def test_the_articles_study_can_be_planned_offline_and_touches_no_hardware(clone):
    """`unshare -n` takes the network away."""
    command = ["--cores", "1", "--dry-run", "--configfile", "config/study.yaml", "--", "all"]
    offline = ["unshare", "-rn", "--"]
    allowed = subprocess.run([*offline, "true"], capture_output=True).returncode == 0
    if not allowed:
        pytest.skip("this machine allows no network namespace")
    done = subprocess.run(
        [*offline, sys.executable, "-m", "snakemake", *command],
        cwd=clone.folder,
        capture_output=True,
        text=True,
    )
    jobs = jobs_of(done.stdout + done.stderr)
    assert jobs["measure"] == (4 * 4 + 4) * 12
    assert jobs["measure"] == len(load_study(CHECKOUT / "config/study.yaml").runs())
    assert (jobs["fetch_model"], jobs["provide_runtime"]) == (4, 4)


def test_the_articles_study_measures_and_names_no_bundled_model():
    loaded = load_study(CHECKOUT / "config/study.yaml")
    study = loaded.study
    assert study.models == (
        "qwen2.5-coder-7b-instruct",
        "deepseek-coder-6.7b-instruct",
        "codellama-7b-instruct",
        "mistral-7b-instruct-v0.3",
    )
    entries = [loaded.catalogue.models[name] for name in study.models]
    assert not any(entry.bundled for entry in entries)
    assert all("Q4_K_M" in (entry.file or "").upper() for entry in entries)
    assert study.require_tier == "measured"
    assert study.demonstration is False
    assert study.blocks == 12
    assert study.kinds == ("task", "control")
    assert study.problems != "all"
    assert 20 <= study.problems <= 40
    assert study.limits.flag_only is False


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blokcs": 3}, r"`blokcs`.*Did you mean blocks"),
        ({"settings": {"contxt_length": 1}}, r"contxt_length"),
        ({"blocks": 0}, r"`blocks`.*0"),
        ({"require_tier": "guessed"}, r"guessed"),
        ({"study": "../elsewhere"}, r"`study`.*\.\./elsewhere"),
        ({"models": ["parrot-1n"]}, r"Unknown model 'parrot-1n'.*parrot-1m"),
        ({"runtimes": ["olama"]}, r"Unknown runtime 'olama'.*ollama"),
        (
            {
                "runtimes": ["llama_cpp", "gpt4all"],
                "settings": {"kv_cache": "q8_0", "flash_attention": True},
            },
            r"`kv_cache` is q8_0, and the runtime gpt4all cannot be told so",
        ),
        (
            {"runtimes": [], "arms": {"a": {"runtime": "olama"}}},
            r"Unknown runtime 'olama'.*ollama.*`arms\.a\.runtime`",
        ),
        (
            {"arms": {"a": {"runtime": "ollama"}}},
            r"both `runtimes` and `arms`.*Take one out",
        ),
        (
            {"measurements": {"source": "archive", "campaign": "no-such"}},
            r"no-such.*does not exist.*Correct the name",
        ),
    ],
)
def test_a_config_with_a_mistake_is_refused_and_names_it(clone, tmp_path, changes, message):
    assert re.search(message, refused(clone, tmp_path, **changes), re.DOTALL)


def test_arms_of_one_runtime_have_files_of_their_own_and_share_what_is_made_once(clone, tmp_path):
    arms = {
        "plain": {"runtime": "ollama"},
        "own-choice": {"runtime": "ollama", "settings": "as_installed"},
        "other": {"runtime": "ollama", "options": {"from": "path", "binary": "/bin/true"}},
    }
    study = {"study": "armed", "models": ["parrot-1m"], "kinds": ["task"], "blocks": 2}
    path = tmp_path / "armed.yaml"
    path.write_text(yaml.safe_dump(study | {"arms": arms}, sort_keys=False))
    done = snakemake(clone, "--configfile", str(path), "--cores", "1", "--dry-run", "all")
    shown = done.stdout + done.stderr
    assert done.returncode == 0, shown
    places = re.findall(r"output: results/armed/records/parrot-1m/(\S+)/task/(\d)\.json", shown)
    assert sorted(places) == sorted((name, block) for name in arms for block in "12")
    warm_ups = re.findall(r"output: results/armed/warm_up/parrot-1m/(\S+)\.json", shown)
    assert sorted(warm_ups) == sorted(arms)
    provided = re.findall(r"output: (resources/runtimes/ollama/\S+\.json)", shown)
    assert len(provided) == len(set(provided)) == jobs_of(shown)["provide_runtime"] == 2


@pytest.mark.parametrize("name", ["defaults", "settings"])
def test_the_shipped_studies_of_arms_can_be_planned(clone, name):
    loaded = load_study(CHECKOUT / f"config/{name}.yaml")
    config = f"config/{name}.yaml"
    done = snakemake(clone, "--configfile", config, "--cores", "1", "--dry-run", "all")
    jobs = jobs_of(done.stdout + done.stderr)
    assert jobs["measure"] == len(loaded.runs())
    assert jobs["warm_up"] == len(loaded.study.compared)
    assert jobs["provide_runtime"] == 2, "each runtime once for all of its arms"


def test_a_configuration_without_a_name_is_refused_and_not_laid_over_the_demonstration(
    clone, tmp_path
):
    path = tmp_path / "nameless.yaml"
    path.write_text("blocks: 3\n")
    done = snakemake(clone, "--configfile", str(path), "--cores", "1", "--dry-run", "all")
    assert done.returncode != 0
    assert "has no `study`" in done.stdout + done.stderr


def test_a_runtime_without_options_is_refused(clone, tmp_path):
    tree = clone.copy(tmp_path / "tree")
    path = tree.folder / "config/runtime_options.yaml"
    options = yaml.safe_load(path.read_text())
    del options["llama_cpp"]
    path.write_text(yaml.safe_dump(options))
    done = snakemake(tree, "--cores", "1", "--dry-run", "all")
    assert done.returncode != 0
    assert "no entry for 'llama_cpp'" in done.stdout + done.stderr


def test_nothing_is_measured_without_a_limit_on_the_meter(clone):
    target = "results/demo/schedule.csv"
    done = snakemake(clone, "--cores", "1", "--resources", "other=1", "--force", "--", target)
    assert done.returncode != 0
    assert "no limit on the resource `meter`" in done.stdout + done.stderr


SCRIPTS = sorted((CHECKOUT / "workflow/scripts").glob("*.py"))
PACKAGE = sorted((CHECKOUT / "workflow/scripts/joules").rglob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_thin_and_names_snakemake_only_under_its_guard(script):
    source = script.read_text()
    assert len(source.splitlines()) <= 30
    guard = source.index('if __name__ == "__main__":')
    outside = ast.parse(source[:guard])
    assert not [n for n in ast.walk(outside) if isinstance(n, ast.Name) and n.id == "snakemake"]


@pytest.mark.parametrize("module", PACKAGE, ids=lambda path: "/".join(path.parts[-2:]))
def test_a_module_is_documented_short_and_free_of_snakemake(module):
    source = module.read_text()
    tree = ast.parse(source)
    assert ast.get_docstring(tree)
    assert len(source.splitlines()) <= 400
    names = [n.id for n in ast.walk(tree) if isinstance(n, ast.Name)]
    assert "snakemake" not in names


FREE_MAPPING = re.compile(r"\b(?:dict|Mapping)\[str, (?:Any|object)\]")


def test_free_mappings_stay_for_foreign_data():
    """What is stored or configured has a type; 305 lines had none before there were types."""
    found = [
        f"{path.relative_to(CHECKOUT)}:{number}"
        for path in PACKAGE
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if FREE_MAPPING.search(line)
    ]
    assert len(found) <= 60, "\n".join(found)


def test_no_two_names_in_a_room_differ_by_one_letter_and_none_hides_the_standard_library():
    for room in {path.parent for path in PACKAGE}:
        names = sorted(path.stem for path in room.glob("*.py"))
        plurals = [name for name in names if f"{name}s" in names]
        assert not plurals, f"{room.name}: {plurals}"
        assert not {*names} & {"statistics", "logging", "types", "queue", "platform", "signal"}


def run_python(code: str, path: str) -> str:
    """Return what a fresh interpreter prints; `path` is its PYTHONPATH."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=CHECKOUT,
        env={"PYTHONPATH": path, "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_measuring_path_imports_neither_pandas_nor_matplotlib():
    code = (
        "import sys; from joules import runtimes; from joules.measure import campaign, warm_up\n"
        "[runtimes.load(name) for name in runtimes.names()]\n"
        "print([m for m in ('pandas', 'matplotlib', 'scipy', 'pyarrow') if m in sys.modules])"
    )
    assert run_python(code, "workflow/scripts") == "[]"


WORKERS = [
    *("joules.runtimes", "joules.runtimes.shared.worker", "joules.core.inference"),
    *(f"joules.grade.sandbox.{name}" for name in ("judge", "probes", "confinement", "plain_data")),
]


@pytest.mark.parametrize("module", WORKERS)
def test_what_a_worker_imports_needs_the_standard_library_alone(module):
    """A runtime's own environment, and the sandbox, have nothing else of ours."""
    code = (
        f"import sys, {module}\n"
        "known = sys.stdlib_module_names | {'joules', '__main__', 'sitecustomize'}\n"
        "print(sorted({n.split('.')[0] for n in sys.modules} - known - {'_distutils_hack'}))"
    )
    loaded = run_python(code, "workflow/scripts")
    assert not re.search(r"msgspec|yaml|psutil|numpy", loaded), loaded


def test_files_are_found_however_snakemake_spells_the_package_s_folder():
    """It puts `workflow/rules/../scripts` on the path, which has other parents."""
    code = (
        "from joules.core.places import REPOSITORY\n"
        "print((REPOSITORY / 'requirements/llama_cpp.txt').exists())"
    )
    assert run_python(code, f"{CHECKOUT}/workflow/rules/../scripts") == "True"


def test_rule_files_import_only_what_the_core_offers_and_one_place_makes_it_known():
    files = [CHECKOUT / "Snakefile", *(CHECKOUT / "workflow/rules").glob("*.smk")]
    for path in files:
        imports = re.findall(
            r"^[ \t]*(?:from|import) (\S*joules\S*)", path.read_text(), re.MULTILINE
        )
        # What takes the user's surroundings away has to act before any library is loaded; what is
        # registered, and which meters are read, has to be known before anything is measured.
        allowed = {
            "joules.machine": "from joules.machine import surroundings",
            "joules.inputs.study_plan": "from joules.inputs.study_plan import study_plan",
            "joules.runtimes": "    from joules.runtimes import check_kv_cache",
            "joules.meters.entries": "from joules.meters.entries import polled_meters",
        }
        for name in imports:
            assert name.startswith("joules.core") or allowed[name] in path.read_text(), path
        assert path.name == "common.smk" or not imports
    assert sum(path.read_text().count("sys.path.insert") for path in files) == 1


def test_rule_files_load_no_library_but_msgspec_and_yaml():
    """Each job reads them anew, and numbers of the analysis would make each start slow."""
    source = (CHECKOUT / "workflow/rules/common.smk").read_text()
    imports = re.findall(r"^from joules\S* import (?:\([^)]*\)|.*)$", source, re.MULTILINE)
    assert len(imports) > 5
    code = (
        "import sys\n"
        + "\n".join(imports)
        + (
            "\nknown = sys.stdlib_module_names | {'joules', '__main__', 'sitecustomize'}\n"
            "print(sorted({n.split('.')[0] for n in sys.modules} - known - {'_distutils_hack'}))"
        )
    )
    loaded = ast.literal_eval(run_python(code, "workflow/scripts"))
    compiled = {name for name in loaded if "cython" in name}  # parts of PyYAML
    assert set(loaded) - compiled <= {"msgspec", "yaml", "_yaml", "typing_extensions"}
