"""One campaign as one file: what a reviewer needs to rebuild everything right of the records.

Layout inside, and of data/measurements/<campaign>/: config.yaml, machine.yaml, software.yaml,
schedule.csv, prompts/, agreement/, records/ (with invalid attempts beside them), grades/,
CITATION.cff, ro-crate-metadata.json, SHA256SUMS.
"""

import hashlib
import io
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from joules import crate
from joules.errors import UserError
from joules.files import read_json, write_atomic

SUMS = "SHA256SUMS"
FIXED_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can hold; equal bytes every time


def facts_of(records: Sequence[Path]) -> dict[str, Any]:
    """Return what records say of machine and software, each distinct state once, and of the date.

    `machines` are the machines with their packages, `software` is the instrument's and each
    runtime's versions and builds, `first_day` the day of the first run, YYYY-MM-DD.
    """
    machines: list[dict[str, Any]] = []
    software: dict[str, list[dict[str, Any]]] = {}
    days = set()
    for path in sorted(records):
        record = read_json(path)
        machine = record["environment"]["before"]["machine"]
        if machine not in machines:
            machines.append(machine)
        runtime = record.get("runtime", {})
        states = {
            "codecarbon": record.get("instrument", {}).get("codecarbon", {}),
            runtime.get("name", "runtime"): runtime.get("facts", {}),
        }
        for name, state in states.items():
            seen = software.setdefault(name, [])
            if state not in seen:
                seen.append(state)
        days.add(record["windows"][0]["start_wall"][:10])
    return {"machines": machines, "software": software, "first_day": min(days)}


def attempts_beside(records: Sequence[Path]) -> list[Path]:
    """Return the invalid attempts that lie beside these records."""
    return sorted(
        attempt
        for record in records
        for attempt in record.parent.glob(f"{record.stem}.invalid-*.json")
    )


def pack(
    root: Path, files: Sequence[Path], config: Mapping[str, Any], citation: Path, target: Path
) -> None:
    """Write the campaign's archive; equal input gives equal bytes.

    `files` lie below `root` and keep their place there; those of the folder `records` give the
    facts and the date, and the invalid attempts beside them come along. `citation` is CITATION.cff.
    """
    records = [path for path in files if path.relative_to(root).parts[0] == "records"]
    contents: dict[str, bytes] = {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in (*files, *attempts_beside(records))
    }
    contents["config.yaml"] = yaml.safe_dump(dict(config), sort_keys=True).encode()
    facts = facts_of(records)
    contents["machine.yaml"] = yaml.safe_dump(facts["machines"], sort_keys=True).encode()
    contents["software.yaml"] = yaml.safe_dump(facts["software"], sort_keys=True).encode()
    contents[citation.name] = citation.read_bytes()
    contents[crate.NAME] = crate.metadata(
        contents, config, contents[citation.name], facts["first_day"]
    )
    contents[SUMS] = "".join(
        f"{hashlib.sha256(contents[name]).hexdigest()}  {name}\n" for name in sorted(contents)
    ).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in sorted(contents):
            member = zipfile.ZipInfo(name, FIXED_DATE)
            member.external_attr = 0o644 << 16
            archive.writestr(member, contents[name], zipfile.ZIP_DEFLATED)
    write_atomic(target, buffer.getvalue())


def verify(folder: Path) -> None:
    """Raise UserError naming each file of a campaign that is missing, changed or not listed."""
    sums = folder / SUMS
    if not sums.exists():
        raise UserError(f"{sums} is missing, so {folder} cannot be checked. Import it again.")
    expected: dict[str, str] = {}
    for line in sums.read_text(encoding="utf-8").splitlines():
        sha256, name = line.split("  ", 1)
        expected[name] = sha256
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
        raise UserError(
            f"The campaign in {folder} is not what was archived: {'; '.join(wrong)}. "
            f"Expected the files of {sums}. Import the archive again."
        )


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
        try:
            with zipfile.ZipFile(archive) as content:
                for name in content.namelist():
                    path = PurePosixPath(name)
                    if path.is_absolute() or ".." in path.parts:
                        raise UserError(f"{archive} names {name!r}, outside its folder. Refused.")
                content.extractall(folder)
        except (OSError, zipfile.BadZipFile) as error:
            raise UserError(
                f"{archive} cannot be read as an archive ({error}). Expected a zip file made by "
                "rule `archive`. Fetch it again."
            ) from error
        verify(folder)
        shutil.copymode(measurements, folder)
        os.replace(folder, target)
    return target


def main(arguments: Sequence[str]) -> int:
    """Check a campaign's folder, or import an archive: `joules.archive FOLDER | ARCHIVE TARGET`."""
    if len(arguments) not in (1, 2) or not arguments[0]:
        print("usage: make import ARCHIVE=campaign.zip", file=sys.stderr)
        return 2
    try:
        if len(arguments) == 1:
            verify(Path(arguments[0]))
            print(f"every file is what was archived: {arguments[0]}")
        else:
            print(f"imported and checked: {unpack(Path(arguments[0]), Path(arguments[1]))}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
