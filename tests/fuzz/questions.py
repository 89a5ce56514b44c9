"""Questions on contexts from outside: SQuAD's, CMRC's and Hugging Face's forms, and the rows that
become of them.
"""

from __future__ import annotations

import io
import json
from typing import Any

import pyarrow as pa

from data_contracts.contract.contract import parse_contract
from data_contracts.contract.judge import Corpus, judge
from data_contracts.contract.raw import Cells, raw_table
from data_contracts.errors import SourceError
from data_contracts.tables.batch import Ask, Batch
from data_contracts.tables.read import read_batches
from tests.fuzz.tables import BROKEN, parquet
from tests.fuzz.target import Target, joined, refused

NAMES = ["question", "context", "answer", "answer_start", "answers"]
_QAS = [
    {"id": "1", "question": "Where?", "answers": [{"text": "Köln", "answer_start": 8}]},
    {"id": "2", "question": "Who?", "answers": [], "is_impossible": True},
    {"id": "3", "question": "Which?", "answers": [{"text": "𝒳", "answer_start": 13}] * 2},
]
_PARAGRAPH = {"context": "Anna in Köln 𝒳.", "qas": _QAS}
_CMRC = [
    {"context_text": "安娜在北京。", "title": "t",
     "qas": [{"query_id": "q", "query_text": "在哪里？", "answers": ["北京", "在北京"]}]}
]  # fmt: skip
_ROWS: list[dict[str, Any]] = [
    {"id": "a", "context": "x y", "question": "q", "answers": {"text": ["y"], "answer_start": [2]}},
    {"id": "b", "context": "x y", "question": "r", "answers": {"text": [], "answer_start": []}},
]
_LISTED = [
    {"context": "x y", "question": "q", "answers": [{"text": "y", "answer_start": 2}]},
    {"context": "x y", "question": "q", "answers": []},
]


def _json(value: Any, **options: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, **options).encode()


SEEDS = [
    _json({"data": [{"title": "t", "paragraphs": [_PARAGRAPH]}], "version": "1.1"}),
    _json({"version": "v2.0", "data": [{"paragraphs": [_PARAGRAPH] * 3, "title": 1}]}, indent=1),
    _json([{"title": "t", "paragraphs": [_PARAGRAPH]}, _PARAGRAPH]),
    _json(_CMRC),
    b"\n".join(_json(row) for row in _ROWS),
    _json(_ROWS),
    b"\n".join(_json(row) for row in _LISTED),
    b'{"question": "q", "context": "a b a", "answer": "a", "answer_start": 4.0}\n' * 2,
    parquet(pa.Table.from_pylist(_ROWS)),
    parquet(pa.Table.from_pylist(_LISTED), compression="none"),
]
WORDS = joined(
    ['"paragraphs"', '"qas"', '"answers"', '"text"', '"answer_start"', '"context"', '"question"',
     '"is_impossible": true', "[", "]", "{", "}", ",", ":", "null", "-1", "1e9", "9" * 30, '""', "\\ud83d",
     '{"data": [', '"data"', "𝒳", "ü", "\0"],
    *BROKEN,
)  # fmt: skip


def questions(data: bytes) -> bool:
    """How the file is read follows from its bytes, so that a case is one byte string."""
    kind: Any = "parquet" if data[:4] == b"PAR1" else "json"
    columns = (None, NAMES, NAMES[:4])[len(data) % 3]
    ask = Ask(columns, texts=NAMES[:3] if columns else (), batch_rows=1 + len(data) % 7)
    try:
        batches = list(read_batches(io.BytesIO(data), "a", ask, format=kind))
    except SourceError as error:
        return refused(error)
    rows = [row for batch in batches for row in batch.rows.to_pylist()]
    assert rows == sorted(set(rows)) and (not rows or rows[0] > 0), "row numbers"
    for batch in batches:
        _judged(batch, len(data))
    return True


def _judged(batch: Batch, salt: int) -> None:
    """A row that is kept has its answer where it says, or none."""
    if not {*NAMES[:4]} <= batch.columns.keys():
        return
    by = parse_contract(
        {
            "kind": "span",
            "name": "t",
            "columns": {"answers": "answers" if "answers" in batch.columns else None},
            "offsets": ("characters", "utf8", "utf16")[salt % 3],
            "unanswerable": "keep",
        },
        origin="fuzz",
    )
    count = len(batch.rows)
    cells = Cells(batch.columns, batch.rows, ["a"] * count, ["train"] * count, batch.faults)
    table = raw_table(cells, by, ("train", "valid", "test"))
    verdicts = judge(Corpus(table, list(range(count))), by).verdicts
    for row, mask in zip(table.to_pylist(), verdicts.reasons.tolist(), strict=True):
        if mask:
            assert verdicts.named(mask)
            continue
        start = int(row["answer_start"])
        assert str(start) == row["answer_start"]
        if start < 0:
            assert (row["answer"], start) == ("", -1)
        else:
            assert row["answer"] and row["context"].startswith(row["answer"], start)
        assert not row["answers"] or isinstance(json.loads(row["answers"]), list)


QUESTIONS = [
    Target("questions", "SQuAD's, CMRC's and Hugging Face's forms", 8, questions, seeds=SEEDS, tokens=WORDS)
]  # fmt: skip
