"""One small real study, run once: both real runtimes, a few problems, two blocks, up to the PDF."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_study import CHECKOUT, PROVIDED, Tree, clean_copy


@pytest.fixture(scope="session")
def runtimes_built() -> None:
    """Build what the runtimes need in the checkout, once; it takes minutes the first time."""
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", *PROVIDED],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def fresh(runtimes_built: None, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """A clean copy with the built runtimes, in which nothing was run."""
    tree = clean_copy(tmp_path_factory.mktemp("fresh") / "tree")
    shutil.copytree(CHECKOUT / "resources/runtimes", tree.folder / "resources/runtimes")
    metadata = CHECKOUT / ".snakemake/metadata"
    if metadata.exists():
        shutil.copytree(metadata, tree.folder / ".snakemake/metadata")
    tree.configure()
    return tree


@pytest.fixture(scope="session")
def finished(fresh: Tree, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """The small study, run for real up to the PDF."""
    tree = fresh.copy(tmp_path_factory.mktemp("finished") / "tree")
    tree.output = tree.snakemake("all")  # type: ignore[attr-defined]
    return tree


@pytest.fixture
def tree(finished: Tree, tmp_path: Path) -> Tree:
    """A copy of the finished study, to change and to plan anew."""
    return finished.copy(tmp_path / "tree")
