"""What an archive says of itself: the crate as JSON, and the texts for people."""

import datetime
import json
import zipfile

import jsonschema
import msgspec
import pytest
import synthetic
import yaml

from joules.core.places import REPOSITORY
from joules.core.stored import read_record, write_record
from joules.write import archive
from joules.write.campaign_facts import facts_of
from joules.write.campaign_texts import TEXTS, citation_of

CITATION = REPOSITORY / "CITATION.cff"
CONFIG = {"study": "demo", "models": ["m"]}
CATALOGUE = {"models": {"m": {"license": "Apache-2.0", "url": "https://models.example/m.gguf"}}}
PEOPLE = ["#victor-hornet", "#elena-mihalache", "#andreea-mocanu", "#alexandru-postu", "#kian-sie"]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The folder of a study of two blocks, and the files that are archived of it."""
    root = tmp_path_factory.mktemp("study") / "results"
    written = synthetic.write_study(
        root, models=("m",), runtimes=("a", "b"), kinds=("task",), blocks=2, problems=1
    )
    return root, [*written.records, *written.grades, *written.agreements]


def packed(study, folder, catalogue=None, citation=CITATION):
    """Return name -> bytes of the archive of a study."""
    root, files = study
    archive.pack(root, files, CONFIG, citation, folder / "c.zip", catalogue)
    with zipfile.ZipFile(folder / "c.zip") as content:
        return {name: content.read(name) for name in content.namelist()}


def entities(contents):
    graph = json.loads(contents["ro-crate-metadata.json"])["@graph"]
    found = {each["@id"]: each for each in graph}
    assert len(found) == len(graph), "two entities of one name"
    return found


def ids(value):
    return [each["@id"] for each in (value if isinstance(value, list) else [value])]


def test_the_crate_names_its_three_profiles_and_the_contexts_of_its_words(study, tmp_path):
    contents = packed(study, tmp_path)
    assert json.loads(contents["ro-crate-metadata.json"])["@context"] == [
        "https://w3id.org/ro/crate/1.1/context",
        "https://w3id.org/ro/terms/workflow-run/context",
    ]
    there = entities(contents)
    profiles = ids(there["./"]["conformsTo"])
    assert profiles == [
        "https://w3id.org/ro/wfrun/process/0.5",
        "https://w3id.org/ro/wfrun/workflow/0.5",
        "https://w3id.org/workflowhub/workflow-ro-crate/1.0",
    ]
    assert all(there[each]["@type"] == "CreativeWork" for each in profiles)
    assert ids(there["ro-crate-metadata.json"]["conformsTo"]) == [
        "https://w3id.org/ro/crate/1.1",
        "https://w3id.org/workflowhub/workflow-ro-crate/1.0",
    ]


def test_the_run_says_what_it_was_given_what_it_made_and_when(study, tmp_path):
    there = entities(packed(study, tmp_path, CATALOGUE))
    root, run = there["./"], there["#run"]
    assert ids(root["mentions"]) == ["#run"] and run["@type"] == "CreateAction"
    assert ids(run["instrument"]) == ids(root["mainEntity"]) == ["Snakefile"]
    assert ids(run["object"]) == ["config.yaml", "models.yaml", "#model-m"]
    assert ids(run["result"]) == ["agreement/", "records/", "grades/"]
    assert there["#model-m"]["url"] == "https://models.example/m.gguf"
    assert there["#model-m"]["license"] == "Apache-2.0"
    records = [read_record(path) for path in study[1] if "records" in path.parts]
    assert there["#model-m"]["sha256"] == records[0].model.sha256
    starts = [window.start_wall for record in records for window in record.windows]
    assert run["startTime"] == f"{min(starts)[:19]}+00:00"
    ends = [
        datetime.datetime.fromisoformat(window.start_wall)
        + datetime.timedelta(seconds=window.duration_s)
        for record in records
        for window in record.windows
    ]
    assert run["endTime"] == max(ends).isoformat(timespec="seconds") > run["startTime"]
    assert run["actionStatus"] == "http://schema.org/CompletedActionStatus"
    assert "agent" not in run, "no record says who started it"


def test_each_slot_of_the_workflow_is_filled_by_what_this_run_had_there(study, tmp_path):
    there = entities(packed(study, tmp_path))
    workflow = there["Snakefile"]
    assert workflow["@type"] == ["File", "SoftwareSourceCode", "ComputationalWorkflow"]
    slots = ids(workflow["input"]) + ids(workflow["output"])
    assert slots == ["#slot-config.yaml", "#slot-agreement", "#slot-records", "#slot-grades"]
    for slot in slots:
        assert there[slot]["@type"] == "FormalParameter"
        (filled,) = [each for each in there.values() if each.get("exampleOfWork") == {"@id": slot}]
        is_folder = filled["@id"].endswith("/")
        assert there[slot]["additionalType"] == ("Dataset" if is_folder else "File")
    language = there[workflow["programmingLanguage"]["@id"]]
    assert (language["@type"], language["name"]) == ("ComputerLanguage", "Snakemake")


def test_every_file_is_part_of_the_crate_directly_or_by_its_folder(study, tmp_path):
    contents = packed(study, tmp_path)
    there = entities(contents)
    parts = ids(there["./"]["hasPart"])
    for folder in [each for each in parts if each.endswith("/")]:
        parts += ids(there[folder]["hasPart"])
    files = [each for each in parts if not each.endswith("/")]
    assert len(set(parts)) == len(parts)
    assert set(files) == contents.keys() - {"ro-crate-metadata.json", "SHA256SUMS"}


def test_measurements_are_licensed_apart_from_code_and_from_problems(study, tmp_path):
    contents = packed(study, tmp_path)
    there = entities(contents)
    assert ids(there["./"]["license"]) == ["https://spdx.org/licenses/CC-BY-4.0"]
    assert ids(there["Snakefile"]["license"]) == ["https://spdx.org/licenses/MIT"]
    for name, place in TEXTS.items():
        assert contents[name] == (REPOSITORY / place).read_bytes()
    assert b"Attribution 4.0 International" in contents["LICENSE"]
    assert b"Copyright (c) OpenAI" in contents["LICENSE.HumanEval"]
    page = contents["README.md"].decode()
    assert "generated by m, whose own licences" in page and "make review CAMPAIGN=FILE" in page
    assert there["README.md"]["about"] == {"@id": "./"}


def test_the_citation_is_that_of_a_data_set_which_refers_to_the_software(study, tmp_path):
    contents = packed(study, tmp_path)
    said, software = yaml.safe_load(contents["CITATION.cff"]), yaml.safe_load(CITATION.read_text())
    assert (said["type"], said["license"], str(said["date-released"])) == (
        "dataset",
        "CC-BY-4.0",
        "2026-11-25",
    )
    assert said["authors"] == software["authors"]
    (reference,) = said["references"]
    assert (reference["title"], reference["version"], reference["license"]) == (
        "llm-runtime-energy",
        software["version"],
        "MIT",
    )
    there = entities(contents)
    assert ids(there["./"]["author"]) == ids(there["./"]["creator"]) == PEOPLE
    assert b"&" not in contents["CITATION.cff"], "an anchor, which some readers do not know"


def test_what_authors_fill_in_later_comes_into_crate_and_citation(study, tmp_path):
    said = yaml.safe_load(CITATION.read_text())
    said["repository-code"] = "https://example.org/repository"
    said["doi"] = "10.0000/example"
    said["authors"] = [
        {
            "given-names": "Ada",
            "family-names": "Example",
            "orcid": "https://orcid.org/0000-0000-0000-0000",
            "affiliation": "An Institute",
        }
    ]
    filled = tmp_path / "CITATION.cff"
    filled.write_text(yaml.safe_dump(said))
    contents = packed(study, tmp_path, citation=filled)
    there = entities(contents)
    assert there["Snakefile"]["url"] == "https://example.org/repository"
    (person,) = ids(there["./"]["author"])
    assert person == "https://orcid.org/0000-0000-0000-0000"
    assert there[there[person]["affiliation"]["@id"]]["name"] == "An Institute"
    (reference,) = yaml.safe_load(contents["CITATION.cff"])["references"]
    assert reference["doi"] == "10.0000/example"
    assert "(https://example.org/repository)" in contents["README.md"].decode()


def test_the_version_of_the_workflow_is_the_commit_that_measured(study, tmp_path):
    root, files = study
    record = read_record(files[0])
    before = record.environment.before
    commit = msgspec.structs.replace(before.machine.commit, sha="0123abc", dirty=False)
    machine = msgspec.structs.replace(before.machine, commit=commit)
    before = msgspec.structs.replace(before, machine=machine)
    environment = msgspec.structs.replace(record.environment, before=before)
    known = msgspec.structs.replace(record, environment=environment)
    facts = facts_of([known, read_record(files[1])])
    assert facts.commits == ["0123abc"] and facts.versions_of("no such package") == []
    own = tmp_path / "results"
    write_record(own / files[0].relative_to(root), known)
    contents = packed((own, [own / files[0].relative_to(root)]), tmp_path)
    assert entities(contents)["Snakefile"]["version"] == "0123abc"
    without = entities(packed(study, tmp_path))["Snakefile"]["version"]
    assert without == yaml.safe_load(CITATION.read_text())["version"]


def test_the_run_of_an_unfinished_study_is_not_called_completed(study, tmp_path):
    root, files = study
    contents = {path.relative_to(root).as_posix(): path.read_bytes() for path in files}
    contents["unfinished.json"] = b"{}"
    records = [path for path in files if "records" in path.parts]
    archive.pack_contents(contents, records, CONFIG, CITATION, tmp_path / "u.zip", None)
    assert "actionStatus" not in entities(contents)["#run"]


def test_a_campaign_that_is_packed_again_keeps_the_workflow_and_licences_it_came_with(
    study, tmp_path
):
    root, files = study
    archive.pack(root, files, CONFIG, CITATION, tmp_path / "one.zip")
    folder = archive.unpack(tmp_path / "one.zip", tmp_path / "measurements")
    for name in TEXTS:
        (folder / name).write_text(f"an older {name}")
    again = [folder / path.relative_to(root) for path in files]
    contents = packed((folder, again), tmp_path)
    assert all(contents[name] == f"an older {name}".encode() for name in TEXTS)


# That of the format's own repository, as the package cffconvert 2.0.0 holds it.
CFF = json.loads((REPOSITORY / "tests/data/citation-file-format-1.2.0.schema.json").read_text())


class _Text(yaml.SafeLoader):
    """Reads dates as text, as readers of the format do."""


_Text.yaml_implicit_resolvers = {
    key: [each for each in found if each[0] != "tag:yaml.org,2002:timestamp"]
    for key, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def test_both_citations_pass_the_schema_of_the_citation_file_format(study):
    records = [read_record(path) for path in study[1] if "records" in path.parts]
    software = CITATION.read_bytes()
    for text in (software, citation_of("demo", software, facts_of(records))):
        jsonschema.validate(yaml.load(text, Loader=_Text), CFF)
