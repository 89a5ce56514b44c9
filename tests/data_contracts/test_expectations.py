"""Each expectation lets a good table pass, and has one bad row that fails for that reason alone."""

from __future__ import annotations

from functools import cache

import pandas as pd
import pyarrow as pa
import pytest

from data_contracts.contract.contract import DataContract, parse_contract
from data_contracts.contract.expectations import (
    Suite,
    corpus_frame,
    corpus_suite,
    pandas_frame,
    row_suite,
)
from data_contracts.contract.frames import arrow_schema, raw_schema, row_frame
from data_contracts.contract.verdicts import broken_rows

GOOD = [
    ("a fine text", "good"),
    ("一个不错的句子", "bad"),
    ("tabs\tand\r\nlines are fine\x85", "good"),
    ("😀" * 20, "bad"),
]
LABELS = {"values": ["good", "bad"]}
PLAIN = parse_contract({"name": "plain"}, origin="test")
REASONS = tuple(PLAIN.reasons)
CELL_REASONS = tuple(reason.name for reason in PLAIN.cell_reasons)


@cache
def contract() -> DataContract:
    text = {"min_characters": 3, "max_characters": 40, "allow_control_characters": False}
    labels = LABELS | {"min_share": 0.2, "max_share": 0.8, "max_count": 3}
    return parse_contract(
        {"name": "strict", "text": text, "labels": labels, "splits": {"min_rows": 10}},
        origin="test",
    )


@cache
def rows() -> Suite:
    return row_suite(contract())


@cache
def corpus() -> Suite:
    return corpus_suite(contract())


def table(cells: list[tuple[str | None, str | None]], fault: str | None = None) -> pa.Table:
    columns = {
        "text": [t for t, _ in cells],
        "label": [la for _, la in cells],
        "fault": [fault] * len(cells),
    }
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def broken(cells: list[tuple[str | None, str | None]]) -> dict[str, tuple[int, ...]]:
    """The rules that Great Expectations finds broken; Arrow finds the same ones, in the same rows."""
    made = table(cells)
    results = rows().run(frame(made))
    by_arrow = {name: tuple(at.tolist()) for name, at in broken_rows(contract(), made).items()}
    assert by_arrow == {one.rule.name: one.positions for one in results}
    return {one.rule.name: one.positions for one in results if not one.success}


def frame(made: pa.Table) -> pd.DataFrame:
    return pandas_frame(row_frame(contract(), made))


def test_good_rows_pass() -> None:
    assert broken(GOOD) == {}


@pytest.mark.parametrize(
    ("text", "label", "name", "reason"),
    [
        (None, "good", "text_not_empty", "empty"),
        ("", "good", "text_not_empty", "empty"),
        (" \t\u3000\u00a0\n", "good", "text_not_empty", "empty"),
        ("  ab  ", "good", "text_min_characters", "too_short"),
        ("好" * 41, "good", "text_max_characters", "over_long"),
        ("caf\ufffd", "good", "text_encoding", "broken_encoding"),
        ("it\x92s", "good", "text_controls", "control_characters"),
        ("a\x00b", "good", "text_controls", "control_characters"),
        ("a fine text", None, "label_not_null", "bad_label"),
        ("a fine text", "Good", "label_known", "bad_label"),
    ],
)
def test_bad_row_fails_for_its_reason_alone(
    text: str | None, label: str | None, name: str, reason: str
) -> None:
    assert broken([*GOOD, (text, label), *GOOD]) == {name: (len(GOOD),)}
    assert next(one.reason for one in contract().all_row_rules if one.name == name) == reason


@pytest.mark.parametrize("reason", CELL_REASONS)
def test_a_cell_that_was_none_fails_for_what_the_reader_found(reason: str) -> None:
    rules = {rule.name: rule for rule in contract().all_row_rules}
    found = [one for one in rows().run(frame(table(GOOD, reason))) if not one.success]
    assert [(rules[one.rule.name].reason, one.positions) for one in found] == [
        (reason, (0, 1, 2, 3))
    ]


def test_length_counts_code_points_not_bytes() -> None:
    assert broken([("好" * 40, "good"), ("😀" * 40, "good")]) == {}


def test_row_may_have_several_faults() -> None:
    assert set(broken([("\ufffd" * 41, "nice")])) == {
        "text_max_characters",
        "text_encoding",
        "label_known",
    }


def test_all_null_columns_do_not_pass() -> None:
    assert broken([(None, None)] * 3) == {"text_not_empty": (0, 1, 2), "label_not_null": (0, 1, 2)}


def test_empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="empty frame"):
        rows().run(frame(table([])))


def test_expectation_that_cannot_be_evaluated_is_an_error() -> None:
    with pytest.raises(RuntimeError, match=r"text_encoding.*does not exist"):
        rows().run(frame(table(GOOD)).drop(columns="text_broken"))


def test_limits_that_the_contract_leaves_open_have_no_expectation() -> None:
    free = parse_contract(
        {"name": "free", "text": {"allow_replacement_character": True}}, origin="test"
    )
    assert {rule.name for rule in free.all_row_rules} == {
        "text_not_empty", "text_min_characters", "text_max_characters", "label_not_null",
        *(f"cell_{reason}" for reason in CELL_REASONS),
    }  # fmt: skip


def test_every_row_reason_has_an_expectation() -> None:
    assert {rule.reason for rule in contract().all_row_rules} == set(contract().own_reasons)


FACTS = {f"{reason}_share": 0.0 for reason in REASONS} | {
    "rows_kept": 100, "quarantine_share": 0.0,
    "label_count": 2, "smallest_label_share": 0.5, "largest_label_share": 0.5,
    **{f"{split}_{what}": 30 for split in ("train", "valid", "test") for what in ("rows", "not_empty")},
}  # fmt: skip


def test_good_corpus_passes() -> None:
    assert {rule.name for rule in corpus().rules} == set(FACTS)
    assert all(result.success for result in corpus().run(corpus_frame(FACTS)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(f"{reason}_share", 0.051) for reason in REASONS],
        ("rows_kept", 0),
        ("quarantine_share", 0.06),
        ("train_rows", 9),
        ("valid_not_empty", 0),
        ("test_not_empty", 0),
        ("test_rows", 9),
        ("label_count", 1),
        ("label_count", 4),
        ("smallest_label_share", 0.19),
        ("largest_label_share", 0.81),
    ],
)
def test_bad_aggregate_fails_its_expectation_alone(name: str, value: float) -> None:
    results = corpus().run(corpus_frame(FACTS | {name: value}))
    assert [r.rule.name for r in results if not r.success] == [name]


def test_aggregate_without_value_is_refused() -> None:
    with pytest.raises(ValueError, match="label_count"):
        corpus_frame(FACTS | {"label_count": float("nan")})
    with pytest.raises(RuntimeError, match="null"):
        corpus().run(pd.DataFrame([{"position": 0, **FACTS, "label_count": None}]))


def test_schemas_follow_the_contract() -> None:
    sliced = parse_contract({"name": "x", "columns": {"slices": ["language"]}}, origin="test")
    assert arrow_schema(sliced).names == ["id", "text", "label", "split", "language"]
    assert raw_schema(sliced).names == [
        "id",
        "text",
        "label",
        "split",
        "language",
        "fault",
        "file",
        "row",
    ]
    assert raw_schema(sliced).field("row").type == pa.int64()
