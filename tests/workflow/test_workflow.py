"""What the workflow says before anything runs: plans, refusals, the shape of its code."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from small_study import CHECKOUT, jobs_of

from joules.study_config import load_study


def snakemake(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Snakemake in the checkout; every call here is a dry run or is refused."""
    return subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
    )


def refused(tmp_path: Path, **changes: object) -> str:
    """Return what is printed for a config with these changes, which must be refused."""
    path = tmp_path / "changed.yaml"
    path.write_text(yaml.safe_dump({"study": "unmade", **changes}))
    done = snakemake("--configfile", str(path), "--cores", "1", "--dry-run", "all")
    assert done.returncode != 0
    return done.stdout + done.stderr


def test_the_default_study_is_two_models_two_runtimes_five_blocks_and_the_control(tmp_path):
    path = tmp_path / "fresh.yaml"
    path.write_text("study: never-run\n")
    done = snakemake("--configfile", str(path), "--cores", "1", "--dry-run", "all")
    jobs = jobs_of(done.stdout + done.stderr)
    assert jobs["measure"] == jobs["grade"] == (2 * 2 + 2) * 5
    config = yaml.safe_load((CHECKOUT / "config/config.yaml").read_text())
    assert config["problems"] == "all"


def test_the_articles_study_can_be_planned_offline_and_touches_no_hardware():
    """`unshare -n` takes the network away."""
    command = ["--cores", "1", "--dry-run", "--configfile", "config/study.yaml", "--", "all"]
    offline = ["unshare", "-rn", "--"]
    allowed = subprocess.run([*offline, "true"], capture_output=True).returncode == 0
    if not allowed:
        pytest.skip("this machine allows no network namespace")
    done = subprocess.run(
        [*offline, sys.executable, "-m", "snakemake", *command],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
    )
    jobs = jobs_of(done.stdout + done.stderr)
    assert jobs["measure"] == (4 * 2 + 4) * 10 + 4 * 2  # and a quality run of each cell
    assert jobs["measure"] == len(load_study(CHECKOUT / "config/study.yaml").runs())
    assert jobs["fetch_model"] == 4


def test_the_articles_study_measures_and_names_no_bundled_model():
    study = yaml.safe_load((CHECKOUT / "config/study.yaml").read_text())
    catalogue = yaml.safe_load((CHECKOUT / "config/models.yaml").read_text())["models"]
    assert study["models"] == [
        "qwen2.5-coder-7b-instruct",
        "deepseek-coder-6.7b-instruct",
        "codellama-7b-instruct",
        "mistral-7b-instruct-v0.3",
    ]
    assert not any(catalogue[name].get("bundled") for name in study["models"])
    assert all("Q4_K_M" in catalogue[name]["file"].upper() for name in study["models"])
    assert study["require_tier"] == "measured"
    assert study["blocks"] == 10
    assert study["kinds"] == ["task", "control", "quality"]
    assert 20 <= study["problems"] <= 40
    assert study["limits"]["flag_only"] is False


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blokcs": 3}, r"blokcs"),
        ({"settings": {"contxt_length": 1}}, r"contxt_length"),
        ({"blocks": 0}, r"blocks|minimum"),
        ({"require_tier": "guessed"}, r"guessed"),
        ({"models": ["parrot-1n"]}, r"Unknown model 'parrot-1n'.*parrot-1m.*config/models\.yaml"),
        ({"runtimes": ["olama"]}, r"Unknown runtime 'olama'.*ollama"),
        (
            {"measurements": {"source": "archive", "campaign": "no-such"}},
            r"no-such.*does not exist.*Correct the name",
        ),
    ],
)
def test_a_config_with_a_mistake_is_refused_and_names_it(tmp_path, changes, message):
    assert re.search(message, refused(tmp_path, **changes), re.DOTALL)


def test_a_runtime_without_options_is_refused(tmp_path):
    config = yaml.safe_load((CHECKOUT / "config/config.yaml").read_text())
    del config["runtime_options"]["llama_cpp"]
    folder = tmp_path / "tree"
    for name in ("Snakefile", "workflow", "profiles", "config", "envs"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(CHECKOUT / name)
    (folder / "config").unlink()
    (folder / "config").mkdir()
    (folder / "config/models.yaml").symlink_to(CHECKOUT / "config/models.yaml")
    (folder / "config/config.yaml").write_text(yaml.safe_dump(config))
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "1", "--dry-run", "all"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "no entry for 'llama_cpp'" in done.stdout + done.stderr


def test_nothing_is_measured_without_a_limit_on_the_meter():
    target = "results/demo/schedule.csv"
    done = snakemake("--cores", "1", "--resources", "other=1", "--force", "--", target)
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


@pytest.mark.parametrize("module", PACKAGE, ids=lambda path: path.stem)
def test_a_module_is_documented_short_and_free_of_snakemake(module):
    source = module.read_text()
    tree = ast.parse(source)
    assert ast.get_docstring(tree)
    assert len(source.splitlines()) <= 400
    names = [n.id for n in ast.walk(tree) if isinstance(n, ast.Name)]
    assert "snakemake" not in names


def test_the_measuring_path_imports_neither_pandas_nor_matplotlib():
    code = (
        "import sys; from joules import campaign, warm_up, runtimes\n"
        "[runtimes.load(name) for name in runtimes.names()]\n"
        "print([m for m in ('pandas', 'matplotlib', 'scipy', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=CHECKOUT,
        env={"PYTHONPATH": "workflow/scripts", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_files_are_found_however_snakemake_spells_the_package_s_folder():
    """It puts `workflow/rules/../scripts` on the path, which has other parents."""
    code = (
        "from joules import models, ollama_build\n"
        "print((ollama_build.ROOT / 'requirements/llama_cpp.txt').exists())\n"
        "print((models.REPOSITORY / 'config/models.yaml').exists())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=CHECKOUT,
        env={"PYTHONPATH": f"{CHECKOUT}/workflow/rules/../scripts", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["True", "True"], done.stdout + done.stderr


def test_rule_files_import_nothing_of_the_package_but_the_plan():
    for path in [CHECKOUT / "Snakefile", *(CHECKOUT / "workflow/rules").glob("*.smk")]:
        imports = re.findall(r"^[ \t]*(?:from|import) .*joules.*$", path.read_text(), re.MULTILINE)
        allowed = ["from workflow.scripts.joules.schedule import plan"]
        assert imports == (allowed if path.name == "common.smk" else [])
