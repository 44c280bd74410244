"""Tables from record, grade and agreement files."""

import dataclasses
import json
import shutil

import msgspec
import pandas as pd
import pytest
import synthetic
from synthetic_tables import study_tables, tables_of

from joules.analyse.mixes import Mixing
from joules.analyse.rows import run_row
from joules.analyse.tables import (
    RUNS,
    TASKS,
    TRACE,
    WINDOWS,
    summary,
    tabulate,
    write_csv,
    write_parquet,
    write_tables,
)
from joules.core.errors import UserError
from joules.core.plan import Run
from joules.core.stored import read_record

GRAMS_PER_KWH = 268.0


@pytest.fixture
def study(tmp_path):
    return synthetic.write_study(tmp_path, blocks=2)


def change(path, **keys):
    """Change values of a JSON file; `a__b` is the key b inside a."""
    value = json.loads(path.read_text())
    for name, new in keys.items():
        *parents, last = name.split("__")
        part = value
        for parent in parents:
            part = part[parent]
        part[last] = new
    path.write_text(json.dumps(value))


def record_of(study, kind="task"):
    return next(path for path in study.records if kind in path.parts)


def test_a_row_holds_what_the_record_says(study):
    record = read_record(record_of(study))
    row = run_row(record, synthetic.make_grade(record), GRAMS_PER_KWH)
    tasks = next(window for window in record.windows if window.name == "tasks")
    assert row["energy_j"] == pytest.approx(record.energy_j)
    assert row["cpu_energy_j"] == pytest.approx(record.energy_j)
    assert row["gross_energy_j"] == tasks.energy_j.cpu > row["energy_j"]
    assert row["dram_energy_j"] == pytest.approx(0.1 * row["energy_j"])
    assert row["window_duration_s"] == tasks.duration_s
    assert row["duration_s"] == pytest.approx(sum(task.duration_s for task in record.tasks))
    assert row["power_w"] == pytest.approx(synthetic.BUSY_POWER_W), "energy and time fit"
    assert row["idle_power_w"] == pytest.approx(synthetic.IDLE_POWER_W)
    assert row["resident_power_w"] == pytest.approx(synthetic.IDLE_POWER_W + 0.5)
    net_j = row["energy_j"] - synthetic.IDLE_POWER_W * row["duration_s"]
    assert row["net_energy_j"] == pytest.approx(net_j)
    tokens = sum(task.generated_tokens for task in record.tasks)
    assert row["energy_j_per_token"] == pytest.approx(row["energy_j"] / tokens)
    assert row["net_energy_j_per_token"] == pytest.approx(net_j / tokens)
    assert row["gross_energy_j_per_token"] == pytest.approx(tasks.energy_j.cpu / tokens)
    assert row["energy_with_dram_j_per_token"] == pytest.approx(1.1 * row["energy_j"] / tokens)
    assert row["seconds_per_token"] == pytest.approx(row["duration_s"] / tokens)
    assert row["idle_share"] == pytest.approx(synthetic.IDLE_POWER_W / synthetic.BUSY_POWER_W)
    assert row["gco2e"] == pytest.approx(row["energy_j"] / 3.6e6 * 268)
    assert (row["load_energy_j"], row["load_duration_s"]) == (16, 2)
    imported = (7, 1) if record.runtime.name == "ollama" else (None, None)
    assert (row["import_energy_j"], row["import_duration_s"]) == imported
    assert row["gpu_energy_j"] is None
    assert set(row) == set(RUNS.names)


def test_a_run_without_a_correct_answer_has_no_energy_per_correct_answer(study):
    record = read_record(record_of(study))
    grade = msgspec.structs.replace(synthetic.make_grade(record), passed=0)
    row = run_row(record, grade, GRAMS_PER_KWH)
    assert row["energy_j_per_correct"] is None and row["pass_at_1"] == 0


def test_tasks_and_gaps_add_up_to_the_run(study):
    tables = tables_of(study)
    cell = ["model", "runtime", "kind", "block"]
    tasks_j = tables.tasks.groupby(cell)["energy_j"].sum()
    runs = tables.runs.set_index(cell)
    total_j = tasks_j + runs["gap_share"] * runs["gross_energy_j"]
    assert total_j.to_numpy() == pytest.approx(runs["gross_energy_j"].to_numpy(), rel=1e-6)
    assert tasks_j.to_numpy() == pytest.approx(runs["energy_j"].to_numpy(), rel=1e-6)


def test_tables_are_sorted_and_complete(study):
    tables = tables_of(study)
    cell = ["model", "runtime", "kind", "block"]
    assert tables.runs[cell].equals(tables.runs[cell].sort_values(cell))
    imports = tables.runs["import_energy_j"].dropna()
    assert len(imports)
    assert (len(tables.runs), len(tables.tasks), len(tables.windows)) == (
        12,
        120,
        72 + len(imports),
    )
    frames = (tables.runs, tables.tasks, tables.windows, tables.trace)
    for frame, schema in zip(frames, (RUNS, TASKS, WINDOWS, TRACE), strict=True):
        names = [name for name in schema.names if name != "wall_power_w"]
        assert list(frame.columns) == names, "there is no meter of the whole machine"
    order = tables.tasks.groupby(cell)["order"].agg(list)
    assert all(places == list(range(1, 11)) for places in order)


def test_files_in_another_order_give_the_same_bytes(study, tmp_path):
    written = []
    for turn, step in (("one", 1), ("two", -1)):
        turned = dataclasses.replace(
            study,
            records=study.records[::step],
            grades=study.grades[::step],
            agreements=study.agreements[::step],
        )
        tables = tables_of(turned)
        names = ("runs", "tasks", "windows", "trace", "attempts", "validity", "runs_csv")
        write_tables(tables, {name: tmp_path / turn / name for name in names})
        written.append({path.name: path.read_bytes() for path in (tmp_path / turn).iterdir()})
    assert written[0] == written[1] and len(written[0]) == 7


def test_a_table_survives_the_way_through_its_file(study, tmp_path):
    tables = tables_of(study)
    write_parquet(tmp_path / "runs.parquet", tables.runs, RUNS)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "runs.parquet"), tables.runs)


def test_numbers_in_csv_have_nine_digits_and_lines_end_alike(study, tmp_path):
    write_csv(tmp_path / "a.csv", pd.DataFrame({"x": [1 / 3, None], "n": [1, 2]}))
    assert (tmp_path / "a.csv").read_bytes() == b"x,n\n0.333333333,1\n,2\n"


def test_an_invalid_run_is_kept_and_marked(tmp_path):
    bad = Run("parrot-1m", "ollama", "task", 1)
    runs = study_tables(tmp_path, blocks=2, invalid=[bad])[1].runs
    marked = runs[~runs["valid"]]
    assert marked[["model", "runtime", "kind"]].to_numpy().tolist() == [list(bad[:3])]
    assert marked["validity_codes"].tolist() == ["foreign_cpu"]


def test_fixed_runs_need_no_grade_and_others_do(tmp_path):
    study = synthetic.write_study(tmp_path, kinds=("task", "fixed"), blocks=1)
    graded = [path for path in study.grades if "fixed" not in path.parts]
    runs = tables_of(dataclasses.replace(study, grades=graded)).runs
    assert runs.loc[runs["kind"] == "fixed", "passed"].isna().all()
    with pytest.raises(UserError, match=r"has no grade.*grades/"):
        tables_of(dataclasses.replace(study, grades=graded[1:]))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("protocol", "chat-prefill", "the protocol"),
        ("study", "other", "the study"),
        ("model__sha256", "0" * 64, "model file's sha256"),
        ("settings__threads", 7, "the settings"),
        ("instrument__tier", "estimated", "the energy tier"),
        ("instrument__modules_sha256", "0" * 64, "the version of the instrument"),
    ],
)
def test_records_that_must_not_be_mixed_are_refused_by_name(study, key, value, words):
    odd = study.records[5]
    change(odd, **{key: value})
    with pytest.raises(UserError, match=words) as caught:
        tables_of(study)
    assert str(odd) in str(caught.value)


def test_a_mix_of_instruments_is_let_through_where_the_config_states_it(study):
    change(study.records[5], instrument__modules_sha256="0" * 64)
    files = (study.records, study.grades, study.agreements)
    runs = tabulate(*files, GRAMS_PER_KWH, Mixing(mixed_instruments="state")).runs
    assert runs["instrument_sha256"].nunique() == 2


def test_other_prompts_under_the_same_problem_are_refused(study):
    path = record_of(study)
    record = json.loads(path.read_text())
    record["tasks"][3]["prompt_sha256"] = "0" * 64
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match="the problems and prompts"):
        tables_of(study)


@pytest.mark.parametrize(
    ("key", "value"), [("model", "x"), ("kind", "fixed"), ("repetition", 9), ("total", 3)]
)
def test_a_grade_of_another_record_is_refused_by_file(study, key, value):
    change(study.grades[2], **{key: value})
    with pytest.raises(UserError) as caught:
        tables_of(study)
    assert str(study.grades[2]) in str(caught.value)


def test_a_grade_of_other_tasks_is_refused(study):
    grade = json.loads(study.grades[0].read_text())
    grade["tasks"][0]["task_id"] = "HumanEval/999"
    study.grades[0].write_text(json.dumps(grade))
    with pytest.raises(UserError, match="HumanEval/999"):
        tables_of(study)


def test_a_record_in_the_wrong_place_is_refused(study):
    first, second = study.records[:2]
    shutil.copy(first, second)
    with pytest.raises(UserError, match="holds the run"):
        tables_of(study)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"passed": False, "problems": ["ollama: HumanEval/3 is empty"]}, "HumanEval/3 is empty"),
        ({"runtimes": ["ollama"]}, "llama_cpp was not compared"),
        ({"model": "another"}, "No agreement for the model"),
    ],
)
def test_a_failed_or_missing_agreement_is_refused(study, keys, words):
    change(study.agreements[0], **keys)
    with pytest.raises(UserError, match=words):
        tables_of(study)


def test_one_model_is_summarised_from_its_own_files_alone(study):
    records, grades, agreement = (
        [path for path in paths if "parrot-3m" in str(path)]
        for paths in (study.records, study.grades, study.agreements)
    )
    runs = tabulate(records, grades, agreement[0], GRAMS_PER_KWH, Mixing()).runs
    table = summary(runs, "parrot-3m")
    assert set(table["model"]) == {"parrot-3m"}
    counts = table.set_index(["runtime", "kind"])["valid_runs"].to_dict()
    both = ("ollama", "llama_cpp")
    due = {(name, kind): n for name in both for kind, n in (("task", 2), ("control", 1))}
    assert counts == due and table["runs"].tolist() == table["valid_runs"].tolist()
    runs = tables_of(study).runs
    cell = (runs["model"] == "parrot-3m") & (runs["runtime"] == "ollama")
    expected = runs.loc[cell & (runs["kind"] == "task"), "energy_j_per_token"].mean()
    chosen = table[(table["runtime"] == "ollama") & (table["kind"] == "task")]
    assert chosen["mean_energy_j_per_token"].item() == pytest.approx(expected)


def as_second_schema(record):
    """Take away what records of schema 2 do not have; they state the window with its gaps."""
    record["windows"] = [each for each in record["windows"] if each["name"] != "import"]
    for task in record["tasks"]:
        del task["overhead_s"]
    del record["gaps"]["by_component_j"], record["fingerprint"], record["page_cache_warmed"]
    return record | {"schema": 2, "energy_j": record["energy_j"] + record["gaps"]["energy_j"]}


def as_first_schema(record):
    """Take away what records of schema 1 do not have."""
    record = as_second_schema(record)
    for window in record["windows"]:
        del window["net_energy_j"]
    for task in record["tasks"]:
        for name in ("start_s", "prefill_energy_j", "retokenised_ids"):
            del task[name]
    del record["trace"], record["validity"]["checks"], record["gaps"]["conservation"]
    return record | {"schema": 1}


@pytest.mark.parametrize("older", [as_first_schema, as_second_schema])
def test_records_of_older_schemas_give_the_same_runs(study, older):
    """But for the import of a model, which they count as loading."""
    new = tables_of(study)
    for path in study.records:
        path.write_text(json.dumps(older(json.loads(path.read_text()))))
    old = tables_of(study)
    imports = ["import_energy_j", "import_duration_s"]
    assert new.runs[imports].notna().any().all() and old.runs[imports].isna().all().all()
    pd.testing.assert_frame_equal(old.runs.drop(columns=imports), new.runs.drop(columns=imports))
    rest = new.windows[new.windows["window"] != "import"].reset_index(drop=True)
    pd.testing.assert_frame_equal(old.windows, rest)
    assert old.tasks["overhead_s"].isna().all() and new.tasks["overhead_s"].notna().all()
    assert old.tasks["completion_sha256"].equals(new.tasks["completion_sha256"])
    if older is as_first_schema:
        assert old.tasks["prefill_energy_j"].isna().all() and old.tasks["start_s"].isna().all()
        assert old.trace.empty and old.validity.empty and old.attempts.empty


def test_tokens_of_answers_are_kept_for_the_first_block_only(study):
    tasks = tables_of(study).tasks
    assert tasks.loc[tasks["block"] == 1, "retokenised_ids"].notna().all()
    assert tasks.loc[tasks["block"] == 2, "retokenised_ids"].isna().all()


def test_power_over_time_is_that_of_the_first_valid_run_of_each_cell(tmp_path):
    bad = Run("parrot-1m", "ollama", "task", 1)
    trace = study_tables(tmp_path, blocks=2, invalid=[bad])[1].trace
    blocks = trace.groupby(["model", "runtime"])["block"].agg(set)
    assert blocks["parrot-1m", "ollama"] == {2} and blocks["parrot-3m", "ollama"] == {1}
    assert set(trace["kind"]) == {"task"} and trace["cpu_power_w"].max() == 10


def test_attempts_beside_the_records_are_listed_and_are_no_runs(tmp_path):
    run = Run("parrot-1m", "ollama", "task", 1)
    _, tables = study_tables(tmp_path, blocks=2, attempts=[run])
    assert len(tables.runs) == 12
    (row,) = tables.attempts.to_dict("records")
    assert (row["block"], row["attempt"], row["code"]) == (1, 1, "foreign_cpu")
    assert (row["seen"], row["limit"]) == ("0.05", "0.02") and row["started"].startswith("2026")


def test_an_attempt_that_is_no_record_is_refused_by_name(study):
    odd = record_of(study).with_name("1.invalid-1.json")
    odd.write_text("{}")
    with pytest.raises(UserError, match=r"invalid-1.json lacks `schema`.*every record"):
        tables_of(study)


def test_rules_are_counted_in_all_runs_in_which_they_were_checked(tmp_path):
    bad = Run("parrot-1m", "ollama", "task", 1)
    table = study_tables(tmp_path, blocks=2, invalid=[bad])[1].validity
    rows = table.set_index("code")
    assert rows.loc["foreign_cpu"].tolist() == ["0.02", 12, 1]
    assert rows.loc["throttled"].tolist() == ["", 12, 0]


def test_a_summary_reads_no_answers(study):
    tables = tables_of(study, runs_only=True)
    pd.testing.assert_frame_equal(tables.runs, tables_of(study).runs)
    assert tables.tasks.empty and tables.windows.empty


@pytest.mark.parametrize("key", ["gaps", "settle", "windows", "tasks", "validity"])
def test_a_record_that_lacks_a_part_is_refused_by_file_and_key(study, key):
    path = study.records[3]
    record = json.loads(path.read_text())
    del record[key]
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match=f"lacks `{key}`") as caught:
        tables_of(study)
    assert str(path) in str(caught.value)


def test_the_settings_of_a_message_are_those_of_the_records(study):
    change(min(study.records), settings__threads=7)
    with pytest.raises(UserError, match=r'"threads": 7}.*"threads": 1}'):
        tables_of(study)


def test_real_records_make_a_row_for_each_run_answer_window_and_reading(either):
    files = [sorted((either / name).rglob("*.json")) for name in ("records", "grades")]
    tables = tabulate(*files, (either / "agreement").glob("*.json"), 267.6, Mixing())
    records = [read_record(path) for path in files[0]]
    assert len(tables.runs) == len(records) == 30
    assert len(tables.tasks) == sum(len(record.tasks) for record in records)
    assert len(tables.windows) == sum(len(record.windows) for record in records)
    whole_j = [record.window("tasks").energy_j.headline_j() for record in records]
    assert tables.runs["gross_energy_j"].tolist() == whole_j
    gaps_j = [record.gaps.energy_j for record in records]
    headline_j = [whole - gaps for whole, gaps in zip(whole_j, gaps_j, strict=True)]
    assert tables.runs["energy_j"].tolist() == pytest.approx(headline_j)
