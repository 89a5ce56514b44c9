"""Batches are right, and their order is a function of (seed, epoch)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lightning_modules.training.data import (
    EpochOrder,
    TokenData,
    TokenLoader,
    TokenTable,
)
from tests.lightning_modules.jobs import classification


def write(path: Path, rows: list[list[int]], **options: int) -> Path:
    columns = {
        "id": pa.array([str(i) for i in range(len(rows))]),
        "window": pa.array([0] * len(rows), pa.int32()),
        "input_ids": pa.array(rows, pa.list_(pa.int32())),
        "length": pa.array([len(r) for r in rows], pa.int32()),
        "label": pa.array([i % 3 for i in range(len(rows))], pa.int32()),
    }
    pq.write_table(pa.table(columns), path, **options)
    return path


def test_batch_holds_the_rows_that_were_asked_for(tmp_path: Path) -> None:
    rows = [[5, 6, 7], [8], [9, 10], [11, 12, 13, 14]]
    table = TokenTable(write(tmp_path / "t.parquet", rows), ["label"])
    batch = table.batch(np.array([2, 0, 1]))
    assert batch["input_ids"].tolist() == [[9, 10, 0], [5, 6, 7], [8, 0, 0]]
    assert batch["lengths"].tolist() == [2, 3, 1]
    assert batch["label"].tolist() == [2, 0, 1]
    assert {str(t.dtype) for t in batch.values()} == {"torch.int64"}


def test_row_groups_do_not_matter(tmp_path: Path) -> None:
    rows = [list(range(2, 3 + i % 7)) for i in range(50)]
    one = TokenTable(write(tmp_path / "one.parquet", rows), ["label"])
    many = TokenTable(write(tmp_path / "many.parquet", rows, row_group_size=3), ["label"])
    assert one.digest() == many.digest()
    assert np.array_equal(one.starts, many.starts)
    assert (
        TokenTable(write(tmp_path / "other.parquet", rows[::-1]), ["label"]).digest()
        != one.digest()
    )
    assert len(TokenTable(write(tmp_path / "empty.parquet", []), ["label"])) == 0


def test_each_row_once_per_epoch_and_batches_of_like_length() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 1003)
    order = EpochOrder(lengths, batch_size=16, seed=1)
    batches = list(order)
    assert len(batches) == len(order) == 63
    assert sorted(np.concatenate(batches).tolist()) == list(range(1003))
    assert [len(b) for b in batches].count(16) == 62
    padded = sum(lengths[b].max() * len(b) for b in batches)
    assert lengths.sum() / padded > 0.9, "random batches would be about half padding"
    widths = [lengths[b].max() for b in batches]
    assert abs(np.corrcoef(widths, np.arange(63))[0, 1]) < 0.5, (
        "short and long batches come in random order"
    )


def test_order_is_a_function_of_seed_and_epoch() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 300)

    def rows(seed: int, epoch: int) -> list[int]:
        order = EpochOrder(lengths, 16, seed)
        order.set_epoch(epoch)
        np.random.rand(3)
        return np.concatenate(list(order)).tolist()

    assert rows(1, 2) == rows(1, 2)
    assert rows(1, 2) != rows(1, 3)
    assert rows(1, 2) != rows(2, 2)


def test_resume_skips_what_was_done_and_only_once(token_folder: Path) -> None:
    data = TokenData(token_folder, classification(), batch_size=16, seed=3)
    loader = data.train_dataloader()
    whole = [b["input_ids"].tolist() for b in loader]
    iterator = iter(loader)
    for _ in range(4):
        next(iterator)
    state = loader.state_dict()
    again = data.train_dataloader()
    again.load_state_dict(state)
    assert len(again) == len(whole)
    assert [b["input_ids"].tolist() for b in again] == whole[4:]
    assert [b["input_ids"].tolist() for b in again] == whole


def test_validation_reads_every_row_once(token_folder: Path) -> None:
    data = TokenData(token_folder, classification(), batch_size=8, seed=3)
    for loader, split in ((data.val_dataloader(), "valid"), (data.test_dataloader(), "test")):
        assert isinstance(loader, TokenLoader)
        batches = list(loader)
        assert len(batches) == len(loader)
        assert sum(len(b["labels"]) for b in batches) == len(
            pq.read_table(token_folder / f"{split}.parquet")
        )
