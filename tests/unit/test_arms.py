"""What an arm states: its label, its settings, its options, and what a record holds of it."""

import pytest

from joules.core import paths
from joules.core.arms import Arm, ArmSettings, arms_of, facts_of
from joules.core.catalogue import catalogue_from
from joules.core.conditions import AskedSettings
from joules.core.errors import UserError
from joules.core.plan import plan_of
from joules.core.run_parameters import options_of, run_parameters, warm_up_parameters
from joules.core.study import archived_configuration, study_from

OPTIONS = {"a": {"version": "1", "from": "build"}, "b": {"version": "2"}}
CONFIG = {"study": "mine", "models": ["m"]}


def study(arms=None, **config):
    return study_from({**CONFIG, **({"arms": arms} if arms else {}), **config}, OPTIONS)


@pytest.mark.parametrize(
    ("arm", "label"),
    [
        ({}, "A"),
        ({"settings": "as_installed"}, "A, as installed"),
        ({"settings": {"flash_attention": True}}, "A, flash attention on"),
        (
            {"settings": {"flash_attention": False, "threads": 1}},
            "A, 1 thread, flash attention off",
        ),
        ({"settings": {"threads": 2, "kv_cache": "q8_0"}}, "A, 2 threads, KV cache q8_0"),
        ({"settings": {"threads": "auto", "gpu_layers": 3}}, "A, threads auto, GPU layers 3"),
        ({"options": {"version": "0.9"}}, "A 0.9"),
        (
            {"options": {"library": "stock", "binary": ""}, "settings": "as_installed"},
            "A, as installed, library stock",
        ),
    ],
)
def test_the_label_of_an_arm_is_its_runtimes_and_what_it_states(arm, label):
    own = study({"x": {"runtime": "a", **arm}, "y": {"runtime": "b"}}).compared["x"]
    assert facts_of("x", own, "A").label == label


def test_the_short_form_is_one_plain_arm_per_runtime():
    short, long = study(runtimes=["a", "b"]), study({"a": {"runtime": "a"}, "b": {"runtime": "b"}})
    assert short.compared == long.compared == arms_of(("a", "b"), {})
    assert all(arm.plain for arm in short.compared.values())
    facts = facts_of("a", short.compared["a"], "A")
    assert (facts.label, facts.settings, facts.options) == ("A", {}, {})


def test_an_arm_holds_its_own_settings_and_options_and_the_studys_for_the_rest():
    own = study(
        {
            "x": {"runtime": "a", "settings": {"threads": 2}, "options": {"from": "path"}},
            "y": {"runtime": "a", "settings": "as_installed"},
        },
        settings={"batch_size": 256, "micro_batch_size": 128},
    )
    asked = AskedSettings(batch_size=256, micro_batch_size=128)
    assert own.compared["x"].asked(own.settings) == AskedSettings(
        batch_size=256, micro_batch_size=128, threads=2
    )
    assert own.compared["y"].asked(own.settings) == asked
    assert options_of(own, "x") == {"version": "1", "from": "path"}
    assert options_of(own, "y") == OPTIONS["a"]
    assert warm_up_parameters(own, "x").settings.threads == 2
    assert warm_up_parameters(own, "y").arm.as_installed


def test_a_run_depends_on_its_own_arm_alone():
    arms = {"x": {"runtime": "a"}, "y": {"runtime": "a", "settings": {"threads": 2}}}
    before = study(arms)
    after = study(arms | {"z": {"runtime": "b", "settings": "as_installed"}})
    moved = study(arms | {"y": {"runtime": "a", "settings": {"threads": 3}}})
    model = {"url": "https://a/b", "sha256": "0" * 64, "license": "MIT", "prompt_style": "chat"}
    catalogue = catalogue_from({"models": {"m": model}})
    of = {
        name: [run_parameters(each, catalogue, "m", arm) for arm in ("x", "y")]
        for name, each in (("before", before), ("after", after), ("moved", moved))
    }
    assert of["before"] == of["after"]
    assert of["before"][0] == of["moved"][0] and of["before"][1] != of["moved"][1]


def test_an_archived_configuration_is_read_again_as_the_same_arms():
    own = study(
        {
            "x": {"runtime": "a", "settings": {"flash_attention": True}},
            "y": {"runtime": "b", "settings": "as_installed", "options": {"version": "3"}},
        },
        contrasts=[["x", "y"]],
    )
    kept = archived_configuration(own)
    assert kept["arms"]["x"] == {"runtime": "a", "settings": {"flash_attention": True}}
    assert study_from(kept, {}) == own


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        (
            {"x": {"runtime": "a", "settings": {"seed": 3}}},
            r"`arms\.x\.settings\.seed`\. It decides prompts or answers.*Expected one of threads, "
            r".*Say `settings\.seed`, which holds for all arms",
        ),
        (
            {"x": {"runtime": "a", "settings": {"context_length": 512}}},
            r"`arms\.x\.settings\.context_length`.*which holds for all arms",
        ),
        (
            {"x": {"runtime": "a", "settings": {"max_tokens": 9, "threads": 1}}},
            r"`arms\.x\.settings\.max_tokens`.*which holds for all arms",
        ),
        (
            {"x": {"runtime": "a", "settings": {"flash_atention": True}}},
            r"`arms\.x\.settings\.flash_atention`.*Did you mean flash_attention",
        ),
        (
            {"x": {"runtime": "a", "options": {"version": 0.24}}},
            r"`arms\.x\.options\.version` is 0\.24.*quotes",
        ),
        ({"x": {"runtime": "a", "settings": "as_instaled"}}, r"`arms\.x\.settings` is 'as_inst"),
        ({"x": {"runtime": "a"}, "y": {"runtime": "a", "setings": {}}}, r"`arms\.y\.setings`"),
        ({"x": {"runtime": "a", "settings": {"threads": 0}}}, r"`arms\.x\.settings\.threads` is 0"),
        ({"x": {}}, r"no `arms\.x\.runtime`"),
        ({"a b": {"runtime": "a"}}, r"the key 'a b' in `arms`"),
        ({"x": {"runtime": "a"}, "X": {"runtime": "b"}}, "differ by more than capitals"),
        ({"all": {"runtime": "a"}}, "`arms` has all, which in tables means all arms together"),
        ({"x": {"runtime": "a"}, "y": {"runtime": "a"}}, r"`arms\.y` is the same as `arms\.x`"),
        (
            {"x": {"runtime": "a"}, "y": {"runtime": "a", "settings": {"batch_size": 512}}},
            r"`arms\.y` is the same as `arms\.x`: with what the study says",
        ),
        (
            {"x": {"runtime": "a"}, "y": {"runtime": "a", "options": {"from": "build"}}},
            r"`arms\.y` is the same as `arms\.x`: with what the study says",
        ),
    ],
)
def test_a_mistake_in_an_arm_is_told_at_its_place(arms, said):
    with pytest.raises(UserError, match=said):
        study(arms)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "no `runtimes`"),
        ({"runtimes": []}, "neither `runtimes` nor `arms`"),
        ({"runtimes": ["a"], "arms": {"x": {"runtime": "a"}}}, "both `runtimes` and `arms`"),
    ],
)
def test_arms_are_named_in_one_way(config, said):
    with pytest.raises(UserError, match=said):
        study_from({**CONFIG, **config}, OPTIONS)


def test_only_settings_that_leave_prompts_and_answers_alone_may_differ():
    assert set(ArmSettings.__struct_fields__) == set(AskedSettings.__struct_fields__) - {
        "context_length",
        "seed",
        "max_tokens",
    }
    assert Arm(runtime="a").plain


PAIR = {"x": {"runtime": "a"}, "y-as.installed": {"runtime": "a", "settings": "as_installed"}}


@pytest.mark.parametrize(
    ("contrast", "said"),
    [
        (["x", "y"], r"has \[x, y\], and y is not among `arms` \(x, y-as\.installed\)"),
        (["x", "a"], r"has \[x, a\], and a is not among `arms`"),
        (["x", "x"], r"an arm against itself"),
    ],
)
def test_contrasts_are_of_the_arms_by_their_names(contrast, said):
    named = study(PAIR, contrasts=[["x", "y-as.installed"]])
    assert named.contrasts == (("x", "y-as.installed"),)
    with pytest.raises(UserError, match=said):
        study(PAIR, contrasts=[contrast])


def test_a_run_of_an_arm_has_its_place_by_the_arms_name_and_two_of_one_runtime_have_two():
    named = study(PAIR, kinds=["task"], blocks=1)
    places = {paths.record_path("records", run) for run in plan_of(named)}
    assert places == {"records/m/x/task/1.json", "records/m/y-as.installed/task/1.json"}
    assert {paths.run_of(place).arm for place in places} == set(PAIR)


def test_a_further_arm_of_a_runtime_measures_only_itself():
    before = set(plan_of(study(PAIR)))
    after = set(plan_of(study(PAIR | {"z": {"runtime": "a", "settings": {"threads": 3}}})))
    assert {run.arm for run in after - before} == {"z"}
    assert {run.kind for run in before - after} <= {"control"}
