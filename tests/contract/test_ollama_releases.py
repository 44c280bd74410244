"""Ollama's official releases, tried on a small archive from a server on this machine."""

import functools
import hashlib
import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from real_runtimes import CHECKOUT

from joules.core.errors import UserError
from joules.core.files import sha256_of
from joules.core.inference import Facts
from joules.core.reading import load_study
from joules.runtimes import Preview, load
from joules.runtimes.shared import ollama_build, ollama_release

VERSION = "0.34.0"
STATES = '#!/bin/sh\necho "Warning: client version is {}"\n'


def test_what_a_release_would_take_is_said_before_it_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {"url": "http://127.0.0.1:9/ollama.tar.zst", "sha256": "0" * 64, "bytes": 1_200_000_000}
    releases = {ollama_release.this_platform(): entry}
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
    assert not preview.possible and "no release of known sum for this platform" in preview.text


class Releases(http.server.SimpleHTTPRequestHandler):
    """A server of files that counts what it is asked for."""

    asked: list[str] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a real server of the files below `tmp_path / "served"`; past any proxy."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
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
    server = tmp_path / "packed/lib/ollama/llama-server"
    server.parent.mkdir(parents=True)
    for path, said in ((program, version), (server, "none")):
        path.write_text(STATES.format(said))
        path.chmod(0o755)
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
        "official": {ollama_release.this_platform(): entry},
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
    assert facts["archive_sha256"] == options["official"][ollama_release.this_platform()]["sha256"]
    left = {path.name for path in folder.iterdir()}
    assert left == {"facts.json", "official", "provide.log"}
    assert ollama_build.provide(options, folder) == facts
    assert len(Releases.asked) == 1


@needs_zstd
def test_a_release_with_another_sha256_is_refused_and_not_kept(
    tmp_path: Path, address: str, roomy: None
) -> None:
    options = release(tmp_path, address, VERSION)
    options["official"][ollama_release.this_platform()]["sha256"] = "0" * 64
    with pytest.raises(UserError, match=f"expected {'0' * 64}"):
        ollama_build.provide(options, tmp_path / "made")
    assert list((tmp_path / "made").iterdir()) == []


@needs_zstd
def test_a_release_of_another_version_is_refused(tmp_path: Path, address: str, roomy: None) -> None:
    options = release(tmp_path, address, "0.33.9")
    with pytest.raises(UserError, match="states the version '0.33.9'; expected 0.34.0"):
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


def test_the_default_versions_release_is_refused_because_its_sum_is_not_known(
    tmp_path: Path,
) -> None:
    pinned = load_study(CHECKOUT / "config/runtimes.yaml").study.runtime_options["ollama"]
    options = {**pinned, "from": "official"}
    assert options["official"] == {}
    assert not load("ollama").preview(options).possible
    with pytest.raises(UserError, match="it has none. Its sum is not known here"):
        ollama_build.provide(options, tmp_path)
