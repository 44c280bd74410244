"""What every runtime must do, tried on each real one with a small real model.

No test names a runtime: a new module in `joules/runtimes` is tested by being there.
"""

import dataclasses
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import gguf
import psutil
import pytest
from real_runtimes import (
    CHECKOUT,
    MODELS,
    SETTINGS,
    make_runtime,
    model_of,
    options_of,
    prompts_of,
    still_running,
)

from joules.core import stored
from joules.core.errors import UserError
from joules.core.inference import Completion, Model, Prompt
from joules.core.reading import load_study
from joules.inputs import humaneval
from joules.machine import machine_state
from joules.machine.processes import living, wait_until
from joules.runtimes import Runtime, load, names

LEARNT = json.loads((MODELS / "learnt.json").read_text(encoding="utf-8"))
BUNDLED = sorted(path.stem for path in MODELS.glob("*.gguf"))
# What the default study compares shares one library, and gives the same text for nearly all.
DEFAULT = load_study().study.runtimes
REFERENCE = DEFAULT[-1]
PATIENCE_S = 60.0
HARNESS = """
import json, signal, sys
from pathlib import Path
import psutil
from joules.measure.sitting import end_with_workflow
from joules.core.inference import Model, Prompt, Settings
from joules.runtimes import load
name, options, folder, model, settings = json.loads(sys.argv[1])
# As in a terminal; a job in the background is started with SIGINT ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
end_with_workflow()
with load(name)(options, Path(folder)) as runtime:
    runtime.start(Model("small", Path(model[0]), model[1]), Settings(**settings))
    children = psutil.Process().children(recursive=True)
    print(json.dumps([child.pid for child in children]), flush=True)
    while True:
        runtime.complete(Prompt("def f(x):", (1, 2, 3)))
"""
# What a process that reaches for a name server or an address does to the counters of a network
# name space in which there is nothing but the loopback interface.
ALONE = """
import json, os, sys
from pathlib import Path
from joules.core.files import sha256_of
from joules.core.inference import Model, Prompt, Settings
from joules.runtimes import load
name, options, folder, model, settings = json.loads(sys.argv[1])
os.makedirs(os.environ["TMPDIR"])
with load(name)(options, Path(folder)) as runtime:
    runtime.start(Model("small", Path(model), sha256_of(model)), Settings(**settings))
    completion = runtime.complete(Prompt("def f(x):", (1, 2, 3)), max_tokens=9)
    runtime.facts()
counted = {}
for line in Path("/proc/net/snmp").read_text().splitlines():
    group, _, values = line.partition(": ")
    counted.setdefault(group, []).append(values.split())
counted = {group: dict(zip(*rows)) for group, rows in counted.items()}
newer = dict(line.split() for line in Path("/proc/net/snmp6").read_text().splitlines())
print(json.dumps({
    "generated_tokens": completion.generated_tokens,
    "packets_to_nowhere": int(counted["Ip"]["OutNoRoutes"]) + int(newer["Ip6OutNoRoutes"]),
    "datagrams": int(counted["Udp"]["OutDatagrams"]) + int(newer["Udp6OutDatagrams"]),
}))
"""

pytestmark = pytest.mark.parametrize("name", names())


@pytest.fixture(scope="session")
def model() -> Model:
    return model_of(MODELS / f"{BUNDLED[0]}.gguf")


@pytest.fixture(scope="session")
def model_with_bos(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The same model, but its file asks for a beginning-of-text token."""
    path = tmp_path_factory.mktemp("models") / "bos.gguf"
    shutil.copy(model.path, path)
    field = gguf.GGUFReader(path, "r+").fields["tokenizer.ggml.add_bos_token"]
    field.parts[field.data[0]][0] = True
    del field
    return model_of(path)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return tmp_path / "work"


@pytest.fixture
def runtime(name: str, work: Path) -> Iterator[Runtime]:
    """The runtime, not started; stopped in the end."""
    with make_runtime(name, work) as made:
        yield made


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def ports_of(processes: list[psutil.Process]) -> list[int]:
    return [
        each.laddr.port
        for process in processes
        for each in process.net_connections()
        if each.status == psutil.CONN_LISTEN
    ]


def wait_for_end(pids: list[int]) -> list[int]:
    until = time.monotonic() + PATIENCE_S
    while (left := still_running(pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return left


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*")}


def learnt_prompts(model: Model, count: int) -> list[tuple[Prompt, str]]:
    """Return prompts whose answers the model knows by heart, and those answers."""
    problems = humaneval.problems()
    chosen = [problems[task_id] for task_id in LEARNT[model.name]["learnt"][:count]]
    prompts = prompts_of(model, *(problem.prompt for problem in chosen))
    answers = [problem.canonical_solution.rstrip("\n") + "\n" for problem in chosen]
    return list(zip(prompts, answers, strict=True))


def test_learnt_answers_come_back_whole_with_their_counts(runtime: Runtime, model: Model) -> None:
    runtime.start(model, SETTINGS)
    known = learnt_prompts(model, 12)
    encoded = prompts_of(model, *(answer for _, answer in known))
    right = 0
    for (prompt, answer), again in zip(known, encoded, strict=True):
        completion = runtime.complete(prompt)
        assert completion.counts_known
        assert completion.prompt_tokens == len(prompt.token_ids)
        assert completion.prefill_s is not None and completion.prefill_s > 0
        assert completion.decode_s > 0
        if completion.text == answer:
            right += 1
            assert completion.finish_reason == "eos"
            # The end of text is a sampled token too. A text can be cut into tokens in other ways
            # than the one that was generated, seldom and by little.
            assert abs(completion.generated_tokens - (len(again.token_ids) + 1)) <= 3
    assert right >= 11


def test_the_parts_of_a_call_lie_inside_it(runtime: Runtime, name: str, model: Model) -> None:
    runtime.start(model, SETTINGS)
    for prompt, _ in learnt_prompts(model, 3):
        start = time.perf_counter()
        completion = runtime.complete(prompt)
        call_s = time.perf_counter() - start
        parts = (completion.overhead_s, completion.prefill_s, completion.decode_s)
        known = [part for part in parts if part is not None]
        assert min(known) >= 0 and sum(known) <= call_s
        if name in DEFAULT:
            assert None not in parts and completion.overhead_s


def test_the_process_that_holds_the_weights_is_a_child_and_stays_the_same(
    runtime: Runtime, model: Model
) -> None:
    runtime.start(model, SETTINGS)
    holder = runtime.holder()
    assert holder in {child.pid for child in children()}
    for prompt, _ in learnt_prompts(model, 2):
        runtime.complete(prompt)
    assert runtime.holder() == holder
    runtime.stop()
    assert runtime.holder() is None


def test_what_is_imported_is_loaded_afterwards_and_nothing_runs_in_between(
    runtime: Runtime, name: str, model: Model, work: Path
) -> None:
    runtime.import_model(model)
    assert children() == []
    imported = {path.stat().st_ino for path in work.rglob("*") if path.is_file()}
    assert bool(imported) == load(name).IMPORTS
    runtime.start(model, SETTINGS)
    again = {path.stat().st_ino for path in work.rglob("*") if path.is_file()}
    assert imported <= again, "it was not imported a second time"
    ((prompt, _),) = learnt_prompts(model, 1)
    assert runtime.complete(prompt, max_tokens=3).generated_tokens == 3


def test_an_answer_ends_at_the_limit(runtime: Runtime, model: Model) -> None:
    runtime.start(model, dataclasses.replace(SETTINGS, max_tokens=9))
    ((prompt, answer),) = learnt_prompts(model, 1)
    whole = runtime.complete(prompt)
    assert (whole.generated_tokens, whole.finish_reason) == (9, "limit")
    assert whole.text and answer.startswith(whole.text)
    short = runtime.complete(prompt, max_tokens=3)
    assert (short.generated_tokens, short.finish_reason) == (3, "limit")
    assert whole.text.startswith(short.text) and short.text != whole.text


def test_special_tokens_in_a_prompt_are_parsed(runtime: Runtime, model: Model) -> None:
    runtime.start(model, SETTINGS)
    (prompt,) = prompts_of(model, "def f():<|endoftext|>def g():")
    (plain,) = prompts_of(model, "def f():def g():")
    assert len(prompt.token_ids) == len(plain.token_ids) + 1
    assert runtime.complete(prompt, max_tokens=1).prompt_tokens == len(prompt.token_ids)


def test_a_beginning_of_text_token_is_added_where_the_file_asks_for_it(
    runtime: Runtime, model: Model, model_with_bos: Model
) -> None:
    runtime.start(model_with_bos, SETTINGS)
    (prompt,) = prompts_of(model_with_bos, "def f(x):")
    (without,) = prompts_of(model, "def f(x):")
    assert len(prompt.token_ids) == len(without.token_ids) + 1
    assert runtime.complete(prompt, max_tokens=1).prompt_tokens == len(prompt.token_ids)


def test_a_flush_prompt_makes_the_same_prompt_be_computed_anew(
    runtime: Runtime, name: str, model: Model
) -> None:
    runtime.start(model, SETTINGS)
    flush, long = prompts_of(model, "#", "def f(x):\n    return x + 1\n\n" * 100)
    assert len(flush.token_ids) == 1 and len(long.token_ids) > 1000

    def prefill_s(prompt: Prompt) -> float:
        return runtime.complete(prompt, max_tokens=1).prefill_s or 0.0

    prefill_s(flush)  # the first answer of all may take longer
    rounds = [(prefill_s(flush), prefill_s(long), prefill_s(long)) for _ in range(6)]
    one, anew, again = zip(*rounds, strict=True)
    assert min(anew) > 10 * statistics.median(one)  # about 100 times; from the cache about 1
    # Side by side: a moment later the machine may be several times as fast.
    cached = statistics.median(b / a for a, b in zip(anew, again, strict=True)) < 1 / 3
    assert cached == ("prompt_cache" in load(name).CANNOT_HOLD)


@pytest.mark.parametrize("flash_attention", [False, True])
def test_settings_are_in_force(runtime: Runtime, model: Model, flash_attention: bool) -> None:
    settings = dataclasses.replace(
        SETTINGS,
        context_length=1024,
        threads=2,
        batch_size=128,
        micro_batch_size=128,
        flash_attention=flash_attention,
    )
    runtime.start(model, settings)
    (prompt,) = prompts_of(model, "def f(x):")
    runtime.complete(prompt, max_tokens=4)
    seen = runtime.settings_in_force()
    held = set(dataclasses.asdict(settings)) - runtime.CANNOT_HOLD
    assert seen == {key: dataclasses.asdict(settings)[key] for key in seen}
    shown = {"context_length", "threads", "batch_size", "flash_attention", "gpu_layers", "kv_cache"}
    assert shown & held <= set(seen)


def test_facts_name_version_commit_and_instructions(
    runtime: Runtime, name: str, model: Model
) -> None:
    runtime.start(model, SETTINGS)
    facts = runtime.facts()
    assert facts["version"] == options_of(name)["version"]
    assert facts["simd"]
    assert any(re.fullmatch("[0-9a-f]{64}", str(fact)) for fact in facts.values())
    if name in DEFAULT:
        assert facts["llama_cpp_commit"]
        assert "LLAMAFILE" in facts["simd"]
    assert str(CHECKOUT) not in json.dumps(facts)


def test_fixed_length_answers_are_decoded_or_refused(
    runtime: Runtime, name: str, model: Model
) -> None:
    settings = dataclasses.replace(SETTINGS, ignore_eos=True, max_tokens=200)
    if "ignore_eos" in load(name).CANNOT_HOLD:
        with pytest.raises(UserError, match="ignore_eos"):
            runtime.start(model, settings)
        return
    runtime.start(model, settings)
    for prompt, _ in learnt_prompts(model, 3):
        completion = runtime.complete(prompt)
        assert (completion.generated_tokens, completion.finish_reason) == (200, "limit")


def test_what_was_provided_can_be_used_here_and_is_stored_as_it_is(
    name: str, tmp_path: Path
) -> None:
    facts = options_of(name)["provided"]
    assert load(name).preview(options_of(name), facts).possible
    stored.write_provided(tmp_path / "facts.json", facts)
    assert stored.read_provided(tmp_path / "facts.json") == facts


def test_a_binary_that_is_gone_cannot_be_used(name: str) -> None:
    facts = options_of(name)["provided"] | {"binary": "gone"}
    preview = load(name).preview(options_of(name), facts)
    assert (preview.text, preview.possible) == ("gone is gone", False)


def test_the_article_has_sentences_about_it_and_records_have_its_packages(name: str) -> None:
    kind = load(name)
    assert kind.LABEL and kind.DESCRIPTION.endswith(".")
    assert all(sentence.endswith(".") for sentence in (*kind.LIMITATIONS, *kind.TRIALS.values()))
    assert all(machine_state.machine_facts(kind.PACKAGES).packages.values())


def test_an_unknown_option_is_refused(name: str, work: Path) -> None:
    with pytest.raises(UserError, match="treads") as refused:
        make_runtime(name, work, treads=3)
    assert f"runtime_options.{name}" in str(refused.value)


def test_a_prompt_that_does_not_fit_is_refused_with_the_numbers(
    runtime: Runtime, model: Model
) -> None:
    runtime.start(model, SETTINGS)
    (fits,) = prompts_of(model, "def f(x):\n" * 2)
    room = SETTINGS.context_length - len(fits.token_ids)
    with pytest.raises(UserError, match=f"{len(fits.token_ids)} tokens; with {room + 1} tokens"):
        runtime.complete(fits, max_tokens=room + 1)
    assert runtime.complete(fits, max_tokens=4).generated_tokens >= 1


def test_a_model_file_that_is_none_is_refused(runtime: Runtime, tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + bytes(1000))
    with pytest.raises(UserError, match="broken"):
        runtime.start(model_of(path), SETTINGS)


def test_nothing_is_left_after_stop(
    runtime: Runtime, model: Model, work: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    before = model.path.stat().st_nlink
    runtime.start(model, SETTINGS)
    processes = children()
    pids, ports = [process.pid for process in processes], ports_of(processes)
    assert pids
    assert len({os.getpgid(pid) for pid in pids}) == 1 and os.getpgid(pids[0]) != os.getpgid(0)
    assert all(is_open(port) for port in ports)
    runtime.stop()
    assert still_running(pids) == [] and living(pids[0]) == []
    assert not any(is_open(port) for port in ports)
    assert all(Path(found).suffix == ".log" for found in files_in(work)) and files_in(work)
    assert files_in(home) == set()
    assert model.path.stat().st_nlink == before
    runtime.stop()  # a second time does no harm


needs_bubblewrap = pytest.mark.skipif(
    shutil.which("bwrap") is None, reason="bubblewrap is not installed"
)


@needs_bubblewrap
def test_nothing_is_written_outside_the_work_folder_and_nobody_is_called(
    name: str, tmp_path: Path, model: Model
) -> None:
    options_of(name)  # provided here, where files may be written
    shutil.copy(model.path, tmp_path)  # OpenVINO opens a model file for writing
    home = tmp_path / "home"
    home.mkdir()
    confined = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    confined += ["--bind", str(tmp_path), str(tmp_path), "--ro-bind", str(home), str(home)]
    confined += ["--tmpfs", "/var/tmp", "--unshare-net", "--unshare-pid", "--chdir", str(CHECKOUT)]
    given = [name, options_of(name), str(tmp_path / "work"), str(tmp_path / model.path.name)]
    done = subprocess.run(
        [*confined, sys.executable, "-c", ALONE, json.dumps([*given, vars(SETTINGS)])],
        env=os.environ
        | {"PYTHONPATH": str(CHECKOUT / "workflow/scripts"), "HOME": str(home)}
        | {"TMPDIR": str(tmp_path / "temporary")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["generated_tokens"] == 9
    assert told["packets_to_nowhere"] == told["datagrams"] == 0
    expected = {"home", "temporary", "work", model.path.name}
    assert {path.name for path in tmp_path.iterdir()} == expected
    assert files_in(home) == files_in(tmp_path / "temporary") == set()
    assert all(Path(found).suffix == ".log" for found in files_in(tmp_path / "work"))
    assert model_of(tmp_path / model.path.name).sha256 == model.sha256


def test_nothing_is_left_after_an_exception(name: str, work: Path, model: Model) -> None:
    with pytest.raises(ZeroDivisionError), make_runtime(name, work) as runtime:
        runtime.start(model, SETTINGS)
        pids = [process.pid for process in children()]
        raise ZeroDivisionError
    assert pids and still_running(pids) == []


def harness(name: str, work: Path, model: Model) -> tuple[subprocess.Popen[str], list[int]]:
    """Start a process that uses the runtime; return it and the runtime's processes."""
    given = json.dumps(
        [
            name,
            options_of(name),
            str(work),
            [str(model.path), model.sha256],
            dataclasses.asdict(SETTINGS),
        ]
    )
    process = subprocess.Popen(
        [sys.executable, "-c", HARNESS, given],
        env=os.environ | {"PYTHONPATH": str(CHECKOUT / "workflow/scripts")},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    pids = json.loads(process.stdout.readline())
    assert pids and still_running(pids) == pids
    return process, pids


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_runs_on_after_a_signal_to_the_harness(
    name: str, work: Path, model: Model, number: signal.Signals
) -> None:
    process, pids = harness(name, work, model)
    ports = ports_of([psutil.Process(pid) for pid in pids])
    process.send_signal(number)
    try:
        process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()  # a harness that did not end must not disturb the tests after this one
    assert process.returncode != 0
    if number == signal.SIGKILL:  # nobody is left to wait for them: the kernel's signal ends them
        assert wait_for_end(pids) == []
        # A killed process counts as ended before the last of its threads has closed its sockets.
        assert wait_until(lambda: not any(map(is_open, ports)), PATIENCE_S)
    assert still_running(pids) == []
    assert not any(is_open(port) for port in ports)
    if number != signal.SIGKILL:
        assert all(Path(found).suffix == ".log" for found in files_in(work))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
@pytest.mark.parametrize("which", [0, -1])
def test_a_runtime_that_dies_is_reported_with_its_signal(
    runtime: Runtime, model: Model, which: int, number: signal.Signals
) -> None:
    runtime.start(model, SETTINGS)
    (prompt,) = prompts_of(model, "from typing import List\n\n\ndef f(")
    victim = children()[which]
    threading.Timer(0.3, victim.send_signal, [number]).start()
    until = time.monotonic() + PATIENCE_S
    with pytest.raises(UserError) as died:
        while time.monotonic() < until:
            runtime.complete(prompt)
    remedy = {"SIGKILL": "memory", "SIGSEGV": "AMX"}[number.name]
    for expected in (number.name, runtime.LABEL, model.name, remedy):
        assert expected in str(died.value)


def test_a_runtime_that_dies_between_two_prompts_is_reported(
    runtime: Runtime, model: Model
) -> None:
    runtime.start(model, SETTINGS)
    (prompt,) = prompts_of(model, "def f(x):")
    runtime.complete(prompt, max_tokens=1)
    victim = children()[-1]
    victim.kill()
    assert wait_for_end([victim.pid]) == []
    with pytest.raises(UserError, match="SIGKILL"):
        runtime.complete(prompt, max_tokens=1)


def test_an_answer_to_endless_repetition_is_counted_or_said_to_be_broken_off(
    runtime: Runtime, model: Model
) -> None:
    runtime.start(model, SETTINGS)
    for prompt in prompts_of(model, *(sign * 40 for sign in "0s[(t+-,a")):
        completion = runtime.complete(prompt)
        if completion.finish_reason == "aborted_by_runtime":
            assert not completion.counts_known and completion.prefill_s is None
            assert completion.text
        else:
            assert completion.counts_known
            assert completion.prompt_tokens == len(prompt.token_ids)
            assert 0 < completion.generated_tokens <= SETTINGS.max_tokens
        assert runtime.complete(prompt).text == completion.text


@pytest.mark.parametrize("bundled", BUNDLED)
def test_runtimes_give_the_same_text_and_counts_for_nearly_all_of_humaneval(
    name: str, bundled: str, answers: Callable[[str, str], list[Completion]]
) -> None:
    reference = answers(REFERENCE, bundled)
    mine = answers(name, bundled)
    assert len(reference) == len(mine) == 164
    assert [each.prompt_tokens for each in mine] == [each.prompt_tokens for each in reference]
    same = [
        (a.text, a.generated_tokens, a.finish_reason)
        == (b.text, b.generated_tokens, b.finish_reason)
        for a, b in zip(reference, mine, strict=True)
    ]
    # Learnt texts have a wide margin; where there is none, engines round to other tokens.
    learnt = [
        number
        for number, problem in enumerate(humaneval.problems().values())
        if reference[number].text == problem.canonical_solution.rstrip("\n") + "\n"
    ]
    assert len(learnt) > 100
    assert [mine[number].text for number in learnt if not same[number]] == []
    if name in DEFAULT:
        assert sum(same) >= 0.98 * len(same)


@pytest.fixture(scope="module")
def answers(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, str], list[Completion]]:
    """Return a function that asks a runtime all of HumanEval, once per model."""
    known: dict[tuple[str, str], list[Completion]] = {}

    def ask(name: str, bundled: str) -> list[Completion]:
        if (name, bundled) not in known:
            model = model_of(MODELS / f"{bundled}.gguf")
            problems = humaneval.problems().values()
            prompts = prompts_of(model, "#", *(problem.prompt for problem in problems))
            with make_runtime(name, tmp_path_factory.mktemp("answers")) as runtime:
                runtime.start(model, SETTINGS)
                known[name, bundled] = []
                for prompt in prompts[1:]:
                    runtime.complete(prompts[0], max_tokens=1)
                    known[name, bundled].append(runtime.complete(prompt))
        return known[name, bundled]

    return ask
