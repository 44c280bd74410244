"""What is said of a deposit follows from CITATION.cff, and what is missing there is listed."""

import json

import yaml

from joules.commands.deposit import PAPERS
from joules.core.places import REPOSITORY
from joules.write import deposit

CITATION = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
PAPER = {name: (REPOSITORY / name).read_text() for name in PAPERS}
AUTHORS = "Victor Hornet, Elena Mihalache, Andreea Mocanu, Alexandru Postu and Kian Sie"
FILLED = CITATION | {
    "repository-code": "https://example.org/repository",
    "doi": "10.0000/example",
    "authors": [
        {
            "given-names": "Ada",
            "family-names": "Example",
            "orcid": "https://orcid.org/0000-0000-0000-0000",
            "affiliation": "An Institute",
        }
    ],
}


def test_what_is_open_in_this_repository_is_what_only_its_authors_can_say():
    """Whoever fills a place in takes its line out here."""
    assert deposit.still_open(CITATION, PAPER) == [
        "the address of the repository: `repository-code` in CITATION.cff",
        "the DOI, which the archive service reserves before the upload: `doi` in CITATION.cff",
        f"the ORCID of {AUTHORS}: `orcid` of each author in CITATION.cff",
        f"the affiliation of {AUTHORS}: `affiliation` of each author in CITATION.cff",
        "front matter: paper/paper.md",
        "the section Research impact statement: paper/paper.md",
        "the section AI usage disclosure: paper/paper.md",
        "the section Acknowledgements: paper/paper.md",
    ]


def test_nothing_is_open_where_all_is_filled_in():
    assert deposit.still_open(FILLED, {"paper.md": "# Summary\n\nAll is said.\n"}) == []


def test_what_was_taken_out_of_the_citation_is_open():
    without = {key: value for key, value in FILLED.items() if key not in ("version", "doi")}
    assert [line.split(":")[0] for line in deposit.still_open(without, {})] == [
        "the version",
        "the DOI, which the archive service reserves before the upload",
    ]


def test_changes_that_are_in_no_version_are_open_and_those_of_the_version_are_not():
    closed = "# Changes\n\n## 1.0.0 - 2026-11-26\n\nThe first.\n"
    first = CITATION | {"version": "1.0.0"}
    assert deposit.unreleased(first, closed) == []
    ahead = closed.replace("## 1.0.0", "## Unreleased\n\nMore.\n\n## 1.0.0")
    (line,) = deposit.unreleased(first, ahead)
    assert "begins with `Unreleased`, and CITATION.cff names 1.0.0" in line
    (line,) = deposit.unreleased(first, closed.replace("1.0.0", "1.1.0"))
    assert "begins with `1.1.0`" in line


def test_metadata_for_zenodo_have_the_keys_that_it_reads():
    said = json.loads(deposit.zenodo(CITATION))
    assert said["upload_type"] == "software" and said["access_right"] == "open"
    assert said["creators"][0] == {"name": "Hornet, Victor"} and len(said["creators"]) == 5
    day = str(CITATION["date-released"])
    assert (said["version"], said["publication_date"]) == (CITATION["version"], day)
    assert "CC-BY-4.0" in said["notes"] and said["license"] == "mit"
    filled = json.loads(deposit.zenodo(FILLED))
    assert filled["creators"] == [
        {"name": "Example, Ada", "affiliation": "An Institute", "orcid": "0000-0000-0000-0000"}
    ]
    assert filled["related_identifiers"][0]["identifier"] == "https://example.org/repository"


def test_metadata_in_the_words_of_datacite_have_what_its_schema_requires_but_the_publisher():
    said = json.loads(deposit.datacite(FILLED))
    required = {"identifiers", "creators", "titles", "publicationYear", "types"}
    assert required <= said.keys()
    assert said["types"]["resourceTypeGeneral"] == "Software"
    assert [each["rightsIdentifier"] for each in said["rightsList"]] == ["MIT", "CC-BY-4.0"]
    (creator,) = said["creators"]
    assert creator["nameIdentifiers"][0]["nameIdentifier"] == "0000-0000-0000-0000"
    assert "identifiers" not in json.loads(deposit.datacite(CITATION))


def test_a_deposit_is_named_by_its_version_and_without_one_by_its_commit():
    named = {"title": "llm-runtime-energy", "version": "1.0.0"}
    assert deposit.name_of(named, "0123456789abcdef") == "llm-runtime-energy-1.0.0"
    assert deposit.name_of({"title": "t"}, "0123456789abcdef") == "t-0123456789ab"
