"""What an unfinished archive brings back: where each file waits, and what is refused."""

import msgspec
import pytest
import synthetic

from joules.core import imported, paths
from joules.core.errors import UserError
from joules.core.files import sha256_of
from joules.core.plan import Run
from joules.core.prompts_file import PromptedModel, PromptRow, PromptsFile
from joules.core.reading import load_study
from joules.core.run_parameters import hashes_of_parameters, run_parameters
from joules.core.stored import read_record, write_record

LOADED = load_study()
PARAMETERS = run_parameters(LOADED.study, LOADED.catalogue, "parrot-1m", "llama_cpp")
RUN = Run("m", "a", "task", 1)
RECORD = "records/m/a/task/1.json"


@pytest.fixture
def archived(tmp_path):
    """An unpacked archive of one run, whose record says what it was measured with."""
    root = tmp_path / "archived"
    synthetic.write_study(
        root, models=("m",), runtimes=("a",), kinds=("task",), blocks=1, problems=1
    )
    change(root / RECORD, parameters=hashes_of_parameters(PARAMETERS))
    return root


def change(path, **changes):
    write_record(path, msgspec.structs.replace(read_record(path), **changes))


def prompts_of(record):
    """Return the prompts that a record's answers are to."""
    rows = [
        PromptRow(
            task_id=task.task_id,
            role="problem",
            in_subset=True,
            style="base",
            prefill="",
            text="x",
            text_sha256="0" * 64,
            token_ids=[1],
            token_ids_sha256=task.prompt_token_ids_sha256,
        )
        for task in record.tasks
    ]
    model = PromptedModel(
        file_sha256=record.model.sha256,
        parameters=1,
        quantization="F16",
        protocol=record.protocol,
    )
    return PromptsFile(model, rows)


def test_a_record_and_its_grade_are_taken_once_and_stay_in_the_journal(archived, tmp_path):
    results = tmp_path / "results"
    prompts = prompts_of(read_record(archived / RECORD))
    content, graded = (archived / RECORD).read_bytes(), (archived / "grades/m/a/task/1.json")
    assert imported.put_back(archived, results) == [RUN]
    assert imported.put_back(archived, results) == [RUN], "an import that was cut off goes on"
    assert imported.place(results, RUN) == paths.imported_record(results, RUN)
    target, grade = results / RECORD, results / "grades/m/a/task/1.json"
    assert not target.exists()
    assert imported.take_record(RUN, target, PARAMETERS, prompts) == []
    assert imported.take_grade(target, grade)
    assert (target.read_bytes(), grade.read_bytes()) == (content, graded.read_bytes())
    assert (results / f"journal/{sha256_of(target)}.json").read_bytes() == content
    assert imported.take_record(RUN, target, PARAMETERS, prompts) is None
    assert not imported.take_grade(target, grade)
    assert imported.place(results, RUN) == target


def test_a_grade_of_another_record_is_not_taken(archived, tmp_path):
    results = tmp_path / "results"
    imported.put_back(archived, results)
    change(archived / RECORD, session="another")
    target = results / RECORD
    target.parent.mkdir(parents=True)
    target.write_bytes((archived / RECORD).read_bytes())
    assert not imported.take_grade(target, results / "grades/m/a/task/1.json")


def test_what_a_record_differs_in_is_named_and_it_is_not_taken(archived, tmp_path):
    record = read_record(archived / RECORD)
    prompts = prompts_of(record)
    results, target = tmp_path / "results", tmp_path / "results" / RECORD
    imported.put_back(archived, results)
    other = msgspec.structs.replace(PARAMETERS, country_iso_code="DEU", require=("threads",))
    why = imported.take_record(RUN, target, other, prompts)
    assert why == ["country_iso_code", "require"]
    model = msgspec.structs.replace(prompts.model, file_sha256="1" * 64)
    why = imported.take_record(RUN, target, PARAMETERS, PromptsFile(model, prompts.prompts))
    assert why == ["the model file"]
    row = msgspec.structs.replace(prompts.prompts[0], token_ids_sha256="1" * 64)
    why = imported.take_record(RUN, target, PARAMETERS, PromptsFile(prompts.model, [row]))
    assert why == ["the prompts"]
    older = msgspec.structs.replace(record, parameters={})
    assert "does not say" in imported.differences(older, PARAMETERS, prompts)[0]
    assert not target.exists() and paths.imported_record(results, RUN).exists()


def test_invalid_attempts_registration_and_order_come_back(archived, tmp_path):
    results = tmp_path / "results"
    invalid = "records/m/a/task/2.invalid-1.json"
    first = read_record(archived / RECORD)
    position = msgspec.structs.replace(first.position, actual=3)
    second = msgspec.structs.replace(first, position=position, repetition=2)
    write_record(archived / invalid, second)
    (archived / "registration.json").write_text("{}")
    imported.put_back(archived, results)
    assert (results / invalid).read_bytes() == (archived / invalid).read_bytes()
    assert (results / "registration.json").read_text() == "{}"
    model, arm = first.model.name, first.arm_name
    assert (results / "journal/order.txt").read_text().splitlines() == [
        f"{model} {arm} task 1",
        imported.NO_RECORD,
        f"{model} {arm} task 2",
    ]


def test_a_study_that_measured_a_run_itself_is_left_as_it_is(archived, tmp_path):
    results = tmp_path / "results"
    (results / RECORD).parent.mkdir(parents=True)
    (results / RECORD).write_bytes((archived / RECORD).read_bytes())
    imported.put_back(archived, results)
    assert imported.place(results, RUN) == results / RECORD
    assert not paths.imported_record(results, RUN).exists(), "it is there already"
    other = tmp_path / "other"
    (other / RECORD).parent.mkdir(parents=True)
    (other / RECORD).write_text("{}")
    with pytest.raises(UserError, match=r"holds files of its own .*records/m/a/task/1\.json"):
        imported.put_back(archived, other)
    assert [file for file in other.rglob("*") if file.is_file()] == [other / RECORD]
