"""An id names a row of its file; in the corpus every row has a name of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data_contracts.errors import ContractViolation
from tests.field.rows import contract, csv_of, judge, mails, rows_of

BY: dict[str, Any] = {"columns": {"id": "id"}}


def numbered(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{"id": str(i), **row} for i, row in enumerate(rows, 1)]


def test_train_and_test_both_count_from_one(tmp_path: Path) -> None:
    rows = mails(90)
    url = {
        "train": str(csv_of(tmp_path / "train.csv", numbered(rows[:60]))),
        "test": str(csv_of(tmp_path / "test.csv", numbered(rows[60:]))),
    }
    told = judge(url, **BY)
    assert not told.quarantined and len(told.kept) == len({row["id"] for row in told.kept}) == 90
    names = {row["text"]: row["id"] for row in told.kept}
    assert (names[rows[0]["text"]], names[rows[60]["text"]], names[rows[40]["text"]]) == (
        "train.csv:1",
        "test.csv:1",
        "41",
    )
    assert "Ids that stand in several files are called <file>:<id> (60 rows)." in told.told


def test_many_days_of_json_lines(tmp_path: Path) -> None:
    rows = mails(90)
    for day in range(3):
        lines = map(json.dumps, numbered(rows[day * 30 : day * 30 + 30]))
        (tmp_path / f"2026-11-0{day + 1}.jsonl").write_text("\n".join(lines))
    ids = [row["id"] for row in rows_of(tmp_path, contract(**BY))]
    assert (
        len(set(ids)) == 90 and ids[0] == "2026-11-01.jsonl:1" and ids[-1] == "2026-11-03.jsonl:30"
    )


def test_ids_that_are_unique_anyway_stay_as_they_are(tmp_path: Path) -> None:
    rows = numbered(mails(40))
    csv_of(tmp_path / "a.csv", rows[:20])
    csv_of(tmp_path / "b.csv", rows[20:])
    assert [row["id"] for row in rows_of(tmp_path, contract(**BY))] == [row["id"] for row in rows]


def test_within_a_file_an_id_is_refused_the_second_time_with_the_way_out(tmp_path: Path) -> None:
    rows = numbered(mails(60))
    for row in rows[30:]:
        row["id"] = str(int(row["id"]) - 30)
    with pytest.raises(
        ContractViolation, match=r"ids that stood before, 50 %.*set columns\.id: null"
    ):
        judge(csv_of(tmp_path / "a.csv", rows), **BY, max_quarantine_share=0.05)
    assert not judge(tmp_path / "a.csv").quarantined
