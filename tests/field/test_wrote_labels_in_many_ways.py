"""One label, whatever program wrote it: `1.0` beside an empty cell, a blank from a spreadsheet,
`True` from pandas.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data_contracts.contract.contract import parse_contract
from data_contracts.errors import ContractViolation
from data_contracts.tables.categories import category_text, look_alikes
from tests.field.rows import Told, csv_of, judge, rows_of

SPELLINGS = {
    "1": ["1", "1.0", "1.00", " 1", "1\u00a0", "\u30001.0"],
    "0": ["0", "0.0", "-0.0"],
    "true": ["true", "True", "TRUE"],
    "false": ["False", "false "],
    "账单": ["账单", "\u3000账单", "账单\u200b", "\ufeff账单", "账单\t"],
    "café au lait": ["café au lait", "cafe\u0301 au lait", "café  au\u00a0lait"],
    "1.10": ["1.10"],
    "007": ["007"],
    "1.5": ["1.5"],
    "yes": ["yes", "yes\u2003"],
}


@pytest.mark.parametrize("label", SPELLINGS)
def test_every_spelling_is_the_label_in_every_format(tmp_path: Path, label: str) -> None:
    spellings = [spelling for spelling in SPELLINGS[label] for _ in range(6)]
    rows = [{"text": f"text {i}", "label": spelling} for i, spelling in enumerate(spellings)]
    csv_of(tmp_path / "a.csv", rows)
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    for name in ("a.csv", "a.jsonl"):
        assert {row["label"] for row in rows_of(tmp_path / name)} == {label}
    assert parse_contract({"name": "x", "labels": {"values": [spellings[-1], "b"]}}, origin="t").labels.values == (
        label, "b",
    )  # fmt: skip


def test_what_was_respelled_is_told(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": ("0", "1", "0.0", "1.0")[i % 4]} for i in range(80)]
    told = judge(csv_of(tmp_path / "a.csv", rows))
    assert told.labels == ("0", "1")
    assert (
        "20 labels read as '1' were written '1.0'." in told.told
        and told.report.count("were written") == 2
    )


def test_labels_that_look_alike_are_kept_apart_and_named(tmp_path: Path) -> None:
    pairs = [
        ("billing", "BILLING"),
        ("账单", "账单。"),
        ("ABC", "ＡＢＣ"),
        ("to pay", "to-pay"),
        ("7", "007"),
    ]
    labels = ["other", *(label for pair in pairs for label in pair)]
    told = judge(
        csv_of(
            tmp_path / "a.csv", [{"text": f"text {i}", "label": labels[i % 11]} for i in range(220)]
        )
    )
    assert set(told.labels) == set(labels)
    sentences = [one for one in told.told if "differ in writing alone" in one]
    assert len(sentences) == len(pairs) and not any("other" in one for one in sentences)
    for a, b in pairs:
        [sentence] = [one for one in sentences if repr(a) in one and repr(b) in one]
        assert sentence in told.report and sentence in told.page, "where an operator looks"


@pytest.mark.parametrize(
    "labels", [("C", "C++", "C#"), ("1", "-1"), ("1.5", "15"), ("外卖", "外賣"), ("v1.10", "v1.1")]
)
def test_labels_of_their_own_are_not_suspected(labels: tuple[str, ...]) -> None:
    assert look_alikes(labels) == []


def test_an_unknown_label_is_refused_with_what_was_meant_and_what_there_is(tmp_path: Path) -> None:
    rows = [
        {"text": f"text {i}", "label": ("billing", "delivery", "Billing")[i % 3]} for i in range(90)
    ]
    labels: dict[str, Any] = {"labels": {"values": ["billing", "delivery"]}}
    with pytest.raises(ContractViolation) as fault:
        judge(csv_of(tmp_path / "a.csv", rows), **labels, max_quarantine_share=0.05)
    assert "label 'Billing' (did you mean 'billing'?)" in fault.value.cause
    assert "the contract has 'billing', 'delivery'" in fault.value.cause
    told: Told = judge(tmp_path / "a.csv", **labels)
    assert "30 rows have the unknown label 'Billing' (did you mean 'billing'?)." in told.told


def test_a_cell_of_blanks_is_no_label() -> None:
    assert [category_text(cell) for cell in ("", " \t", "\u200b", "\u3000\u00a0")] == [None] * 4
