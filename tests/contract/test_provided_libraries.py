"""A runtime whose environment was made anew after it was provided is named before its tasks."""

from pathlib import Path

import pytest
from real_runtimes import MODELS, SETTINGS, model_of, options_of

from joules.core.errors import UserError
from joules.runtimes import load, names
from joules.runtimes.shared.in_process import IDENTITY, InProcess

IN_PROCESS = [name for name in names() if issubclass(load(name), InProcess)]


@pytest.mark.parametrize("name", IN_PROCESS)
def test_another_environment_than_the_provided_one_is_named(name: str, tmp_path: Path):
    options = options_of(name)
    model = model_of(min(MODELS.glob("*.gguf"), key=lambda path: path.stat().st_size))
    with load(name)(options, tmp_path / "as-provided") as runtime:
        runtime.start(model, SETTINGS)
        facts = runtime.facts()
    for fact in IDENTITY:
        assert facts[fact] and facts[fact] == options["provided"][fact]
        provided = options["provided"] | {fact: "another"}
        with load(name)({**options, "provided": provided}, tmp_path / fact) as runtime:
            runtime.start(model, SETTINGS)
            words = rf"{fact} .*expected another.*resources/runtimes/{name}"
            with pytest.raises(UserError, match=words):
                runtime.facts()
