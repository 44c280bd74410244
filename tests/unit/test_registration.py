"""The registered plan: what it fixes, and what makes a study exploratory."""

import datetime
import hashlib

import msgspec
import pytest

from joules.analyse import conventions, verdicts
from joules.core.catalogue import archived_catalogue_of, catalogue_from
from joules.core.record import Position
from joules.core.registration import (
    WORDS,
    Plan,
    Registered,
    differing,
    hashes_of,
    registration_of,
    sha256_of_part,
)
from joules.core.stored import MarkOfRun
from joules.core.study import Study, archived_configuration, study_from
from joules.inputs.study_plan import study_plan
from joules.write.registered import registration_facts

NOON = datetime.datetime(2026, 11, 26, 13, tzinfo=datetime.timezone(datetime.timedelta(hours=1)))
MODEL = {"url": "https://a/b", "sha256": "0" * 64, "license": "MIT", "prompt_style": "chat"}
MODELS = {"m": MODEL, "n": MODEL, "unused": MODEL}
OPTIONS = {name: {"version": "1"} for name in ("a", "b", "c", "d")}
CONFIG: dict[str, object] = {
    "study": "mine",
    "models": ["m", "n"],
    "runtimes": ["a", "b", "c"],
    "settings": {"gpu_layers": 1},
}


CODE = {"analyse/a.py": "a" * 64, "analyse/b.py": "b" * 64}


def with_code(plan: Plan) -> Plan:
    """Return the plan with code of an analysis that nobody edits while this runs."""
    return msgspec.structs.replace(plan, analysis=CODE)


def planned(pinned: dict[str, object] | None = None, **changes: object) -> Plan:
    """Return the plan of a small study with some keys changed."""
    study = study_from({**CONFIG, **changes}, OPTIONS)
    catalogue = catalogue_from(pinned or {"models": MODELS}, study.catalogue)
    return with_code(study_plan(study, catalogue))


PLAN = planned()
MARK = registration_of("mine", PLAN, NOON).registered


def run(mark: Registered | None, position: int = 1) -> MarkOfRun:
    return MarkOfRun(Position(position, position), mark)


# Every key of a study, changed to another value, and what the article then names.
KEYS: dict[str, tuple[object, list[str]]] = {
    "study": ("another", []),
    "demonstration": (True, []),
    "measurements": ({"campaign": "named"}, []),
    "carbon": ({"grams_per_kwh": 1.0}, []),
    "trust_on_first_use": (True, []),
    "models": (["m"], ["what is compared", "the seed or the order of runs", "the prompts"]),
    "runtimes": (["a", "b", "c", "d"], ["what is compared", "the seed or the order of runs"]),
    "arms": (
        {"a": {"runtime": "a"}, "b": {"runtime": "b", "settings": "as_installed"}},
        ["what is compared", "the seed or the order of runs", "the settings"],
    ),
    "catalogue": ({"m": {"path": "/a/b.gguf"}}, []),
    "runtime_options": ({"b": {"version": "2"}}, ["what is compared"]),
    "contrasts": ([["a", "b"]], ["what is compared"]),
    "kinds": (["task", "control", "quality"], ["the kinds of runs"]),
    "blocks": (12, ["the number of blocks"]),
    "seed": (2, ["the seed or the order of runs"]),
    "problems": (20, ["the problems"]),
    "energy": ("gpu", ["the headline"]),
    "meters": ({"wall": {"module": "shelly", "host": "192.0.2.7"}}, ["the headline"]),
    "settings": ({"gpu_layers": 2}, ["the settings"]),
    "require": (["threads"], ["the settings"]),
    "windows": ({"idle_s": 20}, ["the windows"]),
    "settle": ({"seconds": 20}, ["the windows"]),
    "limits": ({"flag_only": True}, ["the limits"]),
    "require_tier": ("estimated", ["the limits"]),
    "mixed_instruments": ("state", ["the limits"]),
    "mixed_machines": ("state", ["the limits"]),
    "mixed_runtimes": ("state", ["the limits"]),
}


def test_every_key_of_a_study_is_looked_at():
    assert set(KEYS) == set(Study.__struct_fields__)


@pytest.mark.parametrize("key", KEYS)
def test_a_changed_key_makes_the_study_exploratory_by_the_name_of_its_part(key):
    value, words = KEYS[key]
    instead = {"runtimes": []} if key == "arms" else {}
    found = registration_facts([run(MARK)], planned(**{key: value}, **instead))
    assert found.differs == words
    assert found.confirmatory is (words == [])


PARTS = {
    "margin": (0.1, "the margin"),
    "tests": (msgspec.structs.replace(PLAN.tests, alpha=0.01), "the tests"),
    "headline": (msgspec.structs.replace(PLAN.headline, metric="power_w"), "the headline"),
    "analysis": ({**CODE, "analyse/b.py": "f" * 64}, "the code of the analysis"),
    "prompts": (msgspec.structs.replace(PLAN.prompts, settle_sha256="f" * 64), "the prompts"),
}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_no_key_decides_shows_as_well(part):
    value, word = PARTS[part]
    found = registration_facts([run(MARK)], msgspec.structs.replace(PLAN, **{part: value}))
    assert (found.confirmatory, found.differs) == (False, [word])
    assert found.standing == (
        f"exploratory, because the analysis differs from the registered plan in {word}"
    )


def test_each_part_is_changed_by_a_test_and_has_words():
    assert tuple(WORDS) == Plan.__struct_fields__
    changed = {word for _, words in KEYS.values() for word in words}
    assert changed | {word for _, word in PARTS.values()} == set(WORDS.values())


@pytest.mark.parametrize(
    "catalogue",
    [
        {"models": {**MODELS, "n": {**MODEL, "sha256": "1" * 64}}},
        {"models": {**MODELS, "n": {**MODEL, "prompt_style": "base"}}},
        {"models": {**MODELS, "n": {**MODEL, "chat_template": "x", "chat_template_source": "y"}}},
        {
            "models": MODELS,
            "prompt_styles": {"chat": {"cut": "closing_fence", "max_tokens": 5}},
        },
    ],
)
def test_another_model_file_style_template_or_longest_answer_is_another_prompt(catalogue):
    assert differing(MARK, planned(catalogue)) == ["the prompts"]


def test_what_names_or_describes_a_model_and_other_models_change_nothing():
    described = {**MODEL, "license": "other", "url": "https://c/d"}
    assert planned({"models": {"m": described, "n": MODEL}}) == PLAN


def test_all_pairs_named_in_any_order_are_the_plan_that_names_none():
    pairs = [["c", "b"], ["b", "a"], ["a", "c"]]
    assert differing(MARK, planned(contrasts=pairs)) == []


def test_the_same_runtimes_in_another_order_are_another_order_and_the_same_comparison():
    assert differing(MARK, planned(runtimes=["c", "a", "b"])) == ["the seed or the order of runs"]


def test_a_study_that_is_as_registered_is_confirmatory():
    found = registration_facts([run(MARK, 2), run(MARK)], planned())
    assert (found.confirmatory, found.differs, found.standing) == (True, [], "confirmatory")
    assert (found.sha256, found.registered_on) == (MARK.sha256, "2026-11-26T12:00:00+00:00")


def test_a_first_run_without_a_plan_makes_a_study_exploratory_whatever_came_later():
    found = registration_facts([run(MARK, 2), run(None)], PLAN)
    assert (found.confirmatory, found.sha256, found.registered_on) == (False, None, None)
    words = "exploratory, because no plan was registered before the first run"
    assert found.standing == words


@pytest.mark.parametrize("later", [None, registration_of("mine", planned(blocks=12), NOON)])
def test_a_later_run_with_another_registration_or_none_shows(later):
    other = later and later.registered
    found = registration_facts([run(other, 3), run(other, 2), run(MARK)], PLAN)
    assert (found.sha256, found.differs) == (MARK.sha256, ["the registration of 2 runs"])
    assert not found.confirmatory


def test_several_parts_are_all_named():
    found = registration_facts([run(MARK)], planned(blocks=12, problems=20, limits={"steal": 0.1}))
    assert found.standing == (
        "exploratory, because the analysis differs from the registered plan in the number of "
        "blocks, the problems and the limits"
    )


def test_a_part_that_only_the_registration_knows_is_named_as_it_is():
    parts = {**MARK.parts, "weather": "0" * 64}
    assert differing(msgspec.structs.replace(MARK, parts=parts), PLAN) == ["weather"]


def test_the_archives_configuration_and_catalogue_give_the_same_plan():
    study = study_from(CONFIG, OPTIONS)
    kept = archived_configuration(study)
    catalogue = archived_catalogue_of(catalogue_from({"models": MODELS}), study.models)
    assert set(catalogue["models"]) == {"m", "n"}
    again = study_plan(study_from(kept, {}), catalogue_from(catalogue))
    assert with_code(again) == PLAN
    more = study_plan(study_from({**kept, "blocks": 11}, {}), catalogue_from(catalogue))
    assert differing(MARK, with_code(more)) == ["the number of blocks"]


def test_hashes_are_those_of_plain_json_that_anyone_can_write():
    by_hand = hashlib.sha256('{"a":[1.5,null],"b":"é"}'.encode()).hexdigest()
    assert sha256_of_part({"b": "é", "a": (1.5, None)}) == by_hand
    assert hashes_of(PLAN)["blocks"] == hashlib.sha256(b"10").hexdigest()
    parts = ",".join(f'"{name}":"{MARK.parts[name]}"' for name in sorted(MARK.parts))
    assert MARK.sha256 == hashlib.sha256(f"{{{parts}}}".encode()).hexdigest()


def test_the_plan_names_what_the_analysis_computes_with():
    assert (PLAN.margin, PLAN.tests.alpha) == (conventions.MARGIN, conventions.ALPHA)
    assert PLAN.headline.metric == conventions.METRIC
    assert tuple(PLAN.tests.verdicts) == verdicts.VERDICTS


def test_a_runtime_under_its_own_name_is_the_same_plan_as_an_arm_and_in_the_short_form():
    plain = {name: {"runtime": name} for name in CONFIG["runtimes"]}
    assert differing(MARK, planned(runtimes=[], arms=plain)) == []
    changed = plain | {"b": {"runtime": "b", "settings": {"flash_attention": True}}}
    assert differing(MARK, planned(runtimes=[], arms=changed)) == ["the settings"]
