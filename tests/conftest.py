"""What tests of every layer share."""

from pathlib import Path

import pytest
from demonstration_campaigns import COMMITTED, unpack_older
from hypothesis import HealthCheck, settings
from small_study import Tree, clean_copy

# The same examples everywhere and every time, however slow the machine is.
settings.register_profile(
    "same",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("same")


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """A clean copy of the repository, for dry runs and refusals; whoever changes it copies it."""
    return clean_copy(tmp_path_factory.mktemp("clone") / "tree")


@pytest.fixture(scope="session")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the demonstration's older campaign, with records of schema 2; only to read."""
    return unpack_older(tmp_path_factory.mktemp("older"))


@pytest.fixture(scope="session", params=["schema 2", "schema 3"])
def either(request: pytest.FixtureRequest, older: Path) -> Path:
    """The folder of the older campaign, and that of the committed one; only to read."""
    return older if request.param == "schema 2" else COMMITTED
