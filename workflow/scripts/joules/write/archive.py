"""One campaign as one file: what a reviewer needs to rebuild everything right of the records.

Layout inside, and of data/measurements/<campaign>/: config.yaml, models.yaml, machine.yaml,
software.yaml, registration.json, schedule.csv, prompts/, agreement/, records/ (with invalid
attempts beside them), grades/, README.md, LICENSE, LICENSE.HumanEval, CITATION.cff, Snakefile,
ro-crate-metadata.json, SHA256SUMS; that of an unfinished study (`joules.write.unfinished`) has
unfinished.json as well.
"""

import contextlib
import hashlib
import io
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import msgspec
import yaml

from joules.core.errors import UserError
from joules.core.files import write_atomic
from joules.core.inference import Options
from joules.core.paths import (
    CATALOGUE,
    CONFIGURATION,
    UNFINISHED,
    invalid_attempts,
    registration_file,
)
from joules.core.stored import read_record
from joules.write import campaign_texts, crate
from joules.write.campaign_facts import facts_of

SUMS = "SHA256SUMS"
FIXED_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can hold; equal bytes every time


def in_order(config: Options) -> Options:
    """Return a configuration with all keys sorted but the names of arms.

    Those are in the order of the study, which plan, tables and figures follow.
    """
    return {
        key: {name: _by_key(arm) for name, arm in value.items()}
        if key == "arms"
        else _by_key(value)
        for key, value in sorted(config.items())
    }


def _by_key(value: object) -> object:
    if isinstance(value, (list, tuple)):
        return [_by_key(each) for each in value]
    if not isinstance(value, Mapping):
        return value
    return {key: _by_key(each) for key, each in sorted(value.items())}


def pack(
    root: Path,
    files: Sequence[Path],
    config: Options,
    citation: Path,
    target: Path,
    catalogue: Options | None = None,
) -> None:
    """Write the campaign's archive; equal input gives equal bytes.

    `files` lie below `root` and keep their place there; those of the folder `records` give the
    facts and the date. The invalid attempts beside them and the study's registration come along
    where there are any. `citation` is the software's CITATION.cff, `catalogue` the part of the
    catalogue that the study's models are in; None for a campaign that was archived without it.
    """
    named = {path.relative_to(root).as_posix(): path for path in files}
    records = [path for name, path in named.items() if name.startswith("records/")]
    attempts = [each for found in invalid_attempts(records).values() for each in found]
    registered = [file] if (file := registration_file(root)).exists() else []
    named |= {path.relative_to(root).as_posix(): path for path in (*attempts, *registered)}
    contents = {name: path.read_bytes() for name, path in named.items()}
    pack_contents(contents, records, config, citation, target, catalogue, root)


def pack_contents(
    contents: dict[str, bytes],
    records: Sequence[Path],
    config: Options,
    citation: Path,
    target: Path,
    catalogue: Options | None,
    root: Path | None = None,
) -> None:
    """Write an archive of `contents`, name to bytes, and of what is said of them all; see `pack`.

    `records` are the files whose facts and dates it has. Licences and workflow are those of `root`
    where it has them.
    """
    contents[CONFIGURATION] = yaml.safe_dump(in_order(config), sort_keys=False).encode()
    if catalogue is not None:
        contents[CATALOGUE] = yaml.safe_dump(dict(catalogue), sort_keys=True).encode()
    facts = facts_of(map(read_record, sorted(records)))
    machines = msgspec.to_builtins(facts.machines)
    contents["machine.yaml"] = yaml.safe_dump(machines, sort_keys=True).encode()
    contents["software.yaml"] = yaml.safe_dump(facts.software, sort_keys=True).encode()
    about_software = citation.read_bytes()
    study = config["study"]
    contents |= campaign_texts.texts(study, about_software, facts, root)
    contents[crate.NAME] = crate.metadata(contents, study, about_software, facts, catalogue)
    contents[SUMS] = "".join(
        f"{hashlib.sha256(contents[name]).hexdigest()}  {name}\n" for name in sorted(contents)
    ).encode()
    write_atomic(target, zipped(contents))


def zipped(contents: Mapping[str, bytes]) -> bytes:
    """Return a zip file of `contents`, name to bytes; equal contents, equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in sorted(contents):
            member = zipfile.ZipInfo(name, FIXED_DATE)
            member.external_attr = 0o644 << 16
            archive.writestr(member, contents[name], zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


class NotAsArchived(UserError):
    """Files of a campaign are missing, changed or not listed."""


def sums_of(folder: Path) -> dict[str, str]:
    """Return file -> sha256 as a campaign lists them. Raises UserError where it lists none."""
    sums = folder / SUMS
    if not sums.exists():
        raise UserError(f"{sums} is missing, so {folder} cannot be checked. Import it again.")
    lines = sums.read_text(encoding="utf-8").splitlines()
    return {name: sha256 for sha256, name in (line.split("  ", 1) for line in lines)}


def verify(folder: Path) -> None:
    """Raise NotAsArchived naming each file of a campaign that is missing, changed or not listed.

    Raises another UserError for a folder without its list of sums.
    """
    sums, expected = folder / SUMS, sums_of(folder)
    present = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path != sums
    }
    wrong = [f"{name} is missing" for name in sorted(expected.keys() - present)]
    wrong += [f"{name} is not listed" for name in sorted(present - expected.keys())]
    for name in sorted(expected.keys() & present):
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != expected[name]:
            wrong.append(f"{name} has changed")
    if wrong:
        raise NotAsArchived(
            f"The campaign in {folder} is not what was archived: {'; '.join(wrong)}. "
            f"Expected the files of {sums}. Import the archive again."
        )


def is_unfinished(archive: Path) -> bool:
    """Return whether an archive says that runs of its study are missing. Raises UserError."""
    with opened(archive) as content:
        return UNFINISHED in content.namelist()


@contextlib.contextmanager
def opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    """Yield an archive to read. Raises UserError for a file that is none."""
    try:
        with zipfile.ZipFile(archive) as content:
            yield content
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{archive} cannot be read as an archive ({error}). Expected a zip file made by "
            "rule `archive` or `make pack`. Fetch it again."
        ) from error


def unpack(archive: Path, measurements: Path) -> Path:
    """Unpack an archive into `measurements/<its name>`, checked; return the folder.

    Raises UserError for a file that is no archive of ours, a name that leaves the folder, a
    checksum that differs, or a campaign that is already there.
    """
    target = measurements / archive.stem
    if target.exists():
        raise UserError(f"{target} exists already. Move it away, or rename the archive.")
    measurements.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=measurements) as scratch:
        folder = Path(scratch, archive.stem)
        with opened(archive) as content:
            for name in content.namelist():
                path = PurePosixPath(name)
                if path.is_absolute() or ".." in path.parts:
                    raise UserError(f"{archive} names {name!r}, outside its folder. Refused.")
            content.extractall(folder)
        verify(folder)
        shutil.copymode(measurements, folder)
        os.replace(folder, target)
    return target
