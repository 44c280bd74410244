"""One small real study, run once: both real runtimes, a few problems, two blocks, up to the PDF."""

from pathlib import Path

import pytest
from small_study import Tree, built_copy


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """A clean copy with the built runtimes, in which nothing was run."""
    return built_copy(tmp_path_factory.mktemp("fresh") / "tree")


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
