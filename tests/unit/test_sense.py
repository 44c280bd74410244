"""What cannot end well is refused before anything runs: every rule, and what it lets through."""

from pathlib import Path

import msgspec
import pytest

from joules.core import paths
from joules.core.catalogue import catalogue_from
from joules.core.errors import UserError
from joules.core.places import REPOSITORY
from joules.core.reading import load_study, read_catalogue
from joules.core.sense import BIBLIOGRAPHY, check_sense
from joules.core.study import Study, study_from

OWN = {"study": "mine", "models": ["parrot-1m"], "runtimes": ["llama_cpp"]}


def own(**changes: object) -> Study:
    return study_from({**OWN, **changes}, {"llama_cpp": {"version": "1"}}, "own.yaml")


@pytest.mark.parametrize("name", ["config", "study", "runtimes"])
def test_the_shipped_studies_can_end(name):
    loaded = load_study(REPOSITORY / f"config/{name}.yaml")
    assert check_sense(loaded.study, loaded.catalogue, loaded.root)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kinds": ["fixed"]}, r"`kinds` is \[fixed\], without `task`.*Add `task`"),
        ({"kinds": ["control"]}, r"`kinds` is \[control\], without `task`"),
        ({"kinds": ["quality"]}, r"`kinds` is \[quality\], without `task`"),
        ({"kinds": ["control", "quality", "fixed"]}, r"without `task`"),
        ({"settings": {"context_length": 768}}, r"parrot-1m may have 768 tokens.*is 768.*Raise"),
        ({"settings": {"context_length": 64, "max_tokens": 65}}, r"may have 65 tokens"),
        ({"settings": {"batch_size": 64}}, r"`settings.micro_batch_size` is 512, more than.*64"),
        ({"settings": {"kv_cache": "q8_0"}}, r"`settings.kv_cache` is q8_0, and.*Set `settings"),
        ({"settings": {"seed": 2**32 - 1}}, r"`settings.seed` is 4294967295.*at most 2147483647"),
        ({"carbon": {"source": "ember2042"}}, r"'ember2042'.*Did you mean ember2024"),
        ({"carbon": {"source": "https://ember-climate.org"}}, r"`carbon.source` is 'https"),
        ({"carbon": {"source": ""}}, r"`carbon.source` is ''"),
        ({"require": ["flash_atention"]}, r"'flash_atention', which is no setting.*flash_attent"),
        ({"limits": {"cpu_busy": 0}}, r"`limits.cpu_busy` is 0, which no machine keeps"),
        ({"limits": {"foreign_cpu": 0}}, r"`limits.foreign_cpu` is 0"),
        ({"limits": {"sampling_gap_s": 1}}, r"`limits.sampling_gap_s` is 1, and the meters"),
    ],
)
def test_a_study_that_cannot_end_well_is_refused(changes, words):
    with pytest.raises(UserError, match=f"(?s){words}"):
        check_sense(own(**changes), read_catalogue(), REPOSITORY)


@pytest.mark.parametrize(
    "changes",
    [
        {"kinds": ["task"]},
        {"kinds": ["quality", "task", "fixed"]},
        {"blocks": 1, "problems": 1},
        {"settings": {"context_length": 769}},
        {"settings": {"batch_size": 64, "micro_batch_size": 64, "seed": 2**31 - 1}},
        {"settings": {"kv_cache": "q4_0", "flash_attention": True}},
        {"settings": {"kv_cache": "f16", "flash_attention": True}},
        {"require": ["ignore_eos", "prompt_cache", "flash_attention"]},
        {"energy": "gpu", "settings": {"gpu_layers": 99}},
        {"limits": {"cpu_busy": 0, "foreign_cpu": 0, "sampling_gap_s": 0.5, "flag_only": True}},
        {"limits": {"steal": 0, "token_mismatch": 0, "sampling_gap_s": 1.5}},
    ],
)
def test_what_is_unusual_and_can_end_is_let_through(changes):
    assert check_sense(own(**changes), read_catalogue(), REPOSITORY)


ARMS = {
    "as-installed": {"runtime": "llama_cpp", "settings": "as_installed"},
    "small": {"runtime": "llama_cpp", "settings": {"kv_cache": "q8_0", "flash_attention": True}},
}


def test_settings_of_an_arm_that_clash_are_refused_where_they_stand():
    assert check_sense(own(runtimes=[], arms=ARMS), read_catalogue(), REPOSITORY)
    clashing = {"runtime": "llama_cpp", "settings": {"kv_cache": "q8_0"}}
    with pytest.raises(UserError, match=r"`arms.b.settings.kv_cache` is q8_0.*Set `arms.b") as said:
        check_sense(own(runtimes=[], arms={**ARMS, "b": clashing}), read_catalogue(), REPOSITORY)
    assert len(str(said.value).splitlines()) == 1


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(UserError) as caught:
        check_sense(
            own(kinds=["fixed"], require=["x"], carbon={"source": "x"}),
            read_catalogue(),
            REPOSITORY,
        )
    assert len(str(caught.value).splitlines()) == 3


ENTRY = {"url": "https://a/b.gguf", "license": "MIT", "prompt_style": "base"}


def place(tmp_path: Path) -> Path:
    (tmp_path / "paper").mkdir()
    (tmp_path / BIBLIOGRAPHY).write_text("@misc{ember2024,\n}\n")
    return tmp_path


def check_model(root: Path, entry: dict[str, object], **changes: object) -> str:
    catalogue = catalogue_from({"models": {"one": entry}})
    return check_sense(own(models=["one"], **changes), catalogue, root)


def test_a_model_of_unknown_sha256_is_refused_unless_it_is_pinned_trusted_or_there(tmp_path):
    root = place(tmp_path)
    with pytest.raises(UserError, match=r"one: its sha256 is not known.*trust_on_first_use: true"):
        check_model(root, ENTRY)
    assert check_model(root, ENTRY | {"sha256": "0" * 64})
    assert check_model(root, ENTRY, trust_on_first_use=True)
    lock_file = root / paths.MODELS_LOCK
    lock_file.parent.mkdir(parents=True)
    lock_file.write_bytes(msgspec.json.encode({"one": {}}))
    assert check_model(root, ENTRY)
    lock_file.unlink()
    (root / paths.model_file("one")).parent.mkdir(parents=True)
    (root / paths.model_file("one")).write_text("")
    assert check_model(root, ENTRY)


def test_a_model_whose_file_is_not_there_is_refused(tmp_path):
    entry = {"path": "a.gguf", "sha256": "0" * 64, "license": "MIT", "prompt_style": "base"}
    with pytest.raises(UserError, match=r"one: there is no file a\.gguf"):
        check_model(place(tmp_path), entry)
    (tmp_path / "a.gguf").write_text("")
    assert check_model(tmp_path, entry)


def test_a_key_that_the_article_could_not_cite_is_refused(tmp_path):
    root = place(tmp_path)
    (root / BIBLIOGRAPHY).write_text("@misc{grid-2024,\n}\n@misc{grid2024,\n}\n")
    entry = ENTRY | {"sha256": "0" * 64}
    assert check_model(root, entry, carbon={"source": "grid2024"})
    with pytest.raises(UserError, match=r"'grid-2024'.*small letters and digits"):
        check_model(root, entry, carbon={"source": "grid-2024"})
