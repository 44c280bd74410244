from pathlib import Path

import pandas as pd

from joules.style import looks, tier_note

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts" / "joules"


def test_the_note_says_what_is_true_and_no_more():
    assert tier_note("measured", False) == tier_note("sampled", False) == ""
    assert tier_note("estimated", False) == "energy modelled, not measured"
    assert tier_note("measured", True) == "demonstration study"


def test_more_runtimes_than_colours_still_differ():
    names = [f"runtime_{index:02}" for index in range(24)]
    seen = looks(pd.DataFrame({"runtime": names, "runtime_label": names, "kind": "task"}))
    assert len({(look.color, look.marker) for look in seen.values()}) == 24


def test_no_runtime_or_model_is_named_in_the_code():
    code = "".join((SCRIPTS / f"{n}.py").read_text() for n in ("figures", "style"))
    runtimes = [path.stem for path in (SCRIPTS / "runtimes").glob("[a-z]*.py")]
    assert runtimes
    for runtime in runtimes:
        assert runtime not in code.lower()
