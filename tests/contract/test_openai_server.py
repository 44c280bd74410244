"""Servers with OpenAI's protocol: one that runs already, and answers that none should give."""

import dataclasses
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from real_runtimes import MODELS, SETTINGS, make_runtime, model_of, prompts_of

from joules.core.errors import UserError
from joules.core.inference import Facts
from joules.runtimes import load
from joules.runtimes.shared import llama_cpp_log

MODEL = model_of(MODELS / "parrot-1m.gguf")
GOOD = {
    "choices": [{"text": " x", "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2},
}
Answers = Callable[[int, Facts], str]


@pytest.fixture
def answering() -> Iterator[Answers]:
    """Return a function that starts a server with one fixed answer and returns its address."""
    servers: list[http.server.HTTPServer] = []

    def serve(status: int, answer: Facts) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/v1"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def reached_at(url: str, work: Path, **options: Any) -> Any:
    given = {"version": "1", "url": url, **options}
    provided = load("openai_server").provide(given, work)
    return load("openai_server")({**given, "provided": provided}, work)


def test_a_server_that_runs_already_gives_the_same_answers_and_runs_on(tmp_path: Path) -> None:
    prompts = prompts_of(MODEL, "#", "def f(x):", "from typing import List\n\n\ndef f(")
    with make_runtime("llama_server", tmp_path / "own") as server:
        server.start(MODEL, SETTINGS)
        url = str(server._client.base_url)  # type: ignore[attr-defined]
        sampling = llama_cpp_log.sampling(SETTINGS)
        for own in ("temperature", "seed", "stream"):
            del sampling[own]
        with reached_at(url, tmp_path / "reached", extra=sampling) as reached:
            reached.start(MODEL, SETTINGS)
            for prompt in prompts:
                own, other = server.complete(prompt), reached.complete(prompt)
                assert None not in (own.overhead_s, other.overhead_s)
                times = {"prefill_s": 0.0, "decode_s": 0.0, "overhead_s": 0.0}
                assert dataclasses.replace(own, **times) == dataclasses.replace(other, **times)
        assert server.complete(prompts[1]).generated_tokens > 0
    assert not (tmp_path / "reached").exists()


def test_one_server_must_be_named(tmp_path: Path) -> None:
    provide = load("openai_server").provide
    for options in ({}, {"command": ["true"], "url": "http://127.0.0.1:1"}):
        with pytest.raises(UserError, match="expected one of them"):
            provide({"version": "1", **options}, tmp_path)
    with pytest.raises(UserError, match="'no-such-program', which is not there"):
        provide({"version": "1", "command": ["no-such-program"]}, tmp_path)


def test_a_program_that_was_changed_after_it_was_provided_is_named(tmp_path: Path) -> None:
    program = tmp_path / "server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    given = {"version": "1", "command": [str(program), "{model}"]}
    provided = load("openai_server").provide(given, tmp_path)
    runtime = load("openai_server")({**given, "provided": provided}, tmp_path)
    assert runtime.facts()["binary_sha256"] == provided["binary_sha256"]
    program.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(UserError, match=r"server has the binary_sha256 .*It was changed since"):
        runtime.facts()


def test_a_server_on_another_machine_is_refused(tmp_path: Path) -> None:
    for url in ("http://192.0.2.1:8000", "https://example.org/v1", "127.0.0.1:8000"):
        with pytest.raises(UserError, match="only this machine's energy is measured"):
            load("openai_server").provide({"version": "1", "url": url}, tmp_path)


def test_what_is_the_same_for_every_runtime_cannot_be_replaced(tmp_path: Path) -> None:
    options = {"version": "1", "url": "http://127.0.0.1:1", "extra": {"temperature": 1, "top_k": 1}}
    with pytest.raises(UserError, match="extra has temperature; expected none"):
        load("openai_server").provide(options, tmp_path)


def test_an_address_without_a_server_is_reported(tmp_path: Path) -> None:
    runtime = reached_at("http://127.0.0.1:9", tmp_path)
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:9 is not ready.*parrot-1m"):
        runtime.start(MODEL, SETTINGS)


def test_a_server_that_refuses_is_reported_at_once(tmp_path: Path, answering: Answers) -> None:
    runtime = reached_at(answering(400, {"error": "no such model"}), tmp_path)
    with pytest.raises(UserError, match="refuses a short prompt with status 400"):
        runtime.start(MODEL, SETTINGS)


@pytest.mark.parametrize("missing", ["usage", "choices"])
def test_an_answer_without_counts_or_text_is_refused(
    tmp_path: Path, answering: Answers, missing: str
) -> None:
    answer = {key: value for key, value in GOOD.items() if key != missing}
    (prompt,) = prompts_of(MODEL, "def f(x):")
    with reached_at(answering(200, answer), tmp_path) as runtime:
        runtime.start(MODEL, SETTINGS)
        with pytest.raises(UserError, match="both token counts under `usage`"):
            runtime.complete(prompt)


def test_without_the_server_s_own_timings_the_first_token_has_no_time(
    tmp_path: Path, answering: Answers
) -> None:
    (prompt,) = prompts_of(MODEL, "def f(x):")
    with reached_at(answering(200, GOOD), tmp_path) as runtime:
        runtime.start(MODEL, SETTINGS)
        completion = runtime.complete(prompt)
    assert (completion.text, completion.prompt_tokens, completion.generated_tokens) == (" x", 5, 2)
    assert completion.prefill_s is None and completion.decode_s > 0
    assert completion.finish_reason == "eos"
