"""A drafted contract finds the roles, says what it chose between, and reads back as itself."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest

from data_contracts.contract.contract import parse_contract
from data_contracts.contract.infer import Draft
from data_contracts.contract.notes import rare, spelled_alike
from data_contracts.contract.rules import Role
from data_contracts.contract.written import to_yaml
from data_contracts.errors import SourceError
from data_contracts.sample.generator import LABELS, write_sample
from data_contracts.yaml_text import parse_yaml
from flows.cli.drafts import draft_from


def write_csv(path: Path, header: list[str], rows: list[list[object]]) -> str:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


def draft(path: Any, **options: Any) -> Draft:
    *_, drafted = draft_from({"files": [str(path)], **options})
    return drafted


def reviews(count: int, seed: int = 0) -> list[list[object]]:
    rng = random.Random(seed)
    return [
        [f"k{i}", i % 7, " ".join(rng.choices("abcdefghij", k=30)), rng.choice([1, 2, 3])]
        for i in range(count)
    ]


def test_roles_are_found_by_content(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "shop_reviews.csv", ["key", "weekday", "what they said", "rating"], reviews(500)
    )
    contract = draft(path).contract
    assert contract.name == "shop_reviews"
    assert contract.columns.model_dump() == {
        "id": "key", "text": "what they said", "label": "rating", "split": None, "slices": (),
    }  # fmt: skip
    assert contract.labels.values == ("1", "2", "3")


def test_rare_labels_of_the_sample_are_kept_and_named(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample.parquet", 20_000, 1)
    drafted = draft(tmp_path / "sample.parquet", name="mine")
    assert drafted.contract.columns.model_dump() == {
        "id": "id", "text": "text", "label": "label", "split": "split", "slices": (),
    }  # fmt: skip
    assert {*LABELS, "5 stars"} <= set(drafted.contract.labels.values or ())
    assert any("'5 stars'" in line and "few rows" in line for line in drafted.warned)
    assert 0.01 <= drafted.contract.max_quarantine_share <= 0.05


def test_file_per_split_counts_leaks_and_its_own_ids(tmp_path: Path) -> None:
    rows = reviews(400)
    train = write_csv(
        tmp_path / "train.csv", ["key", "day", "text", "label"], [*rows[:300], *rows[:30]]
    )
    test = write_csv(tmp_path / "test.csv", ["key", "day", "text", "label"], rows[270:])
    *_, drafted = draft_from({"train": train, "test": test})
    contract = drafted.contract
    assert contract.columns.id is None, "keys repeat within a file"
    assert contract.duplicates.max_share == pytest.approx(2 * 30 / 460, abs=0.002)
    assert contract.leakage.max_share == pytest.approx(2 * 30 / 460, abs=0.002)
    write_csv(tmp_path / "train.csv", ["key", "day", "text", "label"], rows[:300])
    *_, drafted = draft_from({"train": train, "test": test})
    assert drafted.contract.columns.id == "key", "an id need be unique in its file alone"


def test_yaml_reads_back_as_the_same_contract_with_counts_beside_the_labels(tmp_path: Path) -> None:
    labels = ["yes", "010", "1.10", "a: b", "# x", "  ", "null", "ü\u2028v", 'say "no"', "- a"]
    rows = [[f"text number {i} of many", labels[i % len(labels)]] for i in range(200)]
    (tmp_path / "r.jsonl").write_text(
        "".join(json.dumps({"text": t, "label": x}) + "\n" for t, x in rows)
    )
    drafted = draft(tmp_path / "r.jsonl")
    text = to_yaml(drafted)
    assert parse_contract(parse_yaml(text, "draft"), origin="draft") == drafted.contract
    assert len(drafted.contract.labels.values or ()) == 9, "white space is no label"
    assert text.count("# 20 rows, 10.0%") == 9


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        (["text", "label"], [[f"text {i}", "same"] for i in range(50)], "all 50 rows have 'same'"),
        (
            ["text", "other"],
            [[f"text {i}", f"z{i}"] for i in range(50)],
            "No column looks like a label",
        ),
        (["a", "b"], [[i, i % 2] for i in range(50)], "looks like text"),
        (["text", "label"], [], "no rows"),
        (
            ["text", "annotator", "lang"],
            [[f"the text {i}", i % 3, "en"] for i in range(60)],
            "annotator tell who",
        ),
    ],
)
def test_data_without_roles_are_refused(
    tmp_path: Path, header: list[str], rows: list[list[object]], message: str
) -> None:
    with pytest.raises(SourceError, match=message) as refused:
        draft(write_csv(tmp_path / "x.csv", header, rows))
    assert "by hand" not in refused.value.remedy and "contract" not in refused.value.remedy


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nothing\.csv: no such file") as refused:
        draft(tmp_path / "nothing.csv")
    assert "recipe" not in refused.value.remedy


def test_labels_that_look_alike_or_like_slips_are_named_with_their_rows() -> None:
    from collections import Counter

    counts = Counter(
        {
            "billing": 900,
            "BILLING": 2,
            "delivery": 800,
            "delivvery": 1,
            "refund": 700,
            "refunds": 600,
        }
    )
    alike, slips = spelled_alike(counts, Role("label", "category"))
    assert "'billing' (900 rows) = 'BILLING' (2 rows)" in alike
    assert "'delivvery' (1) beside 'delivery' (800)" in slips and "refunds" not in slips
    assert "'delivvery' (1), 'BILLING' (2)" in rare(counts, 3_003, Role("label", "category"))[0]
    assert rare(Counter(a=5, b=6), 11, Role("label", "category")) == [], (
        "where all are few, none stands out"
    )


def test_a_label_of_few_rows_among_many_classes_is_kept(tmp_path: Path) -> None:
    rows = [[f"text {i} of the news", f"topic {i % 52:02}"] for i in range(5_200)]
    rows = [row for row in rows if row[1] >= "topic 05" or row[0] < "text 2"]
    rows += [[f"the only text {i}", f"topic {i:02}"] for i in range(5)]
    drafted = draft(write_csv(tmp_path / "news.csv", ["text", "label"], rows))
    assert len(drafted.contract.labels.values or ()) == 52


def test_a_file_of_more_rows_than_are_read_says_so(tmp_path: Path) -> None:
    from data_contracts.kinds.classify_draft import draft_contract, find_roles
    from tasks.sources.look import Asked, look

    path = write_csv(tmp_path / "r.csv", ["k", "d", "text", "label"], reviews(200))
    seen = look(Asked(path), most=100)
    assert len(seen.rows) == 100 and not seen.rows.complete
    drafted = draft_contract(seen.rows, find_roles(seen.rows), "r")
    assert any("first 100 rows" in line for line in drafted.told)
    whole = look(Asked(path), most=200)
    assert whole.rows.complete
