"""The real study on a small slice: what it leaves, what makes it stale, what is repeated."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import jsonschema
import pandas as pd
import psutil
import pytest
import yaml
from invented_claims import SECTIONS
from running_study import held_in_a_run, left_after
from small_study import clean_copy

from joules.core.paths import figures_of
from joules.core.plan import plan
from joules.runtimes import load

RESULTS = "results/small"
MODELS, RUNTIMES = ("parrot-1m", "parrot-3m"), ("ollama", "llama_cpp")
RUNS = 12  # two models, two runtimes and a control, two blocks


def records(tree):
    return {
        path.relative_to(tree.folder / RESULTS / "records"): json.loads(path.read_text())
        for path in sorted((tree.folder / RESULTS / "records").rglob("[0-9].json"))
    }


# What the run leaves ---------------------------------------------------------------------------


def test_the_study_ends_in_an_article_as_pdf_and_html(finished):
    article = finished.folder / RESULTS / "article"
    assert (article / "article.pdf").read_bytes().startswith(b"%PDF-")
    html = (article / "article.html").read_text()
    assert "<title>Comparing the energy efficiency" in html
    text = (article / "article.md").read_text()
    for section in SECTIONS:
        assert re.search(rf"^## {section}", text, re.MULTILINE), section
    figures = finished.folder / RESULTS / "figures"
    for stem in ("energy_per_token", "energy_per_task", "energy_by_window", "energy_per_correct"):
        for kind in ("svg", "pdf", "png"):
            assert (figures / f"{stem}.{kind}").stat().st_size > 1000


def test_every_stored_file_fits_its_schema(finished):
    folders = {
        "record": "records",
        "grade": "grades",
        "agreement": "agreement",
        "warm_up": "warm_up",
    }
    for kind, folder in folders.items():
        schema = yaml.safe_load(
            (finished.folder / f"workflow/schemas/{kind}.schema.yaml").read_text()
        )
        files = list((finished.folder / RESULTS / folder).rglob("*.json"))
        assert files
        for path in files:
            jsonschema.validate(json.loads(path.read_text()), schema)


def test_every_record_holds_its_windows_and_its_tasks_without_the_gaps(finished):
    found = records(finished)
    assert len(found) == RUNS
    for record in found.values():
        imports = ["import"] if load(record["runtime"]["name"]).IMPORTS else []
        assert [window["name"] for window in record["windows"]] == [
            "idle_cold",
            *imports,
            "load",
            "idle_resident",
            "settle",
            "tasks",
            "idle_after",
        ]
        assert len(record["tasks"]) == 5
        assert record["energy_j"] > 0
        tasks_window = record["windows"][-2]
        gross_j = (tasks_window["energy_j"]["cpu"] or 0) + (tasks_window["energy_j"]["gpu"] or 0)
        assert record["energy_j"] == pytest.approx(gross_j - record["gaps"]["energy_j"], rel=1e-6)
        assert record["page_cache_warmed"] is True
        assert all(task["overhead_s"] > 0 for task in record["tasks"])
        assert record["generated_tokens"] == sum(t["generated_tokens"] for t in record["tasks"])
        assert record["instrument"]["tier"] in ("measured", "sampled", "estimated")
        assert record["model"]["sha256"] == record["runtime"]["facts"].get(
            "blob_sha256", record["model"]["sha256"]
        )
        for window in record["windows"]:
            assert window["energy_j"]["cpu"] is not None


def test_the_records_prove_the_seeded_order_of_complete_blocks(finished):
    runs = plan(MODELS, RUNTIMES, ["task", "control"], 2, 20261125)
    actual = sorted(
        records(finished).values(),
        key=lambda record: record["windows"][0]["start_monotonic_s"],
    )
    order = [(r["model"]["name"], r["runtime"]["name"], r["kind"], r["repetition"]) for r in actual]
    assert order == [tuple(run) for run in runs]
    assert [r["position"]["actual"] for r in actual] == list(range(1, RUNS + 1))
    assert [r["position"]["planned"] for r in actual] == list(range(1, RUNS + 1))
    assert len({r["session"] for r in actual}) == 1


def test_no_run_and_no_grading_overlapped_a_run(finished):
    spans = sorted(
        (
            record["windows"][0]["start_monotonic_s"],
            record["windows"][-1]["start_monotonic_s"] + record["windows"][-1]["duration_s"],
        )
        for record in records(finished).values()
    )
    assert all(earlier[1] <= later[0] for earlier, later in zip(spans, spans[1:], strict=False))


def test_both_runtimes_read_the_same_prompts_and_some_answers_pass(finished):
    for model in MODELS:
        agreement = json.loads((finished.folder / RESULTS / f"agreement/{model}.json").read_text())
        assert agreement["passed"] is True
        assert agreement["runtimes"] == list(RUNTIMES)
    runs = pd.read_parquet(finished.folder / RESULTS / "tables/runs.parquet")
    assert len(runs) == RUNS
    assert runs["passed"].sum() > 0
    assert (runs["passed"] <= runs["graded"]).all()
    counts = runs.groupby(["model"])["prompt_tokens"].nunique()
    assert (counts == 1).all()


def test_progress_is_seen_and_logged(finished):
    shown = finished.output.stdout + finished.output.stderr
    assert re.search(r"run 1 of 12: \S+, \S+, \w+, block 1; 12 runs to go", shown)
    assert re.search(r"run 12 of 12: .*measuring ends about [\d-]* ?\d\d:\d\d", shown)
    log = finished.folder / "logs/small/measure/parrot-1m/ollama/task/1.log"
    assert re.search(r"run \d+ of 12: parrot-1m, ollama, task: done in", log.read_text())


def test_the_journal_holds_every_finished_record(finished):
    kept = {p.read_bytes() for p in (finished.folder / RESULTS / "journal").glob("*.json")}
    made = {p.read_bytes() for p in (finished.folder / RESULTS / "records").rglob("[0-9].json")}
    assert made <= kept


def test_claims_say_what_five_tasks_and_two_blocks_can_show(finished):
    found = json.loads((finished.folder / RESULTS / "claims.json").read_text())
    assert found["permission"]["energy_difference"] is False
    ratio = found["claims"]["pair.parrot-1m.ollama.llama_cpp.ratio"]
    assert ratio["value"] > 0
    assert ratio["low"] < ratio["value"] < ratio["high"]
    assert found["permission"]["smallest_p"] == 0.5


def test_the_archive_holds_what_a_reviewer_needs(finished):
    with zipfile.ZipFile(finished.folder / RESULTS / "archive/small.zip") as content:
        names = set(content.namelist())
    assert {"config.yaml", "machine.yaml", "schedule.csv", "SHA256SUMS"} <= names
    assert sum(name.startswith("records/") for name in names) == RUNS
    assert sum(name.startswith("grades/") for name in names) == RUNS


def standing(tree, claims=f"{RESULTS}/claims.json"):
    registration = json.loads((tree.folder / claims).read_text())["study"]["registration"]
    return registration["confirmatory"], registration["differs"]


def test_the_first_run_registered_the_plan_and_every_record_carries_it(finished):
    file = json.loads((finished.folder / RESULTS / "registration.json").read_text())
    assert {json.dumps(record["registration"]) for record in records(finished).values()} == {
        json.dumps(file["registered"])
    }
    assert file["plan"]["blocks"] == 2
    starts = [record["windows"][0]["start_wall"] for record in records(finished).values()]
    assert file["registered"]["registered_on"][:19] <= min(starts)[:19]
    schema = finished.folder / "workflow/schemas/registration.schema.yaml"
    jsonschema.validate(file, yaml.safe_load(schema.read_text()))
    assert standing(finished) == (True, [])


def test_what_is_analysed_otherwise_than_registered_is_named_and_nothing_is_measured(tree):
    claims = f"{RESULTS}/claims.json"
    measured = records(tree)
    tree.configure(mixed_runtimes="state", contrasts=[["llama_cpp", "ollama"]])
    code = tree.folder / "workflow/scripts/joules/analyse/pairs.py"
    code.write_text(code.read_text() + "\n# A comment.\n")
    assert not MEASURED & tree.planned(claims).keys()
    tree.snakemake(claims)
    assert standing(tree) == (False, ["the limits", "the code of the analysis"])
    assert records(tree) == measured


def test_the_archive_of_a_study_is_as_confirmatory_as_the_study(tree):
    command = [sys.executable, "-P", "-m", "joules.commands.import_campaign"]
    subprocess.run(
        [*command, f"{RESULTS}/archive/small.zip", "data/measurements"],
        cwd=tree.folder,
        env=os.environ | {"PYTHONPATH": "workflow/scripts"},
        check=True,
    )
    registered = (tree.folder / RESULTS / "registration.json").read_bytes()
    assert (tree.folder / "data/measurements/small/registration.json").read_bytes() == registered
    claims = "results/archive/small/claims.json"
    source = "measurements={source: archive, campaign: small}"
    subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "1", "--config", source, "--", claims],
        cwd=tree.folder,
        check=True,
    )
    assert standing(tree, claims) == (True, [])


def test_nothing_is_left_running(finished):
    assert left_after(0.0, finished.folder) == []


def test_snakemakes_report_shows_every_figure_and_table_and_calls_nobody(tree):
    tree.snakemake("--report", "report.zip")
    with zipfile.ZipFile(tree.folder / "report.zip") as content:
        names = content.namelist()
        page = content.read(next(n for n in names if n.endswith("report.html"))).decode()
    for stem in figures_of(tree.folder / "workflow/scripts/joules", False, False):
        assert any(name.endswith(f"{stem}.svg") for name in names), stem
    for table in ("cells", "comparisons", "quality", "drift"):
        assert f"{table}.csv" in page or any(f"{table}.csv" in name for name in names), table
    outside = re.findall(r"(?:src|href)=\"https?://[^\"]*\"", page)
    assert not outside


# What makes it stale ---------------------------------------------------------------------------


def test_a_finished_study_has_nothing_to_do(tree):
    assert tree.planned("all") == {}


@pytest.mark.parametrize(
    "name",
    [
        "workflow/scripts/measure.py",
        "workflow/scripts/fetch_model.py",
        "workflow/scripts/warm_up.py",
        "workflow/scripts/joules/measure/protocol.py",
        "workflow/scripts/joules/runtimes/ollama.py",
    ],
)
def test_a_comment_in_the_measuring_code_measures_nothing(tree, name):
    path = tree.folder / name
    path.write_text(path.read_text() + "\n# A comment.\n")
    jobs = tree.planned("all")
    assert "measure" not in jobs
    assert "warm_up" not in jobs


MEASURED = {
    "fetch_model",
    "provide_runtime",
    "write_prompts",
    "warm_up",
    "agree",
    "measure",
    "grade",
}


@pytest.mark.parametrize(
    ("module", "again", "not_again"),
    [
        ("core/units.py", {"tabulate", "compare", "claim", "plot", "typeset"}, set()),
        ("analyse/comparison.py", {"tabulate", "compare", "claim"}, {"archive"}),
        ("draw/style.py", {"plot", "typeset"}, {"tabulate", "compare", "claim", "archive"}),
        ("write/rendering.py", {"claim", "write_article"}, {"tabulate", "compare", "plot"}),
        ("runtimes/ollama.py", {"write_article"}, {"tabulate", "compare", "claim", "plot"}),
    ],
)
def test_an_edit_runs_what_it_must_and_no_more(tree, module, again, not_again):
    path = tree.folder / "workflow/scripts/joules" / module
    path.write_text(path.read_text() + "\n# A comment.\n")
    jobs = tree.planned("all")
    assert again <= jobs.keys()
    assert not {*MEASURED, *not_again} & jobs.keys()


def test_taking_off_that_it_is_a_demonstration_repeats_no_statistics(tree):
    tree.configure(demonstration=False)
    jobs = tree.planned("all")
    assert {"claim", "plot", "write_article"} <= jobs.keys()
    assert not {*MEASURED, "tabulate", "compare"} & jobs.keys()


def test_a_changed_setting_measures_everything_again(tree):
    tree.configure(settings={"max_tokens": 64})
    jobs = tree.planned("all")
    assert jobs["measure"] == RUNS
    assert jobs["grade"] == RUNS
    assert jobs["warm_up"] == 4


def test_a_changed_limit_of_the_protocol_measures_everything_again(tree):
    tree.configure(windows={"preflight_s": 0.2, "idle_s": 0.4, "rest_s": 0})
    assert tree.planned("all")["measure"] == RUNS


def test_a_new_block_measures_only_itself(tree):
    tree.configure(blocks=3)
    jobs = tree.planned("all")
    assert jobs["measure"] == jobs["grade"] == 6
    assert "warm_up" not in jobs
    assert "agree" not in jobs


def test_a_new_runtime_measures_only_itself(tree):
    runtimes = tree.folder / "workflow/scripts/joules/runtimes"
    shutil.copy(runtimes / "llama_cpp.py", runtimes / "third.py")
    options = yaml.safe_load((tree.folder / "config/runtime_options.yaml").read_text())
    tree.configure(
        runtimes=["ollama", "llama_cpp", "third"],
        runtime_options={"third": options["llama_cpp"]},
    )
    done = tree.snakemake("--dry-run", "all")
    record = rf"output: {RESULTS}/records/(\S+)/(\S+)/(\S+)/\d+\.json"
    again = re.findall(record, done.stdout + done.stderr)
    assert {runtime for _, runtime, _ in again} == {"third"}
    assert sum(kind == "task" for _, _, kind in again) == 4
    jobs = tree.planned("all")
    assert jobs["measure"] == jobs["grade"] == len(again)
    assert jobs["warm_up"] == 2
    assert jobs["agree"] == 2


def test_a_new_model_measures_only_itself(tree):
    catalogue = tree.folder / "config/models.yaml"
    content = yaml.safe_load(catalogue.read_text())
    content["models"]["third"] = content["models"]["parrot-1m"]
    catalogue.write_text(yaml.safe_dump(content))
    tree.configure(models=["parrot-1m", "parrot-3m", "third"])
    jobs = tree.planned("all")
    assert jobs["measure"] == jobs["grade"] == 6
    assert jobs["fetch_model"] == 1
    assert jobs["warm_up"] == 2


def test_a_second_study_in_the_same_clone_leaves_the_first_alone(tree):
    (tree.folder / "other.yaml").write_text(
        yaml.safe_dump(
            yaml.safe_load((tree.folder / "small.yaml").read_text())
            | {"study": "other", "settings": {"max_tokens": 32}, "trust_on_first_use": True}
        )
    )
    jobs = tree.planned("--configfile", "other.yaml", "--", "all")
    assert jobs["measure"] == RUNS
    assert not {"fetch_model", "provide_runtime"} & jobs.keys()
    tree.snakemake("--configfile", "other.yaml", "--", "results/other/prompts/parrot-1m.jsonl")
    assert tree.planned("all") == {}


def test_one_model_can_be_measured_again_and_nothing_else(tree):
    summary = f"{RESULTS}/models/parrot-1m/summary.csv"
    jobs = tree.planned("--forcerun", "measure", "--", summary)
    assert jobs == {"measure": 6, "grade": 6, "summarise_model": 1}
    before = records(tree)
    tree.snakemake("--forcerun", "measure", "--", summary)
    after = records(tree)
    for path, record in after.items():
        assert (record != before[path]) == (path.parts[0] == "parrot-1m"), path
    jobs = tree.planned("all")
    assert "tabulate" in jobs
    assert "typeset" in jobs
    assert not {"measure", "warm_up", "agree", "fetch_model", "provide_runtime"} & jobs.keys()


# What must not be lost -------------------------------------------------------------------------


def test_a_failed_repetition_leaves_the_old_record_in_the_journal(tree):
    record = f"{RESULTS}/records/parrot-1m/llama_cpp/task/1.json"
    content = (tree.folder / record).read_bytes()
    agreement = tree.folder / RESULTS / "agreement/parrot-1m.json"
    agreement.write_text(agreement.read_text().replace('"passed": true', '"passed": false'))
    done = tree.snakemake("--forcerun", "measure", "--", record, check=False)
    assert done.returncode != 0
    assert "the arms do not agree" in done.stdout + done.stderr
    assert content in [p.read_bytes() for p in (tree.folder / RESULTS / "journal").glob("*.json")]


def test_a_runtime_that_is_killed_mid_run_ends_the_run_by_name_and_loses_nothing(tree):
    record = f"{RESULTS}/records/parrot-1m/llama_cpp/task/1.json"
    content = (tree.folder / record).read_bytes()
    others = {path: kept for path, kept in records(tree).items() if str(path) not in record}
    process = tree.started("--forcerun", "measure", "--", record)
    killed = False
    while process.poll() is None and not killed:
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "joules.runtimes.shared.worker" in child.cmdline():
                    child.send_signal(signal.SIGSEGV)
                    killed = True
        time.sleep(0.02)
    shown = process.communicate()[0]
    assert killed
    assert process.returncode != 0
    assert re.search(r"error: llama-cpp-python was ended by SIGSEGV while it ran parrot-1m", shown)
    assert {path: kept for path, kept in records(tree).items() if path in others} == others
    assert content in [p.read_bytes() for p in (tree.folder / RESULTS / "journal").glob("*.json")]


def test_a_killed_workflow_leaves_no_server_and_goes_on_where_it_was(tree):
    tree.configure(blocks=3)
    process = tree.started("all")
    assert process.stdout
    for line in process.stdout:
        if re.search(r"run 1[34] of 18", line):
            break
    measuring = held_in_a_run(tree, process)
    finished_before = records(tree)
    process.kill()
    process.wait()
    measuring.resume()
    assert left_after(20.0, tree.folder) == []
    assert all(records(tree)[path] == record for path, record in finished_before.items())
    tree.snakemake("--unlock")
    jobs = tree.planned("all")
    assert jobs["measure"] == 18 - len(finished_before)


# The reviewer's way ----------------------------------------------------------------------------


def rebuilt(finished: object, folder: Path) -> dict[str, bytes]:
    """Rebuild from an archive in a fresh copy; return what was made."""
    tree = clean_copy(folder)
    archive = finished.folder / RESULTS / "archive/small.zip"
    scripts = str(tree.folder / "workflow/scripts")
    subprocess.run(
        [
            *(sys.executable, "-P", "-m", "joules.commands.import_campaign"),
            *(str(archive), "data/measurements"),
        ],
        cwd=tree.folder,
        env={"PYTHONPATH": scripts, "PATH": "/usr/bin:/bin"},
        check=True,
    )
    tree.snakemake(
        "--configfile",
        "config/config.yaml",
        "--config",
        "measurements={source: archive, campaign: small}",
        "--",
        "all",
    )
    made = tree.folder / "results/archive/small"
    jobs = tree.folder / "resources"
    assert not jobs.exists(), "no model and no runtime is touched"
    return {
        str(path.relative_to(made)): path.read_bytes()
        for folder_ in ("tables", "statistics", "figures", "article")
        for path in sorted((made / folder_).rglob("*"))
        if path.is_file()
    } | {"claims.json": (made / "claims.json").read_bytes()}


def test_a_reviewer_rebuilds_identical_bytes_without_model_runtime_or_meter(finished, tmp_path):
    one = rebuilt(finished, tmp_path / "one")
    two = rebuilt(finished, tmp_path / "two")
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []
    original = finished.folder / RESULTS
    assert [name for name in one if one[name] != (original / name).read_bytes()] == []
    assert {"article/article.pdf", "article/article.html", "figures/ratios.svg"} <= one.keys()
