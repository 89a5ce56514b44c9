"""Questions on contexts: each rule has a row that breaks it, for that reason alone, and offsets of
whatever unit become characters.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from data_contracts.contract.contract import DataContract, parse_contract
from data_contracts.contract.expectations import pandas_frame, row_suite
from data_contracts.contract.frames import raw_schema, row_frame
from data_contracts.contract.judge import Corpus, judge
from data_contracts.contract.raw import Cells, raw_table
from data_contracts.contract.verdicts import broken_rows
from data_contracts.errors import RecipeError
from tasks.tokenize import ValidatedRows

CONTEXT = "Zoë left for 𝒳 city in May. The café of Arles stands in a lane, and Arles is far."
PLACE = CONTEXT.index("Arles")
BYTES = len(CONTEXT[:PLACE].encode())
UNITS = len(CONTEXT[:PLACE].encode("utf-16-le")) // 2
ASK = "Where is the café?"
Row = tuple[Any, ...]
GOOD: list[Row] = [
    (ASK, CONTEXT, "Arles", str(PLACE)),
    ("Where is it?", CONTEXT, "Arles", f" {PLACE}.0 "),
    ("Which town is far?", CONTEXT, "Arles", str(CONTEXT.rindex("Arles"))),
    ("Who left?", CONTEXT, "Zoë", "0"),
    ("Who left, and when?", CONTEXT, "Zoë", "0", '["Zoë", "she"]'),
]
# Each with one fault.
BAD: list[Row] = [
    ("", CONTEXT, "Arles", str(PLACE), "empty_question"),
    ("  ", CONTEXT, "Arles", str(PLACE), "empty_question"),
    ("Why? " * 50, CONTEXT, "Arles", str(PLACE), "over_long_question"),
    (ASK, "", "Arles", "3", "empty_context"),
    (ASK, None, "Arles", "3", "empty_context"),
    (ASK, f"Arles. {CONTEXT * 4}", "Arles", "0", "over_long_context"),
    (ASK, "Arles \ufffd", "Arles", "0", "broken_encoding_context"),
    (ASK, "Arles \x07", "Arles", "0", "control_characters_context"),
    (ASK, CONTEXT, CONTEXT[:60], "0", "over_long_answer"),
    (ASK, CONTEXT, "Arles", str(BYTES), "offset_in_utf8"),
    (ASK, CONTEXT, "Arles", str(UNITS), "offset_in_utf16"),
    (ASK, CONTEXT, "Arles", str(PLACE - 1), "offset_elsewhere"),
    (ASK, CONTEXT, "Nîmes", str(PLACE), "offset_elsewhere"),
    (ASK, CONTEXT, "Arles", "5000", "offset_outside"),
    (ASK, CONTEXT, "Arles", "-1", "offset_outside"),
    (ASK, CONTEXT, "Arles", "3.5", "offset_not_whole"),
    (ASK, CONTEXT, "Arles", "1e400", "offset_not_whole"),
    (ASK, CONTEXT, "Arles", "there", "bad_answer_start"),
    (ASK, CONTEXT, "Arles", None, "bad_answer_start"),
    (ASK, CONTEXT, " ", str(PLACE), "offset_without_answer"),
    (ASK, CONTEXT, "", "", "unanswerable"),
    (ASK, CONTEXT, None, "-1", "unanswerable"),
]


def contract(**parts: Any) -> DataContract:
    limits = {
        "questions": {"max_characters": 200},
        "contexts": {"max_characters": 300, "allow_control_characters": False},
        "answers": {"max_characters": 50},
    }
    given = {"columns": {"answers": "answers"}, **limits, **parts}
    return parse_contract({"kind": "span", "name": "t", **given}, origin="test")


def raw(by: DataContract, rows: list[Row], splits: Any = None) -> pa.Table:
    """Rows of question, context, answer and offset, and a list of answers where one has it."""
    listed = [
        [*row[:4], row[4] if len(row) > 4 and "[" in (row[4] or "") else None] for row in rows
    ]
    names = ("question", "context", "answer", "answer_start", "answers")
    columns = {
        name: pa.array([row[at] for row in listed], pa.string()) for at, name in enumerate(names)
    }
    count = len(rows)
    numbers = pa.array(range(1, count + 1), pa.int64())
    cells = Cells(columns, numbers, ["a.csv"] * count, splits or ["train"] * count, None)
    return raw_table(cells, by, ("train", "valid", "test"))


def told(by: DataContract, rows: list[Row], splits: Any = None) -> list[list[str]]:
    """The reasons of each row."""
    table = raw(by, rows, splits)
    found = judge(Corpus(table, list(range(len(table)))), by).verdicts
    return [found.named(int(mask)) for mask in found.reasons]


def starts(by: DataContract, rows: list[Row]) -> list[str | None]:
    return raw(by, rows)["answer_start"].to_pylist()


def test_each_fault_has_a_reason_of_its_own_and_good_rows_have_none() -> None:
    by = contract()
    assert told(by, GOOD) == [[]] * len(GOOD)
    assert told(by, BAD) == [[row[4]] for row in BAD]
    reasons = {row[4] for row in BAD}
    assert len({by.reasons[reason].words for reason in reasons}) == len(reasons)


def test_great_expectations_finds_the_rows_that_arrow_finds() -> None:
    by = contract()
    table = raw(by, [*GOOD, *BAD])
    found = broken_rows(by, table)
    results = row_suite(by).run(pandas_frame(row_frame(by, table)))
    assert {one.rule.name: list(one.positions) for one in results} == {
        name: positions.tolist() for name, positions in found.items()
    }


def test_an_offset_of_a_kept_row_is_a_whole_number_of_characters() -> None:
    table = raw(contract(), GOOD)
    for row in table.to_pylist():
        start = int(row["answer_start"])
        assert row["answer_start"] == str(start)
        assert row["context"][start:].startswith(row["answer"])


@pytest.mark.parametrize(("unit", "start"), [("utf8", BYTES), ("utf16", UNITS)])
def test_offsets_in_another_unit_are_counted_anew(unit: str, start: int) -> None:
    by = contract(offsets=unit)
    rows: list[Row] = [(ASK, CONTEXT, "Arles", str(start))]
    assert starts(by, rows) == [str(PLACE)]
    assert told(by, rows) == [[]]
    assert told(by, [(ASK, CONTEXT, "Arles", str(PLACE))]) == [["offset_in_characters"]]
    advice = contract().reasons[f"offset_in_{unit}"]
    assert f"offsets: {unit}" in advice.remedy and "characters (code points)" in advice.remedy


def test_an_offset_within_a_character_is_of_no_unit() -> None:
    inside = len(b"Zo") + 1  # the second byte of ë
    assert told(contract(offsets="utf8"), [(ASK, CONTEXT, "Arles", str(inside))]) == [
        ["offset_elsewhere"]
    ]


def test_an_answer_without_an_offset_is_looked_for_and_must_stand_once() -> None:
    columns = {"answer_start": None}
    rows: list[Row] = [
        (ASK, CONTEXT, "lane", None),
        (ASK, CONTEXT, "Arles", None),
        (ASK, CONTEXT, "Nîmes", None),
        (ASK, CONTEXT, "", None),
    ]
    by = contract(columns=columns, unanswerable="keep")
    assert told(by, rows) == [[], ["answer_repeated"], ["answer_not_found"], []]
    assert starts(by, rows) == [str(CONTEXT.index("lane")), None, None, "-1"]
    first = contract(columns=columns, unanswerable="keep", repeated="first")
    assert told(first, rows) == [[], [], ["answer_not_found"], []]
    assert starts(first, rows)[1] == str(PLACE)
    assert first.reading != by.reading, "so that the rows are read again"


def test_an_answer_that_overlaps_itself_stands_twice() -> None:
    by = contract(columns={"answer_start": None})
    assert told(by, [(ASK, "banana", "ana", None)]) == [["answer_repeated"]]


def test_a_question_without_an_answer_is_kept_where_the_contract_says_so() -> None:
    rows: list[Row] = [(ASK, CONTEXT, None, ""), ("Who?", CONTEXT, "  ", " -1 ")]
    by = contract(unanswerable="keep")
    assert told(by, rows) == [[], []]
    table = raw(by, rows)
    assert table["answer"].to_pylist() == ["", ""]
    assert table["answer_start"].to_pylist() == ["-1", "-1"]
    assert by.learn(by.count(table)) == {"script": "Latin", "unanswerable": True}
    full = by.count(raw(by, GOOD))
    assert by.learn(full) == {"script": "Latin", "unanswerable": False}


def test_a_refused_row_shows_what_was_written() -> None:
    [row] = raw(contract(), [(ASK, "  ", "Arles", "-1")]).to_pylist()
    assert (row["answer"], row["answer_start"]) == ("Arles", "-1")


@pytest.mark.parametrize("cell", ["Arles", "[1]", '{"text": "x"}', '["Arles"', "[[]]"])
def test_a_list_of_answers_is_a_list_of_texts(cell: str) -> None:
    by = contract()
    table = raw(by, GOOD[:1]).to_pylist()
    table[0]["answers"] = cell
    rows = pa.Table.from_pylist(table, schema=raw_schema(by))
    found = judge(Corpus(rows, [0]), by).verdicts
    assert found.named(int(found.reasons[0])) == ["bad_answers"]


def test_several_answers_of_a_question_are_kept_unless_it_is_said_otherwise() -> None:
    rows: list[Row] = [
        (ASK, CONTEXT, "Arles", str(PLACE)),
        (ASK, CONTEXT, "lane", str(CONTEXT.index("lane"))),
        (ASK, CONTEXT, "Arles", str(PLACE)),
        (ASK.upper(), CONTEXT, "Arles", str(CONTEXT.rindex("Arles"))),
    ]
    assert told(contract(), rows) == [[], [], ["duplicate"], []]
    by = contract(conflicts={"keep": "earliest"})
    odd = ["answered_otherwise"]
    assert told(by, rows) == [[], odd, ["duplicate"], odd]
    same = [rows[0], (ASK, f"{CONTEXT} Yes.", "Arles", str(PLACE))]
    assert told(contract(), same) == [[], []], "another context is another question"


def test_a_context_stands_in_one_split_alone() -> None:
    rows: list[Row] = [*GOOD[:3], ("Who?", f"{CONTEXT} Yes.", "Zoë", "0")]
    splits = ["train", "valid", "test", "train"]
    assert told(contract(), rows, splits) == [["leaked"], ["leaked"], [], []]
    kept = contract(leakage={"action": "keep"})
    assert told(kept, rows, splits) == [[]] * 4
    assert kept.reasons["leaked"].words == "contexts that also stand in a later split"


def test_the_split_is_drawn_by_the_context_alone() -> None:
    by = contract(contexts={"max_characters": 1000})
    rows = [(f"{n}?", f"Context {c}.", "Context", "0") for c in range(200) for n in range(3)]
    names = ("question", "context", "answer", "answer_start")
    columns = {name: pa.array([row[at] for row in rows]) for at, name in enumerate(names)}
    columns["answers"] = pa.nulls(len(rows), pa.string())
    numbers = pa.array(range(len(rows)), pa.int64())
    cells = Cells(columns, numbers, ["a"] * len(rows), [None] * len(rows), None)
    table = raw_table(cells, by, ())
    found: dict[str, set[str]] = {}
    for row in table.to_pylist():
        found.setdefault(row["context"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in found.values())
    assert {split for splits in found.values() for split in splits} == {"train", "valid", "test"}


def test_a_later_model_has_seen_a_row_by_its_context(tmp_path: Any) -> None:
    by = contract()
    hashes = ValidatedRows(tmp_path, by).hashes(raw(by, GOOD))
    assert len({*hashes.tolist()}) == 1, "one context, whatever is asked of it"


def test_one_column_cannot_be_the_question_and_the_context() -> None:
    with pytest.raises(RecipeError, match="one column plays two roles"):
        contract(columns={"question": "text", "context": "text"})


def test_the_script_is_that_of_most_contexts() -> None:
    by = contract()
    chinese: list[Row] = [
        (f"在哪里{n}？", f"咖啡馆在北京的第{n}条街上。", "北京", "4") for n in range(3)
    ]
    counts = by.count(raw(by, [*GOOD[:1], *chinese]))
    assert by.learn(counts)["script"] == "Han"
