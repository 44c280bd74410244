"""Build the folder that is given to an archive service, and list what a person must fill in.

`results/deposit/` gets the source of the commit, an archive of each committed campaign (or of
CAMPAIGN alone), the articles that were rebuilt, metadata made of CITATION.cff, and checksums.
Nothing is fetched and nothing is sent.
"""

import argparse
import gzip
import io
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from joules.commands import command_line
from joules.core import paths
from joules.core.errors import UserError
from joules.core.files import sha256_of, write_atomic
from joules.core.places import REPOSITORY
from joules.machine.repository import clean_commit, committed_files
from joules.write import deposit
from joules.write.archive import verify, zipped
from joules.write.campaign_texts import CITATION, about

FOLDER = "results/deposit"
ARTICLE = "results/archive/{}/article/article.pdf"
PAPERS = ("paper/paper.md",)
CHANGES = "CHANGELOG.md"
PLAIN = {"LICENSE": "the licence of the code", CITATION: "how to cite it"}


def campaigns_of(asked: str, root: Path) -> list[Path]:
    """Return the folders of the committed campaigns, or the one that was asked for.

    Raises UserError for one that is not there.
    """
    measurements = root / paths.archived_folder("")
    found = sorted(each.parent for each in measurements.glob(f"*/{paths.CONFIGURATION}"))
    names = [each.name for each in found]
    if not asked:
        return found
    if asked not in names:
        raise UserError(
            f"CAMPAIGN is {asked!r}, which is no campaign of data/measurements/. Expected one of: "
            f"{', '.join(names) or 'none is there'}. Correct it, or leave it out for all."
        )
    return [measurements / asked]


def gzipped(content: bytes) -> bytes:
    """Return `content` compressed, without name and time: equal content, equal bytes."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=buffer, mode="wb", mtime=0) as file:
        file.write(content)
    return buffer.getvalue()


def build(asked: str, root: Path = REPOSITORY) -> tuple[list[Path], list[str]]:
    """Build the deposit of a checkout anew; return its files, and what is missing or open.

    Raises UserError where not all of it is committed, or a campaign is not what was archived.
    """
    folders = campaigns_of(asked, root)
    commit = clean_commit(root)
    citation = about((root / CITATION).read_bytes())
    named = deposit.name_of(citation, commit)
    files = {f"{named}.tar.gz": "the source, with the measurements"}
    contents = {f"{named}.tar.gz": gzipped(committed_files(named, root))}
    missing = []
    for folder in folders:
        verify(folder)
        inside = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }
        files[f"{folder.name}.zip"] = "the measurements of a campaign; `make import` reads it"
        contents[f"{folder.name}.zip"] = zipped(inside)
        article = root / ARTICLE.format(folder.name)
        if article.is_file():
            files[f"{folder.name}.pdf"] = "the article of that campaign"
            contents[f"{folder.name}.pdf"] = article.read_bytes()
        else:
            missing.append(
                f"the article of {folder.name}: make review CAMPAIGN={folder.name}, and this again"
            )
    for name, text in PLAIN.items():
        files[name], contents[name] = text, (root / name).read_bytes()
    files[".zenodo.json"] = files["datacite.json"] = "metadata for the archive service"
    contents[".zenodo.json"] = deposit.zenodo(citation).encode()
    contents["datacite.json"] = deposit.datacite(citation).encode()
    contents["README.md"] = deposit.page(citation, commit, files).encode()
    papers = {name: (root / name).read_text(encoding="utf-8") for name in PAPERS}
    missing += deposit.unreleased(citation, (root / CHANGES).read_text(encoding="utf-8"))
    return written(contents, root / FOLDER), missing + deposit.still_open(citation, papers)


def written(contents: dict[str, bytes], folder: Path) -> list[Path]:
    """Write the files and their checksums in the place of what is there; return their paths."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        new = Path(scratch, folder.name)
        for name, content in contents.items():
            write_atomic(new / name, content)
        sums = {name: sha256_of(new / name) for name in contents}
        write_atomic(new / "SHA256SUMS", deposit.sums(sums))
        if folder.exists():
            shutil.rmtree(folder)
        new.replace(folder)
    return sorted(folder.iterdir())


def act(options: argparse.Namespace) -> int:
    """Build the deposit, list its files and what is open, and return 0."""
    files, still_open = build(options.campaign)
    for file in files:
        place = file.relative_to(REPOSITORY)
        command_line.say(f"{place} ({file.stat().st_size:,} bytes)")
    if still_open:
        command_line.say("To be filled in by a person before it is published:")
    for line in still_open:
        command_line.say(f"- {line}")
    return command_line.DONE


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the deposit; see `command_line` for the exit status."""
    command = command_line.Command("deposit", __doc__, "make deposit [CAMPAIGN=NAME]")
    command.add_argument(
        "campaign", nargs="?", default="", help="a folder of data/measurements/ (default: all)"
    )
    return command_line.run(command, arguments, act)


if __name__ == "__main__":
    sys.exit(main())
