"""Parquet of Hugging Face's datasets: class numbers, whose names stand in the file's own metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.field.rows import contract, judge, rows_of

NAMES = ["账单", "delivery"]
FEATURE: dict[str, Any] = {"names": NAMES, "_type": "ClassLabel"}


def saved(path: Path, labels: pa.Array, feature: Any = FEATURE, **more: Any) -> Path:
    features = {
        "text": {"dtype": "string", "_type": "Value"},
        "label": feature,
        "meta": {"k": {"_type": "Value"}},
    }
    table = pa.table({"text": [f"text {i}" for i in range(len(labels))], "label": labels, **more})
    pq.write_table(
        table.replace_schema_metadata(
            {"huggingface": json.dumps({"info": {"features": features}})}
        ),
        path,
    )
    return path


def test_the_names_are_the_labels_and_it_is_told(tmp_path: Path) -> None:
    labels = pa.array([*([0, 1] * 30), -1, None, 7])
    told = judge(saved(tmp_path / "train-00000-of-00001.parquet", labels, meta=[{"k": 1}] * 63))
    assert told.labels == ("delivery", "账单") and len(told.kept) == 60
    assert [(row["label"], row["reasons"]) for row in told.refused] == [
        (None, ["bad_label"]), (None, ["bad_label"]), ("7", ["unnamed_class"]),
    ]  # fmt: skip
    assert "Label names are taken from the file's own metadata (63 rows)." in told.told
    assert any(
        "class -1" in one and one.endswith("is a missing label (1 row).") for one in told.told
    )


def test_a_contract_of_numbers_keeps_them_and_says_so(tmp_path: Path) -> None:
    told = judge(
        saved(tmp_path / "a.parquet", pa.array([0, 1] * 30)), labels={"values": ["0", "1"]}
    )
    assert told.labels == ("0", "1") and len(told.kept) == 60
    assert any(
        one.startswith("The labels are class numbers, as the contract names them")
        for one in told.told
    )
    named = judge(tmp_path / "a.parquet", labels={"values": NAMES})
    assert named.labels == tuple(NAMES) and not named.quarantined


def test_names_that_are_numbers_are_names(tmp_path: Path) -> None:
    stars = {"names": ["1", "2", "3"], "_type": "ClassLabel"}
    path = saved(tmp_path / "a.parquet", pa.array([0, 1, 2]), stars)
    by = contract(labels={"values": ["1", "2", "3"]})
    assert [row["label"] for row in rows_of(path, by)] == ["1", "2", "3"]


def test_lists_of_one_class_and_of_one_text(tmp_path: Path) -> None:
    classes = pa.array([[0], [0, 1], [], [9]], pa.list_(pa.int64()))
    for feature in ({"feature": FEATURE, "_type": "Sequence"}, [FEATURE]):
        rows = rows_of(saved(tmp_path / "a.parquet", classes, feature))
        assert [row["label"] for row in rows] == ["账单", "[0, 1]", None, "9"]
        assert [row["fault"] for row in rows] == [None, "several_labels", None, "unnamed_class"]
    texts = pa.array([["a"], ["a", "b"], None, ["b"]])
    rows = rows_of(saved(tmp_path / "a.parquet", texts, None))
    assert [(row["label"], row["fault"]) for row in rows] == [
        ("a", None), ('["a", "b"]', "several_labels"), (None, None), ("b", None),
    ]  # fmt: skip


def test_minus_one_without_names_is_a_label_like_any(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.parquet", pa.array([-1, 0, 1]), {"dtype": "int64", "_type": "Value"})
    assert [row["label"] for row in rows_of(path)] == ["-1", "0", "1"]
