"""A study whose headline is a meter at the wall, to its article; the plug is emulated and says so.

The runtimes are llama-cpp-python under two names. What reads the plug is real, and so is the way to
it: HTTP with a password, on this machine.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from endless_model import add_endless
from meters.load import Load
from meters.shelly_plug import ShellyPlug
from PIL import Image
from small_study import Tree, built_copy

from joules.meters.polled import LEAST_READINGS

PASSWORD = "ample-Quartz-71"  # planted: nothing that a study writes may hold it
# At every moment more than a processor's model gives, however busy and large the machine is.
LOAD = Load(base_w=1200.0, swing_w=150.0, period_s=17.0, burst_w=0.0)
EVERY_S = 0.1  # a quiet machine answers all tasks within seconds
TOO_SHORT_S = LEAST_READINGS * EVERY_S
MODULE = '''"""llama-cpp-python under another name."""

from joules.runtimes import llama_cpp

Worker = llama_cpp.Worker


class Runtime(llama_cpp.Runtime):
    """See `joules.runtimes.Runtime`."""

    LABEL = "Stand-in"
'''
MODEL = "endless"  # so that a fast machine is not done before the plug was read often enough
STUDY = {
    "models": [MODEL],
    "runtimes": ["llama_cpp", "stand_in"],
    "kinds": ["task", "fixed"],
    "blocks": 1,
    "problems": "all",
    "energy": "wall",
    "require_tier": "measured",
    "settings": {"context_length": 2048, "max_tokens": 240},
    "limits": {"gap_time": 0.001},  # so that it is flagged
}


@pytest.fixture(scope="module")
def plug():
    """A plug that meters a load whose energy is known."""
    with ShellyPlug(LOAD, password=PASSWORD, latency_s=0.03, update_s=0.1) as made:
        yield made


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, plug: ShellyPlug):
    """A copy with the stand-in, whose configuration names the plug."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLUG_PASSWORD", PASSWORD)
        copied = built_copy(tmp_path_factory.mktemp("wall") / "tree")
        built = copied.folder / "resources/runtimes"
        shutil.copytree(built / "llama_cpp", built / "stand_in", symlinks=True)
        module = copied.folder / "workflow/scripts/joules/runtimes/stand_in.py"
        module.write_text(MODULE)
        envs = copied.folder / "envs"
        (envs / "runtime-stand_in.yaml").write_text((envs / "runtime-llama_cpp.yaml").read_text())
        options_file = copied.folder / "config/runtime_options.yaml"
        options = yaml.safe_load(options_file.read_text())
        options["stand_in"] = options["llama_cpp"]
        options_file.write_text(yaml.safe_dump(options))
        entry = {"module": "shelly", "host": plug.address, "password_env": "PLUG_PASSWORD"}
        entry |= {"every_s": EVERY_S}
        add_endless(copied, "parrot-3m", MODEL)
        copied.configure(**STUDY, meters={"wall": entry})
        yield copied


@pytest.fixture(scope="module")
def measured(tree: Tree) -> list[dict]:
    """The records of the study."""
    tree.snakemake("records")
    files = sorted((tree.folder / "results/small/records").rglob("[0-9].json"))
    assert len(files) == 4
    return [json.loads(path.read_text()) for path in files]


@pytest.fixture(scope="module")
def finished(tree: Tree, measured: list[dict]) -> Tree:
    """The study with its article and its archive."""
    tree.snakemake("all")
    return tree


@pytest.fixture(scope="module")
def article(finished: Tree) -> str:
    """The article's text."""
    return (finished.folder / "results/small/article/article.md").read_text()


def test_the_headline_is_what_the_plug_metered_over_the_whole_tasks_window(measured, plug):
    for record in measured:
        assert (record["instrument"]["headline"], record["instrument"]["tier"]) == (
            "wall",
            "measured",
        )
        (tasks,) = (window for window in record["windows"] if window["name"] == "tasks")
        start_s = tasks["start_monotonic_s"]
        end_s = start_s + tasks["duration_s"]
        assert tasks["energy_j"]["wall"] == record["energy_j"] == tasks["energy_own_j"]["wall"]
        ends_w = LOAD.power_w(start_s - plug.started_s) + LOAD.power_w(end_s - plug.started_s)
        within_j = plug.step_j + plug.update_s * ends_w
        assert record["energy_j"] == pytest.approx(plug.true_j(start_s, end_s), abs=within_j)


def test_what_a_plug_cannot_tell_is_left_out_and_not_guessed(measured):
    for record in measured:
        assert all("wall" not in task["energy_j"] for task in record["tasks"])
        assert all(task["prefill_energy_j"] is None for task in record["tasks"])
        idle, *others = (window for window in record["windows"] if window["name"] != "tasks")
        # A busy machine may load a model for so long that the plug can tell.
        short = [idle, *(window for window in others if window["duration_s"] < TOO_SHORT_S)]
        assert all(window["energy_j"]["wall"] is None for window in short)
        assert record["gaps"]["energy_j"] is None and record["gaps"]["share"] is None
        assert record["gaps"]["by_component_j"]["cpu"] > 0
        assert len(record["trace"]["wall_power_w"]) == len(record["trace"]["time_s"])


def test_the_rules_of_the_meter_were_looked_at_and_none_of_them_broke(measured):
    for record in measured:
        checks = {check["code"]: check for check in record["validity"]["checks"]}
        codes = {"meter_unreachable", "stale_reading", "meter_reset", "resolution"}
        codes |= {"too_few_readings"}
        assert all(checks[code]["not_checked"] is None for code in codes)
        assert not codes & {rule["code"] for rule in record["validity"]["codes"]}
        assert checks["gap_time"]["seen"] > 0


def test_every_record_says_what_the_plug_is_and_that_it_is_emulated(measured):
    for record in measured:
        meter = record["instrument"]["meters"]["wall"]
        assert meter["emulated"] and "emulated" in meter["device"]["model"]
        assert meter["readings"] > 20 and meter["round_trip_s"] > 0.02
        assert "127.0.0.1" not in json.dumps(record), "an address is nobody's business"


def test_the_tables_set_the_wall_beside_the_processor(finished, measured):
    folder = finished.folder / "results/small"
    runs = pd.read_parquet(folder / "tables/runs.parquet")
    assert runs["energy_j"].tolist() == runs["energy_wall_j"].tolist()
    assert (runs["energy_wall_j"] > runs["energy_processor_j"]).all()
    assert set(runs["wall_tier"]) == {"measured"} and set(runs["processor_tier"]) == {"estimated"}
    assert runs["meter_emulated"].all()
    tasks = pd.read_parquet(folder / "tables/tasks.parquet")
    assert tasks["energy_j"].isna().all() and (tasks["cpu_energy_j"] > 0).any()
    pairs = pd.read_csv(folder / "statistics/wall_pairs.csv")
    assert pairs[["wall", "processor", "change"]].notna().all().all()


def test_the_article_says_whose_energy_it_is_and_that_the_plug_is_emulated(article):
    first = article.split("## Introduction")[0]
    assert "**Energy is that of the whole machine, at the wall.**" in first
    assert "**The meter is emulated:**" in first and "says itself" in first
    assert "No energy difference is claimed.** The meter is emulated" in first
    assert (
        "by a meter at the wall, Shelly plug (SNPL-00112EU (emulated), firmware 1.1.0)" in article
    )
    assert "No meter at the wall was used" not in article
    assert "no energy per phase is given" in article
    assert "every interval of energy here is over blocks" in article
    assert "over blocks and problems" not in article
    flagged = rf"\*\*Flagged\.\*\* {MODEL} on Stand-in: \d\S*\s% of the time.* limit is 0\.10\s%"
    assert re.search(flagged, article), "the gaps' share of the time"


def test_every_caption_of_energy_says_that_it_is_the_wall_s(article):
    figures = re.findall(r"^!\[(.*?)\]\(", article, re.MULTILINE)
    tables = re.findall(r"^: (.*)$", article, re.MULTILINE)
    said = [each for each in (*figures, *tables) if "energy" in each.lower()]
    assert len(said) > 15
    unnamed = [each for each in said if "The meter is emulated: no real power" not in each]
    of_no_energy = ("The machine and its energy sources", "Rules fixed in advance")
    assert all(each.startswith(of_no_energy) for each in unnamed), unnamed


def test_the_article_sets_processor_and_wall_side_by_side(article, finished):
    section = article.split("### Processor and wall")[1].split("### Noise")[0]
    assert "The processor's energy is modelled here" in section.replace("’", "'")
    assert section.count(f"| {MODEL} | llama-cpp-python |") == 1
    assert "Whether the ranking holds" in section and re.search(r"\| no claim +\|", section)
    picture = finished.folder / "results/small/figures/wall_beside_processor.png"
    assert Image.open(picture).size[0] > 500
    names = {path.stem for path in picture.parent.glob("*.svg")}
    assert "energy_per_task" not in names and "wall_beside_processor" in names


def test_no_file_that_the_study_wrote_holds_the_password(finished, tmp_path):
    folder = finished.folder
    subprocess.run(
        [sys.executable, "-m", "zipfile", "-e", "results/small/archive/small.zip", tmp_path],
        cwd=folder,
        check=True,
    )
    places = [folder, tmp_path]
    files = [path for place in places for path in place.rglob("*") if path.is_file()]
    assert len(files) > 500
    held = [path for path in files if PASSWORD.encode() in path.read_bytes()]
    assert [path for path in held if path.name != Path(__file__).name] == []
    config = next(tmp_path.rglob("config.yaml")).read_text()
    assert yaml.safe_load(config)["meters"] == {"wall": {"module": "shelly", "every_s": EVERY_S}}


def test_the_doctor_reads_the_plug_live(tree):
    done = subprocess.run(
        [sys.executable, "-P", "-m", "joules.commands.doctor", "small.yaml"],
        cwd=tree.folder,
        env=os.environ | {"PYTHONPATH": "workflow/scripts"},
        capture_output=True,
        text=True,
    )
    assert re.search(
        r"ok +meter wall +Shelly plug \(SNPL-00112EU \(emulated\), 1\.1\.0\): wall, \d+\.\d W, "
        r"smallest step \d+(\.\d+)? J, 3\.6 J stated, a new value every \d\.\d s, "
        r"round trip \d+ ms",
        done.stdout,
    )
    assert re.search(r"note +meter wall +it is emulated", done.stdout)
    assert PASSWORD not in done.stdout + done.stderr
