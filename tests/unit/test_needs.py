"""What a study still has to fetch, and the disk space that it needs."""

import shutil
import tempfile
from pathlib import Path

import pytest
from msgspec.structs import replace

from joules.commands.needs import (
    UNPACKED_SHARE,
    bytes_with_unknown,
    disk_needs,
    disk_of,
    model_state,
    runtime_fetch_bytes,
)
from joules.core.catalogue import ModelEntry
from joules.core.files import write_json
from joules.core.reading import LoadedStudy, load_study

SIZE = 1_300_000_000  # of an invented release


def entry(**keys: object) -> ModelEntry:
    return ModelEntry(license="MIT", prompt_style="base", **keys)


def in_folder(folder: Path) -> LoadedStudy:
    """Return the demonstration study as if it lay in another folder."""
    default = load_study()
    return LoadedStudy(default.study, default.catalogue, folder)


def with_release(folder: Path, way: str) -> tuple[LoadedStudy, str]:
    """Return a study of one runtime that has releases, made in a certain way, and its name."""
    loaded = in_folder(folder)
    study = loaded.study
    name = next(name for name, options in study.runtime_options.items() if "official" in options)
    release = {"url": "https://example.org/r.tgz", "sha256": "0" * 64, "bytes": SIZE}
    own = study.runtime_options[name] | {"from": way, "official": {"linux-arm64": release}}
    options = study.runtime_options | {name: own}
    study = replace(study, runtimes=(name,), runtime_options=options)
    return LoadedStudy(study, loaded.catalogue, folder), name


def test_what_is_still_to_be_fetched_of_a_model_is_what_is_not_there_yet(tmp_path):
    loaded = in_folder(tmp_path)
    (tmp_path / "resources/models").mkdir(parents=True)
    listed = entry(url="https://example.org/x.gguf", bytes=1000)
    assert model_state(loaded, "x", listed).fetch_bytes == 1000
    (tmp_path / "resources/models/x.gguf.part").write_bytes(b"a" * 300)
    assert model_state(loaded, "x", listed).fetch_bytes == 700
    (tmp_path / "resources/models/x.gguf").write_bytes(b"a" * 1000)
    state = model_state(loaded, "x", listed)
    assert (state.there, state.fetch_bytes, state.file_bytes) == (True, 0, 1000)
    unlisted = entry(url="https://example.org/y.gguf")
    assert model_state(loaded, "y", unlisted).fetch_bytes is None
    (tmp_path / "z.gguf").write_bytes(b"a" * 50)
    at_hand = model_state(loaded, "z", entry(path="z.gguf", sha256="0" * 64))
    assert (at_hand.there, at_hand.fetch_bytes, at_hand.file_bytes) == (False, 0, 50)


def test_a_size_that_is_not_known_counts_as_the_largest():
    assert bytes_with_unknown([3, None, 5, 0]) == 13
    assert bytes_with_unknown([None]) == 0


def test_a_release_of_this_platform_counts_until_the_runtime_was_provided(tmp_path, monkeypatch):
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    loaded, name = with_release(tmp_path, "official")
    assert runtime_fetch_bytes(loaded) == SIZE
    assert disk_needs(loaded, [])["for runtimes"] == UNPACKED_SHARE * SIZE
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert runtime_fetch_bytes(loaded) == 0
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    write_json(loaded.provided(name), {"version": "1"})
    assert runtime_fetch_bytes(loaded) == 0


def test_a_runtime_that_is_built_or_not_known_has_no_release_to_fetch(tmp_path):
    built, _ = with_release(tmp_path, "build")
    assert runtime_fetch_bytes(built) == 0
    unknown = replace(built.study, runtimes=("no_such_runtime",))
    assert runtime_fetch_bytes(LoadedStudy(unknown, built.catalogue, tmp_path)) == 0


def test_a_folder_that_is_not_there_yet_has_the_disk_of_the_nearest_that_is(tmp_path):
    there = disk_of(tmp_path)
    absent = disk_of(tmp_path / "results/some/study")
    assert absent.folder == tmp_path
    assert absent.number == there.number == tmp_path.stat().st_dev
    assert 0 < absent.free_bytes <= shutil.disk_usage(tmp_path).total


def test_results_that_are_a_link_lie_on_the_disk_of_what_it_points_at(tmp_path):
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second disk here")
    with tempfile.TemporaryDirectory(dir=memory) as elsewhere:
        (tmp_path / "results").symlink_to(elsewhere)
        found = disk_of(in_folder(tmp_path).results)
        assert (found.folder, found.number) == (tmp_path / "results", memory.stat().st_dev)
