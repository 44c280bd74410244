"""The configuration as tools see it: merged and checked as Snakemake does it."""

import re
from pathlib import Path

import pytest
import yaml
from small_study import CHECKOUT, PROVIDED

from joules import study_config
from joules.errors import UserError
from joules.study_config import bytes_with_unknown, load_study, model_state, release_of


def laid(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    return path


def test_mappings_are_merged_and_lists_replaced(tmp_path):
    default = load_study()
    study = load_study(laid(tmp_path, "models: [parrot-3m]\nwindows: {idle_s: 7}\n"))
    assert study.config["models"] == ["parrot-3m"]
    assert study.config["windows"] == default.config["windows"] | {"idle_s": 7}
    assert study.config["runtimes"] == default.config["runtimes"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("blokcs: 3", r"own\.yaml.*'blokcs' was unexpected.*config/README\.md"),
        ("settings: {contxt_length: 1}", r"`settings`.*contxt_length"),
        ("blocks: 0", r"`blocks`: 0 is less than the minimum of 1"),
        ("models: [", r"cannot be read.*not valid JSON or YAML"),
        ("- a", r"cannot be read.*keys at top level"),
        ("measurements: {source: archive, campaign: x}", r"nothing is measured.*make review"),
    ],
)
def test_a_mistake_is_named_with_what_was_expected(tmp_path, text, message):
    with pytest.raises(UserError) as caught:
        load_study(laid(tmp_path, text))
    assert re.search(message, str(caught.value), re.DOTALL)


def test_a_missing_file_is_named():
    with pytest.raises(UserError, match="no-such.yaml cannot be read.*No such file"):
        load_study("no-such.yaml")


def test_another_number_of_blocks_leaves_the_rest_of_the_plan():
    study = load_study()
    assert len(study.runs(2)) == 2 * 6
    assert study.runs() == study.runs(study.config["blocks"])
    assert study.runs(7)[: len(study.runs())] == study.runs()


def test_the_limit_of_an_answer_is_the_study_s_or_that_of_the_prompt_style(tmp_path):
    for text, limits in (("{max_tokens: 48}", (48, 48)), ("{max_tokens: catalogue}", (768, 1024))):
        study = load_study(laid(tmp_path, f"settings: {text}"))
        models = ("parrot-1m", "qwen2.5-coder-7b-instruct")
        assert tuple(map(study.max_tokens, models)) == limits


def test_a_runtime_s_facts_are_looked_for_where_the_workflow_puts_them():
    study = load_study()
    found = [str(study.provided(name).relative_to(CHECKOUT)) for name in study.config["runtimes"]]
    assert sorted(found) == sorted(PROVIDED)


def test_what_is_still_to_be_fetched_of_a_model_is_what_is_not_there_yet(tmp_path):
    study = study_config.Study({}, {}, tmp_path)
    (tmp_path / "resources/models").mkdir(parents=True)
    entry = {"url": "https://example.org/x.gguf", "bytes": 1000}
    assert model_state(study, "x", entry).fetch_bytes == 1000
    (tmp_path / "resources/models/x.gguf.part").write_bytes(b"a" * 300)
    assert model_state(study, "x", entry).fetch_bytes == 700
    (tmp_path / "resources/models/x.gguf").write_bytes(b"a" * 1000)
    state = model_state(study, "x", entry)
    assert (state.there, state.fetch_bytes, state.file_bytes) == (True, 0, 1000)
    assert model_state(study, "y", {"url": "https://example.org/y.gguf"}).fetch_bytes is None
    (tmp_path / "z.gguf").write_bytes(b"a" * 50)
    at_hand = model_state(study, "z", {"path": "z.gguf"})
    assert (at_hand.there, at_hand.fetch_bytes, at_hand.file_bytes) == (False, 0, 50)


def test_a_size_that_is_not_known_counts_as_the_largest():
    assert bytes_with_unknown([3, None, 5, 0]) == 13
    assert bytes_with_unknown([None]) == 0


def test_a_release_is_that_of_this_platform_and_only_if_it_would_be_fetched(monkeypatch):
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    options = yaml.safe_load((CHECKOUT / "config/config.yaml").read_text())["runtime_options"]
    options = next(each for each in options.values() if "official" in each)
    assert release_of(options) is None
    release = release_of({**options, "from": "official"})
    assert release == options["official"]["linux-arm64"]
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert release_of({**options, "from": "official"}) is None
