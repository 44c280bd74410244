"""The user's variables, files and folders: harmless, or refused by name before anything is done."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from small_study import CHECKOUT, Tree

from joules.core.errors import UserError
from joules.core.places import SCRIPTS
from joules.machine import surroundings

# A value for each pattern of the list, which does harm where it is read.
HARM = {
    "MATPLOTLIBRC": ("MATPLOTLIBRC", "/no/such/file"),
    "PYTHON*": ("PYTHONWARNINGS", "error"),
    "SCIPY_ARRAY_API": ("SCIPY_ARRAY_API", "1"),
    "NPY_*": ("NPY_DISABLE_CPU_FEATURES", "AVX2"),
    "PANDAS_*": ("PANDAS_COPY_ON_WRITE", "warn"),
    "BASH_ENV": ("BASH_ENV", "/no/such/file"),
    "CDPATH": ("CDPATH", "/"),
}


def child(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SCRIPTS), "HOME": "/", **variables},
        capture_output=True,
        text=True,
    )


def dry(
    tree: Tree, python: str = sys.executable, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-m", "snakemake", "--dry-run", "--cores", "1"],
        cwd=tree.folder,
        env={k: v for k, v in os.environ.items() if k != "XDG_CACHE_HOME"} | variables,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("pattern", surroundings.TAKEN_AWAY)
def test_no_process_that_is_started_sees_what_is_taken_away(pattern: str) -> None:
    name, harm = HARM[pattern]
    code = (
        "import os, subprocess; from pathlib import Path; from joules.machine import surroundings\n"
        "surroundings.settle(Path('/tmp')); subprocess.run(['env'])"
    )
    assert f"{name}=" not in child(code, **{name: harm}).stdout


def test_the_interpreter_that_is_asked_for_stays() -> None:
    code = (
        "import os; from pathlib import Path; from joules.machine import surroundings\n"
        "surroundings.settle(Path('/tmp')); print(os.environ['PYTHON'])"
    )
    assert child(code, PYTHON="python3.12").stdout == "python3.12\n"


def test_commands_draw_whatever_backend_a_notebook_names() -> None:
    notebook = {"MPLBACKEND": "module://matplotlib_of_a_notebook"}
    draw = "import seaborn, matplotlib.pyplot as p; p.figure(); print(p.get_backend())"
    assert child(draw, **notebook).returncode != 0
    assert child(f"import joules.commands; {draw}", **notebook).stdout.strip() == "agg"


def test_certificates_that_are_not_there_are_not_used_and_others_are(tmp_path: Path) -> None:
    there = tmp_path / "ca.pem"
    there.touch()
    code = "import joules.commands, os; print(os.environ.get('SSL_CERT_FILE'))"
    assert child(code, SSL_CERT_FILE=str(tmp_path / "gone")).stdout == "None\n"
    assert child(code, SSL_CERT_FILE=str(there)).stdout == f"{there}\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("all_proxy", "socks://127.0.0.1:7891/"),
        ("ALL_PROXY", "socks://127.0.0.1:7891/"),
        ("HTTP_PROXY", "ftp://127.0.0.1:1"),
        ("OLLAMA_HOST", "http://[::1"),
        ("SSL_CERT_FILE", "/no/such/file"),
    ],
)
def test_a_client_can_be_imported_whatever_proxy_or_host_is_set(name: str, value: str) -> None:
    if child("import ollama", **{name: value}).returncode == 0:
        pytest.skip("this version of the client does not read the variable")
    code = (
        "from joules.machine import surroundings\n"
        "with surroundings.hidden_from_clients('OLLAMA_*'):\n    import ollama\n"
        f"import os; print(os.environ[{name!r}])"
    )
    done = child(code, **{name: value})
    assert done.stdout == f"{value}\n", done.stderr


def test_a_profile_of_the_user_is_refused_by_its_variable_s_name(
    clone: Tree, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text("config: [blocks=7]\n")
    done = dry(clone, SNAKEMAKE_PROFILE=str(tmp_path))
    assert done.returncode != 0
    assert "SNAKEMAKE_PROFILE" in done.stdout + done.stderr
    assert "unset SNAKEMAKE_PROFILE" in done.stdout + done.stderr


def test_a_folder_for_temporary_files_that_is_not_there_is_named(clone: Tree) -> None:
    done = dry(clone, TMPDIR="/no/such/folder")
    assert done.returncode != 0
    assert "TMPDIR names /no/such/folder" in done.stdout + done.stderr


def test_variables_that_are_set_and_empty_are_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNAKEMAKE_PROFILE", "")
    surroundings.refuse()
    monkeypatch.setenv("SNAKEMAKE_PROFILE", "mine")
    with pytest.raises(UserError, match=r"SNAKEMAKE_PROFILE is set \(mine\)"):
        surroundings.refuse()


@pytest.mark.parametrize("name", ["with space", "it's", "{x}", "a&b", "$HOME", "a:b"])
def test_a_folder_that_a_shell_would_take_apart_is_refused_at_once(
    name: str, clone: Tree, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="Move or clone it to another folder"):
        surroundings.check_paths(tmp_path / name, "/usr/bin/python3")
    with pytest.raises(UserError, match="Its Python lies in"):
        surroundings.check_paths(tmp_path, str(tmp_path / name / "python"))
    (tmp_path / name).mkdir()
    shutil.copytree(CHECKOUT / "requirements", tmp_path / name / "requirements")
    done = subprocess.run(
        ["bash", "requirements/install.sh", "review"],
        cwd=tmp_path / name,
        capture_output=True,
        text=True,
    )
    assert done.returncode == os.EX_USAGE
    assert done.stderr.startswith(f"error: This clone lies in {tmp_path / name}")
    assert not (tmp_path / name / ".venv-review").exists()


@pytest.mark.parametrize("name", ["plain", "mit-ü", "数据", "a_b.c+d@e#f~g"])
def test_other_folders_are_not_refused(name: str, tmp_path: Path) -> None:
    surroundings.check_paths(tmp_path / name, str(tmp_path / name / ".venv/bin/python"))
    (tmp_path / name).mkdir()
    shutil.copytree(CHECKOUT / "requirements", tmp_path / name / "requirements")
    done = subprocess.run(
        ["bash", "requirements/install.sh", "nothing"],
        cwd=tmp_path / name,
        capture_output=True,
        text=True,
    )
    assert done.stderr.startswith("error: Unknown environment 'nothing'")


def test_a_clone_in_a_folder_with_a_space_is_refused_by_the_workflow(
    clone: Tree, tmp_path: Path
) -> None:
    tree = clone.copy(tmp_path / "with space")
    done = dry(tree)
    assert done.returncode != 0
    assert "whose name holds ' '" in done.stdout + done.stderr


def make(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *arguments],
        cwd=CHECKOUT,
        env={"PATH": os.environ["PATH"], "HOME": "/", **variables},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    "name",
    [*("PYTHONPATH", "PYTHONHOME", "PYTHONWARNINGS", "PYTHONOPTIMIZE", "BASH_ENV", "CDPATH")]
    + ["MPLBACKEND", "MATPLOTLIBRC", "SNAKEMAKE_PROFILE"],
)
def test_make_hands_on_no_variable_that_reaches_a_library_first(name: str) -> None:
    done = make("--eval", "shown: ; @env", "shown", **{name: "/mine"})
    assert "PATH=" in done.stdout and f"{name}=" not in done.stdout


@pytest.mark.parametrize(("name", "target"), [("NAME", "runtime"), ("CONFIG", "all")])
def test_a_variable_that_a_shell_holds_for_other_things_is_no_argument(
    name: str, target: str
) -> None:
    done = make("-n", target, **{name: "DESKTOP"})
    assert done.returncode == 2
    assert f"{name} is set in the environment (DESKTOP)" in done.stderr
    assert f"make {target} {name}=" in done.stderr
    assert "DESKTOP" in make("-n", target, f"{name}=DESKTOP").stdout
    assert make("-n", "quick", **{name: "DESKTOP"}).returncode == 0


def test_make_starts_no_script_by_a_run_bit_that_an_archive_may_lose() -> None:
    text = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    assert not re.search(r"(?<!bash )requirements/install\.sh", text)


def own_environment(tree: Tree, settling: str | None) -> str:
    """Make an environment in a tree with all packages at hand; return its Python.

    `settling`: a file of requirements/ to put into it, as install.sh does.
    """
    folder = tree.folder / f".venv-{'settled' if settling else 'plain'}"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    places = [each for each in sys.path if each.endswith("-packages")]
    (packages / "others.pth").write_text("".join(f"{each}\n" for each in places))
    if settling:
        shutil.copy(tree.folder / "requirements" / settling, packages)
    return str(folder / "bin/python")


def cache_under_make(folder: Path, **variables: str) -> str:
    """Return XDG_CACHE_HOME as make hands it to the commands of a target."""
    shown = folder / "show.mk"
    shown.write_text('include Makefile\nshow:\n\t@echo "$$XDG_CACHE_HOME"\n')
    surrounding = {k: v for k, v in os.environ.items() if k != "XDG_CACHE_HOME"} | variables
    command = ["make", "--no-print-directory", "-s", "-f", str(shown), "show"]
    done = subprocess.run(command, cwd=CHECKOUT, env=surrounding, capture_output=True, text=True)
    return done.stdout.strip()


def test_no_home_is_needed_for_the_caches_of_snakemake(clone: Tree, tmp_path: Path) -> None:
    """Below /proc nobody can make a folder, root neither."""
    assert cache_under_make(tmp_path, HOME="/proc/nobody") == f"{CHECKOUT}/.snakemake/cache"
    tree = clone.copy(tmp_path / "tree")
    plain, settled = (own_environment(tree, name) for name in (None, "caches.pth"))
    for home in ("/proc/nobody", "/proc/sys"):
        failed = dry(tree, plain, HOME=home)
        assert failed.returncode != 0, "nothing had to be settled: this test shows nothing"
        done = dry(tree, settled, HOME=home)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (tree.folder / ".snakemake/cache/snakemake").is_dir()


def test_settling_caches_makes_none_in_a_home_that_can_hold_them(
    clone: Tree, tmp_path: Path
) -> None:
    """A runtime's worker is given a home of its own, in which nothing may be left."""
    tree = clone.copy(tmp_path / "tree")
    python, home = own_environment(tree, "caches.pth"), tmp_path / "home"
    home.mkdir()
    show = "import os; print(os.environ.get('XDG_CACHE_HOME'))"
    surrounding = {k: v for k, v in os.environ.items() if k != "XDG_CACHE_HOME"}
    for place in (home, home / "deeper"):
        done = subprocess.run(
            [python, "-c", show],
            env=surrounding | {"HOME": str(place)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == "None"
    assert list(home.iterdir()) == []


def test_the_environment_of_this_checkout_settles_caches_before_snakemake_starts() -> None:
    if Path(sys.prefix) != CHECKOUT / ".venv":
        pytest.skip("these tests run in another environment than install.sh makes")
    placed = Path(sysconfig.get_path("purelib")) / "caches.pth"
    assert placed.read_bytes() == (CHECKOUT / "requirements/caches.pth").read_bytes()


def test_clones_share_the_caches_of_a_home_that_can_be_written(tmp_path: Path) -> None:
    """Go's cache among them: without it each clone compiles for minutes."""
    assert cache_under_make(tmp_path, HOME=str(tmp_path)) == ""
    own = str(tmp_path / "own")
    assert cache_under_make(tmp_path, HOME="/proc/nobody", XDG_CACHE_HOME=own) == own


def test_caches_go_to_the_clone_where_the_home_cannot_be_written(tmp_path: Path) -> None:
    code = (
        "import os; from pathlib import Path; from joules.machine import surroundings\n"
        "os.environ.pop('XDG_CACHE_HOME', None)  # this Python's own start may have settled it\n"
        "surroundings.settle(Path('/clone'))\n"
        "print(os.environ.get('XDG_CACHE_HOME'), os.environ['MPLCONFIGDIR'])"
    )
    kept = "/clone/.snakemake"
    assert child(code, HOME="/proc/none").stdout == f"{kept}/cache {kept}/matplotlib\n"
    assert child(code, HOME=str(tmp_path)).stdout == f"None {kept}/matplotlib\n"
