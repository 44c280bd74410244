"""One run, on a scripted runtime: what real ones cannot be made to do."""

import dataclasses
import json

import jsonschema
import msgspec
import pytest
from scripted import (
    PARAMETERS,
    PROMPTS,
    PROMPTS_FILE,
    SETTINGS,
    STRICT,
    Scripted,
    assigned,
    changed,
    run,
)

from joules.core import stored
from joules.core.conditions import SettleRule, Windows
from joules.core.errors import UserError
from joules.core.plan import Run
from joules.core.warm_up_files import Agreement
from joules.machine import machine_state
from joules.measure import campaign, preparation, protocol
from joules.measure.agreement import check_agreement

AGREED = Agreement(
    model="m",
    protocol="base-unchanged",
    runtimes=["a"],
    settings=SETTINGS,
    passed=True,
    problems=[],
    pairs=[],
)


class Importing(Scripted):
    IMPORTS = True


AS_INSTALLED = preparation.settings_for(PARAMETERS.settings, "task", PROMPTS_FILE.model, True)


def test_as_installed_no_prompt_is_flushed_and_what_the_runtime_keeps_is_its_own(tmp_path):
    class Keeping(Scripted):
        def complete(self, prompt, max_tokens=None):
            completion = super().complete(prompt, max_tokens)
            first = self.sent.count(prompt.text) == 1
            return dataclasses.replace(completion, prefill_s=0.05 if first else 1e-5)

    chosen = {"context_length": AS_INSTALLED.context_length, "threads": 8, "kv_cache": "u8"}
    runtime = Keeping(in_force=chosen)
    parts, _ = run(runtime, tmp=tmp_path, settings=AS_INSTALLED)
    assert runtime.sent[0] == "start" and "~" not in runtime.sent
    assert runtime.sent[-3:] == ["def f0", "def f1", "def f2"]
    assert parts.settings_in_force == chosen
    checks = {each.code: each for each in parts.validity.checks}
    assert checks["prompt_cache_hit"].not_checked == "the runtime may keep prompts, as installed"
    assert checks["settings_not_in_force"].not_checked is None
    assert parts.gaps.duration_s >= 0


def test_as_installed_a_setting_that_was_asked_for_must_still_be_in_force(tmp_path):
    with pytest.raises(UserError, match="context_length: asked 2048, got 77"):
        run(Scripted(in_force={"context_length": 77}), tmp=tmp_path, settings=AS_INSTALLED)
    parts, _ = run(Scripted(in_force={"threads": 8}), tmp=tmp_path, settings=AS_INSTALLED)
    checks = {each.code: each for each in parts.validity.checks}
    assert "none of the settings" in checks["settings_not_in_force"].not_checked


def test_all_windows_come_in_order_and_every_prompt_is_flushed_before(tmp_path):
    runtime = Importing()
    parts, _ = run(runtime, tmp=tmp_path)
    assert [w.name for w in parts.windows] == [
        "idle_cold",
        "import",
        "load",
        "idle_resident",
        "settle",
        "tasks",
        "idle_after",
    ]
    starts = [w.start_monotonic_s for w in parts.windows]
    assert starts == sorted(starts)
    assert runtime.sent[:2] == ["import", "start"]
    sent = runtime.sent[2:]
    assert all(text == "~" for text in sent[::2])
    assert "~" not in sent[1::2]
    assert sent[-6:] == ["~", "def f0", "~", "def f1", "~", "def f2"]
    assert runtime.stopped == 1
    assert [t.generated_tokens for t in parts.tasks] == [4, 4, 4]
    assert [t.prompt_tokens for t in parts.tasks] == [3, 3, 3]
    assert [t.retokenised_tokens for t in parts.tasks] == [3, 3, 3]


def test_a_runtime_that_imports_nothing_has_no_window_for_it(tmp_path):
    runtime = Scripted()
    parts, _ = run(runtime, tmp=tmp_path)
    assert "import" not in runtime.sent + [window.name for window in parts.windows]


def test_the_model_s_file_is_read_before_it_is_loaded_and_the_record_says_so(tmp_path):
    file = tmp_path / "m.gguf"
    file.write_bytes(bytes(3 * protocol.READ_BYTES))
    assert protocol.warm_page_cache(file) is True
    assert protocol.warm_page_cache(tmp_path / "gone.gguf") is False
    parts, _ = run(Scripted(), tmp=tmp_path)
    assert parts.page_cache_warmed is False, "the scripted model has no file"


def test_settle_answers_are_short_and_each_prompt_is_flushed_before():
    class Short(Scripted):
        def complete(self, prompt, max_tokens=None):
            self.limits.append(max_tokens)
            return super().complete(prompt, max_tokens)

    for most, limit in ((256, protocol.SETTLE_TOKENS), (16, 16)):
        runtime = Short()
        runtime.limits = []
        settled = protocol.settle(runtime, PROMPTS, SettleRule(seconds=0.01), most)
        assert runtime.limits == [1, limit] * settled.prompts


def test_settling_ends_with_the_answer_in_which_the_time_is_up(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(protocol.time, "monotonic", lambda: now[0])

    class Paced(Scripted):
        def complete(self, prompt, max_tokens=None):
            now[0] += 0.0 if prompt.text == "~" else self.answer["decode_s"]
            return super().complete(prompt, max_tokens)

    for decode_s, prompts in ((1.0, 60), (0.5, 120), (7.0, 9)):
        now[0] = 0.0
        settled = protocol.settle(Paced(decode_s=decode_s), PROMPTS, SettleRule(seconds=60), 256)
        assert settled.prompts == prompts and settled.settled is True
        assert 60 <= now[0] < 60 + decode_s
    now[0] = 0.0
    few = protocol.settle(Paced(decode_s=30.0), PROMPTS, SettleRule(seconds=60), 256)
    assert (few.prompts, few.cv, few.settled) == (2, None, False), "too few to tell"


def test_it_rests_until_the_processor_is_as_cool_as_when_the_sitting_began(tmp_path, monkeypatch):
    now, cooling = [0.0], iter([70.0, 60.0, 51.0, 44.9, 44.0])
    monkeypatch.setattr(protocol.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(protocol.time, "sleep", lambda s: now.__setitem__(0, now[0] + s))
    monkeypatch.setattr(machine_state, "package_temperature", lambda: next(cooling))
    protocol.rest(Windows(rest_s=0.0, rest_margin_c=2.0, rest_cap_s=300.0), 43.0)
    assert next(cooling) == 44.0, "it was warmer before than the margin allows"


def test_a_run_rests_to_the_first_temperature_of_its_sitting(tmp_path, monkeypatch):
    targets: list[float | None] = []
    monkeypatch.setattr(protocol, "rest", lambda windows, target_c: targets.append(target_c))
    monkeypatch.setattr(machine_state, "package_temperature", lambda: 55.0)
    run(Scripted(), tmp=tmp_path, first_temperature_c=41.0)
    run(Scripted(), tmp=tmp_path)
    assert targets == [41.0, 55.0]


def test_weights_that_another_process_holds_after_the_tasks_were_loaded_again(tmp_path):
    class Reloading(Scripted):
        def holder(self):
            return 7 if "def f2" in self.sent else 6

    parts, _ = run(Reloading(), parameters=STRICT, tmp=tmp_path)
    (rule,) = [rule for rule in parts.validity.codes if rule.code == "load_during_tasks"]
    assert (rule.seen, rule.limit, rule.invalidates) == (1, 0, True)


def test_where_nobody_knows_who_holds_the_weights_no_reload_is_looked_for(tmp_path):
    class Distant(Scripted):
        def holder(self):
            return None

    parts, _ = run(Distant(), tmp=tmp_path)
    checks = {check.code: check.limit for check in parts.validity.checks}
    assert checks["load_during_tasks"] is None
    parts, _ = run(Scripted(), tmp=tmp_path)
    (check,) = [check for check in parts.validity.checks if check.code == "load_during_tasks"]
    assert (check.seen, check.limit) == (0, 0)


def test_the_parts_of_a_request_are_in_the_record_and_tasks_follow_one_another(tmp_path):
    parts, _ = run(Scripted(overhead_s=0.3), tmp=tmp_path)
    assert {task.overhead_s for task in parts.tasks} == {0.3}
    ends = [task.start_s + task.duration_s for task in parts.tasks]
    starts = [task.start_s for task in parts.tasks]
    assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))
    gaps_s, tasks_s = parts.gaps.duration_s, sum(task.duration_s for task in parts.tasks)
    (whole,) = [window for window in parts.windows if window.name == "tasks"]
    assert gaps_s + tasks_s >= whole.duration_s, "each moment lies in a task or in a gap"


def test_the_record_is_read_as_it_was_written_and_fits_its_schema(tmp_path):
    parts, measured = run(Scripted(), tmp=tmp_path)
    machine = machine_state.machine_facts([*campaign.PACKAGES, "no-such-package"])
    made = assigned(tmp_path)
    record = campaign.record_of(made, 2, Scripted(), measured.facts(), machine, parts)
    file = tmp_path / "1.json"
    stored.write_record(file, record)
    jsonschema.validate(json.loads(file.read_text()), stored.schema_of("record"))
    read = stored.read_record(file)
    stored.write_record(tmp_path / "again.json", read)
    assert (tmp_path / "again.json").read_bytes() == file.read_bytes()
    assert (read.attempts, read.kind, read.position) == (2, "task", made.position)
    assert (read.generated_tokens, read.prompt_tokens) == (12, 9)
    assert read.runtime.facts == {"version": "1"}
    assert read.settings == SETTINGS
    packages = read.environment.before.machine.packages
    assert packages["codecarbon"] and packages["no-such-package"] is None


def test_a_machine_s_facts_hold_the_versions_of_the_packages_that_are_named():
    facts = machine_state.machine_facts(["psutil"])
    assert list(facts.packages) == ["psutil"]


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
    assert {t.generated_tokens for t in parts.tasks} == {31}
    assert {t.finish_reason for t in parts.tasks} == {"aborted_by_runtime"}
    assert {t.prompt_tokens for t in parts.tasks} == {3}


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
    assert [t.retokenised_tokens for t in parts.tasks] == [None, None, None]


def test_what_does_not_settle_is_flagged(tmp_path):
    demonstration = changed(PARAMETERS, settle={"limit": 1e-9})
    parts, _ = run(Scripted(), parameters=demonstration, tmp=tmp_path)
    assert parts.settle.settled is False
    assert "not_settled" in [rule.code for rule in parts.validity.codes]
    assert parts.validity.valid is True, "the demonstration flags"
    strict = changed(STRICT, settle={"limit": 1e-9})
    parts, _ = run(Scripted(), parameters=strict, tmp=tmp_path)
    codes = {rule.code: rule.invalidates for rule in parts.validity.codes}
    assert codes["not_settled"] is False, "a run that does not settle is not repeated"


def test_a_required_setting_that_a_runtime_cannot_hold_is_refused_by_name(monkeypatch):
    class Weak(Scripted):
        CANNOT_HOLD = frozenset({"seed", "ignore_eos"})

    monkeypatch.setattr(preparation, "load", lambda name: Weak)
    preparation.check_require("weak", [], SETTINGS)
    with pytest.raises(UserError, match=r"runtime weak cannot hold seed"):
        preparation.check_require("weak", ["seed"], SETTINGS)
    with pytest.raises(UserError, match=r"ignore_eos"):
        preparation.check_require("weak", [], dataclasses.replace(SETTINGS, ignore_eos=True))


def test_an_agreement_that_is_missing_failed_or_of_other_settings_is_refused(tmp_path):
    path = tmp_path / "m.json"
    with pytest.raises(UserError, match="is missing"):
        check_agreement(path, "a", SETTINGS)
    failed = msgspec.structs.replace(AGREED, passed=False, problems=["a read 3"])
    stored.write_agreement(path, failed)
    with pytest.raises(UserError, match="a read 3"):
        check_agreement(path, "a", SETTINGS)
    stored.write_agreement(path, AGREED)
    check_agreement(path, "a", SETTINGS)
    check_agreement(path, "a", dataclasses.replace(SETTINGS, ignore_eos=True))
    with pytest.raises(UserError, match="does not name the arm b"):
        check_agreement(path, "b", SETTINGS)
    with pytest.raises(UserError, match="other settings"):
        check_agreement(path, "a", dataclasses.replace(SETTINGS, threads=2))


def test_a_finished_record_stays_in_the_journal_when_its_output_is_deleted(tmp_path):
    record = tmp_path / "1.json"
    record.write_text("{}")
    kept = campaign.keep(record, tmp_path / "journal")
    record.unlink()
    assert kept.read_text() == "{}"
    record.write_text("{}")
    assert campaign.keep(record, tmp_path / "journal") == kept


def test_actual_positions_count_the_runs_started(tmp_path):
    run_ = Run("m", "a", "task", 1)
    assert [campaign.actual_position(tmp_path / "j", run_) for _ in range(3)] == [1, 2, 3]


def test_another_temperature_than_zero_is_refused():
    with pytest.raises(UserError, match="temperature is 0.8; expected 0"):
        dataclasses.replace(SETTINGS, temperature=0.8)


def test_settings_of_a_run_are_those_of_the_study_with_threads_and_limit_as_numbers():
    asked, model = PARAMETERS.settings, PROMPTS_FILE.model
    settings = preparation.settings_for(asked, "task", model)
    assert asked.threads == "auto"
    assert settings.threads == machine_state.threads_of("auto") >= 1
    assert (settings.max_tokens, settings.ignore_eos) == (256, False)
    assert preparation.settings_for(asked, "fixed", model).ignore_eos is True
    endless = msgspec.structs.replace(model, never_ends=True)
    assert preparation.settings_for(asked, "fixed", endless).ignore_eos is False


def test_an_older_prompts_file_has_the_limit_of_the_study_or_is_refused():
    older = msgspec.structs.replace(PROMPTS_FILE.model, max_tokens=None)
    asked = msgspec.structs.replace(PARAMETERS.settings, max_tokens=99)
    assert preparation.settings_for(asked, "task", older).max_tokens == 99
    asked = msgspec.structs.replace(PARAMETERS.settings, max_tokens="catalogue")
    with pytest.raises(UserError, match="how long an answer may be.*write_prompts"):
        preparation.settings_for(asked, "task", older)
