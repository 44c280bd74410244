"""What requirements/ and envs/ ask for and pin, for the tests that hold other things against it."""

import re
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from joules.core.places import REPOSITORY

ROOT = REPOSITORY
ASKED = sorted((ROOT / "requirements").glob("*.in"))
PINNED = sorted((ROOT / "requirements").glob("*.txt"))
ENVIRONMENTS = sorted((ROOT / "envs").glob("*.yaml"))
PIN = re.compile(r"^(?P<pin>[a-z0-9][a-z0-9._-]*==[^ ;\\]+)(?: ; [^\\]+)? \\$")


def asked_in(path: Path) -> dict[str, Requirement]:
    """Return what one .in file asks for, with all that it includes by -r."""
    found: dict[str, Requirement] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.partition(" #")[0].strip()
        if text.startswith("-r "):
            found |= asked_in(path.parent / text.removeprefix("-r "))
        elif text and not text.startswith(("#", "-c ")):
            requirement = Requirement(text)
            found[canonicalize_name(requirement.name)] = requirement
    return found


def pinned_in(path: Path) -> dict[str, str]:
    """Return the version of every package of one compiled file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    pins = [match["pin"] for line in lines if (match := PIN.match(line))]
    return {canonicalize_name(name): version for name, version in (pin.split("==") for pin in pins)}


def is_source(path: Path) -> bool:
    """Return whether a file pins sources that are unpacked and never installed."""
    return path.stem.startswith("source-")


def stands_alone(path: Path) -> bool:
    """Return whether a file's packages are installed where nothing else is: versions may differ."""
    return is_source(path) or path.stem == "validator"


def versions() -> dict[str, str]:
    """Return the version of every package of the study, of all compiled files of it."""
    files = [path for path in PINNED if not stands_alone(path)]
    return {name: version for path in files for name, version in pinned_in(path).items()}


def packages_of(environment: Path) -> dict[str, str]:
    """Return package and version of a conda environment, its pip section included."""
    found: dict[str, str] = {}
    for entry in yaml.safe_load(environment.read_text(encoding="utf-8"))["dependencies"]:
        for text in entry["pip"] if isinstance(entry, dict) else [entry]:
            name, _, version = re.sub(r" *=+ *", "=", text).partition("=")
            found[canonicalize_name(name.removesuffix("-base"))] = version
    return found
