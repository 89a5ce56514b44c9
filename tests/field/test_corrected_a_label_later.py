"""The same text with another label in one split: a correction, or two people who disagree."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from data_contracts.errors import ContractViolation
from data_contracts.recipe.source import DataWindow, FileSource
from tasks.sources.files import list_files
from tests.field.rows import csv_of, judge, mails


def weeks(folder: Path, corrected: int = 12) -> Path:
    """A second week that corrects rows of the first, writes three of them again as they were, and
    adds its own.
    """
    first = mails(100)
    other = {"billing": "配送", "配送": "billing"}
    again = [
        {"text": f" {row['text'].upper()}", "label": other[row["label"]]}
        for row in first[:corrected]
    ]
    csv_of(folder / "2026-11-20.csv", first)
    csv_of(
        folder / "2026-11-27.csv",
        [*again, *first[50:53], {"text": "a new one", "label": "billing"}],
    )
    return folder


@pytest.mark.parametrize(
    ("keep", "kept", "relabelled", "labels"),
    [
        ("latest", 101, 12, {"配送"}),
        ("earliest", 101, 12, {"billing"}),
        ("none", 89, 24, set()),
        ("all", 113, 0, {"billing", "配送"}),
    ],
)
def test_the_label_that_counts_is_the_policy_s(
    tmp_path: Path, keep: str, kept: int, relabelled: int, labels: set[str]
) -> None:
    told = judge(weeks(tmp_path), conflicts={"keep": keep, "max_share": 1})
    assert len(told.kept) == kept
    assert told.quarantined == {
        **({"relabelled": relabelled} if relabelled else {}),
        "duplicate": 3,
    }
    first = [
        row["label"]
        for row in told.kept
        if row["text"].strip().casefold() == "bill number 0, twice"
    ]
    assert set(first) == labels


def test_the_quarantine_says_which_row_counts(tmp_path: Path) -> None:
    told = judge(weeks(tmp_path))
    lost = [row for row in told.refused if row["reason"] == "relabelled"]
    assert {row["file"] for row in lost} == {"2026-11-20.csv"}, "the later week's label counts"
    assert [row["counts_instead"] for row in lost][:2] == [
        "2026-11-27.csv row 1, label '配送'",
        "2026-11-27.csv row 2, label 'billing'",
    ]
    assert "texts that stand in their split with another label" in told.page
    assert (
        "'billing' of text 'bill number 0, twice' (what counts: 2026-11-27.csv row 1" in told.page
    )


def test_repeats_that_are_kept_do_not_keep_the_wrong_label(tmp_path: Path) -> None:
    told = judge(weeks(tmp_path), duplicates={"action": "keep", "max_share": 1})
    assert told.quarantined == {"relabelled": 12} and len(told.kept) == 104


def test_more_conflicts_than_the_contract_allows_stop_the_run(tmp_path: Path) -> None:
    with pytest.raises(
        ContractViolation,
        match=r"relabelled_share: .*, 10\.3 % \(limit: at most 5 %\).*conflicts\.keep",
    ):
        judge(weeks(tmp_path), conflicts={"max_share": 0.05})


def test_across_splits_it_is_a_leak_whatever_the_label(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = mails(60)
    csv_of(tmp_path / "train.csv", [*rows[:40], {"text": rows[50]["text"], "label": "配送"}])
    csv_of(tmp_path / "test.csv", rows[40:])
    url = {"train": str(tmp_path / "train.csv"), "test": str(tmp_path / "test.csv")}
    told = judge(url, leakage={"max_share": 1})
    assert told.quarantined == {"leaked": 1}


def test_the_same_rows_in_another_order_are_judged_again(tmp_path: Path) -> None:
    """Ids of the source do not tell which row came later, so the place of a row is a part of what
    is read.
    """
    rows = [{"id": str(i), **row} for i, row in enumerate(mails(60))]
    early, late = {**rows[0], "id": "x", "label": "配送"}, rows
    csv_of(tmp_path / "a" / "1.csv", [early])
    csv_of(tmp_path / "a" / "2.csv", late)
    csv_of(tmp_path / "b" / "1.csv", late)
    csv_of(tmp_path / "b" / "2.csv", [early])
    found = [judge(tmp_path / folder, columns={"id": "id"}) for folder in ("a", "b")]
    labels = [[row["label"] for row in told.kept if row["text"] == early["text"]] for told in found]
    assert labels == [["billing"], ["配送"]]


def test_a_later_day_is_read_later_however_its_name_is_spelled(tmp_path: Path) -> None:
    for day in ("28-Nov-2026", "03-Dec-2026", "30-Nov-2026"):
        csv_of(tmp_path / f"{day}.csv", mails(20))
    window = DataWindow(start=date(2026, 11, 20), end=date(2026, 12, 5))
    files = list_files(FileSource(url=str(tmp_path), window=window))
    assert [file.name for file in files] == [
        "28-Nov-2026.csv",
        "30-Nov-2026.csv",
        "03-Dec-2026.csv",
    ]
