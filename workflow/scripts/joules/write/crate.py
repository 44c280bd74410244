"""RO-Crate metadata of a campaign (RO-Crate 1.1 and later, www.researchobject.org/ro-crate)."""

import hashlib
import mimetypes
from collections.abc import Mapping

import yaml
from rocrate.model.person import Person
from rocrate.rocrate import ROCrate

from joules.core.files import to_json

NAME = "ro-crate-metadata.json"
PARTS = {
    "records": "The record of one run",
    "grades": "The verdicts on the answers of one run",
    "prompts": "The literal prompts of one model",
    "agreement": "The runtimes compared on the same prompts of one model",
    "registration.json": "The plan of the study, as it was registered before its first run",
    "unfinished.json": "What is missing: the study was not finished when this was packed",
    "models.yaml": "The entries of the study's models in the catalogue",
}


def metadata(contents: Mapping[str, bytes], study: str, citation: bytes, published: str) -> bytes:
    """Return the metadata of the files in `contents` (name to bytes); equal input, equal bytes.

    `study` is its name, `citation` the text of CITATION.cff, `published` an ISO 8601 date: that of
    the first run.
    """
    about = yaml.safe_load(citation)
    crate = ROCrate()
    crate.name = f"Measurements of the study {study}"
    crate.description = (
        "Energy of runtimes for large language models: one record per run, with grades, prompts, "
        f"configuration and machine. {about['title']} rebuilds tables, figures and article from it."
    )
    crate.license = f"https://spdx.org/licenses/{about['license']}"
    crate.root_dataset["datePublished"] = published
    people = []
    for author in about["authors"]:
        name = f"{author['given-names']} {author['family-names']}"
        identifier = f"#{name.lower().replace(' ', '-')}"
        people.append(crate.add(Person(crate, identifier, properties={"name": name})))
    crate.creator = people
    for name in sorted(contents):
        properties = {
            "name": PARTS.get(name.split("/")[0], name),
            "contentSize": str(len(contents[name])),
            "sha256": hashlib.sha256(contents[name]).hexdigest(),
            "encodingFormat": media_type(name),
        }
        crate.add_file(dest_path=name, properties=properties)
    return to_json(crate.metadata.generate()).encode()


def media_type(name: str) -> str:
    """Return the media type of a file by its name; text where it is not known."""
    known = {"jsonl": "application/jsonl", "yaml": "application/yaml", "cff": "application/yaml"}
    ending = name.rpartition(".")[2]
    return known.get(ending) or mimetypes.guess_type(name, strict=True)[0] or "text/plain"
