"""A drafted contract finds the roles, passes on its own data and reads back as itself."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest
import yaml

from data_contracts.contract import parse_contract
from data_contracts.errors import SourceError
from data_contracts.infer import infer_contract, to_yaml
from data_contracts.sample import LABELS, write_sample


def write_csv(path: Path, header: list[str], rows: list[list[object]]) -> str:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


def reviews(count: int, seed: int = 0) -> list[list[object]]:
    rng = random.Random(seed)
    return [[f"k{i}", i % 7, " ".join(rng.choices("abcdefghij", k=30)), rng.choice([1, 2, 3])] for i in range(count)]


def test_roles_are_found_by_content(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "Shop Reviews.csv", ["key", "weekday", "what they said", "rating"], reviews(500))
    contract = infer_contract(path)
    assert contract.name == "shop-reviews"
    assert contract.columns.model_dump() == {
        "id": "key", "text": "what they said", "label": "rating", "split": None, "slices": (),
    }  # fmt: skip
    assert contract.labels.values == ("1", "2", "3")


def test_sample_is_drafted_without_its_slips(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample.parquet", 20_000, 1)
    contract = infer_contract(str(tmp_path / "sample.parquet"), "mine")
    assert contract.columns.model_dump() == {
        "id": "id", "text": "text", "label": "label", "split": "split", "slices": (),
    }  # fmt: skip
    assert set(contract.labels.values or ()) == set(LABELS)
    assert "5 stars" in contract.description
    assert 0.01 <= contract.max_quarantine_share <= 0.05


def test_file_per_split_counts_leaks(tmp_path: Path) -> None:
    rows = reviews(400)
    train = write_csv(tmp_path / "train.csv", ["key", "day", "text", "label"], [*rows[:300], *rows[:30]])
    test = write_csv(tmp_path / "test.csv", ["key", "day", "text", "label"], rows[270:])
    contract = infer_contract({"train": train, "test": test})
    assert contract.columns.id is None  # keys repeat
    assert contract.duplicates.max_share == pytest.approx(2 * 30 / 460, abs=0.001)
    assert contract.leakage.max_share == pytest.approx(2 * 30 / 460, abs=0.001)


def test_yaml_reads_back_as_the_same_contract(tmp_path: Path) -> None:
    contract = infer_contract(write_csv(tmp_path / "r.csv", ["k", "d", "text", "label"], reviews(200)))
    text = to_yaml(contract)
    assert parse_contract(yaml.safe_load(text), origin="draft") == contract
    assert text.count("\n# ") == 7


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        (["text", "label"], [[f"text {i}", "same"] for i in range(50)], "looks like a label"),
        (["text"], [[f"text {i}"] for i in range(50)], "columns beside the text: none"),
        (["a", "b"], [[i, i % 2] for i in range(50)], "looks like text"),
        (["text", "label"], [], "no rows"),
    ],
)
def test_data_without_roles_are_refused(
    tmp_path: Path, header: list[str], rows: list[list[object]], message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        infer_contract(write_csv(tmp_path / "x.csv", header, rows))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nothing\.csv"):
        infer_contract(str(tmp_path / "nothing.csv"))
