"""What settings come to: those of a study, those of a runtime as installed, and what is told."""

import dataclasses
from pathlib import Path

import pytest

from joules import runtimes
from joules.core.conditions import AskedSettings
from joules.core.errors import UserError
from joules.core.inference import OWN_CHOICE, Settings
from joules.machine import gpus
from joules.measure import preparation
from joules.measure.preparation import settings_of
from joules.runtimes import llama_cpp, llama_server, openai_server
from joules.runtimes.shared import llama_cpp_log, ollama_server

ASKED = AskedSettings(threads=3, flash_attention=True, kv_cache="q8_0")
TOLD = settings_of(ASKED, "task", 99)
AS_INSTALLED = settings_of(ASKED, "task", 99, as_installed=True)


def test_as_installed_only_what_decides_prompts_and_answers_is_set():
    assert (TOLD.threads, TOLD.kv_cache, TOLD.prompt_cache) == (3, "q8_0", False)
    assert not TOLD.as_installed and AS_INSTALLED.as_installed
    left = {name: v for name, v in dataclasses.asdict(AS_INSTALLED).items() if v is not None}
    assert left == {
        "context_length": 4096,
        "seed": 1,
        "max_tokens": 99,
        "temperature": 0.0,
        "ignore_eos": False,
    }
    assert set(OWN_CHOICE) | set(left) == {each.name for each in dataclasses.fields(Settings)}
    assert settings_of(ASKED, "fixed", 99, as_installed=True).ignore_eos is True


def test_one_setting_of_ones_own_choice_is_not_as_installed():
    assert not dataclasses.replace(TOLD, kv_cache=None).as_installed
    assert not dataclasses.replace(AS_INSTALLED, prompt_cache=False).as_installed


class Weak:
    CANNOT_HOLD = frozenset({"threads", "seed", "kv_cache"})


def test_nothing_is_required_of_what_a_runtime_chooses_itself(monkeypatch):
    for module in (preparation, runtimes):
        monkeypatch.setattr(module, "load", lambda name: Weak)
    plain = dataclasses.replace(TOLD, kv_cache="f16")
    preparation.check_require("weak", [], plain)
    with pytest.raises(UserError, match="cannot hold threads"):
        preparation.check_require("weak", ["threads"], plain)
    preparation.check_require("weak", ["threads"], AS_INSTALLED)
    with pytest.raises(UserError, match="cannot hold seed"):
        preparation.check_require("weak", ["seed"], AS_INSTALLED)
    with pytest.raises(UserError, match="`kv_cache` is q8_0, and the runtime weak cannot be told"):
        preparation.check_require("weak", [], TOLD)


def test_as_installed_a_server_is_told_of_the_context_and_of_what_the_harness_needs():
    told = llama_server.arguments(Path("m.gguf"), 7, AS_INSTALLED)
    options = [part for part in told if part.startswith("-")]
    assert options == ["-m", "--host", "--port", "-c", "-s", "--verbosity", "--offline"]
    told = llama_server.arguments(Path("m.gguf"), 7, TOLD)
    assert told[told.index("-ctv") + 1] == "q8_0" and "--no-cache-prompt" in told
    request = llama_cpp_log.sampling(AS_INSTALLED)
    assert set(request) == {"temperature", "seed", "stop", "ignore_eos", "stream"}
    assert llama_cpp_log.sampling(TOLD)["cache_prompt"] is False


def test_as_installed_ollama_has_its_own_variables_and_a_request_four_options_and_no_stop_words():
    assert ollama_server.held(AS_INSTALLED) == {"OLLAMA_CONTEXT_LENGTH": "4096"}
    options = ollama_server.sampling(AS_INSTALLED, 5)
    assert options == {"num_ctx": 4096, "num_predict": 5, "seed": 1, "temperature": 0.0, "stop": []}
    assert ollama_server.held(TOLD) == {
        "OLLAMA_CONTEXT_LENGTH": "4096",
        "OLLAMA_FLASH_ATTENTION": "1",
        "OLLAMA_KV_CACHE_TYPE": "q8_0",
        "OMP_NUM_THREADS": "3",
        **ollama_server.EQUAL,
    }
    assert ollama_server.sampling(TOLD, 5)["num_thread"] == 3


def test_as_installed_the_library_gets_no_argument_of_ours():
    class Types:
        GGML_TYPE_Q8_0 = 8

    assert llama_cpp.arguments(AS_INSTALLED, Types) == {}
    assert llama_cpp.arguments(TOLD, Types)["type_v"] == 8


def test_what_is_left_to_a_server_goes_from_its_command_with_its_option(tmp_path):
    server = openai_server.Runtime({"version": "1", "provided": {}}, tmp_path)
    server._values = {"threads": None, "kv_cache": None, "port": 7}
    command = ["serve", "-t", "{threads}", "--kv={kv_cache}", "--eager", "--port", "{port}", "x"]
    assert server._arguments(command) == ["serve", "--eager", "--port", "7", "x"]
    assert server._filled({"t": "{threads}", "port": "{port}", "n": 1}) == {"port": 7, "n": 1}
    server._values["threads"] = 2
    assert server._arguments(command)[:3] == ["serve", "-t", "2"]


CONTEXT = """
0.00.014.981 I llama_context: n_ctx                 = 4096
0.00.014.993 I llama_context: n_ctx_seq             = 1024
0.00.015.141 I llama_context: flash_attn            = {asked}
0.00.016.445 I llama_kv_cache: size =    2.00 MiB (  1024 cells,   4 layers,  4/1 seqs), \
K ({keys}):    1.00 MiB, V ({values}):    1.00 MiB
{then}
"""
ENABLED = "0.00.017.306 I resolve_fused_ops: Flash Attention enabled"
DISABLED = "0.00.017.306 W resolve_fused_ops: Flash Attention not supported, set to disabled"


@pytest.mark.parametrize(
    ("asked", "then", "expected"),
    [
        ("enabled", "", True),
        ("disabled", "", False),
        ("auto", ENABLED, True),
        ("auto", DISABLED, False),
        ("auto", "", None),
    ],
)
def test_a_log_shows_what_was_left_to_llama_cpp(asked, then, expected):
    log = CONTEXT.format(asked=asked, then=then, keys="f16", values="f16")
    seen = llama_cpp_log.in_force(log)
    assert seen.get("flash_attention") is expected
    assert (seen["kv_cache"], seen["context_length"]) == ("f16", 1024)


def test_a_log_of_keys_and_values_in_two_types_is_neither():
    log = CONTEXT.format(asked="auto", then="", keys="q8_0", values="f16")
    assert llama_cpp_log.in_force(log)["kv_cache"] == "f16 and q8_0"


def test_what_a_runtime_could_compute_on_is_a_device_of_whoever_made_it(tmp_path, monkeypatch):
    monkeypatch.setattr(gpus.sys, "platform", "linux")
    for name in ("null", "nvidia-uvm", "dri"):
        (tmp_path / name).touch()
    assert gpus.devices(tmp_path) == []
    for name in ("kfd", "nvidia0"):
        (tmp_path / name).touch()
    assert gpus.devices(tmp_path) == [str(tmp_path / "kfd"), str(tmp_path / "nvidia0")]
