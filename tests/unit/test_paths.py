"""The paths of a study and the plan that they follow from: made in one place, and read back."""

from pathlib import Path

import pytest

from joules.core import paths
from joules.core.errors import UserError
from joules.core.places import PACKAGE, REPOSITORY
from joules.core.plan import KINDS, Run, plan_of
from joules.core.reading import load_study

RUN = Run("parrot-1m", "llama_cpp", "task", 12)


@pytest.mark.parametrize("kind", KINDS)
def test_the_run_of_a_records_path_is_the_run_it_was_made_of(kind):
    run = RUN._replace(kind=kind)
    text = paths.record_path("<results>/records", run)
    assert text == f"<results>/records/parrot-1m/llama_cpp/{kind}/12.json"
    path = paths.record_path(Path("/somewhere/grades"), run)
    assert path == Path(f"/somewhere/grades/parrot-1m/llama_cpp/{kind}/12.json")
    assert paths.run_of(text) == paths.run_of(path) == run


@pytest.mark.parametrize(
    "path",
    [
        *("m/r/task/x.json", "m/r/task/0.json", "m/r/task/01.json", "m/r/speed/1.json"),
        *("r/task/1.json", "m/r/task/1.csv", "m/r/task/1.invalid-1.json", "m/r/task/-1.json"),
    ],
)
def test_a_path_of_no_run_is_refused(path):
    with pytest.raises(UserError, match=r"is no record or grade.*\{repetition\}\.json"):
        paths.run_of(path)


def test_the_results_of_a_record_are_four_folders_up():
    assert paths.results_of(paths.record_path("<results>/records", RUN)) == "<results>"
    folder = Path("/a/results/demo")
    assert paths.results_of(paths.record_path(paths.records_folder(folder), RUN)) == folder


def test_invalid_attempts_lie_beside_their_record_and_count_as_numbers(tmp_path):
    record = paths.record_path(tmp_path, RUN)
    record.parent.mkdir(parents=True)
    for number in (10, 2, 1):
        paths.invalid_attempt_path(record, number).write_text("")
    paths.invalid_attempt_path(paths.record_path(tmp_path, RUN._replace(repetition=1)), 7).touch()
    assert [paths.attempt_of(path) for path in paths.invalid_attempts([record])[record]] == [
        *(1, 2, 10)
    ]
    named = paths.invalid_attempt_path("a/m/r/task/3.json", 4)
    assert named == "a/m/r/task/3.invalid-4.json" and paths.attempt_of(named) == 4


def test_the_attempts_of_very_many_records_are_found_by_one_listing_of_their_folder(
    tmp_path, monkeypatch
):
    records = [paths.record_path(tmp_path, RUN._replace(repetition=n)) for n in range(1, 31)]
    records[0].parent.mkdir(parents=True)
    paths.invalid_attempt_path(records[6], 1).touch()
    listed = []
    whole = Path.glob
    monkeypatch.setattr(
        Path, "glob", lambda folder, how: listed.append(folder) or whole(folder, how)
    )
    found = paths.invalid_attempts(records)
    assert listed == [records[0].parent]
    assert list(found) == records
    assert {record for record, attempts in found.items() if attempts} == {records[6]}


@pytest.mark.parametrize(
    "name", ["3.json", "3.invalid-x.json", "3.invalid-0.json", "x.invalid-1.json"]
)
def test_a_path_of_no_invalid_attempt_is_refused(name):
    with pytest.raises(UserError, match="is no invalid attempt"):
        paths.attempt_of(f"m/r/task/{name}")


def test_a_rule_gets_texts_with_wildcards_and_a_command_gets_paths():
    assert paths.run_pattern("<results>/records") == (
        "<results>/records/{model}/{arm}/{kind}/{repetition}.json"
    )
    assert paths.figure_file("<results>", "{figure}", "svg") == "<results>/figures/{figure}.svg"
    assert paths.warm_up_file(Path("a"), "m", "r") == Path("a/warm_up/m/r.json")
    assert paths.provided_pattern() == "resources/runtimes/{runtime}/{variant}.json"


@pytest.mark.parametrize(
    ("options", "variant"),
    [
        ({"version": "1.2"}, "1.2"),
        ({"version": "1.2", "from": "build", "binary": ""}, "1.2-build"),
        ({"version": "1.2", "from": "path", "binary": "/opt/x"}, "1.2-path-285f57af"),
        ({"version": "1.2", "binary": "/opt/x"}, "1.2-285f57af"),
        ({"version": "1.2", "library": "shared"}, "1.2-shared"),
        ({"version": "1.2", "official": {}, "port": 0}, "1.2"),
        ({"version": "1.2", "port": 8000}, "1.2-1b5464a2"),
    ],
)
def test_a_variant_names_version_way_library_and_sums_of_what_else_is_given(options, variant):
    assert paths.variant_of(options) == variant


def test_two_arms_of_other_options_share_no_facts():
    arms = [{"version": "1", name: value} for name in "abc" for value in ("x", ["x"], {"y": "x"})]
    assert len({paths.provided_file("server", options) for options in arms}) == len(arms)


def test_a_runtimes_facts_are_looked_for_where_the_workflow_puts_them():
    study = load_study()
    found = [study.provided(name).relative_to(REPOSITORY) for name in study.study.runtimes]
    assert sorted(map(str, found)) == [
        "resources/runtimes/llama_cpp/0.3.36-shared.json",
        "resources/runtimes/ollama/0.34.0-build.json",
    ]


def test_runtimes_are_known_by_their_modules():
    names = paths.runtime_names(PACKAGE)
    assert {"ollama", "llama_cpp", "openai_server"} <= set(names)
    assert not {"shared", "__init__"} & set(names)


def test_figures_are_known_by_their_modules(tmp_path):
    folder = tmp_path / "draw/figures"
    folder.mkdir(parents=True)
    for name in ("ratios", "cover", "__init__"):
        (folder / f"{name}.py").touch()
    assert paths.figure_names(tmp_path) == ["cover", "ratios"]


def test_another_number_of_blocks_leaves_the_rest_of_the_plan():
    study = load_study()
    assert len(study.runs(2)) == 2 * 6
    assert study.runs() == study.runs(study.study.blocks) == plan_of(study.study)
    assert study.runs(7)[: len(study.runs())] == study.runs()
