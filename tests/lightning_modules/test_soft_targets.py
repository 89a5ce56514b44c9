"""A teacher's words as token rows: what is mixed, what is added, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lightning_modules.kinds.base import TOKENS
from lightning_modules.kinds.classify.soft_targets import LESSONS, write_soft_targets
from lightning_modules.training.data import TokenTable
from tests.lightning_modules.jobs import classification


def test_targets_mix_label_and_teacher_and_texts_of_the_teacher_alone_are_added(
    tmp_path: Path,
) -> None:
    rows = [
        {"id": str(n), "window": 0, "input_ids": ids, "length": len(ids), "label": n}
        for n, ids in enumerate([[5, 6], [7], [8, 9]])
    ]
    schema = pa.schema([*TOKENS, ("label", pa.int32())])
    train = tmp_path / "train.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), train)
    says = {
        ("0", 0): [0.5, 0.25, 0.25],
        ("1", 0): [0.1, 0.8, 0.1],
        ("1", 1): [0.7, 0.2, 0.1],
        ("2", 0): [0.2, 0.2, 0.6],
    }
    lessons = [
        {"id": name, "variant": variant, "text": "x" * variant, "log_proba": np.log(proba)}
        for (name, variant), proba in says.items()
    ]
    pq.write_table(pa.Table.from_pylist(lessons, schema=LESSONS), tmp_path / "lessons.parquet")

    def two_windows(texts: Sequence[str]) -> tuple[list[list[int]], np.ndarray]:
        return [[3, 4, 5], [5, 6]] * len(texts), np.repeat(np.arange(len(texts)), 2)

    def softened(weight: float) -> TokenTable:
        out = tmp_path / f"{weight}.parquet"
        write_soft_targets(train, tmp_path / "lessons.parquet", two_windows, 3, weight, out)
        return TokenTable(out, ["label"])

    table = softened(0.5)
    batch = classification().batch(table, np.arange(5))
    assert batch["input_ids"].tolist() == [[5, 6, 0], [7, 0, 0], [8, 9, 0], [3, 4, 5], [5, 6, 0]]
    assert batch["documents"].tolist() == [0, 1, 2, 3, 3]
    expected = [
        [0.75, 0.125, 0.125],
        [0.05, 0.9, 0.05],
        [0.1, 0.1, 0.8],
        [0.7, 0.2, 0.1],
        [0.7, 0.2, 0.1],
    ]
    np.testing.assert_allclose(batch["targets"], expected, atol=1e-6)
    assert batch["labels"].tolist() == [0, 1, 2, 0, 0], "its own, or what the teacher says"
    assert table.given.tolist() == [0, 1, 2]
    assert table.ids_of(table.given).tolist() == [5, 6, 7, 8, 9]
    assert softened(0.5).digest() == table.digest() != softened(0.6).digest(), (
        "another training, another checkpoint"
    )
