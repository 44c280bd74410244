"""A real Slurm of two nodes on this machine, once for all tests of this folder."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_slurm import Cluster, NotStartedError, Study, installed, started
from small_study import Tree, built_copy


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The cluster, whose daemons end with the tests."""
    obstacle = installed()
    if obstacle:
        pytest.skip(obstacle)
    with contextlib.ExitStack() as running:
        try:
            found = running.enter_context(started())
        except NotStartedError as error:
            pytest.skip(f"Slurm does not run here: {error}")
        yield found


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """A clean copy with the built runtimes, in which nothing was run."""
    return built_copy(tmp_path_factory.mktemp("built") / "tree")


@pytest.fixture
def study(cluster: Cluster, built: Tree, tmp_path: Path) -> Study:
    """The smallest study that has blocks: one model, one runtime and its control."""
    return Study(cluster, built.copy(tmp_path / "tree"))
