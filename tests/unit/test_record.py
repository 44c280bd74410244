"""The types of all that is stored: real files of every schema, and wrong files."""

import datetime
import json

import jsonschema
import msgspec
import pytest
import synthetic
import yaml
from demonstration_campaigns import COMMITTED

from joules.core import stored
from joules.core.arms import Arm, facts_of
from joules.core.energy import Energy
from joules.core.errors import UserError
from joules.core.inference import Completion, Settings, parts_of_call
from joules.core.places import REPOSITORY
from joules.core.prompts_file import PromptedModel, PromptRow, PromptsFile
from joules.core.reading import load_study
from joules.core.record import BrokenRule, Record
from joules.core.registration import registration_of
from joules.core.unfinished_file import Unfinished
from joules.core.warm_up_files import WarmUp, WarmUpAnswer
from joules.inputs.study_plan import study_plan

ROOT = REPOSITORY
RECORD = COMMITTED / "records/parrot-1m/ollama/task/1.json"
GRADE, AGREED = "grades/parrot-1m/ollama/task/1.json", "agreement/parrot-1m.json"
# A real record of schema 1, but for its tasks: the first three of 164.
SCHEMA_1 = ROOT / "tests/data/record-schema-1.json"
SCHEMA_2 = ROOT / "tests/data/record-schema-2.json"  # the same of schema 2

KINDS = {
    "records": (stored.read_record, stored.write_record),
    "grades": (stored.read_grade, stored.write_grade),
    "agreement": (stored.read_agreement, stored.write_agreement),
}
SETTINGS = Settings(
    context_length=2048,
    threads=1,
    batch_size=512,
    micro_batch_size=512,
    flash_attention=False,
    gpu_layers=0,
    seed=1,
    max_tokens=256,
)
COMPLETION = Completion("    return 1\n", 9, 4, 0.01, 0.02, "eos")
WARM_UP = WarmUp(
    model="parrot-1m",
    arm=facts_of("ollama", Arm(runtime="ollama"), "Ollama"),
    runtime="ollama",
    protocol="base-unchanged-column_0-256",
    never_ends=False,
    facts={"version": "0.24.0", "simd": None},
    settings=SETTINGS,
    settings_in_force={"threads": [1, 2], "context_length": 2048},
    cannot_hold=["ignore_eos"],
    load_s=0.5,
    tokens_per_s=100.25,
    answers=[
        msgspec.convert(
            {"task_id": "HumanEval/0", "duration_s": 0.04, **msgspec.to_builtins(COMPLETION)},
            WarmUpAnswer,
        )
    ],
)
SHA256 = "0" * 64
PROMPTED = PromptedModel(
    file_sha256=SHA256,
    parameters=1_000_000,
    quantization="Q8_0",
    protocol="base-unchanged-column_0-256",
    max_tokens=256,
    never_ends=True,
)
ROW = PromptRow(
    task_id="HumanEval/0",
    role="problem",
    in_subset=True,
    style="base",
    cut="column_0",
    prefill="",
    text="def f():\u2028\n",
    text_sha256=SHA256,
    token_ids=[1, 2],
    token_ids_sha256="1" * 64,
)


def wrong(path, change, read=stored.read_record, source=RECORD):
    """Write `source`, changed, to `path`; return what its reader says of it."""
    value = json.loads(source.read_text())
    change(value)
    path.write_text(json.dumps(value))
    with pytest.raises(UserError) as caught:
        read(path)
    return str(caught.value)


def kept(old, new):
    """Return what was written, without what older files lack."""
    if isinstance(old, dict):
        return {key: kept(value, new[key]) for key, value in old.items()}
    if isinstance(old, list):
        return [kept(*pair) for pair in zip(old, new, strict=True)]
    return new


@pytest.mark.parametrize("folder", KINDS)
def test_every_file_of_a_campaign_is_written_again_and_nothing_is_lost(folder, either, tmp_path):
    read, write = KINDS[folder]
    files = sorted((either / folder).rglob("*.json"))
    assert files
    for file in files:
        write(tmp_path / "again.json", read(file))
        old, new = json.loads(file.read_text()), json.loads((tmp_path / "again.json").read_text())
        assert kept(old, new) == old, file


def test_a_record_of_schema_1_reads_with_what_it_lacks_left_out():
    record = stored.read_record(SCHEMA_1)
    assert (record.schema, record.trace, record.cross_check) == (1, None, {})
    assert (record.gaps.conservation, record.settle.prefill_tokens_per_s) == (None, None)
    assert record.validity.checks == [] and record.validity.valid
    assert [rule.code for rule in record.validity.codes] == ["foreign_cpu", "not_settled"]
    assert isinstance(record.validity.codes[0], BrokenRule)
    assert all(window.net_energy_j is None for window in record.windows)
    assert [task.retokenised_ids for task in record.tasks] == [None] * 3
    assert record.environment.before.gpus == [] and record.environment.before.waited_s is None


def test_a_record_of_schema_2_reads_with_what_it_lacks_left_out():
    record = stored.read_record(SCHEMA_2)
    assert (record.schema, len(record.tasks), record.window("import")) == (2, 3, None)
    assert (record.fingerprint, record.page_cache_warmed) == (None, None)
    assert record.gaps.by_component_j is None and record.gaps.conservation is not None
    assert [task.overhead_s for task in record.tasks] == [None] * 3
    assert record.trace is not None and record.validity.checks


def test_a_record_of_schema_3_is_written_again_with_the_same_bytes(tmp_path):
    study = synthetic.write_study(tmp_path, models=["parrot-1m"], blocks=1)
    for file in study.records:
        record = stored.read_record(file)
        assert record.schema == 3
        stored.write_record(tmp_path / "again.json", record)
        assert (tmp_path / "again.json").read_bytes() == file.read_bytes()


@pytest.mark.parametrize("path", [SCHEMA_1, SCHEMA_2])
def test_the_headline_of_an_older_record_is_its_tasks_window_without_the_gaps(path):
    record, plain = stored.read_record(path), json.loads(path.read_text())
    assert record.energy_j == record.window("tasks").energy_j.headline_j(), "what it states"
    assert record.headline_j() == plain["energy_j"] - plain["gaps"]["energy_j"]
    assert record.tasks_energy_j().headline_j() == pytest.approx(record.headline_j())


def test_the_headline_of_a_record_of_today_is_what_it_states(tmp_path):
    study = synthetic.write_study(tmp_path, models=["parrot-1m"], blocks=1)
    record = stored.read_record(study.records[0])
    whole = record.window("tasks").energy_j
    assert record.headline_j() == record.energy_j
    assert record.energy_j == pytest.approx(whole.headline_j() - record.gaps.energy_j)
    parts = record.tasks_energy_j()
    assert parts.cpu == pytest.approx(record.energy_j) and parts.gpu is None
    assert parts.dram == pytest.approx(whole.dram - record.gaps.by_component_j.dram)


def test_a_headline_that_counts_the_gpu_alone_leaves_the_processor_out():
    energy = Energy(cpu=1.0, gpu=2.0, dram=4.0)
    assert (energy.headline_j(), energy.headline_j("gpu")) == (3.0, 2.0)


def test_a_component_that_is_not_known_makes_no_headline_of_nothing():
    without = {"processor": Energy(cpu=None, gpu=2.0, dram=4.0), "gpu": Energy(1.0, None, 4.0)}
    for counted, energy in without.items():
        assert not energy.has_headline(counted)
        with pytest.raises(ValueError, match=f"energy of the {counted} is not known"):
            energy.headline_j(counted)
    assert without["gpu"].has_headline() and without["gpu"].headline_j() == 1.0, "no GPU there"


def test_a_sum_of_energies_knows_only_what_all_of_them_know():
    parts = [Energy(1.0, None, 0.5), Energy(2.0, None, None)]
    assert Energy.total(parts) == Energy(3.0, None, None)
    assert Energy.total([]) == Energy(None, None, None)
    assert parts[1].less(parts[0]) == Energy(1.0, None, None)


def test_sums_are_the_nearest_to_the_true_ones_under_every_python():
    """Ten times 0.1, added one by one, is less than 1 by one bit; `sum` is so before 3.12."""
    assert Energy.total([Energy(0.1, None, 0.1)] * 10) == Energy(1.0, None, 1.0)
    record = stored.read_record(RECORD)
    tenth = msgspec.structs.replace(record.tasks[0], duration_s=0.1)
    ten = msgspec.structs.replace(record, tasks=[tenth] * 10)
    assert ten.tasks_duration_s() == 1.0


@pytest.mark.parametrize(
    ("told", "parts"),
    [
        ((None, None), (None, 2.0, None)),
        ((0.5, None), (0.5, 1.5, None)),
        ((0.5, 1.0), (0.5, 1.0, 0.5)),
        ((0.5, 1.75), (0.5, 1.5, 0.0)),
        ((2.5, 1.0), (2.0, 0.0, 0.0)),
    ],
)
def test_the_parts_of_a_call_add_up_to_it(told, parts):
    assert parts_of_call(2.0, *told) == parts


def test_a_record_knows_its_windows_and_the_prompt_by_its_token_ids():
    record = stored.read_record(RECORD)
    plain = json.loads(RECORD.read_text())["tasks"][0]
    assert record.tasks[0].prompt_token_ids_sha256 == plain["prompt_sha256"]
    assert record.settings.micro_batch_size == plain_settings()["micro_batch_size"]


def plain_settings():
    return json.loads(RECORD.read_text())["settings"]


def test_whole_numbers_and_fractions_stay_what_they_are():
    components = stored.read_record(RECORD).instrument.components
    assert repr(components["cpu"].model_power_w) == "8"
    assert components["gpu"].wrap_range_j is msgspec.UNSET


def test_a_record_is_frozen():
    with pytest.raises(AttributeError, match="immutable"):
        stored.read_record(SCHEMA_1).energy_j = 1.0


def written(tmp_path, older):
    """Return real or written files, as plain values, of every kind."""
    stored.write_warm_up(tmp_path / "warm_up.json", WARM_UP)
    stored.write_provided(tmp_path / "facts.json", {"version": "0.24.0", "binary": "bin/ollama"})
    stored.write_prompts_file(tmp_path / "prompts.jsonl", PromptsFile(PROMPTED, [ROW]))
    lines = (tmp_path / "prompts.jsonl").read_text().split("\n")[:-1]
    loaded = load_study()
    plan = study_plan(loaded.study, loaded.catalogue)
    registration = registration_of("demo", plan, datetime.datetime.now(datetime.UTC))
    stored.write_registration(tmp_path / "registration.json", registration)
    unfinished = Unfinished(schema=1, planned=2, measured=1, missing=["grades/m/a/task/2.json"])
    return [
        ("record", json.loads(RECORD.read_text())),
        ("record", json.loads(SCHEMA_1.read_text())),
        ("record", json.loads(SCHEMA_2.read_text())),
        ("attempt", json.loads(RECORD.read_text())),
        *(("grade", json.loads((each / GRADE).read_text())) for each in (older, COMMITTED)),
        ("registration", json.loads((tmp_path / "registration.json").read_text())),
        ("unfinished", json.loads(stored.unfinished_text(unfinished))),
        *(("agreement", json.loads((each / AGREED).read_text())) for each in (older, COMMITTED)),
        ("warm_up", json.loads((tmp_path / "warm_up.json").read_text())),
        ("provided_facts", json.loads((tmp_path / "facts.json").read_text())),
        *(("prompts", json.loads(line)) for line in lines),
    ]


def test_every_kind_of_file_obeys_its_generated_schema(older, tmp_path):
    files = written(tmp_path, older)
    assert {kind for kind, _ in files} == set(stored.KINDS)
    for kind, value in files:
        schema = stored.schema_of(kind)
        jsonschema.Draft202012Validator.check_schema(schema)
        jsonschema.Draft202012Validator(schema).validate(value)
        assert yaml.safe_load(stored.schema_text(kind)) == schema
        assert schema["title"] and schema["description"]
        if kind != "provided_facts":
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.Draft202012Validator(schema).validate(value | {"unknown": 1})


def test_every_field_that_is_stored_says_what_it_means():
    for kind in stored.KINDS:
        for name, type_of in stored.schema_of(kind)["$defs"].items():
            if name == "Settings":  # its class says it
                continue
            for field, node in type_of["properties"].items():
                assert node.get("description"), f"{kind}: {name}.{field}"


def test_a_record_without_gaps_is_named_with_what_it_lacks(tmp_path):
    path = tmp_path / "1.json"
    said = wrong(path, lambda record: record.pop("gaps"))
    assert said.startswith(f"{path} lacks `gaps`; expected it in every record. Restore it")
    said = wrong(path, lambda record: record["tasks"][3]["energy_j"].pop("cpu"))
    assert "lacks `cpu` at `$.tasks[3].energy_j`" in said


def test_a_wrong_value_deep_inside_is_shown_with_its_place_and_what_was_expected(tmp_path):
    path = tmp_path / "1.json"
    said = wrong(path, lambda record: record["tasks"][3]["energy_j"].update(cpu="many"))
    assert f'{path} holds "many" at `$.tasks[3].energy_j.cpu`; expected `float | null`.' in said
    said = wrong(path, lambda record: record["windows"][2].update(name="nap"))
    assert '"nap" at `$.windows[2].name`; expected one of idle_after, idle_cold, idle_re' in said
    said = wrong(path, lambda record: record.update(schema=9))
    assert "holds 9 at `$.schema`; expected one of 1, 2, 3." in said
    said = wrong(path, lambda record: record["model"].update(sha256="x" * 99))
    assert f'"{"x" * 59}… at `$.model.sha256`; expected `str` matching regex' in said
    said = wrong(path, lambda record: record["instrument"]["components"].update(cpu={"source": 1}))
    assert (
        "a value of the type `int` at `$.instrument.components[...].source`; expected `str`" in said
    )
    said = wrong(path, lambda record: record["position"].update(actual=0))
    assert "holds 0 at `$.position.actual`; expected `int` >= 1" in said


def test_an_unknown_key_is_named_with_its_place(tmp_path):
    path = tmp_path / "1.json"
    said = wrong(path, lambda record: record.update(gapps={}))
    assert f"{path} holds the unknown key `gapps`; expected only keys of a record" in said
    said = wrong(path, lambda record: record["settle"].update(extra=1))
    assert "unknown key `extra` at `$.settle`" in said


def test_settings_that_cannot_be_are_named_with_the_file(tmp_path):
    path = tmp_path / "1.json"
    said = wrong(path, lambda record: record["settings"].update(temperature=0.5))
    assert str(path) in said and "temperature is 0.5" in said


def test_a_truncated_file_a_missing_one_and_another_value_are_told_apart(tmp_path):
    path = tmp_path / "1.json"
    path.write_bytes(RECORD.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"1\.json is not JSON \(.*\); expected a whole record\."):
        stored.read_record(path)
    path.write_text('{"schema": NaN}')
    with pytest.raises(UserError, match=r"not JSON \(NaN is no number of JSON\)"):
        stored.read_record(path)
    path.write_bytes(b'{"study": "\xff"}')
    with pytest.raises(UserError, match="not JSON"):
        stored.read_record(path)
    path.write_text("[]")
    with pytest.raises(UserError, match=r"holds \[\] at `\$`; expected `object`"):
        stored.read_record(path)
    with pytest.raises(UserError, match=r"2\.json is missing; expected a grade\. Run the rule"):
        stored.read_grade(tmp_path / "2.json")


def test_half_a_surrogate_pair_in_an_answer_is_read_and_written(tmp_path):
    value = json.loads(SCHEMA_1.read_text())
    value["tasks"][0]["completion"] = "\ud800"
    path = tmp_path / "1.json"
    path.write_text(json.dumps(value))
    record = stored.read_record(path)
    assert record.tasks[0].completion == "\ud800"
    stored.write_record(path, record)
    assert stored.read_record(path) == record
    said = wrong(path, lambda record: record.pop("gaps"), source=path)
    assert "lacks `gaps`" in said


def test_prompts_of_both_schemas_read_equal(older, tmp_path):
    for model in ("parrot-1m", "parrot-3m"):
        file = older / "prompts" / f"{model}.jsonl"
        prompts = stored.read_prompts_file(file)
        stored.write_prompts_file(tmp_path / "now.jsonl", prompts)
        assert stored.read_prompts_file(tmp_path / "now.jsonl") == prompts
        plain = [json.loads(line) for line in file.read_text().split("\n")[:-1]]
        assert prompts.model.file_sha256 == plain[0]["file_sha256"]
        assert [row.text_sha256 for row in prompts.prompts] == [row["sha256"] for row in plain[1:]]
        assert [row.token_ids for row in prompts.prompts] == [row["token_ids"] for row in plain[1:]]
        assert {type(row) for row in prompts.prompts} == {PromptRow}
        assert type(prompts.model) is PromptedModel
        assert {row.role for row in prompts.prompts} == {"problem", "settle", "flush"}
        now = (tmp_path / "now.jsonl").read_text().split("\n")
        assert now[0].startswith('{"schema": 2, "model": {') and '"text_sha256"' in now[1]


def test_prompts_are_written_and_read(tmp_path):
    prompts = PromptsFile(PROMPTED, [ROW])
    stored.write_prompts_file(tmp_path / "prompts.jsonl", prompts)
    assert stored.read_prompts_file(tmp_path / "prompts.jsonl") == prompts


def test_a_row_of_prompts_from_before_the_choice_of_a_cut_reads(older, tmp_path):
    lines = (older / "prompts/parrot-1m.jsonl").read_text().split("\n")
    model, row = json.loads(lines[0]), json.loads(lines[1])
    del model["max_tokens"], model["never_ends"], row["cut"]
    (tmp_path / "old.jsonl").write_text(f"{json.dumps(model)}\n{json.dumps(row)}\n")
    prompts = stored.read_prompts_file(tmp_path / "old.jsonl")
    assert (prompts.model.max_tokens, prompts.model.never_ends) == (None, False)
    assert prompts.prompts[0].cut == ""


def test_a_wrong_line_of_prompts_is_named_by_its_number(tmp_path):
    path = tmp_path / "prompts.jsonl"
    stored.write_prompts_file(path, PromptsFile(PROMPTED, [ROW, ROW]))
    whole = path.read_text()
    path.write_text(whole.replace('"role": "problem"', '"role": "riddle"', 1))
    expected = (
        r'prompts\.jsonl, line 2 holds "riddle" at `\$\.role`; expected one of flush, problem'
    )
    with pytest.raises(UserError, match=expected):
        stored.read_prompts_file(path)
    path.write_text(whole[:-20])
    with pytest.raises(UserError, match=r"line 3 is not JSON.*expected a whole line of a prompts"):
        stored.read_prompts_file(path)
    path.write_text("")
    with pytest.raises(UserError, match=r"line 1 is not JSON"):
        stored.read_prompts_file(path)


def test_a_warm_up_is_written_and_read(tmp_path):
    stored.write_warm_up(tmp_path / "warm_up.json", WARM_UP)
    assert stored.read_warm_up(tmp_path / "warm_up.json") == WARM_UP


def test_facts_of_a_runtime_are_flat_and_hold_its_version(tmp_path):
    path, facts = tmp_path / "facts.json", {"version": "1.2", "from": "build", "commit": None}
    stored.write_provided(path, facts)
    assert stored.read_provided(path) == facts
    with pytest.raises(UserError, match=r"facts\.json lacks `version`; expected it in every runt"):
        stored.write_provided(path, {"from": "build"})
    with pytest.raises(UserError, match=r"a value of the type `object` at `\$\[\.\.\.\]`"):
        stored.write_provided(path, {"version": "1.2", "nested": {"a": 1}})
    assert stored.read_provided(path) == facts


def test_an_attempt_is_a_record():
    assert stored.schema_of("attempt")["$ref"] == stored.schema_of("record")["$ref"]
    assert isinstance(stored.read_record(RECORD), Record)
