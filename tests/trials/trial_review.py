"""Rebuild every committed campaign in clean copies: twice, and under another Python; compare bytes.

Each copy holds what a clone would hold, and makes its own `.venv-review`. What `make review` left
below `results/archive/` is compared file by file. Prints lines `name: value`; files that differ are
named. Exit status 1 where one differs. Needs the network, or a warm cache of pip.
"""

import argparse
import filecmp
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MEASUREMENTS = "data/measurements"
REVIEWED = "results/archive"
# Of a `make` that started this one: they would reach the `make` of the copies.
OF_MAKE = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES")


def copy_of_checkout(target: Path) -> Path:
    """Copy the files that git knows or would add, as a clone would have them; return `target`."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def make_review(checkout: Path, campaign: str, python: str) -> float:
    """Review a campaign in a checkout and return the minutes it took; `python`: "" for make's."""
    kept = {name: value for name, value in os.environ.items() if name not in OF_MAKE}
    chosen = [f"PYTHON={python}"] if python else []
    began = time.monotonic()
    done = subprocess.run(
        ["make", "review", f"CAMPAIGN={campaign}", *chosen],
        cwd=checkout,
        env=kept,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        sys.exit(f"{done.stdout}\nerror: make review of {campaign} failed in {checkout}")
    return (time.monotonic() - began) / 60


def runs(python: str) -> bool:
    """Return whether a name is that of a program that runs; a pyenv's shim may not."""
    try:
        return subprocess.run([python, "--version"], capture_output=True).returncode == 0
    except OSError:
        return False


def version_in(checkout: Path) -> str:
    """Return the version of the Python that a checkout reviews with, such as 3.13."""
    command = [checkout / ".venv-review/bin/python", "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return re.search(r"\d+\.\d+", said)[0]


def names_in(folder: Path) -> set[str]:
    """Return the names of all files below a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def different(one: Path, other: Path) -> Iterator[str]:
    """Yield the names of the files that only one of two folders has, or that differ by a byte."""
    for name in sorted(names_in(one) | names_in(other)):
        a, b = one / name, other / name
        if not (a.is_file() and b.is_file() and filecmp.cmp(a, b, shallow=False)):
            yield name


def compared(campaign: str, first: Path, other: Path, name: str) -> int:
    """Print how many files two checkouts rebuilt otherwise, and return their number."""
    found = list(different(*(checkout / REVIEWED / campaign for checkout in (first, other))))
    print(f"{name}: {len(found)} files", *found, sep="\n  ", flush=True)
    return len(found)


def main() -> int:
    """Review the campaigns in three copies, and return 1 where a byte differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", help="another Python, 3.11 to 3.13, such as python3.13")
    parser.add_argument("campaigns", nargs="*", help="default: all that are committed")
    options = parser.parse_args()
    if not runs(options.other):
        sys.exit(f"error: {options.other} does not run; expected OTHER=/path/to/another/python3")
    known = sorted(path.parent.name for path in (ROOT / MEASUREMENTS).glob("*/config.yaml"))
    differing = 0
    with tempfile.TemporaryDirectory() as scratch:
        copies = {name: copy_of_checkout(Path(scratch, name)) for name in ("one", "two", "other")}
        for campaign in options.campaigns or known:
            print(f"campaign: {campaign}")
            for name, checkout in copies.items():
                new = "first" if not (checkout / ".venv-review").exists() else "next"
                took = make_review(checkout, campaign, options.other if name == "other" else "")
                print(f"{new}_review_in_copy_{name}: {took:.1f} minutes", flush=True)
            versions = [version_in(checkout) for checkout in copies.values()]
            if versions[0] == versions[2]:
                sys.exit(
                    f"error: {options.other} is {versions[2]}, as is make's own; expected another"
                )
            files = names_in(copies["one"] / REVIEWED / campaign)
            print(f"python: {versions[0]}\nfiles: {len(files)}")
            differing += compared(campaign, copies["one"], copies["two"], "bytes_differ_twice")
            name = f"bytes_differ_python_{versions[2]}"
            differing += compared(campaign, copies["one"], copies["other"], name)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
