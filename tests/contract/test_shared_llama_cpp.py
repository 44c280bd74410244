"""One build of llama.cpp for Ollama, llama-server and llama-cpp-python, and the package's own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from real_runtimes import CHECKOUT, MODELS, SETTINGS, model_of, options_of, prompts_of

from joules.core.errors import UserError
from joules.core.files import sha256_of
from joules.core.inference import Options
from joules.inputs import llama_cpp_bindings
from joules.machine import llama_cpp_package
from joules.runtimes import Preview, load
from joules.runtimes.llama_cpp import OWN, STOCK_ENVIRONMENT
from joules.runtimes.shared import llama_cpp_library, native_build, ollama_source

SHARING = ("ollama", "llama_server", "llama_cpp")
OF_BUILD = (
    *("engine_sha256", "libraries_sha256", "llama_cpp_build", "llama_cpp_date"),
    *("llama_cpp_commit", "llama_cpp_source_sha256", "build_flags", "cpu_model"),
)
MODEL = MODELS / "parrot-1m.gguf"


@pytest.fixture(scope="module")
def library() -> Path:
    """The shared build, made now if need be."""
    return llama_cpp_library.provide()


@pytest.fixture
def copy(library: Path, tmp_path: Path) -> Path:
    """A copy of the shared build that shares no file with it."""
    return Path(shutil.copytree(library, tmp_path / "copy", symlinks=True))


def test_three_ways_compute_with_the_same_bytes_and_say_so(tmp_path: Path) -> None:
    model, seen, texts = model_of(MODEL), {}, set()
    prompts = prompts_of(model, "def f(x):", "class A:\n    def __init__(self", "#")
    for name in SHARING:
        with load(name)(options_of(name), tmp_path / name) as runtime:
            runtime.start(model, SETTINGS)
            facts = runtime.facts()
            texts.add(tuple(runtime.complete(prompt, max_tokens=20).text for prompt in prompts))
        seen[name] = {fact: facts[fact] for fact in (*OF_BUILD, "simd")}
        assert all(seen[name].values())
    assert len(texts) == 1
    assert seen["ollama"] == seen["llama_cpp"] == seen["llama_server"]
    wanted = int(llama_cpp_library.VERSION.removeprefix("b"))
    assert seen["ollama"]["llama_cpp_build"] == wanted
    server = options_of("openai_server")["provided"]
    same = ("binary_sha256", "libraries_sha256", "engine_sha256")
    assert [server[name] for name in same] == [
        options_of("llama_server")["provided"][name] for name in same
    ]


@pytest.mark.parametrize("name", ["llama_server", "openai_server"])
@pytest.mark.parametrize("file", ["libggml-base.so", "libmtmd.so"])
def test_a_library_that_was_changed_after_it_was_provided_is_named(
    name: str, file: str, copy: Path, tmp_path: Path
) -> None:
    """A server's program stays as it is when what it loads is built anew."""
    options, server = options_of(name), str(copy / llama_cpp_library.SERVER)
    place = "binary" if name == "llama_server" else "llama_server"
    given = {**options, "provided": options["provided"] | {place: server}}
    with load(name)(given, tmp_path / "work") as runtime:
        runtime.start(model_of(MODEL), SETTINGS)
        assert runtime.facts()["libraries_sha256"] == options["provided"]["libraries_sha256"]
        with open(copy / file, "ab") as library:
            library.write(b"x")
        words = rf"(?s)libraries_sha256 .*expected .*resources/runtimes/{name}"
        with pytest.raises(UserError, match=words):
            runtime.facts()


def test_where_it_was_built_stands_in_no_library(library: Path) -> None:
    """Else two clones on one machine would have other bytes, and their records could not mix."""
    found = llama_cpp_library.libraries_in(library)
    assert len(found) > 5
    for file in [*found, library / llama_cpp_library.SERVER]:
        assert str(CHECKOUT).encode() not in file.read_bytes(), file.name


def test_the_sum_of_what_computes_is_that_of_model_and_kernels_alone(copy: Path) -> None:
    engine, all_of_it = llama_cpp_library.engine_sha256(copy), llama_cpp_library.hashes(copy)
    with open(copy / "libmtmd.so", "ab") as file:
        file.write(b"x")
    assert llama_cpp_library.engine_sha256(copy) == engine
    assert llama_cpp_library.libraries_sha256(copy) != all_of_it["libraries_sha256"]
    with open(copy / "libggml-cpu.so", "ab") as file:
        file.write(b"x")
    assert llama_cpp_library.engine_sha256(copy) not in (None, engine)
    assert llama_cpp_library.engine_sha256(copy / "include") is None


def test_a_build_that_was_changed_is_refused_and_not_used(copy: Path) -> None:
    assert llama_cpp_library._is(copy, llama_cpp_library.key())
    with open(copy / "libllama.so", "ab") as file:
        file.write(b"x")
    with pytest.raises(UserError, match=r"changed since it was built\. Delete that folder"):
        llama_cpp_library.facts_in(copy)
    assert not llama_cpp_library._is(copy, llama_cpp_library.key())


def test_the_key_is_another_for_another_compiler_source_or_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {llama_cpp_library.key()}
    other = tmp_path / "c++"
    other.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo other || {shutil.which("c++")} "$@"')
    other.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("CXX", str(other))
        keys.add(llama_cpp_library.key())
    with monkeypatch.context() as patch:
        source = ollama_source.Source("h1:other", "b10760")
        patch.setattr(ollama_source, "KNOWN", {ollama_source.PINNED: source})
        keys.add(llama_cpp_library.key())
    with monkeypatch.context() as patch:
        patch.setattr(native_build, "this_cpu", lambda: {"cpu_model": "another"})
        keys.add(llama_cpp_library.key())
    assert len(keys) == 4
    assert llama_cpp_library.key() in keys


def test_a_runtime_gets_the_libraries_in_place_of_older_ones_and_without_headers(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/libold.so").write_text("old")
    monkeypatch.chdir(tmp_path)
    assert llama_cpp_library.take(Path("lib")) == "lib"
    names = {path.name for path in Path("lib").iterdir()}
    assert names == {path.name for path in library.iterdir()} - {llama_cpp_library.HEADERS}
    assert llama_cpp_library.facts_in(Path("lib")) == llama_cpp_library.facts_in(library)
    monkeypatch.chdir("lib")
    assert llama_cpp_library.take(tmp_path / "other") == str(tmp_path / "other")


def test_where_there_are_no_hard_links_the_files_are_copied(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refused)
    llama_cpp_library.link(library, tmp_path / "lib", headers=True)
    assert (tmp_path / "lib/libllama.so").resolve().stat().st_nlink == 1
    assert llama_cpp_library.facts_in(tmp_path / "lib") == llama_cpp_library.facts_in(library)
    assert (tmp_path / "lib/include/llama.h").exists()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("llama_cpp", {"library": "mine"}, "'mine'; expected shared .* or stock"),
        ("llama_server", {"version": "b1"}, "'b1' and `from` is shared; expected 'b10760'"),
        ("llama_server", {"from": "thin air"}, "'thin air' .*expected one of shared, package"),
        ("llama_server", {"from": "path"}, "`from` 'path' and `binary` None"),
        ("llama_server", {"binary": "/nowhere"}, "/nowhere does not run"),
    ],
)
def test_options_that_cannot_be_met_are_refused(
    tmp_path: Path, name: str, options: Options, message: str
) -> None:
    version = {"llama_cpp": "0.3.36", "llama_server": llama_cpp_library.VERSION}[name]
    with pytest.raises(UserError, match=message):
        load(name).provide({"version": version, **options}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_there_yet_is_said_to_be_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = Preview("will be checked when the study starts")
    shared: dict[str, Any] = {"llama_cpp": {"version": "0.3.36"}, "llama_server": {"version": "b"}}
    assert [load(name).preview(options) for name, options in shared.items()] == [ready, ready]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(llama_cpp_package, "has_own_library", lambda: False)
    stock = load("llama_cpp").preview({"version": "0.3.36", "library": "stock"})
    assert stock.possible and "will be compiled" in stock.text
    monkeypatch.setattr(native_build, "this_cpu", lambda: {"cpu_model": "another"})
    for name, options in shared.items():
        assert "will be compiled" in load(name).preview(options).text
        there = load(name).preview(options, options_of(name)["provided"])
        assert not there.possible and "was built for" in there.text


def test_a_shared_library_that_is_gone_is_named() -> None:
    options = options_of("llama_cpp")
    gone = options["provided"] | {"library_folder": "gone"}
    assert load("llama_cpp").preview(options, gone) == Preview("gone is gone", possible=False)


def environment_with(library: Path, folder: Path) -> Path:
    """Make an environment in `folder` that has another llama_cpp, and the rest from this one.

    Its package has a copy of the shared library; its folder is returned.
    """
    package = llama_cpp_package.package_folder()
    assert package is not None
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    without = shutil.ignore_patterns("lib", "__pycache__")
    shutil.copytree(package, packages / package.name, ignore=without)
    shutil.copytree(library, packages / package.name / "lib", symlinks=True)
    for info in package.parent.glob("llama_cpp_python-*.dist-info"):
        shutil.copytree(info, packages / info.name)
    (packages / "rest.pth").write_text(f"{package.parent}\n")
    return packages / package.name


def test_the_package_over_a_library_of_its_own_is_an_arm_of_its_own(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own library is played by the shared one, over which it is made to load unaided."""
    other = environment_with(library, tmp_path / ".venvs" / STOCK_ENVIRONMENT)
    (other / "lib" / llama_cpp_package.FACTS).unlink()
    file = other / f"{llama_cpp_bindings.MODULE}.py"
    text = file.read_text()
    file.write_text(text.replace(llama_cpp_bindings.LINE, llama_cpp_bindings.READ_AS))
    commit = next(iter(OWN))
    built = other.parent / "lib/cmake/llama/llama-config.cmake"
    built.parent.mkdir(parents=True)
    built.write_text(f"set(LLAMA_BUILD_COMMIT {commit})\n")
    with open(other / "lib/libggml.so", "ab") as played:  # so that its sum is another one
        played.write(b"x")

    model = model_of(MODEL)
    prompt, *_ = prompts_of(model, "def f(x):")
    monkeypatch.chdir(tmp_path)
    options = {"version": "0.3.36", "library": "stock"}
    provided = load("llama_cpp").provide(options, tmp_path / "provided")
    with load("llama_cpp")({**options, "provided": provided}, tmp_path / "work") as runtime:
        runtime.start(model, SETTINGS)
        facts = runtime.facts()
        assert runtime.complete(prompt, max_tokens=3).generated_tokens == 3
    assert facts == provided
    assert (facts["library"], facts["llama_cpp_commit"]) == ("stock", commit)
    assert {name: facts[name] for name in OWN[commit]} == OWN[commit]
    shared = options_of("llama_cpp")["provided"]
    assert shared["library"] == "shared"
    for name in ("engine_sha256", "libraries_sha256", "llama_cpp_build", "llama_cpp_date"):
        assert facts[name] != shared[name]


def test_bindings_that_are_not_known_are_not_read_otherwise(library: Path, tmp_path: Path) -> None:
    other = environment_with(library, tmp_path / "other")
    with open(other / f"{llama_cpp_bindings.MODULE}.py", "a", encoding="utf-8") as file:
        file.write("# another version\n")
    (python,) = tmp_path.glob("other/bin/python")
    done = subprocess.run(
        [python, "-c", "from joules.inputs import llama_cpp_bindings as b; b.load()"],
        env={
            "PYTHONPATH": str(CHECKOUT / "workflow/scripts"),
            llama_cpp_package.VARIABLE: str(library),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    sha256 = sha256_of(other / f"{llama_cpp_bindings.MODULE}.py")
    assert f"has the sha256 {sha256}; expected {llama_cpp_bindings.KNOWN}" in done.stderr


def test_a_library_named_in_the_user_s_environment_is_not_taken_by_the_tokenizer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(llama_cpp_package.VARIABLE, "/nowhere")
    (prompt,) = prompts_of(model_of(MODEL), "def f(x):")
    assert len(prompt.token_ids) > 1


def test_the_command_line_says_the_key_and_refuses_other_words(tmp_path: Path) -> None:
    def said(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-m", llama_cpp_library.__name__, *words],
            env=os.environ | {"PYTHONPATH": str(CHECKOUT / "workflow/scripts")},
            capture_output=True,
            text=True,
        )

    assert said("key").stdout.strip() == llama_cpp_library.key()
    refused = said("elsewhere")
    assert (refused.returncode, refused.stdout) == (os.EX_USAGE, "")
    assert refused.stderr.startswith("error: ") and "Expected `key`" in refused.stderr
    assert said("into", str(tmp_path / "lib")).returncode == 0
    facts = json.loads((tmp_path / "lib" / llama_cpp_package.FACTS).read_text())
    assert facts["llama_cpp_key"] == llama_cpp_library.key()
