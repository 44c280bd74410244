"""What tests of every layer share."""

import pytest
from small_study import Tree, clean_copy


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """A clean copy of the repository, for dry runs and refusals; whoever changes it copies it."""
    return clean_copy(tmp_path_factory.mktemp("clone") / "tree")
