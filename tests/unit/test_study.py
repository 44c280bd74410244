"""The configuration, once: defaults, mistakes, the tables of config/README.md, the catalogue."""

import itertools
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml
from demonstration_campaigns import COMMITTED, checkout_of

from joules.analyse.power import power_facts
from joules.core.catalogue import (
    ModelEntry,
    PromptStyles,
    catalogue_from,
    lookup,
    models_schema,
    prompting_of,
    source_of,
)
from joules.core.errors import UserError
from joules.core.keys import Key, keys_of, merged
from joules.core.places import PACKAGE, REPOSITORY
from joules.core.reading import archived_study, load_study, read_catalogue, study_of
from joules.core.run_parameters import (
    RunParameters,
    WarmUpParameters,
    check_names,
    max_tokens_of,
    run_parameters,
    warm_up_parameters,
)
from joules.core.study import (
    Study,
    archived_configuration,
    configuration_schema,
    study_from,
)

OWN = {"study": "mine", "models": ["parrot-1m"], "runtimes": ["llama_cpp"]}
OPTIONS = {"llama_cpp": {"version": "1"}, "ollama": {"version": "2", "from": "build"}}
MODEL = {"url": "https://a/b", "sha256": "0" * 64, "license": "MIT", "prompt_style": "chat"}
SHORT = {  # what the two studies that run anywhere in minutes differ in from the defaults
    "demonstration": True,
    "blocks": 5,
    "seed": 20261125,
    "settings": {"context_length": 2048, "max_tokens": 256},
    "require_tier": "estimated",
    "windows": {"preflight_s": 1, "idle_s": 1, "rest_s": 1},
    "settle": {"seconds": 2},
    "limits": {"attempts": 1, "flag_only": True, "wait_s": 0},
}


def plain(value: object) -> Any:
    """Return a value as YAML or JSON would give it back."""
    return msgspec.json.decode(msgspec.json.encode(value))


def own(**changes: object) -> Study:
    return study_from({**OWN, **changes}, OPTIONS, "own.yaml")


def laid(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    return path


def test_a_users_study_inherits_nothing_of_the_demonstration():
    study = own()
    assert study.demonstration is False
    assert (study.limits.attempts, study.limits.flag_only, study.limits.wait_s) == (3, False, 600)
    assert (study.windows.preflight_s, study.windows.idle_s, study.windows.rest_s) == (10, 30, 60)
    assert study.settle.seconds == 60
    assert (study.settings.context_length, study.settings.max_tokens) == (4096, "catalogue")
    assert (study.require_tier, study.blocks, study.problems) == ("measured", 10, "all")


def test_the_shipped_studies_differ_from_the_defaults_in_this_alone():
    default = plain(own())
    differences: dict[str, dict[str, Any]] = {
        "config": {**SHORT, "study": "demo", "models": ["parrot-1m", "parrot-3m"]},
        "study": {
            "study": "study",
            "models": [
                "qwen2.5-coder-7b-instruct",
                "deepseek-coder-6.7b-instruct",
                "codellama-7b-instruct",
                "mistral-7b-instruct-v0.3",
            ],
            "arms": {
                "ollama": {"runtime": "ollama"},
                "llama_server": {"runtime": "llama_server"},
                "llama_cpp": {"runtime": "llama_cpp"},
                "llama_cpp-stock": {"runtime": "llama_cpp", "options": {"library": "stock"}},
            },
            "contrasts": [
                ["ollama", "llama_cpp"],
                ["llama_server", "llama_cpp"],
                ["ollama", "llama_server"],
                ["llama_cpp", "llama_cpp-stock"],
            ],
            "runtimes": [],
            "blocks": 12,
            "seed": 20261125,
            "problems": 20,
        },
        "runtimes": {
            **SHORT,
            "study": "runtimes",
            "runtimes": [
                *("ollama", "llama_cpp", "llama_server", "xllamacpp"),
                *("openai_server", "mistral_rs", "openvino", "gpt4all"),
            ],
        },
    }
    for name, changes in differences.items():
        study = load_study(REPOSITORY / f"config/{name}.yaml").study
        asked = {"runtimes": ["ollama", "llama_cpp"], **changes}
        expected = dict(merged(default, asked))  # type: ignore[call-overload]
        assert plain(study) | {"runtime_options": {}} == expected | {"runtime_options": {}}


def test_options_of_runtimes_are_the_pinned_ones_and_the_studys_own_over_them():
    pinned = yaml.safe_load((REPOSITORY / "config/runtime_options.yaml").read_text())
    assert load_study().study.runtime_options == pinned
    assert load_study(REPOSITORY / "config/study.yaml").study.runtime_options == pinned
    server = load_study(REPOSITORY / "config/runtimes.yaml").study.runtime_options["openai_server"]
    assert server["url"] == "" and server["command"][-1] == "--offline"


def test_mappings_are_merged_and_lists_replaced():
    below = {"a": {"x": 1, "y": [1, 2]}, "b": 1}
    assert merged(below, {"a": {"y": [3]}, "c": {}}) == {"a": {"x": 1, "y": [3]}, "b": 1, "c": {}}
    assert merged(below, None) is None


def test_a_value_given_and_the_same_value_left_out_make_the_same_study():
    given = own(windows={"idle_s": 30}, limits={"cross_check": 0.01, "clock_jump_s": 1})
    assert plain(given) == plain(own()) and repr(given) == repr(own())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blokcs": 3}, r"own\.yaml has the key `blokcs`.*Did you mean blocks\?.*README"),
        ({"max_tokens": 3}, r"`max_tokens`, which is not known\. Did you mean settings\.max_tok"),
        ({"settings": {"contxt_length": 1}}, r"`settings\.contxt_length`.*mean context_length"),
        ({"blocks": 0}, r"`blocks` is 0\. Expected a whole number, at least 1"),
        ({"blocks": "ten"}, r"`blocks` is 'ten'\. Expected a whole number"),
        ({"blocks": True}, r"`blocks` is True"),
        ({"problems": 165}, r"`problems` is 165\. Expected `all` or .* at least 1 and at most 164"),
        ({"limits": {"cpu_busy": 2}}, r"`limits\.cpu_busy` is 2\. Expected .* at most 1"),
        ({"limits": {"wait_s": float("inf")}}, r"`limits\.wait_s` is inf.*finite"),
        ({"limits": None}, r"`limits` is None\. Expected a mapping"),
        ({"windows": {"idle_s": 0}}, r"`windows\.idle_s` is 0\. Expected a number, above 0"),
        ({"require_tier": "guessed"}, r"'guessed'\. Expected one of .*`estimated`"),
        ({"kinds": ["task", "speed"]}, r"`kinds\[1\]` is 'speed'\. Expected one of"),
        ({"kinds": []}, r"`kinds` is \[\]\. Expected a list, at least 1"),
        ({"models": ["m", "m"]}, r"`models` names m twice"),
        ({"models": [".."]}, r"`models\[0\]` is '\.\.'"),
        ({"measurements": {"campaign": ".."}}, r"`measurements\.campaign` is '\.\.'"),
        ({"runtime_options": {"ollama": {"version": 0.24}}}, r"ollama\.version` is 0\.24.*quotes"),
        ({"runtime_options": {"new": {}}}, r"runtime_options\.new\.version` is None"),
        ({"runtime_options": {"ollama": None}}, r"`runtime_options\.ollama` is None.*mapping"),
        ({"runtime_options": None}, r"`runtime_options` is None"),
        ({"contrasts": [["ollama"]]}, r"`contrasts\[0\]` is \['ollama'\]\. Expected a list of 2:"),
        ({"contrasts": "all"}, r"`contrasts` is 'all'\. Expected a list"),
        ({3: 4}, r"has the key 3, which is not allowed"),
        ({"runtime_options": {"ollama": {3: 4}}}, r"the key 3 in `runtime_options\.ollama`"),
    ],
)
def test_a_mistake_is_named_with_what_was_seen_and_expected(changes, message):
    with pytest.raises(UserError) as caught:
        study_from({**OWN, **changes}, OPTIONS, "own.yaml")
    assert re.search(message, str(caught.value), re.DOTALL), caught.value


THREE = ["ollama", "llama_cpp", "openvino"]


@pytest.mark.parametrize(
    ("contrasts", "message"),
    [
        (
            [["ollama", "lama_cpp"]],
            r"has \[ollama, lama_cpp\], and lama_cpp is not among `runtimes`",
        ),
        ([["ollama", "ollama"]], r"has \[ollama, ollama\]: an arm against itself"),
        ([["ollama", "openvino"], ["openvino", "ollama"]], r"has \[openvino, ollama\] twice"),
        ([["ollama", "openvino"], ["ollama", "openvino"]], r"has \[ollama, openvino\] twice"),
    ],
)
def test_a_contrast_that_is_no_pair_of_the_studys_runtimes_is_refused(contrasts, message):
    with pytest.raises(UserError, match=rf"own\.yaml: `contrasts` {message}"):
        own(runtimes=THREE, contrasts=contrasts)


def test_contrasts_are_optional_and_kept_as_they_were_named():
    assert own(runtimes=THREE).contrasts == ()
    named = [["openvino", "ollama"], ["ollama", "llama_cpp"]]
    study = own(runtimes=THREE, contrasts=named)
    assert study.contrasts == (("openvino", "ollama"), ("ollama", "llama_cpp"))
    assert study_from(archived_configuration(study), OPTIONS).contrasts == study.contrasts
    schema = configuration_schema()
    jsonschema.validate({**OWN, "contrasts": named}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**OWN, "contrasts": [["ollama"]]}, schema)


def examples(file: str) -> list[Mapping[str, object]]:
    """Return the configurations that a document shows in full: with all three keys."""
    blocks = re.findall(r"(?:^    .*\n)+", (REPOSITORY / file).read_text(), re.MULTILINE)
    shown = [yaml.safe_load(block) for block in blocks if "study: " in block]
    return [each for each in shown if isinstance(each, Mapping) and OWN.keys() <= each.keys()]


@pytest.mark.parametrize("start", ["own", "study.yaml", "config/README.md", "docs/measuring.md"])
def test_a_study_of_ones_own_is_strict_whatever_it_starts_from(start):
    """A run that broke a rule is repeated, and where no attempt kept all rules nothing goes on."""
    starts: Mapping[str, Mapping[str, object]] = {
        "own": OWN,
        "study.yaml": yaml.safe_load((REPOSITORY / "config/study.yaml").read_text()),
    }
    (config,) = [starts[start]] if start in starts else examples(start)
    study = study_from({**config, "study": "mine"}, OPTIONS)
    assert (study.limits.flag_only, study.limits.attempts) == (False, 3)
    assert (study.require_tier, study.demonstration) == ("measured", False)


def test_the_articles_study_says_the_power_that_its_blocks_have():
    study = load_study(REPOSITORY / "config/study.yaml").study
    lines = (REPOSITORY / "config/study.yaml").read_text().splitlines()
    said = " ".join(line.lstrip("# ") for line in lines)
    pairs = len(study.models) * len(study.contrasts)
    assert "Twelve blocks" in said and study.blocks == 12
    assert "over the sixteen pairs, four contrasts on four models" in said and pairs == 16
    numbers = re.search(
        r"power (0\.\d\d) where the log ratio.* power (0\.\d\d) where each.*"
        r"Ten blocks would have (0\.\d\d) and (0\.\d\d)",
        said,
    )
    assert numbers
    cases = itertools.product((study.blocks, 10), (0.03, math.sqrt(2) * 0.03))
    for told, (blocks, spread) in zip(numbers.groups(), cases, strict=True):
        power = power_facts(spread, blocks, pairs)["power_for_margin"]
        assert float(told) == pytest.approx(power, abs=0.02)
    assert f"a CV of {100 * 0.03 / math.sqrt(2):.1f} %)" in said


def test_only_what_says_that_it_is_a_demonstration_is_lenient():
    files = [
        path
        for path in sorted((REPOSITORY / "config").glob("*.yaml"))
        if "study" in yaml.safe_load(path.read_text())
    ]
    studies = [load_study(path).study for path in files]
    assert {study.demonstration for study in studies} == {True, False}
    assert all(study.limits.flag_only <= study.demonstration for study in studies)


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a//b", ".", "..", "a/", "a/../b", "a/.", "", "a b", "a\n", "ä"]
)
def test_a_name_that_leaves_the_folder_of_results_is_refused(name):
    with pytest.raises(UserError, match="`study` is .*Expected names of letters"):
        own(study=name)


@pytest.mark.parametrize("name", ["demo", "archive/vm-2026-11-25", ".hidden", "a..b", "1/2/3"])
def test_a_name_of_parts_within_the_folder_of_results_is_taken(name):
    assert own(study=name).study == name


@pytest.mark.parametrize("missing", ["study", "models", "runtimes"])
def test_a_configuration_without_a_key_that_has_no_default_is_refused(tmp_path, missing):
    text = yaml.safe_dump({key: value for key, value in OWN.items() if key != missing})
    with pytest.raises(UserError, match=rf"no `{missing}`.*stands on the defaults alone and needs"):
        load_study(laid(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: [", r"own\.yaml cannot be read.*not YAML"),
        ("- a", r"cannot be read.*keys at top level"),
        ("", r"cannot be read.*keys at top level"),
        ("measurements: {source: archive, campaign: x}", r"nothing is measured.*make review"),
    ],
)
def test_a_file_that_is_no_configuration_to_measure_with_is_refused(tmp_path, text, message):
    with pytest.raises(UserError) as caught:
        load_study(laid(tmp_path, text))
    assert re.search(message, str(caught.value), re.DOTALL)


def test_a_missing_file_is_named():
    with pytest.raises(UserError, match=r"no-such\.yaml cannot be read.*No such file"):
        load_study("no-such.yaml")


def brought_by(campaign: Path) -> tuple[Study, dict[str, Any]]:
    """Return the study that an archived campaign brings, and the configuration that it holds."""
    name = campaign.name
    asked = {"measurements": {"source": "archive", "campaign": name}, "blocks": 99}
    study = study_of(asked, checkout_of(campaign))
    assert (study.study, study.campaign) == (f"archive/{name}", name)
    assert study.archived and study.blocks == 5
    return study, yaml.safe_load((campaign / "config.yaml").read_text())


def test_an_archived_campaign_brings_its_own_configuration():
    study, kept = brought_by(COMMITTED)
    assert plain(study) | {"study": "demo", "measurements": kept["measurements"]} == kept | {
        "catalogue": {}
    }


def test_an_older_campaign_brings_its_own_without_the_keys_that_are_gone(older):
    study, kept = brought_by(older)
    assert kept["settle"].pop("cap_s") == 4 and kept["limits"].pop("load_during_tasks_s") == 0.1
    later = {"energy": "processor", "mixed_machines": "refuse", "mixed_runtimes": "refuse"}
    later |= {
        "contrasts": [],
        "arms": {},
        "meters": {},
        "catalogue": {},
        "settings": kept["settings"] | {"kv_cache": "f16"},
    }
    kept["limits"] |= {"gap_time": 0.05}
    assert plain(study) | {"study": "demo", "measurements": kept["measurements"]} == kept | later


@pytest.mark.parametrize(
    ("part", "key", "instead"),
    [
        ("settle", "cap_s", "Settling takes `settle.seconds` on every runtime"),
        ("limits", "load_during_tasks_s", "known by another process that holds them"),
    ],
)
def test_a_key_of_older_configurations_is_refused_with_what_holds_instead(part, key, instead):
    with pytest.raises(UserError, match=rf"own\.yaml has `{part}\.{key}`.*{instead}.*Take it out"):
        own(**{part: {key: 1}})


@pytest.mark.parametrize("campaign", ["no-such", "", "..", "."])
def test_an_archived_campaign_that_is_not_there_is_refused(campaign):
    with pytest.raises(UserError, match=rf"does not exist.*{COMMITTED.name}.*Correct the name"):
        archived_study(campaign)


def test_an_archived_configuration_reads_as_the_same_study_without_its_campaign():
    study = own(measurements={"campaign": "machine-2026"})
    again = study_from(yaml.safe_load(yaml.safe_dump(dict(archived_configuration(study)))), {})
    assert again == own()


def test_the_limit_of_an_answer_is_the_studys_or_that_of_the_prompt_style():
    catalogue = read_catalogue()
    models = ("parrot-1m", "qwen2.5-coder-7b-instruct")
    for asked, limits in ((48, (48, 48)), ("catalogue", (768, 1024))):
        study = own(settings={"max_tokens": asked})
        assert tuple(max_tokens_of(study, catalogue, model) for model in models) == limits


def test_parameters_of_a_run_survive_as_plain_data():
    parameters = run_parameters(own(), read_catalogue(), "parrot-1m", "llama_cpp")
    data = msgspec.to_builtins(parameters)
    assert msgspec.convert(data, RunParameters) == parameters
    assert data["options"] == {"version": "1"}
    assert data["entry"]["cut"] == "column_0"
    assert not {"blocks", "study", "seed"} & set(data)
    warming = warm_up_parameters(own(), "llama_cpp")
    assert msgspec.convert(msgspec.to_builtins(warming), WarmUpParameters) == warming


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": ["parrot-1n"]}, r"Unknown model 'parrot-1n'.*parrot-1m.*config/models\.yaml"),
        ({"runtimes": ["olama"]}, r"Unknown runtime 'olama'.*ollama"),
        ({"runtimes": ["openvino"]}, r"no entry for 'openvino'"),
    ],
)
def test_a_model_or_runtime_that_is_not_known_is_refused_by_name(changes, message):
    with pytest.raises(UserError, match=message):
        check_names(own(**changes), read_catalogue(), ["llama_cpp", "ollama", "openvino"])


def test_the_schemas_allow_what_is_shipped_and_describe_every_key():
    for schema, files in (
        (configuration_schema(), ("config", "study", "runtimes", "defaults", "settings")),
        (models_schema(), ("models",)),
    ):
        jsonschema.Draft202012Validator.check_schema(schema)
        validator = jsonschema.Draft202012Validator(schema)
        for file in files:
            validator.validate(yaml.safe_load((REPOSITORY / f"config/{file}.yaml").read_text()))
    every = [*keys_of(Study), *keys_of(ModelEntry), *keys_of(PromptStyles)]
    assert not [key.name for key in every if not key.description]


@pytest.mark.parametrize("name", ["../x", "a/", "a\n", "b//c"])
def test_the_schema_refuses_the_names_that_the_type_refuses(name):
    validator = jsonschema.Draft202012Validator(configuration_schema())
    assert list(validator.iter_errors({**OWN, "study": name}))


def tabled() -> dict[str, tuple[str, str]]:
    """Return the rows of the tables of keys of config/README.md: name to default and meaning."""
    text = (REPOSITORY / "config/README.md").read_text(encoding="utf-8")
    tables = re.findall(r"\| key \| default \| meaning \|\n\|---\|---\|---\|\n((?:\|.*\n)+)", text)
    rows = [re.split(r" *\| *", line.strip("| ")) for each in tables for line in each.splitlines()]
    assert len(rows) == len({name for name, _, _ in rows})
    return {name.strip("`"): (default, meaning) for name, default, meaning in rows}


def as_tabled(key: Key) -> tuple[str, str]:
    default = {None: "required", "none": "none"}.get(key.default, f"`{key.default}`")
    return default, key.description


def test_the_tables_of_the_manual_are_what_the_types_say():
    """Where this fails, the row that the types ask for stands in the difference."""
    keys = keys_of(Study) + keys_of(ModelEntry) + keys_of(PromptStyles, "prompt_styles.")
    assert tabled() == {key.name: as_tabled(key) for key in keys}


def test_every_pinned_option_of_a_runtime_is_in_the_manual():
    text = (REPOSITORY / "config/README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `runtime_options\.(\w+\.\w+)` \|", text, re.M))
    pinned = yaml.safe_load((REPOSITORY / "config/runtime_options.yaml").read_text())
    there = {f"{name}.{option}" for name, options in pinned.items() for option in options}
    assert named == there | {"ollama.port"}  # which is left out, so that a free one is taken


def test_every_runtime_has_a_pinned_version():
    modules = {path.stem for path in (PACKAGE / "runtimes").glob("[a-z]*.py")}
    assert modules == set(load_study().study.runtime_options)


def catalogue_with(entry: Mapping[str, object]) -> ModelEntry:
    return lookup(catalogue_from({"models": {"one": entry}}), "one")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sha265": "0" * 64}, "sha265.*Did you mean sha256"),
        ({"sha256": "0" * 63}, "`sha256` is '0000.*Expected 64 small hexadecimal digits"),
        ({"sha256": "Z" * 64}, "`sha256` is 'ZZZ"),
        ({"bytes": "many"}, "`bytes` is 'many'"),
        ({"bytes": 0}, "`bytes` is 0"),
        ({"prompt_style": "instruct"}, "`prompt_style` is 'instruct'"),
        ({"newline": "add"}, "`newline` is 'add'"),
        ({"chat_template": "{{ messages }}"}, "one of `chat_template` and `chat_template_source`"),
        ({"published_pass_at_1": {"value": 0.9}}, "no `published_pass_at_1.source`"),
        ({"license": None}, "`license` is None"),
        ({"revision": None}, "nothing at `revision`"),
    ],
    ids=str,
)
def test_a_wrong_entry_of_the_catalogue_is_refused_and_named(change, message):
    assert catalogue_with(MODEL).bundled is False
    with pytest.raises(UserError, match=f"The entry `one` of config/models.yaml.*{message}"):
        catalogue_with(MODEL | change)
    validator = jsonschema.Draft202012Validator(models_schema())
    if change != {"revision": None}:
        assert list(validator.iter_errors({"models": {"one": MODEL | change}}))


@pytest.mark.parametrize("missing", ["url", "license", "prompt_style"])
def test_an_entry_without_a_required_key_is_refused(missing):
    with pytest.raises(UserError, match=missing):
        catalogue_with({key: value for key, value in MODEL.items() if key != missing})


def test_a_path_without_sha256_is_refused():
    with pytest.raises(UserError, match="`path` and no `sha256`"):
        catalogue_with({"path": "a.gguf", "license": "MIT", "prompt_style": "base"})


@pytest.mark.parametrize("name", ["Upper", "../x", "", 3])
def test_a_model_name_that_is_no_file_name_is_refused(name):
    with pytest.raises(UserError, match="models"):
        catalogue_from({"models": {name: MODEL}})


def test_a_catalogue_without_models_is_refused():
    for content in ({}, {"models": {}}, {"models": []}):
        with pytest.raises(UserError, match="models"):
            catalogue_from(content)


def test_an_unknown_model_is_told_its_near_matches():
    catalogue = read_catalogue()
    assert lookup(catalogue, "codegemma-2b").newline == "unchanged"
    with pytest.raises(UserError, match=r"Did you mean .*qwen2\.5-coder-7b-instruct"):
        lookup(catalogue, "qwen2.5-coder-7b-instuct")
    with pytest.raises(UserError, match="Known: codegemma-2b"):
        lookup(catalogue, "zzz")


def test_what_decides_bytes_and_prompts_of_a_model_is_told_apart():
    catalogue = read_catalogue()
    source = msgspec.to_builtins(source_of(lookup(catalogue, "mistral-7b-instruct-v0.3")))
    assert set(source) == {"url", "sha256"}
    deepseek = prompting_of(catalogue, "deepseek-coder-1.3b-instruct")
    assert (deepseek.prompt_style, deepseek.cut) == ("chat", "closing_fence")
    assert "Deepseek Coder" in str(deepseek.chat_template)
