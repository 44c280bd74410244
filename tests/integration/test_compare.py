"""Campaigns compared by the command: real archives, equal bytes, refusals that name a cause."""

import hashlib
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from campaigns import write_archive, write_campaign
from demonstration_campaigns import COMMITTED, checkout_of

from joules.analyse.campaign import read_campaign
from joules.analyse.pooling import pooled
from joules.commands import compare

TRUTH, TAU = -0.15, 0.02
FILES = {
    *("index.html", "campaigns.csv", "energy.csv", "ratios.csv", "means.csv"),
    *("differences.csv", "forest.svg", "forest.pdf", "forest.png"),
}


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def copied(folder: Path, name: str, edit=lambda record: None, config=lambda text: text) -> Path:
    """Copy the committed campaign, each record edited, with sums of the copy."""
    made = folder / name
    shutil.copytree(COMMITTED, made)
    for path in (made / "records").rglob("*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        record["campaign"] = name
        edit(record)
        path.write_text(json.dumps(record), encoding="utf-8")
    file = made / "config.yaml"
    file.write_text(config(file.read_text(encoding="utf-8")), encoding="utf-8")
    for path in (made / "grades").rglob("*.json"):
        grade = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**grade, "campaign": name}), encoding="utf-8")
    sums = made / "SHA256SUMS"
    files = sorted(each for each in made.rglob("*") if each.is_file() and each != sums)
    lines = [
        f"{hashlib.sha256(each.read_bytes()).hexdigest()}  {each.relative_to(made).as_posix()}\n"
        for each in files
    ]
    sums.write_text("".join(lines), encoding="utf-8")
    return made


def on_cpu(cpu: str):
    def edit(record):
        record["environment"]["before"]["machine"]["cpu"] = cpu

    return edit


@pytest.fixture(scope="module")
def labs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Ten campaigns on machines of their own, whose true log ratios are TRUTH and TAU around it."""
    folder, rng = tmp_path_factory.mktemp("labs"), np.random.default_rng(7)
    effects = TRUTH + rng.normal(0, TAU, 10)
    return [
        write_campaign(folder, f"lab-{n}", log_ratio=float(effect), seed=n + 21)
        for n, effect in enumerate(effects)
    ]


def test_the_committed_campaign_alone_claims_nothing_and_says_why(tmp_path, capsys):
    assert compare.main([COMMITTED.name, str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "0 of 1 may be averaged, 3 are needed" in said
    assert f"{COMMITTED.name} carries no claim. It is a demonstration study." in said
    assert set(bytes_of(tmp_path / "out")) == FILES
    page = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    assert "Of 1 campaign, 0 may claim a difference in energy" in page


def test_a_ratio_is_that_of_the_campaigns_own_article(tmp_path, either):
    compare.compare_campaigns({either.name: either}, tmp_path)
    own = read_campaign(either.name, checkout_of(either))
    ratios = pd.read_csv(tmp_path / "ratios.csv")
    assert list(ratios["ratio"]) == pytest.approx(list(own.ratios["ratio"]), rel=1e-8)
    runs = {}
    for path in (either / "records/parrot-1m").glob("*/task/*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        headline_j = record["energy_j"]
        if record["schema"] == 2:
            headline_j -= record["gaps"]["energy_j"]  # it states them inside
        key = (record["runtime"]["name"], record["repetition"])
        runs[key] = math.log(headline_j / record["generated_tokens"])
    d = [runs["llama_cpp", block] - runs["ollama", block] for block in range(1, 6)]
    assert ratios["ratio"][0] == pytest.approx(math.exp(np.mean(d)), rel=1e-8)


def test_ten_machines_of_known_truth_give_it_back(labs, tmp_path):
    places = {place.name: place for place in labs}
    tables = compare.compare_campaigns(places, tmp_path)
    [mean] = tables.means.itertuples()
    assert mean.machines == 10 and mean.approximate == "no"
    assert mean.ratio_low < math.exp(TRUTH) < mean.ratio_high
    assert mean.prediction_low < mean.ratio_low and mean.ratio_high < mean.prediction_high
    assert 0.5 * TAU < mean.tau < 2 * TAU
    ratios = pd.read_csv(tmp_path / "ratios.csv")
    variances = ratios["sd_log_ratio"] ** 2 / ratios["n_blocks"]
    again = pooled(np.log(ratios["ratio"]), variances)
    assert mean.ratio == pytest.approx(again.ratio, rel=1e-7)
    assert "mean" not in " ".join(pd.read_csv(tmp_path / "energy.csv").columns)


def test_equal_campaigns_give_equal_bytes_however_they_are_named(labs, tmp_path, capsys):
    archive = write_archive(tmp_path, "zipped", log_ratio=TRUTH, seed=99)
    one, two = tmp_path / "one", tmp_path / "two"
    named = [*map(str, labs[:3]), COMMITTED.name, str(archive)]
    assert compare.main([",".join(named), str(one)]) == 0
    turned = [str(archive), str(COMMITTED), *(f"{lab}/" for lab in labs[2::-1])]
    assert compare.main([", ".join(turned), str(two)]) == 0
    assert bytes_of(one) == bytes_of(two)
    assert "mean ratio" in capsys.readouterr().out


def test_copies_that_differ_are_told_apart_and_their_difference_is_named(tmp_path, capsys):
    same = copied(tmp_path, "another-machine", on_cpu("Another CPU"))
    longer = copied(
        *(tmp_path, "longer-settling", on_cpu("Third CPU")),
        lambda text: text.replace("seconds: 2.0\n", "seconds: 30\n"),
    )
    named = ",".join([COMMITTED.name, str(same), str(longer)])
    assert compare.main([named, str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "2 protocols, not averaged together. They differ in: settle.seconds." in said
    differences = pd.read_csv(tmp_path / "out/differences.csv", dtype=str)
    own = differences[differences["model"] == "parrot-1m"]
    assert list(own["value"]) == ["2", "30"]
    assert list(own["campaigns"]) == [f"another-machine, {COMMITTED.name}", "longer-settling"]


def test_records_of_another_schema_are_another_protocol(older, tmp_path, capsys):
    named = f"{COMMITTED.name},{older}"
    assert compare.main([named, str(tmp_path / "out")]) == 0
    assert "2 protocols, not averaged together." in capsys.readouterr().out
    differences = pd.read_csv(tmp_path / "out/differences.csv", dtype=str)
    own = differences[(differences["model"] == "parrot-1m") & (differences["part"] == "record")]
    assert dict(zip(own["campaigns"], own["value"], strict=True)) == {
        COMMITTED.name: "version 3",
        older.name: "version 2",
    }


def test_a_busy_machine_is_shown_and_in_no_mean(labs, tmp_path, capsys):
    busy = write_campaign(tmp_path, "busy", log_ratio=0.5, seed=30, busy=True)
    assert compare.main([",".join(map(str, [*labs[:3], busy])), str(tmp_path / "out")]) == 0
    assert "busy carries no claim" in capsys.readouterr().out
    ratios = pd.read_csv(tmp_path / "out/ratios.csv").set_index("campaign")
    assert ratios.loc["busy", "left_out"] == "no claim" and ratios.loc["busy", "ratio"] > 1.5
    assert "cpu_busy in" in ratios.loc["busy", "no_claim_reason"]
    [mean] = pd.read_csv(tmp_path / "out/means.csv").itertuples()
    assert (mean.campaigns, mean.machines) == (4, 3) and mean.ratio < 1


def test_the_same_runs_under_two_names_are_refused(tmp_path, capsys):
    twin = tmp_path / "twin"
    shutil.copytree(COMMITTED, twin)
    assert compare.main([f"{COMMITTED.name},{twin}", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert f"{COMMITTED.name} and twin hold the same runs" in said
    assert not (tmp_path / "out").exists()


def test_a_campaign_that_is_not_what_was_archived_is_refused_by_its_file(tmp_path, capsys):
    broken = tmp_path / "broken"
    shutil.copytree(COMMITTED, broken)
    (broken / "schedule.csv").write_text("", encoding="utf-8")
    assert compare.main([str(broken), str(tmp_path / "out")]) == 1
    assert "schedule.csv has changed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("no-such-campaign", COMMITTED.name),
        ("no-such-file.zip", "does not exist"),
        (f"{COMMITTED.name},{COMMITTED}", "two campaigns called"),
    ],
)
def test_what_is_no_campaign_is_refused_with_what_would_be_one(given, said, tmp_path, capsys):
    assert compare.main([given, str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: CAMPAIGNS has") and said in error


def test_without_names_all_committed_campaigns_are_compared():
    assert COMMITTED.name in compare.places_of("")
