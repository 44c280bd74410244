"""The archive: equal bytes, checked sums, nothing outside its folder."""

import hashlib
import json
import zipfile
from pathlib import Path

import pytest
import yaml
from rocrate.rocrate import ROCrate

from joules import archive
from joules.errors import UserError

CITATION = Path(__file__).parents[2] / "CITATION.cff"
RECORD = {
    "environment": {"before": {"machine": {"cpu": "x"}}},
    "windows": [{"start_wall": "2026-11-25T08:00:00.000+00:00"}],
    "runtime": {"name": "a", "facts": {"version": "1.2.3", "simd": "AVX2"}},
    "instrument": {"codecarbon": {"version": "3.3.2"}},
}


@pytest.fixture
def study(tmp_path):
    root = tmp_path / "results"
    files = []
    for name in ("records/m/a/task/1.json", "grades/m/a/task/1.json", "prompts/m.jsonl"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(RECORD))
        files.append(path)
    return root, files


def test_equal_input_gives_equal_bytes(study, tmp_path):
    root, files = study
    one, two = tmp_path / "one.zip", tmp_path / "two.zip"
    archive.pack(root, files, {"study": "demo", "models": ["m"]}, CITATION, one)
    archive.pack(root, list(reversed(files)), {"models": ["m"], "study": "demo"}, CITATION, two)
    assert one.read_bytes() == two.read_bytes()


def test_states_of_two_machines_stand_in_one_order_whatever_the_order_of_files(study, tmp_path):
    root, files = study
    other = root / "records/m/a/task/2.json"
    other.write_text(json.dumps(RECORD | {"environment": {"before": {"machine": {"cpu": "y"}}}}))
    one, two = tmp_path / "one.zip", tmp_path / "two.zip"
    archive.pack(root, [*files, other], {}, CITATION, one)
    archive.pack(root, [other, *files], {}, CITATION, two)
    assert one.read_bytes() == two.read_bytes()


def test_an_imported_archive_packs_to_the_same_bytes(study, tmp_path):
    root, files = study
    zipped, config = tmp_path / "c.zip", {"study": "demo", "models": ["m"]}
    archive.pack(root, files, config, CITATION, zipped)
    folder = archive.unpack(zipped, tmp_path / "measurements")
    again = [folder / path.relative_to(root) for path in files]
    kept = yaml.safe_load((folder / "config.yaml").read_text())
    archive.pack(folder, again, kept, CITATION, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == zipped.read_bytes()


def test_an_archive_unpacks_to_the_files_it_was_made_of(study, tmp_path):
    root, files = study
    zipped = tmp_path / "campaign-1.zip"
    archive.pack(root, files, {"study": "demo"}, CITATION, zipped)
    folder = archive.unpack(zipped, tmp_path / "measurements")
    assert folder == tmp_path / "measurements/campaign-1"
    for path in files:
        assert (folder / path.relative_to(root)).read_bytes() == path.read_bytes()
    assert "cpu: x" in (folder / "machine.yaml").read_text()
    assert yaml.safe_load((folder / "software.yaml").read_text()) == {
        "a": [{"version": "1.2.3", "simd": "AVX2"}],
        "codecarbon": [{"version": "3.3.2"}],
    }
    archive.verify(folder)
    assert archive.main([str(folder)]) == 0
    with pytest.raises(UserError, match="exists already"):
        archive.unpack(zipped, tmp_path / "measurements")


def test_a_changed_a_missing_and_a_foreign_file_are_named(study, tmp_path):
    root, files = study
    zipped = tmp_path / "c.zip"
    archive.pack(root, files, {}, CITATION, zipped)
    folder = archive.unpack(zipped, tmp_path / "measurements")
    (folder / "records/m/a/task/1.json").write_text("{}")
    (folder / "prompts/m.jsonl").unlink()
    (folder / "extra").write_text("")
    assert archive.main([str(folder)]) == 1
    with pytest.raises(UserError) as error:
        archive.verify(folder)
    assert "prompts/m.jsonl is missing" in str(error.value)
    assert "extra is not listed" in str(error.value)
    assert "records/m/a/task/1.json has changed" in str(error.value)


def test_a_name_that_leaves_the_folder_is_refused(tmp_path):
    zipped = tmp_path / "c.zip"
    with zipfile.ZipFile(zipped, "w") as content:
        content.writestr("../evil", "x")
    with pytest.raises(UserError, match="outside its folder"):
        archive.unpack(zipped, tmp_path / "measurements")
    assert not (tmp_path / "evil").exists()
    assert list((tmp_path / "measurements").iterdir()) == []


def test_what_is_no_archive_is_refused(tmp_path):
    Path(tmp_path / "c.zip").write_text("no")
    with pytest.raises(UserError, match="cannot be read as an archive"):
        archive.unpack(tmp_path / "c.zip", tmp_path / "m")
    assert archive.main([]) == 2
    assert archive.main([""]) == 2
    assert archive.main([str(tmp_path / "c.zip"), str(tmp_path / "m")]) == 1


def test_invalid_attempts_come_along_and_the_crate_describes_every_file(study, tmp_path):
    root, files = study
    (root / "records/m/a/task/1.invalid-1.json").write_text(json.dumps(RECORD))
    (root / "records/m/a/task/10.invalid-1.json").write_text(json.dumps(RECORD))
    archive.pack(root, files, {"study": "demo"}, CITATION, tmp_path / "c.zip")
    folder = archive.unpack(tmp_path / "c.zip", tmp_path / "measurements")
    assert (folder / "records/m/a/task/1.invalid-1.json").exists()
    assert not (folder / "records/m/a/task/10.invalid-1.json").exists(), "another run's"
    assert (folder / "CITATION.cff").read_bytes() == CITATION.read_bytes()
    described = {each.id: each for each in ROCrate(folder).get_entities()}
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert present - {"SHA256SUMS", "ro-crate-metadata.json"} <= described.keys()
    record = described["records/m/a/task/1.json"]
    content = (folder / "records/m/a/task/1.json").read_bytes()
    assert record["sha256"] == hashlib.sha256(content).hexdigest()
    assert ROCrate(folder).root_dataset["datePublished"] == "2026-11-25"
    assert [person["name"] for person in ROCrate(folder).creator][0] == "Victor Hornet"
