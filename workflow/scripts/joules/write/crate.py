"""RO-Crate metadata of a campaign: a Workflow Run Crate, which says how its files came about.

RO-Crate 1.1 (w3id.org/ro/crate/1.1) with the profiles Workflow Run Crate 0.5 (w3id.org/ro/wfrun),
Process Run Crate 0.5 and Workflow RO-Crate 1.0. Version 1.1 is the one that these profiles extend.
"""

import hashlib
import mimetypes
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from rocrate.model.contextentity import ContextEntity
from rocrate.model.dataset import Dataset
from rocrate.model.person import Person
from rocrate.rocrate import ROCrate

from joules.core.files import to_json
from joules.core.inference import Options
from joules.core.paths import CATALOGUE, CONFIGURATION, REGISTRATION, UNFINISHED
from joules.write import campaign_texts
from joules.write.campaign_facts import CampaignFacts

NAME = "ro-crate-metadata.json"
VERSION = "1.1"
TERMS = "https://w3id.org/ro/terms/workflow-run/context"  # has `sha256`, which 1.1 lacks
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}
WORKFLOW_PROFILE = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
LICENCES = {
    "CC-BY-4.0": "Creative Commons Attribution 4.0 International",
    "MIT": "MIT License",
}
PARTS = {
    "records": "The record of one run",
    "grades": "The verdicts on the answers of one run",
    "prompts": "The literal prompts of one model",
    "agreement": "The runtimes compared on the same prompts of one model",
    REGISTRATION: "The plan of the study, as it was registered before its first run",
    UNFINISHED: "What is missing: the study was not finished when this was packed",
    CATALOGUE: "The entries of the study's models in the catalogue",
}
# What the workflow is given and gives, by its place here.
GIVEN = {
    CONFIGURATION: "The configuration of the study",
    CATALOGUE: PARTS[CATALOGUE],
    REGISTRATION: PARTS[REGISTRATION],
}
MADE = {
    "schedule.csv": "The order of the runs",
    "prompts/": "The literal prompts, one file per model",
    "agreement/": "The runtimes compared on the same prompts, one file per model",
    "records/": "One record per run, with every answer, energy and time",
    "grades/": "The verdicts on the answers, one file per record",
}

Item = TypeVar("Item")


def metadata(
    contents: Mapping[str, bytes],
    study: str,
    citation: bytes,
    facts: CampaignFacts,
    catalogue: Options | None = None,
) -> bytes:
    """Return the metadata of the files in `contents` (name to bytes); equal input, equal bytes.

    `study` is its name, `citation` the text of the software's CITATION.cff, and `catalogue` has the
    addresses of the models. The crate is published on the day of the first run, since no later
    date is known here. Who started the run is not recorded, so the run has no agent.
    """
    software = campaign_texts.about(citation)
    crate = ROCrate(version=VERSION)
    crate.metadata.extra_contexts.append(TERMS)
    root = crate.root_dataset
    licences = {name: _licence(crate, name) for name in LICENCES}
    people = _people(crate, software["authors"])
    files = {name: _file(crate, name, contents[name]) for name in sorted(contents)}
    folders = _folders(crate, files)
    if "prompts/" in folders:
        folders["prompts/"]["license"] = licences["MIT"]
    places = {**files, **folders}
    workflow = files[campaign_texts.WORKFLOW]
    _describe(workflow, software, facts, contents[campaign_texts.WORKFLOW])
    workflow["license"] = licences["MIT"]
    workflow["author"] = people
    for key, all_places in (("input", GIVEN), ("output", MADE)):
        slots = [
            _slot(crate, place, text, places[place])
            for place, text in all_places.items()
            if place in places
        ]
        workflow[key] = _one_or_all(slots)
    action = _run(crate, study, facts, places, UNFINISHED in contents)
    action["instrument"] = workflow
    models = _models(crate, facts, catalogue)
    action["object"] = _one_or_all([*(places[each] for each in GIVEN if each in places), *models])
    action["result"] = _one_or_all([places[each] for each in MADE if each in places])
    crate.name = campaign_texts.title_of(study, facts)
    crate.description = (
        "Energy of runtimes for large language models: one record per run, with grades, prompts, "
        f"configuration and machine. {software['title']} rebuilds tables, figures and article "
        "from it."
    )
    root["datePublished"] = facts.first_day
    root["license"] = licences[campaign_texts.DATA_LICENCE]
    root["author"] = root["creator"] = people
    root["mentions"] = action
    root["conformsTo"] = [_profile(crate, address) for address in PROFILES]
    inside = {name for name in files if name.partition("/")[0] + "/" in folders}
    root["hasPart"] = [
        *(files[name] for name in files if name not in inside),
        *(folders[name] for name in sorted(folders)),
    ]
    return to_json(crate.metadata.generate()).encode()


def media_type(name: str) -> str:
    """Return the media type of a file by its name; text where it is not known."""
    known = {
        "jsonl": "application/jsonl",
        "yaml": "application/yaml",
        "cff": "application/yaml",
        "md": "text/markdown",
    }
    ending = name.rpartition(".")[2]
    return known.get(ending) or mimetypes.guess_type(name, strict=True)[0] or "text/plain"


def _one_or_all(items: Sequence[Item]) -> Item | list[Item]:
    """Return one alone, as RO-Crate asks for, and several as a list."""
    return items[0] if len(items) == 1 else list(items)


def _entity(crate: ROCrate, place: str, kind: str, **properties: object) -> ContextEntity:
    return crate.add(ContextEntity(crate, place, properties={"@type": kind, **properties}))


def _licence(crate: ROCrate, spdx: str) -> ContextEntity:
    address = f"https://spdx.org/licenses/{spdx}"
    return _entity(crate, address, "CreativeWork", name=LICENCES[spdx], identifier=spdx)


def _profile(crate: ROCrate, address: str) -> ContextEntity:
    version = address.rpartition("/")[2]
    return _entity(crate, address, "CreativeWork", name=PROFILES[address], version=version)


def _people(crate: ROCrate, authors: Iterable[Mapping[str, str]]) -> Any:
    people = []
    for author in authors:
        name = f"{author['given-names']} {author['family-names']}"
        properties = {"name": name}
        if "affiliation" in author:
            place = f"#{author['affiliation'].lower().replace(' ', '-')}"
            properties["affiliation"] = _entity(
                crate, place, "Organization", name=author["affiliation"]
            )
        identifier = author.get("orcid", f"#{name.lower().replace(' ', '-')}")
        people.append(crate.add(Person(crate, identifier, properties=properties)))
    return _one_or_all(people)


def _properties(name: str, content: bytes) -> dict[str, str]:
    return {
        "name": PARTS.get(name.split("/")[0], name),
        "contentSize": str(len(content)),
        "sha256": hashlib.sha256(content).hexdigest(),
        "encodingFormat": media_type(name),
    }


def _file(crate: ROCrate, name: str, content: bytes) -> Any:
    if name == campaign_texts.WORKFLOW:
        return crate.add_workflow(dest_path=name, main=True, lang="snakemake")
    file = crate.add_file(dest_path=name, properties=_properties(name, content))
    if name == campaign_texts.README:
        file["about"] = crate.root_dataset
    return file


def _folders(crate: ROCrate, files: Mapping[str, Any]) -> dict[str, Any]:
    """Return the folders of results, each with all files below it as its parts."""
    found = {}
    for name, text in MADE.items():
        parts = [files[each] for each in files if each.startswith(name)]
        if name.endswith("/") and parts:
            folder = crate.add(Dataset(crate, dest_path=name, properties={"name": text}))
            folder["hasPart"] = _one_or_all(parts)
            found[name] = folder
    return found


def _describe(
    workflow: Any, software: Mapping[str, Any], facts: CampaignFacts, content: bytes
) -> None:
    """Describe the main workflow; its version is the commit that measured, where it is known."""
    said = _properties(campaign_texts.WORKFLOW, content) | {
        "name": software["title"],
        "description": "The main file of the workflow. Its rules and its code are in the "
        "repository, at the commit that `version` names.",
        "version": ", ".join(facts.commits) or str(software.get("version", "unknown")),
        "conformsTo": {"@id": WORKFLOW_PROFILE},
    }
    if "repository-code" in software:
        said["url"] = software["repository-code"]
    for key, value in said.items():
        workflow[key] = value
    versions = facts.versions_of("snakemake")
    if versions:
        workflow["programmingLanguage"]["version"] = ", ".join(versions)


def _slot(crate: ROCrate, place: str, text: str, filled_by: Any) -> ContextEntity:
    """Return one input or output of the workflow; `filled_by` is what this run had there."""
    slot = crate.add_formal_parameter(
        place.rstrip("/"),
        "Dataset" if place.endswith("/") else "File",
        identifier=f"#slot-{place.rstrip('/')}",
        description=text,
        valueRequired=place != REGISTRATION,
    )
    filled_by["exampleOfWork"] = slot
    return slot


def _models(crate: ROCrate, facts: CampaignFacts, catalogue: Options | None) -> list[ContextEntity]:
    """Return the model files, which are not part of the crate: their sums name them."""
    listed: Any = (catalogue or {}).get("models") or {}
    found = []
    for model in facts.models:
        entry = listed.get(model.name) or {}
        said = {
            "name": model.name,
            "description": f"Weights, {model.parameters} parameters, {model.quantization}",
            "sha256": model.sha256,
        }
        for key in ("url", "license"):
            if entry.get(key):
                said[key] = entry[key]
        found.append(_entity(crate, f"#model-{model.name}", "CreativeWork", **said))
    return found


def _run(
    crate: ROCrate,
    study: str,
    facts: CampaignFacts,
    places: Mapping[str, Any],
    unfinished: bool,
) -> ContextEntity:
    """Return the run of the workflow; that of an unfinished study is not called completed."""
    said = {
        "name": f"Run of the study {study}",
        "description": "Models were loaded, warmed up and measured, and their answers graded.",
        "startTime": facts.start,
        "endTime": facts.end,
    }
    if not unfinished:
        said["actionStatus"] = "http://schema.org/CompletedActionStatus"
    return _entity(crate, "#run", "CreateAction", **said)
