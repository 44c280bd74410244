"""The committed schemas are those of the types."""

import difflib

import pytest
from small_study import CHECKOUT

from joules.commands.schemas import texts

FOLDER = CHECKOUT / "workflow/schemas"


def test_there_is_one_schema_for_each_kind_of_file_that_is_stored_or_configured():
    assert {path.name for path in FOLDER.iterdir()} == set(texts())
    for kind in (
        *("configuration", "models", "record", "grade", "prompts", "agreement"),
        *("provided_facts", "attempt"),
    ):
        assert f"{kind}.schema.yaml" in texts()


@pytest.mark.parametrize("name", sorted(texts()))
def test_a_committed_schema_is_the_one_of_its_types(name):
    committed, generated = (FOLDER / name).read_text(encoding="utf-8"), texts()[name]
    lines = difflib.unified_diff(committed.splitlines(), generated.splitlines(), lineterm="")
    assert committed == generated, "\n".join([*lines, "Write them anew: make schemas"])
