"""The archive: equal bytes, checked sums, nothing outside its folder."""

import hashlib
import zipfile
from pathlib import Path

import msgspec
import pytest
import synthetic
import yaml
from rocrate.rocrate import ROCrate

from joules.commands import import_campaign, verify_campaign
from joules.core.errors import UserError
from joules.core.places import REPOSITORY
from joules.core.stored import read_record, write_record
from joules.write import archive

CITATION = REPOSITORY / "CITATION.cff"
CONFIG = {"study": "demo", "models": ["m"]}


@pytest.fixture
def study(tmp_path):
    """The folder of a study of one run, and the files that are archived of it."""
    root = tmp_path / "results"
    written = synthetic.write_study(
        root, models=("m",), runtimes=("a",), kinds=("task",), blocks=1, problems=1
    )
    return root, [*written.records, *written.grades, *written.agreements]


def with_machine(path, target, cpu):
    """Write a record once more, as that of another machine."""
    record = read_record(path)
    before = record.environment.before
    other = msgspec.structs.replace(
        before, machine=msgspec.structs.replace(before.machine, cpu=cpu)
    )
    environment = msgspec.structs.replace(record.environment, before=other)
    write_record(target, msgspec.structs.replace(record, environment=environment))


def test_equal_input_gives_equal_bytes(study, tmp_path):
    root, files = study
    one, two = tmp_path / "one.zip", tmp_path / "two.zip"
    archive.pack(root, files, CONFIG, CITATION, one)
    turned = dict(reversed(CONFIG.items()))
    archive.pack(root, list(reversed(files)), turned, CITATION, two)
    assert one.read_bytes() == two.read_bytes()


def test_states_of_two_machines_stand_in_one_order_whatever_the_order_of_files(study, tmp_path):
    root, files = study
    other = root / "records/m/a/task/2.json"
    with_machine(files[0], other, "another CPU")
    one, two = tmp_path / "one.zip", tmp_path / "two.zip"
    archive.pack(root, [*files, other], CONFIG, CITATION, one)
    archive.pack(root, [other, *files], CONFIG, CITATION, two)
    assert one.read_bytes() == two.read_bytes()
    machines = yaml.safe_load(zipfile.ZipFile(one).read("machine.yaml"))
    assert [machine["cpu"] for machine in machines] == ["Synthetic CPU", "another CPU"]


def test_an_imported_archive_packs_to_the_same_bytes(study, tmp_path):
    root, files = study
    zipped = tmp_path / "c.zip"
    archive.pack(root, files, CONFIG, CITATION, zipped)
    folder = archive.unpack(zipped, tmp_path / "measurements")
    again = [folder / path.relative_to(root) for path in files]
    kept = yaml.safe_load((folder / "config.yaml").read_text())
    archive.pack(folder, again, kept, CITATION, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == zipped.read_bytes()


def test_arms_keep_the_order_of_the_study_and_all_other_keys_are_sorted(study, tmp_path):
    root, files = study
    arms = {"zeta": {"settings": {"threads": 1, "batch_size": 2}, "runtime": "a"}, "eta": {}}
    archive.pack(root, files, CONFIG | {"arms": arms}, CITATION, tmp_path / "c.zip")
    text = zipfile.ZipFile(tmp_path / "c.zip").read("config.yaml").decode()
    kept = yaml.safe_load(text)
    assert list(kept) == sorted(kept) and list(kept["arms"]) == ["zeta", "eta"]
    assert text.index("runtime:") < text.index("settings:") and kept["arms"] == arms
    plain = CONFIG | {"b": {"y": 1, "x": [{"q": 1, "p": 2}]}}
    archive.pack(root, files, plain, CITATION, tmp_path / "plain.zip")
    kept = zipfile.ZipFile(tmp_path / "plain.zip").read("config.yaml").decode()
    assert kept == yaml.safe_dump(plain, sort_keys=True)


def test_an_archive_unpacks_to_the_files_it_was_made_of(study, tmp_path):
    root, files = study
    zipped = tmp_path / "campaign-1.zip"
    archive.pack(root, files, CONFIG, CITATION, zipped)
    folder = archive.unpack(zipped, tmp_path / "measurements")
    assert folder == tmp_path / "measurements/campaign-1"
    for path in files:
        assert (folder / path.relative_to(root)).read_bytes() == path.read_bytes()
    record = read_record(files[0])
    (machine,) = yaml.safe_load((folder / "machine.yaml").read_text())
    assert machine == msgspec.to_builtins(record.environment.before.machine)
    assert yaml.safe_load((folder / "software.yaml").read_text()) == {
        "a": [record.runtime.facts],
        "codecarbon": [msgspec.to_builtins(record.instrument.codecarbon)],
    }
    archive.verify(folder)
    with pytest.raises(UserError, match="exists already"):
        archive.unpack(zipped, tmp_path / "measurements")


def test_a_changed_a_missing_and_a_foreign_file_are_named(study, tmp_path):
    root, files = study
    zipped = tmp_path / "c.zip"
    archive.pack(root, files, CONFIG, CITATION, zipped)
    folder = archive.unpack(zipped, tmp_path / "measurements")
    (folder / "records/m/a/task/1.json").write_text("{}")
    (folder / "agreement/m.json").unlink()
    (folder / "extra").write_text("")
    with pytest.raises(UserError) as error:
        archive.verify(folder)
    assert "agreement/m.json is missing" in str(error.value)
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


def test_the_commands_import_a_campaign_and_say_whether_it_is_as_archived(study, tmp_path, capsys):
    root, files = study
    zipped, measurements = tmp_path / "c.zip", tmp_path / "measurements"
    archive.pack(root, files, CONFIG, CITATION, zipped)
    folder = measurements / "c"
    assert import_campaign.main([str(zipped), str(measurements)]) == 0
    assert capsys.readouterr().out == f"imported and checked: {folder}\n"
    assert verify_campaign.main([str(folder)]) == 0
    assert capsys.readouterr().out == f"every file is what was archived: {folder}\n"
    (folder / "extra").write_text("")
    assert verify_campaign.main([str(folder)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "extra is not listed" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        (import_campaign, [], "required: archive"),
        (import_campaign, [""], "empty"),
        (import_campaign, ["{folder}/no.zip", "{folder}/m"], "cannot be read as an archive"),
        (verify_campaign, [], "required: folder"),
        (verify_campaign, [""], "empty"),
        (verify_campaign, ["{folder}"], "SHA256SUMS is missing"),
    ],
)
def test_the_commands_refuse_what_they_cannot_use(command, arguments, words, tmp_path, capsys):
    assert command.main([text.format(folder=tmp_path) for text in arguments]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ") and words in last


def test_invalid_attempts_come_along_and_the_crate_describes_every_file(study, tmp_path):
    root, files = study
    for name in ("1.invalid-1.json", "10.invalid-1.json"):
        write_record(root / "records/m/a/task" / name, read_record(files[0]))
    archive.pack(root, files, CONFIG, CITATION, tmp_path / "c.zip")
    folder = archive.unpack(tmp_path / "c.zip", tmp_path / "measurements")
    assert (folder / "records/m/a/task/1.invalid-1.json").exists()
    assert not (folder / "records/m/a/task/10.invalid-1.json").exists(), "another run's"
    described = {each.id: each for each in ROCrate(folder).get_entities()}
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert present - {"SHA256SUMS", "ro-crate-metadata.json"} <= described.keys()
    record = described["records/m/a/task/1.json"]
    content = (folder / "records/m/a/task/1.json").read_bytes()
    assert record["sha256"] == hashlib.sha256(content).hexdigest()
    assert ROCrate(folder).root_dataset["datePublished"] == "2026-11-25"
    assert [person["name"] for person in ROCrate(folder).creator][0] == "Victor Hornet"


def test_registration_and_catalogue_come_along_are_described_and_come_back(study, tmp_path):
    root, files = study
    (root / "registration.json").write_text('{"any": "bytes"}')
    catalogue = {"models": {"m": {"license": "MIT"}}}
    zipped = tmp_path / "c.zip"
    archive.pack(root, files, CONFIG, CITATION, zipped, catalogue)
    folder = archive.unpack(zipped, tmp_path / "measurements")
    assert (folder / "registration.json").read_text() == '{"any": "bytes"}'
    assert yaml.safe_load((folder / "models.yaml").read_text()) == catalogue
    described = {each.id: each for each in ROCrate(folder).get_entities()}
    assert "as it was registered before" in described["registration.json"]["name"]
    assert "in the catalogue" in described["models.yaml"]["name"]
    again = [folder / path.relative_to(root) for path in files]
    archive.pack(folder, again, CONFIG, CITATION, tmp_path / "again.zip", catalogue)
    assert (tmp_path / "again.zip").read_bytes() == zipped.read_bytes()


def test_a_study_that_was_never_registered_has_neither_in_its_archive(study, tmp_path):
    root, files = study
    archive.pack(root, files, CONFIG, CITATION, tmp_path / "c.zip")
    names = set(zipfile.ZipFile(tmp_path / "c.zip").namelist())
    assert not {"registration.json", "models.yaml"} & names
