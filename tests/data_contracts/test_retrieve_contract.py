"""Questions and answers to find: each rule has a row that breaks it, and an index of one is none."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from data_contracts.contract.contract import DataContract, parse_contract
from data_contracts.contract.expectations import pandas_frame, row_suite
from data_contracts.contract.frames import row_frame
from data_contracts.contract.judge import Corpus, judge, limits
from data_contracts.contract.raw import Cells, raw_table
from data_contracts.contract.verdicts import broken_rows
from data_contracts.errors import RecipeError

ASK = "How do I send it back?"
SAY = "Put it in its box and hand it to the courier."
Row = tuple[Any, ...]
GOOD: list[Row] = [
    (ASK, SAY, "returns", "https://shop.example/returns"),
    ("Can I pay later?", "You can, within a month.", "payment", None),
    ("Is there a shop in town?", "No.", None, None),
    ("哪里可以退货？", SAY, " ", ""),
]
BAD: list[Row] = [
    ("", SAY, "returns", None, "empty_question"),
    (" \t", SAY, "returns", None, "empty_question"),
    (ASK * 20, SAY, "returns", None, "over_long_question"),
    ("May I ask?\ufffd", SAY, "returns", None, "broken_encoding_question"),
    ("May I ask?", "", "returns", None, "empty_answer"),
    ("May I ask?", None, "returns", None, "empty_answer"),
    ("May I ask?", SAY * 9, "returns", None, "over_long_answer"),
    ("May I ask?", f"{SAY}\ufffd", "returns", None, "broken_encoding_answer"),
    ("May I ask?", f"{SAY}\x07", "returns", None, "control_characters_answer"),
    ("May I ask?", "MAY  I ask?", "returns", None, "identical"),
]
NAMES = ("question", "answer", "page", "link")


def contract(**parts: Any) -> DataContract:
    given = {
        "columns": {"page": "page", "link": "link"},
        "questions": {"max_characters": 200},
        "answers": {"max_characters": 300, "allow_control_characters": False},
        **parts,
    }
    return parse_contract({"kind": "retrieve", "name": "t", **given}, origin="test")


def raw(by: DataContract, rows: list[Row], splits: Any = None) -> pa.Table:
    count = len(rows)
    columns = {
        by.sources[name]: pa.array([row[at] for row in rows], pa.string())
        for at, name in enumerate(NAMES)
        if name in by.sources
    }
    numbers = pa.array(range(1, count + 1), pa.int64())
    given = () if splits is None else ("train", "valid", "test")
    cells = Cells(columns, numbers, ["a.csv"] * count, splits or [None] * count, None)
    return raw_table(cells, by, given)


def told(by: DataContract, rows: list[Row], splits: Any = None) -> list[list[str]]:
    table = raw(by, rows, splits or ["train"] * len(rows))
    found = judge(Corpus(table, list(range(len(table)))), by).verdicts
    return [found.named(int(mask)) for mask in found.reasons]


def test_each_fault_has_a_reason_of_its_own_and_good_rows_have_none() -> None:
    by = contract()
    assert told(by, GOOD) == [[]] * len(GOOD)
    assert told(by, BAD) == [[row[4]] for row in BAD]
    assert told(contract(identical="keep"), BAD[-1:]) == [[]]


def test_great_expectations_finds_the_rows_that_arrow_finds() -> None:
    by = contract()
    table = raw(by, [*GOOD, *BAD], ["train"] * (len(GOOD) + len(BAD)))
    results = row_suite(by).run(pandas_frame(row_frame(by, table)))
    assert {one.rule.name: list(one.positions) for one in results} == {
        name: positions.tolist() for name, positions in broken_rows(by, table).items()
    }


def test_a_page_and_a_link_are_roles_where_they_are_named() -> None:
    assert [role.name for role in contract().roles] == [*NAMES]
    plain = contract(columns={})
    assert [role.name for role in plain.roles] == ["question", "answer"]
    assert (plain.drawn_by, contract().drawn_by) == (("question",), ("page",))
    both = contract(columns={"page": "source", "link": "source"})
    assert both.sources == {
        "question": "question", "answer": "answer", "page": "source", "link": "source",
    }  # fmt: skip
    with pytest.raises(RecipeError, match="one column plays two roles"):
        contract(columns={"page": "answer"})
    with pytest.raises(RecipeError, match="one column plays two roles"):
        contract(columns={"link": "source", "slices": ["source"]})


def test_the_split_is_drawn_by_the_page_or_by_the_question_where_there_is_none() -> None:
    by = contract()
    rows = [(f"Question {n} of {p}?", f"Answer {n}", f"page {p}", None) for p in range(150) for n in range(3)]  # fmt: skip
    rows += [(f"Question {n}?", f"Answer {n}", " ", None) for n in range(300)]
    table = raw(by, rows).to_pylist()
    found: dict[str, set[str]] = {}
    for row in table[:450]:
        found.setdefault(row["page"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in found.values())
    without = [row["split"] for row in table[450:]]
    assert {*without} == {"train", "valid", "test"}, "by their questions, and not all in one"
    plain = raw(contract(columns={}), [row[:2] for row in rows[450:]])
    assert plain["split"].to_pylist() == without


def test_a_question_stands_in_one_split_alone_and_a_page_may_in_several() -> None:
    rows: list[Row] = [
        (ASK, SAY, "a", None), (ASK.lower(), "By post.", "b", None), ("Why?", SAY, "a", None),
    ]  # fmt: skip
    assert told(contract(), rows, ["train", "test", "valid"]) == [["leaked"], [], []]


def test_several_answers_are_right_unless_it_is_said_otherwise() -> None:
    rows: list[Row] = [(ASK, SAY, "a", None), (ASK, "By post.", "b", None), (ASK, SAY, "c", None)]
    assert told(contract(), rows) == [[], [], ["duplicate"]]
    latest = contract(conflicts={"keep": "latest"})
    assert told(latest, rows) == [[], ["answered_otherwise"], ["duplicate"]]
    assert latest.reasons["answered_otherwise"].words.startswith("questions that stand in their")


@pytest.mark.parametrize(
    ("answers", "different"),
    [([SAY, SAY.upper(), f" {SAY} "], 1), ([SAY, "No."], 2), ([SAY, "No.", "Yes."], 2)],
)
def test_an_index_of_one_answer_is_none(answers: list[str], different: int) -> None:
    by = contract()
    rows: list[Row] = [(f"{at}?", answer, None, None) for at, answer in enumerate(answers)]
    table = raw(by, rows, ["train"] * len(rows))
    foretold = judge(Corpus(table, list(range(len(table)))), by)
    [limit] = [one for one in limits(by, foretold) if one.name == "different_answers"]
    assert limit.holds == (different >= 2)
    if different == 1:
        assert (
            str(limit) == "different answers, of which one is to be found: 1, allowed is at least 2"
        )


def test_answers_are_counted_over_parts_as_over_all() -> None:
    by = contract()
    rows: list[Row] = [(f"{n}?", f"Answer {n // 50}.", None, None) for n in range(100)]
    parts = [raw(by, rows[at : at + 10], ["train"] * 10) for at in range(0, 100, 10)]
    counts = sum((by.count(part) for part in parts), by.count(parts[0].slice(0, 0)))
    assert by.aggregates(counts) == {"different_answers": 2}
    assert sum(1 for what, *_ in counts if what == "an_answer") <= 2 * len(parts)


def test_what_the_rows_say() -> None:
    by = contract()
    counts = by.count(raw(by, GOOD, ["train"] * len(GOOD)))
    assert by.learn(counts) == {"script": "Latin", "pages": True, "links": True}
    plain = contract(columns={"question": "q"})
    chinese = plain.count(raw(plain, [row[:2] for row in GOOD[3:]], ["train"]))
    assert plain.learn(chinese) == {"script": "Han", "pages": False, "links": False}
