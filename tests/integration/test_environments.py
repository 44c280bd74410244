"""Runtimes' own environments: made when they are needed, and of the version that is asked for."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from joules import runtimes
from joules.core.errors import UserError
from joules.core.places import REPOSITORY
from joules.machine import virtual_environments

ROOT = REPOSITORY


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder, the working one, with the repository's requirements."""
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    pip_settings = "workflow/scripts/joules/machine/pip_settings.py"
    (tmp_path / pip_settings).parent.mkdir(parents=True)
    shutil.copy(ROOT / pip_settings, tmp_path / pip_settings)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_another_version_than_the_one_asked_for_is_refused_with_the_command() -> None:
    here = version("psutil")
    virtual_environments.provide("no_such_runtime", "psutil", here)
    with pytest.raises(UserError, match=rf"psutil {here} is installed.*expected 0\.1.*install\.sh"):
        virtual_environments.provide("no_such_runtime", "psutil", "0.1")
    with pytest.raises(UserError, match="no-such-package not at all is installed"):
        virtual_environments.provide("no_such_runtime", "no-such-package", "1")


def test_an_environment_that_cannot_be_made_is_refused_with_what_was_said(folder: Path) -> None:
    (folder / "requirements/runtime-broken.txt").write_text("no-such-package==1\n")
    with pytest.raises(
        UserError, match=r"(?s)broken could not be made: .*make runtime NAME=broken"
    ):
        virtual_environments.provide("broken", "no-such-package", "1")
    assert not (folder / ".venvs/broken/stamp").exists()


def test_a_runtime_without_an_environment_of_its_own_is_named_with_those_that_have_one(
    folder: Path,
) -> None:
    with pytest.raises(UserError, match=r"(?s)No runtime 'other'.*xllamacpp"):
        virtual_environments.make("other")


def install(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "requirements/install.sh", *arguments],
        cwd=folder,
        env=os.environ | variables,
        capture_output=True,
        text=True,
    )


def wheel_in(shelf: Path) -> str:
    """Make a package of nothing but its name; return its line for requirements."""
    shelf.mkdir()
    path, info = shelf / "tiny-1-py3-none-any.whl", "tiny-1.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1\n")
        wheel = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr(f"{info}/WHEEL", wheel)
        names = (f"{info}/METADATA", f"{info}/WHEEL", f"{info}/RECORD")
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in names))
    return f"tiny==1 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def test_settings_of_pip_for_other_places_do_not_act_and_its_sources_do(
    folder: Path, tmp_path: Path
) -> None:
    """The sources stand in the file alone, beside what would lead the installation elsewhere."""
    shelf, elsewhere = tmp_path / "shelf", tmp_path / "elsewhere"
    (folder / "requirements/runtime-tiny.txt").write_text(wheel_in(shelf))
    (tmp_path / "pip.conf").write_text(
        f"[global]\nno-index = true\nfind-links =\n  {tmp_path}/none\n  {shelf}\n"
        f"[install]\nuser = true\ntarget = {elsewhere}\nrequire-virtualenv = true\n"
        "no-binary = :all:\n"
    )
    mine = {
        "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"),
        "PIP_PREFIX": str(elsewhere),
        "PIP_FIND_LINKS": "",
    }
    done = install(folder, "runtime", "tiny", **mine)
    assert done.returncode == 0, done.stderr
    found = subprocess.run(
        [
            folder / ".venvs/tiny/bin/python",
            "-I",
            "-c",
            "import importlib.metadata as m; print(m.version('tiny'))",
        ],
        capture_output=True,
        text=True,
    )
    assert found.stdout == "1\n" and not elsewhere.exists()


def test_scripts_run_without_run_bits(folder: Path) -> None:
    (folder / "requirements/install.sh").chmod(0o644)
    with pytest.raises(UserError, match=r"(?s)No runtime 'other'.*xllamacpp"):
        virtual_environments.make("other")


@pytest.mark.parametrize(
    ("variables", "advice"),
    [
        ({"all_proxy": "socks://127.0.0.1:7891/"}, "Name a proxy by http://, or unset it"),
        ({"PIP_CONFIG_FILE": "broken.conf"}, "Correct the file that pip names"),
        ({"PIP_RETRIES": "1"}, "No package index is reached"),
    ],
)
def test_what_pip_cannot_do_is_told_with_its_own_advice(
    folder: Path, variables: dict[str, str], advice: str
) -> None:
    (folder / "broken.conf").write_text("user = true\n")
    pin = f"no-such-package==1 --hash=sha256:{'0' * 64}\n"
    (folder / "requirements/runtime-broken.txt").write_text(pin)
    nobody = {"PIP_INDEX_URL": "http://127.0.0.1:1/simple", "PIP_FIND_LINKS": ""}
    if "all_proxy" in variables:
        nobody |= {"PIP_INDEX_URL": "https://192.0.2.1/simple", "no_proxy": "", "NO_PROXY": ""}
        nobody |= {"http_proxy": "", "HTTP_PROXY": "", "https_proxy": "", "HTTPS_PROXY": ""}
    done = install(folder, "runtime", "broken", **nobody, **variables)
    assert done.returncode == os.EX_USAGE
    assert advice in done.stderr, done.stderr
    assert "compiler" not in done.stderr and "build-essential" not in done.stderr


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("ERROR: [Errno 28] No space left on device", "A disk is full"),
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.",
            "other files",
        ),
        ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]", "PIP_CERT"),
        ("ERROR: Could not install packages: [Errno 13] Permission denied: '/x'", "as the owner"),
        ("c++: fatal error: Killed signal terminated program cc1plus", "memory ran out"),
        ("ggml.c:10:2: error: unknown type name\nninja: build stopped", "The compiler did not"),
        ("ERROR: No matching distribution found for numpy==2", "for this Python and machine"),
        ("something that nobody has seen before", "What went wrong stands above"),
    ],
)
def test_the_advice_belongs_to_the_failure(tmp_path: Path, said: str, advice: str) -> None:
    (tmp_path / "said").write_text(said)
    text = (ROOT / "requirements/install.sh").read_text(encoding="utf-8")
    function = text[text.index("remedy() {") : text.index("attempt() {")]
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f'{function}\nremedy "$1"', "bash", tmp_path / "said"],
        capture_output=True,
        text=True,
    )
    assert advice in done.stdout, done.stdout + done.stderr


def test_a_folder_for_temporary_files_that_is_missing_or_full_is_named(folder: Path) -> None:
    done = install(folder, "main", TMPDIR="/no/such/folder")
    assert done.returncode == os.EX_USAGE
    assert "TMPDIR names /no/such/folder" in done.stderr
    assert "build-essential" not in done.stderr
    (folder / "full").mkdir()
    script = (
        "mount -t tmpfs -o size=64k none full && TMPDIR=$PWD/full bash requirements/install.sh main"
    )
    try:
        done = subprocess.run(
            ["unshare", "-m", "bash", "-c", script], cwd=folder, capture_output=True, text=True
        )
    except OSError:
        pytest.skip("there is no unshare command to try a full folder with")
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip("no file system can be mounted here to try a full folder with")
    assert f"TMPDIR names {folder}/full" in done.stderr


def test_a_python_that_cannot_be_run_is_not_taken_for_a_missing_package(folder: Path) -> None:
    python = folder / ".venvs/broken/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/no/such/interpreter\n")
    python.chmod(0o755)
    with pytest.raises(UserError, match=r"broken/bin/python cannot be run .*made anew"):
        virtual_environments.provide("broken", "psutil", "1")


@pytest.mark.skipif(shutil.which("flock") is None, reason="there is no flock command")
def test_two_installations_in_one_folder_take_turns(folder: Path) -> None:
    (folder / ".wheels").mkdir()
    with open(folder / ".wheels/lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = subprocess.Popen(
            ["requirements/install.sh", "runtime", "other"], stderr=subprocess.PIPE, text=True
        )
        with pytest.raises(subprocess.TimeoutExpired):
            second.wait(1)
    assert "No runtime 'other'" in second.communicate(timeout=60)[1]
    assert second.returncode == os.EX_USAGE


def test_what_runtimes_share_is_no_runtime_and_one_without_a_module_has_no_sentences() -> None:
    assert "shared" not in runtimes.names()
    assert (runtimes.description_of("gone"), runtimes.limitations_of("gone")) == ("", ())


def test_modules_of_runtimes_load_with_the_standard_library_alone() -> None:
    """Workers load them with a Python that has the runtime's packages and none of ours."""
    code = (
        "import sys; from joules import runtimes;"
        "runtimes.load(sys.argv[1]); print(sorted(sys.modules))"
    )
    for name in runtimes.names():
        done = subprocess.run(
            [sys.executable, "-c", code, name],
            env=os.environ | {"PYTHONPATH": str(ROOT / "workflow/scripts")},
            capture_output=True,
            text=True,
            check=True,
        )
        assert f"'joules.runtimes.{name}'" in done.stdout
        for package in ("msgspec", "httpx", "yaml", "requests"):
            assert f"'{package}'" not in done.stdout
