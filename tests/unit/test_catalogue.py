"""The catalogue with entries of a study: what they change, and what an archive keeps of them."""

import msgspec
import pytest

from joules.core.catalogue import (
    Source,
    archived_catalogue_of,
    catalogue_from,
    identity_of,
    lookup,
    source_of,
)
from joules.core.errors import UserError
from joules.core.reading import read_catalogue
from joules.core.study import archived_configuration, study_from

NAME = "qwen2.5-coder-0.5b-instruct"
WHOLE = {"sha256": "0" * 64, "license": "MIT", "prompt_style": "chat"}
PARROT = {"parrot-1m": {"path": "/home/me/p.gguf"}}
OWN = {NAME: {"path": "/home/me/q.gguf"}, "mine": {"path": "/home/me/m.gguf", **WHOLE}}


def test_a_study_lays_entries_of_its_own_over_the_catalogue():
    pinned, catalogue = read_catalogue(), read_catalogue(own=OWN)
    entry = lookup(catalogue, NAME)
    assert msgspec.structs.replace(entry, path=None) == lookup(pinned, NAME)
    source = source_of(entry)
    assert (source.path, source.url) == ("/home/me/q.gguf", None)
    assert source.sha256 == lookup(pinned, NAME).sha256
    assert lookup(catalogue, "mine").license == "MIT"
    others = catalogue.models.keys() - OWN.keys()
    assert others == pinned.models.keys() - OWN.keys()
    assert all(catalogue.models[name] == pinned.models[name] for name in others)


def test_another_place_of_a_file_is_no_other_file_and_another_sum_is():
    pinned = read_catalogue()
    known = source_of(lookup(pinned, NAME))
    for own in ({"path": "/data/q.gguf"}, {"url": "https://a/b"}):
        assert identity_of(NAME, read_catalogue(own={NAME: own}), pinned) == known
    other = read_catalogue(own={NAME: {"path": "/data/q.gguf", "sha256": "0" * 64}})
    assert identity_of(NAME, other, pinned) == Source(sha256="0" * 64)
    assert identity_of("mine", read_catalogue(own=OWN), pinned) == Source(sha256="0" * 64)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"parrot-1m": {"pfad": "x"}}, "`parrot-1m` of config/models.yaml, with the study's.*pfad"),
        ({"new": {"path": "x.gguf"}}, "entry `new` of config/models.yaml, with .*`license`"),
        ({"parrot-1m": {"sha256": "0"}}, "with the study's `catalogue`: `sha256` is '0'"),
        ({"parrot-1m": {"bytes": None}}, "with the study's `catalogue` has nothing at `bytes`"),
    ],
)
def test_a_wrong_entry_of_a_study_is_refused_and_named(own, message):
    with pytest.raises(UserError, match=message):
        read_catalogue(own=own)


def test_an_archive_names_no_place_of_a_machine():
    catalogue = read_catalogue(own={**OWN, **PARROT})
    kept = archived_catalogue_of(catalogue, [*OWN, "parrot-1m"], read_catalogue())
    assert "/home" not in str(kept)
    back = catalogue_from(kept).models
    assert back[NAME] == read_catalogue().models[NAME]
    assert (back["mine"].path, back["mine"].sha256) == ("m.gguf", "0" * 64)
    pinned = read_catalogue().models["parrot-1m"]
    assert back["parrot-1m"] == pinned and pinned.path
    plain = {"study": "s", "models": list(OWN), "runtimes": ["a"], "catalogue": OWN}
    study = study_from(plain, {"a": {"version": "1"}})
    assert study.catalogue == OWN
    assert "/home" not in str(archived_configuration(study))
