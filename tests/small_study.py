"""A clean copy of the repository with a small study in it, for tests that run the real DAG."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from joules.core import paths
from joules.core.keys import merged
from joules.core.places import REPOSITORY
from joules.core.reading import load_study
from joules.core.run_parameters import options_of
from joules.core.stored import write_provided
from joules.runtimes import load

CHECKOUT = REPOSITORY
DEMONSTRATION = yaml.safe_load((CHECKOUT / "config/config.yaml").read_text(encoding="utf-8"))
SMALL = DEMONSTRATION | {
    "study": "small",
    "blocks": 2,
    "problems": 5,
    "windows": {"preflight_s": 0.2, "idle_s": 0.3, "rest_s": 0},
    "settle": {"limit": 0.02, "seconds": 0.1},
}


BUILT_LLAMA_CPP = ".wheels/llama.cpp-*[0-9a-f]"  # not one that is being compiled, `.part`


class Tree:
    """A clean copy of the repository with a configuration of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def configure(self, **changes: object) -> None:
        """Write `small.yaml`, the small study with these changes; mappings are merged."""
        text = yaml.safe_dump(merged(SMALL, changes), sort_keys=False)  # the order of arms counts
        (self.folder / "small.yaml").write_text(text)

    def command(self, *arguments: str) -> list[str]:
        """Return the command line for Snakemake with the small configuration."""
        own = "--configfile" in arguments
        base = [sys.executable, "-m", "snakemake"]
        base += [] if own else ["--configfile", "small.yaml"]
        return [*base, "--cores", "2", *arguments]  # --cores ends the list of config files

    def started(self, *arguments: str, output: int = subprocess.PIPE) -> subprocess.Popen[str]:
        """Start Snakemake here; what it prints on either of its outputs goes to `output`."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def snakemake(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run Snakemake here with the small configuration."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            capture_output=True,
            text=True,
            env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST")},
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def planned(self, *arguments: str) -> dict[str, int]:
        """Return how often each rule would run, from a dry run; empty when nothing is to do."""
        done = self.snakemake("--dry-run", *arguments)
        return jobs_of(done.stdout + done.stderr)

    def copy(self, target: Path) -> "Tree":
        """Return a copy whose files keep their times, so that nothing becomes stale by it."""
        shutil.copytree(self.folder, target, symlinks=True)
        return Tree(target)


def jobs_of(output: str) -> dict[str, int]:
    """Read Snakemake's table of jobs."""
    table = re.search(r"Job stats:\n(.*?)\ntotal", output, re.DOTALL)
    if table is None:
        assert "Nothing to be done" in output, output
        return {}
    rows: Sequence[str] = table.group(1).splitlines()[2:]
    return {row.split()[0]: int(row.split()[1]) for row in rows}


def link_or_copy(source: str, target: str) -> None:
    """Give a file a second name; copy it where that is on another disk."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def clean_copy(target: Path) -> Tree:
    """Copy the repository's own files, as a clone would have them.

    The llama.cpp that was compiled for the checkout comes along: it is the same for every copy.
    """
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if name.startswith("data/measurements/"):
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # deleted, or a temporary file of an editor
            shutil.copy2(CHECKOUT / name, target / name)
    for built in CHECKOUT.glob(BUILT_LLAMA_CPP):
        kept = target / built.relative_to(CHECKOUT)
        shutil.copytree(built, kept, symlinks=True, copy_function=link_or_copy)
    return Tree(target)


def build_runtimes() -> list[str]:
    """Build what the runtimes of the demonstration need, once; it takes minutes the first time.

    Built in the checkout's `resources/`, as a study would, but without Snakemake and its lock.
    Returns the files of facts.
    """
    study, made = load_study(root=CHECKOUT).study, []
    for name, arm in study.compared.items():
        options = options_of(study, name)
        facts_file = paths.provided_file(arm.runtime, options)
        made.append(facts_file)
        if not (CHECKOUT / facts_file).exists():
            facts = load(arm.runtime).provide(options, (CHECKOUT / facts_file).with_suffix(""))
            write_provided(CHECKOUT / facts_file, facts)
    return made


def built_copy(target: Path) -> Tree:
    """Return a clean copy with the built runtimes and the small study, in which nothing was run."""
    made = build_runtimes()
    tree = clean_copy(target)
    for facts_file in made:
        built = (CHECKOUT / facts_file).with_suffix("")
        shutil.copytree(built, (tree.folder / facts_file).with_suffix(""), symlinks=True)
        shutil.copy2(CHECKOUT / facts_file, tree.folder / facts_file)
    tree.configure()
    return tree
