"""Where a finished record goes, and which study of fixed length may start."""

import json
import os

import pytest

from joules import campaign
from joules.errors import UserError
from joules.warm_up import check_fixed

SETTINGS = {
    "context_length": 512,
    "threads": 1,
    "batch_size": 64,
    "micro_batch_size": 64,
    "flash_attention": False,
    "gpu_layers": 0,
    "seed": 1,
    "max_tokens": 8,
}


def warm_up(runtime, reason="limit", **more):
    answers = [{"task_id": "HumanEval/0", "finish_reason": reason}]
    return {"model": "m", "runtime": runtime, "settings": SETTINGS, "answers": answers, **more}


def test_a_finished_record_lies_in_its_place_and_in_the_journal_once(tmp_path):
    place = tmp_path / "records/m/r/task/1.json"
    campaign.finish({"a": 1}, place, tmp_path / "journal")
    (kept,) = (tmp_path / "journal").iterdir()
    assert json.loads(place.read_text()) == {"a": 1}
    assert os.path.samefile(kept, place)


def test_a_kill_just_before_the_record_is_in_its_place_finds_it_in_the_journal(
    tmp_path, monkeypatch
):
    place, journal = tmp_path / "records/1.json", tmp_path / "journal"
    replace = os.replace

    def killed_at_the_record(source, target):
        if target == place:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed_at_the_record)
    with pytest.raises(KeyboardInterrupt):
        campaign.finish({"a": 1}, place, journal)
    assert not place.exists()
    assert [json.loads(each.read_text()) for each in journal.glob("*.json")] == [{"a": 1}]


def test_fixed_length_is_refused_by_the_name_of_the_runtime_that_cannot_ignore_the_end():
    check_fixed([warm_up("ollama"), warm_up("llama_cpp")], ["task", "control"])
    check_fixed([warm_up("llama_cpp")], ["fixed"])
    with pytest.raises(UserError, match=r"The runtime ollama cannot hold ignore_eos.*never_ends"):
        check_fixed([warm_up("llama_cpp"), warm_up("ollama")], ["task", "fixed"])


def test_fixed_length_is_allowed_with_a_model_that_never_ends_until_it_ends():
    check_fixed([warm_up("ollama", never_ends=True)], ["fixed"])
    with pytest.raises(UserError, match=r"m says `never_ends`.*ollama.*HumanEval/0"):
        check_fixed([warm_up("ollama", "eos", never_ends=True)], ["task"])
