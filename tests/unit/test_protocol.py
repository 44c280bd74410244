"""One run as a state machine, on a scripted runtime: what real ones cannot be made to do."""

import dataclasses
import json

import jsonschema
import pytest
import yaml
from scripted import REPOSITORY, RULES, SETTINGS, STRICT, Scripted, run

from joules import campaign
from joules.errors import UserError


def test_all_six_windows_come_in_order_and_every_prompt_is_flushed_before(tmp_path):
    runtime = Scripted()
    parts, _ = run(runtime, tmp=tmp_path)
    assert [w["name"] for w in parts["windows"]] == [
        "idle_cold",
        "load",
        "idle_resident",
        "settle",
        "tasks",
        "idle_after",
    ]
    starts = [w["start_monotonic_s"] for w in parts["windows"]]
    assert starts == sorted(starts)
    sent = runtime.sent[1:]
    assert all(text == "~" for text in sent[::2])
    assert "~" not in sent[1::2]
    assert sent[-6:] == ["~", "def f0", "~", "def f1", "~", "def f2"]
    assert runtime.stopped == 1
    assert parts["generated_tokens"] == 12
    assert parts["prompt_tokens"] == 9
    assert [t["retokenised_tokens"] for t in parts["tasks"]] == [3, 3, 3]


def test_the_record_fits_its_schema(tmp_path):
    parts, measured = run(Scripted(), tmp=tmp_path)
    parts.pop("runtime_facts")
    record = {
        "schema": 2,
        "study": "s",
        "campaign": "c",
        "model": {"name": "m", "sha256": "0" * 64, "parameters": 1, "quantization": "Q8_0"},
        "runtime": {"name": "scripted", "label": "Scripted", "facts": {}, "cannot_hold": []},
        "kind": "task",
        "repetition": 1,
        "position": {"planned": 1, "actual": 1},
        "session": campaign.session_id(),
        "attempts": 1,
        "protocol": "base-unchanged",
        "settings": dataclasses.asdict(SETTINGS),
        "instrument": measured.facts(),
        **parts,
    }
    schema = REPOSITORY / "workflow/schemas/record.schema.yaml"
    jsonschema.validate(json.loads(json.dumps(record)), yaml.safe_load(schema.read_text()))


def test_another_prompt_count_ends_the_run_and_shows_both(tmp_path):
    runtime = Scripted(miscount=1)
    with pytest.raises(UserError, match=r"counted 3 prompt tokens.*tokenizer 2"):
        run(runtime, tmp=tmp_path)
    assert runtime.stopped == 1


def test_a_setting_that_is_not_in_force_ends_the_run(tmp_path):
    runtime = Scripted(in_force={"threads": 8, "batch_size": 512})
    with pytest.raises(UserError, match=r"threads: asked 1, got 8"):
        run(runtime, tmp=tmp_path)
    assert runtime.stopped == 1


def test_an_aborted_answer_is_kept_and_counted_again(tmp_path):
    runtime = Scripted(
        finish_reason="aborted_by_runtime", counts_known=False, prompt_tokens=0, generated_tokens=0
    )
    parts, _ = run(runtime, count=lambda texts: [[7] * 31] * len(texts), tmp=tmp_path)
    assert {t["generated_tokens"] for t in parts["tasks"]} == {31}
    assert {t["finish_reason"] for t in parts["tasks"]} == {"aborted_by_runtime"}
    assert parts["prompt_tokens"] == 9


def test_an_aborted_answer_that_cannot_be_counted_ends_the_run(tmp_path):
    runtime = Scripted(finish_reason="aborted_by_runtime", counts_known=False)
    with pytest.raises(UserError, match="could not be counted again"):
        run(runtime, count=lambda texts: None, tmp=tmp_path)


def test_a_run_is_not_lost_when_its_answers_cannot_be_counted_again(tmp_path):
    said: list[str] = []
    broken = tmp_path / "m.gguf"
    broken.write_bytes(b"no model")
    counted = campaign.read_again(broken, ["def f():"], said.append)
    assert counted is None
    assert "answers are not counted again" in said[0]
    parts, _ = run(Scripted(), count=lambda texts: counted, tmp=tmp_path)
    assert [t["retokenised_tokens"] for t in parts["tasks"]] == [None, None, None]


def test_what_does_not_settle_is_flagged(tmp_path):
    rules = dataclasses.replace(RULES, settle_limit=1e-9)
    parts, _ = run(Scripted(), rules=rules, tmp=tmp_path)
    assert parts["settle"]["settled"] is False
    assert "not_settled" in [code["code"] for code in parts["validity"]["codes"]]
    assert parts["validity"]["valid"] is True, "the demonstration flags"
    strict = dataclasses.replace(STRICT, settle_limit=1e-9)
    parts, _ = run(Scripted(), rules=strict, tmp=tmp_path)
    codes = {code["code"]: code["invalidates"] for code in parts["validity"]["codes"]}
    assert codes["not_settled"] is False, "a run that does not settle is not repeated"


def test_a_required_setting_that_a_runtime_cannot_hold_is_refused_by_name(monkeypatch):
    class Weak(Scripted):
        CANNOT_HOLD = frozenset({"seed", "ignore_eos"})

    monkeypatch.setattr(campaign, "load", lambda name: Weak)
    campaign.check_require("weak", [], SETTINGS)
    with pytest.raises(UserError, match=r"runtime weak cannot hold seed"):
        campaign.check_require("weak", ["seed"], SETTINGS)
    with pytest.raises(UserError, match=r"ignore_eos"):
        campaign.check_require("weak", [], dataclasses.replace(SETTINGS, ignore_eos=True))


def test_an_agreement_that_is_missing_failed_or_of_other_settings_is_refused(tmp_path):
    path = tmp_path / "m.json"
    with pytest.raises(UserError, match="is missing"):
        campaign.check_agreement(path, "a", SETTINGS)
    good = {
        "passed": True,
        "problems": [],
        "runtimes": ["a"],
        "settings": dataclasses.asdict(SETTINGS),
    }
    path.write_text(json.dumps(good | {"passed": False, "problems": ["a read 3"]}))
    with pytest.raises(UserError, match="a read 3"):
        campaign.check_agreement(path, "a", SETTINGS)
    path.write_text(json.dumps(good))
    campaign.check_agreement(path, "a", SETTINGS)
    with pytest.raises(UserError, match="does not name the runtime b"):
        campaign.check_agreement(path, "b", SETTINGS)
    with pytest.raises(UserError, match="other settings"):
        campaign.check_agreement(path, "a", dataclasses.replace(SETTINGS, threads=2))


def test_a_finished_record_stays_in_the_journal_when_its_output_is_deleted(tmp_path):
    record = tmp_path / "1.json"
    record.write_text("{}")
    kept = campaign.keep(record, tmp_path / "journal")
    record.unlink()
    assert kept.read_text() == "{}"
    record.write_text("{}")
    assert campaign.keep(record, tmp_path / "journal") == kept


def test_actual_positions_count_the_runs_started(tmp_path):
    run_ = campaign.Run("m", "a", "task", 1)
    assert [campaign.actual_position(tmp_path / "j", run_) for _ in range(3)] == [1, 2, 3]


def test_the_end_of_measuring_is_foretold_from_the_runs_so_far(tmp_path):
    runs = [campaign.Run("m", "a", "task", b) for b in (1, 2, 3)]
    folder = tmp_path / "m/a/task"
    folder.mkdir(parents=True)
    (folder / "1.json").write_text("{}")
    assert campaign.remaining(tmp_path, runs, []) == "2 runs to go"
    assert "measuring ends about" in campaign.remaining(tmp_path, runs, [10.0])
