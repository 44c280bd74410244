"""Answers of odd characters: what is kept of their text, and that every file holds it."""

import hashlib
import json

import msgspec
import pandas as pd
import pytest
import synthetic
from synthetic_tables import tables_of

from joules.analyse.tables import TASKS, write_parquet
from joules.core import stored
from joules.core.inference import Completion, in_whole_characters

ODD = [
    "s = '\U0001f642 \U0001d4b3 \U0001f469\u200d\U0001f467'\n",
    "cafe\u0301\u20dd\n",
    "a\u2028b\u2029c\x85d\x0b\x0ce\x1c\n",
    "\x01\x02\x1b[31mred\x1b[0m\x7f\x08",
    "x = 1\r\n\r\ny = 2\r\rz\n\r",
    "\ufeffx\ufeff",
    "\u00a0\u202f= 1\u00a0",
    "\u05e9\u05dc \u202eabc\u202c\u0645\n",
    "<b>&amp;\"'\\u0041\\\\n,;\t`",
    "-1+cmd|' /C x'!A1",
    "",
]


def kept(text: str, finish_reason: str) -> str:
    return in_whole_characters(Completion(text, 1, 1, 0.1, 0.1, finish_reason)).text


@pytest.mark.parametrize("reason", ["eos", "limit", "aborted_by_runtime"])
@pytest.mark.parametrize("text", ODD)
def test_a_text_of_whole_characters_stays_as_it_is(text, reason):
    assert kept(text, reason) == text


@pytest.mark.parametrize(
    ("text", "reason", "expected"),
    [
        ("x = '\ufffd", "limit", "x = '"),
        ("x = '\ufffd\ufffd", "limit", "x = '\ufffd"),
        ("\ufffd = '", "limit", "\ufffd = '"),
        ("x = '\ufffd", "eos", "x = '\ufffd"),
        ("\ud83d\ude42", "eos", "\U0001f642"),
        ("\ude42 \ud83d", "eos", "\ufffd \ufffd"),
        ("\ude42 \ud83d", "limit", "\ufffd "),
    ],
)
def test_half_a_character_is_left_out_at_the_limit_and_marked_elsewhere(text, reason, expected):
    assert kept(text, reason) == expected
    assert msgspec.json.decode(json.dumps(expected)) == expected


def test_odd_answers_come_back_from_the_record_and_have_their_own_hash_in_the_tables(tmp_path):
    written = synthetic.write_study(tmp_path, blocks=2, problems=len(ODD))
    path = next(path for path in written.records if "task" in path.parts)
    record = stored.read_record(path)
    tasks = [
        msgspec.structs.replace(task, completion=text)
        for task, text in zip(record.tasks, ODD, strict=True)
    ]
    stored.write_record(path, msgspec.structs.replace(record, tasks=tasks))
    assert [task.completion for task in stored.read_record(path).tasks] == ODD
    write_parquet(tmp_path / "tasks.parquet", tables_of(written).tasks, TASKS)
    read = pd.read_parquet(tmp_path / "tasks.parquet")
    own = read[
        read["model"].eq(record.model.name)
        & read["runtime"].eq(record.arm_name)
        & read["kind"].eq("task")
        & read["block"].eq(record.repetition)
    ]
    hashes = [hashlib.sha256(text.encode()).hexdigest() for text in ODD]
    assert dict(zip(own["task_id"], own["completion_sha256"], strict=True)) == dict(
        zip([task.task_id for task in tasks], hashes, strict=True)
    )
